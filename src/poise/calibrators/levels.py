"""Discrete levels, as stated confidences of 0, 10, …, 100: each level's own rate, shrunk.

Levels are few and unevenly filled, so a level with many trials keeps its own rate and one with few
is drawn to what the others say. It does not assume that a higher stated level is surer.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.special import betaln, expit

from poise.calibrators.calibrator import Calibrator
from poise.calibrators.logistic import fit_logistic, standard
from poise.calibrators.rows import FloatArray, Rows, Scale
from poise.calibrators.state import Fields
from poise.errors import RefusedError

__all__ = ["MOST_LEVELS", "Levels"]

MOST_LEVELS = 50
TRENDS = ("base", "linear")
STRENGTHS: FloatArray = np.geomspace(0.5, 1e4, 44)
"""Weights of the prior that are tried, in trials; the last trusts the trend almost alone."""

NEAREST = 1e-6
"""A trend stays this far from 0 and 1."""


class Levels(Calibrator):
    """P(right | level) = (k + s t) / (n + s): k right in n trials, prior mean t worth s trials.

    t is the base rate, or a logistic line in the level (not in its logit: levels of 0 and 1 are
    common). s and the choice of t maximise the beta-binomial likelihood of all levels, s over 44
    values from 0.5 to 10,000; the line, with one parameter more, has to gain more than 1 nat. A
    score between two levels is interpolated, one outside takes the outermost level's.

    ``levels_`` (L,) rising, ``chances_`` (L,), ``strength_`` = s, ``trend_``: "base" or "linear".
    Raises RefusedError for more than 50 distinct scores.
    """

    name: ClassVar[str] = "levels"

    def __init__(self, scale: Scale = "probability"):
        self.scale = scale

    def _learn(self, rows: Rows) -> None:
        levels, n, k = rows.tally()
        if len(levels) > MOST_LEVELS:
            raise RefusedError(
                f"levels: {len(levels)} distinct scores, at most {MOST_LEVELS}; "
                "for continuous scores take platt, quadratic or isotonic"
            )
        base = np.full(len(levels), rows.base_rate)
        line = _line(levels, k / n, n)
        likelihood = np.stack([_likelihoods(k, n, base), _likelihoods(k, n, line) - 1])
        trend, strength = np.unravel_index(np.argmax(likelihood), likelihood.shape)
        self.levels_ = levels
        self.trend_ = TRENDS[trend]
        self.strength_ = float(STRENGTHS[strength])
        prior = (base, line)[trend]
        self.chances_ = (k + self.strength_ * prior) / (n + self.strength_)

    def _chance(self, scores: FloatArray) -> FloatArray:
        return np.interp(scores[:, 0], self.levels_, self.chances_)

    def _params(self) -> dict[str, Any]:
        return {
            "levels": self.levels_.tolist(),
            "chances": self.chances_.tolist(),
            "strength": self.strength_,
            "trend": self.trend_,
        }

    def _restore(self, params: Fields) -> int:
        self.levels_ = params.numbers("levels", rising=True)
        self.chances_ = params.numbers("chances", len(self.levels_), 0, 1)
        self.strength_ = params.number("strength", STRENGTHS[0], STRENGTHS[-1])
        self.trend_ = params.word("trend", TRENDS)
        return 1


def _line(levels: FloatArray, share: FloatArray, n: FloatArray) -> FloatArray:
    """The logistic trend at each level, (L,), in (0, 1)."""
    centre, spread = standard(levels, n)
    z = ((levels - centre) / spread)[:, None]
    b, slope = fit_logistic(z, share, n, 0.01, np.zeros(1))
    trend: FloatArray = expit(b + slope * z[:, 0])
    return np.clip(trend, NEAREST, 1 - NEAREST)


def _likelihoods(k: FloatArray, n: FloatArray, prior: FloatArray) -> FloatArray:
    """Log marginal likelihood of all levels under each of the strengths, (44,)."""
    right = STRENGTHS[:, None] * prior
    wrong = STRENGTHS[:, None] * (1 - prior)
    gained: FloatArray = (betaln(right + k, wrong + n - k) - betaln(right, wrong)).sum(axis=1)
    return gained
