"""AQuA-RAT: algebra questions with options (Ling et al. 2017, https://arxiv.org/abs/1705.04146).

Reads the published JSONL (``correct``) and lines with ``gold``. Does not read the rationales.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from poise.tasks.labelled import Labelled
from poise.tasks.reading import choice, questions
from poise.tasks.records import Record

__all__ = ["Aqua"]


@dataclass(frozen=True, slots=True)
class Aqua:
    """AQuA-RAT algebra questions with five options; the line is the id where none is given."""

    name: ClassVar[str] = "aqua"
    path: str | Path

    def load(self) -> Iterator[Labelled]:
        """The questions in file order. Raises InputError."""
        return questions(self.path, _read)


def _read(record: Record) -> Labelled:
    gold = record.value("correct" if "correct" in record.fields else "gold")
    text, options = record.text("question"), record.texts("options")
    return choice(record, text, options, gold, id=record.id("id", "question_id"))
