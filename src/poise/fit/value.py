"""Learning what one more sample is worth, from pools in shuffled orders.

A flip is a leader that the majority of all samples overturns. Every prefix of every order is
counted. Where counts are thin they lean on a model: votes on the mixture of Chinese-restaurant
processes of ``poise.policies``, its weights refitted to the pools; gains and payoffs on a ridge
regression over the states. With a signal it is ``value_signal`` that learns. ``docs/value.md``
derives both.

It does not know prices, or how the orders were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from poise.errors import RefusedError, UsageError
from poise.fit.value_signal import leader_right, learn_signal
from poise.policies import IntArray
from poise.policies.value import Value
from poise.policies.value_evidence import Evidence
from poise.policies.value_plan import encoded, plan
from poise.policies.value_process import (
    PRIOR,
    Components,
    Process,
    VotesStep,
    components,
    overtaken,
)
from poise.policies.value_states import Layer, walk
from poise.votes import Majority, Softmax, Vote

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
    """A learnt process, and what it reads beside votes, if anything; ``rule`` makes a stop rule."""

    process: Process
    objective: Objective
    evidence: Evidence | None = None

    @property
    def vote(self) -> Vote:
        """Whose winner the process was learnt for: answer with it."""
        if self.evidence is None:
            return Majority()
        return Softmax(self.evidence.temperature, self.evidence.signal)

    def rule(self, price: float, round_price: float = 0.0) -> Value:
        """The best rule at this price of a sample and of a round, in units of the payoff.

        For a price in tokens or seconds, multiply by what a sample takes of them on average.
        """
        # The rule itself refuses prices that make no sense.
        bare = Value(price, round_price, self.process.max_samples)
        table = encoded(plan(self.process, bare.price, bare.round_price).codes)
        if self.evidence is None:
            return replace(bare, table=table)
        return replace(
            bare,
            signal=self.evidence.signal,
            temperature=self.evidence.temperature,
            edges=self.evidence.weights,
            rivals=self.evidence.rivals,
            table=table,
        )


def learn(
    codes: IntArray,
    right: IntArray | None = None,
    values: FloatArray | None = None,
    *,
    objective: Objective = "right",
    signal: str = "",
) -> Learnt:
    """Learn from q questions in o orders of N samples, N at most 64.

    ``codes`` (q, o, N) clusters numbered by first appearance in their order, -1 unreadable;
    ``right`` (q, o, N) whether the cluster of that number is right, for ``right`` only; ``values``
    (q, o, N) of the sample ``signal``, nan where missing. They are what ``poise.replay.orders``
    makes. Raises UsageError for arrays that do not fit together and for a signal that is no
    confidence; InputError where a leader has no grade, or no sample a value; RefusedError without
    labels for ``right`` or with fewer than two questions.
    """
    _check(codes, right, values, objective, signal)
    told = right if objective == "right" else None
    if values is not None:
        process, evidence = learn_signal(codes, told, values, signal)
        return Learnt(process, objective, evidence)
    seen = _Seen(codes, told)
    known = components(codes.shape[2])
    weights = _weights(known, seen)
    chances = tuple(known.mixed(n, weights) for n in range(codes.shape[2]))
    loss, payoff = _worth(known, seen, overtaken(known, chances))
    steps = tuple(_step(known, seen, n, chance) for n, chance in enumerate(chances))
    return Learnt(Process(steps, loss, payoff), objective)


def _check(
    codes: IntArray,
    right: IntArray | None,
    values: FloatArray | None,
    objective: str,
    signal: str,
) -> None:
    if objective not in {"right", "agree"}:
        raise UsageError(f"objective={objective!r}: choose right or agree")
    if codes.ndim != 3 or codes.dtype.kind != "i" or not codes.shape[1]:
        raise UsageError(f"codes of shape {codes.shape}: must be (questions, orders, samples)")
    for name, array in (("right", right), ("values", values)):
        if array is not None and array.shape != codes.shape:
            raise UsageError(f"{name} of shape {array.shape} for codes of shape {codes.shape}")
    if (values is None) != (not signal):
        raise UsageError("give a signal's name together with its values")
    if len(codes) < FEWEST_QUESTIONS:
        raise RefusedError(f"{len(codes)} questions: nothing can be learnt from so few")
    if objective == "right" and right is None:
        raise RefusedError("the objective right wants labels; agree does without them")
    # The number of samples is checked as the rule checks it.
    Value(max_samples=codes.shape[2])


class _Seen:
    """The orders as walks through states: (m, N) arrays, m = q x o rows."""

    def __init__(self, codes: IntArray, right: IntArray | None):
        _, self.orders, size = codes.shape
        rows = codes.reshape(-1, size).astype(np.int64)
        passed = walk(rows, components(size).states)
        self.place, leader = passed.place, passed.leader
        self.flip = leader != leader[:, -1:]
        self.right = self.gain = None
        if right is not None:
            self.right = leader_right(right.reshape(-1, size), leader)
            self.gain = self.right[:, -1:] - self.right
            self.gap = _gap(rows, leader)

    def mass(self, n: int, layer: Layer, of: npt.NDArray[np.generic] | None = None) -> FloatArray:
        """(s,) questions in each state after n samples, each worth ``of`` (m, N) there."""
        place = self.place[:, n - 1]
        weight = np.ones(len(place)) if of is None else of[:, n - 1].astype(np.float64)
        counted: FloatArray = np.bincount(place, weight, len(layer)) / self.orders
        return counted


def _gap(rows: IntArray, leader: IntArray) -> FloatArray:
    """(m, N) by what share of all samples the last leader ends ahead of the leader so far."""
    votes = np.stack([(rows == one).sum(axis=1) for one in range(rows.max(initial=0) + 1)], axis=1)
    end = np.take_along_axis(votes, np.maximum(leader, 0), axis=1) * (leader >= 0)
    found: FloatArray = (end[:, -1:] - end) / rows.shape[1]
    return found


def _weights(known: Components, seen: _Seen) -> FloatArray:
    """(c,) maximum a posteriori weights of the components; the prior counts ``KEPT`` questions.

    The likelihood of a question is that of the state it ends in, whatever the order.
    """
    # Rows that ended in the same state are one.
    ends, times = np.unique(seen.place[:, -1], return_counts=True)
    reach, prior = known.reach[-1][ends], np.array(PRIOR)
    weights = prior
    for _ in range(ROUNDS):
        share = reach * weights
        share *= (times / seen.orders / np.maximum(share.sum(axis=1), 1e-300))[:, None]
        weights = share.sum(axis=0) + KEPT * prior
        weights = weights / weights.sum()
    return weights


def _worth(
    known: Components, seen: _Seen, lose: Sequence[FloatArray]
) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Loss and payoff of stopping in each state."""
    layers = known.states.layers

    def counted(of: npt.NDArray[np.generic] | None = None) -> list[FloatArray]:
        return [np.zeros(1), *(seen.mass(n, layers[n], of) for n in range(1, len(layers)))]

    mass, flips = counted(), counted(seen.flip)
    flip = [
        np.where(prior > 0, (flipped + KEPT * prior) / (there + KEPT), 0.0)
        for prior, flipped, there in zip(lose, flips, mass, strict=True)
    ]
    flip[-1] = np.zeros_like(flip[-1])
    if seen.right is None or seen.gain is None:
        return tuple(flip), tuple(1 - one for one in flip)
    columns = [_columns(layer, len(layers) - 1) for layer in layers]
    gains, rights, gaps = counted(seen.gain), counted(seen.right), counted(seen.gap)
    behind = sum(one.sum() for one in gaps)
    gap = _smoothed(gaps, flips, columns, behind / max(sum(x.sum() for x in flips), 1e-9), KEPT)
    level = (sum(one.sum() for one in gains) + KEPT * WORTH) / (behind + KEPT)
    worth = _smoothed(gains, gaps, columns, level, LEANING)
    share = sum(one.sum() for one in rights) / sum(one.sum() for one in mass)
    payoff = _smoothed(rights, mass, columns, share, KEPT)
    loss = tuple(one * by * each for one, by, each in zip(flip, gap, worth, strict=True))
    return loss, tuple(np.clip(one, 0.0, 1.0) for one in payoff)


def _columns(layer: Layer, most: int) -> FloatArray:
    """(s, 5) what gains and payoffs are regressed on."""
    n = max(layer.n, 1)
    return np.stack(
        [
            (layer.leader - layer.runner_up) / n,
            layer.leader / n,
            np.full(len(layer), np.log(n)),
            np.full(len(layer), layer.n / most),
            np.ones(len(layer)),
        ],
        axis=1,
    )


def _smoothed(
    sums: Sequence[FloatArray],
    mass: Sequence[FloatArray],
    columns: Sequence[FloatArray],
    level: float,
    kept: float,
) -> list[FloatArray]:
    """Means ``sums / mass`` by state, leaning on a ridge regression that leans on ``level``."""
    weight, x = np.concatenate(mass), np.concatenate(columns)
    y = np.concatenate(sums) - weight * level
    normal = (x * weight[:, None]).T @ x + kept * np.eye(x.shape[1])
    slopes = np.linalg.solve(normal, x.T @ y)
    return [
        (total + kept * (level + column @ slopes)) / (there + kept)
        for total, there, column in zip(sums, mass, columns, strict=True)
    ]


def _step(known: Components, seen: _Seen, n: int, chance: FloatArray) -> VotesStep:
    """From layer n to n + 1: what was counted, and the model in its place where that is little."""
    layer, width = known.states.layers[n], len(known.states.layers[n + 1])
    source = seen.place[:, n - 1].astype(np.int64) if n else np.zeros(len(seen.place), np.int64)
    pairs, times = np.unique(source * width + seen.place[:, n], return_counts=True)
    here = np.bincount(source, minlength=len(layer)) / seen.orders
    source, target = pairs // width, pairs % width
    return VotesStep(
        layer,
        chance * (KEPT / (here + KEPT))[:, None],
        source,
        target,
        times / seen.orders / (here[source] + KEPT),
    )
