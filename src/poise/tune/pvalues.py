"""How surprising the losses of some questions would be if the true mean exceeded a bound.

Each function returns p for the hypothesis "the true mean is above the bound": where it is at or
above, p <= u happens with probability at most u, for every u, every n and every distribution of
independent rows in the stated range. A small p therefore certifies the bound.

=====================  ==========================  ============================================
function               rows                        rests on
=====================  ==========================  ============================================
``binomial``           0 or 1                      the exact tail P(Bin(n, bound) <= errors)
``hoeffding_bentkus``  any value in [0, 1]         the better of two tail inequalities
``betting``            anything with an upper end  the wealth of a gambler against the bound
=====================  ==========================  ============================================

Rows are independent, so a row is a question, not one of several orders of its samples. It does not
know policies, targets, or how many hypotheses are tested.

Sources: Clopper and Pearson 1934; Bates et al. 2021, arXiv 2101.02703, section 3 (Hoeffding and
Bentkus); Waudby-Smith and Ramdas 2024, J. R. Stat. Soc. B 86(1), section 4 (betting).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from poise.errors import UsageError
from poise.metrics.rows import column
from poise.scoring import FloatArray

__all__ = ["betting", "binomial", "hoeffding_bentkus"]

BOLDEST = 0.99
"""Share of the wealth at stake at most: a loss as large as can be leaves a hundredth."""


def binomial(errors: int, n: int, bound: float) -> float:
    """P(Binomial(n, bound) <= errors), for ``errors`` among ``n`` rows of 0 or 1; 1 where n is 0.

    ``bound`` in (0, 1). Exact: for 0/1 rows no valid p is smaller everywhere. Raises UsageError.
    """
    _inside(bound)
    if not 0 <= errors <= n:
        raise UsageError(f"errors={errors!r} of n={n!r}: must be from 0 to n")
    return float(binom.cdf(errors, n, bound))


def hoeffding_bentkus(losses: ArrayLike, bound: float) -> float:
    """The smaller of Hoeffding's and Bentkus's p, for rows (n,) in [0, 1], n >= 1.

    exp(-n KL(mean || bound)) and e P(Binomial(n, bound) <= ceil(n mean)); ``bound`` in (0, 1).
    Raises UsageError.
    """
    _inside(bound)
    rows = column("losses", losses, high=1)
    n, total = rows.size, math.fsum(rows)
    mean = min(total / n, bound)
    apart = (1 - mean) * math.log((1 - mean) / (1 - bound))
    if mean > 0:
        apart += mean * math.log(mean / bound)
    return float(min(1.0, math.exp(-n * apart), math.e * binom.cdf(math.ceil(total), n, bound)))


def betting(excess: ArrayLike, most: float, *, delta: float, start: ArrayLike = ()) -> float:
    """One over the most wealth that betting on "the mean of ``excess`` is below 0" ever reaches.

    ``excess`` (n,), n >= 1: rows less the bound, each at most ``most`` > 0, in an order that does
    not depend on their values. Wealth begins at 1 and each row multiplies it by 1 - bet x excess,
    the bet set before the row is seen. Where the mean is not below 0 that is a supermartingale, and
    its maximum is bounded by Ville's inequality. No lower end is needed. Bets go by n, so n is set
    beforehand: to test again whenever rows come in is another gambler each time, and not valid.
    ``start`` (k,): earlier independent rows, less the bound, whose variance the first bets go by;
    ``delta`` in (0, 1): the p that bets aim at. Both change power alone.
    Raises UsageError.
    """
    rows, before = np.asarray(excess, np.float64), np.asarray(start, np.float64)
    if rows.ndim != 1 or not rows.size or not np.isfinite(rows).all():
        raise UsageError(f"excess: must be one column of finite numbers, is {rows.shape}")
    if not 0 < most < math.inf or rows.max() > most:
        raise UsageError(f"excess up to {rows.max():g} with most={most:g}: most must bound it")
    if not 0 < delta < 1:
        raise UsageError(f"delta={delta!r}: must be above 0 and below 1")
    stake = np.sqrt(2 * math.log(1 / delta) / (rows.size * _variance(rows, before, most)))
    wealth = np.cumsum(np.log1p(-np.minimum(stake, BOLDEST / most) * rows))
    return math.exp(-max(0.0, float(wealth.max())))


def _variance(rows: FloatArray, before: FloatArray, most: float) -> FloatArray:
    """(n,) the variance of all that was seen before each row, with one imagined row added."""
    seen = np.concatenate([before, rows[:-1]])
    count = np.arange(before.size, seen.size + 1)
    total = np.concatenate([[0.0], np.cumsum(seen)])[before.size :]
    square = np.concatenate([[0.0], np.cumsum(seen**2)])[before.size :]
    spread = np.maximum(square - total**2 / np.maximum(count, 1), 0)
    # The imagined row keeps the bet finite while nothing has varied yet.
    return np.asarray((most**2 / 4 + spread) / (count + 1), np.float64)


def _inside(bound: float) -> None:
    if not 0 < bound < 1:
        raise UsageError(f"bound={bound!r}: must be above 0 and below 1")
