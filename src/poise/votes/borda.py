"""Borda vote: a sample counts by its place when all are put in order of confidence.

It does not know how far apart confidences are, only which is higher.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poise.columns import FloatArray, named
from poise.votes.bounds import within
from poise.votes.casting import BoolArray, IntArray, WeighingVote

__all__ = ["Borda"]

STEEPEST = 50
"""The power at which nothing but the surest sample counts, and sums are far from overflow."""


@dataclass(frozen=True, slots=True)
class Borda(WeighingVote):
    """The cluster with the greatest sum of (N - r + 1)^power; ties to the first seen.

    r is a sample's rank among the N readable ones that have a confidence, 1 for the surest, the
    first drawn of equals before the others. ``power`` from 0 (the majority) to 50 (the surest
    sample decides). ``confidence``: a signal of single samples on any scale. A sample without one
    does not vote; where no readable sample has one, the majority wins. Source: Kang et al. 2025,
    arXiv 2502.18581, whose power is tuned for each N; 0.5 is its code's default. Raises UsageError
    for parameters out of range.
    """

    power: float = 0.5
    confidence: str = "p_true"

    def __post_init__(self) -> None:
        object.__setattr__(self, "power", within("power", self.power, 0, STEEPEST))
        named(self.confidence, bounded=False)

    def _weights(self, values: FloatArray, voting: BoolArray, codes: IntArray) -> FloatArray:  # noqa: ARG002
        # Those without a vote come last, so that the places of the others are their ranks.
        order = np.argsort(np.where(voting, -values, np.inf), axis=1, kind="stable")
        behind = voting.sum(axis=1)[:, None] - np.arange(values.shape[1])
        weights = np.zeros(values.shape)
        cast = np.maximum(behind, 0).astype(np.float64) ** self.power
        np.put_along_axis(weights, order, cast, axis=1)
        return weights
