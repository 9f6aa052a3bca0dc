"""Best of N: the one sample that is surest decides.

It does not know how many samples agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from poise.columns import FloatArray, named, needed
from poise.types import State
from poise.votes.casting import BoolArray, IntArray, alone, weighed

__all__ = ["BestOfN"]


@dataclass(frozen=True, slots=True)
class BestOfN:
    """The cluster of the readable sample with the greatest confidence; ties to the first drawn.

    ``confidence``: a signal of single samples on any scale, higher is surer. A sample without one
    cannot win; where no readable sample has one, the majority does. Source: Cobbe et al. 2021,
    arXiv 2110.14168. Raises UsageError for a name that is none.
    """

    confidence: str = "p_true"

    def __post_init__(self) -> None:
        named(self.confidence, bounded=False)

    @property
    def needs(self) -> tuple[str, ...]:
        """The confidence."""
        return (self.confidence,)

    def elect(self, state: State) -> int | None:
        """The winning cluster, or None where no sample could be read."""
        if not state.counts:
            return None
        return int(self.elect_all(*alone(state, self.needs))[0])

    def elect_all(
        self,
        prefixes: IntArray,
        n: IntArray,
        values: Mapping[str, FloatArray] | None = None,
    ) -> IntArray:
        """Winners (m,) of the first ``n`` samples, -1 for none; arrays as in ``Vote.elect_all``."""
        given = needed(self.confidence, values, prefixes.shape)
        return weighed(prefixes, n, given, _surest)


def _surest(values: FloatArray, voting: BoolArray, codes: IntArray) -> FloatArray:  # noqa: ARG001
    """Weight 1 for the first of the greatest values in a row, 0 for the others."""
    weights = np.zeros(values.shape)
    best = np.where(voting, values, -np.inf).argmax(axis=1)
    weights[np.arange(len(values)), best] = 1
    return weights
