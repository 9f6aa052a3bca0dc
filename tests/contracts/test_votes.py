"""What every vote promises, and whom the majority elects."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise import votes
from poise.columns import LOGS
from poise.errors import UsageError
from poise.types import State
from poise.votes import VOTES, Majority

SETTINGS = {
    "majority": [{}],
    "weighted": [{}, {"confidence": "logprob"}],
    "softmax": [
        {},
        {"temperature": 1e-6},
        {"temperature": 0.1, "confidence": "answer_logprob_sum"},
    ],
    "borda": [{}, {"power": 0}, {"power": 2.0}, {"power": 50, "confidence": "top_margin"}],
    "best_of_n": [{}, {"confidence": "logprob_sum"}],
    "confident": [{}, {"threshold": 0.5, "confidence": "logprob"}, {"threshold": 0.0}],
    "cges": [{}, {"confidence": "logprob"}],
}
CAST = [VOTES[name](**given) for name, each in SETTINGS.items() for given in each]
every_vote = pytest.mark.parametrize("vote", CAST, ids=repr)


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
    return State(clusters, counts, tuple(f"answer {i}" for i in range(size)), columns=columns)


def told(vote, shares):
    """What ``vote`` needs, made of ``shares`` in [0, 1] (nan: missing)."""
    shares = np.asarray(shares, np.float64)
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log(shares), -50.0)
    return {name: logs if name in LOGS else shares for name in vote.needs}


def head(values, row, n):
    return {name: column[row, :n] for name, column in values.items()}


SHARES = st.one_of(st.sampled_from([0.0, 0.5, 0.9, 1.0, float("nan")]), st.floats(0, 1))


@st.composite
def prefixes(draw):
    """(m, N) cluster ids, how many of each row to count, and shares (m, N)."""
    n = draw(st.integers(0, 12))
    label = st.integers(-1, draw(st.sampled_from([0, 1, 3, 12])))
    rows = draw(st.lists(st.lists(label, min_size=n, max_size=n), max_size=6))
    ends = [draw(st.integers(0, n)) for _ in rows]
    m = len(rows)
    shares = draw(st.lists(st.lists(SHARES, min_size=n, max_size=n), min_size=m, max_size=m))
    table = np.array([numbered(row) for row in rows], np.int16).reshape(m, n)
    return table, np.array(ends, np.int64), np.array(shares, np.float64).reshape(m, n)


def test_every_vote_in_the_table_is_under_this_contract_and_in_the_docs():
    listed = {line.split("``")[1] for line in votes.__doc__.splitlines() if line[:2] == "``"}
    assert set(SETTINGS) == set(VOTES) == listed


@every_vote
@settings(deadline=None)
@given(case=prefixes())
def test_the_array_form_elects_whom_elect_does(vote, case):
    table, ends, shares = case
    values = told(vote, shares)
    single = [
        vote.elect(state_of(row[:n], head(values, i, n)))
        for i, (row, n) in enumerate(zip(table, ends, strict=True))
    ]
    got = vote.elect_all(table, ends, values)
    assert got.tolist() == [-1 if w is None else w for w in single]


@every_vote
def test_the_array_form_elects_whom_elect_does_over_more_rows_than_one_block_holds(vote):
    rng = np.random.default_rng(5)
    patterns = [numbered(row) for row in rng.integers(-1, 4, (30, 50))]
    values = told(vote, rng.choice([np.nan, 0, 0.3, 0.5, 0.77, 0.95], (30, 50)))
    picked, ends = rng.integers(0, 30, 25_000), rng.integers(0, 51, 30)
    winners = [
        vote.elect(state_of(row[:n], head(values, i, n)))
        for i, (row, n) in enumerate(zip(patterns, ends, strict=True))
    ]
    expected = np.array([-1 if winner is None else winner for winner in winners])
    given = {name: column[picked] for name, column in values.items()}
    got = vote.elect_all(np.array(patterns)[picked], ends[picked], given)
    assert (got == expected[picked]).all()


@every_vote
@settings(deadline=None)
@given(case=prefixes())
def test_what_comes_after_the_samples_that_count_changes_nothing(vote, case):
    table, ends, shares = case
    late = np.arange(table.shape[1]) >= ends[:, None]
    other = np.where(late, -1, table)
    values, changed = told(vote, shares), told(vote, np.where(late, 0.99, shares))
    got = vote.elect_all(table, ends, values).tolist()
    assert vote.elect_all(other, ends, changed).tolist() == got


@every_vote
@settings(deadline=None)
@given(case=prefixes())
def test_without_a_single_value_the_majority_wins(vote, case):
    table, ends, shares = case
    values = told(vote, np.full(shares.shape, np.nan))
    got = vote.elect_all(table, ends, values).tolist()
    assert got == Majority().elect_all(table, ends).tolist()


@every_vote
@settings(deadline=None)
@given(case=prefixes())
def test_an_unreadable_sample_changes_no_vote_however_sure_it_is(vote, case):
    table, ends, shares = case
    mute = table < 0
    values, changed = told(vote, shares), told(vote, np.where(mute, 1.0, shares))
    got = vote.elect_all(table, ends, values).tolist()
    assert vote.elect_all(table, ends, changed).tolist() == got


@every_vote
def test_where_nothing_can_be_read_nobody_is_elected(vote):
    assert vote.elect(state_of([], told(vote, []))) is None
    assert vote.elect(state_of([-1, -1], told(vote, [0.5, 0.5]))) is None
    values = told(vote, [[0.5, 0.5, 0.5]])
    assert vote.elect_all(np.array([[-1, -1, 0]]), np.array([2]), values).tolist() == [-1]


@every_vote
@given(n=st.integers(1, 6), share=st.sampled_from([0.0, 0.5, 1.0]))
def test_of_equals_the_first_seen_wins(vote, n, share):
    values = told(vote, [share] * n)
    assert vote.elect(state_of(list(range(n)), values)) == 0


@every_vote
def test_the_array_form_leaves_its_input_alone(vote):
    table, ends = np.array([[0, 1, -1, 0]]), np.array([4])
    values = told(vote, [[0.2, np.nan, 0.9, 0.4]])
    for array in (table, ends, *values.values()):
        array.flags.writeable = False
    before = {name: array.copy() for name, array in values.items()}
    vote.elect_all(table, ends, values)
    assert all(np.array_equal(values[k], before[k], equal_nan=True) for k in values)


@pytest.mark.parametrize("vote", [vote for vote in CAST if vote.needs], ids=repr)
def test_a_signal_that_the_vote_needs_and_nobody_brought_is_named(vote):
    table, ends = np.zeros((2, 3), np.int64), np.array([3, 3])
    for values in (None, {}, {"other": np.zeros((2, 3))}):
        with pytest.raises(UsageError, match=f"{vote.needs[0]} is needed for every sample"):
            vote.elect_all(table, ends, values)
    with pytest.raises(UsageError, match=f"{vote.needs[0]} is needed for every sample"):
        vote.elect(state_of([0, 0, 0]))
    with pytest.raises(UsageError, match=r"values of shape \(2, 2\)"):
        vote.elect_all(table, ends, told(vote, np.zeros((2, 2))))
    with pytest.raises(UsageError, match="infinite"):
        vote.elect_all(table, ends, {name: np.full((2, 3), np.inf) for name in vote.needs})


@every_vote
def test_votes_are_values(vote):
    assert pickle.loads(pickle.dumps(vote)) == vote  # noqa: S301
    assert eval(repr(vote), {type(vote).__name__: type(vote)}) == vote  # noqa: S307
    assert [other == vote for other in CAST].count(True) == 1
    assert isinstance(vote.needs, tuple)


@every_vote
@pytest.mark.parametrize(
    ("table", "n", "said"),
    [
        (np.zeros((1, 3)), np.array([1]), "signed integers"),
        (np.zeros(3, np.int64), np.array([1]), "signed integers"),
        (np.zeros((2, 3), np.int64), np.array([1]), "one n a question"),
        (np.zeros((1, 3), np.int64), np.array([4]), "from 0 to 3"),
        (np.zeros((1, 3), np.int64), np.array([-1]), "from 0 to 3"),
        (np.full((1, 3), 3), np.array([1]), "by first appearance"),
        (np.full((1, 3), -2), np.array([1]), "by first appearance"),
    ],
)
def test_arrays_that_hold_no_prefixes_are_refused(vote, table, n, said):
    with pytest.raises(UsageError, match=said):
        vote.elect_all(table, n, told(vote, np.zeros(table.shape)))


@pytest.mark.parametrize(
    ("ids", "winner"),
    [([0], 0), ([0, 1], 0), ([0, 1, 1], 1), ([0, 1, 1, 0], 0), ([-1, 0, 1, 2, 2, 1], 1)],
)
def test_the_majority_elects_the_most_frequent_and_the_first_seen_of_equals(ids, winner):
    assert Majority().elect(state_of(ids)) == winner
