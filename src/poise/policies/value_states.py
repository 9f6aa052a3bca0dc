"""The states of the value rule, how they follow each other, and where stored samples pass through.

A state is (n, a, b, d): samples drawn, votes of the leader and of the runner-up, distinct answers,
where ``MOST_DISTINCT`` stands for itself and more; one more sample does one of six things to it
(``KINDS``). It does not know how probable each is, prices or labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from poise.columns import FloatArray
from poise.policies.running import IntArray

__all__ = ["KINDS", "MOST_DISTINCT", "Layer", "Space", "Walk", "bucketed", "space", "walk"]

MOST_DISTINCT = 3
"""Distinct answers are counted up to here; beyond, they say little that the top two do not."""

KINDS = ("leader", "runner_up", "other", "other_up", "new", "unread")
"""What one more sample can be: a vote for the leader, the runner-up, another seen answer that stays
third or becomes runner-up by it, an answer not seen before, or unreadable."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The states after ``n`` samples, and what they become.

    ``leader``, ``runner_up``, ``distinct`` (s,). ``next`` (s, 6) places in the next layer by
    ``KINDS``, -1 where that cannot happen; ``change`` (s, 6) the probability that the leader is
    another answer afterwards. Level answers: the one seen first leads, which (n, a, b, d) does not
    tell; in exchangeable draws the runner-up was it with probability b / (a + b).
    """

    n: int
    leader: IntArray
    runner_up: IntArray
    distinct: IntArray
    next: IntArray
    change: FloatArray

    def __len__(self) -> int:
        return len(self.leader)


@dataclass(frozen=True, slots=True)
class Space:
    """All states up to ``max_samples``: ``layers[n]``, and ``place`` to find one.

    ``place[n, a, b, min(d, MOST_DISTINCT)]`` is its place in its layer; ``start[n]`` the states in
    the layers before.
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
    place = np.full((max_samples + 2, max_samples + 2, half + 2, MOST_DISTINCT + 1), -1, np.int32)
    states = []
    for n in range(max_samples + 1):
        listed = [
            (a, b, d)
            for a in range(n + 1)
            for b in range(min(a, n - a) + 1)
            for d in _distinct(a, b, n - a - b)
        ]
        for number, (a, b, d) in enumerate(listed):
            place[n, a, b, d] = number
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
    a, b, d = states.T
    third = d > 2
    # One more vote for an answer with b votes: it passes the leader, draws level, or stays second.
    passed = place[n + 1, np.maximum(a, b + 1), np.minimum(a, b + 1), d]
    change = np.where(b == a, 1.0, np.where(b + 1 == a, b / np.maximum(a + b, 1), 0.0))
    first, second = a == 0, (a > 0) & (b == 0)
    none = np.full(len(a), -1)
    if last:
        following = [none] * len(KINDS)
    else:
        following = [
            np.where(first, -1, place[n + 1, a + 1, b, d]),
            np.where(b > 0, passed, -1),
            np.where(third, place[n + 1, a, b, d], -1),
            np.where(third, passed, -1),
            place[n + 1, a + first, b + second, np.minimum(d + 1, MOST_DISTINCT)],
            place[n + 1, a, b, d],
        ]
    changes = np.zeros((len(a), len(KINDS)))
    changes[:, 1] = changes[:, 3] = change
    changes[:, 4] = first
    return Layer(n, a, b, d, np.stack(following, axis=1), changes)


@dataclass(frozen=True, slots=True)
class Walk:
    """Where (m, N) samples pass: ``place`` in its layer and ``leader`` after each, (m, N).

    ``leader`` is the cluster, -1 for none; ``mean`` the mean value of its samples, nan where none
    has one (or none were given).
    """

    place: IntArray
    leader: IntArray
    mean: FloatArray


def walk(prefixes: IntArray, states: Space, values: FloatArray | None = None) -> Walk:
    """Follow checked ``prefixes`` (m, N), N <= ``max_samples``; ``values`` (m, N), nan: missing."""
    m, columns = prefixes.shape
    slots = int(prefixes.max(initial=-1)) + 2
    rows = np.arange(m)
    counts = np.zeros((m, slots), np.int64)
    sums, known = np.zeros((m, slots)), np.zeros((m, slots), np.int64)
    top, second, distinct = (np.zeros(m, np.int64) for _ in range(3))
    leader = np.full(m, -1)
    found = Walk(
        np.empty((m, columns), np.int32),
        np.empty((m, columns), np.int32),
        np.full((m, columns), np.nan),
    )
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
            column + 1, top, second, np.minimum(distinct, MOST_DISTINCT)
        ]
        if values is not None:
            value = values[:, column]
            there = read & np.isfinite(value)
            sums[rows, drawn] += np.where(there, value, 0.0)
            known[rows, drawn] += there
            held = known[rows, leader]
            np.divide(
                sums[rows, leader],
                held,
                out=found.mean[:, column],
                where=(held > 0) & (leader >= 0),
            )
    return found


def bucketed(mean: FloatArray, edges: tuple[float, ...]) -> IntArray:
    """The bucket of each mean value: 0 where there is none, then 1 … from low to high."""
    placed: IntArray = np.searchsorted(edges, mean, side="right") + 1
    return np.where(np.isnan(mean), 0, placed)
