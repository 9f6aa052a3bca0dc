"""The value of computation: draw only while what more samples may bring is worth their price.

Stops when no continuation pays: when the leader will hardly change any more, and when it may but
nothing would be gained by it. What continuing brings is planned to the end by backward induction
over (n, votes of the leader, of the runner-up, distinct answers) and, if wanted, the mean of one
sample signal over the leader's samples; ``docs/value.md`` derives it. A decision is one look-up.

Without a table the rule plans on an analytic model of how votes go on, to agree with the majority
of ``max_samples``. A table comes from ``poise.fit``, learnt from pools under a stated payoff.
It does not know labels or how the table was learnt.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from poise.columns import FloatArray, column, needed
from poise.errors import UsageError
from poise.policies.bounds import count
from poise.policies.running import IntArray, blocks, columns_of
from poise.policies.value_plan import FUTILE, SURE, Codes, decoded, encoded, plan
from poise.policies.value_process import analytic
from poise.policies.value_states import MOST_DISTINCT, bucketed, space, walk
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
    it. ``signal``: a sample signal whose mean over the leader's samples is read in
    ``len(edges) + 1`` buckets, and ``table``: decisions learnt by ``poise.fit``; neither is for
    writing by hand. Source: own; stopping by the value of computation goes back to Wald 1947 and
    Russell & Wefald 1991. Raises UsageError for parameters out of range.
    """

    price: float = 0.002
    round_price: float = 0.0
    max_samples: int = 40
    signal: str = ""
    edges: tuple[float, ...] = ()
    table: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "price", _price("price", self.price))
        object.__setattr__(self, "round_price", _price("round_price", self.round_price))
        object.__setattr__(
            self, "max_samples", count("max_samples", self.max_samples, MOST_PLANNED)
        )
        object.__setattr__(self, "edges", tuple(float(edge) for edge in self.edges))
        if self.signal and not self.table:
            raise UsageError(f"signal={self.signal}: the analytic model reads votes only; fit it")
        if self.edges and not self.signal:
            raise UsageError("edges without a signal whose values they part")
        if not all(map(math.isfinite, self.edges)) or list(self.edges) != sorted(set(self.edges)):
            raise UsageError(f"edges={self.edges}: must be finite and rising")
        if self.table:
            _codes(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The sample signal it reads, if any."""
        return (self.signal,) if self.signal else ()

    @property
    def buckets(self) -> int:
        """Buckets of the signal: one for no value, and one between each two edges."""
        return len(self.edges) + 2 if self.signal else 1

    def decide(self, state: State) -> Draw | Stop:
        """Look up what is best in this state."""
        n = state.n
        if n >= self.max_samples:
            return Stop(StopReason.BUDGET)
        leader, runner_up = state.top_two
        states = space(self.max_samples)
        distinct = min(len(state.counts), MOST_DISTINCT)
        cell = states.start[n] + int(states.place[n, leader, runner_up, distinct])
        bucket = self._bucket(state) if self.signal else 0
        code = int(_codes(self)[cell, bucket])
        if code == SURE:
            return Stop(StopReason.SURE)
        return Stop(StopReason.FUTILE) if code == FUTILE else Draw(code)

    def stops(self, prefixes: IntArray, values: Mapping[str, FloatArray] | None = None) -> IntArray:
        """Where ``decide`` stops, (m,), looking at every prefix, as in ``StopRule.stops``."""
        columns = columns_of(prefixes, self.max_samples)
        read = needed(self.signal, values, prefixes.shape) if self.signal else None
        states, codes = space(self.max_samples), _codes(self)
        ends = (codes == SURE) | (codes == FUTILE)
        starts = np.array(states.start[1 : columns + 1])
        stops = np.full(len(prefixes), columns, np.int64)
        for rows, block in blocks(prefixes, self.max_samples):
            passed = walk(block, states, None if read is None else read[rows, :columns])
            ended = ends[starts + passed.place, bucketed(passed.mean, self.edges)]
            ended[:, -1] = True
            stops[rows] = ended.argmax(axis=1) + 1
        return stops

    def written(self) -> Value:
        """The same decisions as a table, so that nothing is planned or learnt in their place."""
        return self if self.table else replace(self, table=encoded(_codes(self)))

    def _bucket(self, state: State) -> int:
        """``bucketed`` for one state, its sum taken in the order in which ``walk`` takes it."""
        given = column(state, self.signal)
        leader = max(range(len(state.counts)), key=state.counts.__getitem__, default=None)
        total, known = 0.0, 0
        for cluster, value in zip(state.clusters, given.tolist(), strict=True):
            if cluster is not None and cluster == leader and not math.isnan(value):
                total, known = total + value, known + 1
        return bisect_right(self.edges, total / known) + 1 if known else 0


@lru_cache(maxsize=64)
def _codes(rule: Value) -> Codes:
    """What to do in each cell, (states, buckets)."""
    if rule.table:
        return decoded(rule.table, space(rule.max_samples), rule.buckets)
    return plan(analytic(rule.max_samples), rule.price, rule.round_price).codes


def _price(name: str, value: object) -> float:
    number = isinstance(value, float | int | np.floating) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:  # type: ignore[operator]
        raise UsageError(f"{name}={value!r}: must be a finite number, 0 or more")
    return float(value)  # type: ignore[arg-type]
