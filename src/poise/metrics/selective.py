"""What is lost when only the surest share of the questions is answered.

Coverage is the share answered, surest first; risk the share of those that is wrong. Rows of one
probability cannot be told apart, so within a tie numbers are expectations over its orders. A
weight counts rows here: a row of weight 2 is that row twice. It does not know intervals or costs.

Source: El-Yaniv and Wiener 2010; Geifman, Uziel and El-Yaniv 2019 (area under the curve).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma

from poise.errors import UsageError
from poise.metrics.rows import Rows, read, ties
from poise.scoring import FloatArray

__all__ = ["RiskCoverage", "accuracy_at", "aurc", "risk_coverage"]


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The curve at each distinct probability, surest first: (g,) each.

    Answering where p >= ``threshold`` answers the share ``coverage``, in (0, 1] and rising, and
    the share ``risk`` of that, in [0, 1], is wrong.
    """

    coverage: FloatArray
    risk: FloatArray
    threshold: FloatArray


def risk_coverage(
    y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None
) -> RiskCoverage:
    """The risk-coverage curve: every operating point that a threshold can reach.

    ``y``, ``p`` (m,) in [0, 1]; ``sample_weight`` (m,) >= 0. Raises UsageError.
    """
    answered, wrong, threshold = _surest_first(read(y, p, sample_weight))
    return RiskCoverage(answered / answered[-1], wrong / answered, threshold)


def aurc(y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean over k = 1..m of the risk among the k surest rows, in [0, 1], 0 best.

    Ties count by expectation. Arguments and errors as in ``risk_coverage``. Only whole weights
    have the exact meaning of repeated rows; others interpolate (digamma for harmonic numbers).
    """
    answered, wrong, _ = _surest_first(read(y, p, sample_weight))
    before, wrong_before = (
        answered - np.diff(answered, prepend=0),
        wrong - np.diff(wrong, prepend=0),
    )
    # Inside a tie risk at k is rate + (wrong_before - before x rate) / k, summed over its k.
    rate = (wrong - wrong_before) / (answered - before)
    harmonic = digamma(answered + 1) - digamma(before + 1)
    area = (answered - before) * rate + (wrong_before - before * rate) * harmonic
    return float(area.sum() / answered[-1])


def accuracy_at(
    coverage: float, y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None
) -> float:
    """Expected share of right rows among the surest ``coverage`` of them, in [0, 1].

    ``coverage`` in (0, 1]; where it cuts a tie, the tie's rows count in proportion. Arguments else
    and errors as in ``risk_coverage``.
    """
    if not 0 < coverage <= 1:
        raise UsageError(f"coverage={coverage!r}: must be above 0 and at most 1")
    answered, wrong, _ = _surest_first(read(y, p, sample_weight))
    wanted = coverage * answered[-1]
    lost = np.interp(wanted, np.concatenate(([0], answered)), np.concatenate(([0], wrong)))
    return float(1 - lost / wanted)


def _surest_first(rows: Rows) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Cumulative weight, cumulative wrong weight, and probability at each distinct probability."""
    tied = ties(rows)
    weight, wrong = tied.weight[::-1], (tied.weight - tied.right)[::-1]
    return np.cumsum(weight), np.cumsum(wrong), tied.p[::-1]
