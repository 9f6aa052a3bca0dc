"""Intervals over questions: whole questions are drawn with replacement, all columns together.

Equal seeds give equal intervals, and everything that is compared is seen on the same draws. It does
not know what the columns mean.
"""

from __future__ import annotations

import numpy as np

from poise.metrics import Estimate
from poise.replay.orders import FloatArray

__all__ = ["Resamples"]

LEAST_QUESTIONS = 10
"""With fewer, percentiles of resamples say little, and no interval is given."""

BLOCK_CELLS = 1 << 22


class Resamples:
    """``replicates`` draws of q questions, kept as how often each came, (replicates, q)."""

    def __init__(self, questions: int, replicates: int, seed: int, level: float = 0.95):
        self.questions, self._level = questions, level
        rng = np.random.default_rng(seed)
        self._counts = np.empty((replicates, questions), np.float32)
        step = max(1, BLOCK_CELLS // max(1, questions))
        for begin in range(0, replicates, step):
            size = min(step, replicates - begin)
            drawn = rng.integers(0, questions, (size, questions))
            drawn += (np.arange(size) * questions)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=size * questions)
            self._counts[begin : begin + size] = counts.reshape(size, questions)

    def means(self, columns: FloatArray) -> FloatArray:
        """Mean over each draw, (replicates, k), of ``columns`` (q, k) or (q,)."""
        means: FloatArray = self._counts @ columns.reshape(self.questions, -1) / self.questions
        return means

    def estimate(self, value: float, spread: FloatArray) -> Estimate:
        """``value`` with the percentile interval of ``spread`` (replicates,)."""
        if self.questions < LEAST_QUESTIONS:
            reason = f"{self.questions} questions; an interval needs {LEAST_QUESTIONS}"
            return Estimate(value, reason=reason)
        if not len(spread):
            return Estimate(value)
        ends = np.quantile(spread, [(1 - self._level) / 2, (1 + self._level) / 2])
        return Estimate(value, (float(ends[0]), float(ends[1])))

    def mean(self, column: FloatArray) -> Estimate:
        """The mean of ``column`` (q,) with its interval."""
        return self.estimate(float(column.mean()), self.means(column)[:, 0])
