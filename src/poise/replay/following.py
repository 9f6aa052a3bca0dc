"""One policy over all orders: where it stops, what it answers, what that cost.

The vectorised twin of ``solve`` on stored samples: the same stops, answers and rounds. It does not
know gold answers beyond the grades that ``Orders`` carries, or what is compared with what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from poise.policies import Answer, Policy, StopRule
from poise.replay.orders import FloatArray, Orders
from poise.replay.rounds import rounds_of, state_of
from poise.votes import Majority, Vote

__all__ = ["Followed", "elected", "flat", "follow", "grades_of", "stops"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Followed:
    """What a policy did with q questions in o orders; all (q, o).

    ``n`` samples in the prefix that was decided on; ``leader`` the cluster elected there, -1 none;
    ``right`` its grade (1, 0, -1 not known; 0 without a leader), also where the policy abstained;
    ``abstained``; ``same_as_majority`` whether the leader is the majority of all N samples of the
    order. ``samples`` drawn, at least ``n``; ``tokens`` their completion tokens, nan where not
    known; ``rounds`` requests one after another, each for all samples of a Draw; ``latency``
    seconds if each round lasts as long as its slowest sample, nan where not known, as it is where
    follow-ups are asked (pools do not say how long those take); ``prompt`` the estimated prompt
    tokens, one prompt a round; ``followups`` further questions asked, one for each distinct thing
    to ask about among the first ``n`` samples.
    """

    n: IntArray
    leader: IntArray
    right: npt.NDArray[np.int8]
    abstained: BoolArray
    same_as_majority: BoolArray
    samples: IntArray
    tokens: FloatArray
    rounds: IntArray
    latency: FloatArray
    prompt: FloatArray
    followups: IntArray


def follow(
    orders: Orders,
    policy: Policy,
    vote: Vote = Majority(),
    *,
    probability: FloatArray | None = None,
) -> Followed:
    """Follow ``policy`` through every order until it stops, or has seen all N samples.

    ``probability`` (q, o): what the exit rule is told of the leader, nan for nothing; None: nothing
    anywhere. Raises UsageError where ``orders`` lack a signal that the policy or the vote needs.
    """
    codes, values = flat(orders)
    n = stops(policy.stop, codes, values)
    leader = elected(vote, codes, n, values)
    everything = np.full(len(codes), codes.shape[1])
    majority = Majority().elect_all(codes, everything)
    cost = rounds_of(policy.stop, codes, n, values, orders)
    asked = _followups(policy, vote, orders, n)
    shape = orders.shape[:2]
    told = None if probability is None else probability.ravel()
    return Followed(
        n=n.reshape(shape),
        leader=leader.reshape(shape),
        right=grades_of(orders, leader).reshape(shape),
        abstained=_abstained(policy, codes, n, leader, told).reshape(shape),
        same_as_majority=(leader == majority).reshape(shape),
        samples=cost.drawn.reshape(shape),
        tokens=_up_to(orders.tokens, cost.drawn).reshape(shape),
        rounds=cost.rounds.reshape(shape),
        latency=np.where(asked > 0, np.nan, cost.seconds).reshape(shape),
        prompt=cost.rounds.reshape(shape) * orders.prompt_tokens[:, None],
        followups=asked.reshape(shape),
    )


def flat(orders: Orders) -> tuple[npt.NDArray[np.int16], dict[str, FloatArray]]:
    """Codes and values with a row for each order of each question, (q * o, N)."""
    n = orders.shape[2]
    values = {name: column.reshape(-1, n) for name, column in orders.values.items()}
    return orders.codes.reshape(-1, n), values


def stops(rule: StopRule, codes: Any, values: Mapping[str, FloatArray]) -> IntArray:
    """After how many samples ``rule`` stops, (m,)."""
    found = rule.stops(codes, values) if rule.needs else rule.stops(codes)
    return found.astype(np.int64)


def elected(vote: Vote, codes: Any, n: Any, values: Mapping[str, FloatArray]) -> IntArray:
    """Whom ``vote`` elects of the first ``n`` (m,) samples of each row."""
    found = vote.elect_all(codes, n, values) if vote.needs else vote.elect_all(codes, n)
    return found.astype(np.int64)


def grades_of(orders: Orders, leader: IntArray) -> npt.NDArray[np.int8]:
    """The grade of each row's ``leader`` (q * o,); none is not right."""
    right = orders.right.reshape(len(leader), -1)
    held = right[np.arange(len(leader)), np.maximum(leader, 0)]
    return np.where(leader < 0, 0, held).astype(np.int8)


# -- inside ---------------------------------------------------------------------------------------


def _abstained(
    policy: Policy, codes: Any, n: IntArray, leader: IntArray, probability: FloatArray | None
) -> BoolArray:
    if isinstance(policy.exit, Answer):
        return leader < 0
    known: dict[Any, bool] = {}
    found = np.empty(len(n), np.bool_)
    for row, size in enumerate(n):
        elect = None if leader[row] < 0 else int(leader[row])
        told = None if probability is None or np.isnan(probability[row]) else probability[row]
        key = (codes[row, :size].tobytes(), elect, told)
        if key not in known:
            state = state_of(codes[row, :size], {})
            known[key] = policy.exit.decide(state, elect, told) == "abstain"
        found[row] = known[key]
    return found


def _up_to(column: FloatArray, n: IntArray) -> FloatArray:
    """The sum of each row's first ``n`` entries; nan where one of them is not known."""
    rows = column.reshape(len(n), -1)
    within = np.arange(rows.shape[1]) < n[:, None]
    total: FloatArray = np.where(within, rows, 0.0).sum(axis=1)
    return total


def _asking(policy: Policy, vote: Vote, orders: Orders) -> set[str]:
    return {name for name in (*policy.stop.needs, *vote.needs) if name in orders.asks}


def _followups(policy: Policy, vote: Vote, orders: Orders, n: IntArray) -> IntArray:
    """Of the first ``n`` samples: what is still waiting at the stop is never asked about."""
    calls = np.zeros(len(n), np.int64)
    for name in _asking(policy, vote, orders):
        asks = orders.asks[name].reshape(len(n), -1)
        within = np.arange(asks.shape[1]) < n[:, None]
        calls += np.where(within, asks, -1).max(axis=1) + 1
    return calls
