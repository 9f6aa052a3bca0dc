"""Logistic regression that always converges: Newton's method under a weak normal prior.

The minimum is of

    sum_i w_i [log(1 + exp(eta_i)) - y_i eta_i] + ridge / 2 * |coef - centre|^2,   eta = b + Z coef

The prior bounds the coefficients where the classes can be separated, is worth a fixed amount
whatever the weights, and with both classes present the free intercept is finite too. It does not
know what the columns mean.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from poise.calibrators.rows import FloatArray
from poise.errors import RefusedError

__all__ = ["fit_logistic", "standard"]

MOST_STEPS = 100


def standard(column: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Weighted mean and standard deviation of ``column`` (m,); a constant one has spread 1."""
    centre = float(np.average(column, weights=weight))
    spread = float(np.sqrt(np.average((column - centre) ** 2, weights=weight)))
    return centre, spread if spread > 1e-12 * max(1.0, abs(centre)) else 1.0


def fit_logistic(
    columns: FloatArray, y: FloatArray, weight: FloatArray, ridge: float, centre: FloatArray
) -> FloatArray:
    """Intercept and coefficients, (1 + d,), of ``columns`` (m, d), standardised by the caller.

    ``y`` (m,) in [0, 1], both classes present; ``weight`` (m,) > 0; ``ridge`` > 0; ``centre`` (d,)
    the prior's mean. Raises RefusedError where Newton's method does not settle.
    """
    design = np.column_stack([np.ones(len(y)), columns])
    penalty = np.full(design.shape[1], ridge)
    penalty[0] = 0
    middle = np.concatenate([[0.0], centre])
    total = weight.sum()

    def loss(beta: FloatArray) -> float:
        eta = design @ beta
        fit = weight @ (np.logaddexp(0, eta) - y * eta)
        return float(fit + penalty @ (beta - middle) ** 2 / 2)

    beta = np.zeros_like(middle)
    now = loss(beta)
    for _ in range(MOST_STEPS):
        chance = expit(design @ beta)
        slope = design.T @ (weight * (chance - y)) + penalty * (beta - middle)
        curve = (design.T * (weight * chance * (1 - chance))) @ design + np.diag(penalty)
        try:
            step = np.linalg.solve(curve, slope)
        except np.linalg.LinAlgError as error:
            raise RefusedError(f"logistic fit: {error}; scale the weights down") from error
        decrement = float(slope @ step)
        # Newton squares its error, so from here one more step reaches the last digit.
        if decrement <= 1e-12 * total:
            return beta - step
        size = 1.0
        while (after := loss(beta - size * step)) > now - size * decrement / 4:
            size /= 2
            if size < 1e-8:
                raise RefusedError("logistic fit: Newton's step does not lower the loss")
        beta, now = beta - size * step, after
    raise RefusedError(f"logistic fit: not converged after {MOST_STEPS} Newton steps")
