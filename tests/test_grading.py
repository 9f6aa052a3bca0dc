"""Answers against gold: gold is read like any answer, and absence is never a grade."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.answers import read
from poise.errors import InputError
from poise.grading import Outcome, canonical_gold, grade
from poise.types import Kind, Reply

CITIES = ("Paris", "London")


@pytest.mark.parametrize(
    ("gold", "kind", "canonical"),
    [
        ("#### 18", Kind.NUMBER, "18"),
        ("She has 3.\n#### 1,234", Kind.NUMBER, "1234"),
        ("005", Kind.NUMBER, "5"),
        ("B", Kind.CHOICE, "B"),
        ("(b)", Kind.CHOICE, "B"),
        ("London", Kind.CHOICE, "B"),
        ("Yes", Kind.YESNO, "yes"),
        ("False", Kind.YESNO, "no"),
        ("The Beatles.", Kind.TEXT, "beatles"),
        ('{"b": 1.0, "a": 2}', Kind.JSON, '{"a":2,"b":1}'),
        ("so \\boxed{\\dfrac12}", Kind.MATH, "\\frac12"),
        ("x^2 + 1", Kind.MATH, "x^2+1"),
        ("  As It Is ", None, "  As It Is "),
    ],
)
def test_gold_is_read_by_its_kind_and_reads_back_as_itself(gold, kind, canonical):
    assert canonical_gold(gold, kind, CITIES) == canonical
    assert canonical_gold(canonical, kind, CITIES) == canonical


@pytest.mark.parametrize(
    ("gold", "kind"),
    [
        ("none", Kind.NUMBER),
        ("C", Kind.CHOICE),
        ("maybe", Kind.YESNO),
        ("...", Kind.TEXT),
        ("{", Kind.JSON),
        ("\\boxed{", Kind.MATH),
        ("", Kind.NUMBER),
    ],
)
def test_gold_that_cannot_be_read_is_an_input_error_that_names_it(gold, kind):
    with pytest.raises(InputError, match=f"{kind.value} answer") as caught:
        canonical_gold(gold, kind, CITIES)
    assert repr(gold) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        grade(None, gold, kind, CITIES)


def test_an_unreadable_answer_has_no_grade_but_a_reason():
    outcome = grade(None, "18", Kind.NUMBER)
    assert outcome.correct is None
    assert outcome.reason


@given(a=st.integers(-99, 99), b=st.integers(-99, 99))
def test_a_grade_is_one_for_the_same_answer_and_zero_for_another(a, b):
    said = read(Reply(f"It is {a}.00"), Kind.NUMBER).answer
    assert grade(said, f"#### {b}", Kind.NUMBER) == Outcome(int(a == b), None)


def test_equivalence_counts_for_kinds_and_spelling_where_there_is_none():
    assert grade("1/2", "0.50", Kind.NUMBER).correct == 1
    assert grade("1+x", "$x+1$", Kind.MATH).correct == 1
    assert grade("A", "Paris", Kind.CHOICE, CITIES).correct == 1
    assert grade("B", "Paris", Kind.CHOICE, CITIES).correct == 0
    assert grade("1/2", "0.5", None).correct == 0
    assert grade("0.5", "0.5", None).correct == 1


@pytest.mark.parametrize("pair", [(None, None), (0, "why")])
def test_an_outcome_is_a_grade_or_a_reason(pair):
    with pytest.raises(ValueError, match="never both or neither"):
        Outcome(*pair)


def test_reading_answers_does_not_import_grading():
    code = (
        "import sys, poise.answers.clusters, poise.answers.infer; "
        "print('poise.grading' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
