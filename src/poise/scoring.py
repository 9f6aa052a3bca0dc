"""Proper scoring rules: what one stated probability costs once the truth is known, row by row.

================  ==========================================  =====================
rule              loss of p if the answer is right (y = 1)    range
================  ==========================================  =====================
``brier``         (1 - p)^2                                   [0, 1]
``log_loss``      -ln p, in nats                              [0, infinity]
``spherical``     1 - p / sqrt(p^2 + (1 - p)^2)               [0, 1]
================  ==========================================  =====================

If it is wrong (y = 0), the same with 1 - p for p. Lower is better, 0 is best, and each is strictly
proper: the expected loss is smallest at the true probability and nowhere else. A label between 0
and 1 (a share of right answers) gives the expected loss, y x loss(right) + (1 - y) x loss(wrong);
every rule is linear in y. Losses come back one a row: weights, means and intervals are the
caller's. It does not know what the rows are, nor whether a model is trained on them.

Source: Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlog1py, xlogy

from poise.errors import UsageError

__all__ = ["RULES", "FloatArray", "Rule", "brier", "floored", "log_loss", "spherical"]

FloatArray = NDArray[np.float64]

Rule = Callable[[ArrayLike, ArrayLike], FloatArray]
"""A scoring rule: labels and probabilities, each (m,), to losses (m,)."""


def brier(y: ArrayLike, p: ArrayLike) -> FloatArray:
    """Squared error of each probability, in [0, 1].

    ``y`` labels and ``p`` probabilities, both in [0, 1] and of one shape (any), which is the
    result's. For a label y between 0 and 1 the expectation exceeds (p - y)^2 by y (1 - y), the
    part that no probability can remove. Raises UsageError for other values.
    """
    labels, stated = _both(y, p)
    loss: FloatArray = labels * (1 - stated) ** 2 + (1 - labels) * stated**2
    return loss


def log_loss(y: ArrayLike, p: ArrayLike, *, floor: float = 0.0) -> FloatArray:
    """Minus the natural logarithm of the probability given to the truth, in [0, infinity].

    ``y``, ``p`` as in ``brier``. A certainty that proves wrong costs infinity, and stays so unless
    ``floor``, in [0, 0.5), says otherwise: p is then moved into [floor, 1 - floor] first, and no
    loss exceeds -ln(floor). Raises UsageError for other values.
    """
    labels, stated = _both(y, p)
    stated = floored(stated, floor)
    loss: FloatArray = -(xlogy(labels, stated) + xlog1py(1 - labels, -stated))
    return loss


def floored(p: ArrayLike, floor: float) -> FloatArray:
    """``p``, in [0, 1], moved into [floor, 1 - floor]; raises UsageError unless floor < 0.5."""
    if not 0 <= floor < 0.5:
        raise UsageError(f"floor={floor!r}: must be at least 0 and below 0.5")
    return np.clip(_probabilities("p", p), floor, 1 - floor)


def spherical(y: ArrayLike, p: ArrayLike) -> FloatArray:
    """One minus the cosine between the forecast (p, 1 - p) and the truth, in [0, 1].

    ``y``, ``p`` as in ``brier``. Raises UsageError for other values.
    """
    labels, stated = _both(y, p)
    towards_truth = labels * stated + (1 - labels) * (1 - stated)
    loss: FloatArray = 1 - towards_truth / np.hypot(stated, 1 - stated)
    return loss


RULES: dict[str, Rule] = {"brier": brier, "log_loss": log_loss, "spherical": spherical}
"""Scoring rules by the name under which commands and configuration know them."""


def _both(y: ArrayLike, p: ArrayLike) -> tuple[FloatArray, FloatArray]:
    labels, stated = _probabilities("y", y), _probabilities("p", p)
    if labels.shape != stated.shape:
        raise UsageError(f"y has shape {labels.shape} and p {stated.shape}: give one label each")
    return labels, stated


def _probabilities(name: str, values: ArrayLike) -> FloatArray:
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{name}: not all of it is numbers; leave rows without one out") from None
    # NaN fails the comparison too; an empty array has no smallest value to compare.
    if found.size and not (found.min() >= 0 and found.max() <= 1):
        raise UsageError(f"{name}: every value must be a number from 0 to 1")
    return found
