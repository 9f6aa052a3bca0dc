"""The value rule by its analytic model: planned as brute force would, and stopping as it should."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.errors import UsageError
from poise.policies.value import Value
from poise.policies.value_plan import encoded, plan
from poise.policies.value_process import COMPONENTS, PRIOR, analytic, components
from poise.policies.value_states import space, walk
from poise.types import Draw, Stop, StopReason
from value_worlds import cell, leader, numbered, state_of

PRICES = (0.0, 0.0005, 0.002, 0.01, 0.05, 0.2, 5.0)


def sequence_chance(ids, alpha, theta, rho):
    """Probability of a sequence of clusters under one component."""
    chance, counts = 1.0, {}
    for one in ids:
        if one < 0:
            chance *= rho
            continue
        votes = sum(counts.values())
        fresh = 1.0 if not votes else (theta + alpha * len(counts)) / (theta + votes)
        seen = (counts.get(one, 0) - alpha) / (theta + votes) if votes else 0.0
        chance *= (1 - rho) * (seen if one in counts else max(fresh, 0.0))
        counts[one] = counts.get(one, 0) + 1
    return chance


def all_sequences(n):
    """Every sequence of n clusters numbered by first appearance, unreadable ones included."""
    return sorted({tuple(numbered(x)) for x in itertools.product(range(-1, n), repeat=n)})


@pytest.mark.parametrize("price", [0.001, 0.03, 0.1, 0.2, 0.5])
def test_no_policy_of_three_samples_is_cheaper_than_the_planned_one(price):
    known = all_sequences(3)
    chance = np.array(
        [
            sum(w * sequence_chance(ids, *c) for w, c in zip(PRIOR, COMPONENTS, strict=True))
            for ids in known
        ]
    )
    assert chance.sum() == pytest.approx(1)
    cells = sorted({cell(ids[:n]) for ids in known for n in (1, 2)})
    lost = np.array([[leader(ids[:n]) != leader(ids) for n in (1, 2, 3)] for ids in known])
    where = np.array([[cells.index(cell(ids[:n])) for n in (1, 2)] for ids in known])
    cheapest = np.inf
    for stopping in itertools.product([True, False], repeat=len(cells)):
        ends = np.column_stack([np.array(stopping)[where], np.ones(len(known), bool)])
        n = ends.argmax(axis=1)
        cheapest = min(cheapest, chance @ (lost[np.arange(len(known)), n] + price * (n + 1)))
    assert plan(analytic(3), price).cost == pytest.approx(cheapest, abs=1e-12)


@pytest.mark.parametrize("price", [0.0, 0.004, 0.04])
@pytest.mark.parametrize("round_price", [0.0, 0.01, 0.1])
def test_the_induction_is_plain_recursion_over_the_models_own_chances(price, round_price):
    process = analytic(5)
    known = components(5)

    def after(n, place, k):
        """Chances of the places k samples on."""
        if not k:
            return {place: 1.0}
        found: dict[int, float] = {}
        layer = known.states.layers[n]
        some = known.mixed(n, np.array(PRIOR))[place]
        for kind, chance in enumerate(some):
            if chance > 0:
                for end, further in after(n + 1, layer.next[place, kind], k - 1).items():
                    found[end] = found.get(end, 0.0) + chance * further
        return found

    def cost(n, place):
        if n == 5:
            return 0.0
        courses = [
            round_price + k * price
            + sum(chance * cost(n + k, end) for end, chance in after(n, place, k).items())
            for k in range(1, 6 - n)
        ]  # fmt: skip
        return min([*courses, process.loss[n][place]] if n else courses)

    assert plan(process, price, round_price).cost == pytest.approx(cost(0, 0), abs=1e-12)


def test_the_chances_of_what_comes_next_sum_to_one_in_every_state():
    for step, following in zip(analytic(9).steps, space(9).layers[1:], strict=True):
        ones = step.expected(np.ones(len(following)))
        assert np.allclose(ones, 1, atol=1e-12)


def test_a_walk_finds_the_same_states_as_counting_does():
    rng = np.random.default_rng(5)
    table = np.array([numbered(row) for row in rng.choice([-1, 0, 0, 1, 2, 3], (300, 9))])
    states = space(9)
    passed = walk(table, states)
    for row, places, leaders in zip(table, passed.place, passed.leader, strict=True):
        for n in range(1, 10):
            assert places[n - 1] == states.place[cell(row[:n].tolist())]
            chosen = leader(row[:n])
            assert leaders[n - 1] == (-1 if chosen is None else chosen)


@pytest.mark.parametrize("size", [2, 5, 6])
def test_at_no_price_it_stops_only_when_nothing_can_change_the_leader(size):
    table = np.array(all_sequences(size) if size < 6 else all_sequences(5))
    rule = Value(price=0.0, max_samples=size)
    for ids, n in zip(table, Value(0.0, 0.0, size).stops(table), strict=True):
        if n < min(size, len(ids)):
            left = itertools.product(range(-1, size), repeat=size - n)
            ends = {leader([*ids[:n], *more]) for more in left}
            assert len(ends) == 1
            assert rule.decide(state_of(ids[:n])) == Stop(StopReason.SURE)


@pytest.mark.parametrize("size", [1, 7, 16])
def test_at_a_huge_price_one_sample_is_all(size):
    rng = np.random.default_rng(0)
    table = np.array([numbered(row) for row in rng.choice([-1, 0, 1, 2], (50, size))])
    rule = Value(price=100.0, max_samples=size)
    assert (rule.stops(table) == 1).all()
    assert rule.decide(state_of([])) == Draw(1)


def test_a_higher_price_never_draws_more():
    rng = np.random.default_rng(1)
    table = np.array([numbered(row) for row in rng.choice([-1, 0, 0, 0, 1, 1, 2, 3], (400, 16))])
    stops = [Value(price=price, max_samples=16).stops(table) for price in PRICES]
    assert all((high <= low).all() for low, high in itertools.pairwise(stops))
    assert stops[0].mean() > stops[2].mean() > stops[4].mean() > stops[-1].mean()


def test_agreement_ends_as_sure_and_hopeless_votes_as_futile():
    rule = Value(price=0.15, max_samples=16)
    assert isinstance(rule.decide(state_of([])), Draw)
    assert isinstance(Value(price=0.05, max_samples=16).decide(state_of(range(6))), Draw)
    assert rule.decide(state_of([0, 0, 0, 0])) == Stop(StopReason.SURE)
    assert rule.decide(state_of(range(6))) == Stop(StopReason.FUTILE)
    assert rule.decide(state_of([0] * 16)) == Stop(StopReason.BUDGET)


@pytest.mark.parametrize("price", [0.001, 0.01, 0.05])
def test_no_draw_is_longer_than_the_shortest_way_to_a_stop(price):
    rule = Value(price=price, max_samples=6)
    for n in range(5):
        for ids in all_sequences(n):
            decision = rule.decide(state_of(ids))
            if isinstance(decision, Draw):
                ways = [
                    isinstance(rule.decide(state_of(numbered([*ids, *more]))), Stop)
                    for k in range(1, decision.n + 1)
                    for more in itertools.product(range(-1, n + k), repeat=k)
                ]
                last = (n + decision.n + 1) ** decision.n
                assert not any(ways[:-last])
                assert any(ways[-last:])


def test_dear_rounds_make_few_and_long_ones():
    first = [Value(0.002, dear, 16).decide(state_of([])).n for dear in (0.001, 0.01, 0.05, 1.0)]
    assert first == sorted(first)
    assert first[-1] > first[0]
    assert Value(0.0, 1.0, 16).decide(state_of([])) == Draw(16)


@settings(max_examples=60)
@given(
    labels=st.lists(st.integers(-1, 4), min_size=1, max_size=16),
    price=st.sampled_from(PRICES),
    dear=st.sampled_from([0.0, 0.02]),
)
def test_the_array_form_stops_where_decide_does(labels, price, dear):
    rule, ids = Value(price, dear, 12), numbered(labels)
    stops = [n for n in range(1, len(ids)) if isinstance(rule.decide(state_of(ids[:n])), Stop)]
    assert rule.stops(np.array([ids])).tolist() == [min([*stops, len(ids)])]


@pytest.mark.parametrize(
    "rule", [Value(), Value(0.01, 0.1, 7), Value(max_samples=5).written()], ids=repr
)
def test_a_rule_is_a_value_that_json_carries(rule):
    again = Value(**json.loads(json.dumps(asdict(rule))))
    assert again == rule
    assert hash(again) == hash(rule)
    assert eval(repr(rule), {"Value": Value}) == rule  # noqa: S307


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"price": -0.1}, "price"),
        ({"price": float("nan")}, "price"),
        ({"price": True}, "price"),
        ({"round_price": float("inf")}, "round_price"),
        ({"max_samples": 65}, "64"),
        ({"max_samples": 0}, "max_samples"),
        ({"signal": "logprob"}, "fit it"),
        ({"edges": (1.0,)}, "edges"),
        ({"rivals": (1.0,)}, "edges"),
        ({"table": "no table"}, "table"),
        ({"table": encoded(np.zeros(3, np.uint8))}, "3 cells"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(given, match):
    with pytest.raises(UsageError, match=match):
        Value(**given)
