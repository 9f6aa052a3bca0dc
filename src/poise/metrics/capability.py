"""How far a stated capability is from the expected accuracy mu(x), which is only seen by samples.

k right of n samples give the rate m = k/n, whose own variance m(1 - m)/(n - 1), estimated without
bias, is taken off: what remains estimates the error to mu itself. It does not know intervals;
``terms`` gives what a bootstrap over questions needs.

Source: Yang et al. 2026 (arXiv 2602.13540) for the target; the correction is the usual one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from poise.errors import UsageError
from poise.metrics.estimate import Estimate
from poise.metrics.rows import column
from poise.scoring import FloatArray

__all__ = ["mse_to_mu", "terms"]


def mse_to_mu(
    capability: ArrayLike,
    right: ArrayLike,
    n: ArrayLike,
    sample_weight: ArrayLike | None = None,
) -> Estimate:
    """Unbiased estimate of the mean of (capability - mu)^2; near 0 it can be negative.

    One row a question: ``capability`` (q,) in [0, 1]; ``right`` (q,) right samples of ``n`` (q,),
    0 <= right <= n, whole; ``sample_weight`` (q,) >= 0. Value None where a question has fewer than
    two samples, as its sampling error cannot be told. Raises UsageError.
    """
    if np.any(column("n", n) < 2):
        few = int(np.count_nonzero(column("n", n) < 2))
        return Estimate(None, reason=f"{few} questions have fewer than two samples")
    value = terms(capability, right, n)
    weight = (
        np.ones(value.size) if sample_weight is None else column("sample_weight", sample_weight)
    )
    if weight.size != value.size or not weight.any():
        raise UsageError("sample_weight: must be one for each question, and not all 0")
    return Estimate(float(np.average(value, weights=weight)))


def terms(capability: ArrayLike, right: ArrayLike, n: ArrayLike) -> FloatArray:
    """Each question's unbiased term (c - k/n)^2 - m(1 - m)/(n - 1), (q,); n >= 2 everywhere.

    Arguments and errors as in ``mse_to_mu``.
    """
    stated, hits, drawn = (
        column("capability", capability, high=1),
        column("right", right),
        column("n", n),
    )
    if not stated.size == hits.size == drawn.size:
        raise UsageError("capability, right and n must have one row for each question")
    if np.any(hits > drawn) or np.any(hits % 1) or np.any(drawn % 1) or np.any(drawn < 2):
        raise UsageError("right and n must be whole, n at least 2 and right at most n")
    rate = hits / drawn
    value: FloatArray = (stated - rate) ** 2 - rate * (1 - rate) / (drawn - 1)
    return value
