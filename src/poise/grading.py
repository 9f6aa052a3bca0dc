"""An answer against its gold answer. Nothing on the serving path may import this.

A gold answer is read by the same kind as the model's, so "#### 18", "(B)" and "True" all work.
An unreadable answer has no grade: whether it counts as wrong or is left out is for the report
that counts it.

It does not know: questions, samples, or where gold answers come from.
"""

from __future__ import annotations

from dataclasses import dataclass

from poise.answers import KINDS
from poise.errors import InputError
from poise.types import Kind, Reply

__all__ = ["Outcome", "canonical_gold", "grade"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One grade: ``correct`` is 1 or 0, or None with the ``reason`` why there is none."""

    correct: int | None
    reason: str | None

    def __post_init__(self) -> None:
        if (self.correct is None) == (self.reason is None):
            raise ValueError(f"{self}: an outcome is a grade or a reason, never both or neither")


def grade(
    answer: str | None, gold: str, kind: Kind | None, options: tuple[str, ...] | None = None
) -> Outcome:
    """Whether a canonical ``answer`` is the same as ``gold`` (canonical or as its data set has it).

    ``kind`` None: the two strings must be identical. An unreadable answer (None) gets no grade.
    May take seconds where ``KINDS[kind].slow``. Raises InputError when gold cannot be read, also
    for an unreadable answer; UsageError when the comparison needs a package that is missing.
    """
    expected = canonical_gold(gold, kind, options)
    if answer is None:
        return Outcome(None, "the answer is unreadable")
    same = answer == expected if kind is None else KINDS[kind].same(expected, answer)
    return Outcome(int(same), None)


def canonical_gold(gold: str, kind: Kind | None, options: tuple[str, ...] | None = None) -> str:
    """``gold`` as the canonical answer of ``kind``; as it is where ``kind`` is None.

    Raises InputError, naming gold and kind, when it holds no such answer.
    """
    if kind is None:
        return gold
    reading = KINDS[kind].read(Reply(gold), options)
    if reading.answer is None:
        raise InputError(
            f"gold answer {gold[:80]!r} is no {kind.value} answer ({reading.reason}): "
            "correct it, or state another kind"
        )
    return reading.answer
