"""Majority vote: one sample, one vote.

It does not know how sure any sample is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from poise.errors import UsageError
from poise.types import State

__all__ = ["IntArray", "Majority"]

IntArray = npt.NDArray[np.integer[Any]]
"""An array of integers of any width."""

BLOCK_CELLS = 1 << 20
"""Most samples counted at once: it bounds memory."""


@dataclass(frozen=True, slots=True)
class Majority:
    """Most votes win; a tie goes to the cluster seen first in dispatch order.

    Source: self-consistency, Wang et al. 2022, arXiv 2203.11171.
    """

    def elect(self, state: State) -> int | None:
        """The winning cluster, or None where no sample could be read."""
        # Clusters are numbered by first appearance and max() keeps the first of equals.
        return max(range(len(state.counts)), key=state.counts.__getitem__, default=None)

    def elect_all(self, prefixes: IntArray, n: IntArray) -> IntArray:
        """Winners (m,) of the first ``n`` samples, -1 for none; arrays as in ``Vote.elect_all``."""
        _check(prefixes, n)
        columns = prefixes.shape[1]
        size = max(1, BLOCK_CELLS // max(1, columns))
        winners = np.full(len(prefixes), -1, np.int64)
        for start in range(0, len(prefixes), size):
            block = prefixes[start : start + size]
            voted = (block >= 0) & (np.arange(columns) < n[start : start + size, None])
            row, column = np.nonzero(voted)
            slots = columns or 1
            counts = np.bincount(row * slots + block[row, column], minlength=len(block) * slots)
            counts = counts.reshape(len(block), slots)
            winners[start : start + size] = np.where(counts.any(1), counts.argmax(1), -1)
        return winners


def _check(prefixes: IntArray, n: IntArray) -> None:
    if prefixes.ndim != 2 or prefixes.dtype.kind != "i" or n.shape != prefixes.shape[:1]:
        raise UsageError(
            f"prefixes of shape {prefixes.shape} and type {prefixes.dtype} with n of shape "
            f"{n.shape}: must be signed integers (questions, samples) and one n a question"
        )
    columns = prefixes.shape[1]
    if n.size and not 0 <= n.min() <= n.max() <= columns:
        raise UsageError(f"n from {n.min()} to {n.max()}: must be from 0 to {columns} samples")
    if prefixes.size and not -1 <= prefixes.min() <= prefixes.max() < columns:
        raise UsageError(
            f"prefixes hold the ids {prefixes.min()} to {prefixes.max()} in {columns} samples: "
            "number the clusters from 0 by first appearance, -1 for an unreadable answer"
        )
