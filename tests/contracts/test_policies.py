"""What every stop rule and exit rule promises, whatever it decides by."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise import policies
from poise.errors import UsageError
from poise.policies import EXIT_RULES, STOP_RULES, Answer, Policy
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
}
RULES = [STOP_RULES[name](**given) for name, settings in SETTINGS.items() for given in settings]
every_rule = pytest.mark.parametrize("rule", RULES, ids=repr)


def numbered(labels):
    """Cluster ids by first appearance; -1 stays."""
    ids: dict[int, int] = {}
    return [-1 if label < 0 else ids.setdefault(label, len(ids)) for label in labels]


def state_of(ids):
    clusters = tuple(None if i < 0 else int(i) for i in ids)
    size = max((i for i in clusters if i is not None), default=-1) + 1
    counts = tuple(clusters.count(i) for i in range(size))
    return State(clusters, counts, tuple(f"answer {i}" for i in range(size)))


@st.composite
def prefixes(draw, rows=6, columns=24):
    """(m, N) cluster ids: few clusters or many, agreement or not, some unreadable."""
    n = draw(st.integers(1, columns))
    most = draw(st.sampled_from([1, 2, 4, columns]))
    label = st.one_of(st.just(0), st.integers(-1, most - 1))
    table = draw(st.lists(st.lists(label, min_size=n, max_size=n), min_size=1, max_size=rows))
    kind = draw(st.sampled_from([np.int8, np.int16, np.int32, np.int64]))
    return np.array([numbered(row) for row in table], dtype=kind)


def walk(rule, ids):
    """Where ``decide`` stops on ``ids``, looking at one prefix after another."""
    for n in range(1, len(ids)):
        if isinstance(rule.decide(state_of(ids[:n])), Stop):
            return n
    return len(ids)


def test_every_rule_in_the_table_is_under_this_contract():
    assert set(SETTINGS) == set(STOP_RULES)


def test_the_table_in_the_docs_lists_every_rule():
    listed = {line.split("``")[1] for line in policies.__doc__.splitlines() if line[:2] == "``"}
    assert listed == set(STOP_RULES)


@every_rule
@settings(max_examples=40)
@given(table=prefixes())
def test_the_array_form_stops_where_decide_does_on_every_prefix(rule, table):
    assert rule.stops(table).tolist() == [walk(rule, row) for row in table]


@every_rule
def test_the_array_form_equals_decide_over_more_rows_than_one_block_holds(rule):
    rng = np.random.default_rng(7)
    patterns = [numbered(row) for row in rng.choice([-1, 0, 0, 0, 1, 2], (40, 21))]
    picked = rng.integers(0, 40, 40_000)
    expected = np.array([walk(rule, row) for row in patterns])
    assert (rule.stops(np.array(patterns)[picked]) == expected[picked]).all()


@every_rule
@settings(max_examples=40)
@given(table=prefixes(rows=1))
def test_a_rule_never_asks_for_more_than_its_maximum(rule, table):
    state = state_of(table[0][: rule.max_samples - 1])
    decision = rule.decide(state)
    if isinstance(decision, Draw):
        assert 1 <= decision.n <= rule.max_samples - state.n
    full = numbered(np.resize(table[0], rule.max_samples))
    assert isinstance(rule.decide(state_of(full)), Stop)
    assert 1 <= rule.stops(np.array([[*full, 0, 0, 0]]))[0] <= rule.max_samples


@every_rule
def test_no_draw_is_longer_than_the_shortest_way_to_a_stop(rule):
    rng = np.random.default_rng(3)
    for _ in range(12):
        ids: list[int] = []
        while isinstance(decision := rule.decide(state_of(ids)), Draw):
            if decision.n <= 5:
                labels = [-1, *range(min(max(ids, default=-1) + 2, 4))]
                shorter = itertools.product(labels, repeat=decision.n - 1)
                for more in shorter:
                    assert isinstance(rule.decide(state_of(numbered([*ids, *more]))), Draw)
                assert any(
                    isinstance(rule.decide(state_of([*ids, *[label] * decision.n])), Stop)
                    for label in labels
                )
            ids = numbered([*ids, int(rng.choice([-1, 0, 0, 0, 1, 2]))])
            if len(ids) > 12:
                break


@every_rule
@settings(max_examples=40)
@given(
    labels=st.lists(st.integers(-1, 4), min_size=1, max_size=24), names=st.permutations(range(5))
)
def test_renaming_the_answers_changes_nothing(rule, labels, names):
    renamed = [-1 if label < 0 else names[label] for label in labels]
    one, other = state_of(numbered(labels)), state_of(numbered(renamed))
    assert rule.decide(one) == rule.decide(other)
    swapped = State(one.clusters, one.counts, tuple(reversed(one.answers)))
    assert rule.decide(one) == rule.decide(swapped)


def test_a_rule_cannot_see_whether_an_answer_is_right():
    assert set(State.__slots__) == {
        "clusters",
        "counts",
        "answers",
        "signals",
        "spend",
        "seconds_left",
    }


@every_rule
def test_decide_depends_on_nothing_but_the_state(rule):
    states = [state_of(numbered(ids)) for ids in ([], [0], [0, 1, -1, 0], [0] * 9)]
    first = [rule.decide(state) for state in states]
    rule.stops(np.zeros((3, 5), np.int64))
    assert [rule.decide(state) for state in reversed(states)] == first[::-1]


@every_rule
def test_the_array_form_leaves_its_input_alone(rule):
    table = np.array([[0, 1, -1, 0, 0, 0, 0, 0]], np.int8)
    table.flags.writeable = False
    rule.stops(table)
    assert table.tolist() == [[0, 1, -1, 0, 0, 0, 0, 0]]


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
        rule.stops(table)


@every_rule
def test_no_questions_give_no_stops(rule):
    assert rule.stops(np.zeros((0, 4), np.int64)).shape == (0,)


@pytest.mark.parametrize("rule", [Answer()], ids=repr)
def test_an_exit_rule_answers_with_a_leader_and_abstains_without_one(rule):
    assert {type(rule)} == set(EXIT_RULES.values())
    assert rule.decide(state_of([0, 1, 0]), 0) == "answer"
    assert rule.decide(state_of([-1]), None) == "abstain"


def test_a_policy_is_a_value_made_of_its_rules():
    policy = Policy(RULES[0])
    names = {**{kind.__name__: kind for kind in STOP_RULES.values()}, "Answer": Answer}
    assert policy == Policy(RULES[0], Answer())
    assert policy != Policy(RULES[1])
    assert eval(repr(policy), names, {"Policy": Policy}) == policy  # noqa: S307
    assert pickle.loads(pickle.dumps(policy)) == policy  # noqa: S301
