"""Misconceptions, surprising and plain facts: balanced, distinct, not given away by wording."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.answers import read
from poise.errors import RefusedError
from poise.tasks import TASKS, Labelled
from poise.tasks.__main__ import main
from poise.tasks.misconceptions import Misconceptions
from poise.types import Kind, Reply

ALL = 156


def every() -> list[Labelled]:
    return list(Misconceptions().load())


def test_each_segment_is_balanced_between_yes_and_no() -> None:
    cells = Counter((row.question.segment, row.gold) for row in every())
    assert {segment for segment, _ in cells} == {"misconception", "surprising", "plain"}
    assert set(cells.values()) == {ALL // 6}


def test_no_question_is_asked_twice_and_each_is_one_sentence() -> None:
    rows = every()
    texts = [row.question.text for row in rows]
    assert len(rows) == ALL >= 120
    assert len({text.casefold() for text in texts}) == len({row.question.id for row in rows}) == ALL
    assert all(text.endswith("?") and text.count("?") == 1 and len(text) <= 100 for text in texts)
    assert all(row.question.kind is Kind.YESNO for row in rows)


def test_gold_is_what_the_reader_of_answers_reads() -> None:
    assert {read(Reply(row.gold), Kind.YESNO, None).answer for row in every()} == {"yes", "no"}


def test_the_first_word_does_not_tell_the_answer() -> None:
    """The better of yes and no for each opening word would be right little more often than not."""
    by_word: dict[str, Counter[str]] = {}
    for row in every():
        by_word.setdefault(row.question.text.split()[0], Counter())[row.gold] += 1
    told = sum(max(counts.values()) for counts in by_word.values())
    assert told / ALL < 0.66


@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, ALL), seed=st.integers(0, 2**32))
def test_any_number_of_them_is_spread_over_segments_and_answers(count: int, seed: int) -> None:
    rows = list(Misconceptions(count, seed).load())
    cells = Counter((row.question.segment, row.gold) for row in rows)
    assert len(rows) == count
    assert len({row.question.id for row in rows}) == count
    assert max(cells.values()) - min((cells[key] for key in cells), default=0) <= 1


def test_the_order_and_the_choice_follow_the_seed_alone() -> None:
    first, again, other = ([r.question.id for r in Misconceptions(60, s).load()] for s in (4, 4, 5))
    assert first == again
    assert set(first) != set(other)


def test_more_than_there_are_is_refused_with_their_number() -> None:
    with pytest.raises(RefusedError, match=f"only {ALL}"):
        list(Misconceptions(ALL + 1).load())


def test_the_command_writes_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert TASKS["misconceptions"] is Misconceptions
    assert main(["misconceptions", "-n", "30", "--seed", "2"]) == 0
    assert capsys.readouterr().out.count('"kind": "yesno"') == 30
