"""StrategyQA: yes or no by implicit steps (Geva et al. 2021, https://arxiv.org/abs/2101.02235).

Reads the published JSON array (``qid``, ``answer`` true or false) and JSONL with ``gold``. Does not
read decompositions or evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from poise.tasks.labelled import Labelled
from poise.tasks.reading import questions, yes_no
from poise.tasks.records import Record

__all__ = ["StrategyQa"]


@dataclass(frozen=True, slots=True)
class StrategyQa:
    """StrategyQA yes-or-no questions."""

    name: ClassVar[str] = "strategyqa"
    path: str | Path

    def load(self) -> Iterator[Labelled]:
        """The questions in file order. Raises InputError."""
        return questions(self.path, _read)


def _read(record: Record) -> Labelled:
    gold = record.value("answer" if "answer" in record.fields else "gold")
    known_as = record.id("qid", "id", "question_id")
    return yes_no(record, record.text("question"), gold, id=known_as)
