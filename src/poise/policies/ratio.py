"""Stop when the leader has a given share of the votes: the simplest of the published rules.

Its flaw is known and kept, because it is what was published: two first samples that agree have a
ratio of 1, so they stop the rule whatever the threshold is. Posterior rules (``beta``,
``dirichlet``) know how little two votes say.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poise.columns import FloatArray
from poise.policies.bounds import count, level
from poise.policies.running import BoolArray, IntArray, first_verdict, votes_before
from poise.types import Draw, State, Stop, StopReason

__all__ = ["Ratio"]

FEWEST = 2
"""Votes below which no ratio is taken."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Stops as ``consensus`` when the leader's share of two or more votes >= ``threshold``.

    ``threshold`` in [0, 1]; the share is the rounded quotient, so 4 of 5 reach 0.8. Unreadable
    samples are in neither count. ``budget`` at ``max_samples`` (1..100,000). Source: the majority
    criterion of AdaptiveConsistency (Aggarwal et al. 2023, arXiv 2305.11860), "ASC" in Huang et al.
    2025, arXiv 2503.00031. Raises UsageError for parameters out of range.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    threshold: float = 0.8
    max_samples: int = 40

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", level(self.threshold))
        object.__setattr__(self, "max_samples", count("max_samples", self.max_samples))

    def decide(self, state: State) -> Draw | Stop:
        """Draws what the leader lacks if every further sample votes for it: the shortest way."""
        left = self.max_samples - state.n
        top, votes = state.top_two[0], sum(state.counts)

        def reached(more: int) -> bool:
            return votes + more >= FEWEST and (top + more) / (votes + more) >= self.threshold

        if left >= 0 and reached(0):
            return Stop(StopReason.CONSENSUS)
        if left <= 0:
            return Stop(StopReason.BUDGET)
        return Draw(bisect_left(range(left), x=True, key=reached))

    def stops(
        self,
        prefixes: IntArray,
        values: Mapping[str, FloatArray] | None = None,  # noqa: ARG002
    ) -> IntArray:
        """Where ``decide`` stops, (m,), for (m, N) prefixes as in ``StopRule.stops``."""
        return first_verdict(prefixes, self.max_samples, self._verdicts)

    def _verdicts(self, block: IntArray) -> Iterator[BoolArray]:
        top, votes = np.zeros(len(block), np.int64), np.zeros(len(block), np.int64)
        for before in votes_before(block):
            np.maximum(top, before + 1, out=top)
            votes += before >= 0
            yield (votes >= FEWEST) & (top / np.maximum(votes, 1) >= self.threshold)
