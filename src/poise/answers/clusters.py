"""Same-answer clusters of one question's samples, grown in dispatch order.

A new answer joins the first cluster whose *first* member it equals, or founds one. Equivalence is
not transitive (0.333333 may equal 1/3 and 0.33333), so the order decides; dispatch order is the
one that is reproducible.

It does not know: gold answers, votes, or which cluster matters.
"""

from __future__ import annotations

from poise.answers import KINDS
from poise.types import Kind

__all__ = ["Clusters"]


class Clusters:
    """Clusters of the answers added so far; ``kind`` None: answers must be identical strings.

    ``add`` may take seconds where ``KINDS[kind].slow``. Not thread-safe: one question owns it.
    """

    def __init__(self, kind: Kind | None):
        self._kind = None if kind is None else KINDS[kind]
        self._clusters: list[int | None] = []
        self._counts: list[int] = []
        self._answers: list[str] = []
        # A string that was placed once is placed again without comparing: later clusters cannot
        # come before the one it joined.
        self._placed: dict[str, int] = {}

    def add(self, answer: str | None) -> int | None:
        """The cluster of the next sample's canonical ``answer``, numbered by first appearance.

        None where ``answer`` is None: an unreadable sample is drawn and votes for nothing.
        Raises UsageError when the kind's comparison needs a package that is not installed.
        """
        cluster = None if answer is None else self._place(answer)
        self._clusters.append(cluster)
        if cluster is not None:
            self._counts[cluster] += 1
        return cluster

    @property
    def clusters(self) -> tuple[int | None, ...]:
        """(n,) the cluster of each sample added, None where it was unreadable."""
        return tuple(self._clusters)

    @property
    def counts(self) -> tuple[int, ...]:
        """Votes by cluster; they sum to the number of readable samples."""
        return tuple(self._counts)

    @property
    def answers(self) -> tuple[str, ...]:
        """The canonical form of each cluster: its first member."""
        return tuple(self._answers)

    def _place(self, answer: str) -> int:
        if answer not in self._placed:
            cluster = self._first_same(answer)
            if cluster == len(self._answers):
                self._answers.append(answer)
                self._counts.append(0)
            self._placed[answer] = cluster
        return self._placed[answer]

    def _first_same(self, answer: str) -> int:
        """The first cluster whose first member is the same answer, else the next new number."""
        if self._kind is not None:
            for cluster, first in enumerate(self._answers):
                if self._kind.same(first, answer):
                    return cluster
        return len(self._answers)
