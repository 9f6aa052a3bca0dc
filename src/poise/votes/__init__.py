"""Votes: which cluster of equal answers wins.

==============  ====================================================
name            elects
==============  ====================================================
``majority``    the cluster with most samples, ties to the first seen
==============  ====================================================

To add a vote: one file here and one entry in ``VOTES``; the contract test then holds its two forms
equal. It does not know: when sampling stops, what becomes of the winner, or which answer is right.
"""

from __future__ import annotations

from typing import Protocol

from poise.types import State
from poise.votes.majority import IntArray, Majority

__all__ = ["VOTES", "IntArray", "Majority", "Vote"]


class Vote(Protocol):
    """Elects one cluster of a prefix."""

    def elect(self, state: State) -> int | None:
        """The winning cluster, or None where no sample could be read; pure in ``state``."""

    def elect_all(self, prefixes: IntArray, n: IntArray) -> IntArray:
        """The array form: the winner of the first ``n[i]`` samples of question i.

        ``prefixes`` (m, N) signed integers: the cluster of each sample, numbered from 0 by first
        appearance, -1 where the answer was unreadable. ``n`` (m,) in 0..N. Returns (m,) cluster
        ids, -1 where ``elect`` gives None. Raises UsageError for any other array.
        """


VOTES: dict[str, type[Vote]] = {"majority": Majority}
"""Votes by the name under which commands and configuration know them."""
