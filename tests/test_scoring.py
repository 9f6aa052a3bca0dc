"""Scoring rules: strictly proper, linear in the label, and honest about infinity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise import scoring
from poise.errors import UsageError
from poise.scoring import RULES

chances = st.floats(0, 1)
inner = st.floats(0.01, 0.99)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(truth=chances, stated=chances)
def test_no_probability_is_expected_to_lose_less_than_the_truth(rule, truth, stated) -> None:
    honest, other = rule([truth, truth], [truth, stated])
    assert honest <= other + 1e-12


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(truth=inner, move=st.floats(0.01, 0.5), up=st.booleans())
def test_a_probability_away_from_the_truth_is_expected_to_lose_more(rule, truth, move, up) -> None:
    stated = truth + move * ((1 - truth) if up else -truth)
    honest, other = rule([truth, truth], [truth, stated])
    assert honest < other


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(share=chances, stated=inner)
def test_a_soft_label_gives_the_expected_loss(rule, share, stated) -> None:
    soft, right, wrong = rule([share, 1, 0], [stated] * 3)
    assert soft == pytest.approx(share * right + (1 - share) * wrong)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(stated=inner)
def test_right_and_wrong_are_mirror_images(rule, stated) -> None:
    right, wrong = rule([1, 0], [stated, 1 - stated])
    assert right == pytest.approx(wrong)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_certainty_that_comes_true_loses_nothing(rule) -> None:
    assert rule([1, 0], [1, 0]).tolist() == [0, 0]


def test_losses_by_hand() -> None:
    assert scoring.brier([1, 0], [0.8, 0.8]) == pytest.approx([0.04, 0.64])
    assert scoring.log_loss([1, 0], [0.8, 0.8]) == pytest.approx([-math.log(0.8), -math.log(0.2)])
    cosine = np.array([0.8, 0.2]) / math.hypot(0.8, 0.2)
    assert scoring.spherical([1, 0], [0.8, 0.8]) == pytest.approx(1 - cosine)


def test_a_wrong_certainty_costs_infinity_unless_a_floor_is_stated() -> None:
    assert scoring.log_loss([0, 1, 0.5], [1, 0, 1]).tolist() == [math.inf] * 3
    assert scoring.log_loss([0, 1], [1, 0], floor=1e-3) == pytest.approx([-math.log(1e-3)] * 2)
    assert scoring.log_loss([1], [0.4], floor=1e-3) == scoring.log_loss([1], [0.4])


def test_losses_have_the_shape_of_the_rows() -> None:
    assert scoring.brier(1, 0.5).shape == ()
    assert scoring.spherical(np.zeros((2, 3)), np.zeros((2, 3))).shape == (2, 3)
    assert scoring.log_loss([], []).shape == (0,)


@pytest.mark.parametrize(
    ("y", "p", "said"),
    [
        ([1], [1.1], "p: every value"),
        ([-0.1], [1], "y: every value"),
        ([1], [math.nan], "p: every value"),
        ([None], [1], "y"),
        ([["a"]], [1], "y: not all of it is numbers"),
        ([1, 0], [0.5], r"y has shape \(2,\) and p \(1,\)"),
    ],
)
def test_a_value_that_is_no_probability_is_named(y, p, said) -> None:
    for rule in RULES.values():
        with pytest.raises(UsageError, match=said):
            rule(y, p)


@pytest.mark.parametrize("floor", [-0.1, 0.5, math.nan])
def test_a_floor_that_makes_no_sense_is_refused(floor) -> None:
    with pytest.raises(UsageError, match="floor"):
        scoring.log_loss([1], [0.5], floor=floor)
