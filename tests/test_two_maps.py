"""Stopping changes calibration: maps that ignore it are wrong at a policy's stops, ours is not.

Truth is known here: calibration is measured on 30,000 fresh questions, where the noise floor of a
ten-bin ECE is below .005. The seeds are none of those that the map's columns were chosen on.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from poise.calibrators import Platt
from poise.errors import RefusedError
from poise.fit import fit
from poise.policies import Beta, Policy
from poise.profile import Profile
from poise.signals import SIGNALS, PrefixSignal
from poise.votes import Majority
from two_worlds import clusters, draw, pools

N = 16
POLICY = Policy(Beta(0.95, N))
Floats = NDArray[np.float64]


def over(name: str, codes: NDArray[np.int64], values: Floats | None = None) -> Floats:
    signal = SIGNALS[name]
    assert isinstance(signal, PrefixSignal)
    return signal.over_prefixes(codes, values)


class World:
    """Fresh questions: what is seen at the policy's stops, and who is right there."""

    def __init__(self, m: int, seed: int):
        self.answers, self.logprobs = draw(m, N, seed)
        self.codes = clusters(self.answers)
        self.every = np.arange(m)
        self.stops = POLICY.stop.stops(self.codes) - 1
        self.share = over("agreement", self.codes)
        self.right = np.stack([self.leads(np.full(m, n + 1)) for n in range(N)], axis=1)

    def leads(self, n: NDArray[np.int64]) -> NDArray[np.int64]:
        leader = Majority().elect_all(self.codes, n)
        first = (self.codes == leader[:, None]).argmax(axis=1)
        return (self.answers[self.every, first] == 0).astype(np.int64)

    def at_stop(self, values: NDArray[np.float64]) -> Floats:
        return np.asarray(values[self.every, self.stops], np.float64)


@cache
def worlds() -> tuple[World, World]:
    """Questions to fit on, and fresh ones."""
    return World(4_000, 101), World(30_000, 102)


@cache
def profile(*, logprobs: bool = False) -> Profile:
    """Fitted on the first world: from the votes alone, as its rivals, unless told otherwise."""
    return fit(pools(4_000, N, 101, logprobs=logprobs), POLICY)


def ece(p: Floats, y: Floats) -> float:
    bins = np.minimum((p * 10).astype(int), 9)
    gaps = [abs(p[bins == b].sum() - y[bins == b].sum()) for b in range(10)]
    return float(np.sum(gaps) / len(p))


def stated(fitted: Profile, world: World) -> Floats:
    n = world.stops + 1
    columns = {
        name: world.at_stop(over(name, world.codes, world.logprobs if "log" in name else None))
        for name in fitted.state_map.signals
    }
    raw = fitted.state_map.probability(n, columns)
    return np.asarray(fitted.final_map.predict_proba(raw)[:, 1], np.float64)


def test_a_map_fitted_on_full_pools_is_wrong_at_the_stops() -> None:
    train, test = worlds()
    full = Platt().fit(train.share[:, -1], train.right[:, -1])
    p = full.predict_proba(test.at_stop(test.share))[:, 1]
    assert ece(p, test.at_stop(test.right)) > 0.05


def test_a_map_of_the_vote_share_alone_is_wrong_even_over_all_prefixes() -> None:
    train, test = worlds()
    anywhere = Platt().fit(train.share[:, 1:].ravel(), train.right[:, 1:].ravel())
    p = anywhere.predict_proba(test.at_stop(test.share))[:, 1]
    assert ece(p, test.at_stop(test.right)) > 0.03


def test_the_profile_is_right_at_the_stops() -> None:
    _, test = worlds()
    p, y = stated(profile(), test), test.at_stop(test.right)
    assert ece(p, y) < 0.03
    assert np.mean((p - y) ** 2) < 0.95 * y.mean() * (1 - y.mean())


def test_log_probabilities_that_know_something_sharpen_it_and_leave_it_right() -> None:
    _, test = worlds()
    y = test.at_stop(test.right)
    sharp = stated(profile(logprobs=True), test)
    assert profile(logprobs=True).top_logprobs == 0
    assert ece(sharp, y) < 0.03
    assert np.mean((sharp - y) ** 2) < 0.98 * np.mean((stated(profile(), test) - y) ** 2)


def test_the_state_map_is_right_at_any_number_of_samples() -> None:
    _, test = worlds()
    for n in (2, 4, 8, 16):
        columns = {
            name: over(name, test.codes, test.logprobs if "log" in name else None)[:, n - 1]
            for name in profile().state_map.signals
        }
        p = profile().state_map.probability(np.full(len(test.codes), n), columns)
        assert abs(p.mean() - test.right[:, n - 1].mean()) < 0.03
        assert ece(p, test.right[:, n - 1].astype(np.float64)) < 0.035


def test_the_held_out_numbers_of_the_profile_hold_on_fresh_questions() -> None:
    _, test = worlds()
    p, y = stated(profile(), test), test.at_stop(test.right)
    promised = profile().considered[-1]
    assert abs(np.mean((p - y) ** 2) - promised["brier"]) < 4 * promised["brier_se"]


def test_shuffled_labels_leave_nothing_to_claim() -> None:
    """Negative control: the honest answer is then the base rate, and no profile is made."""
    made = pools(600, N, 3)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(made))
    shuffled = [
        type(one)(one.pool, one.gold, made[other].correct)
        for one, other in zip(made, order, strict=True)
    ]
    with pytest.raises(RefusedError, match="beyond noise"):
        fit(shuffled, POLICY)
