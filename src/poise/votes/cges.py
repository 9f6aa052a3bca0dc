"""The answer of confidence-guided early stopping (CGES): the one with the greatest posterior.

It does not know the answers that nobody gave, to which the stop rule gives a posterior too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from poise.columns import FloatArray, log_odds, named, needed
from poise.types import State
from poise.votes.casting import BoolArray, IntArray, alone, weighed

__all__ = ["CgesAnswer"]


@dataclass(frozen=True, slots=True)
class CgesAnswer:
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
        return weighed(prefixes, n, log_odds(self.confidence, given), _evidence)


def _evidence(values: FloatArray, voting: BoolArray, codes: IntArray) -> FloatArray:
    rows, columns = np.nonzero(voting)
    seen = np.zeros((len(codes), codes.shape[1]), np.bool_)
    seen[rows, codes[rows, columns]] = True
    answers = np.maximum(seen.sum(axis=1), 1)
    weights: FloatArray = values + np.log(answers)[:, None]
    return weights
