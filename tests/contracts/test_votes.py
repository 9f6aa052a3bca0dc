"""What every vote promises, and whom the majority elects."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise import votes
from poise.errors import UsageError
from poise.types import State
from poise.votes import VOTES, Majority

SETTINGS = {"majority": [{}]}
CAST = [VOTES[name](**given) for name, settings in SETTINGS.items() for given in settings]
every_vote = pytest.mark.parametrize("vote", CAST, ids=repr)


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
def prefixes(draw):
    """(m, N) cluster ids, and how many of each row to count."""
    n = draw(st.integers(0, 12))
    label = st.integers(-1, draw(st.sampled_from([0, 1, 3, 12])))
    rows = draw(st.lists(st.lists(label, min_size=n, max_size=n), max_size=6))
    ends = [draw(st.integers(0, n)) for _ in rows]
    table = np.array([numbered(row) for row in rows], np.int16).reshape(len(rows), n)
    return table, np.array(ends, np.int64)


def test_every_vote_in_the_table_is_under_this_contract_and_in_the_docs():
    listed = {line.split("``")[1] for line in votes.__doc__.splitlines() if line[:2] == "``"}
    assert set(SETTINGS) == set(VOTES) == listed


@every_vote
@given(case=prefixes())
def test_the_array_form_elects_whom_elect_does(vote, case):
    table, ends = case
    single = [vote.elect(state_of(row[:n])) for row, n in zip(table, ends, strict=True)]
    assert vote.elect_all(table, ends).tolist() == [-1 if w is None else w for w in single]


@every_vote
def test_the_array_form_elects_whom_elect_does_over_more_rows_than_one_block_holds(vote):
    rng = np.random.default_rng(5)
    patterns = [numbered(row) for row in rng.integers(-1, 4, (30, 50))]
    picked, ends = rng.integers(0, 30, 30_000), rng.integers(0, 51, 30)
    winners = [vote.elect(state_of(row[:n])) for row, n in zip(patterns, ends, strict=True)]
    expected = np.array([-1 if winner is None else winner for winner in winners])
    got = vote.elect_all(np.array(patterns)[picked], ends[picked])
    assert (got == expected[picked]).all()


@every_vote
def test_where_nothing_can_be_read_nobody_is_elected(vote):
    assert vote.elect(State()) is None
    assert vote.elect(state_of([-1, -1])) is None
    assert vote.elect_all(np.array([[-1, -1, 0]]), np.array([2])).tolist() == [-1]


@every_vote
def test_votes_are_values(vote):
    assert pickle.loads(pickle.dumps(vote)) == vote  # noqa: S301
    assert eval(repr(vote), {type(vote).__name__: type(vote)}) == vote  # noqa: S307


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
        vote.elect_all(table, n)


@pytest.mark.parametrize(
    ("ids", "winner"),
    [([0], 0), ([0, 1], 0), ([0, 1, 1], 1), ([0, 1, 1, 0], 0), ([-1, 0, 1, 2, 2, 1], 1)],
)
def test_the_majority_elects_the_most_frequent_and_the_first_seen_of_equals(ids, winner):
    assert Majority().elect(state_of(ids)) == winner
