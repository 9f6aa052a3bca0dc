"""Metrics in the form that a bootstrap wants: prepared once, then evaluated on question counts.

A ``Statistic`` maps counts (r, q), how often each question is in each of r resamples, to the
metric's value on each. Most metrics are a formula over totals that add up over questions, so that
resampling is a matrix product; AUROC sorts once and sums resampled weights in that order. NaN says
that a resample has no value (one class only, say). To add a metric: a function from ``Rows`` to a
``Statistic`` and an entry in ``METRICS``. It does not know how counts are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from poise import scoring
from poise.metrics.calibration import BINS, in_bins
from poise.metrics.ranking import pairs_by_question
from poise.metrics.rows import Rows, summed
from poise.scoring import FloatArray

__all__ = [
    "LOG_FLOOR",
    "METRICS",
    "Metric",
    "Statistic",
    "auroc",
    "brier",
    "brier_skill",
    "ece",
    "log_loss",
    "ratio",
    "within_question",
]

LOG_FLOOR = 1e-6
"""Where log loss must be finite, p is moved into [floor, 1 - floor]: a row costs 13.8 nats at most.

Means with an infinite row have no interval; who reports this states the floor beside it.
"""

Statistic = Callable[[FloatArray], FloatArray]
Metric = Callable[[Rows], Statistic]


def brier(rows: Rows) -> Statistic:
    """Mean Brier score."""
    return _mean(rows, scoring.brier(rows.y, rows.p))


def log_loss(rows: Rows) -> Statistic:
    """Mean log loss in nats, with ``LOG_FLOOR``."""
    return _mean(rows, scoring.log_loss(rows.y, rows.p, floor=LOG_FLOOR))


def brier_skill(rows: Rows) -> Statistic:
    """1 - Brier / Brier of the resample's own constant base rate."""
    weight = rows.weight
    totals = _totals(rows, weight, weight * rows.y, weight * scoring.brier(rows.y, rows.p))

    def skill(counts: FloatArray) -> FloatArray:
        weighed, right, lost = _resampled(counts, totals)
        return 1 - _over(lost * weighed, right * (weighed - right))

    return skill


def ece(rows: Rows, bins: int = BINS) -> Statistic:
    """Expected calibration error over equal-width bins."""
    residual = rows.weight * (rows.y - rows.p)
    place = (in_bins(rows.p, bins), rows.question)
    # Bins by questions: entries of one question and bin are summed.
    gaps = csr_array((residual, place), shape=(bins, rows.questions))
    weight = _totals(rows, rows.weight)

    def error(counts: FloatArray) -> FloatArray:
        shown: FloatArray = np.abs(gaps @ counts.T).sum(axis=0)
        return _over(shown, *_resampled(counts, weight))

    return error


def auroc(rows: Rows) -> Statistic:
    """Area under the ROC curve, ties half."""
    order = np.argsort(rows.p, kind="stable")
    p, question = rows.p[order], rows.question[order]
    right = rows.weight[order] * rows.y[order]
    wrong = rows.weight[order] - right
    start = np.flatnonzero(np.concatenate(([True], p[1:] != p[:-1])))
    in_order = rows.single and bool((question[1:] > question[:-1]).all())

    def area(counts: FloatArray) -> FloatArray:
        times = counts if in_order else counts[:, question]
        above, below = times * right, times * wrong
        if start.size < p.size:
            above = np.add.reduceat(above, start, axis=1)
            below = np.add.reduceat(below, start, axis=1)
        cumulative = np.cumsum(below, axis=1)
        pairs = above.sum(axis=1) * cumulative[:, -1]
        tied = np.einsum("rm,rm->r", above, below)
        return _over(np.einsum("rm,rm->r", above, cumulative) - tied / 2, pairs)

    return area


def within_question(rows: Rows) -> Statistic:
    """Within-question discrimination, pairs pooled."""
    return ratio(*pairs_by_question(rows))


def ratio(numerator: FloatArray, denominator: FloatArray) -> Statistic:
    """Sum over sum of two columns with one value a question, (q,) each."""

    def quotient(counts: FloatArray) -> FloatArray:
        return _over(*_resampled(counts, (numerator, denominator)))

    return quotient


METRICS: Mapping[str, Metric] = {
    "brier": brier,
    "log_loss": log_loss,
    "brier_skill": brier_skill,
    "ece": ece,
    "auroc": auroc,
    "within_question": within_question,
}
"""Metrics that can be resampled, by the name under which commands and configuration know them."""


def _mean(rows: Rows, losses: FloatArray) -> Statistic:
    return ratio(*_totals(rows, rows.weight * losses, rows.weight))


def _totals(rows: Rows, *columns: FloatArray) -> list[FloatArray]:
    """Columns (m,) each, summed by question: (q,) each."""
    return [summed(column, rows.question, rows.questions) for column in columns]


def _resampled(counts: FloatArray, totals: Iterable[FloatArray]) -> list[FloatArray]:
    """Each column of totals (q,) summed over the resamples (r, q): (r,) each."""
    # Not a BLAS product: its threads wait for a busy core, and their number changes last digits.
    return [np.einsum("rq,q->r", counts, total) for total in totals]


def _over(above: FloatArray, below: FloatArray) -> FloatArray:
    """``above`` / ``below``, NaN where below is not positive."""
    positive: NDArray[np.bool_] = below > 0
    quotient = np.full(below.shape, np.nan)
    np.divide(above, below, out=quotient, where=positive)
    return quotient
