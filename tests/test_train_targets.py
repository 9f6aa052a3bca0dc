"""Targets: soft self-consistency by its formula, questions never in two parts, even bins."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.errors import InputError, UsageError
from poise.train.targets import (
    BINS,
    balanced,
    bin_of,
    first,
    parted,
    self_consistency,
    targets,
)
from training_pools import pool, pools

ANSWERS = st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=12)


@given(ANSWERS, st.data())
def test_soft_self_consistency_is_the_share_of_confidence_behind_an_answer(
    answers: list[str | None], data: st.DataObject
) -> None:
    weights = data.draw(st.lists(st.floats(0.01, 1), min_size=len(answers), max_size=len(answers)))
    found = self_consistency(pool("q", answers), weights)
    readable = [(a, c) for a, c in zip(answers, weights, strict=True) if a is not None]
    for answer, share in zip(answers, found, strict=True):
        if answer is None:
            assert share is None
        else:
            said = sum(c for a, c in readable if a == answer)
            assert share == pytest.approx(said / sum(c for _, c in readable))


@given(ANSWERS, st.floats(0.01, 1))
def test_equal_confidences_make_it_plain_consistency(
    answers: list[str | None], weight: float
) -> None:
    one = pool("q", answers)
    weighted = self_consistency(one, [weight] * len(answers))
    assert weighted == pytest.approx(self_consistency(one), nan_ok=False)


@given(ANSWERS)
def test_the_shares_of_the_distinct_answers_sum_to_one(answers: list[str | None]) -> None:
    found = self_consistency(pool("q", answers))
    distinct = {a: share for a, share in zip(answers, found, strict=True) if a is not None}
    assert not distinct or sum(share or 0 for share in distinct.values()) == pytest.approx(1)


def test_answers_are_equal_as_their_kind_has_it_not_as_strings() -> None:
    one = pool("q", ["0.5", "1/2", "2"])
    assert self_consistency(one) == pytest.approx((2 / 3, 2 / 3, 1 / 3))


def test_no_weight_at_all_gives_no_target() -> None:
    assert self_consistency(pool("q", ["1", "2"]), [0.0, 0.0]) == (None, None)


def test_a_question_that_lacks_a_confidence_is_counted_plainly_as_a_whole() -> None:
    whole = pool("a", ["1", "1", "2"], p_true=[0.9, 0.9, 0.2])
    lacking = pool("b", ["1", "1", "2"], p_true=[0.9, None, 0.2])
    found = targets([whole, lacking], "ssc")
    assert [e.target for e in found.examples[:3]] == pytest.approx([0.9, 0.9, 0.1])
    assert [e.target for e in found.examples[3:]] == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert (found.weighted, found.unweighted) == (1, 1)


def test_an_unreadable_sample_without_confidence_does_not_make_a_question_plain() -> None:
    one = pool("a", ["1", None, "2"], p_true=[0.6, None, 0.2])
    found = targets([one], "ssc")
    assert [e.target for e in found.examples] == pytest.approx([0.75, 0.25])
    assert found.left_out == {"unreadable": 1}


def test_grades_change_no_soft_target() -> None:
    given_pools = pools(6)
    blind = [replace(one, correct=(None,) * len(one.correct)) for one in given_pools]
    for target in ("ssc", "consistency"):
        seen, unseen = (targets(each, target).examples for each in (given_pools, blind))
        assert [e.target for e in seen] == [e.target for e in unseen]


def test_labels_are_the_grades_and_nothing_is_filled_in() -> None:
    one = pool("q", ["1", "2", None])
    half = replace(one, correct=(1, None, 0))
    found = targets([half], "labels")
    assert [(e.index, e.target) for e in found.examples] == [(0, 1.0)]
    assert found.left_out == {"not graded": 1, "unreadable": 1}


def test_p_true_itself_is_a_target_where_it_was_kept() -> None:
    found = targets([pool("q", ["1", "2"], p_true=[0.7, None])], "p_true")
    assert [e.target for e in found.examples] == [0.7]
    assert found.left_out == {"no P(True) kept": 1}


@pytest.mark.parametrize(
    ("target", "said"),
    [("labels", "grade the pools"), ("p_true", "--signals p_true_own")],
)
def test_a_target_that_no_sample_has_is_refused_with_what_to_do(target: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        targets([pool("q", ["1", "2"], gold=None)], target)  # type: ignore[arg-type]


def test_agreement_of_greedy_replies_is_no_target() -> None:
    greedy = pool("q", ["1", "1"], decoding={"temperature": 0, "max_tokens": 4})
    with pytest.raises(InputError, match="temperature 0"):
        targets([greedy], "consistency")


def test_one_readable_sample_can_only_agree_with_itself() -> None:
    with pytest.raises(InputError, match="fewer than two readable samples: 1"):
        targets([pool("q", ["1", None])], "ssc")


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(UsageError, match="must be one of"):
        targets([], "votes")  # type: ignore[arg-type]


# -- the published code parts rows, so that a question is trained and tested on -------------------


@given(st.integers(0, 50), st.floats(0.05, 0.95))
def test_no_question_is_in_two_parts_whatever_its_arms(seed: int, share: float) -> None:
    both = [one for n in range(20) for one in (pool(f"q{n}", ["1"]), pool(f"q{n}", ["2"], run="b"))]
    train, held = parted(both, share, seed)
    assert {one.pool.group for one in train}.isdisjoint(one.pool.group for one in held)
    assert len(train) + len(held) == len(both)


def test_holding_nothing_out_keeps_all_and_a_share_of_one_is_refused() -> None:
    some = pools(3)
    assert parted(some, 0, 0) == (some, [])
    with pytest.raises(UsageError, match="held-out share"):
        parted(some, 1, 0)


def test_the_first_questions_come_with_all_their_pools() -> None:
    some = [pool("a", ["1"]), pool("b", ["1"]), pool("a", ["1"], run="2"), pool("c", ["1"])]
    assert [one.pool.question_id for one in first(some, 2)] == ["a", "b", "a"]
    assert first(some, None) == some


# -- bins -----------------------------------------------------------------------------------------


def test_there_are_twenty_one_bins_and_the_last_holds_one_alone() -> None:
    assert [bin_of(k / 20) for k in range(21)] == list(range(BINS))
    assert bin_of(0.9999) == BINS - 2
    assert bin_of(0.049999) == 0


@given(st.integers(1, 80), st.integers(0, 5))
def test_rows_are_even_over_the_bins_as_far_as_they_allow(rows: int, seed: int) -> None:
    found = targets(pools(12, 6), "consistency").examples
    kept = balanced(found, rows, seed)
    assert len(kept) == min(rows, len(found))
    there = Counter(bin_of(e.target) for e in found)
    taken = Counter(bin_of(e.target) for e in kept)
    most = max(taken.values())
    # A bin below the fullest by more than the odd row has given all it had.
    assert all(taken[name] >= most - len(there) or taken[name] == n for name, n in there.items())
    assert balanced(found, rows, seed) == kept


def test_a_text_comes_twice_only_when_every_text_of_its_bin_came_once() -> None:
    one = pool("q", ["1"] * 6, texts=["a", "a", "a", "b", "c", "d"])
    kept = balanced(targets([one], "consistency").examples, 4, 0)
    assert sorted(str(e.sample.text) for e in kept) == ["a", "b", "c", "d"]


def test_each_data_set_is_balanced_by_itself() -> None:
    small = pool("q", ["1", "1"], dataset="small")
    large = [pool(f"q{n}", ["1"] * 6, dataset="large") for n in range(4)]
    kept = balanced(targets([small, *large], "consistency").examples, 4, 0)
    assert Counter(e.group[0] for e in kept) == {"small": 2, "large": 2}


def test_fewer_than_one_row_is_refused() -> None:
    with pytest.raises(UsageError, match="rows=0"):
        balanced([], 0, 0)
