"""The value rule where samples carry a signal: what it reads, and how good what it learns is."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest

from poise.errors import InputError, UsageError
from poise.fit.value import learn
from poise.policies.value import Value
from poise.policies.value_evidence import Evidence
from poise.policies.value_plan import FUTILE, SURE, encoded
from poise.types import Draw, Stop, StopReason
from poise.votes import Majority, Softmax
from value_worlds import (
    best_with_signal,
    drawn,
    drawn_with_signal,
    numbered,
    state_of,
    value_with_signal,
)

LARGE = drawn_with_signal(4000, 3, seed=1)


def with_table(signal="p_true", **given):
    """Nothing weighs: draw. Light leader: futile. Heavy one with a light rival: sure."""
    codes = np.ones((5, 7), np.uint8)
    codes[:, 1], codes[:, 5] = FUTILE, SURE
    table = {"edges": (0.8, 1.5), "rivals": (0.5,), "table": encoded(codes)}
    return Value(0.1, 0.0, 4, signal, 1.0, **(table | given))


@pytest.mark.parametrize(
    ("ids", "values", "expected"),
    [
        ([], (), Draw(1)),
        ([-1], (1.0,), Draw(1)),
        ([0], (None,), Draw(1)),
        ([0], (0.5,), Stop(StopReason.FUTILE)),
        ([0], (1.0,), Draw(1)),
        ([0, 0], (1.0, 1.0), Stop(StopReason.SURE)),
        ([0, 0], (1.0, None), Draw(1)),
        ([0, 1], (0.5, 0.9), Draw(1)),
        ([0, 1, 0], (1.0, 0.0, 1.0), Stop(StopReason.SURE)),
        ([0, 1, 0], (1.0, 1.0, 1.0), Draw(1)),
        ([0, 1, 0, 0], (1.0, 1.0, 1.0, 1.0), Stop(StopReason.BUDGET)),
    ],
)
def test_it_reads_the_weights_of_the_leader_and_of_the_runner_up(ids, values, expected):
    rule = with_table()
    assert rule.needs == ("p_true",)
    assert rule.decide(state_of(ids, {"p_true": values})) == expected


def mixed(signal):
    """Rows of clusters and values, some of them missing."""
    rng = np.random.default_rng(3)
    table = np.array([numbered(row) for row in rng.choice([-1, 0, 0, 1, 2], (200, 4))])
    values = rng.choice([0.0, 0.2, 0.7, 1.0], table.shape)
    values[rng.random(table.shape) < 0.2] = np.nan
    return table, values - 1.0 if signal == "logprob" else values


@pytest.mark.parametrize("signal", ["p_true", "logprob"])
def test_both_forms_agree_also_where_a_weight_is_an_edge(signal):
    table, values = mixed(signal)
    edge = float(Evidence(signal, 1.0).weighed(table, values).weight[5, 1])
    rule = with_table(signal, edges=(0.8, max(edge, 1.0)))
    for row, value, n in zip(table, values, rule.stops(table, {signal: values}), strict=True):
        given = [None if np.isnan(x) else float(x) for x in value]
        walked = [
            isinstance(rule.decide(state_of(row[:k], {signal: tuple(given[:k])})), Stop)
            for k in range(1, 5)
        ]
        assert walked.index(True) + 1 == n


@pytest.mark.parametrize("temperature", [0.05, 0.3, 5.0])
def test_its_leader_is_the_winner_of_the_vote_it_names(temperature):
    table, values = mixed("p_true")
    led = Evidence("p_true", temperature).weighed(table, values).leader
    vote = Softmax(temperature, "p_true")
    for place in range(4):
        won = vote.elect_all(table, np.full(len(table), place + 1), {"p_true": values})
        weighed = led[:, place] >= 0
        assert (won == led[:, place])[weighed].all()
        read = (table[:, : place + 1] >= 0) & ~np.isnan(values[:, : place + 1])
        assert (weighed == read.any(axis=1)).all()


def test_a_rule_with_a_signal_is_a_value_that_json_carries():
    rule = learn(*LARGE, signal="p_true").rule(0.01)
    again = Value(**json.loads(json.dumps(asdict(rule))))
    assert again == rule
    assert hash(again) == hash(rule)
    assert eval(repr(rule), {"Value": Value}) == rule  # noqa: S307


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"signal": "top_margin"}, "no bounds"),
        ({"edges": (1.0, 1.0)}, "rising"),
        ({"rivals": (float("nan"),)}, "rising"),
        ({"edges": (1.0,)}, "35 cells"),
    ],
)
def test_what_cannot_be_read_is_refused(given, match):
    with pytest.raises(UsageError, match=match):
        with_table(**given)


@pytest.mark.parametrize("temperature", [0.0, 1e9, float("nan"), True])
def test_a_temperature_out_of_range_is_refused(temperature):
    rule = asdict(with_table())
    with pytest.raises(UsageError, match="temperature"):
        Value(**(rule | {"temperature": temperature}))


def test_a_missing_signal_is_named_and_one_that_is_no_confidence_is_refused():
    rule = with_table()
    with pytest.raises(UsageError, match="p_true"):
        rule.stops(np.zeros((2, 3), np.int64))
    with pytest.raises(UsageError, match="p_true"):
        rule.decide(state_of([0]))
    with pytest.raises(UsageError, match="no confidence"):
        rule.decide(state_of([0], {"p_true": (2.0,)}))


@pytest.mark.parametrize("price", [0.005, 0.02, 0.05])
def test_from_a_large_pool_it_comes_near_the_best_of_all_rules(price):
    learnt = learn(*LARGE, signal="p_true")
    own = value_with_signal(learnt.rule(price), learnt.vote, price)
    best = best_with_signal(learnt.vote, price)
    # So few buckets give away a little of what every weight and its order would tell.
    assert best - 0.012 <= own <= best + 1e-12
    votes = learn(*LARGE[:2])
    assert own > value_with_signal(votes.rule(price), votes.vote, price) + 0.02


def test_the_temperature_makes_weights_the_odds_of_being_right():
    # Right samples are told .9 with probability .8, wrong ones with .3.
    codes, right, values = LARGE
    temperature = learn(codes, right, values, signal="p_true").rule(0.01).temperature
    odds = (0.8 / 0.3) / (0.2 / 0.7)
    assert np.exp(0.7 / temperature) == pytest.approx(odds, rel=0.1)


def test_a_signal_that_says_nothing_leaves_the_majority():
    codes, right, values = LARGE
    noise = np.random.default_rng(2).random(values.shape)
    learnt = learn(codes, right, noise, signal="p_true")
    rows, n = codes[:, 0], np.full(len(codes), 3)
    told = learnt.vote.elect_all(rows, n, {"p_true": noise[:, 0]})
    plain = Majority().elect_all(rows, n)
    assert (told == plain).mean() > 0.75


def test_labels_change_no_stop_of_agree():
    codes, right, values = (array[:300] for array in LARGE)
    wrong = np.where(right < 0, -1, 1 - right)
    rules = {
        learn(codes, told, values, objective="agree", signal="p_true").rule(0.01)
        for told in (None, right, wrong)
    }
    assert len(rules) == 1


def test_a_higher_price_never_draws_more_and_hopeless_questions_are_given_up():
    codes, right, values = LARGE
    rows, read = codes[:, 0], {"p_true": values[:, 0]}
    learnt = learn(codes, right, values, signal="p_true")
    stops = [learnt.rule(price).stops(rows, read) for price in (0.0, 0.01, 0.05, 9.0)]
    assert all((high <= low).all() for low, high in itertools.pairwise(stops))
    assert (stops[-1] == 1).all()
    lost = learn(codes, np.minimum(right, 0), values, signal="p_true").rule(0.001)
    assert lost.decide(state_of([0], {"p_true": (0.2,)})) == Stop(StopReason.FUTILE)


def test_chances_sum_to_one_in_every_bucket():
    codes, right, values = (array[:40].copy() for array in LARGE)
    values[::7] = np.nan
    process = learn(codes, right, values, signal="p_true").process
    for step, following in zip(process.steps, process.loss[1:], strict=True):
        assert np.allclose(step.expected(np.ones(len(following))), 1, atol=1e-12)


@pytest.mark.parametrize(
    ("error", "match", "signal", "value"),
    [
        (InputError, "no value", "p_true", np.nan),
        (UsageError, "no bounds", "top_margin", 0.5),
        (UsageError, "no confidence", "p_true", 3.0),
    ],
)
def test_a_signal_that_cannot_be_learnt_from_is_refused(error, match, signal, value):
    codes, right = drawn(20, 2, seed=3)
    with pytest.raises(error, match=match):
        learn(codes, right, np.full(codes.shape, value), signal=signal)
