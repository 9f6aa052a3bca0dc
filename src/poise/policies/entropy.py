"""Stop when the votes are spread over few of the answers seen: their entropy by its greatest.

Two flaws come with the published definition and are kept. Dividing by the logarithm of how many
answers were seen lets one stray answer end a dead heat: 20 votes to 20 have the ratio 1, 20 to 20
to 1 have 0.72, which is below the default threshold. And a single answer has no ratio of its own,
so it is given one vote against it that nobody cast.

The rule does not know how many samples the votes are: 30 to 10 looks to it like 3 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from poise.columns import FloatArray
from poise.policies.bounds import count, level
from poise.policies.running import BoolArray, IntArray, first_verdict, votes_before
from poise.types import Draw, State, Stop, StopReason

__all__ = ["Entropy"]

FEWEST = 2
"""Votes below which no entropy is taken."""

AHEAD = 16
"""How far ahead a stop is looked for: beyond it, only that none is nearer is known."""

UNIT = 1 << 40
"""Parts of a bit that c log2 c is counted in, so that sums do not depend on their order."""


@dataclass(frozen=True, slots=True)
class Entropy:
    """Stops as ``consensus`` when H2(votes) / log2(answers seen) <= ``threshold``, from two votes.

    ``threshold`` in [0, 1); the ratio is within 1e-11 of exact, and exact where it is a matter of
    powers of two. One answer with n votes counts as n to 1. Unreadable samples are no votes.
    ``budget`` at ``max_samples`` (1..100,000). Source: the entropy criterion of
    AdaptiveConsistency, Aggarwal et al. 2023, arXiv 2305.11860. Raises UsageError for parameters
    out of range.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    threshold: float = 0.75
    max_samples: int = 40

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", level(self.threshold, short=True))
        object.__setattr__(self, "max_samples", count("max_samples", self.max_samples))

    def decide(self, state: State) -> Draw | Stop:
        """Draws to the nearest stop, at most 17 ahead.

        Of all ways to cast a number of votes that bring so many new answers, the one that leaves
        least entropy gives each of those one vote and the rest to the leader; so it is enough to
        try every number of new answers.
        """
        left = self.max_samples - state.n
        if left >= 0 and self._reached(state.counts):
            return Stop(StopReason.CONSENSUS)
        if left <= 0:
            return Stop(StopReason.BUDGET)
        top, *others = sorted(state.counts, reverse=True) or [0]
        for more in range(1, min(left, AHEAD) + 1):
            for new in range(more + 1):
                counts = (top + more - new, *others, *[1] * new)
                if self._reached(tuple(votes for votes in counts if votes)):
                    return Draw(more)
        return Draw(min(left, AHEAD + 1))

    def stops(
        self,
        prefixes: IntArray,
        values: Mapping[str, FloatArray] | None = None,  # noqa: ARG002
    ) -> IntArray:
        """Where ``decide`` stops, (m,), for (m, N) prefixes as in ``StopRule.stops``."""
        return first_verdict(prefixes, self.max_samples, self._verdicts)

    def _reached(self, counts: tuple[int, ...]) -> bool:
        votes, answers = sum(counts), len(counts)
        if votes < FEWEST:
            return False
        terms = _terms(self.max_samples)
        told = sum(int(terms[each]) for each in counts)
        if answers == 1:
            votes, answers = votes + 1, 2
        entropy = float(int(terms[votes]) - told)
        return entropy <= self.threshold * votes * (float(terms[answers]) / answers)

    def _verdicts(self, block: IntArray) -> Iterator[BoolArray]:
        terms = _terms(self.max_samples)
        growth = np.diff(terms)
        told, cast = np.zeros(len(block), np.int64), np.zeros(len(block), np.int64)
        seen = np.zeros(len(block), np.int64)
        for before in votes_before(block):
            read = before >= 0
            told += np.where(read, growth.take(np.maximum(before, 0)), 0)
            cast += read
            seen += before == 0
            votes, answers = cast + (seen == 1), np.maximum(seen, 2)
            entropy = terms.take(votes) - told
            bound = self.threshold * votes * (terms.take(answers) / answers)
            yield (cast >= FEWEST) & (entropy <= bound)


@lru_cache(maxsize=16)
def _terms(max_samples: int) -> IntArray:
    """Parts of a bit in c log2 c, for c from 0 to one more than may be drawn; read-only."""
    counts = np.arange(max_samples + 2, dtype=np.float64)
    terms = np.rint(counts * np.log2(np.maximum(counts, 1)) * UNIT).astype(np.int64)
    terms.flags.writeable = False
    return terms
