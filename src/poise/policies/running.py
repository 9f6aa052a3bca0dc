"""Vote counts that grow column by column, for many questions at once.

Each step takes one more sample of every question in a block small enough for the processor's cache.

It does not know what a rule makes of the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from poise.errors import UsageError

__all__ = [
    "BoolArray",
    "IntArray",
    "blocks",
    "columns_of",
    "first_stop",
    "first_verdict",
    "mark",
    "votes_before",
]

IntArray = npt.NDArray[np.integer[Any]]
"""An array of integers of any width."""

BoolArray = npt.NDArray[np.bool_]
"""An array of truth values."""

BLOCK_ROWS = 16_384
BLOCK_CELLS = 1 << 20
"""Most questions and most samples in one block: it bounds memory, and keeps a block in cache."""


def columns_of(prefixes: IntArray, limit: int) -> int:
    """How many of the N samples a rule that stops at ``limit`` can see: ``min(N, limit)``.

    Raises UsageError unless ``prefixes`` is (m, N) of signed integers with N >= 1.
    """
    if prefixes.ndim != 2 or prefixes.dtype.kind != "i" or prefixes.shape[1] == 0:
        raise UsageError(
            f"prefixes of shape {prefixes.shape} and type {prefixes.dtype}: must be signed "
            "integers, one row a question and one column a sample, with at least one column"
        )
    columns: int = prefixes.shape[1]
    return min(columns, limit)


def blocks(prefixes: IntArray, limit: int) -> Iterator[tuple[slice, IntArray]]:
    """Cut ``prefixes`` (m, N) into blocks of questions.

    Yields which rows of ``prefixes`` and their first ``min(N, limit)`` samples, contiguous. Raises
    UsageError as ``columns_of`` does, and where an id cannot be a cluster numbered by first
    appearance.
    """
    columns = columns_of(prefixes, limit)
    size = max(1, min(BLOCK_ROWS, BLOCK_CELLS // columns))
    for start in range(0, len(prefixes), size):
        rows = slice(start, min(start + size, len(prefixes)))
        block = np.ascontiguousarray(prefixes[rows, :columns])
        if block.min() < -1 or block.max() >= columns:
            raise UsageError(
                f"prefixes hold the ids {block.min()} to {block.max()} in {columns} samples: "
                "number the clusters from 0 by first appearance, -1 for an unreadable answer"
            )
        yield rows, block


def first_stop(
    prefixes: IntArray, limit: int, decided: Callable[[IntArray, IntArray], BoolArray]
) -> IntArray:
    """After how many samples ``decided`` first holds for the counts of the top two clusters.

    ``prefixes`` (m, N) as in ``blocks``. ``decided`` takes the votes of the leader and of the
    runner-up, (r,) each, and says for which of the r questions sampling ends. Returns (m,) in
    1..min(N, limit), the upper end where it never held.
    """
    stops = np.full(len(prefixes), columns_of(prefixes, limit), np.int64)
    for rows, block in blocks(prefixes, limit):
        _walk(block, decided, stops[rows])
    return stops


def votes_before(block: IntArray) -> Iterator[IntArray]:
    """For each column of ``block`` (r, samples), the votes that the sample's cluster had before it.

    Yields (r,) a column, -1 where the answer was unreadable. Any rule that reads counts and not who
    they belong to can be kept up to date from these numbers alone.
    """
    size = len(block)
    slots = int(block.max()) + 2
    # Slot 0 of each question takes the unreadable samples, and is set back to -1 after each.
    counts = np.zeros((size, slots), np.int64)
    place = np.arange(size) * slots + 1
    flat = counts.reshape(-1)
    for drawn in block.T:
        counts[:, 0] = -1
        cell = place + drawn
        before = flat.take(cell)
        yield before
        flat[cell] = before + 1


def first_verdict(
    prefixes: IntArray, limit: int, verdicts: Callable[[IntArray], Iterable[BoolArray]]
) -> IntArray:
    """After how many samples ``verdicts`` first holds, (m,) in 1..min(N, limit).

    ``prefixes`` (m, N) as in ``blocks``; ``verdicts`` gives, for a block (r, samples), what holds
    after each sample, (r,) each. The upper end where none ever holds.
    """
    stops = np.full(len(prefixes), columns_of(prefixes, limit), np.int64)
    for rows, block in blocks(prefixes, limit):
        mark(stops[rows], verdicts(block))
    return stops


def mark(stops: IntArray, verdicts: Iterable[BoolArray]) -> None:
    """Write into ``stops`` (r,) at which of the ``verdicts``, counted from 1, each first holds.

    Each verdict is (r,). Where none holds, ``stops`` stays as it is.
    """
    live = np.ones(len(stops), np.bool_)
    for n, verdict in enumerate(verdicts, start=1):
        ended = verdict & live
        stops[ended] = n
        live &= ~verdict
        if not live.any():
            return


def _walk(
    block: IntArray, decided: Callable[[IntArray, IntArray], BoolArray], stops: IntArray
) -> None:
    """Fill ``stops`` (r,) for one block (r, samples); its values must be the upper end already."""
    size, columns = block.shape
    slots = int(block.max()) + 2
    # Slot 0 of each question takes the unreadable samples. It starts so far below zero that it can
    # never look like a vote, which spares a test on every sample.
    counts = np.zeros(size * slots, np.int32)
    counts[::slots] = -columns - 1
    drawn = block.ravel()
    rows = np.arange(size)
    slot = rows * slots + 1
    sample = rows * columns
    leader, runner_up = np.zeros(size, np.int32), np.zeros(size, np.int32)
    live, left = np.ones(size, np.bool_), size
    for n in range(1, columns):
        place = slot + drawn.take(sample)
        votes = counts.take(place) + 1
        counts[place] = votes
        # Only a cluster level with the leader can pass it, and then the runner-up keeps its count:
        # who leads need not be known.
        np.maximum(runner_up, votes * (votes <= leader), out=runner_up)
        np.maximum(leader, votes, out=leader)
        sample += 1
        ended = np.flatnonzero(decided(leader, runner_up) & live)
        if not ended.size:
            continue
        stops[rows[ended]] = n
        live[ended] = False
        left -= ended.size
        if not left:
            return
        # Dropping the ended questions costs copies, so it waits until a quarter have ended.
        if 4 * left < 3 * live.size:
            kept = np.flatnonzero(live)
            rows, slot, sample = rows[kept], slot[kept], sample[kept]
            leader, runner_up = leader[kept], runner_up[kept]
            live = np.ones(left, np.bool_)
