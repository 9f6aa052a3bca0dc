"""Round-trips: how often a policy asks for more samples before it stops, and how long that takes.

A Draw of several is one round: its samples run side by side and the slowest ends it. Equal states
are decided once. It does not know votes, exit rules or grades.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from poise.errors import UsageError
from poise.policies import StopRule
from poise.replay.orders import FloatArray, Orders
from poise.types import State, Stop

__all__ = ["Rounds", "drawn_by", "rounds_of", "state_of"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rounds:
    """For m orders: ``rounds`` asked, samples ``drawn`` in them, and ``seconds``, nan not known."""

    rounds: IntArray
    drawn: IntArray
    seconds: FloatArray


def rounds_of(
    rule: StopRule, codes: Any, n: IntArray, values: Mapping[str, FloatArray], orders: Orders
) -> Rounds:
    """Follow the Draws of ``rule`` over ``codes`` (m, N) to its stops ``n`` (m,).

    Raises UsageError for a rule whose ``decide`` stops where its array form does not.
    """
    columns = codes.shape[1]
    seconds = orders.seconds.reshape(len(codes), columns)
    timed = not np.isnan(seconds).all()
    rounds, drawn = np.zeros(len(n), np.int64), np.zeros(len(n), np.int64)
    total = np.zeros(len(n)) if timed else np.full(len(n), np.nan)
    active = np.arange(len(n))
    while active.size:
        begin = drawn[active]
        end = np.minimum(begin + _draws(rule, codes, active, begin, values), columns)
        if timed:
            total[active] += _slowest(seconds[active], begin, end)
        rounds[active] += 1
        drawn[active] = end
        active = active[end < n[active]]
    return Rounds(rounds, drawn, total)


def drawn_by(
    rule: StopRule, codes: Any, n: IntArray, values: Mapping[str, FloatArray], orders: Orders
) -> IntArray:
    """``Rounds.drawn`` alone, for many policies: nothing is followed where none draws in vain.

    That is any rule without a ``round_price``, by the contract of ``StopRule.decide``.
    """
    if not getattr(rule, "round_price", 0):
        return n
    return rounds_of(rule, codes, n, values, orders).drawn


def state_of(codes: Any, values: Mapping[str, Any]) -> State:
    """The state that ``solve`` would show after the samples ``codes`` (n,), answers by number."""
    clusters = tuple(None if code < 0 else int(code) for code in codes)
    counts = np.bincount(codes[codes >= 0])
    columns = {
        name: tuple(None if np.isnan(value) else float(value) for value in column)
        for name, column in values.items()
    }
    answers = tuple(str(k) for k in range(len(counts)))
    return State(clusters, tuple(counts.tolist()), answers, columns=columns)


# -- inside ---------------------------------------------------------------------------------------


def _draws(
    rule: StopRule, codes: Any, rows: IntArray, begin: IntArray, values: Mapping[str, FloatArray]
) -> IntArray:
    """How many samples ``rule`` asks for at each of ``rows`` after ``begin`` samples, (r,)."""
    wanted = np.empty(len(rows), np.int64)
    for size in np.unique(begin):
        here = np.flatnonzero(begin == size)
        seen = np.ascontiguousarray(codes[rows[here], :size])
        read = {name: values[name][rows[here], :size] for name in rule.needs}
        first, which = _alike(seen, read)
        asked = [
            _asked(rule, state_of(seen[row], {name: each[row] for name, each in read.items()}))
            for row in first
        ]
        wanted[here] = np.array(asked, np.int64)[which]
    return wanted


def _alike(seen: Any, read: Mapping[str, FloatArray]) -> tuple[Any, Any]:
    """One row of each distinct state, and which of these each row is like."""
    parts = [seen.view(np.uint8).reshape(len(seen), -1)]
    parts += [
        np.ascontiguousarray(each).view(np.uint8).reshape(len(seen), -1) for each in read.values()
    ]
    bits = np.ascontiguousarray(np.concatenate(parts, axis=1))
    if not bits.shape[1]:
        return np.zeros(1, np.int64), np.zeros(len(seen), np.int64)
    keys = bits.view(np.dtype((np.void, bits.shape[1]))).ravel()
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return first, which


def _asked(rule: StopRule, state: State) -> int:
    decision = rule.decide(state)
    if isinstance(decision, Stop):
        raise UsageError(
            f"{rule}: decide stops after {state.n} samples where its array form goes on; "
            "its two forms must agree"
        )
    return decision.n


def _slowest(seconds: FloatArray, begin: IntArray, end: IntArray) -> FloatArray:
    column = np.arange(seconds.shape[1])
    within = (column >= begin[:, None]) & (column < end[:, None])
    longest: FloatArray = np.where(within, seconds, -np.inf).max(axis=1)
    return longest
