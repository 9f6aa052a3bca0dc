"""What it means to read an answer: the contract of every answer kind, and how a kind gives up.

A kind turns a reply into one *canonical* string, or says why it cannot. A reply that cannot be
read is still a drawn sample; it is never a vote.

It does not know: any one kind, questions, gold answers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from poise.types import Reply

__all__ = ["AnswerKind", "Reading", "Unreadable", "readable"]

Self = TypeVar("Self")


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read from one reply: a canonical ``answer``, or None and the ``reason`` why not.

    Exactly one of the two is None; ``reason`` is a short clause for a report.
    """

    answer: str | None
    reason: str | None

    def __post_init__(self) -> None:
        if (self.answer is None) == (self.reason is None):
            raise ValueError(f"{self}: a reading is an answer or a reason, never both or neither")


class AnswerKind(Protocol):
    """How answers of one kind are read and compared.

    ``read`` is a pure function of its arguments and idempotent: reading a canonical answer gives
    it back. ``same`` is reflexive and symmetric on canonical answers; it need not be transitive.
    """

    @property
    def slow(self) -> bool:
        """Whether ``same`` may take seconds, so that an event loop must call it elsewhere."""

    def read(self, reply: Reply, options: tuple[str, ...] | None) -> Reading:
        """The canonical answer in ``reply``; never raises for anything a model may write."""

    def same(self, a: str, b: str) -> bool:
        """Whether two canonical answers mean the same."""


class Unreadable(Exception):
    """A kind finds no answer in a reply; ``str`` is the reason. Never leaves this package."""


def readable(
    extract: Callable[[Self, Reply, tuple[str, ...] | None], str],
) -> Callable[[Self, Reply, tuple[str, ...] | None], Reading]:
    """Make a kind's ``read`` from a method that returns the answer or raises Unreadable."""

    @functools.wraps(extract)
    def read(self: Self, reply: Reply, options: tuple[str, ...] | None) -> Reading:
        try:
            return Reading(extract(self, reply, options), None)
        except Unreadable as unreadable:
            return Reading(None, str(unreadable))

    return read
