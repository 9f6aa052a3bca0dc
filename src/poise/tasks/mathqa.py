"""MathQA: worded maths with options (Amini et al. 2019, https://arxiv.org/abs/1905.13319).

Reads the published JSON array (``Problem``, ``options`` in one string, ``correct``). Does not read
the rationales or the formulas.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from poise.tasks.labelled import Labelled
from poise.tasks.reading import choice, questions
from poise.tasks.records import Record

__all__ = ["MathQa"]


@dataclass(frozen=True, slots=True)
class MathQa:
    """MathQA problems with five options; the place in the file is the id."""

    name: ClassVar[str] = "mathqa"
    path: str | Path

    def load(self) -> Iterator[Labelled]:
        """The questions in file order. Raises InputError."""
        return questions(self.path, _read)


def _read(record: Record) -> Labelled:
    options = _options(record.text("options"))
    if options is None:
        raise record.error("'options' is not of the form 'a ) 38 , b ) 27.675 , …'")
    gold = record.value("correct")
    return choice(record, record.text("Problem"), options, gold, id=record.id("id"))


def _options(text: str) -> list[str] | None:
    """Lettered options out of one string, or None where it is none.

    Options hold commas themselves ("a ) 1 , 200"), so that a new one starts only where the next
    letter of the alphabet stands. Some published rows hold a printed list of strings instead.
    """
    if text.startswith("["):
        try:
            listed = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        texts = isinstance(listed, list) and all(isinstance(item, str) for item in listed)
        return listed if texts else None
    starts: list[int] = []
    for found in re.finditer(r"(?:^|,)\s*(?P<letter>[a-z])\s*\)", text):
        if found["letter"] == chr(ord("a") + len(starts)):
            starts.append(found.start("letter"))
    if not starts or starts[0] != 0:
        return None
    ends = [*starts, len(text) + 1]
    return [text[start:end].rstrip().removesuffix(",").rstrip() for start, end in pairwise(ends)]
