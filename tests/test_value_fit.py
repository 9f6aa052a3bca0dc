"""The learnt value rule: as good as the best rule there is, and blind to what it must not see."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from poise.errors import InputError, RefusedError, UsageError
from poise.fit.value import learn
from poise.policies.value import Value
from poise.types import Draw, Stop, StopReason
from value_worlds import best_of_cells, best_value, drawn, numbered, state_of, value_of

LARGE = drawn(6000, 3, seed=1)
SMALL = drawn(60, 3, seed=2)


@pytest.mark.parametrize("objective", ["right", "agree"])
@pytest.mark.parametrize("price", [0.003, 0.01, 0.03, 0.1])
def test_from_a_large_pool_it_comes_as_near_the_best_as_chance_allows(objective, price):
    rule = learn(*LARGE, objective=objective).rule(price)
    own = value_of(rule, objective, price)
    assert own <= best_value(objective, price) + 1e-12
    assert own >= best_of_cells(objective, price) - 0.001
    # Seeing in which order level answers came is worth a little more.
    assert own >= best_value(objective, price) - 0.006


def test_what_is_best_differs_from_drawing_all_and_from_drawing_one():
    price = 0.01
    best = best_value("right", price)
    for size in (1, 6):
        assert value_of(Value(0.0 if size == 6 else 9.0, max_samples=size), "right", price) < best


def test_a_small_pool_leans_on_the_model_and_still_beats_it_or_draws_even():
    price = 0.02
    learnt = value_of(learn(*SMALL, objective="agree").rule(price), "agree", price)
    plain = value_of(Value(price, max_samples=6), "agree", price)
    assert learnt >= plain - 0.004


def test_labels_change_no_stop_of_agree():
    codes, right = SMALL
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(right.ravel()).reshape(right.shape)
    rules = {learn(codes, x, objective="agree").rule(0.01) for x in (None, right, shuffled)}
    assert len(rules) == 1


def test_labels_do_change_what_right_learns():
    codes, right = LARGE
    wrong = np.where(right < 0, -1, 1 - right)
    stops = [learn(codes, x).rule(0.01).stops(codes[:, 0]).mean() for x in (right, wrong)]
    assert stops[0] > stops[1]


@pytest.mark.parametrize("objective", ["right", "agree"])
def test_a_higher_price_never_draws_more(objective):
    codes, right = SMALL
    learnt = learn(codes, right, objective=objective)
    rows = codes.reshape(-1, codes.shape[2])
    stops = [learnt.rule(price).stops(rows) for price in (0.0, 0.003, 0.01, 0.05, 0.3, 9.0)]
    assert all((high <= low).all() for low, high in itertools.pairwise(stops))
    assert (stops[-1] == 1).all()


def test_where_no_answer_is_ever_right_it_gives_up_as_futile():
    rng = np.random.default_rng(4)
    codes = np.array([[numbered(rng.integers(0, 9, 8))] for _ in range(300)])
    rule = learn(codes, np.zeros_like(codes)).rule(0.02)
    ids: list[int] = []
    while isinstance(decision := rule.decide(state_of(ids)), Draw):
        ids = numbered([*ids, *range(len(ids), len(ids) + decision.n)])
    assert decision == Stop(StopReason.FUTILE)
    assert len(ids) < 8


def test_chances_sum_to_one_in_every_state():
    process = learn(*SMALL).process
    for step, following in zip(process.steps, process.loss[1:], strict=True):
        assert np.allclose(step.expected(np.ones(len(following))), 1, atol=1e-12)


def test_the_same_pools_give_the_same_rule():
    assert learn(*SMALL).rule(0.01) == learn(*SMALL).rule(0.01)


def test_unreadable_samples_are_learnt_from_and_waited_out():
    rng = np.random.default_rng(8)
    codes = np.where(rng.random((200, 2, 8)) < 0.6, -1, 0)
    rule = learn(codes, objective="agree").rule(0.02)
    assert isinstance(rule.decide(state_of([-1])), Draw)
    assert rule.decide(state_of([-1, 0])) == Stop(StopReason.SURE)


@pytest.mark.parametrize(
    ("error", "match", "arrays", "given"),
    [
        (RefusedError, "labels", (SMALL[0],), {}),
        (RefusedError, "questions", (SMALL[0][:1], SMALL[1][:1]), {}),
        (UsageError, "objective", SMALL, {"objective": "both"}),
        (UsageError, "shape", (SMALL[0], SMALL[1][:3]), {}),
        (UsageError, "codes", (SMALL[0][0],), {"objective": "agree"}),
        (UsageError, "signal", SMALL, {"signal": "logprob"}),
        (UsageError, "64", (np.zeros((3, 1, 65), np.int64),), {"objective": "agree"}),
        (InputError, "no grade", (SMALL[0], np.full_like(SMALL[1], -1)), {}),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(error, match, arrays, given):
    with pytest.raises(error, match=match):
        learn(*arrays, **given)


def test_at_no_price_agree_stops_only_where_nothing_can_change():
    codes, _ = LARGE
    rule = learn(codes, objective="agree").rule(0.0)
    rows = codes[:, 0]
    for ids, n in zip(rows[:300], rule.stops(rows[:300]), strict=True):
        votes = np.bincount(ids[:n], minlength=2)
        first, second = sorted(votes, reverse=True)[:2]
        # Of level answers the one seen first leads.
        assert n == 6 or second + (6 - n) < first + (votes.argmax() == 0)
