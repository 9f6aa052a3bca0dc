"""Early stopping on response confidence: the first sample that is sure enough ends sampling.

Its answer is that sample's own, which the vote ``confident`` gives; where none is sure enough up to
the budget, that vote falls back to the sum of confidences.

It does not know whether a confidence is calibrated, or what other samples answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from poise.columns import FloatArray, column, confidences, named, needed
from poise.policies.bounds import count, level
from poise.policies.running import IntArray, blocks, columns_of
from poise.types import Draw, State, Stop, StopReason

__all__ = ["Confident"]


@dataclass(frozen=True, slots=True)
class Confident:
    """Stops as ``sure`` at the first readable sample with a confidence of ``threshold`` or more.

    ``threshold`` in [0, 1]. ``confidence``: a signal of single samples, read as
    ``poise.columns.confidences`` says. A sample without one, or without a readable answer, never
    stops the rule. ``budget`` at ``max_samples`` (1..100,000). Source: early stopping in
    Self-Calibration, Huang et al. 2025, arXiv 2503.00031. Raises UsageError for parameters out of
    range, and in ``decide`` and ``stops`` where a confidence is.
    """

    threshold: float = 0.9
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
        """Draws one: any next sample may be sure enough."""
        sure = confidences(self.confidence, column(state, self.confidence)) >= self.threshold
        if any(
            sure[place] and cluster is not None
            for place, cluster in enumerate(state.clusters[: self.max_samples])
        ):
            return Stop(StopReason.SURE)
        return Draw(1) if state.n < self.max_samples else Stop(StopReason.BUDGET)

    def stops(self, prefixes: IntArray, values: Mapping[str, FloatArray] | None = None) -> IntArray:
        """Where ``decide`` stops, (m,), for prefixes and values as in ``StopRule.stops``."""
        columns = columns_of(prefixes, self.max_samples)
        stops = np.full(len(prefixes), columns, np.int64)
        given = needed(self.confidence, values, prefixes.shape)
        for rows, block in blocks(prefixes, self.max_samples):
            level_of = confidences(self.confidence, given[rows, :columns])
            sure = (block >= 0) & (level_of >= self.threshold)
            stops[rows] = np.where(sure.any(axis=1), sure.argmax(axis=1) + 1, columns)
        return stops
