"""Logistic map with a square term: bends where one slope does not fit low and high scores alike.

It does not know more than one column.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from poise.calibrators.calibrator import Calibrator
from poise.calibrators.logistic import fit_logistic, standard
from poise.calibrators.platt import check_ridge
from poise.calibrators.rows import FloatArray, Rows, Scale, clipped_logit
from poise.calibrators.state import Fields

__all__ = ["Quadratic"]


class Quadratic(Calibrator):
    """P(right) = sigmoid(b + w1 z + w2 z^2), z the standardised score or logit.

    ``scale``, ``eps``, ``ridge``: as for Platt, the prior's mean being the score itself (w2 = 0) on
    a probability, and 0 on a real score.

    The curve must not turn inside the range of the fitted scores; where the best one would, the
    better of the two that turn at an end of the range is taken, and ``held_`` is true. (The curves
    that do not turn are a convex set with the line inside, so that is the best of them, and never
    worse than the line.) Beyond the range the curve goes on along its tangent.

    ``centre_``, ``spread_`` of s: z = (s - centre) / spread; ``coef_`` (3,): b, w1, w2; ``range_``
    (2,): the fitted range of z. Source: the "logistic" map of Berta, Bach & Jordan 2025,
    arXiv 2511.03685, for two classes.
    """

    name: ClassVar[str] = "quadratic"

    def __init__(self, scale: Scale = "probability", eps: float = 1e-3, ridge: float = 0.01):
        self.scale = scale
        self.eps = eps
        self.ridge = ridge

    def _learn(self, rows: Rows) -> None:
        links = self._links(rows.scores)
        self.centre_, self.spread_ = standard(links, rows.weight)
        z = (links - self.centre_) / self.spread_
        self.range_ = np.array([z.min(), z.max()])
        columns = np.column_stack([z, z**2])
        free = self._fit(columns, rows, np.eye(2))
        at_ends = free[1] + 2 * free[2] * self.range_
        self.held_ = bool(at_ends[0] * at_ends[1] < 0)
        if not self.held_:
            self.coef_ = free
            return
        low, high = self.range_
        self.coef_ = min(
            (self._fit(columns, rows, np.array([way])) for way in ((-2 * low, 1), (2 * high, -1))),
            key=lambda coef: _log_loss(coef[0] + columns @ coef[1:], rows),
        )

    def _fit(self, columns: FloatArray, rows: Rows, ways: FloatArray) -> FloatArray:
        """b, w1, w2 with (w1, w2) in the span of ``ways`` (k, 2), orthogonal rows."""
        ways = ways / np.linalg.norm(ways, axis=1, keepdims=True)
        prior = np.array([self.spread_ if self.scale == "probability" else 0.0, 0.0])
        fitted = fit_logistic(
            columns @ ways.T, rows.y, rows.weight, float(self.ridge), ways @ prior
        )
        return np.concatenate([fitted[:1], fitted[1:] @ ways])

    def _chance(self, scores: FloatArray) -> FloatArray:
        z = (self._links(scores) - self.centre_) / self.spread_
        inside = np.clip(z, *self.range_)
        b, w1, w2 = self.coef_
        beyond = (w1 + 2 * w2 * inside) * (z - inside)
        chance: FloatArray = expit(b + w1 * inside + w2 * inside**2 + beyond)
        return chance

    def _links(self, scores: FloatArray) -> FloatArray:
        column = scores[:, 0]
        return clipped_logit(column, self.eps) if self.scale == "probability" else column

    def _check_settings(self) -> None:
        super()._check_settings()
        check_ridge(self.ridge)

    def _params(self) -> dict[str, Any]:
        return {
            "centre": self.centre_,
            "spread": self.spread_,
            "coef": self.coef_.tolist(),
            "range": self.range_.tolist(),
            "held": self.held_,
        }

    def _restore(self, params: Fields) -> int:
        self.centre_ = params.number("centre")
        self.spread_ = params.number("spread", 1e-12)
        self.coef_ = params.numbers("coef", 3)
        self.range_ = params.numbers("range", 2, rising=True)
        self.held_ = params.flag("held")
        return 1


def _log_loss(eta: FloatArray, rows: Rows) -> float:
    """Log loss over all rows at the log-odds ``eta`` (m,)."""
    return float(rows.weight @ (np.logaddexp(0, eta) - rows.y * eta))
