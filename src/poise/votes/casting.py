"""Weights summed by cluster for many questions at once, and who wins by them.

It does not know where the weights come from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from poise.columns import FloatArray, column, needed
from poise.errors import UsageError
from poise.types import State

__all__ = ["BoolArray", "IntArray", "WeighingVote", "counted", "winners"]

IntArray = npt.NDArray[np.integer[Any]]
"""An array of integers of any width."""

BoolArray = npt.NDArray[np.bool_]
"""An array of truth values."""

BLOCK_CELLS = 1 << 20
"""Most samples counted at once: it bounds memory."""


def counted(prefixes: IntArray, n: IntArray) -> Iterator[tuple[slice, IntArray, BoolArray]]:
    """Cut ``prefixes`` (m, N) into blocks of questions.

    Yields which rows, their clusters, and which samples vote: readable ones among the first ``n``.
    Raises UsageError as ``Vote.elect_all``.
    """
    _check(prefixes, n)
    columns = prefixes.shape[1]
    size = max(1, BLOCK_CELLS // max(1, columns))
    for start in range(0, len(prefixes), size):
        rows = slice(start, start + size)
        block = prefixes[rows]
        yield rows, block, (block >= 0) & (np.arange(columns) < n[rows, None])


def winners(block: IntArray, voting: BoolArray, weights: FloatArray | None = None) -> IntArray:
    """The cluster with the greatest sum of ``weights`` (None: one each), (r,), -1 for no voter.

    ``block``, ``voting``, ``weights`` (r, N); a cluster without a voter cannot win. Ties go to the
    cluster seen first. Sums run in dispatch order, so that they are the same in any block.
    """
    rows, columns = np.nonzero(voting)
    slots = block.shape[1] or 1
    cells = rows * slots + block[rows, columns]
    shape = (len(block), slots)
    votes = np.bincount(cells, minlength=len(block) * slots).reshape(shape)
    # Clusters are numbered by first appearance and argmax takes the first of equals.
    if weights is None:
        best = votes.argmax(axis=1)
    else:
        cast = weights[rows, columns]
        sums = np.bincount(cells, cast, minlength=len(block) * slots).reshape(shape)
        best = np.where(votes > 0, sums, -np.inf).argmax(axis=1)
    return np.where(votes.any(axis=1), best, -1)


class WeighingVote(ABC):
    """A vote in which samples weigh by one signal, ``confidence``.

    A sample without a value does not vote. Where no readable sample has one, there is nothing to
    weigh by and the plain majority wins. A vote adds ``_weights`` and, where a value is not weighed
    as it is, ``_read``.
    """

    __slots__ = ()
    confidence: str

    @property
    def needs(self) -> tuple[str, ...]:
        """The confidence."""
        return (self.confidence,)

    def elect(self, state: State) -> int | None:
        """The winning cluster, or None where no sample could be read."""
        if not state.counts:
            return None
        codes = np.array([[-1 if code is None else code for code in state.clusters]], np.int64)
        values = {name: column(state, name)[None] for name in self.needs}
        return int(self.elect_all(codes, np.array([state.n]), values)[0])

    def elect_all(
        self,
        prefixes: IntArray,
        n: IntArray,
        values: Mapping[str, FloatArray] | None = None,
    ) -> IntArray:
        """Winners (m,) of the first ``n`` samples, -1 for none; arrays as in ``Vote.elect_all``."""
        read = self._read(needed(self.confidence, values, prefixes.shape))
        elected = np.full(len(prefixes), -1, np.int64)
        for rows, block, readable in counted(prefixes, n):
            voting = readable & ~np.isnan(read[rows])
            bare = ~voting.any(axis=1)
            if not bare.all():
                weights = self._weights(np.where(voting, read[rows], 0.0), voting, block)
                elected[rows] = winners(block, voting, weights)
            elected[rows][bare] = winners(block[bare], readable[bare])
        return elected

    def _read(self, values: FloatArray) -> FloatArray:
        """``values`` (m, N) of the signal on the scale they are weighed on, nan where missing."""
        return values

    @abstractmethod
    def _weights(self, values: FloatArray, voting: BoolArray, codes: IntArray) -> FloatArray:
        """Weights (r, N) of values (r, N), 0 where they do not vote; in each row one does."""


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
