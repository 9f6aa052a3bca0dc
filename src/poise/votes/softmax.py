"""Confidence-informed self-consistency (CISC): votes weigh by a softmax within the question.

It does not know which temperature fits a signal: that is tuned on questions with gold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poise.columns import FloatArray, named, reading
from poise.votes.bounds import within
from poise.votes.casting import BoolArray, IntArray, WeighingVote

__all__ = ["Softmax"]

COLDEST, HOTTEST = 1e-6, 1e6
"""Temperatures beyond which nothing changes any more."""


@dataclass(frozen=True, slots=True)
class Softmax(WeighingVote):
    """The cluster with the greatest sum of exp(c / T); ties to the first seen.

    ``temperature`` T, above 0: small means the surest sample decides, large means the majority.
    ``confidence``: a signal of single samples, c; log-probabilities through exp, all others as they
    are, on any scale. A sample without one does not vote; where no readable sample has one, the
    majority wins. Source: Taubenfeld et al. 2025, arXiv 2502.06233, where T is tuned for each model
    and signal; the default 1 is not. Raises UsageError for parameters out of range.
    """

    temperature: float = 1.0
    confidence: str = "p_true"

    def __post_init__(self) -> None:
        told = within("temperature", self.temperature, COLDEST, HOTTEST)
        object.__setattr__(self, "temperature", told)
        named(self.confidence, bounded=False)

    def _read(self, values: FloatArray) -> FloatArray:
        return reading(self.confidence, values)

    def _weights(self, values: FloatArray, voting: BoolArray, codes: IntArray) -> FloatArray:  # noqa: ARG002
        greatest = np.where(voting, values, -np.inf).max(axis=1)
        below = np.where(voting, values - greatest[:, None], 0.0)
        with np.errstate(over="ignore"):  # so far below the greatest is no weight at all
            weights: FloatArray = np.exp(below / self.temperature)
        return weights
