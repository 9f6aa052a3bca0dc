"""MAWPS: collected word problems (Koncel-Kedziorski et al. 2016, https://aclanthology.org/N16-1136).

Reads the published JSON array (``sQuestion``, ``lSolutions``) and JSONL with ``question`` and
``gold``. Does not read equations or alignments, and takes problems with one unknown only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from poise.tasks.labelled import Labelled
from poise.tasks.reading import numeric, questions
from poise.tasks.records import Record

__all__ = ["Mawps"]


@dataclass(frozen=True, slots=True)
class Mawps:
    """MAWPS word problems with numeric answers, in segments by collection where that is stated."""

    name: ClassVar[str] = "mawps"
    path: str | Path

    def load(self) -> Iterator[Labelled]:
        """The questions in file order. Raises InputError."""
        return questions(self.path, _read)


def _read(record: Record) -> Labelled:
    if "sQuestion" in record.fields:
        text, solutions = record.text("sQuestion"), record.value("lSolutions")
        if not isinstance(solutions, list) or len(solutions) != 1:
            raise record.error("'lSolutions' must be a list of one number; take this problem out")
        gold = solutions[0]
    else:
        text, gold = record.text("question"), record.value("gold")
    segment = record.text("dataset") if "dataset" in record.fields else None
    known_as = record.id("iIndex", "id", "question_id")
    return numeric(record, text, gold, id=known_as, segment=segment)
