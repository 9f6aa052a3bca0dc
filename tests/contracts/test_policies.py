"""What every stop rule and exit rule promises, whatever it decides by."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise import policies
from poise.columns import LOGS
from poise.errors import UsageError
from poise.policies import EXIT_RULES, STOP_RULES, Abstain, Answer, Policy, capped
from poise.types import Draw, State, Stop

SETTINGS = {
    "fixed": [{}, {"max_samples": 1}, {"max_samples": 7}],
    "beta": [
        {},
        {"threshold": 0.5, "max_samples": 9},
        {"threshold": 0.8, "max_samples": 12},
        {"threshold": 0.9375, "max_samples": 8},
        {"threshold": 0.999, "max_samples": 20},
        {"max_samples": 1},
    ],
    "window": [
        {},
        {"width": 1, "max_samples": 3},
        {"width": 2, "max_samples": 7},
        {"width": 3, "max_samples": 10},
        {"width": 4, "max_samples": 4},
    ],
    "dirichlet": [
        {},
        {"threshold": 0.5, "max_samples": 9},
        {"threshold": 0.8, "max_samples": 12},
        {"threshold": 0.999, "max_samples": 20},
        {"max_samples": 1},
    ],
    "entropy": [
        {},
        {"threshold": 0.0, "max_samples": 6},
        {"threshold": 0.875, "max_samples": 20},
        {"threshold": 0.99, "max_samples": 12},
        {"max_samples": 1},
    ],
    "ratio": [
        {},
        {"threshold": 0.0, "max_samples": 6},
        {"threshold": 0.5, "max_samples": 9},
        {"threshold": 1.0, "max_samples": 12},
        {"max_samples": 1},
    ],
    "confident": [
        {},
        {"threshold": 0.0, "max_samples": 6},
        {"threshold": 1.0, "max_samples": 12},
        {"threshold": 0.5, "confidence": "logprob"},
        {"confidence": "stored:sure", "max_samples": 1},
    ],
    "weighted_ratio": [
        {},
        {"threshold": 0.0, "max_samples": 6},
        {"threshold": 1.0, "max_samples": 12},
        {"threshold": 0.6, "confidence": "answer_logprob_min"},
        {"max_samples": 1},
    ],
    "cges": [
        {},
        {"threshold": 0.5, "max_samples": 9},
        {"threshold": 0.999, "other": False},
        {"threshold": 0.99, "confidence": "logprob", "max_samples": 12},
        {"max_samples": 1},
    ],
    "value": [
        {},
        {"price": 0.0, "max_samples": 9},
        {"price": 0.05, "max_samples": 12},
        {"price": 3.0, "max_samples": 16},
        {"max_samples": 1},
    ],
}
ONE_BY_ONE = {"cges"}
"""Rules that draw singly, whatever it takes: one sample's evidence has no useful bound."""

RULES = [STOP_RULES[name](**given) for name, settings in SETTINGS.items() for given in settings]
every_rule = pytest.mark.parametrize("rule", RULES, ids=repr)


def numbered(labels):
    """Cluster ids by first appearance; -1 stays."""
    ids: dict[int, int] = {}
    return [-1 if label < 0 else ids.setdefault(label, len(ids)) for label in labels]


def state_of(ids, values=None):
    clusters = tuple(None if i < 0 else int(i) for i in ids)
    size = max((i for i in clusters if i is not None), default=-1) + 1
    counts = tuple(clusters.count(i) for i in range(size))
    columns = {
        name: tuple(None if np.isnan(v) else float(v) for v in column)
        for name, column in (values or {}).items()
    }
    answers = tuple(f"answer {i}" for i in range(size))
    return State(clusters, counts, answers, columns=columns)


def told(rule, shares):
    """What ``rule`` needs, made of ``shares`` in [0, 1] (nan: missing)."""
    shares = np.asarray(shares, np.float64)
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log(shares), -50.0)
    return {name: logs if name in LOGS else shares for name in rule.needs}


def head(values, n):
    return {name: column[..., :n] for name, column in values.items()}


SHARES = st.one_of(
    st.sampled_from([0.0, 0.5, 0.9, 1.0, float("nan")]), st.floats(0, 1, allow_subnormal=False)
)


@st.composite
def prefixes(draw, rows=6, columns=24):
    """(m, N) cluster ids: few clusters or many, agreement or not, some unreadable; and shares."""
    n = draw(st.integers(1, columns))
    most = draw(st.sampled_from([1, 2, 4, columns]))
    label = st.one_of(st.just(0), st.integers(-1, most - 1))
    table = draw(st.lists(st.lists(label, min_size=n, max_size=n), min_size=1, max_size=rows))
    kind = draw(st.sampled_from([np.int8, np.int16, np.int32, np.int64]))
    sure = draw(st.sampled_from([SHARES, st.floats(0.2, 0.8), st.just(0.5)]))
    m = len(table)
    shares = draw(st.lists(st.lists(sure, min_size=n, max_size=n), min_size=m, max_size=m))
    return np.array([numbered(row) for row in table], dtype=kind), np.array(shares)


def walk(rule, ids, values):
    """Where ``decide`` stops on ``ids``, looking at one prefix after another."""
    for n in range(1, len(ids)):
        if isinstance(rule.decide(state_of(ids[:n], head(values, n))), Stop):
            return n
    return len(ids)


def test_every_rule_in_the_table_is_under_this_contract():
    assert set(SETTINGS) == set(STOP_RULES)


def test_the_table_in_the_docs_lists_every_rule():
    listed = {line.split("``")[1] for line in policies.__doc__.splitlines() if line[:2] == "``"}
    assert listed == set(STOP_RULES) | set(EXIT_RULES)


def planned(rule):
    """A value rule without a table plans anew for a nearer end; everything else stays as it is."""
    return getattr(rule, "table", None) == ""


@pytest.mark.parametrize(
    "rule",
    [rule for rule in RULES if not planned(rule)]
    + [
        STOP_RULES["value"](price=0.01, max_samples=12).written(),
        STOP_RULES["value"](price=0.002, round_price=0.006, max_samples=16).written(),
    ],
    ids=lambda rule: repr(rule)[:60],
)
@settings(max_examples=20, deadline=None)
@given(case=prefixes(), most=st.integers(1, 20))
def test_a_capped_policy_stops_where_it_would_or_at_the_cap(rule, case, most):
    table, shares = case
    values = told(rule, shares)
    if most < getattr(rule, "width", 1):
        with pytest.raises(UsageError, match="width"):
            capped(Policy(rule), most)
        return
    stop = capped(Policy(rule), most).stop
    assert stop.max_samples == min(most, rule.max_samples)
    expected = np.minimum(rule.stops(table, values), most)
    assert stop.stops(table, values).tolist() == expected.tolist()
    for row in table:
        for n in range(min(len(row), stop.max_samples)):
            state = state_of(row[:n], told(rule, np.full(n, 0.5)))
            decided = stop.decide(state)
            assert isinstance(decided, Stop) or n + decided.n <= stop.max_samples


@every_rule
@settings(max_examples=40, deadline=None)
@given(case=prefixes())
def test_the_array_form_stops_where_decide_does_on_every_prefix(rule, case):
    table, shares = case
    values = told(rule, shares)
    rows = [{name: column[i] for name, column in values.items()} for i in range(len(table))]
    expected = [walk(rule, row, given) for row, given in zip(table, rows, strict=True)]
    assert rule.stops(table, values).tolist() == expected


@every_rule
def test_the_array_form_equals_decide_over_more_rows_than_one_block_holds(rule):
    rng = np.random.default_rng(7)
    patterns = [numbered(row) for row in rng.choice([-1, 0, 0, 0, 1, 2], (40, 21))]
    shares = rng.choice([np.nan, 0, 0.3, 0.5, 0.7, 0.77, 0.9], (40, 21))
    picked = rng.integers(0, 40, 40_000)
    expected = np.array(
        [walk(rule, row, told(rule, own)) for row, own in zip(patterns, shares, strict=True)]
    )
    stops = rule.stops(np.array(patterns)[picked], told(rule, shares[picked]))
    assert (stops == expected[picked]).all()


@every_rule
@settings(max_examples=40, deadline=None)
@given(case=prefixes(rows=1))
def test_a_rule_never_asks_for_more_than_its_maximum(rule, case):
    (ids,), shares = case
    n = min(len(ids), rule.max_samples - 1)
    decision = rule.decide(state_of(ids[:n], head(told(rule, shares[0]), n)))
    if isinstance(decision, Draw):
        assert 1 <= decision.n <= rule.max_samples - n
    full = numbered(np.resize(ids, rule.max_samples))
    values = told(rule, np.resize(shares[0], rule.max_samples))
    assert isinstance(rule.decide(state_of(full, values)), Stop)
    table = np.array([[*full, 0, 0, 0]])
    assert 1 <= rule.stops(table, told(rule, np.full(table.shape, 0.5)))[0] <= rule.max_samples


@every_rule
def test_no_draw_is_longer_than_the_shortest_way_to_a_stop(rule):
    rng = np.random.default_rng(3)
    name = next(name for name, kind in STOP_RULES.items() if kind is type(rule))
    sharp = rng.choice([0.0, 0.5, 1.0], 16) if rule.needs else []
    for _ in range(12):
        ids: list[int] = []
        shares: list[float] = []

        def after(more, sure):
            every = told(rule, [*shares, *sure])  # noqa: B023
            return rule.decide(state_of(numbered([*ids, *more]), every))  # noqa: B023

        while isinstance(decision := after([], []), Draw):
            if decision.n <= 4:
                most = min(max(ids, default=-1) + 1 + decision.n, 5)
                labels = [-1, *range(most)]
                for more in itertools.product(labels, repeat=decision.n - 1):
                    for sure in ([1.0] * len(more), sharp[: len(more)]) if rule.needs else ([],):
                        assert isinstance(after(more, sure), Draw), (ids, more)
                assert name in ONE_BY_ONE or any(
                    isinstance(after(more, [1.0] * decision.n), Stop)
                    for more in itertools.product(labels, repeat=decision.n)
                )
            ids = numbered([*ids, int(rng.choice([-1, 0, 0, 0, 1, 2]))])
            shares = [*shares, float(rng.choice([np.nan, 0.2, 0.5, 0.6]))]
            if len(ids) > 12:
                break


@every_rule
@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.integers(-1, 4), min_size=1, max_size=24), names=st.permutations(range(5))
)
def test_renaming_the_answers_changes_nothing(rule, labels, names):
    renamed = [-1 if label < 0 else names[label] for label in labels]
    values = told(rule, np.linspace(0.3, 0.8, len(labels)))
    one, other = state_of(numbered(labels), values), state_of(numbered(renamed), values)
    assert rule.decide(one) == rule.decide(other)
    assert rule.decide(one) == rule.decide(replace(one, answers=one.answers[::-1]))


def test_a_rule_cannot_see_whether_an_answer_is_right():
    assert set(State.__slots__) == {
        "clusters",
        "counts",
        "answers",
        "signals",
        "spend",
        "seconds_left",
        "columns",
    }


@every_rule
def test_decide_depends_on_nothing_but_the_state(rule):
    states = [
        state_of(numbered(ids), told(rule, [0.6] * len(ids)))
        for ids in ([], [0], [0, 1, -1, 0], [0] * 9)
    ]
    first = [rule.decide(state) for state in states]
    rule.stops(np.zeros((3, 5), np.int64), told(rule, np.zeros((3, 5))))
    assert [rule.decide(state) for state in reversed(states)] == first[::-1]


@every_rule
def test_the_array_form_leaves_its_input_alone(rule):
    table = np.array([[0, 1, -1, 0, 0, 0, 0, 0]], np.int8)
    values = told(rule, np.full(table.shape, 0.6))
    for array in (table, *values.values()):
        array.flags.writeable = False
    before = {name: array.copy() for name, array in values.items()}
    rule.stops(table, values)
    assert table.tolist() == [[0, 1, -1, 0, 0, 0, 0, 0]]
    assert all((values[name] == before[name]).all() for name in values)


needy = pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.needs and rule.max_samples > 1], ids=repr
)


@needy
def test_a_signal_that_the_rule_needs_and_nobody_brought_is_named(rule):
    table = np.zeros((2, 3), np.int64)
    for values in (None, {}, {"other": np.zeros((2, 3))}):
        with pytest.raises(UsageError, match=f"{rule.needs[0]} is needed for every sample"):
            rule.stops(table, values)
    with pytest.raises(UsageError, match=f"{rule.needs[0]} is needed for every sample"):
        rule.decide(state_of([0, 0, 0]))


@needy
def test_values_that_do_not_go_with_the_samples_are_refused(rule):
    table = np.zeros((2, 3), np.int64)
    with pytest.raises(UsageError, match=r"values of shape \(2, 2\)"):
        rule.stops(table, told(rule, np.full((2, 2), 0.5)))
    with pytest.raises(UsageError, match="2 values for 3 samples"):
        rule.decide(state_of([0, 0, 0], told(rule, [0.5, 0.5])))
    endless = {name: np.full((2, 3), -np.inf) for name in rule.needs}
    with pytest.raises(UsageError, match="infinite"):
        rule.stops(table, endless)


@needy
@pytest.mark.parametrize("off", [-0.1, 1.5])
def test_a_number_that_is_no_confidence_is_refused(rule, off):
    number = 0.4 if rule.needs[0] in LOGS else off  # a log-probability above 0
    values = {name: np.array([[0.0, number]]) for name in rule.needs}
    with pytest.raises(UsageError, match=r"no confidence in \[0, 1\]"):
        rule.stops(np.array([[0, 0]]), values)
    with pytest.raises(UsageError, match=r"no confidence in \[0, 1\]"):
        rule.decide(state_of([0, 0], {name: column[0] for name, column in values.items()}))


@every_rule
def test_rules_are_values(rule):
    names = {**{kind.__name__: kind for kind in STOP_RULES.values()}}
    assert pickle.loads(pickle.dumps(rule)) == rule  # noqa: S301
    assert eval(repr(rule), names) == rule  # noqa: S307
    assert hash(pickle.loads(pickle.dumps(rule))) == hash(rule)  # noqa: S301
    assert [other == rule for other in RULES].count(True) == 1
    with pytest.raises((FrozenInstanceError, AttributeError)):
        rule.max_samples = 3
    assert isinstance(rule.needs, tuple)


@every_rule
@pytest.mark.parametrize(
    "table",
    [
        np.zeros((2, 0), np.int64),
        np.zeros(4, np.int64),
        np.zeros((2, 4)),
        np.zeros((2, 4), np.uint8),
    ],
    ids=["no column", "one row only", "floats", "unsigned"],
)
def test_an_array_that_holds_no_prefixes_is_refused(rule, table):
    with pytest.raises(UsageError, match="signed integers"):
        rule.stops(table, told(rule, np.zeros(table.shape)))


@every_rule
def test_no_questions_give_no_stops(rule):
    assert rule.stops(np.zeros((0, 4), np.int64), told(rule, np.zeros((0, 4)))).shape == (0,)


EXITS = [Answer(), Abstain(), Abstain(0.0), Abstain(0.8), Abstain(1.0)]
every_exit = pytest.mark.parametrize("rule", EXITS, ids=repr)


def test_every_exit_rule_in_the_table_is_under_this_contract():
    assert {type(rule) for rule in EXITS} == set(EXIT_RULES.values())


@every_exit
def test_an_exit_rule_answers_with_a_certain_leader_and_abstains_without_one(rule):
    assert rule.decide(state_of([0, 1, 0]), 0, 1.0) == "answer"
    assert rule.decide(state_of([-1]), None) == "abstain"
    assert rule.decide(state_of([-1]), None, 1.0) == "abstain"


@every_exit
@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_an_exit_rule_that_answers_answers_where_it_is_more_probable_too(rule, low, high):
    low, high = sorted([low, high])
    state = state_of([0])
    if rule.decide(state, 0, low) == "answer":
        assert rule.decide(state, 0, high) == "answer"


@every_exit
def test_exit_rules_are_values(rule):
    assert pickle.loads(pickle.dumps(rule)) == rule  # noqa: S301
    assert eval(repr(rule), {"Answer": Answer, "Abstain": Abstain}) == rule  # noqa: S307
    assert hash(rule) == hash(pickle.loads(pickle.dumps(rule)))  # noqa: S301


def test_a_policy_is_a_value_made_of_its_rules():
    policy = Policy(RULES[0])
    names = {**{kind.__name__: kind for kind in STOP_RULES.values()}, "Answer": Answer}
    assert policy == Policy(RULES[0], Answer())
    assert policy != Policy(RULES[1])
    assert eval(repr(policy), names, {"Policy": Policy}) == policy  # noqa: S307
    assert pickle.loads(pickle.dumps(policy)) == policy  # noqa: S301
