"""Splits by question: disjoint, stable, in their shares."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.errors import UsageError
from poise.pools import (
    Labelled,
    Pool,
    part_of,
    split,
)
from poise.types import Sample

texts = st.text(max_size=12)
THIRDS = {"fit": 0.5, "tune": 0.3, "test": 0.2}


def pool_of(dataset: str, question_id: str, model: str, run: str | None = None) -> Pool:
    return Pool(dataset, model, question_id, (Sample(0, None, "1"),), run=run)


@given(st.sets(st.tuples(texts, texts), max_size=30), st.integers(0, 2**40))
def test_a_question_falls_into_one_part_whatever_the_model(
    questions: set[tuple[str, str]], seed: int
) -> None:
    pools = [
        pool_of(dataset, question_id, model, run)
        for dataset, question_id in sorted(questions)
        for model, run in (("m", None), ("n", "1"), ("n", "2"))
    ]
    parts = split(pools, THIRDS, seed)
    assert sum(len(part) for part in parts.values()) == len(pools)
    homes = [{pool.group for pool in part} for part in parts.values()]
    assert set().union(*homes) == questions
    assert sum(len(home) for home in homes) == len(questions)
    labelled = split([Labelled(pool, None, (1,)) for pool in pools], THIRDS, seed)
    assert {name: [one.pool for one in part] for name, part in labelled.items()} == parts


def test_more_questions_move_no_other() -> None:
    questions = [("d", str(number)) for number in range(500)]
    few = split(questions[::3], THIRDS, 1)
    many = split(reversed(questions), THIRDS, 1)
    assert all(set(few[name]) <= set(many[name]) for name in THIRDS)


def test_the_parts_have_their_shares_and_follow_the_seed_and_the_dataset() -> None:
    questions = [("d", str(number)) for number in range(20_000)]
    parts = split(questions, THIRDS, 3)
    for name, fraction in THIRDS.items():
        sd = math.sqrt(20_000 * fraction * (1 - fraction))
        assert abs(len(parts[name]) - 20_000 * fraction) < 5 * sd
    first = questions[:1000]
    here = [part_of(*question, THIRDS, 3) for question in first]
    for other in (
        [part_of(*question, THIRDS, 4) for question in first],
        [part_of("e", question_id, THIRDS, 3) for _, question_id in first],
    ):
        assert 300 < sum(a == b for a, b in zip(here, other, strict=True)) < 460


@pytest.mark.parametrize("fractions", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 1, "b": 0}])
def test_fractions_that_are_no_parts_of_a_whole_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="above 0, together 1"):
        split([("d", "1")], fractions, 0)
