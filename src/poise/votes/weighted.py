"""Confidence-weighted vote: a sample counts as much as it is sure.

It does not know whether a confidence is calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from poise.columns import FloatArray, confidences, named, needed
from poise.types import State
from poise.votes.casting import BoolArray, IntArray, alone, weighed

__all__ = ["Weighted"]


@dataclass(frozen=True, slots=True)
class Weighted:
    """The cluster with the greatest sum of confidences; ties to the first seen.

    ``confidence``: a signal of single samples, read as ``poise.columns.confidences`` says. A sample
    without one does not vote; where no readable sample has one, the majority wins. Source: CaTS-SC
    in Self-Calibration, Huang et al. 2025, arXiv 2503.00031. Raises UsageError for a signal that is
    no confidence, by its name or by its values.
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
        return weighed(prefixes, n, confidences(self.confidence, given), _as_they_are)


def _as_they_are(values: FloatArray, voting: BoolArray, codes: IntArray) -> FloatArray:  # noqa: ARG001
    return values
