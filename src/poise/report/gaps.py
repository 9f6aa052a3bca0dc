"""How far what was stated is from what was right, and which gaps are more than chance.

A gap is mean stated probability - share right: above 0 is over-confident. Its p-value is for the
question "were the stated probabilities exactly true?": exact (a sum of unequal coins) where every
row is a question of its own and right or wrong, else Student's t on the questions' sums. There, and
for intervals, the greater of two variances counts: the one seen between questions, and the one that
the stated probabilities imply; so that thirty right answers of thirty do not look like certainty.
Rows of one question are then taken to be right or wrong together, as far as they can be: one draw.

Many gaps are looked at, so Holm's rule decides: if all probabilities were true, the chance that any
gap on the card is marked is at most ``LEVEL``. It does not know which parts of the data there are.

Sources: Holm, A simple sequentially rejective multiple test procedure, 1979; Agresti and Coull 1998
(one right and one wrong added, here to the implied variance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaln, stdtr, stdtrit, xlog1py, xlogy

from poise.metrics import Estimate
from poise.metrics.rows import Rows, summed
from poise.scoring import FloatArray

__all__ = ["LEAST_QUESTIONS", "LEVEL", "Gap", "gap", "marked"]

LEAST_QUESTIONS = 20
"""With fewer, a gap is not judged: only one of half the range would stand out."""

LEVEL = 0.05

CELLS = 1000
"""Probabilities closer than 1 / CELLS are one coin of their mean; it overstates the variance."""

NOTHING = 1e-18
"""Probability of a count that is left out of the sum of coins."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Some rows: how many, of how many questions, share ``right``, mean ``stated``.

    ``difference``: stated - right with its 95 % interval; value None below ``LEAST_QUESTIONS``.
    ``p_value``: chance of a gap so large if the stated probabilities were true, None where not
    judged; ``beyond_chance``: what ``marked`` decided.
    """

    rows: int
    questions: int
    right: float
    stated: float
    difference: Estimate
    p_value: float | None = None
    beyond_chance: bool = False

    @property
    def over_confident(self) -> bool:
        """Whether more was stated than was right, beyond chance."""
        return self.beyond_chance and self.stated > self.right


def gap(rows: Rows) -> Gap:
    """The gap on ``rows`` (m >= 1, weights 1), not yet ``marked``."""
    right, stated = float(rows.y.mean()), float(rows.p.mean())
    counted = (rows.y.size, rows.questions, right, stated)
    if rows.questions < LEAST_QUESTIONS:
        reason = f"{rows.questions} questions; at least {LEAST_QUESTIONS} are needed"
        return Gap(*counted, Estimate(None, reason=reason))
    q, value = rows.questions, stated - right
    seen = _seen_variance(rows)
    added = (q * rows.p + 1) / (q + 2)
    variance = max(seen, _implied_variance(rows, added))
    half = float(stdtrit(q - 1, 0.975)) * np.sqrt(variance) / rows.y.size
    low, high = max(value - half, stated - 1), min(value + half, stated)
    return Gap(*counted, Estimate(value, (float(low), float(high))), _p_value(rows, seen))


def marked(gaps: Sequence[Gap], level: float = LEVEL) -> tuple[Gap, ...]:
    """The same gaps, ``beyond_chance`` decided over all of them by Holm's rule."""
    judged = [i for i, one in enumerate(gaps) if one.p_value is not None]
    judged.sort(key=lambda i: gaps[i].p_value or 0.0)
    beyond: set[int] = set()
    for place, i in enumerate(judged):
        if (gaps[i].p_value or 0.0) > level / (len(judged) - place):
            break
        beyond.add(i)
    return tuple(replace(one, beyond_chance=i in beyond) for i, one in enumerate(gaps))


def _seen_variance(rows: Rows) -> float:
    """Variance of the sum of stated - right over the rows, from its spread between questions."""
    residual = rows.p - rows.y
    size = summed(np.ones(rows.y.size), rows.question, rows.questions)
    spread = summed(residual, rows.question, rows.questions) - residual.mean() * size
    return float(np.sum(spread**2) * rows.questions / (rows.questions - 1))


def _implied_variance(rows: Rows, p: FloatArray) -> float:
    """The greatest variance of the sum of right rows, were ``p`` (m,) their probabilities.

    A share's variance is at most that of one coin, p (1 - p).
    """
    together = summed(np.sqrt(p * (1 - p)), rows.question, rows.questions)
    return float(np.sum(together**2))


def _p_value(rows: Rows, seen: float) -> float:
    if rows.single and np.isin(rows.y, (0, 1)).all():
        return _exact(round(float(rows.y.sum())), rows.p)
    variance = max(seen, _implied_variance(rows, rows.p))
    total = float(np.sum(rows.p - rows.y))
    if variance == 0:
        return 1.0 if total == 0 else 0.0
    return float(2 * stdtr(rows.questions - 1, -abs(total) / np.sqrt(variance)))


def _exact(right: int, p: FloatArray) -> float:
    """Two-sided chance of a count as far out as ``right`` among independent coins ``p`` (m,)."""
    cell = np.minimum((p * CELLS).astype(np.int64), CELLS - 1)
    _, of, n = np.unique(cell, return_inverse=True, return_counts=True)
    mean = np.clip(summed(p, of, n.size) / n, 0, 1)
    chance, first = np.ones(1), 0
    for coins, probability in zip(n, mean, strict=True):
        some, offset = _trimmed(_binomial(int(coins), float(probability)))
        chance, trimmed = _trimmed(np.convolve(chance, some))
        first += offset + trimmed
    count = first + np.arange(chance.size)
    tails = (chance[count <= right].sum(), chance[count >= right].sum())
    return float(min(1.0, 2 * min(tails)))


def _binomial(n: int, p: float) -> FloatArray:
    k = np.arange(n + 1)
    ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    chance: FloatArray = np.exp(ways + xlogy(k, p) + xlog1py(n - k, -p))
    return chance


def _trimmed(chance: FloatArray) -> tuple[FloatArray, int]:
    """``chance`` without the ends that add nothing, and how many counts were cut at the start."""
    kept = np.flatnonzero(chance > NOTHING)
    return chance[kept[0] : kept[-1] + 1], int(kept[0])
