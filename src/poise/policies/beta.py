"""Adaptive-Consistency's Beta rule: stop when the leader is probably ahead for good.

With a >= b the votes of the top two and a flat prior, the share of the leader among the two is
Beta(a + 1, b + 1), and the rule asks how probably it exceeds one half:

    P(a, b) = 1 - I_1/2(a + 1, b + 1) = 1 - sum_{j <= b} C(a + b + 1, j) / 2^(a + b + 1)

The second form (a Beta tail with whole parameters is a binomial tail) is a ratio of whole numbers,
so the rule is decided exactly, also where a threshold lies right on a value of P.

P is a signal that steers sampling. It is not the probability that the answer is correct, and the
rule does not know that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from poise.columns import FloatArray
from poise.errors import UsageError
from poise.policies.bounds import count
from poise.policies.running import BoolArray, IntArray, first_stop
from poise.types import Draw, State, Stop, StopReason

__all__ = ["Beta", "votes_needed"]


@dataclass(frozen=True, slots=True)
class Beta:
    """Stops as ``sure`` when P(a, b) >= ``threshold``, as ``budget`` at ``max_samples``.

    ``threshold`` in [0.5, 1): P is never below one half, and never reaches one. Unanimous samples
    stop at n when 1 - 2^-(n + 1) >= threshold: at 4 for .95. ``max_samples`` 1..100,000. Source:
    Aggarwal et al. 2023, arXiv 2305.11860. Raises UsageError for parameters out of range.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    threshold: float = 0.95
    max_samples: int = 40

    def __post_init__(self) -> None:
        if not isinstance(self.threshold, float) or not 0.5 <= self.threshold < 1:
            raise UsageError(
                f"threshold={self.threshold!r}: must be at least 0.5 and below 1 "
                "(for a rule that never stops early, take fixed)"
            )
        object.__setattr__(self, "threshold", float(self.threshold))
        object.__setattr__(self, "max_samples", count("max_samples", self.max_samples))

    def decide(self, state: State) -> Draw | Stop:
        """Draws what the leader lacks if every further sample votes for it: the fewest that help.

        Any other course is longer: a runner-up never loses votes, so the votes a leader needs only
        grow, and no cluster has fewer to go than the one in front.
        """
        left = self.max_samples - state.n
        if left < 0:
            return Stop(StopReason.BUDGET)
        leader, runner_up = state.top_two
        lacking = int(votes_needed(self.threshold, self.max_samples)[runner_up]) - leader
        if lacking <= 0:
            return Stop(StopReason.SURE)
        return Draw(min(lacking, left)) if left else Stop(StopReason.BUDGET)

    def stops(
        self,
        prefixes: IntArray,
        values: Mapping[str, FloatArray] | None = None,  # noqa: ARG002
    ) -> IntArray:
        """Where ``decide`` stops, (m,), for (m, N) prefixes as in ``StopRule.stops``."""
        needed = votes_needed(self.threshold, self.max_samples)

        def sure(leader: IntArray, runner_up: IntArray) -> BoolArray:
            return leader >= needed.take(runner_up)

        return first_stop(prefixes, self.max_samples, sure)


@lru_cache(maxsize=256)
def votes_needed(threshold: float, max_samples: int) -> IntArray:
    """The fewest votes a with P(a, b) >= ``threshold``, for every b <= ``max_samples`` / 2.

    Read-only, (max_samples // 2 + 1,); ``max_samples`` + 1 where no leader can get there. The walk
    goes up the staircase of the stopping region, one vote a step, and keeps sum and coefficient by
    the two recurrences of Pascal's triangle.
    """
    needed = np.full(max_samples // 2 + 1, max_samples + 1, np.int32)
    above, below = threshold.as_integer_ratio()
    a, b = 1, 0
    row, coefficient, tail = 2, 1, 1  # a + b + 1, C(row, b), sum_{j <= b} C(row, j)
    while a + b <= max_samples:
        enough = tail * below <= (below - above) << row
        tail, coefficient = 2 * tail - coefficient, coefficient * (row + 1) // (row + 1 - b)
        row += 1
        if not enough:
            a += 1
            continue
        needed[b] = a
        coefficient = coefficient * (row - b) // (b + 1)
        tail, b = tail + coefficient, b + 1
    needed.flags.writeable = False
    return needed
