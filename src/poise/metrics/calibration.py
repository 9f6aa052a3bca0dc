"""How far probabilities are from the rates they promise: binned, debiased and cumulative errors.

====================  ============================================================================
``ece``               mean over equal-width bins of the gap between mean label and mean probability
``adaptive_ece``      the same over bins of equal weight
``debiased_ece``      ``ece`` less its estimated bias from sampling
``debiased_square``   unbiased estimate of the mean *squared* gap over the bins
``cumulative``        largest gap, and range, of the cumulative sums of label - probability
====================  ============================================================================

A binned error is biased upward at any finite n; read it with ``floor.noise_floor``. Bin k of B is
[k/B, (k+1)/B), and the last is closed: a probability of 1 is in it. It does not know intervals.

Sources: Naeini, Cooper and Hauskrecht 2015 (ECE); Kumar, Liang and Ma, Verified Uncertainty
Calibration, 2019 (debiasing; here over questions instead of rows); Gupta et al. 2021 and
Arrieta-Ibarra et al. 2022 (cumulative differences).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from poise.metrics.estimate import Estimate
from poise.metrics.rows import IntArray, Rows, read, summed, ties, whole
from poise.scoring import FloatArray

__all__ = [
    "BINS",
    "Cumulative",
    "adaptive_ece",
    "cumulative",
    "debiased_ece",
    "debiased_square",
    "ece",
    "in_bins",
]

BINS = 10
"""Bins where none are asked for."""


def in_bins(p: FloatArray, bins: int) -> IntArray:
    """Bin of each probability, 0..bins - 1; raises UsageError for fewer than one bin."""
    edges = np.arange(1, whole("bins", bins)) / bins
    return np.searchsorted(edges, p, side="right").astype(np.int64)


def ece(
    y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None, *, bins: int = BINS
) -> float:
    """Expected calibration error over ``bins`` equal-width bins, in [0, 1].

    ``y``, ``p`` (m,) in [0, 1]; ``sample_weight`` (m,) >= 0. Raises UsageError.
    """
    rows = read(y, p, sample_weight)
    gaps = summed(rows.weight * (rows.y - rows.p), in_bins(rows.p, bins), bins)
    return float(np.abs(gaps).sum() / rows.weight.sum())


def adaptive_ece(
    y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None, *, bins: int = BINS
) -> float:
    """Expected calibration error over at most ``bins`` bins of (nearly) equal weight, in [0, 1].

    Rows of one probability stay together, in the bin where the middle of their weight falls, so
    that row order does not matter. Arguments and errors as in ``ece``.
    """
    tied = ties(read(y, p, sample_weight))
    middle = np.cumsum(tied.weight) - tied.weight / 2
    total = tied.weight.sum()
    place = np.minimum((middle / total * whole("bins", bins)).astype(np.int64), bins - 1)
    gaps = summed(tied.right - tied.weight * tied.p, place, bins)
    return float(np.abs(gaps).sum() / total)


@dataclass(frozen=True, slots=True)
class _Bins:
    """Bins with two questions or more: ``share`` of the weight, ``gap``, the gap's ``variance``."""

    share: FloatArray
    gap: FloatArray
    variance: FloatArray


_SINGLES = Estimate(None, reason="no bin holds two questions, so sampling error cannot be told")


def debiased_square(
    y: ArrayLike,
    p: ArrayLike,
    sample_weight: ArrayLike | None = None,
    question: Iterable[Hashable] | None = None,
    *,
    bins: int = BINS,
) -> Estimate:
    """Unbiased estimate of the mean squared gap over equal-width bins, at most 1.

    It is negative about half of the time for calibrated probabilities: that is what unbiased
    means. Its root, where positive, is the debiased L2 error. Sampling error is taken between
    questions (``question`` None: between rows). A bin with one question adds nothing, as its
    sampling error cannot be told; value None where there are no others. Arguments else and errors
    as in ``ece``.
    """
    found = _bins(read(y, p, sample_weight, question), bins)
    if not found.share.size:
        return _SINGLES
    return Estimate(float(found.share @ (found.gap**2 - found.variance)))


def debiased_ece(
    y: ArrayLike,
    p: ArrayLike,
    sample_weight: ArrayLike | None = None,
    question: Iterable[Hashable] | None = None,
    *,
    bins: int = BINS,
) -> Estimate:
    """``ece`` less its bias as the normal bootstrap of the bins' gaps estimates it.

    The estimate is 2 x plug-in - E|N(gap, variance)|, here in closed form. It removes most of the
    bias where gaps are large against their error, and about four tenths of it where there is no
    gap at all, so it is still above 0 for calibrated probabilities; it can be below. Bins of one
    question, arguments and errors as in ``debiased_square``.
    """
    found = _bins(read(y, p, sample_weight, question), bins)
    if not found.share.size:
        return _SINGLES
    plugin, error = np.abs(found.gap), np.sqrt(found.variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = plugin / error
        folded = error * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) + plugin * (1 - 2 * ndtr(-z))
    folded = np.where(error > 0, folded, plugin)
    return Estimate(float(found.share @ (2 * plugin - folded)))


def _bins(rows: Rows, bins: int) -> _Bins:
    place = in_bins(rows.p, bins)
    weight = summed(rows.weight, place, bins)
    gap = summed(rows.weight * (rows.y - rows.p), place, bins) / np.where(weight > 0, weight, 1)
    deviation = rows.weight * (rows.y - rows.p - gap[place])
    if not rows.single:
        shared, of = np.unique(place * rows.questions + rows.question, return_inverse=True)
        place, deviation = shared // rows.questions, summed(deviation, of, shared.size)
    n = np.bincount(place, minlength=bins)
    square = summed(deviation**2, place, bins)
    kept = n > 1
    variance = square[kept] / weight[kept] ** 2 * n[kept] / (n[kept] - 1)
    return _Bins(weight[kept] / weight.sum(), gap[kept], variance)


@dataclass(frozen=True, slots=True)
class Cumulative:
    """Cumulative calibration error: largest gap, range, and the scale of pure noise.

    ``ks`` and ``kuiper`` in [0, 1]; ``sigma``: standard deviation of the whole sum, were the
    probabilities true and rows independent. ks / sigma of a calibrated sample is the maximum of
    |Brownian motion| on [0, 1], above 2.24 one time in twenty.
    """

    ks: float
    kuiper: float
    sigma: float


def cumulative(y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None) -> Cumulative:
    """Errors of the cumulative sums of label - probability in order of probability, without bins.

    Sums are read between distinct probabilities only, so that row order does not matter. Arguments
    and errors as in ``ece``.
    """
    rows = read(y, p, sample_weight)
    tied = ties(rows)
    total = tied.weight.sum()
    sums = np.concatenate(([0.0], np.cumsum(tied.right - tied.weight * tied.p))) / total
    noise = np.sqrt(np.sum(rows.weight**2 * rows.p * (1 - rows.p))) / total
    return Cumulative(float(np.abs(sums).max()), float(np.ptp(sums)), float(noise))
