"""How votes go on: a mixture of Chinese-restaurant processes, and what value rules plan on.

Each component draws its next answer from an urn with discount ``alpha`` and strength ``theta``
(Pitman and Yor), after an unreadable reply with probability ``rho``: with v readable samples of d
answers, an answer with c votes comes with (c - alpha) / (v + theta), a new one with
(theta + alpha d) / (v + theta). Small theta: one answer takes nearly all; large: no two agree. The
mixture's weights are what is learnt; seen from a state they are weighed again by how well each
component explains it, so that early agreement speaks for more of it.

It does not know labels, prices or where the weights come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from poise.columns import FloatArray
from poise.policies.running import IntArray
from poise.policies.value_states import Layer, Space, space

__all__ = [
    "COMPONENTS",
    "PRIOR",
    "Components",
    "Process",
    "Step",
    "VotesStep",
    "analytic",
    "components",
    "overtaken",
]

URNS = (
    *((0.0, theta) for theta in (0.05, 0.2, 0.6, 1.5, 4.0, 12.0, 50.0)),
    *((0.4, 0.3), (-0.3, 1.2), (-1.0, 4.0)),
)
"""(alpha, theta). Where alpha < 0 there are -theta / alpha answers: 4, as in a choice of four."""

UNREADABLE = (0.01, 0.3, 0.8)

COMPONENTS = tuple((alpha, theta, rho) for alpha, theta in URNS for rho in UNREADABLE)
"""(alpha, theta, rho) of each component."""

URN_WEIGHTS = (0.26, 0.13, 0.10, 0.06, 0.05, 0.06, 0.06, 0.14, 0.08, 0.06)
UNREADABLE_WEIGHTS = (0.9, 0.07, 0.03)

PRIOR = tuple(urn * unread for urn in URN_WEIGHTS for unread in UNREADABLE_WEIGHTS)
"""Weights of the components before any pool is seen: half way from equal ones to those that fit the
pools named in ``docs/value.md``."""


@dataclass(frozen=True, slots=True)
class Components:
    """All components on the states up to ``states.max_samples``.

    ``chance[n]`` (s, 7, c): what the next sample is, by ``KINDS``; ``reach[n]`` (s, c): probability
    of being in the state after n samples.
    """

    states: Space
    chance: tuple[FloatArray, ...]
    reach: tuple[FloatArray, ...]

    def mixed(self, n: int, weights: FloatArray) -> FloatArray:
        """(s, 7) what the next sample is, where components weigh ``weights`` (c,) at the start."""
        weighed = self.reach[n] * weights
        total = weighed.sum(axis=1, keepdims=True)
        weighed = np.where(total > 0, weighed / np.where(total > 0, total, 1.0), weights)
        mixed: FloatArray = np.einsum("skc,sc->sk", self.chance[n], weighed)
        return mixed


@lru_cache(maxsize=4)
def components(max_samples: int) -> Components:
    """``COMPONENTS`` on all states up to ``max_samples``; shared, read-only."""
    states = space(max_samples)
    chance = tuple(_chance(layer) for layer in states.layers[:-1])
    reach = [np.ones((1, len(COMPONENTS)))]
    for layer, following, some in zip(states.layers, states.layers[1:], chance, strict=False):
        onward = np.zeros((len(following), len(COMPONENTS)))
        for kind in range(layer.next.shape[1]):
            there = layer.next[:, kind] >= 0
            np.add.at(onward, layer.next[there, kind], (reach[-1] * some[:, kind])[there])
        reach.append(onward)
    return Components(states, chance, tuple(reach))


def _chance(layer: Layer) -> FloatArray:
    """(s, 7, c). What a state leaves open is set to its expectation: see ``docs/value.md``."""
    alpha, theta, rho = (np.array(column) for column in zip(*COMPONENTS, strict=True))
    a, b, d = (
        column[:, None].astype(np.float64)
        for column in (layer.leader, layer.runner_up, layer.distinct)
    )
    rest = layer.n - a - b
    # With three answers seen, one of the rest was a vote; of the others, rho were unreadable.
    third = np.where(d > 2, 1 + (1 - rho) * (rest - 1), 0.0)
    answers = np.where(d > 2, np.clip(2 * third / (1 + b), 1.0, None), 0.0)
    distinct = np.minimum(d, 2) + answers
    # A vote for another answer makes it runner-up if that one had as many votes as the runner-up.
    level = (third >= b) / np.maximum(b, 1)
    other = np.maximum(third - alpha * answers, 0)
    # Where the leader is not the very first answer, the runner-up is by its share of the others.
    first = np.where(layer.next[:, 5, None] >= 0, b / np.maximum(b + third, 1), 0.0)
    runner_up = np.where(b > 0, b - alpha, 0.0)
    parts = [
        np.where(a > 0, a - alpha, 0.0),
        runner_up * (1 - first),
        other * (1 - level),
        other * level,
        np.where(a > 0, np.maximum(theta + alpha * distinct, 0.0), 1.0),
        runner_up * first,
    ]
    votes = np.stack(parts, axis=1) * (layer.next[:, :6] >= 0)[:, :, None]
    votes /= votes.sum(axis=1, keepdims=True)
    unread = np.broadcast_to(rho, (len(layer), 1, len(COMPONENTS)))
    return np.concatenate([votes * (1 - rho), unread], axis=1)


class Step(Protocol):
    """From the cells of one layer, c of them, to the d of the next."""

    def expected(self, following: FloatArray) -> FloatArray:
        """(c,) mean of ``following`` (d,), values of the next layer's cells, one sample on."""

    def soonest(self, following: IntArray) -> IntArray:
        """(c,) least of ``following`` (d,) over all cells that one sample may lead to."""


@dataclass(frozen=True, slots=True)
class VotesStep:
    """A step between states of votes.

    The analytic part: ``chance`` (s, 7) of each kind of sample. The counted part: ``share[i]`` from
    state ``source[i]`` to ``target[i]``. Both together sum to one from every state.
    """

    layer: Layer
    chance: FloatArray
    source: IntArray
    target: IntArray
    share: FloatArray

    def expected(self, following: FloatArray) -> FloatArray:
        """As in ``Step``."""
        modelled = (self.chance * following[self.layer.next]).sum(axis=1)
        counted = self.share * following[self.target]
        total: FloatArray = modelled + np.bincount(self.source, counted, len(modelled))
        return total

    def soonest(self, following: IntArray) -> IntArray:
        """As in ``Step``."""
        never = np.iinfo(np.int64).max
        least: IntArray = np.where(self.layer.next >= 0, following[self.layer.next], never).min(1)
        return least


@dataclass(frozen=True, slots=True)
class Process:
    """What is known or learnt of one kind of question: enough to plan.

    ``steps[n]`` leads from layer n to n + 1. ``loss[n]`` (c,): the expected payoff given up by
    stopping in each cell there instead of drawing all samples; 0 in the last layer, below 0 where
    more samples do harm. ``payoff[n]`` (c,): the expected payoff of stopping there.
    """

    steps: tuple[Step, ...]
    loss: tuple[FloatArray, ...]
    payoff: tuple[FloatArray, ...]

    @property
    def max_samples(self) -> int:
        """Samples after which nothing is left to decide."""
        return len(self.steps)


def overtaken(known: Components, chances: tuple[FloatArray, ...]) -> tuple[FloatArray, ...]:
    """(s,) for each layer: the probability that another answer leads after all samples.

    ``chances[n]`` (s, 7). 0 exactly where no other can. The runner-up's own chance to lead is
    followed beside it; one that fell to third is taken to have none.
    """
    layers = known.states.layers
    lose = np.zeros(len(layers[-1]))
    rise = np.zeros(len(layers[-1]))
    found = [lose]
    for layer, chance in zip(reversed(layers[:-1]), reversed(chances), strict=True):
        place, change = layer.next, layer.change
        lose_next, rise_next = lose[place], rise[place]
        lost = (1 - change) * lose_next + change * (1 - rise_next)
        risen = (1 - change) * rise_next + change * (1 - lose_next)
        lost[:, 4] = np.where(layer.leader == 0, 1.0, lose_next[:, 4])
        risen[:, 3] = 0.0
        risen[:, 4] = np.where(layer.runner_up == 0, 0.0, rise_next[:, 4])
        lose = (chance * lost).sum(axis=1)
        rise = (chance * risen).sum(axis=1)
        found.append(lose)
    return tuple(reversed(found))


@lru_cache(maxsize=4)
def analytic(max_samples: int) -> Process:
    """The process before any pool is seen: ``PRIOR``; the payoff is to agree with all samples."""
    known = components(max_samples)
    weights = np.array(PRIOR)
    chances = tuple(known.mixed(n, weights) for n in range(max_samples))
    loss = overtaken(known, chances)
    nothing = np.zeros(0, np.int64)
    steps = tuple(
        VotesStep(layer, chance, nothing, nothing, np.zeros(0))
        for layer, chance in zip(known.states.layers, chances, strict=False)
    )
    return Process(steps, loss, tuple(1 - one for one in loss))
