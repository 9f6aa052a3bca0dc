"""Confidence-weighted vote: a sample counts as much as it is sure.

It does not know whether a confidence is calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass

from poise.columns import FloatArray, confidences, named
from poise.votes.casting import BoolArray, IntArray, WeighingVote

__all__ = ["Weighted"]


@dataclass(frozen=True, slots=True)
class Weighted(WeighingVote):
    """The cluster with the greatest sum of confidences; ties to the first seen.

    ``confidence``: a signal of single samples, read as ``poise.columns.confidences`` says. A sample
    without one does not vote; where no readable sample has one, the majority wins. Source: CaTS-SC
    in Self-Calibration, Huang et al. 2025, arXiv 2503.00031. Raises UsageError for a signal that is
    no confidence, by its name or by its values.
    """

    confidence: str = "p_true"

    def __post_init__(self) -> None:
        named(self.confidence, bounded=True)

    def _read(self, values: FloatArray) -> FloatArray:
        return confidences(self.confidence, values)

    def _weights(self, values: FloatArray, voting: BoolArray, codes: IntArray) -> FloatArray:  # noqa: ARG002
        return values
