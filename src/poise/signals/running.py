"""Vote counts and sums by cluster, growing column by column for many questions at once.

It does not know what a signal makes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from poise.errors import UsageError

__all__ = ["FloatArray", "IntArray", "over_counts", "over_leaders"]

IntArray = npt.NDArray[np.integer[Any]]
"""An array of integers of any width."""

FloatArray = npt.NDArray[np.float64]
"""An array of floats; nan stands for missing evidence inside array forms only."""

BLOCK_CELLS = 1 << 20
"""Most (question, cluster) cells counted at once: it bounds memory."""


def over_counts(codes: IntArray, value: Callable[[FloatArray, int], FloatArray]) -> FloatArray:
    """``value`` of the counts after each sample, (m, N); nan where nothing can be compared.

    ``codes`` (m, N) signed integers: the cluster of each sample, numbered from 0 by first
    appearance, -1 where the answer was unreadable. ``value`` takes the counts (r, K) of r questions
    with a readable answer and how many samples were drawn, 2 or more, and gives (r,). Raises
    UsageError for any other array.
    """
    _check(codes)
    found = np.full(codes.shape, np.nan)
    for rows in _blocks(codes):
        block = codes[rows]
        counts = np.zeros((len(block), _clusters(block)))
        for column in range(block.shape[1]):
            _add(counts, block[:, column], 1.0)
            read = counts.any(axis=1)
            if column and read.any():
                found[rows, column][read] = value(counts[read], column + 1)
    return found


def over_leaders(codes: IntArray, values: FloatArray) -> FloatArray:
    """The mean of ``values`` over the leader's samples after each sample, (m, N).

    ``codes`` as in ``over_counts``, ``values`` (m, N) with nan where a sample has no value. The
    leader has most votes, of equals it was seen first. nan where nothing could be read and where
    one of the leader's samples has no value. Raises UsageError for any other arrays.
    """
    _check(codes)
    if values.shape != codes.shape:
        raise UsageError(f"values of shape {values.shape} for codes of shape {codes.shape}")
    found = np.full(codes.shape, np.nan)
    for rows in _blocks(codes):
        block = codes[rows]
        counts = np.zeros((len(block), _clusters(block)))
        sums = np.zeros_like(counts)
        every = np.arange(len(block))
        for column in range(block.shape[1]):
            _add(counts, block[:, column], 1.0)
            _add(sums, block[:, column], values[rows, column])
            # argmax takes the first of equals, and clusters are numbered by first appearance.
            leader = counts.argmax(axis=1)
            votes = counts[every, leader]
            np.divide(sums[every, leader], votes, out=found[rows, column], where=votes > 0)
    return found


def _check(codes: IntArray) -> None:
    if codes.ndim != 2 or codes.dtype.kind != "i":
        raise UsageError(
            f"codes of shape {codes.shape} and type {codes.dtype}: must be signed integers, one "
            "row a question and one column a sample"
        )
    if codes.size and not -1 <= codes.min() <= codes.max() < codes.shape[1]:
        raise UsageError(
            f"codes hold the ids {codes.min()} to {codes.max()} in {codes.shape[1]} samples: "
            "number the clusters from 0 by first appearance, -1 for an unreadable answer"
        )


def _blocks(codes: IntArray) -> list[slice]:
    size = max(1, BLOCK_CELLS // max(1, codes.shape[1]))
    return [slice(start, start + size) for start in range(0, len(codes), size)]


def _clusters(block: IntArray) -> int:
    """Columns that hold every cluster, one at least."""
    return max(1, int(block.max(initial=-1)) + 1)


def _add(cells: FloatArray, codes: IntArray, amount: FloatArray | float) -> None:
    """Add ``amount`` to the cell of each question's cluster; unreadable samples add nothing."""
    rows = np.flatnonzero(codes >= 0)
    added = amount[rows] if isinstance(amount, np.ndarray) else amount
    cells[rows, codes[rows]] += added
