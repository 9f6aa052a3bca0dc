"""Adaptive-Consistency's Dirichlet rule: stop when the leader is probably the likeliest answer.

With c_1 >= c_2 >= ... the votes of the five answers that have most and a flat prior, the answers'
shares are Dirichlet(c_1 + 1, c_2 + 1, ...), and the rule asks how probably the first is greatest.
Shares are independent Gammas over their sum, so with f and F the density and distribution function
of Gamma(c + 1) this is one integral, for which the published code draws random points:

    P(c) = integral of f_1(x) F_2(x) F_3(x) ... dx over x > 0

Here it is the trapezoid rule in u = sqrt(x), in which every Gamma is about equally wide (standard
deviation one half) and the integrand dies out at both ends, so that the rule converges faster than
any power of its step: P is within 1e-12 (compared with exact fractions in the tests). Below three
answers P is Beta's, decided in whole numbers.

P is a signal that steers sampling, not the probability that the answer is correct. The rule gives
no room to answers that were not seen yet, nor to those beyond the fifth.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from scipy.special import gammainc, gammaln

from poise.columns import FloatArray
from poise.policies.beta import votes_needed
from poise.policies.bounds import count, level
from poise.policies.running import BoolArray, IntArray, first_verdict, votes_before
from poise.types import Draw, State, Stop, StopReason

__all__ = ["Dirichlet", "leads"]

TOP = 5
"""Answers that are compared, as published."""

MOST = 1_000
"""Most samples: the tables of the integral grow with them."""

STEP, BEYOND = 0.1, 7.0
"""Of the trapezoid rule in sqrt(x), and how far it reaches past the greatest Gamma's centre."""

BLOCK_ROWS = 512
"""States integrated at once: it bounds memory."""


@dataclass(frozen=True, slots=True)
class Dirichlet:
    """Stops as ``sure`` when P(votes of the top five) >= ``threshold``.

    ``threshold`` in [0.5, 1). ``budget`` at ``max_samples`` (1..1,000). Unreadable samples are no
    votes. Source: Aggarwal et al. 2023, arXiv 2305.11860, equation 1. Raises UsageError for
    parameters out of range.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    threshold: float = 0.95
    max_samples: int = 40

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", level(self.threshold, 0.5, short=True))
        object.__setattr__(self, "max_samples", count("max_samples", self.max_samples, MOST))

    def decide(self, state: State) -> Draw | Stop:
        """Draws what the leader lacks if every further sample votes for it: the fewest that help.

        P grows with the leader's votes and falls with every other's, so no other course is shorter.
        """
        left = self.max_samples - state.n
        if left < 0:
            return Stop(StopReason.BUDGET)
        top = sorted(state.counts, reverse=True)[:TOP]
        leader, *others = *top, *[0] * (TOP - len(top))

        def sure(more: int) -> bool:
            row = np.array([[leader + more, *others]])
            return bool(self._sure(row)[0])

        if sure(0):
            return Stop(StopReason.SURE)
        if not left:
            return Stop(StopReason.BUDGET)
        return Draw(bisect_left(range(left), x=True, key=sure))

    def stops(
        self,
        prefixes: IntArray,
        values: Mapping[str, FloatArray] | None = None,  # noqa: ARG002
    ) -> IntArray:
        """Where ``decide`` stops, (m,), for (m, N) prefixes as in ``StopRule.stops``."""
        known: dict[int, bool] = {}
        return first_verdict(prefixes, self.max_samples, lambda block: self._verdicts(block, known))

    def _verdicts(self, block: IntArray, known: dict[int, bool]) -> Iterator[BoolArray]:
        """``known``: verdicts by state, which repeat all over the prefixes."""
        top = np.zeros((len(block), TOP), np.int64)
        rows = np.arange(len(block))
        radix = (self.max_samples + 1) ** np.arange(TOP, dtype=np.int64)
        for before in votes_before(block):
            # One more vote for the first of those that have as many keeps the top sorted.
            same = top == before[:, None]
            place = same.argmax(axis=1)
            top[rows, place] += same[rows, place]
            states, first, which = np.unique(top @ radix, return_index=True, return_inverse=True)
            new = np.array([state not in known for state in states.tolist()])
            if new.any():
                sure = self._sure(top[first[new]])
                known.update(zip(states[new].tolist(), sure.tolist(), strict=True))
            yield np.array([known[state] for state in states.tolist()])[which]

    def _sure(self, top: IntArray) -> BoolArray:
        """Whether the leader is, for (r, 5) votes, most first, 0 where there are fewer answers."""
        needed = votes_needed(self.threshold, self.max_samples)
        sure: BoolArray = top[:, 0] >= needed.take(top[:, 1])
        many = np.flatnonzero(top[:, 2])
        for start in range(0, many.size, BLOCK_ROWS):
            some = many[start : start + BLOCK_ROWS]
            sure[some] = leads(top[some], self.max_samples) >= self.threshold
        return sure


def leads(top: IntArray, max_samples: int) -> FloatArray:
    """P that the first share is the greatest, (r,), for (r, k) votes, most first, 0 for none.

    An answer without votes is no answer and is left out; the first must have some. No count may be
    above ``max_samples``, which also fixes the points of the rule: the same votes give the same
    bits, however many rows they come with.
    """
    density, below = _tables(max_samples)
    integrand = density[top[:, 0]]
    for others in top.T[1:]:
        integrand = integrand * below[others]
    summed: FloatArray = integrand.sum(axis=1)
    return summed


@lru_cache(maxsize=4)
def _tables(max_samples: int) -> tuple[FloatArray, FloatArray]:
    """Weighted density and distribution function of Gamma(c + 1) at the points, (c, points) each.

    Row 0 of the second is 1, for answers that are not there. Read-only.
    """
    points = np.arange(STEP, math.sqrt(max_samples + 1) + BEYOND, STEP)
    counts = np.arange(max_samples + 1.0)[:, None]
    x = points**2
    density = np.exp(counts * np.log(x) - x - gammaln(counts + 1)) * 2 * points * STEP
    below = gammainc(counts + 1, x)
    below[0] = 1
    density.flags.writeable = below.flags.writeable = False
    return density, below
