"""The vote of early stopping on confidence: the first sample that is sure enough decides.

It does not know whether sampling stopped there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poise.columns import FloatArray, confidences, named
from poise.votes.bounds import within
from poise.votes.casting import BoolArray, IntArray, WeighingVote

__all__ = ["FirstConfident"]


@dataclass(frozen=True, slots=True)
class FirstConfident(WeighingVote):
    """The cluster of the first readable sample with a confidence of ``threshold`` or more.

    Where there is none, the cluster with the greatest sum of confidences; ties to the first seen.
    Goes with the stop rule ``confident``: take the same ``threshold``, in [0, 1], and the same
    ``confidence``, read as ``poise.columns.confidences`` says. Where no readable sample has one,
    the majority wins. Source: early stopping in Self-Calibration, Huang et al. 2025, arXiv
    2503.00031, with the fallback of its evaluation code. Raises UsageError for a threshold out of
    range and for a signal that is no confidence, by its name or by its values.
    """

    threshold: float = 0.9
    confidence: str = "p_true"

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", within("threshold", self.threshold, 0, 1))
        named(self.confidence, bounded=True)

    def _read(self, values: FloatArray) -> FloatArray:
        return confidences(self.confidence, values)

    def _weights(self, values: FloatArray, voting: BoolArray, codes: IntArray) -> FloatArray:  # noqa: ARG002
        sure = voting & (values >= self.threshold)
        weights = values.copy()
        some = np.flatnonzero(sure.any(axis=1))
        weights[some] = 0
        weights[some, sure[some].argmax(axis=1)] = 1
        return weights
