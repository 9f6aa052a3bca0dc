"""Multiple choice as ARC publishes it (Clark et al. 2018, https://arxiv.org/abs/1803.05457).

Also CommonsenseQA and OpenBookQA, which share its layout. Reads the published JSONL (a
``question`` object with ``stem`` and ``choices``), the flat layout with parallel lists in
``choices``, and lines with ``options`` and ``gold``. Does not read supporting facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from poise.tasks.labelled import Labelled
from poise.tasks.reading import choice, questions
from poise.tasks.records import Record

__all__ = ["Arc"]


@dataclass(frozen=True, slots=True)
class Arc:
    """ARC, CommonsenseQA or OpenBookQA, lettered from A whatever the labels in the file."""

    name: ClassVar[str] = "arc"
    path: str | Path

    def load(self) -> Iterator[Labelled]:
        """The questions in file order. Raises InputError."""
        return questions(self.path, _read)


def _read(record: Record) -> Labelled:
    known_as = record.id("id", "question_id")
    if "options" in record.fields:
        options, gold = record.texts("options"), record.value("gold")
        return choice(record, record.text("question"), options, gold, id=known_as)
    asked = record.fields.get("question")
    if isinstance(asked, dict):
        stem, choices = asked.get("stem"), asked.get("choices")
    else:
        stem, choices = record.fields.get("question_stem", asked), record.value("choices")
    labels, texts = _choices(record, choices)
    key = record.text("answerKey")
    if key not in labels:
        raise record.error(f"'answerKey' {key!r} is none of the labels {', '.join(labels)}")
    text, gold = record.clean(stem, "the question"), chr(ord("A") + labels.index(key))
    return choice(record, text, texts, gold, id=known_as)


def _choices(record: Record, choices: Any) -> tuple[list[str], list[str]]:
    """Labels and texts, from a list of objects or from an object of two lists."""
    if isinstance(choices, list):
        pairs = [
            (each.get("label"), each.get("text")) if isinstance(each, dict) else (None, None)
            for each in choices
        ]
    elif isinstance(choices, dict) and all(
        isinstance(choices.get(key), list) for key in ("label", "text")
    ):
        if len(choices["label"]) != len(choices["text"]):
            raise record.error("'choices' has not as many labels as texts")
        pairs = list(zip(choices["label"], choices["text"], strict=True))
    else:
        raise record.error("'choices' must hold labels and texts")
    labels = [record.clean(label, "a choice's label") for label, _ in pairs]
    return labels, [record.clean(text, "a choice's text") for _, text in pairs]
