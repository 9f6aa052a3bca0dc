"""What the value rule sees where samples carry a signal: the weight behind the leader, in buckets.

A sample weighs exp(c / T), as in the vote ``softmax``, with c the signal read as a confidence. The
leader is the answer with most weight. Its weight says how likely it is to be right, that of the
runner-up whether another is near; votes are not counted beside them. A sample without a readable
answer or without a value weighs nothing.

It does not know how T or the edges were learnt, labels or prices.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from poise.columns import FloatArray, column, confidences, named
from poise.errors import UsageError
from poise.policies.running import IntArray
from poise.types import State

__all__ = ["COLDEST", "HOTTEST", "Evidence", "Weighed"]

COLDEST, HOTTEST = 0.005, 100.0
"""Temperatures beyond which one sample decides, or all weigh the same."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """(m, N) each: the leader after each sample, -1 for none, its weight and the runner-up's."""

    leader: IntArray
    weight: FloatArray
    rival: FloatArray


@dataclass(frozen=True, slots=True)
class Evidence:
    """``signal`` at ``temperature``; ``weights`` part the leader's, ``rivals`` the runner-up's.

    Raises UsageError for a signal that is no confidence, a temperature outside .005..100 or edges
    that are not finite and rising.
    """

    signal: str
    temperature: float
    weights: tuple[float, ...] = ()
    rivals: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        named(self.signal, bounded=True)
        if not COLDEST <= self.temperature <= HOTTEST:
            raise UsageError(
                f"temperature={self.temperature}: must be in {COLDEST}..{HOTTEST} with a signal"
            )
        for edges in (self.weights, self.rivals):
            if not all(map(math.isfinite, edges)) or list(edges) != sorted(set(edges)):
                raise UsageError(f"edges={edges}: must be finite and rising")

    @property
    def buckets(self) -> int:
        """One where nothing weighs, and one for each pair of weights."""
        return 1 + (len(self.weights) + 1) * (len(self.rivals) + 1)

    def bucket(self, state: State) -> int:
        """``bucketed`` for one state, its sums taken in the order in which ``weighed`` does."""
        given = self._weights(column(state, self.signal)).tolist()
        sums = [0.0] * (len(state.counts) + 2)
        for cluster, weight in zip(state.clusters, given, strict=True):
            if cluster is not None and not math.isnan(weight):
                sums[cluster] += weight
        *_, rival, most = sorted(sums)
        if not most:
            return 0
        placed = bisect_right(self.weights, most) * (len(self.rivals) + 1)
        return 1 + placed + bisect_right(self.rivals, rival)

    def weighed(self, prefixes: IntArray, values: FloatArray) -> Weighed:
        """Follow checked ``prefixes`` (m, N) with ``values`` (m, N) of the signal, nan: missing."""
        m, columns = prefixes.shape
        weights = self._weights(values)
        rows = np.arange(m)
        sums = np.zeros((m, int(prefixes.max(initial=-1)) + 2))
        found = Weighed(
            np.empty((m, columns), np.int32), np.empty((m, columns)), np.empty((m, columns))
        )
        for place in range(columns):
            drawn, weight = prefixes[:, place], weights[:, place]
            sums[rows, drawn] += np.where((drawn >= 0) & ~np.isnan(weight), weight, 0.0)
            leader = sums.argmax(axis=1)
            most = sums[rows, leader]
            found.leader[:, place] = np.where(most > 0, leader, -1)
            found.weight[:, place] = most
            sums[rows, leader] = 0.0
            found.rival[:, place] = sums.max(axis=1)
            sums[rows, leader] = most
        return found

    def bucketed(self, weighed: Weighed) -> IntArray:
        """(m, N) the bucket of each: 0 where nothing weighs, then by rival within each weight."""
        by_weight = np.searchsorted(self.weights, weighed.weight, side="right")
        by_rival = np.searchsorted(self.rivals, weighed.rival, side="right")
        placed = 1 + by_weight * (len(self.rivals) + 1) + by_rival
        found: IntArray = np.where(weighed.leader < 0, 0, placed)
        return found

    def _weights(self, values: FloatArray) -> FloatArray:
        """exp((c - 1) / T), nan where there is no value: no weight is above 1, and none is 0."""
        weights: FloatArray = np.exp((confidences(self.signal, values) - 1) / self.temperature)
        return weights
