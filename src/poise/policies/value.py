"""The value of computation: draw only while what more samples may bring is worth their price.

Stops when no continuation pays: when the leader will hardly change any more, and when it may but
nothing would be gained by it. What continuing brings is planned to the end by backward induction
over (n, votes of the leader, of the runner-up, distinct answers, whether the leader came late) or,
with a signal, over (n, weight of the leader, of the runner-up); ``docs/value.md`` derives it. A
decision is one look-up.

Without a table the rule plans on an analytic model of how votes go on, to agree with the majority
of ``max_samples``. A table comes from ``poise.fit``, learnt from pools under a stated payoff.
It does not know labels or how the table was learnt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from poise.columns import FloatArray, needed
from poise.errors import UsageError
from poise.policies.bounds import count
from poise.policies.running import IntArray, blocks, columns_of
from poise.policies.value_evidence import Evidence
from poise.policies.value_plan import FUTILE, SURE, Codes, decoded, encoded, plan
from poise.policies.value_process import analytic
from poise.policies.value_states import MOST_DISTINCT, space, walk
from poise.types import Draw, State, Stop, StopReason

__all__ = ["MOST_PLANNED", "Value"]

MOST_PLANNED = 64
"""States grow with the third power of the samples: beyond this a plan takes minutes."""


@dataclass(frozen=True, slots=True)
class Value:
    """Stops where no continuation pays: ``sure``, ``futile``, or ``budget`` at ``max_samples``.

    ``price`` of a sample and ``round_price`` of a request for any number of them (the prompt sent
    again, the wait), both >= 0, in units of the payoff: .002 spends at most 5 samples for one
    point of it. ``max_samples`` 1..64. ``sure`` where the expected payoff of the leader is at
    least one half, ``futile`` below. With ``round_price`` 0 a draw is never longer than the
    shortest way to a stop; above, it is as long as pays, and what comes back early may still end
    it. ``signal``: a sample signal that is a confidence, read at ``temperature`` in the buckets
    that ``edges`` (of the leader's weight) and ``rivals`` (of the runner-up's) make, as
    ``value_evidence`` says; its answer is then the vote ``softmax`` of that signal and temperature,
    and without a signal the majority. ``table``: decisions learnt by ``poise.fit``. None of these
    is for writing by hand. Source: own; stopping by the value of computation goes back to Wald 1947
    and Russell & Wefald 1991. Raises UsageError for parameters out of range.
    """

    price: float = 0.002
    round_price: float = 0.0
    max_samples: int = 40
    signal: str = ""
    temperature: float = 1.0
    edges: tuple[float, ...] = ()
    rivals: tuple[float, ...] = ()
    table: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "price", _amount("price", self.price))
        object.__setattr__(self, "round_price", _amount("round_price", self.round_price))
        object.__setattr__(
            self, "max_samples", count("max_samples", self.max_samples, MOST_PLANNED)
        )
        object.__setattr__(self, "temperature", _amount("temperature", self.temperature))
        object.__setattr__(self, "edges", tuple(float(edge) for edge in self.edges))
        object.__setattr__(self, "rivals", tuple(float(edge) for edge in self.rivals))
        if self.signal and not self.table:
            raise UsageError(f"signal={self.signal}: the analytic model reads votes only; fit it")
        if (self.edges or self.rivals) and not self.signal:
            raise UsageError("edges without a signal whose weights they part")
        if self.table:
            _codes(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The sample signal it reads, if any."""
        return (self.signal,) if self.signal else ()

    def decide(self, state: State) -> Draw | Stop:
        """Look up what is best in this state."""
        n = state.n
        if n >= self.max_samples:
            return Stop(StopReason.BUDGET)
        code = int(_codes(self)[self._cell(state)])
        if code == SURE:
            return Stop(StopReason.SURE)
        return Stop(StopReason.FUTILE) if code == FUTILE else Draw(code)

    def stops(self, prefixes: IntArray, values: Mapping[str, FloatArray] | None = None) -> IntArray:
        """Where ``decide`` stops, (m,), looking at every prefix, as in ``StopRule.stops``."""
        columns = columns_of(prefixes, self.max_samples)
        read = needed(self.signal, values, prefixes.shape) if self.signal else None
        codes = _codes(self)
        ends = (codes == SURE) | (codes == FUTILE)
        stops = np.full(len(prefixes), columns, np.int64)
        for rows, block in blocks(prefixes, self.max_samples):
            ended = ends[self._cells(block, None if read is None else read[rows, :columns])]
            ended[:, -1] = True
            stops[rows] = ended.argmax(axis=1) + 1
        return stops

    def written(self) -> Value:
        """The same decisions as a table, so that nothing is planned or learnt in their place."""
        return self if self.table else replace(self, table=encoded(_codes(self)))

    def capped(self, most: int) -> Value:
        """The same decisions, ending at ``most`` samples at the latest.

        Layers of a table come one after the other and do not depend on those that follow; only a
        draw that would go beyond ``most`` is cut.
        """
        if not self.table or most >= self.max_samples:
            return replace(self, max_samples=min(most, self.max_samples))
        cells = (
            [self._evidence().buckets] * (most + 1)
            if self.signal
            else [len(layer) for layer in space(most).layers]
        )
        codes = _codes(self)[: sum(cells)].astype(np.int64)
        left = np.maximum(most - np.repeat(np.arange(most + 1), cells), 1)
        draws = (codes != SURE) & (codes != FUTILE)
        kept: Codes = np.where(draws, np.minimum(codes, left), codes).astype(np.uint8)
        return replace(self, max_samples=most, table=encoded(kept))

    def _evidence(self) -> Evidence:
        return Evidence(self.signal, self.temperature, self.edges, self.rivals)

    def _cell(self, state: State) -> int:
        if self.signal:
            evidence = self._evidence()
            return state.n * evidence.buckets + evidence.bucket(state)
        states, (leader, runner_up) = space(self.max_samples), state.top_two
        distinct = min(len(state.counts), MOST_DISTINCT)
        late = int(leader > 0 and state.counts[0] < leader)
        return states.start[state.n] + int(states.place[state.n, leader, runner_up, distinct, late])

    def _cells(self, block: IntArray, values: FloatArray | None) -> IntArray:
        """(m, N) the cell after each sample."""
        after = np.arange(1, block.shape[1] + 1)
        if values is None:
            states = space(self.max_samples)
            places: IntArray = np.array(states.start)[after] + walk(block, states).place
            return places
        evidence = self._evidence()
        cells: IntArray = after * evidence.buckets + evidence.bucketed(
            evidence.weighed(block, values)
        )
        return cells


@lru_cache(maxsize=64)
def _codes(rule: Value) -> Codes:
    """What to do in each cell, layer by layer."""
    if not rule.table:
        return plan(analytic(rule.max_samples), rule.price, rule.round_price).codes
    if rule.signal:
        return decoded(rule.table, (rule.max_samples + 1) * rule._evidence().buckets)
    return decoded(rule.table, space(rule.max_samples).size)


def _amount(name: str, value: object) -> float:
    number = isinstance(value, float | int | np.floating) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:  # type: ignore[operator]
        raise UsageError(f"{name}={value!r}: must be a finite number, 0 or more")
    return float(value)  # type: ignore[arg-type]
