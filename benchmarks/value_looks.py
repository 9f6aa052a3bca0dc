"""What the opponents of ``value.py`` look at: samples in many orders, and the states they pass.

A state is all that a rule sees which counts votes. There are few: 1,330 on all pools together, and
some 8,000 where it matters who was seen first. So a package that takes milliseconds to decide can
be asked about every one.

It does not know rules, questions or grades.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from poise.policies import IntArray

Answers = list[str | None]
WEIGHTS = np.random.default_rng(0).integers(2**63, size=(5, 1_001))
WEIGHTS[:, 0] = 0


def states(rows: IntArray, *, unread: bool) -> IntArray:
    """(m, N) names of the state after each sample of (m, N) codes: 64 random bits, added up.

    A state is the sorted vote counts; with ``unread``, also how many samples were unreadable.
    """
    size, columns = rows.shape
    slots = int(rows.max()) + 2
    counts, name = np.zeros((size, slots), np.int64), np.zeros(size, np.int64)
    names, line = np.empty((size, columns), np.int64), np.arange(size)
    for place, drawn in enumerate(rows.T):
        before = counts[line, drawn]
        read = drawn >= 0
        table = np.where(read, 0, 1)
        gained = WEIGHTS[table, before + 1] - WEIGHTS[table, before]
        name = name + np.where(read | unread, gained, 0)
        counts[line, drawn] = before + 1
        names[:, place] = name
    return names


def led_states(rows: IntArray) -> IntArray:
    """As ``states``, by the leader's votes, those of answers seen before it, and of those after."""
    size, columns = rows.shape
    slots, line = int(rows.max()) + 2, np.arange(size)
    counts, names = np.zeros((size, slots), np.int64), np.empty((size, columns), np.int64)
    for place, drawn in enumerate(rows.T):
        counts[line, drawn] += 1
        votes = counts[:, :-1]
        side = np.sign(np.arange(slots - 1) - votes.argmax(axis=1)[:, None])
        names[:, place] = WEIGHTS[side + 3, votes].sum(axis=1)
    return names


def texts(codes: IntArray) -> Answers:
    """Codes as the packages want them."""
    return [None if code < 0 else str(code) for code in codes.tolist()]


@dataclass(frozen=True)
class Seen:
    """The states that occur: which is where, their names, and a prefix for each."""

    where: IntArray
    names: list[int]
    prefixes: list[Answers]

    @classmethod
    def of(cls, rows: IntArray, names: IntArray) -> Seen:
        """``names`` (m, N) as ``states`` gives them for ``rows``."""
        known, first, where = np.unique(names, return_index=True, return_inverse=True)
        prefixes = [
            texts(rows[i, : n + 1]) for i, n in zip(*divmod(first, rows.shape[1]), strict=True)
        ]
        return cls(where.reshape(rows.shape), known.tolist(), prefixes)


@dataclass(frozen=True)
class Looks:
    """What the rules look at: (m, N) codes, log-probabilities or none, orders of each question."""

    rows: IntArray
    values: np.ndarray | None
    orders: int

    @cached_property
    def voted(self) -> Seen:
        """States without the unreadable samples."""
        return Seen.of(self.rows, states(self.rows, unread=False))

    @cached_property
    def all(self) -> Seen:
        """States with them."""
        return Seen.of(self.rows, states(self.rows, unread=True))

    @cached_property
    def led(self) -> Seen:
        """States with who was seen before the leader."""
        return Seen.of(self.rows, led_states(self.rows))

    @cached_property
    def leader(self) -> IntArray:
        """(m, N) who has most votes, the first of equals; -1 without votes."""
        votes = (self.rows[:, :, None] == np.arange(self.rows.max() + 1)).cumsum(axis=1)
        return np.where(votes.max(axis=2) > 0, votes.argmax(axis=2), -1)

    @cached_property
    def kept(self) -> dict[str, np.ndarray]:
        """By rule, (m, N) what it needs at every threshold."""
        return {}
