"""GSM8K: grade-school word problems (Cobbe et al. 2021, https://arxiv.org/abs/2110.14168).

Reads the published JSONL, whose worked ``answer`` ends in "#### 18", and lines with a bare
``gold``. Knows nothing of the steps in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from poise.tasks.labelled import Labelled
from poise.tasks.reading import numeric, questions
from poise.tasks.records import Record

__all__ = ["Gsm8k"]


@dataclass(frozen=True, slots=True)
class Gsm8k:
    """GSM8K word problems with numeric answers; the line is the id where none is given."""

    name: ClassVar[str] = "gsm8k"
    path: str | Path

    def load(self) -> Iterator[Labelled]:
        """The questions in file order. Raises InputError."""
        return questions(self.path, _read)


def _read(record: Record) -> Labelled:
    gold = record.fields.get("gold")
    if gold is None:
        _, mark, gold = record.text("answer").rpartition("####")
        if not mark:
            raise record.error("'answer' has no '####' before the final number")
    return numeric(record, record.text("question"), gold, id=record.id("id", "question_id"))
