"""Temperature: one number that makes probabilities bolder or more timid, the ranking kept.

It does not know a base rate: a score of one half stays one half at every temperature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from poise.calibrators.calibrator import Calibrator
from poise.calibrators.rows import FloatArray, Rows, Scale, clipped_logit
from poise.calibrators.state import Fields
from poise.errors import RefusedError

__all__ = ["COLDEST", "HOTTEST", "Temperature", "best_temperature"]

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of T. Scores that rank without an error want T = 0, useless ones T without end."""


class Temperature(Calibrator):
    """P(right) = sigmoid(logit(p) / T), T in [0.05, 20] by least log loss.

    ``scale``: "probability", p clipped to [eps, 1 - eps], or "real": the score is a logit already.
    ``temperature_``: T. Raises RefusedError where every score is one half. Source: Guo et al. 2017,
    arXiv 1706.04599, section 4.2, for two classes.
    """

    name: ClassVar[str] = "temperature"

    def __init__(self, scale: Scale = "probability", eps: float = 1e-3):
        self.scale = scale
        self.eps = eps

    def _learn(self, rows: Rows) -> None:
        logits = self._logits(rows.scores)
        if not logits.any():
            raise RefusedError("temperature: every score is one half, which no temperature changes")
        share = rows.weight / rows.weight.sum()

        def loss(temperature: float) -> float:
            scaled = logits / temperature
            return float(share @ (np.logaddexp(0, scaled) - rows.y * scaled))

        self.temperature_ = best_temperature(loss)

    def _chance(self, scores: FloatArray) -> FloatArray:
        chance: FloatArray = expit(self._logits(scores) / self.temperature_)
        return chance

    def _logits(self, scores: FloatArray) -> FloatArray:
        column = scores[:, 0]
        return clipped_logit(column, self.eps) if self.scale == "probability" else column

    def _params(self) -> dict[str, Any]:
        return {"temperature": self.temperature_}

    def _restore(self, params: Fields) -> int:
        self.temperature_ = params.number("temperature", COLDEST, HOTTEST)
        return 1


def best_temperature(loss: Callable[[float], float]) -> float:
    """The T in [0.05, 20] with the least ``loss``, found on the axis of log T.

    Log loss is convex in 1/T, so it has one valley in log T and the search cannot miss it. Raises
    RefusedError, with SciPy's words, where the search does not converge.
    """
    found = minimize_scalar(
        lambda u: loss(math.exp(u)),
        bounds=(math.log(COLDEST), math.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-10, "maxiter": 200},
    )
    if not found.success:
        raise RefusedError(f"temperature: not converged: {found.message}")
    return min(max(math.exp(found.x), COLDEST), HOTTEST)
