"""Means of proper scores, beside the constant base rate, and their split into three parts.

Corp's split calls the mean score's excess over its best monotone recalibration MCB
(miscalibration), what that recalibration gains over the constant base rate DSC (discrimination),
and the base rate's own score UNC: score = MCB - DSC + UNC. It does not know intervals.

Source: Dimitriadis, Gneiting and Jordan, Stable reliability diagrams for probabilistic
classifiers, PNAS 2021 (arXiv 2008.03033).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from poise import scoring
from poise.errors import UsageError
from poise.metrics.estimate import Estimate
from poise.metrics.rows import read, ties
from poise.scoring import FloatArray

__all__ = ["Corp", "brier", "brier_skill", "corp", "log_loss", "losses"]


@dataclass(frozen=True, slots=True)
class Corp:
    """``score`` = ``mcb`` - ``dsc`` + ``unc``, each >= 0, in the rule's unit (log loss: nats)."""

    score: float
    mcb: float
    dsc: float
    unc: float


def brier(y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Weighted mean Brier score, in [0, 1], 0 best.

    ``y``, ``p`` (m,) in [0, 1]; ``sample_weight`` (m,) >= 0. Raises UsageError.
    """
    rows = read(y, p, sample_weight)
    return float(np.average(scoring.brier(rows.y, rows.p), weights=rows.weight))


def log_loss(
    y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None, *, floor: float = 0.0
) -> float:
    """Weighted mean log loss in nats, 0 best.

    ``y``, ``p``, ``sample_weight`` as in ``brier``. One wrong certainty makes it infinite unless a
    ``floor`` in (0, 0.5) is stated (see ``poise.scoring.log_loss``). Raises UsageError.
    """
    rows = read(y, p, sample_weight)
    return float(np.average(scoring.log_loss(rows.y, rows.p, floor=floor), weights=rows.weight))


def brier_skill(y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None) -> Estimate:
    """1 - Brier / Brier of the constant base rate: 1 perfect, 0 no better than it.

    ``y``, ``p``, ``sample_weight`` as in ``brier``. Value None where all rows are right or all are
    wrong: the constant is then perfect, and nothing can be better. Raises UsageError.
    """
    rows = read(y, p, sample_weight)
    rate = float(np.average(rows.y, weights=rows.weight))
    if not 0 < rate < 1:
        return Estimate(None, reason="the base rate is 0 or 1, so its Brier score is 0")
    mean = float(np.average(scoring.brier(rows.y, rows.p), weights=rows.weight))
    return Estimate(1 - mean / (rate * (1 - rate)))


def corp(
    y: ArrayLike,
    p: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    rule: str = "brier",
    floor: float = 0.0,
) -> Corp:
    """Split a mean score into miscalibration, discrimination and the base rate's score.

    ``y``, ``p``, ``sample_weight`` as in ``brier``. ``rule``: a name in ``poise.scoring.RULES``.
    ``floor``: for ``log_loss``, applied to p alone, before everything; without one, a wrong
    certainty makes score and mcb infinite. Raises UsageError.
    """
    rows = read(y, p, sample_weight)
    tied = ties(replace(rows, p=scoring.floored(rows.p, floor)))
    rate = tied.right / tied.weight
    # Rounding may leave a block of sure rows a hair outside [0, 1].
    best = np.clip(isotonic_regression(rate, weights=tied.weight).x, 0, 1)
    constant = np.full(rate.size, np.average(rate, weights=tied.weight).clip(0, 1))

    def mean(stated: FloatArray) -> float:
        return float(np.average(losses(rule, rate, stated), weights=tied.weight))

    score, recalibrated, unc = mean(tied.p), mean(best), mean(constant)
    return Corp(score, score - recalibrated, unc - recalibrated, unc)


def losses(rule: str, y: ArrayLike, p: ArrayLike) -> FloatArray:
    """Losses (m,) under the rule of that name; raises UsageError for a name there is not."""
    if rule not in scoring.RULES:
        raise UsageError(f"rule={rule!r}: there is {', '.join(sorted(scoring.RULES))}")
    return scoring.RULES[rule](y, p)
