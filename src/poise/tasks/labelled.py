"""A question with its gold answer, and how it is written in a question file.

Knows the question file's columns; does not know where questions come from, and reads nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from gzip import GzipFile
from io import TextIOWrapper
from pathlib import Path
from typing import Any, ClassVar, Protocol, TextIO

from poise.errors import InputError, UsageError
from poise.types import Question

__all__ = ["Labelled", "Task", "write"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A question and its gold answer, in the canonical form of the question's kind."""

    question: Question
    gold: str

    def to_dict(self) -> dict[str, Any]:
        """The question file's columns: id, question or messages, gold, and what else is known."""
        asked = self.question
        row: dict[str, Any] = {"id": asked.id}
        plain = [{"role": "user", "content": asked.text}]
        if list(asked.messages) == plain:
            row["question"] = asked.text
        else:
            row["messages"] = [dict(message) for message in asked.messages]
        row["gold"] = self.gold
        if asked.kind is not None:
            row["kind"] = asked.kind.value
        if asked.options is not None:
            row["options"] = list(asked.options)
        if asked.segment is not None:
            row["segment"] = asked.segment
        return row

    def to_line(self) -> str:
        """One line of a question file, with its newline."""
        return json.dumps(self.to_dict(), ensure_ascii=False) + "\n"


class Task(Protocol):
    """A question set: made from a seed or read from a local file."""

    name: ClassVar[str]

    def load(self) -> Iterator[Labelled]:
        """The questions, one at a time; ids are unique. Raises InputError or RefusedError."""


def write(rows: Iterable[Labelled], path: str | Path, *, overwrite: bool = False) -> int:
    """Write a question file (gzipped when ``path`` ends in ``.gz``) and return its lines.

    The file appears whole or not at all. Raises UsageError where ``path`` exists and ``overwrite``
    is False, InputError where it cannot be written, and whatever ``rows`` raises.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; name another output or pass --overwrite")
    count = 0
    try:
        with _replacing(path) as out:
            for row in rows:
                out.write(row.to_line())
                count += 1
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", path) from error
    return count


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A text file beside ``path`` that takes its name when the block ends well."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as raw, ExitStack() as stack:
            # No name and no time in the gzip header: the same questions give the same bytes.
            packed = path.suffix == ".gz"
            out = stack.enter_context(GzipFile("", "wb", fileobj=raw, mtime=0)) if packed else raw
            yield stack.enter_context(TextIOWrapper(out, encoding="utf-8", newline="\n"))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
