"""Platt's logistic map of one score, or of several columns at once.

It does not know interactions: each column adds its own slope to the log-odds.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from poise.calibrators.calibrator import Calibrator
from poise.calibrators.logistic import fit_logistic, standard
from poise.calibrators.rows import FloatArray, Rows, Scale, clipped_logit
from poise.calibrators.state import Fields
from poise.errors import UsageError

__all__ = ["Platt", "check_ridge"]


class Platt(Calibrator):
    """P(right) = sigmoid(intercept + slope . s), s the scores, or their logits on a probability.

    ``scale``: "probability" (p clipped to [eps, 1 - eps], then its logit) or "real", for all
    columns or a tuple with one for each. ``eps`` is coarse because vote shares and stated
    confidences are often exactly 1, and a logit of 14 there would flatten the slope for all
    the others; scores nearer to 0 or 1 than ``eps`` come out equal.

    A normal prior of variance 1/``ridge`` on each slope, per standard deviation of s, keeps
    separable data finite. Its mean is 0, or, for a single probability column, slope 1: doubt leaves
    a probability as it is, and the fit is never worse than the score itself on the fitted rows.
    The intercept is free, so a constant score gives the base rate.

    ``slope_`` (d,), ``intercept_``. The slope may be negative. Source: Platt 1999; the prior takes
    the place of its smoothed targets.
    """

    name: ClassVar[str] = "platt"
    single_column: ClassVar[bool] = False

    def __init__(
        self,
        scale: Scale | tuple[Scale, ...] = "probability",
        eps: float = 1e-3,
        ridge: float = 0.01,
    ):
        self.scale = scale
        self.eps = eps
        self.ridge = ridge

    def _learn(self, rows: Rows) -> None:
        links = self._links(rows.scores)
        pairs = [standard(column, rows.weight) for column in links.T]
        centre, spread = (np.array(values) for values in zip(*pairs, strict=True))
        alone = links.shape[1] == 1 and self._ranged(1).all()
        prior = spread if alone else np.zeros_like(spread)
        fitted = fit_logistic(
            (links - centre) / spread, rows.y, rows.weight, float(self.ridge), prior
        )
        self.slope_ = fitted[1:] / spread
        self.intercept_ = float(fitted[0] - self.slope_ @ centre)

    def _chance(self, scores: FloatArray) -> FloatArray:
        chance: FloatArray = expit(self.intercept_ + self._links(scores) @ self.slope_)
        return chance

    def _links(self, scores: FloatArray) -> FloatArray:
        links = scores.copy()
        ranged = self._ranged(scores.shape[1])
        links[:, ranged] = clipped_logit(scores[:, ranged], self.eps)
        return links

    def _ranged(self, columns: int) -> Any:
        return np.broadcast_to(np.array(self._scales()) == "probability", columns)

    def _check_settings(self) -> None:
        super()._check_settings()
        check_ridge(self.ridge)

    def _params(self) -> dict[str, Any]:
        return {"slope": self.slope_.tolist(), "intercept": self.intercept_}

    def _restore(self, params: Fields) -> int:
        scales = self._scales() or ()
        self.slope_ = params.numbers("slope", len(scales) if len(scales) > 1 else None)
        self.intercept_ = params.number("intercept")
        return len(self.slope_)


def check_ridge(ridge: Any) -> None:
    """Raises UsageError unless ``ridge`` is a number in (0, 1e6]."""
    if isinstance(ridge, bool) or not isinstance(ridge, int | float) or not 0 < ridge <= 1e6:
        raise UsageError(f"ridge={ridge!r}: must be above 0 and at most 1e6")
