"""Every prefix of every order at once: who leads, whether that is right, what it has cost by then.

With this at hand a policy is no more than the prefix it picks, so hundreds of them can be compared.
It does not know what is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from poise.replay.following import elected, flat, grades_of
from poise.replay.orders import FloatArray, Orders
from poise.votes import Majority, Vote

__all__ = ["Walk", "walk"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Walk:
    """After each of N samples, for q questions in o orders, (q, o, N).

    ``right``: whether the vote's leader is right, 0 where there is none, -1 not known; ``same``:
    whether it is the majority of all N; ``tokens`` completion tokens so far, nan where not known.
    ``settled`` (q, o): the oracle stop, the first n after which the leader never changes.
    """

    right: npt.NDArray[np.int8]
    same: npt.NDArray[np.bool_]
    tokens: FloatArray
    settled: IntArray


def walk(orders: Orders, vote: Vote = Majority()) -> Walk:
    """Walk all orders, led by ``vote``. Raises UsageError where a signal it needs is lacking."""
    codes, values = flat(orders)
    leaders = _leaders(codes, vote, values)
    right = np.stack([grades_of(orders, leader) for leader in leaders.T.astype(np.int64)], axis=1)
    final = Majority().elect_all(codes, np.full(len(codes), codes.shape[1]))
    changed = leaders[:, :-1] != leaders[:, -1:]
    last = codes.shape[1] - 1 - changed[:, ::-1].argmax(axis=1)
    settled = np.where(changed.any(axis=1), last + 1, 1)
    return Walk(
        right=right.reshape(orders.shape),
        same=(leaders == final[:, None]).reshape(orders.shape),
        tokens=np.cumsum(orders.tokens, axis=2),
        settled=settled.reshape(orders.shape[:2]),
    )


# -- inside ---------------------------------------------------------------------------------------


def _leaders(codes: Any, vote: Vote, values: Mapping[str, FloatArray]) -> npt.NDArray[np.int16]:
    """The vote's leader after each sample, (m, N), -1 none."""
    m, columns = codes.shape
    leaders = np.empty((m, columns), np.int16)
    if not isinstance(vote, Majority):
        for column in range(columns):
            leaders[:, column] = elected(vote, codes, np.full(m, column + 1), values)
        return leaders
    slots = int(codes.max(initial=0)) + 1
    counts, base = np.zeros(m * slots, np.int16), np.arange(m) * slots
    leader, most = np.full(m, -1, np.int16), np.zeros(m, np.int16)
    for column in range(columns):
        code = codes[:, column]
        read = code >= 0
        place = base + np.maximum(code, 0)
        votes = counts[place] + read
        counts[place] = votes
        ahead = read & ((votes > most) | ((votes == most) & (code < leader)))
        leader = np.where(ahead, code, leader)
        most = np.where(ahead, votes, most)
        leaders[:, column] = leader
    return leaders
