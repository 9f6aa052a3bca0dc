"""Isotonic regression that never claims certainty: rising blocks, shrunk, joined by lines.

It knows no shape but "higher is surer", so it wants many labels (about 2,000) to beat a logistic
map; it does not know how to fall.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.optimize import isotonic_regression

from poise.calibrators.calibrator import Calibrator
from poise.calibrators.rows import FloatArray, Rows, Scale
from poise.calibrators.state import Fields
from poise.errors import UsageError

__all__ = ["Isotonic"]


class Isotonic(Calibrator):
    """P(right) from blocks of neighbouring scores, each of k right in n trials.

    Pool-adjacent-violators makes the blocks; each is shrunk to (k + a * base rate) / (n + a),
    a = ``strength`` > 0 trials, so that no block says 0 or 1; blocks that the shrinking put out of
    order are pooled again. Between the blocks' mean scores the map is linear, so scores in
    neighbouring blocks keep their ranking; outside the first and the last it is flat. A constant
    score gives the base rate.

    ``scale``: the scores' range; the map itself is on the scores as given. ``knots_`` (B,) rising
    scores, ``chances_`` (B,) rising, in (0, 1). Source: Oron & Flournoy 2017, arXiv 1701.05964
    (centred isotonic regression); the shrinking is ours.
    """

    name: ClassVar[str] = "isotonic"

    def __init__(self, scale: Scale = "probability", strength: float = 1.0):
        self.scale = scale
        self.strength = strength

    def _learn(self, rows: Rows) -> None:
        scores, n, k = rows.tally()
        n, k, centre = _pooled(k / n, n, n, k, n * scores)
        a = float(self.strength)
        shrunk = (k + a * rows.base_rate) / (n + a)
        weight, total, n, centre = _pooled(shrunk, n + a, n + a, shrunk * (n + a), n, centre)
        # A mean of equal scores may miss them by a rounding error; knots must not fall.
        self.knots_ = np.maximum.accumulate(centre / n)
        self.chances_ = np.maximum.accumulate(total / weight)

    def _chance(self, scores: FloatArray) -> FloatArray:
        return np.interp(scores[:, 0], self.knots_, self.chances_)

    def _check_settings(self) -> None:
        super()._check_settings()
        a = self.strength
        if isinstance(a, bool) or not isinstance(a, int | float) or not 1e-9 <= a <= 1e6:
            raise UsageError(f"strength={a!r}: must be in [1e-9, 1e6] trials")

    def _params(self) -> dict[str, Any]:
        return {"knots": self.knots_.tolist(), "chances": self.chances_.tolist()}

    def _restore(self, params: Fields) -> int:
        self.knots_ = params.numbers("knots", rising=True)
        self.chances_ = params.numbers("chances", len(self.knots_), 0, 1, rising=True)
        return 1


def _pooled(value: FloatArray, weight: FloatArray, *sums: FloatArray) -> tuple[FloatArray, ...]:
    """``sums`` added up within the blocks of the isotonic regression of ``value`` (B,)."""
    starts = isotonic_regression(value, weights=weight).blocks[:-1]
    return tuple(np.add.reduceat(column, starts) for column in sums)
