"""Reading what a calibrator is given: scores, labels and weights, checked once and made float64.

Whether a column holds probabilities or numbers on the real line is declared and never guessed from
its values. It does not know any calibrator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from poise.errors import UsageError

__all__ = [
    "FEWEST_ROWS",
    "BoolArray",
    "FloatArray",
    "Rows",
    "Scale",
    "check_eps",
    "check_scale",
    "clipped_logit",
    "read_rows",
    "read_scores",
]

FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]

Scale = Literal["probability", "real"]
"""What a score is: a number in [0, 1] read as a probability, or any finite number."""

LARGEST = 1e100
"""Real scores beyond this are refused: their squares would overflow in a variance."""

FEWEST_ROWS = 3


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled scores, rows of weight 0 left out.

    ``scores`` (m, d) as given, on the declared scale; ``y`` (m,) shares of right answers in [0, 1];
    ``weight`` (m,) > 0, the number of trials behind each share; ``kept`` (rows given,) which of the
    rows given are here.
    """

    scores: FloatArray
    y: FloatArray
    weight: FloatArray
    kept: BoolArray

    @property
    def base_rate(self) -> float:
        """Weighted share of right answers."""
        return float(self.weight @ self.y / self.weight.sum())

    @property
    def one_class(self) -> bool:
        """Whether every answer is right, or every answer wrong."""
        return bool((self.y == 0).all() or (self.y == 1).all())

    def tally(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The distinct scores of the first column, rising, (L,); trials and right answers of each.

        Equal scores become one entry, so that what is fitted to them does not depend on the order
        of rows, or on whether trials came as rows, shares or weights.
        """
        scores, place = np.unique(self.scores[:, 0], return_inverse=True)
        trials = np.zeros(len(scores))
        right = np.zeros(len(scores))
        np.add.at(trials, place, self.weight)
        np.add.at(right, place, self.weight * self.y)
        return scores, trials, right

    def where(self, chosen: BoolArray) -> Rows:
        """The rows that ``chosen`` (m,) marks."""
        return Rows(self.scores[chosen], self.y[chosen], self.weight[chosen], chosen)


def read_rows(X: Any, y: Any, sample_weight: Any, scales: Sequence[Scale] | None) -> Rows:  # noqa: N803
    """``fit``'s arguments, checked.

    ``X`` (m, d) or (m,), ``y`` (m,) in [0, 1], ``sample_weight`` (m,) >= 0 or None for 1 each;
    ``scales`` as in ``read_scores``. Raises UsageError, naming the argument and how many rows are
    at fault, for anything else and for fewer than 3 rows of weight above 0.
    """
    scores = read_scores(X, scales)
    m = len(scores)
    shares = _vector("y", y, m)
    _refuse("y", (shares < 0) | (shares > 1), "outside [0, 1] (give shares, and trials as weights)")
    weight = np.ones(m) if sample_weight is None else _vector("sample_weight", sample_weight, m)
    _refuse("sample_weight", weight < 0, "below 0")
    kept = weight > 0
    if kept.sum() < FEWEST_ROWS:
        raise UsageError(
            f"X: {int(kept.sum())} of {m} rows have a weight above 0; "
            f"a calibrator wants at least {FEWEST_ROWS}"
        )
    return Rows(scores[kept], shares[kept], weight[kept], kept)


def read_scores(X: Any, scales: Sequence[Scale] | None) -> FloatArray:  # noqa: N803
    """Scores (m, d) from ``X`` (m, d) or (m,).

    ``scales``: one scale for every column, or one per column; None: any finite numbers. Raises
    UsageError for other shapes, for what is no number, and for values outside the declared scale.
    """
    scores = _array("X", X)
    if scores.ndim == 1:
        scores = scores[:, None]
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise UsageError(f"X: shape {scores.shape}; must be (m,) or (m, d) with d >= 1")
    finite = np.all(np.isfinite(scores), axis=1)
    _refuse("X", ~finite, "not finite (leave out rows without the signal: absence is no number)")
    _refuse("X", np.any(np.abs(scores) > LARGEST, axis=1), f"beyond {LARGEST:g} in size")
    if scales is None:
        return scores
    if len(scales) not in {1, scores.shape[1]}:
        raise UsageError(f"scale: {len(scales)} given for {scores.shape[1]} columns of X")
    ranged = np.array([scale == "probability" for scale in scales])
    outside = (((scores < 0) | (scores > 1)) & ranged).any(axis=1)
    _refuse("X", outside, "outside [0, 1] (a score on the real line is declared by scale='real')")
    return scores


def check_scale(scale: Any) -> None:
    """Raises UsageError unless ``scale`` is a Scale."""
    if scale not in get_args(Scale):
        raise UsageError(f"scale={scale!r}: must be 'probability' or 'real'")


def check_eps(eps: Any) -> None:
    """Raises UsageError unless ``eps`` can bound a logit: 1e-12 <= eps < 0.5."""
    if not isinstance(eps, int | float) or not 1e-12 <= eps < 0.5:
        raise UsageError(f"eps={eps!r}: must be at least 1e-12 and below 0.5")


def clipped_logit(chance: FloatArray, eps: float) -> FloatArray:
    """log(p / (1 - p)) of ``chance`` clipped to [eps, 1 - eps]; any shape."""
    clipped: FloatArray = logit(np.clip(chance, eps, 1 - eps))
    return clipped


def _vector(name: str, values: Any, m: int) -> FloatArray:
    vector = _array(name, values)
    if vector.shape != (m,):
        raise UsageError(f"{name}: shape {vector.shape}; X has {m} rows, so it must be ({m},)")
    _refuse(name, ~np.isfinite(vector), "not finite")
    return vector


def _array(name: str, values: Any) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64, order="C")
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{name}: cannot be read as an array of numbers ({error})") from error


def _refuse(name: str, wrong: Any, problem: str) -> None:
    if wrong.any():
        raise UsageError(f"{name}: {int(wrong.sum())} of {len(wrong)} rows are {problem}")
