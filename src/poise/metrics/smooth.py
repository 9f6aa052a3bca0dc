"""Smooth calibration error: no bins, and no bandwidth to choose.

Residuals are spread over [0, 1] by a Gaussian that is reflected at both ends; the mean absolute
value of the result falls as the Gaussian widens, and the smooth error is the one value at which it
equals the width. On [0, 1] that Gaussian is the heat kernel with insulated ends, so a cosine
transform makes it a product: one transform for the residuals, one for each width tried. It does
not know intervals.

Source: Błasiok and Nakkiran, Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing,
2023 (arXiv 2309.12236), written from its formulas.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import dct, idct

from poise.metrics.rows import read, summed

__all__ = ["smooth_ece"]

GRID = 8192
"""Steps on [0, 1]; a residual is shared between its two neighbours, which moves nothing."""

STEPS = 30
"""Halvings of the width's interval: past the grid's own precision."""


def smooth_ece(y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The width at which the smoothed mean absolute residual equals the width, in [0, 1].

    ``y``, ``p`` (m,) in [0, 1]; ``sample_weight`` (m,) >= 0. Values below about 1 / 8192 are
    limited by the grid. Raises UsageError.
    """
    rows = read(y, p, sample_weight)
    residual = rows.weight * (rows.y - rows.p) / rows.weight.sum()
    place = rows.p * GRID
    left = np.minimum(place.astype(np.int64), GRID - 1)
    share = place - left
    mass = summed(residual * (1 - share), left, GRID + 1)
    mass += summed(residual * share, left + 1, GRID + 1)
    # The ends of the grid stand for half a step each: as densities they count twice.
    mass[[0, -1]] *= 2
    waves = dct(mass, type=1)
    speed = (np.pi * np.arange(GRID + 1)) ** 2 / 2

    def smoothed(width: float) -> float:
        density = idct(waves * np.exp(-speed * width**2), type=1)
        density[[0, -1]] /= 2
        return float(np.abs(density).sum())

    low, high = 0.0, 1.0
    for _ in range(STEPS):
        width = (low + high) / 2
        low, high = (width, high) if smoothed(width) > width else (low, width)
    return low
