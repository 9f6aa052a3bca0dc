"""The states of the value rule, how they follow each other, and where stored samples pass through.

A state is (n, a, b, d, late): samples drawn, votes of the leader and of the runner-up, distinct
answers, where ``MOST_DISTINCT`` stands for itself and more, and whether the leader came later than
some other answer, which is who leads where they draw level. One more sample does one of seven
things to it (``KINDS``). It does not know how probable each is, prices or labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from poise.columns import FloatArray
from poise.policies.running import IntArray

__all__ = ["KINDS", "MOST_DISTINCT", "Layer", "Space", "Walk", "space", "walk"]

MOST_DISTINCT = 3
"""Distinct answers are counted up to here; beyond, they say little that the top two do not."""

KINDS = ("leader", "runner_up", "other", "other_up", "new", "first", "unread")
"""What one more sample can be: a vote for the leader, the runner-up, another seen answer that stays
third or becomes runner-up by it, an answer not seen before, the very first answer, which leads by
drawing level, or unreadable."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The states after ``n`` samples, and what they become.

    ``leader``, ``runner_up``, ``distinct``, ``late`` (s,). ``next`` (s, 7) places in the next layer
    by ``KINDS``, -1 where that cannot happen; ``change`` (s, 7) the probability that the leader is
    another answer afterwards. Level answers: the one seen first leads. Of two, ``late`` tells which
    that is; of more, one with b votes came before a late leader with probability b / (a + b), as in
    all exchangeable draws.
    """

    n: int
    leader: IntArray
    runner_up: IntArray
    distinct: IntArray
    late: IntArray
    next: IntArray
    change: FloatArray

    def __len__(self) -> int:
        return len(self.leader)


@dataclass(frozen=True, slots=True)
class Space:
    """All states up to ``max_samples``: ``layers[n]``, and ``place`` to find one.

    ``place[n, a, b, min(d, MOST_DISTINCT), late]`` is its place in its layer; ``start[n]`` the
    states in the layers before.
    """

    max_samples: int
    layers: tuple[Layer, ...]
    place: IntArray
    start: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of states."""
        return self.start[-1]


@lru_cache(maxsize=8)
def space(max_samples: int) -> Space:
    """The states of a rule that draws at most ``max_samples``; shared, read-only."""
    half = max_samples // 2
    shape = (max_samples + 2, max_samples + 2, half + 2, MOST_DISTINCT + 1, 2)
    place = np.full(shape, -1, np.int32)
    states = []
    for n in range(max_samples + 1):
        listed = [
            (a, b, d, late)
            for a in range(n + 1)
            for b in range(min(a, n - a) + 1)
            for d in _distinct(a, b, n - a - b)
            for late in range(1 + (b > 0 and (a > b or d > 2)))
        ]
        for number, state in enumerate(listed):
            place[n, *state] = number
        states.append(np.array(listed))
    place.flags.writeable = False
    layers = tuple(
        _layer(n, listed, place, last=n == max_samples) for n, listed in enumerate(states)
    )
    start = np.concatenate([[0], np.cumsum([len(layer) for layer in layers])])
    return Space(max_samples, layers, place, tuple(int(one) for one in start))


def _distinct(a: int, b: int, rest: int) -> range:
    fewest = (a > 0) + (b > 0)
    return range(fewest, min(fewest + (rest if b else 0), MOST_DISTINCT) + 1)


def _layer(n: int, states: IntArray, place: IntArray, *, last: bool) -> Layer:
    a, b, d, late = states.T
    third = d > 2
    # One more vote for an answer with b votes: it passes the leader, draws level, or stays second.
    passed = place[n + 1, np.maximum(a, b + 1), np.minimum(a, b + 1), d, np.where(b == a, 1, late)]
    level = (late == 1) & (b + 1 == a)
    change = np.where(b == a, 1.0, np.where(level, b / np.maximum(a + b, 1), 0.0))
    first, second = a == 0, (a > 0) & (b == 0)
    none = np.full(len(a), -1)
    if last:
        following = [none] * len(KINDS)
    else:
        following = [
            np.where(first, -1, place[n + 1, a + 1, b, d, late]),
            np.where((b > 0) & (third | ~level), passed, -1),
            np.where(third, place[n + 1, a, b, d, late], -1),
            np.where(third, passed, -1),
            place[n + 1, a + first, b + second, np.minimum(d + 1, MOST_DISTINCT), late],
            np.where(level, place[n + 1, a, b + level, d, 0], -1),
            place[n + 1, a, b, d, late],
        ]
    changes = np.zeros((len(a), len(KINDS)))
    changes[:, 1] = changes[:, 3] = change
    changes[:, 4] = first
    changes[:, 5] = 1.0
    return Layer(n, a, b, d, late, np.stack(following, axis=1), changes)


@dataclass(frozen=True, slots=True)
class Walk:
    """Where (m, N) samples pass: ``place`` in its layer and ``leader`` after each, (m, N).

    ``leader`` is the cluster, -1 for none.
    """

    place: IntArray
    leader: IntArray


def walk(prefixes: IntArray, states: Space) -> Walk:
    """Follow checked ``prefixes`` (m, N), N <= ``max_samples``."""
    m, columns = prefixes.shape
    rows = np.arange(m)
    counts = np.zeros((m, int(prefixes.max(initial=-1)) + 2), np.int64)
    top, second, distinct = (np.zeros(m, np.int64) for _ in range(3))
    leader = np.full(m, -1)
    found = Walk(np.empty((m, columns), np.int32), np.empty((m, columns), np.int32))
    for column in range(columns):
        drawn = prefixes[:, column].astype(np.int64)
        read = drawn >= 0
        votes = counts[rows, drawn] + read
        counts[rows, drawn] = votes
        distinct += read & (votes == 1)
        # Only an answer level with the leader can pass it, and then the runner-up keeps its count.
        second = np.maximum(second, np.where(read & (drawn != leader), np.minimum(votes, top), 0))
        # Clusters are numbered by first appearance: of level ones the lower number leads.
        ahead = read & ((votes > top) | ((votes == top) & (drawn < leader)))
        leader = np.where(ahead, drawn, leader)
        top = np.maximum(top, np.where(read, votes, 0))
        found.leader[:, column] = leader
        found.place[:, column] = states.place[
            column + 1, top, second, np.minimum(distinct, MOST_DISTINCT), (leader > 0).astype(int)
        ]
    return found
