"""The lines that the pictures draw, as numbers: reliability with its band, density, risk-coverage.

Reliability is Corp's: the share right as the best non-decreasing function of the probability, with
no bins to choose. Its band is a consistency band: labels are drawn as if the probabilities were
true, the curve is fitted again, and 95 % of what comes out at each probability lies in the band. A
curve that leaves the band is off by more than chance there. Rows of one question share one draw, as
if they were right or wrong together as far as they can be: the widest band. It does not draw.

Source: Dimitriadis, Gneiting and Jordan, Stable reliability diagrams, PNAS 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from poise import metrics
from poise.metrics.rows import Rows, summed
from poise.scoring import FloatArray

__all__ = ["Coverage", "Density", "Reliability", "coverage", "density", "reliability"]

Numbers = tuple[float, ...]

CELLS = 1000
"""Rows are gathered by probability to 1 / CELLS: finer than any picture."""

POINTS = 200
"""Most points of a line."""

DRAWS = 500
BAND = 0.95
BARS = 20


@dataclass(frozen=True, slots=True)
class Reliability:
    """Share ``right`` at ``stated`` probability, and the band [``low``, ``high``]: (g,) each."""

    stated: Numbers
    right: Numbers
    low: Numbers
    high: Numbers


@dataclass(frozen=True, slots=True)
class Density:
    """``share`` (b,) of the rows between neighbouring ``edges`` (b + 1,); the last is closed."""

    edges: Numbers
    share: Numbers


@dataclass(frozen=True, slots=True)
class Coverage:
    """Expected ``risk`` (share wrong) among the surest ``coverage`` of the rows: (k,) each."""

    coverage: Numbers
    risk: Numbers


def reliability(rows: Rows, *, seed: int = 0) -> Reliability:
    """The curve and its band for rows of weight 1. Equal seeds give equal bands."""
    cell = np.minimum((rows.p * CELLS).astype(np.int64), CELLS - 1)
    _, place, n = np.unique(cell, return_inverse=True, return_counts=True)
    weight = n.astype(np.float64)
    stated = np.clip(summed(rows.p, place, n.size) / n, 0, 1)
    rng = np.random.default_rng(seed)
    drawn = np.empty((DRAWS, n.size))
    for draw in drawn:
        if rows.single:
            right = rng.binomial(n, stated).astype(np.float64)
        else:
            luck = rng.random(rows.questions)[rows.question]
            right = summed((luck < rows.p).astype(np.float64), place, n.size)
        draw[:] = _monotone(right, weight)
    low, high = np.quantile(drawn, [(1 - BAND) / 2, (1 + BAND) / 2], axis=0)
    shown = np.unique(np.linspace(0, n.size - 1, min(n.size, POINTS)).round().astype(np.int64))
    curve = _monotone(summed(rows.y, place, n.size), weight)
    return Reliability(*(_numbers(line[shown]) for line in (stated, curve, low, high)))


def density(p: FloatArray) -> Density:
    """How the probabilities (m,) are spread over [0, 1]."""
    count, edges = np.histogram(p, np.linspace(0, 1, BARS + 1))
    return Density(_numbers(edges), _numbers(count / p.size))


def coverage(y: ArrayLike, p: ArrayLike) -> Coverage:
    """The risk-coverage curve at every hundredth of the rows that holds a whole row.

    ``y``, ``p`` (m,) in [0, 1]; within a tie of p, expectations over its orders.
    """
    curve = metrics.risk_coverage(y, p)
    wrong = np.concatenate(([0.0], curve.coverage * curve.risk))
    share = np.arange(1, 101) / 100
    share = share[share * np.size(y) >= 1]
    lost = np.interp(share, np.concatenate(([0.0], curve.coverage)), wrong)
    return Coverage(_numbers(share), _numbers(lost / share))


def _monotone(right: FloatArray, weight: FloatArray) -> FloatArray:
    fitted: FloatArray = isotonic_regression(right / weight, weights=weight).x
    return np.clip(fitted, 0, 1)


def _numbers(values: FloatArray) -> Numbers:
    return tuple(float(value) for value in values)
