"""The ratio rule with confidences for votes: stop when the leader has most of the confidence.

It has the flaw of ``ratio``: two first samples that agree stop it whatever the threshold is and
however little confidence they have. It does not know whether a confidence is calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from poise.columns import FloatArray, column, confidences, named, needed
from poise.policies.bounds import count, level
from poise.policies.running import BoolArray, IntArray, blocks, columns_of, mark
from poise.types import Draw, State, Stop, StopReason

__all__ = ["WeightedRatio"]

FEWEST = 2
"""Weighed samples below which no ratio is taken."""


@dataclass(frozen=True, slots=True)
class WeightedRatio:
    """Stops as ``consensus`` when one answer has ``threshold`` of the summed confidence, from two.

    ``threshold`` in [0, 1]. ``confidence``: a signal of single samples, read as
    ``poise.columns.confidences`` says. A sample without one, or without a readable answer, weighs
    nothing and is not one of the two; where all confidences are 0 there is no ratio. Sums run in
    dispatch order. ``budget`` at ``max_samples`` (1..100,000). Source: adaptive self-consistency
    with confidence in Self-Calibration, Huang et al. 2025, arXiv 2503.00031; its answer is the vote
    ``weighted``. Raises UsageError for parameters out of range, and in ``decide`` and ``stops``
    where a confidence is.
    """

    threshold: float = 0.8
    confidence: str = "p_true"
    max_samples: int = 40

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", level(self.threshold))
        named(self.confidence, bounded=True)
        object.__setattr__(self, "max_samples", count("max_samples", self.max_samples))

    @property
    def needs(self) -> tuple[str, ...]:
        """The confidence."""
        return (self.confidence,)

    def decide(self, state: State) -> Draw | Stop:
        """Draws what the leader lacks if every further sample votes for it with confidence 1."""
        left = self.max_samples - state.n
        mass, total, weighed = [0.0] * len(state.counts), 0.0, 0
        found = confidences(self.confidence, column(state, self.confidence)).tolist()
        for cluster, weight in zip(state.clusters, found, strict=True):
            if cluster is not None and not math.isnan(weight):
                mass[cluster] += weight
                total += weight
                weighed += 1
        top = max(mass, default=0.0)
        if left >= 0 and self._reached(top, total, weighed):
            return Stop(StopReason.CONSENSUS)
        if left <= 0:
            return Stop(StopReason.BUDGET)
        more = 1
        while more < left and not self._reached(top + more, total + more, weighed + more):
            more += 1
        return Draw(more)

    def stops(self, prefixes: IntArray, values: Mapping[str, FloatArray] | None = None) -> IntArray:
        """Where ``decide`` stops, (m,), for prefixes and values as in ``StopRule.stops``."""
        columns = columns_of(prefixes, self.max_samples)
        stops = np.full(len(prefixes), columns, np.int64)
        given = needed(self.confidence, values, prefixes.shape)
        for rows, block in blocks(prefixes, self.max_samples):
            weights = confidences(self.confidence, given[rows, :columns])
            mark(stops[rows], self._verdicts(block, weights))
        return stops

    def _reached(self, top: float, total: float, weighed: int) -> bool:
        return weighed >= FEWEST and total > 0 and top / total >= self.threshold

    def _verdicts(self, block: IntArray, weights: FloatArray) -> Iterator[BoolArray]:
        size, columns = block.shape
        mass = np.zeros((size, max(1, int(block.max()) + 1)))
        top, total = np.zeros(size), np.zeros(size)
        weighed = np.zeros(size, np.int64)
        for place in range(columns):
            rows = np.flatnonzero((block[:, place] >= 0) & ~np.isnan(weights[:, place]))
            cells, added = (rows, block[rows, place]), weights[rows, place]
            mass[cells] += added
            top[rows] = np.maximum(top[rows], mass[cells])
            total[rows] += added
            weighed[rows] += 1
            share = np.divide(top, total, out=np.zeros(size), where=total > 0)
            yield (weighed >= FEWEST) & (total > 0) & (share >= self.threshold)
