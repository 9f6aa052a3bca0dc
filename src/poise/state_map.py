"""The state map: P(the leader is right | how many samples, how they vote, what else is seen).

Fitted on every prefix of the tuning pools, so it holds wherever sampling stands. What is reported
comes from a final map on top of this one, fitted at the stops of one policy (``fit``). A map from
the vote share alone, or one fitted on full pools, is wrong at a policy's stops, because stopping
selects: ``tests/test_two_maps.py`` shows by how much.

The model is a logistic regression on log-odds of the votes, the number of samples, and, where the
samples have them, the leader's mean log-probability, with the products that let their weights
change with the number of samples. It does not know policies, files or labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from poise.calibrators import Platt, from_state, to_state
from poise.errors import InputError, UsageError

__all__ = ["COUNTS", "LOGPROB", "StateMap"]

FloatArray = npt.NDArray[np.float64]

COUNTS = ("agreement", "margin", "repetition")
"""Pool signals that the vote counts give; every state map reads them."""

LOGPROB = "leader_logprob"
"""The one further signal that a state map may read."""

FEWEST = 2
"""Samples from which agreement means something."""


@dataclass(frozen=True, slots=True)
class StateMap:
    """A fitted map over prefixes of two samples and more; ``signals`` are the names it reads."""

    signals: tuple[str, ...]
    model: Platt

    @classmethod
    def fit(
        cls,
        n: npt.ArrayLike,
        signals: Mapping[str, npt.ArrayLike],
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
    ) -> StateMap:
        """Learn from prefixes: ``n`` (m,) samples drawn, ``signals`` (m,) each, ``y`` (m,) 0 or 1.

        ``signals`` holds ``COUNTS`` and perhaps ``LOGPROB``, without nan. ``y``: whether the leader
        is right. Give the prefixes of one question weights that sum to one, or a long pool counts
        for more than a short one. Raises UsageError for arrays that do not fit together;
        RefusedError where the data cannot carry it.
        """
        names = (*COUNTS, LOGPROB) if LOGPROB in signals else COUNTS
        columns = _columns(np.asarray(n), {name: np.asarray(signals[name]) for name in names})
        model = Platt(scale=("real",) * columns.shape[1])
        model.fit(columns, y, sample_weight)
        return cls(names, model)

    def probability(self, n: npt.ArrayLike, signals: Mapping[str, npt.ArrayLike]) -> FloatArray:
        """P(the leader is right), (m,) in (0, 1), for prefixes as in ``fit``."""
        columns = _columns(
            np.asarray(n), {name: np.asarray(signals[name]) for name in self.signals}
        )
        chance: FloatArray = self.model.predict_proba(columns)[:, 1]
        return chance

    def state(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"signals": list(self.signals), "model": to_state(self.model)}

    @classmethod
    def from_state(cls, state: Any) -> StateMap:
        """Inverse of ``state``. Raises InputError for anything else."""
        if not isinstance(state, Mapping) or state.keys() != {"signals", "model"}:
            raise InputError("state map: not an object of signals and model")
        names = state["signals"]
        if names not in (list(COUNTS), [*COUNTS, LOGPROB]):
            raise InputError(f"state map: unknown signals {names}")
        model = from_state(state["model"])
        if not isinstance(model, Platt):
            raise InputError(f"state map: its model is {model.name!r}, not platt")
        return cls(tuple(names), model)


def _columns(n: npt.NDArray[Any], signals: Mapping[str, npt.NDArray[Any]]) -> FloatArray:
    """(m, d) columns on the log-odds scale; half a vote keeps unanimity finite."""
    if n.size and n.min() < FEWEST:
        raise UsageError(f"a state map wants {FEWEST} samples or more, not {n.min()}")
    leader = signals["agreement"] * n
    runner_up = leader - signals["margin"] * n
    share = np.log((leader + 0.5) / (n - leader + 0.5))
    lead = np.log((leader + 0.5) / (runner_up + 0.5))
    size = np.log(n)
    repeats = signals["repetition"]
    columns = [share, lead, repeats, size, size**2]
    columns += [share * size, lead * size, repeats * size, share * size**2, repeats * size**2]
    columns += [share**2, share**2 * size, share * repeats, lead * repeats]
    # Full agreement is a state of its own: no dissent was ever seen, however many were asked.
    unanimous = leader > n - 0.5
    columns += [unanimous, unanimous * size]
    if LOGPROB in signals:
        sure = signals[LOGPROB]
        columns += [sure, sure**2, sure * share, sure * size]
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=-1)
