"""SVAMP: word problems varied to test reading (Patel et al. 2021, https://arxiv.org/abs/2103.07191).

Reads the published JSON array (``Body``, ``Question``, ``Answer``) and JSONL with ``question`` and
``gold``. Does not read the equations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from poise.tasks.labelled import Labelled
from poise.tasks.reading import numeric, questions
from poise.tasks.records import Record

__all__ = ["Svamp"]


@dataclass(frozen=True, slots=True)
class Svamp:
    """SVAMP word problems with numeric answers, in segments by operation."""

    name: ClassVar[str] = "svamp"
    path: str | Path

    def load(self) -> Iterator[Labelled]:
        """The questions in file order. Raises InputError."""
        return questions(self.path, _read)


def _read(record: Record) -> Labelled:
    published = "Question" in record.fields
    kind_of_sum = "Type" if published else "type"
    segment = record.text(kind_of_sum) if kind_of_sum in record.fields else None
    if published:
        text = f"{record.text('Body')} {record.text('Question')}"
        gold = record.value("Answer")
    else:
        text, gold = record.text("question"), record.value("gold")
    known_as = record.id("ID", "id", "question_id")
    return numeric(record, text, gold, id=known_as, segment=segment)
