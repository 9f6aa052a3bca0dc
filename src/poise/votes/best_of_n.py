"""Best of N: the one sample that is surest decides.

It does not know how many samples agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poise.columns import FloatArray, named
from poise.votes.casting import BoolArray, IntArray, WeighingVote

__all__ = ["BestOfN"]


@dataclass(frozen=True, slots=True)
class BestOfN(WeighingVote):
    """The cluster of the readable sample with the greatest confidence; ties to the first drawn.

    ``confidence``: a signal of single samples on any scale, higher is surer. A sample without one
    cannot win; where no readable sample has one, the majority does. Source: Cobbe et al. 2021,
    arXiv 2110.14168. Raises UsageError for a name that is none.
    """

    confidence: str = "p_true"

    def __post_init__(self) -> None:
        named(self.confidence, bounded=False)

    def _weights(self, values: FloatArray, voting: BoolArray, codes: IntArray) -> FloatArray:  # noqa: ARG002
        """Weight 1 for the first of the greatest values in a row, 0 for the others."""
        weights = np.zeros(values.shape)
        best = np.where(voting, values, -np.inf).argmax(axis=1)
        weights[np.arange(len(values)), best] = 1
        return weights
