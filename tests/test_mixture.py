"""The mixture of calibrators: a mean of its members, with weights that held-out losses ask for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from poise.calibrators import CALIBRATORS, Mixture, from_state, to_state
from poise.calibrators.mixture import MEMBERS, best_weights
from poise.errors import InputError, RefusedError, UsageError

SURE = ("identity", "constant", "platt")


def labelled(m=200, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 21, m) / 21
    return x, (rng.random(m) < x**2).astype(float)


def total(weights, chances, y, weight):
    """What ``best_weights`` promises to make small, a trial."""
    p = weights @ chances
    fit = weight @ (y * np.log(p) + (1 - y) * np.log1p(-p))
    prior = 2 / len(weights) * np.log(weights).sum()
    return -(fit + prior) / (weight.sum() + 2)


def test_what_it_says_is_the_weighted_mean_of_its_members():
    x, y = labelled()
    new = np.linspace(0, 1, 30)
    mixture = Mixture(members=SURE, weights=(0.2, 0.3, 0.5)).fit(x, y)
    each = [CALIBRATORS[name]().fit(x, y).predict_proba(new)[:, 1] for name in SURE]
    expected = 0.2 * each[0] + 0.3 * each[1] + 0.5 * each[2]
    assert np.allclose(mixture.predict_proba(new)[:, 1], expected, atol=1e-15)


def test_it_rises_where_its_members_do():
    x, y = labelled()
    names = tuple(name for name in MEMBERS if name != "levels")
    mixture = Mixture(members=names, weights=(1 / len(names),) * len(names)).fit(x, y)
    assert (np.diff(mixture.predict_proba(np.linspace(0, 1, 200))[:, 1]) >= 0).all()


def test_fitting_a_restored_one_again_keeps_members_and_weights_and_learns_the_rest():
    (x, y), (other, right) = labelled(), labelled(seed=1)
    first = Mixture(members=SURE, weights=(0.2, 0.3, 0.5)).fit(x, y)
    again = from_state(to_state(first)).fit(other, right)
    fresh = Mixture(members=SURE, weights=(0.2, 0.3, 0.5)).fit(other, right)
    assert to_state(again) == to_state(fresh) != to_state(first)


def test_several_columns_go_to_members_that_take_them():
    x, y = labelled()
    both = np.stack([x, 5 * y - x], axis=1)
    scales = ("probability", "real")
    mixture = Mixture(scales, members=("constant", "platt"), weights=(0.1, 0.9)).fit(both, y)
    assert mixture.predict_proba(both)[y == 1, 1].min() > 0.85
    restored = from_state(to_state(mixture))
    assert (restored.predict_proba(both) == mixture.predict_proba(both)).all()
    with pytest.raises(UsageError, match="isotonic takes one"):
        Mixture(members=("isotonic",), weights=(1.0,)).fit(np.stack([x, x], axis=1), y)


def test_a_member_that_refuses_the_rows_refuses_for_all():
    rng = np.random.default_rng(0)
    with pytest.raises(RefusedError, match="levels: 100 distinct"):
        Mixture(members=("platt", "levels")).fit(rng.random(100), np.arange(100) % 2)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"members": ("platt", "plat")}, "members=.*out of constant, identity"),
        ({"members": ("platt", "platt")}, "each once"),
        ({"members": ["platt", "levels"]}, "members="),
        ({"members": (), "weights": ()}, "members="),
        ({"weights": (0.5, 0.6)}, "sum to 1"),
        ({"weights": (1.0, 0.0)}, "above 0"),
        ({"weights": (1.0,)}, "must be 2 numbers"),
        ({"weights": (True, 0.5)}, "weights="),
    ],
)
def test_members_and_weights_that_make_no_mixture_are_refused(wrong, said):
    with pytest.raises(UsageError, match=said):
        Mixture(**wrong).fit(*labelled())


def test_a_state_whose_members_are_not_those_of_its_settings_is_refused():
    x, y = labelled()
    state = to_state(Mixture().fit(x, y))
    turned = {**state, "params": {"fitted": state["params"]["fitted"][::-1]}}
    with pytest.raises(InputError, match="not the members that the settings name"):
        from_state(turned)
    wide = to_state(Mixture(members=("constant", "platt")).fit(np.stack([x, x], axis=1), y))
    narrow = to_state(Mixture(members=("constant", "platt")).fit(x, y))
    mixed = [wide["params"]["fitted"][0], narrow["params"]["fitted"][1]]
    with pytest.raises(InputError, match="different numbers of columns"):
        from_state({**narrow, "params": {"fitted": mixed}})


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(3, 80))
def test_no_other_weights_do_better_than_the_stated_room(seed, count, m):
    rng = np.random.default_rng(seed)
    chances = rng.uniform(0.01, 0.99, (count, m))
    y, weight = rng.choice([0, 0.3, 1], m), rng.uniform(0.5, 3, m)
    found = best_weights(chances, y, weight)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert (found > 0).all()

    def loss(free):
        weights = np.exp(free - free.max())
        return total(weights / weights.sum(), chances, y, weight)

    peer = minimize(loss, np.zeros(count), options={"gtol": 1e-9})
    assert total(found, chances, y, weight) <= peer.fun + 1.1e-4


def test_equal_members_share_alike_and_the_better_one_gets_more_as_trials_add_up():
    y = np.tile([0.0, 1.0, 1.0, 1.0], 25)
    good, bad = np.where(y == 1, 0.8, 0.4), np.full(100, 0.5)
    assert best_weights(np.stack([good, good]), y, np.ones(100)) == pytest.approx([0.5, 0.5])
    grown = [
        best_weights(np.stack([good, bad]), y, np.full(100, size))[0] for size in (0.01, 0.1, 10)
    ]
    assert grown == sorted(grown)
    assert grown[0] < 0.65
    assert grown[-1] > 0.98
