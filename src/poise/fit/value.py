"""Learning what one more sample is worth, from pools in shuffled orders.

A flip is a leader that the majority of all samples overturns. Every prefix of every order is
counted. Where counts are thin they lean on a model: votes on the mixture of Chinese-restaurant
processes of ``poise.policies``, its weights refitted to the pools (and to each bucket of the
signal); gains and payoffs on a ridge regression over the states. ``docs/value.md`` derives it.

It does not know prices, or how the orders were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from poise.errors import InputError, RefusedError, UsageError
from poise.policies import IntArray
from poise.policies.value import Value
from poise.policies.value_plan import encoded, plan
from poise.policies.value_process import PRIOR, Components, Process, Step, components, overtaken
from poise.policies.value_states import Layer, bucketed, walk

__all__ = ["FEWEST_QUESTIONS", "Learnt", "Objective", "learn"]

FloatArray = npt.NDArray[np.float64]

Objective = Literal["right", "agree"]
"""``right``: the payoff is 1 if the leader at the stop is right. ``agree``: 1 if it is the majority
of all samples; wants no labels."""

FEWEST_QUESTIONS = 2
"""Questions below which nothing is learnt."""

KEPT = 5.0
"""Questions seen in a state that weigh as much as the model there."""

WORTH = 0.6
"""What a flip gains, for the share of all samples by which the new leader ends ahead, before any is
seen. ``KEPT`` such shares weigh as much."""

LEANING = 250.0
"""Such shares, summed over the prefixes that are overturned, that weigh as much as one worth for
all states. High because labels are noisy: a few hundred questions make worse rules where every
state has a worth of its own."""

ROUNDS = 40
"""Steps of expectation maximisation; the weights hardly move after twenty."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """A learnt process, and the buckets it was learnt in: ``rule`` makes a stop rule of it."""

    process: Process
    objective: Objective
    signal: str
    edges: tuple[float, ...]

    def rule(self, price: float, round_price: float = 0.0) -> Value:
        """The best rule at this price of a sample and of a round, in units of the payoff.

        For a price in tokens or seconds, multiply by what a sample takes of them on average.
        """
        # The rule itself refuses prices that make no sense.
        bare = Value(price, round_price, self.process.states.max_samples)
        codes = plan(self.process, bare.price, bare.round_price).codes
        return replace(bare, signal=self.signal, edges=self.edges, table=encoded(codes))


def learn(
    codes: IntArray,
    right: IntArray | None = None,
    values: FloatArray | None = None,
    *,
    objective: Objective = "right",
    signal: str = "",
    buckets: int = 4,
) -> Learnt:
    """Learn from q questions in o orders of N samples, N at most 64.

    ``codes`` (q, o, N) clusters numbered by first appearance in their order, -1 unreadable;
    ``right`` (q, o, N) whether the cluster of that number is right, for ``right`` only; ``values``
    (q, o, N) of the sample ``signal``, nan where missing, read in ``buckets`` of equally many
    prefixes. The three are what ``poise.replay.orders`` makes. Raises UsageError for arrays that do
    not fit together; InputError where a leader has no grade; RefusedError without labels for
    ``right`` or with fewer than two questions.
    """
    _check(codes, right, values, objective, signal, buckets)
    seen = _Seen(codes, right if objective == "right" else None, values, buckets)
    known = components(codes.shape[2])
    weights = _weights(known, seen)
    chances = tuple(
        np.stack([known.mixed(n, weight) for weight in weights], axis=2)
        for n in range(codes.shape[2])
    )
    lost = [overtaken(known, tuple(one[:, :, q] for one in chances)) for q in range(len(weights))]
    lose = [np.stack(columns, axis=1) for columns in zip(*lost, strict=True)]
    loss, payoff = _worth(known, seen, lose)
    steps = tuple(_step(known, seen, n, chances[n]) for n in range(codes.shape[2]))
    return Learnt(Process(known.states, steps, loss, payoff), objective, signal, seen.edges)


def _check(
    codes: IntArray,
    right: IntArray | None,
    values: FloatArray | None,
    objective: str,
    signal: str,
    buckets: int,
) -> None:
    if objective not in {"right", "agree"}:
        raise UsageError(f"objective={objective!r}: choose right or agree")
    if codes.ndim != 3 or codes.dtype.kind != "i" or not codes.shape[1]:
        raise UsageError(f"codes of shape {codes.shape}: must be (questions, orders, samples)")
    for name, array in (("right", right), ("values", values)):
        if array is not None and array.shape != codes.shape:
            raise UsageError(f"{name} of shape {array.shape} for codes of shape {codes.shape}")
    if (values is None) != (not signal) or buckets < 1:
        raise UsageError("give a signal's name together with its values, and one bucket or more")
    if len(codes) < FEWEST_QUESTIONS:
        raise RefusedError(f"{len(codes)} questions: nothing can be learnt from so few")
    if objective == "right" and right is None:
        raise RefusedError("the objective right wants labels; agree does without them")
    # The number of samples is checked as the rule checks it.
    Value(max_samples=codes.shape[2])


class _Seen:
    """The orders as walks through cells (state, bucket): (m, N) arrays, m = q x o rows."""

    def __init__(
        self, codes: IntArray, right: IntArray | None, values: FloatArray | None, buckets: int
    ):
        _, self.orders, size = codes.shape
        rows = codes.reshape(-1, size).astype(np.int64)
        states = components(size).states
        passed = walk(rows, states, None if values is None else values.reshape(-1, size))
        self.place, self.leader = passed.place, passed.leader
        before = np.concatenate([np.full((len(rows), 1), -1), passed.leader[:, :-1]], axis=1)
        self.voted = (rows >= 0) & (rows == before)
        self.edges = () if values is None else _edges(passed.mean, buckets)
        self.buckets = 1 if values is None else len(self.edges) + 2
        self.bucket = bucketed(passed.mean, self.edges)
        self.flip = passed.leader != passed.leader[:, -1:]
        self.right = self.gain = None
        if right is not None:
            self.right = _leader_right(right.reshape(-1, size), passed.leader)
            self.gain = self.right[:, -1:] - self.right
            self.gap = _gap(rows, passed.leader)

    def mass(self, n: int, layer: Layer, of: npt.NDArray[np.generic] | None = None) -> FloatArray:
        """(s, q) questions in each cell after n samples, each worth ``of`` (m, N) there."""
        cell = self.place[:, n - 1] * self.buckets + self.bucket[:, n - 1]
        weight = np.ones(len(cell)) if of is None else of[:, n - 1].astype(np.float64)
        counted: FloatArray = np.bincount(cell, weight, len(layer) * self.buckets) / self.orders
        return counted.reshape(len(layer), self.buckets)


def _edges(mean: FloatArray, buckets: int) -> tuple[float, ...]:
    there = mean[np.isfinite(mean)]
    if not there.size:
        raise InputError("the signal has no value at any sample")
    inner = np.unique(np.quantile(there, np.arange(1, buckets) / buckets))
    return tuple(inner.tolist())


def _leader_right(right: IntArray, leader: IntArray) -> FloatArray:
    """(m, N) whether the leader is right, 0 where none leads."""
    graded = np.take_along_axis(right, np.maximum(leader, 0), axis=1)
    if (graded[leader >= 0] < 0).any():
        raise InputError("some answers have no grade; leave their questions out to learn right")
    found: FloatArray = np.where(leader >= 0, graded, 0).astype(np.float64)
    return found


def _gap(rows: IntArray, leader: IntArray) -> FloatArray:
    """(m, N) by what share of all samples the last leader ends ahead of the leader so far."""
    votes = np.stack([(rows == one).sum(axis=1) for one in range(rows.max(initial=0) + 1)], axis=1)
    end = np.take_along_axis(votes, np.maximum(leader, 0), axis=1) * (leader >= 0)
    found: FloatArray = (end[:, -1:] - end) / rows.shape[1]
    return found


def _weights(known: Components, seen: _Seen) -> list[FloatArray]:
    """(c,) weights of the components for each bucket of the first sample, leaning on all of them.

    The likelihood of a question is that of the state it ends in, whatever the order.
    """
    reach = known.reach[-1][seen.place[:, -1]]
    whole = _em(reach, np.full(len(reach), 1 / seen.orders), np.array(PRIOR))
    if seen.buckets == 1:
        return [whole]
    first = seen.bucket[:, 0]
    return [_em(reach, (first == one) / seen.orders, whole) for one in range(seen.buckets)]


def _em(reach: FloatArray, times: FloatArray, prior: FloatArray) -> FloatArray:
    """Maximum a posteriori weights; ``prior`` counts as ``KEPT`` questions."""
    reach, times = reach[times > 0], times[times > 0]
    # Rows that ended in the same state are one.
    unique, member = np.unique(reach, axis=0, return_inverse=True)
    times = np.bincount(member.ravel(), times, len(unique)).astype(np.float64)
    weights = prior
    for _ in range(ROUNDS):
        share = unique * weights
        share *= (times / np.maximum(share.sum(axis=1), 1e-300))[:, None]
        weights = share.sum(axis=0) + KEPT * prior
        weights = weights / weights.sum()
    return weights


def _worth(
    known: Components, seen: _Seen, lose: Sequence[FloatArray]
) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Loss and payoff of stopping in each cell."""
    layers = known.states.layers
    mass = [
        seen.mass(n, layers[n]) if n else np.zeros((1, seen.buckets)) for n in range(len(layers))
    ]

    def counted(of: npt.NDArray[np.generic]) -> list[FloatArray]:
        first = np.zeros((1, seen.buckets))
        return [first, *(seen.mass(n, layers[n], of) for n in range(1, len(layers)))]

    flips = counted(seen.flip)
    flip = [
        np.where(prior > 0, (flipped + KEPT * prior) / (there + KEPT), 0.0)
        for prior, flipped, there in zip(lose, flips, mass, strict=True)
    ]
    flip[-1] = np.zeros_like(flip[-1])
    if seen.right is None or seen.gain is None:
        return tuple(flip), tuple(1 - one for one in flip)
    columns = [_columns(layer, len(layers) - 1, seen.buckets) for layer in layers]
    gains, rights, gaps = counted(seen.gain), counted(seen.right), counted(seen.gap)
    behind = sum(one.sum() for one in gaps)
    gap = _smoothed(gaps, flips, columns, behind / max(sum(x.sum() for x in flips), 1e-9), KEPT)
    level = (sum(one.sum() for one in gains) + KEPT * WORTH) / (behind + KEPT)
    worth = _smoothed(gains, gaps, columns, level, LEANING)
    share = sum(one.sum() for one in rights) / sum(one.sum() for one in mass)
    payoff = _smoothed(rights, mass, columns, share, KEPT)
    loss = tuple(one * by * each for one, by, each in zip(flip, gap, worth, strict=True))
    return loss, tuple(np.clip(one, 0.0, 1.0) for one in payoff)


def _columns(layer: Layer, most: int, buckets: int) -> FloatArray:
    """(s, q, columns) what gains and payoffs are regressed on."""
    n = max(layer.n, 1)
    states = np.stack(
        [
            (layer.leader - layer.runner_up) / n,
            layer.leader / n,
            np.full(len(layer), np.log(n)),
            np.full(len(layer), layer.n / most),
            np.ones(len(layer)),
        ],
        axis=1,
    )
    spread = np.broadcast_to(states[:, None], (len(layer), buckets, states.shape[1]))
    which = np.broadcast_to(np.eye(buckets), (len(layer), buckets, buckets))
    return np.concatenate([spread, which], axis=2) if buckets > 1 else spread


def _smoothed(
    sums: Sequence[FloatArray],
    mass: Sequence[FloatArray],
    columns: Sequence[FloatArray],
    level: float,
    kept: float,
) -> list[FloatArray]:
    """Means ``sums / mass`` by cell, leaning on a ridge regression that leans on ``level``."""
    weight = np.concatenate([one.ravel() for one in mass])
    x = np.concatenate([one.reshape(-1, one.shape[2]) for one in columns])
    y = np.concatenate([one.ravel() for one in sums]) - weight * level
    normal = (x * weight[:, None]).T @ x + kept * np.eye(x.shape[1])
    slopes = np.linalg.solve(normal, x.T @ y)
    return [
        (total + kept * (level + column @ slopes)) / (there + kept)
        for total, there, column in zip(sums, mass, columns, strict=True)
    ]


def _step(known: Components, seen: _Seen, n: int, chance: FloatArray) -> Step:
    """From layer n to n + 1: what was counted, and the model in its place where that is little."""
    q, rows = seen.buckets, len(seen.place)
    nowhere = np.zeros(rows, np.int64)
    place, bucket = (seen.place[:, n - 1], seen.bucket[:, n - 1]) if n else (nowhere, nowhere)
    source = place * q + bucket
    target = seen.place[:, n] * q + seen.bucket[:, n]
    width = len(known.states.layers[n + 1]) * q
    pairs, times = np.unique(source * width + target, return_counts=True)
    here = np.bincount(source, minlength=chance.shape[0] * q) / seen.orders
    source, target = pairs // width, pairs % width
    led = seen.leader[:, n - 1] if n else nowhere - 1
    changed = led != seen.leader[:, n]
    moved = np.zeros((2, q, q))
    for kind, chosen in enumerate((seen.voted[:, n] & ~changed, changed)):
        np.add.at(moved[kind], (bucket[chosen], seen.bucket[chosen, n]), 1 / seen.orders)
    arrived = moved[1].sum(axis=0) + 1e-9
    voted = moved[0] + KEPT * np.eye(q)
    leads = moved[1] + KEPT * arrived / arrived.sum()
    return Step(
        known.states.layers[n],
        chance * (KEPT / (here + KEPT)).reshape(-1, 1, q),
        voted / voted.sum(axis=1, keepdims=True),
        leads / leads.sum(axis=1, keepdims=True),
        source,
        target,
        times / seen.orders / (here[source] + KEPT),
    )
