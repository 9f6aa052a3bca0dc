"""How far the samples agree: four numbers from the vote counts alone.

A sample whose answer could not be read counts as drawn, never as a vote, and as unlike every other.
None of the four depends on the order of the samples, but for which of equal leaders is meant.

They do not know what the answers are, how sure any sample is, or whether the samples are
independent draws: identical replays agree too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from poise.signals.evidence import Evidence
from poise.signals.running import FloatArray, IntArray, over_counts

__all__ = ["Agreement", "Margin", "Negentropy", "Repetition"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The leader's votes by the samples drawn: [0, 1], never quite 0.

    Raises MissingEvidence below two samples and where none could be read. Source:
    self-consistency, Wang et al. 2022, arXiv 2203.11171.
    """

    name: ClassVar[str] = "agreement"
    level: ClassVar[Literal["pool"]] = "pool"
    needs: ClassVar[tuple[str, ...]] = ("answers",)
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    reads: ClassVar[None] = None

    def __call__(self, evidence: Evidence) -> float:
        """The share in ``evidence``."""
        _, votes = evidence.elected()
        return votes / evidence.n

    def over_prefixes(self, codes: IntArray, values: FloatArray | None = None) -> FloatArray:  # noqa: ARG002
        """(m, N) as in ``PrefixSignal.over_prefixes``; ``values`` are not read."""
        return over_counts(codes, lambda counts, n: counts.max(axis=1) / n)


@dataclass(frozen=True, slots=True)
class Margin:
    """Votes of the leader less those of the best other cluster, by the samples drawn: [-1, 1].

    Below 0 only where a vote other than the majority elected the leader. Raises MissingEvidence
    below two samples and where none could be read.
    """

    name: ClassVar[str] = "margin"
    level: ClassVar[Literal["pool"]] = "pool"
    needs: ClassVar[tuple[str, ...]] = ("answers",)
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    reads: ClassVar[None] = None

    def __call__(self, evidence: Evidence) -> float:
        """The margin in ``evidence``."""
        leader, votes = evidence.elected()
        others = (count for cluster, count in enumerate(evidence.counts) if cluster != leader)
        return (votes - max(others, default=0)) / evidence.n

    def over_prefixes(self, codes: IntArray, values: FloatArray | None = None) -> FloatArray:  # noqa: ARG002
        """(m, N) as in ``PrefixSignal.over_prefixes``; ``values`` are not read."""

        def margin(counts: FloatArray, n: int) -> FloatArray:
            if counts.shape[1] == 1:
                return counts[:, 0] / n
            top = np.partition(counts, -2, axis=1)[:, -2:]
            difference: FloatArray = (top[:, 1] - top[:, 0]) / n
            return difference

        return over_counts(codes, margin)


@dataclass(frozen=True, slots=True)
class Negentropy:
    """One less the Shannon entropy H of the votes by the most it could be, 1 - H / log n: [0, 1].

    1 where all samples agree, 0 where no two do; each unreadable sample is an answer of its own.
    With c the counts this is sum(c log c) / (n log n). Raises MissingEvidence below two samples and
    where none could be read.
    """

    name: ClassVar[str] = "negentropy"
    level: ClassVar[Literal["pool"]] = "pool"
    needs: ClassVar[tuple[str, ...]] = ("answers",)
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    reads: ClassVar[None] = None

    def __call__(self, evidence: Evidence) -> float:
        """The share of the greatest entropy that is not there in ``evidence``."""
        evidence.elected()
        # An unreadable sample adds 1 log 1 = 0, so the counts of the readable ones are enough.
        told = sum(count * math.log(count) for count in evidence.counts)
        return told / (evidence.n * math.log(evidence.n))

    def over_prefixes(self, codes: IntArray, values: FloatArray | None = None) -> FloatArray:  # noqa: ARG002
        """(m, N) as in ``PrefixSignal.over_prefixes``; ``values`` are not read."""

        def negentropy(counts: FloatArray, n: int) -> FloatArray:
            told: FloatArray = (counts * np.log(np.maximum(counts, 1.0))).sum(axis=1)
            return told / (n * math.log(n))

        return over_counts(codes, negentropy)


@dataclass(frozen=True, slots=True)
class Repetition:
    """How many samples repeat an earlier answer, by how many could (all but the first): [0, 1].

    The number of distinct answers, turned so that few of them are surer: 1 - (distinct - 1) /
    (n - 1) where every sample was readable. Raises MissingEvidence below two samples and where none
    could be read.
    """

    name: ClassVar[str] = "repetition"
    level: ClassVar[Literal["pool"]] = "pool"
    needs: ClassVar[tuple[str, ...]] = ("answers",)
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    reads: ClassVar[None] = None

    def __call__(self, evidence: Evidence) -> float:
        """The share of repeats in ``evidence``."""
        evidence.elected()
        return (sum(evidence.counts) - len(evidence.counts)) / (evidence.n - 1)

    def over_prefixes(self, codes: IntArray, values: FloatArray | None = None) -> FloatArray:  # noqa: ARG002
        """(m, N) as in ``PrefixSignal.over_prefixes``; ``values`` are not read."""

        def repetition(counts: FloatArray, n: int) -> FloatArray:
            repeats: FloatArray = np.maximum(counts - 1, 0.0).sum(axis=1)
            return repeats / (n - 1)

        return over_counts(codes, repetition)
