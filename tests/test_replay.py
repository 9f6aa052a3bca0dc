"""Replay: the vectorised twin of ``solve``, its orders, and what it makes of labels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.answers.clusters import Clusters
from poise.backends import Stored
from poise.errors import InputError, UsageError
from poise.policies import STOP_RULES, Abstain, Beta, Fixed, Policy, Value, Window
from poise.pools import Labelled, Pool, SampleArm
from poise.replay import Orders, follow, orders, walk
from poise.replay.shuffling import permutations, renumbered
from poise.solve import solve
from poise.types import Arm, Draw, Kind, Message, Question, Sample, State, Stop
from poise.votes import VOTES, Majority, Weighted

ASKED: tuple[Message, ...] = ({"role": "user", "content": "How many?"},)
ANSWERS = st.sampled_from([None, "1", "1", "1", "2", "2", "3"])


def pool(answers: Sequence[str | None], question: str = "q", **more: Any) -> Labelled:
    """A graded pool in which "1" is right; sample i has i + 1 tokens and takes 10 - i seconds."""
    correct = tuple(None if a is None else int(a == "1") for a in answers)
    samples = tuple(
        Sample(i, a, a, tokens=i + 1, seconds=10.0 - i, signals={"p_true": (i + 1) / 20})
        for i, a in enumerate(answers)
    )
    fields = {"dataset": "d", "model": "m", "kind": Kind.NUMBER, "messages": ASKED} | more
    return Labelled(Pool(question_id=question, samples=samples, **fields), "1", correct)


def shuffled(one: Labelled, order: Sequence[int]) -> Pool:
    """The pool as if its samples had been drawn in this order."""
    drawn = [one.pool.samples[old] for old in order]
    return replace(one.pool, samples=tuple(replace(each, index=i) for i, each in enumerate(drawn)))


def state_of(codes: Sequence[int], columns: Mapping[str, Sequence[float]]) -> State:
    clusters = tuple(None if code < 0 else int(code) for code in codes)
    size = max((c for c in clusters if c is not None), default=-1) + 1
    counts = tuple(clusters.count(k) for k in range(size))
    shown = {k: tuple(None if np.isnan(v) else float(v) for v in c) for k, c in columns.items()}
    return State(clusters, counts, tuple(f"answer {k}" for k in range(size)), columns=shown)


def made(codes: Any, right: Any = None, **more: Any) -> Orders:
    """Orders of given cluster codes (q, o, N)."""
    codes = np.array(codes, np.int16)
    q, o, n = codes.shape
    graded = np.zeros((q, o, n), np.int8) if right is None else np.array(right, np.int8)
    nothing = np.full((q, o, n), np.nan)
    fields: dict[str, Any] = {
        "tokens": nothing,
        "seconds": nothing,
        "prompt_tokens": np.full(q, np.nan),
        "values": {},
        "asks": {},
        "group": tuple(("d", str(k)) for k in range(q)),
        "graded": np.ones(q, np.bool_),
    }
    return Orders(codes, graded, **(fields | more))


# -- orders ---------------------------------------------------------------------------------------


@given(st.integers(0, 2**40), st.text(max_size=5), st.integers(2, 30), st.integers(1, 9))
def test_every_shuffle_is_a_permutation_and_more_shuffles_begin_alike(
    seed: int, name: str, n: int, count: int
) -> None:
    found = permutations(seed, "d", name, n, count)
    assert (np.sort(found, axis=1) == np.arange(n)).all()
    assert (permutations(seed, "d", name, n, count + 3)[:count] == found).all()


def test_a_shuffle_is_the_same_on_every_machine() -> None:
    assert permutations(7, "gsm8k", "q1", 8, 2).tolist() == [
        [1, 5, 4, 0, 7, 2, 6, 3],
        [4, 6, 3, 7, 5, 2, 0, 1],
    ]


def test_shuffles_are_uniform_over_seeds() -> None:
    first = [permutations(seed, "d", "q", 4, 1)[0, 0] for seed in range(2000)]
    assert np.bincount(first, minlength=4).min() > 430  # 500 expected, standard deviation 19


def test_another_seed_dataset_or_question_gives_another_order() -> None:
    one = permutations(0, "d", "q", 30, 1).tolist()
    for other in [(1, "d", "q"), (0, "e", "q"), (0, "d", "r")]:
        assert permutations(*other, 30, 1).tolist() != one


@given(st.lists(st.lists(st.integers(-1, 5), min_size=7, max_size=7), min_size=1, max_size=5))
def test_clusters_are_numbered_by_first_appearance_and_graded_by_their_first_member(
    rows: list[list[int]],
) -> None:
    grades = np.arange(7) % 3 - 1
    table = np.array(rows)
    codes, right = renumbered(table, np.broadcast_to(grades, table.shape).astype(np.int8))
    for row, found, graded in zip(rows, codes.tolist(), right.tolist(), strict=True):
        seen = list(dict.fromkeys(label for label in row if label >= 0))
        assert found == [-1 if label < 0 else seen.index(label) for label in row]
        firsts = [grades[row.index(label)] for label in seen]
        assert graded == firsts + [-1] * (7 - len(firsts))


@given(st.lists(ANSWERS, min_size=2, max_size=9), st.integers(0, 50))
def test_an_order_holds_what_serving_the_shuffled_pool_would_have_shown(
    answers: list[str | None], seed: int
) -> None:
    one = pool(answers)
    found = orders([one], 3, seed)
    drawn = permutations(seed, "d", "q", len(answers), 3)
    for place, order in enumerate(drawn):
        clusters = Clusters(Kind.NUMBER)
        codes = [clusters.add(answers[i]) for i in order]
        assert found.codes[0, place].tolist() == [-1 if c is None else c for c in codes]
        assert found.tokens[0, place].tolist() == [i + 1 for i in order]
        assert found.seconds[0, place].tolist() == [10 - i for i in order]
        for k, first in enumerate(clusters.answers):
            assert found.right[0, place, k] == (first == "1")


def test_an_order_is_the_same_whatever_other_questions_are_there() -> None:
    many = [pool("1213121", f"q{i}") for i in range(4)]
    together, alone = orders(many, 5, 3), orders([many[2]], 5, 3)
    assert (together.codes[2] == alone.codes[0]).all()
    assert (together.take(np.array([2])).tokens == alone.tokens).all()


def test_the_pools_own_order_comes_first_only_if_asked_for() -> None:
    one = pool("1122312", "q")
    own = orders([one], 2, 0, own_order=True)
    assert own.codes[0, 0].tolist() == [0, 0, 1, 1, 2, 0, 1]
    assert (own.codes[0, 1:] == orders([one], 2, 0).codes[0]).all()


def test_fewer_samples_are_drawn_from_all_of_a_larger_pool() -> None:
    one = pool("123456789", "q")
    found = orders([one, pool("12", "r")], 40, 0, max_samples=2)
    assert found.shape == (2, 40, 2)
    assert set(found.tokens[0].ravel().tolist()) == set(range(1, 10))


def test_taking_questions_takes_every_column() -> None:
    found = orders([pool("1212", f"q{i}") for i in range(3)], 2, 0, ["p_true"])
    taken = found.take(np.array([True, False, True]))
    assert taken.shape == (2, 2, 4)
    assert taken.group == (("d", "q0"), ("d", "q2"))
    assert (taken.values["p_true"] == found.values["p_true"][[0, 2]]).all()
    assert taken.asks["p_true"].shape == (2, 2, 4)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pools", "kind", "said"),
    [
        ([], InputError, "no pools"),
        ([pool("1")], InputError, "1 sample a question"),
        ([pool("111", "a"), pool("11", "b")], InputError, "--max-samples"),
        ([pool("11", "a"), pool("11", "b", model="n")], UsageError, r"2 models \(m, n\).*-m"),
        ([pool("11", run="a"), pool("11", run="b")], UsageError, r"2 runs \(a, b\).*--run"),
        ([pool("11"), pool("12")], InputError, "the same pool twice"),
        (
            [pool("11", "a", decoding={"t": 1}), pool("11", "b")],
            UsageError,
            r"2 decodings",
        ),
        ([pool("11", arms=(SampleArm("x"), SampleArm("y")))], UsageError, "of their own.*by_arm"),
    ],
)
def test_pools_that_cannot_be_replayed_are_refused(
    pools: list[Labelled], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        orders(pools, 2, 0)


def test_more_samples_than_a_pool_holds_are_refused_and_the_question_is_named() -> None:
    with pytest.raises(InputError, match=r"1 of 2 pools .* 'b' holds 3.*--max-samples 3"):
        orders([pool("1111", "a"), pool("111", "b")], 2, 0, max_samples=4)


def test_a_signal_that_no_sample_has_is_named_with_the_reason() -> None:
    with pytest.raises(InputError, match="needs logprob, .*no log-probabilities"):
        orders([pool("11")], 2, 0, ["logprob"])


def test_a_signal_of_whole_pools_is_no_signal_of_samples() -> None:
    with pytest.raises(UsageError, match="agreement is a signal of the pool"):
        orders([pool("11")], 2, 0, ["agreement"])


def test_no_order_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one order"):
        orders([pool("11")], 0, 0)


def test_a_rule_whose_signal_was_not_read_is_refused() -> None:
    rule = STOP_RULES["confident"]()
    with pytest.raises(UsageError, match="p_true"):
        follow(orders([pool("11")], 2, 0), Policy(rule))


# -- the twin of solve ----------------------------------------------------------------------------

PLAIN = {name: rule for name, rule in STOP_RULES.items() if not rule().needs}
PLAIN["value that prices rounds"] = partial(Value, 0.01, 0.03)


@pytest.mark.parametrize("rule", PLAIN.values(), ids=PLAIN)
@settings(max_examples=15, deadline=None)
@given(answers=st.lists(ANSWERS, min_size=6, max_size=12), seed=st.integers(0, 99))
def test_replay_stops_answers_and_spends_as_solve_does(
    rule: Any, answers: list[str | None], seed: int
) -> None:
    one = pool(answers)
    policy = Policy(rule(max_samples=6))
    found = follow(orders([one], 2, seed), policy)
    for place, order in enumerate(permutations(seed, "d", "q", len(answers), 2)):
        asked = Question("q", ASKED, Kind.NUMBER)
        arm = Arm(Stored([shuffled(one, order)]), {"temperature": 0.8})
        result = asyncio.run(solve(asked, arm, policy))
        drawn = [answers[i] for i in order]
        assert result.n_samples == found.n[0, place]
        assert result.rounds == found.rounds[0, place]
        assert result.spend.samples == found.samples[0, place]
        assert result.spend.completion_tokens == found.tokens[0, place]
        assert (result.decision == "abstain") == found.abstained[0, place]
        assert (result.answer == "1") == found.right[0, place]
        leader = found.leader[0, place]
        firsts = list(dict.fromkeys(a for a in drawn if a is not None))
        assert result.answer == (None if leader < 0 else firsts[leader])


@st.composite
def samples(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Cluster codes and confidences (m, N): agreement or not, some unreadable, some without."""
    n, rows = draw(st.integers(2, 12)), draw(st.integers(1, 4))
    label = st.one_of(st.just(0), st.integers(-1, 3))
    confidence = st.one_of(st.just(np.nan), st.integers(0, 20).map(lambda k: k / 20))
    table = [draw(st.lists(label, min_size=n, max_size=n)) for _ in range(rows)]
    known = [draw(st.lists(confidence, min_size=n, max_size=n)) for _ in range(rows)]
    codes, _ = renumbered(np.array(table), np.zeros((rows, n), np.int8))
    return codes, np.array(known, np.float64)


@pytest.mark.parametrize("vote", VOTES)
@pytest.mark.parametrize("rule", STOP_RULES)
@settings(max_examples=5, deadline=None)
@given(drawn=samples())
def test_every_rule_with_every_vote_does_on_arrays_what_it_does_prefix_by_prefix(
    rule: str, vote: str, drawn: tuple[np.ndarray, np.ndarray]
) -> None:
    codes, known = drawn
    m, n = codes.shape
    stop, elected = STOP_RULES[rule](max_samples=max(5, n - 1)), VOTES[vote]()
    needs = {*stop.needs, *elected.needs}
    values = dict.fromkeys(needs, known[:, None])
    found = follow(made(codes[:, None], values=values), Policy(stop), elected)
    for row in range(m):
        seen = [
            state_of(codes[row, :k], dict.fromkeys(needs, known[row, :k])) for k in range(n + 1)
        ]
        at, rounds, ends = 0, 0, 0
        while at < n and isinstance(decision := stop.decide(seen[at]), Draw):
            if at == ends:
                rounds, ends = rounds + 1, min(n, at + decision.n)
            at += 1
        leader = elected.elect(seen[at])
        assert (found.n[row, 0], found.rounds[row, 0], found.samples[row, 0]) == (at, rounds, ends)
        assert found.leader[row, 0] == (-1 if leader is None else leader)
        assert found.abstained[row, 0] == (leader is None)
        whole = Majority().elect(seen[n])
        assert found.same_as_majority[row, 0] == (leader == whole)


@pytest.mark.parametrize("vote", VOTES)
@settings(max_examples=10, deadline=None)
@given(drawn=samples())
def test_the_walk_shows_at_every_prefix_what_following_a_fixed_number_gives(
    vote: str, drawn: tuple[np.ndarray, np.ndarray]
) -> None:
    codes, known = drawn
    tokens = np.arange(1.0, codes.size + 1).reshape(codes[:, None].shape)
    right = np.tile(np.arange(codes.shape[1]) % 2, (len(codes), 1, 1))
    one = made(codes[:, None], right, values={"p_true": known[:, None]}, tokens=tokens)
    walked = walk(one, VOTES[vote]())
    for n in range(1, codes.shape[1] + 1):
        found = follow(one, Policy(Fixed(n)), VOTES[vote]())
        assert (walked.right[..., n - 1] == found.right).all()
        assert (walked.same[..., n - 1] == found.same_as_majority).all()
        assert (walked.tokens[..., n - 1] == found.tokens).all()


@given(st.lists(st.integers(-1, 3), min_size=2, max_size=12))
def test_the_oracle_stops_where_the_leader_has_changed_for_the_last_time(labels: list[int]) -> None:
    codes, _ = renumbered(np.array([labels]), np.zeros((1, len(labels)), np.int8))
    settled = int(walk(made(codes[None])).settled[0, 0])
    leaders = [Majority().elect(state_of(codes[0, :k], {})) for k in range(1, len(labels) + 1)]
    assert len(set(leaders[settled - 1 :])) == 1
    assert settled == 1 or leaders[settled - 2] != leaders[-1]


def test_no_stop_and_no_answer_depends_on_a_label() -> None:
    rng = np.random.default_rng(3)
    pools = [pool(rng.choice(["1", "2", "3"], 8).tolist(), f"q{i}") for i in range(20)]
    flipped = [replace(one, correct=tuple(1 - (c or 0) for c in one.correct)) for one in pools]
    for rule in (Beta(max_samples=8), Window(2, 8)):
        one, other = (follow(orders(each, 3, 0), Policy(rule)) for each in (pools, flipped))
        assert (one.n == other.n).all()
        assert (one.leader == other.leader).all()
        assert (one.right != other.right).all()


def test_ungraded_answers_are_neither_right_nor_wrong() -> None:
    one = pool("1122", "q")
    bare = replace(one, correct=(None,) * 4)
    found = orders([one, replace(bare, pool=replace(bare.pool, question_id="r"))], 3, 0)
    assert found.graded.tolist() == [True, False]
    assert found.gold
    assert (follow(found, Policy(Fixed(4))).right[1] == -1).all()
    assert not orders([bare], 3, 0).gold


def test_a_question_without_a_readable_answer_makes_no_graded_pool_of_an_ungraded_one() -> None:
    bare = replace(pool("1122", "a"), correct=(None,) * 4)
    silent = replace(pool([None] * 4, "b"), correct=(None,) * 4)
    assert not orders([bare, silent], 3, 0).gold
    assert not orders([silent], 3, 0).gold
    with_grades = orders([pool("1122", "a"), silent], 3, 0)
    assert with_grades.gold
    assert with_grades.graded.all()  # nothing is missing: no answer is not right


# -- spend ----------------------------------------------------------------------------------------


def test_a_round_lasts_as_long_as_its_slowest_sample() -> None:
    seconds = np.array([[[3.0, 1.0, 2.0, 5.0, 7.0, 9.0]]])
    one = made([[[0, 1, 0, 0, 0, 0]]], seconds=seconds)
    found = follow(one, Policy(Window(2, 6)))
    assert (found.n[0, 0], found.rounds[0, 0]) == (4, 2)
    assert found.latency[0, 0] == 3 + 5


def test_spend_that_samples_do_not_state_is_not_known() -> None:
    seconds = np.array([[[3.0, np.nan, 2.0, 5.0]], [[1.0, 1.0, 1.0, np.nan]]])
    one = made([[[0, 0, 0, 0]]] * 2, seconds=seconds, tokens=seconds)
    found = follow(one, Policy(Fixed(3)))
    assert np.isnan(found.latency[:, 0]).tolist() == [True, False]
    assert np.isnan(found.tokens[:, 0]).tolist() == [True, False]
    assert np.isnan(follow(made([[[0, 0]]]), Policy(Fixed(2))).latency).all()


def test_a_follow_up_is_asked_once_for_each_distinct_answer_and_takes_unknown_time() -> None:
    found = orders([pool(["1", "2", None, "1", "2", "1"])], 30, 0, ["p_true"])
    followed = follow(found, Policy(Fixed(6)), Weighted())
    assert (followed.followups == 2).all()
    assert np.isnan(followed.latency).all()
    assert (follow(found, Policy(Fixed(6))).followups == 0).all()
    first = follow(found, Policy(Fixed(1)), Weighted()).followups[0]
    assert set(first.tolist()) == {0, 1}
    assert (first == (found.codes[0, :, 0] >= 0)).all()


def test_a_prompt_is_paid_once_a_round_and_only_where_it_is_known() -> None:
    one = made([[[0, 1, 0, 0, 0, 0]]] * 2, prompt_tokens=np.array([30.0, np.nan]))
    found = follow(one, Policy(Window(2, 6)))
    assert found.prompt[0, 0] == 60
    assert np.isnan(found.prompt[1, 0])


class Hasty:
    """A rule that keeps three draws running and stops at the first repeated answer."""

    needs: tuple[str, ...] = ()
    max_samples = 8

    def decide(self, state: State) -> Draw | Stop:
        reason = Beta(0.875, 8).decide(state)
        return reason if isinstance(reason, Stop) else Draw(min(3, 8 - state.n))

    def stops(self, prefixes: Any, values: Any = None) -> Any:
        return Beta(0.875, 8).stops(prefixes)


def test_samples_drawn_beyond_the_stop_are_paid_for() -> None:
    tokens = np.arange(1.0, 9).reshape(1, 1, 8)
    found = follow(made([[[0, 0, 1, 1, 0, 0, 0, 0]]], tokens=tokens), Policy(Hasty()))
    assert (found.n[0, 0], found.samples[0, 0], found.tokens[0, 0]) == (2, 3, 6)


def test_what_is_drawn_beyond_the_stop_is_paid_for_and_not_asked_about() -> None:
    """``solve`` asks about a sample as it enters the prefix, and none enters after the stop."""

    class Curious(Hasty):
        needs = ("p_true",)

    given = {"p_true": np.full((1, 1, 8), 0.5)}
    asks = {"p_true": np.array([[[0, 1, 2, 3, 4, 5, 6, 7]]], np.int16)}
    found = follow(made([[[0, 0, 1, 1, 0, 0, 0, 0]]], values=given, asks=asks), Policy(Curious()))
    assert (found.n[0, 0], found.samples[0, 0], found.followups[0, 0]) == (2, 3, 2)


def test_a_rule_whose_two_forms_disagree_is_refused() -> None:
    class Torn(Hasty):
        def stops(self, prefixes: Any, values: Any = None) -> Any:
            return np.full(len(prefixes), 8)

    with pytest.raises(UsageError, match="its two forms must agree"):
        follow(made([[[0] * 8]]), Policy(Torn()))


def test_an_exit_rule_is_told_the_probability_of_each_order() -> None:
    one = made([[[0, 0], [0, 0], [-1, -1], [0, 1]]])
    stated = np.array([[0.9, 0.3, 0.9, np.nan]])
    found = follow(one, Policy(Fixed(2), Abstain(0.5)), probability=stated)
    assert found.abstained.tolist() == [[False, True, True, True]]
    assert follow(one, Policy(Fixed(2), Abstain(0.0))).abstained.all()
