"""A state map with the final map on top of it: from the signals at a stop to a probability.

Refitted copies of the pair give the interval. It does not know how either was fitted, or which
policy stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from poise.calibrators import Calibrator, from_state, to_state
from poise.errors import InputError
from poise.state_map import StateMap

__all__ = ["Maps"]

LEVEL = (0.025, 0.975)
"""Quantiles of the replicates that make the interval."""


@dataclass(frozen=True, slots=True)
class Maps:
    """``state_map`` and ``final_map``, and both refitted on bootstrap draws of the questions."""

    state_map: StateMap
    final_map: Calibrator
    replicates: tuple[tuple[StateMap, Calibrator], ...] = ()

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals that have to be there."""
        return self.state_map.signals

    def probability(
        self, n: int, values: Mapping[str, float]
    ) -> tuple[float, tuple[float, float] | None]:
        """P(the leader is right) after ``n`` samples, with its interval; None: no replicates."""
        columns = {name: np.array([values[name]], np.float64) for name in self.signals}
        pairs = [(self.state_map, self.final_map), *self.replicates]
        stated = [
            float(final.predict_proba(state.probability([n], columns))[0, 1])
            for state, final in pairs
        ]
        if not self.replicates:
            return stated[0], None
        low, high = np.quantile(stated[1:], LEVEL)
        # The maps themselves are one more draw: they belong inside their own interval.
        return stated[0], (min(float(low), stated[0]), max(float(high), stated[0]))

    def state(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "state_map": self.state_map.state(),
            "final_map": to_state(self.final_map),
            "replicates": [[state.state(), to_state(final)] for state, final in self.replicates],
        }

    @classmethod
    def from_state(cls, state: Any) -> Maps:
        """Inverse of ``state``. Raises InputError for anything else."""
        if not isinstance(state, Mapping) or not isinstance(state.get("replicates"), list):
            raise InputError("maps: not an object of state_map, final_map and replicates")
        if not all(isinstance(one, list) and len(one) == 2 for one in state["replicates"]):
            raise InputError("maps: a replicate is not a pair of state map and final map")
        read = cls(
            StateMap.from_state(state.get("state_map")),
            from_state(state.get("final_map")),
            tuple(
                (StateMap.from_state(first), from_state(second))
                for first, second in state["replicates"]
            ),
        )
        odd = [pair[0].signals for pair in read.replicates if pair[0].signals != read.signals]
        if odd:
            others = ", ".join(odd[0])
            raise InputError(
                f"maps: a replicate reads {others} where its map reads {', '.join(read.signals)}"
            )
        return read
