"""Object counting of BIG-Bench Hard (Suzgun et al. 2022, https://arxiv.org/abs/2210.09261).

Reads the published object (``examples`` of ``input`` and ``target``) and JSONL with ``question``
and ``gold``, out of which lines of another ``dataset`` are left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from poise.tasks.labelled import Labelled
from poise.tasks.reading import numeric, questions
from poise.tasks.records import Record

__all__ = ["ObjectCount"]


@dataclass(frozen=True, slots=True)
class ObjectCount:
    """Counting listed things ("I have a flute and two lamps. How many objects do I have?")."""

    name: ClassVar[str] = "objectcount"
    path: str | Path

    def load(self) -> Iterator[Labelled]:
        """The questions in file order. Raises InputError."""
        return questions(self.path, _read, under="examples")


def _read(record: Record) -> Labelled | None:
    if "dataset" in record.fields and not record.text("dataset").endswith("object_counting"):
        return None
    asked, answered = ("input", "target") if "input" in record.fields else ("question", "gold")
    text, gold = record.text(asked), record.value(answered)
    return numeric(record, text, gold, id=record.id("id", "question_id"))
