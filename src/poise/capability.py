"""Capability: mu, the chance that one more sample of this question is right, as a Beta posterior.

Not the chance that the reported answer is right: a question of which the model gets two samples in
five right may be answered rightly by vote nearly always. Its mean is a state map fitted on the
samples drawn *after* each prefix, which had no part in the votes it reads; its precision says how
far mu spreads around that mean. It does not know policies, files or labels.

Source: the target of Yang et al. 2026, arXiv 2602.13540; beta-binomial likelihood, Skellam 1948.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import betaln

from poise.errors import InputError
from poise.state_map import StateMap

__all__ = ["Capability", "fit_precision"]

FloatArray = npt.NDArray[np.float64]

PRECISION = (0.5, 1e3)
"""Bounds of the Beta's two parameters' sum."""

EDGE = 1e-4
"""Means are kept this far from 0 and 1, so that both parameters stay above 0."""


@dataclass(frozen=True, slots=True)
class Capability:
    """``mean`` m: E[mu | what was seen]; ``precision``: (level, growth, spread).

    The Beta's precision is exp(level + growth log n + spread log(4 m (1 - m))): where the mean is
    near 0 or 1 mu may spread more or less around it than in the middle.
    """

    mean: StateMap
    precision: tuple[float, float, float]

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals that have to be there."""
        return self.mean.signals

    def posterior(self, n: int, values: Mapping[str, float]) -> tuple[float, float]:
        """Parameters (a, b) of Beta(a, b), the posterior of mu after ``n`` samples."""
        columns = {name: np.array([values[name]], np.float64) for name in self.signals}
        mean = float(np.clip(self.mean.probability([n], columns)[0], EDGE, 1 - EDGE))
        k = float(_precision(np.array([n]), np.array([mean]), self.precision)[0])
        return mean * k, (1 - mean) * k

    def state(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"mean": self.mean.state(), "precision": list(self.precision)}

    @classmethod
    def from_state(cls, state: Any) -> Capability:
        """Inverse of ``state``. Raises InputError for anything else."""
        if not isinstance(state, Mapping) or state.keys() != {"mean", "precision"}:
            raise InputError("capability: not an object of mean and precision")
        numbers = state["precision"]
        if not isinstance(numbers, list) or len(numbers) != 3:
            raise InputError("capability: precision is not three numbers")
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
            raise InputError("capability: precision is not three numbers")
        level, growth, spread = map(float, numbers)
        return cls(StateMap.from_state(state["mean"]), (level, growth, spread))


def fit_precision(
    n: FloatArray, mean: FloatArray, right: FloatArray, trials: FloatArray, weight: FloatArray
) -> tuple[float, float, float]:
    """``precision`` of greatest beta-binomial likelihood, all arrays (m,).

    ``right`` of ``trials`` further samples were right, ``mean`` the held-out E[mu] after ``n``.
    """
    held = np.clip(mean, EDGE, 1 - EDGE)

    def loss(theta: FloatArray) -> float:
        k = _precision(n, held, theta)
        a, b = held * k, (1 - held) * k
        return -float(weight @ (betaln(a + right, b + trials - right) - betaln(a, b)))

    found = minimize(loss, np.array([1.0, 0.5, 0.0]), method="Nelder-Mead")
    level, growth, spread = map(float, found.x)
    return level, growth, spread


def _precision(n: npt.NDArray[Any], mean: FloatArray, terms: Any) -> FloatArray:
    level, growth, spread = terms
    log_k = level + growth * np.log(n) + spread * np.log(4 * mean * (1 - mean))
    k: FloatArray = np.clip(np.exp(np.clip(log_k, -20, 20)), *PRECISION)
    return k
