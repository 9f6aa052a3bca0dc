"""The state map: P(the leader is right | how many samples, how they vote, what else is seen).

Fitted on every prefix of the tuning pools, so it holds wherever sampling stands. What is reported
comes from a final map on top of this one, fitted at the stops of one policy (``fit``). A map from
the vote share alone, or one fitted on full pools, is wrong at a policy's stops, because stopping
selects: ``tests/test_two_maps.py`` shows by how much.

The model is a logistic stack: log-odds of the votes and the number of samples (``COUNTS``), and for
every further signal its value, its square, and its products with vote share and number, so that its
weight may change on the way. A map of single samples reads further signals alone. It does not know
policies, files or labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from poise.calibrators import Platt, from_state, to_state
from poise.errors import InputError, UsageError

__all__ = ["COUNTS", "Further", "StateMap"]

FloatArray = npt.NDArray[np.float64]

COUNTS = ("agreement", "margin", "repetition")
"""Pool signals that the vote counts give: read all together, or not at all."""

FEWEST = 2
"""Samples from which agreement means something."""

CLIP = 1e-3
"""A signal in [0, 1] is read through its log-odds, clipped this far from 0 and 1."""


@dataclass(frozen=True, slots=True)
class Further:
    """A signal beside the counts: ``low`` and ``high`` bound what the fit saw of it.

    Values beyond are read as the bound: a square must not be trusted where nothing was seen.
    ``ranged``: it lies in [0, 1] and is read through its log-odds.
    """

    name: str
    ranged: bool
    low: float
    high: float

    @classmethod
    def seen(cls, name: str, ranged: bool, values: FloatArray) -> Further:  # noqa: FBT001
        """From the values (m,) of the fit."""
        return cls(name, ranged, float(values.min()), float(values.max()))

    def read(self, values: FloatArray) -> FloatArray:
        """(m,) on the scale of the model."""
        within = np.clip(values, self.low, self.high)
        if not self.ranged:
            return within
        inside = np.clip(within, CLIP, 1 - CLIP)
        odds: FloatArray = np.log(inside / (1 - inside))
        return odds


@dataclass(frozen=True, slots=True)
class StateMap:
    """A fitted map over prefixes. ``counts``: of two samples and more, read with their votes."""

    counts: bool
    further: tuple[Further, ...]
    model: Platt

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of all signals that it reads."""
        return (*(COUNTS if self.counts else ()), *(one.name for one in self.further))

    @classmethod
    def fit(
        cls,
        n: npt.ArrayLike,
        signals: Mapping[str, npt.ArrayLike],
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        *,
        ranged: Sequence[str] = (),
    ) -> StateMap:
        """Learn from prefixes: ``n`` (m,) samples drawn, ``signals`` (m,) each, ``y`` (m,).

        ``signals`` holds ``COUNTS`` or none of them, and any others, without nan; those named in
        ``ranged`` lie in [0, 1]. ``y`` in [0, 1]: whether the leader is right, or a share. Give the
        prefixes of one question weights that sum to one, or a long pool counts for more than a
        short one. Raises UsageError for arrays that do not fit together; RefusedError where the
        data cannot carry it.
        """
        arrays = {name: np.asarray(values, np.float64) for name, values in signals.items()}
        counts = COUNTS[0] in arrays
        if counts and not arrays.keys() >= set(COUNTS):
            raise UsageError(f"a state map reads {', '.join(COUNTS)} together, or none of them")
        if not arrays:
            raise UsageError("a state map wants at least one signal")
        further = tuple(
            Further.seen(name, name in ranged, arrays[name])
            for name in arrays
            if name not in COUNTS
        )
        columns = _columns(np.asarray(n), arrays, further, counts=counts)
        model = Platt(scale=("real",) * columns.shape[1] if columns.shape[1] > 1 else "real")
        model.fit(columns, y, sample_weight)
        return cls(counts, further, model)

    def probability(self, n: npt.ArrayLike, signals: Mapping[str, npt.ArrayLike]) -> FloatArray:
        """P(the leader is right), (m,) in (0, 1), for prefixes as in ``fit``."""
        arrays = {name: np.asarray(signals[name], np.float64) for name in self.signals}
        columns = _columns(np.asarray(n), arrays, self.further, counts=self.counts)
        chance: FloatArray = self.model.predict_proba(columns)[:, 1]
        return chance

    def state(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "counts": self.counts,
            "further": [
                {"name": one.name, "ranged": one.ranged, "low": one.low, "high": one.high}
                for one in self.further
            ],
            "model": to_state(self.model),
        }

    @classmethod
    def from_state(cls, state: Any) -> StateMap:
        """Inverse of ``state``. Raises InputError for anything else."""
        if not isinstance(state, Mapping) or state.keys() != {"counts", "further", "model"}:
            raise InputError("state map: not an object of counts, further and model")
        model = from_state(state["model"])
        if not isinstance(model, Platt):
            raise InputError(f"state map: its model is {model.name!r}, not platt")
        if not isinstance(state["further"], list) or not isinstance(state["counts"], bool):
            raise InputError("state map: further is not a list, or counts not true or false")
        read = cls(state["counts"], tuple(_further(one) for one in state["further"]), model)
        wanted = _width(len(read.further), counts=read.counts)
        if len(model.slope_) != wanted:
            raise InputError(f"state map: {len(model.slope_)} slopes for {wanted} columns")
        return read


def _further(one: Any) -> Further:
    if not isinstance(one, Mapping) or one.keys() != {"name", "ranged", "low", "high"}:
        raise InputError("state map: a further signal is not name, ranged, low and high")
    name, ranged, low, high = one["name"], one["ranged"], one["low"], one["high"]
    numbers = [isinstance(x, int | float) and math.isfinite(x) for x in (low, high)]
    if not isinstance(name, str) or not isinstance(ranged, bool) or not all(numbers):
        raise InputError(f"state map: the signal {name!r} has no name, kind or bounds")
    return Further(name, ranged, float(low), float(high))


def _width(further: int, *, counts: bool) -> int:
    return 16 + 4 * further if counts else 2 * further


def _columns(
    n: npt.NDArray[Any],
    signals: Mapping[str, FloatArray],
    further: Sequence[Further],
    *,
    counts: bool,
) -> FloatArray:
    """(m, d) columns on the log-odds scale."""
    columns: list[Any] = []
    share = size = None
    if counts:
        share, size = _share(n, signals), np.log(n)
        columns += _votes(n, signals, share, size)
    for one in further:
        value = one.read(signals[one.name])
        columns += [value, value**2]
        if share is not None and size is not None:
            columns += [value * share, value * size]
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=-1)


def _share(n: npt.NDArray[Any], signals: Mapping[str, FloatArray]) -> FloatArray:
    """Log-odds of the leader's share; half a vote keeps unanimity finite."""
    if n.size and n.min() < FEWEST:
        raise UsageError(f"a state map of votes wants {FEWEST} samples or more, not {n.min()}")
    leader = signals["agreement"] * n
    share: FloatArray = np.log((leader + 0.5) / (n - leader + 0.5))
    return share


def _votes(
    n: npt.NDArray[Any], signals: Mapping[str, FloatArray], share: FloatArray, size: FloatArray
) -> list[Any]:
    leader = signals["agreement"] * n
    runner_up = leader - signals["margin"] * n
    lead = np.log((leader + 0.5) / (runner_up + 0.5))
    repeats = signals["repetition"]
    columns = [share, lead, repeats, size, size**2]
    columns += [share * size, lead * size, repeats * size, share * size**2, repeats * size**2]
    columns += [share**2, share**2 * size, share * repeats, lead * repeats]
    # Full agreement is a state of its own: no dissent was ever seen, however many were asked.
    unanimous = leader > n - 0.5
    return [*columns, unanimous, unanimous * size]
