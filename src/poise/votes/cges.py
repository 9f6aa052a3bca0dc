"""The answer of confidence-guided early stopping (CGES): the one with the greatest posterior.

It does not know the answers that nobody gave, to which the stop rule gives a posterior too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poise.columns import FloatArray, log_odds, named
from poise.votes.casting import BoolArray, IntArray, WeighingVote

__all__ = ["CgesAnswer"]


@dataclass(frozen=True, slots=True)
class CgesAnswer(WeighingVote):
    """The cluster with the greatest sum of log(c / (1 - c)) + log K, K the answers seen.

    Ties go to the first seen. ``confidence``: a signal of single samples, c, read as
    ``poise.columns.log_odds`` says. A sample without one is left out as if it had not been drawn;
    where no readable sample has one, the majority wins. Goes with the stop rule ``cges``. Source:
    Aghazadeh et al. 2025, arXiv 2511.02603. Raises UsageError for a signal that is no confidence,
    by its name or by its values.
    """

    confidence: str = "p_true"

    def __post_init__(self) -> None:
        named(self.confidence, bounded=True)

    def _read(self, values: FloatArray) -> FloatArray:
        return log_odds(self.confidence, values)

    def _weights(self, values: FloatArray, voting: BoolArray, codes: IntArray) -> FloatArray:
        rows, columns = np.nonzero(voting)
        seen = np.zeros((len(codes), codes.shape[1]), np.bool_)
        seen[rows, codes[rows, columns]] = True
        answers = np.maximum(seen.sum(axis=1), 1)
        weights: FloatArray = values + np.log(answers)[:, None]
        return weights
