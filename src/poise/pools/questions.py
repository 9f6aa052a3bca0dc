"""Question files: one question a row, with or without its gold answer.

``{"id"?, "question" | "messages", "gold"?, "kind"?, "options"?, "segment"?}`` as JSON lines (plain
or gzipped), CSV or Parquet with the same columns (``options`` and ``messages`` as JSON text). It
does not know how a question is asked or its answer judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poise.errors import InputError
from poise.pools.fields import Fields
from poise.pools.rows import Row, SkipCount, read
from poise.types import Kind, Question

__all__ = ["QuestionLine", "gold_text", "read_questions"]

_NESTED = frozenset({"options", "messages"})


@dataclass(frozen=True, slots=True)
class QuestionLine:
    """One row of a question file.

    ``number``: its line (row, for Parquet) from 1. ``extra``: columns without a meaning here.
    """

    question: Question
    gold: str | None
    number: int
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_questions(
    path: str | Path, *, skip_bad: SkipCount | None = None
) -> Iterator[QuestionLine]:
    """The questions of a file, in its order, as they are read; ``-`` is stdin (JSON lines).

    The format follows the name (``.csv``, ``.parquet``, else JSON lines); gzip is recognised by
    its first bytes. Ids are unique in a file; one that is missing is the line number. Raises
    InputError with file, line and reason at the first bad line, or counts it in ``skip_bad``;
    InputError for a damaged file or one without questions; UsageError for Parquet without pyarrow.
    """
    return read(path, _question, noun="questions", nested=_NESTED, skip_bad=skip_bad)


def _question(row: Row, number: int) -> tuple[str, QuestionLine]:
    fields = Fields(row)
    question_id = fields.name("id") or str(number)
    messages = fields.messages()
    if messages is None:
        raise InputError("neither question nor messages is there")
    kind = fields.kind()
    question = Question(question_id, messages, kind, fields.options(), fields.name("segment"))
    line = QuestionLine(question, gold_text(fields, kind), number, fields.rest())
    return f"the id {question_id!r}", line


def gold_text(fields: Fields, kind: Kind | None) -> str | None:
    """``gold`` as text: a number becomes its digits, a JSON value of kind json its JSON."""
    value = fields.take("gold")
    if value is None or isinstance(value, str):
        return value
    if kind is Kind.JSON or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (ValueError, RecursionError):
            raise fields.wrong("gold", "a huge value", "shorter and flatter") from None
    raise fields.wrong("gold", value, "a string or a number")
