"""What every metric takes: labels, probabilities, weights and question ids, checked once.

A row is one probability with one label. A label strictly between 0 and 1 is a row that counts y
right and 1 - y wrong: k right samples of n that share a probability may be given as n rows or as
one row with y = k / n and weight n, and every metric that does not look at sampling error gives
the same number. It does not know any metric.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poise.errors import UsageError
from poise.scoring import FloatArray

__all__ = [
    "IntArray",
    "Rows",
    "Ties",
    "by_confidence",
    "codes",
    "column",
    "read",
    "summed",
    "ties",
    "whole",
]

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows with a positive weight, in the order given.

    ``y``, ``p`` (m,) in [0, 1]; ``weight`` (m,) > 0; ``question`` (m,) ids 0..questions - 1. Rows
    without question ids are a question each.
    """

    y: FloatArray
    p: FloatArray
    weight: FloatArray
    question: IntArray
    questions: int

    @property
    def single(self) -> bool:
        """Whether every question has one row, so that rows are independent."""
        return self.questions == self.y.size

    def take(self, index: IntArray | NDArray[np.bool_]) -> Rows:
        """The rows at ``index``, their questions numbered anew."""
        if self.single:
            question = np.arange(self.y[index].size)
            questions = question.size
        else:
            kept, question = np.unique(self.question[index], return_inverse=True)
            questions = kept.size
        return Rows(self.y[index], self.p[index], self.weight[index], question, questions)


def read(
    y: ArrayLike,
    p: ArrayLike,
    sample_weight: ArrayLike | None = None,
    question: Iterable[Hashable] | None = None,
) -> Rows:
    """Check and pair up the columns of a metric.

    ``y``, ``p`` (m,) in [0, 1], m >= 1; ``sample_weight`` (m,) finite, >= 0, not all 0 (None: all
    1); rows of weight 0 are left out. ``question`` (m,) any hashable ids (None: a question each).
    Raises UsageError, naming the argument and the first row (from 0) that is wrong.
    """
    labels, stated = column("y", y, high=1), column("p", p, high=1)
    _same_length("p", stated.size, labels.size)
    weight = (
        np.ones(labels.size) if sample_weight is None else column("sample_weight", sample_weight)
    )
    _same_length("sample_weight", weight.size, labels.size)
    if question is None:
        ids, questions = np.arange(labels.size), labels.size
    else:
        ids, names = codes("question", question)
        _same_length("question", ids.size, labels.size)
        questions = len(names)
    rows = Rows(labels, stated, weight, ids, questions)
    if weight.all():
        return rows
    if not weight.any():
        raise UsageError("sample_weight: all weights are 0, so no row counts")
    return rows.take(weight > 0)


def column(name: str, values: ArrayLike, *, high: float = np.inf) -> FloatArray:
    """``values`` as an array (m,) of finite numbers in [0, ``high``]; raises UsageError."""
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{name}: not all of it is numbers; leave rows without one out") from None
    if found.ndim != 1 or not found.size:
        raise UsageError(f"{name}: must be one column with at least one row, is {found.shape}")
    # NaN fails both comparisons.
    if not (found.min() >= 0 and found.max() <= high and found.max() < np.inf):
        row = int(np.argmin((found >= 0) & (found <= high) & (found < np.inf)))
        span = "0 or more, and finite" if high == np.inf else f"from 0 to {high:g}"
        raise UsageError(f"{name}[{row}]={found[row]:g}: must be {span}")
    return found


def whole(name: str, value: int, *, low: int = 1) -> int:
    """``value`` if it is a whole number of at least ``low``; raises UsageError."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
        raise UsageError(f"{name}={value!r}: must be a whole number of at least {low}")
    return int(value)


def codes(name: str, ids: Iterable[Hashable]) -> tuple[IntArray, list[Hashable]]:
    """Number ``ids`` 0..k - 1: the number of each (m,), and the k distinct ids in that order.

    Raises UsageError for None, NaN and what cannot be hashed: an absent id is not an id.
    """
    if isinstance(ids, np.ndarray) and ids.ndim != 1:
        raise UsageError(f"{name}: must be one column, is {ids.shape}")
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iuUS":
        names, number = np.unique(ids, return_inverse=True)
        return number.astype(np.int64), names.tolist()
    table: dict[Hashable, int] = {}
    try:
        number = np.array([table.setdefault(key, len(table)) for key in ids], np.int64)
    except TypeError:
        raise UsageError(
            f"{name}: an id cannot be hashed; use strings, numbers or tuples"
        ) from None
    if None in table or any(key != key for key in table):  # noqa: PLR0124 - NaN differs from itself
        raise UsageError(f"{name}: a row has no id (None or NaN); leave it out or name it")
    return number, list(table)


@dataclass(frozen=True, slots=True)
class Ties:
    """Rows gathered by probability, ascending: (g,) each.

    ``p`` distinct probabilities; ``weight`` > 0 and ``right`` in [0, weight], summed over the rows
    that share one.
    """

    p: FloatArray
    weight: FloatArray
    right: FloatArray


def ties(rows: Rows) -> Ties:
    """Gather ``rows`` by probability, so that no metric depends on the order within a tie."""
    order = np.argsort(rows.p)
    p = rows.p[order]
    start = np.flatnonzero(np.concatenate(([True], p[1:] != p[:-1])))
    weight = rows.weight[order]
    right = weight * rows.y[order]
    return Ties(p[start], np.add.reduceat(weight, start), np.add.reduceat(right, start))


def summed(values: FloatArray, group: IntArray, groups: int) -> FloatArray:
    """Sums (groups,) of ``values`` (m,) over the rows of each ``group`` (m,) in 0..groups - 1."""
    return np.asarray(np.bincount(group, values, groups), np.float64)


def by_confidence(rows: Rows) -> Rows:
    """The same rows in ascending order of probability; single rows are numbered in that order."""
    return rows.take(np.argsort(rows.p, kind="stable"))


def _same_length(name: str, length: int, rows: int) -> None:
    if length != rows:
        raise UsageError(f"{name} has {length} rows and y has {rows}: give one for each")
