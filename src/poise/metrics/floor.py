"""What binned calibration error shows when nothing is wrong, and the least that it can find.

Both simulate labels for the very probabilities that were measured, one row a question: samples of
one question tend to be right or wrong together, so a question counts as one draw however many rows
it has. The row is drawn once, by weight, and carries its question's weight.

Labels are drawn for narrow cells of probability at once instead of row by row: a binomial over the
cell's mean. Within a cell probabilities differ by less than 1/256, which overstates the variance
of the sum by less than 0.4 %. It does not know the labels that were seen.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poise.metrics.calibration import BINS, in_bins
from poise.metrics.estimate import Estimate
from poise.metrics.rows import IntArray, Rows, column, read, summed, whole
from poise.scoring import FloatArray

__all__ = ["Floor", "noise_floor", "smallest_detectable"]

CELLS = 256
"""Least number of cells on [0, 1]; a multiple of the bins is taken."""

DRAWS = 1 << 20
"""Binomial draws held at once."""

POWER = 0.8
"""How often the smallest detectable error is found."""

HALVINGS = 10
"""Of the interval [0, 1] of shifts: the smallest detectable error is exact to a thousandth."""


@dataclass(frozen=True, slots=True)
class Floor:
    """ECE of perfectly calibrated probabilities: ``mean`` and 95th percentile ``p95``."""

    mean: float
    p95: float


@dataclass(frozen=True, slots=True)
class _Cells:
    """Rows of one cell and one weight, (g,) in order of bin: bin, weight, number, mean of p."""

    bin: IntArray
    weight: FloatArray
    n: IntArray
    p: FloatArray

    @property
    def total(self) -> float:
        return float(self.weight @ self.n)


def noise_floor(
    p: ArrayLike,
    sample_weight: ArrayLike | None = None,
    question: Iterable[Hashable] | None = None,
    *,
    bins: int = BINS,
    draws: int = 1000,
    seed: int = 0,
) -> Floor:
    """The ECE that these probabilities would show by chance if they were exactly true.

    ``p`` (m,) in [0, 1]; ``sample_weight`` (m,) >= 0; ``question`` (m,) ids (None: a question
    each); ``draws``: simulated data sets. Equal seeds give equal floors. Raises UsageError.
    """
    rng = np.random.default_rng(seed)
    cells = _cells(_unlabelled(p, sample_weight, question), whole("bins", bins), rng)
    return _floor(cells, whole("draws", draws), rng)


def smallest_detectable(
    p: ArrayLike,
    sample_weight: ArrayLike | None = None,
    question: Iterable[Hashable] | None = None,
    *,
    bins: int = BINS,
    draws: int = 500,
    seed: int = 0,
) -> Estimate:
    """The smallest ECE that stands out from the noise floor at this number of questions.

    Let the truth be every probability moved by one constant, cut to [0, 1]. The shift counts as
    found where ECE exceeds the 95th percentile of the floor, and the answer is the mean absolute
    move at the smallest shift found with power 0.8: of the two directions, the one harder to find
    (a direction that the ends of [0, 1] leave no room for is not asked). A true error of another
    shape can be larger and stay hidden. Value None where no shift is found. Arguments and errors
    as in ``noise_floor``.
    """
    rng = np.random.default_rng(seed)
    cells = _cells(_unlabelled(p, sample_weight, question), whole("bins", bins), rng)
    threshold = _floor(cells, whole("draws", draws), rng).p95
    found = [
        size
        for sign in (1, -1)
        if (size := _found_from(cells, sign, threshold, draws, seed)) is not None
    ]
    if not found:
        return Estimate(None, reason="no constant shift within [0, 1] is found with power 0.8")
    return Estimate(max(found))


def _found_from(cells: _Cells, sign: int, threshold: float, draws: int, seed: int) -> float | None:
    """Mean absolute move at the smallest shift towards ``sign`` found with power; None: none is."""

    def truth(shift: float) -> FloatArray:
        return np.clip(cells.p + sign * shift, 0, 1)

    def power(shift: float) -> float:
        # One seed for all shifts: power then rises with the shift instead of jittering.
        shown = _simulate(cells, truth(shift), draws, np.random.default_rng(seed))
        return float(np.mean(shown > threshold))

    low, high = 0.0, 1.0
    if power(high) < POWER:
        return None
    for _ in range(HALVINGS):
        shift = (low + high) / 2
        low, high = (low, shift) if power(shift) >= POWER else (shift, high)
    return float((cells.weight * cells.n) @ np.abs(truth(high) - cells.p)) / cells.total


def _unlabelled(
    p: ArrayLike, sample_weight: ArrayLike | None, question: Iterable[Hashable] | None
) -> Rows:
    stated = column("p", p, high=1)
    return read(stated, stated, sample_weight, question)


def _cells(rows: Rows, bins: int, rng: np.random.Generator) -> _Cells:
    # A generator of its own: drawing rows leaves the labels' draws as they are without.
    rows = _one_a_question(rows, rng.spawn(1)[0])
    place = in_bins(rows.p, bins)
    cells = bins * -(-CELLS // bins)
    cell = np.minimum((rows.p * cells).astype(np.int64), cells - 1)
    if (rows.weight == rows.weight[0]).all():
        weights, kind = rows.weight[:1], np.zeros(rows.p.size, np.int64)
    else:
        weights, kind = np.unique(rows.weight, return_inverse=True)
    # Rounding can put a probability next to an edge into the neighbour's cell, never its bin.
    key = (place * cells + cell) * weights.size + kind
    found, of, n = np.unique(key, return_inverse=True, return_counts=True)
    mean = summed(rows.p, of, found.size) / n
    return _Cells(
        found // weights.size // cells, weights[found % weights.size], n, np.clip(mean, 0, 1)
    )


def _one_a_question(rows: Rows, rng: np.random.Generator) -> Rows:
    if rows.single:
        return rows
    # The first of exponential clocks with the weights as rates rings with those odds.
    order = np.lexsort((rng.exponential(size=rows.p.size) / rows.weight, rows.question))
    question = rows.question[order]
    first = order[np.concatenate(([True], question[1:] != question[:-1]))]
    drawn = rows.take(first)
    total = summed(rows.weight, rows.question, rows.questions)
    return Rows(drawn.y, drawn.p, total, drawn.question, drawn.questions)


def _floor(cells: _Cells, draws: int, rng: np.random.Generator) -> Floor:
    shown = _simulate(cells, cells.p, draws, rng)
    return Floor(float(shown.mean()), float(np.quantile(shown, 0.95)))


def _simulate(cells: _Cells, truth: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
    """ECE (draws,) of these cells when labels are right with probability ``truth`` (g,)."""
    start: NDArray[np.intp] = np.flatnonzero(np.diff(cells.bin, prepend=-1))
    shown = np.empty(draws)
    step = max(1, DRAWS // cells.n.size)
    for begin in range(0, draws, step):
        size = min(step, draws - begin)
        # Cell by cell, so that the generator sets up each binomial once.
        right = rng.binomial(cells.n[:, None], truth[:, None], (cells.n.size, size))
        excess = cells.weight[:, None] * (right - (cells.n * cells.p)[:, None])
        gaps = np.add.reduceat(excess, start, axis=0)
        shown[begin : begin + size] = np.abs(gaps).sum(axis=0) / cells.total
    return shown
