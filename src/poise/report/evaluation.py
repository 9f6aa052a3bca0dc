"""What a card is made of: one row for each probability that was stated, with the truth beside it.

It does not know where the rows come from, nor what will be said about them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poise.errors import UsageError
from poise.metrics.rows import IntArray, codes, column, whole
from poise.scoring import FloatArray

__all__ = ["BASE_RATE", "STATED", "Evaluation"]

STATED = "stated"
BASE_RATE = "base rate"
"""Names that the card gives itself; a baseline cannot have them."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Columns of m >= 1 rows, checked and kept as read-only arrays.

    ``right`` (m,) in [0, 1]: 1 right, 0 wrong, between them a share; ``stated`` (m,) calibrated
    probabilities; ``raw`` (m,) a finite signal, higher = surer, named ``raw_name``: within [0, 1]
    it is read as a probability, else it is ranked only. ``group`` (m,) ids of questions (None: a
    question each); ``segment`` (m,) names. ``baselines``: name -> (m,) probabilities of other
    methods on the same rows. ``left_out``: reason -> number of rows that are not here.
    ``held_out``: whether nothing was fitted on these questions; None: not known. ``caveats``:
    sentences on why the rows are no fair sample. ``name``: what was evaluated, in words. Raises
    UsageError.
    """

    right: FloatArray
    stated: FloatArray
    raw: FloatArray | None = None
    raw_name: str = ""
    group: Sequence[Hashable] | IntArray | None = None
    segment: Sequence[str] | NDArray[np.str_] | None = None
    baselines: Mapping[str, FloatArray] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    held_out: bool | None = None
    caveats: tuple[str, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        m = np.size(self.right)
        self._keep("right", _probabilities("right", self.right, m))
        self._keep("stated", _probabilities("stated", self.stated, m))
        if self.raw is not None:
            if not self.raw_name:
                raise UsageError("raw_name: a raw signal needs its name, such as 'vote share'")
            self._keep("raw", _finite("raw", self.raw, m))
        if self.group is not None:
            number, _ = codes("group", self.group)
            _same_length("group", number.size, m)
            self._keep("group", number)
        if self.segment is not None:
            number, names = codes("segment", self.segment)
            _same_length("segment", number.size, m)
            object.__setattr__(self, "segment", tuple(str(names[code]) for code in number))
        taken = [STATED, BASE_RATE, *([self.raw_name] if self.raw is not None else [])]
        for name in self.baselines:
            if not name or name in taken:
                raise UsageError(f"baselines: {name!r} is no name for a baseline here; rename it")
        others = {
            name: _frozen(_probabilities(f"baselines[{name!r}]", values, m))
            for name, values in self.baselines.items()
        }
        object.__setattr__(self, "baselines", others)
        counted = {
            str(why): whole(f"left_out[{why!r}]", n, low=0) for why, n in self.left_out.items()
        }
        object.__setattr__(self, "left_out", counted)

    @property
    def raw_is_probability(self) -> bool:
        """Whether the raw signal lies within [0, 1], so that it can be read as a probability."""
        return self.raw is not None and bool(self.raw.min() >= 0 and self.raw.max() <= 1)

    def _keep(self, name: str, values: FloatArray | IntArray) -> None:
        object.__setattr__(self, name, _frozen(values))


def _probabilities(name: str, values: ArrayLike, rows: int) -> FloatArray:
    found = column(name, values, high=1)
    _same_length(name, found.size, rows)
    return found


def _finite(name: str, values: ArrayLike, rows: int) -> FloatArray:
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{name}: not all of it is numbers; leave rows without one out") from None
    if found.ndim != 1 or not np.isfinite(found).all():
        raise UsageError(f"{name}: must be one column of finite numbers")
    _same_length(name, found.size, rows)
    return found


def _same_length(name: str, length: int, rows: int) -> None:
    if length != rows:
        raise UsageError(f"{name} has {length} rows and right has {rows}: give one for each")


def _frozen(values: FloatArray | IntArray) -> FloatArray | IntArray:
    kept = values.copy()
    kept.setflags(write=False)
    return kept
