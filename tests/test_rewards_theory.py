"""What the rewards are for: truth pays most, and no wrong answer pays more than a right one.

Payoffs are those of the reward functions themselves, on written completions. The published
numbers are the break-even points of reward pairs that can be gamed (2607.04332 and Rewarding
Doubt's weights).
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from poise.errors import UsageError
from poise.rewards import (
    REWARDS,
    capability,
    check_weights,
    correctness,
    reference_accuracy,
    thresholded,
)
from poise.scoring import log_loss

GRID = np.round(np.linspace(0, 1, 201), 4)
PROPER = ("brier", "spherical", "bounded_log")
CHANCES = (0.0, 0.05, 0.3, 0.5, 0.725, 0.95, 1.0)


def payoffs(reward, **columns):
    """What each confidence of the grid earns with a right and with a wrong answer."""
    replies = [f"{answer}\nConfidence: {c:.4f}" for answer in (7, 8) for c in GRID]
    m = len(replies)
    found = reward(prompts=["q"] * m, completions=replies, gold=["7"] * m, kind="number", **columns)
    return np.array(found[: len(GRID)]), np.array(found[len(GRID) :])


def best(right, wrong, p):
    """The confidences, of the grid, with the largest expectation at a chance p."""
    expected = p * right + (1 - p) * wrong
    return GRID[expected >= expected.max() - 1e-12]


def is_proper(right, wrong):
    """By the grid: at each chance one best confidence, the chance itself."""
    return all(best(right, wrong, p).tolist() == [p] for p in GRID)


def is_proper_by_slopes(right, wrong):
    """By the derivatives: f'(c) / (c - 1) = g'(c) / c <= 0, within the interval."""
    c, f, g = GRID[2:-2], np.gradient(right, GRID)[2:-2], np.gradient(wrong, GRID)[2:-2]
    inside = (c > 0.05) & (c < 0.95)
    left, other = (f / (c - 1))[inside], (g / c)[inside]
    return bool(np.allclose(left, other, rtol=0.02) and (left < 0).all())


PAYOFFS = {name: payoffs(REWARDS[name]) for name in PROPER}
LINEAR = (GRID, 1 - GRID)
SQUARED_WRONGLY = (GRID**2, (1 - GRID) ** 2)


@pytest.mark.parametrize("name", ["brier", "spherical"])
def test_the_truth_pays_most(name):
    assert is_proper(*PAYOFFS[name])


def test_the_truth_pays_most_between_the_floors_of_the_log():
    right, wrong = PAYOFFS["bounded_log"]
    assert all(best(right, wrong, p).tolist() == [p] for p in GRID[1:-1])
    assert best(right, wrong, 0.0)[0] == 0


@pytest.mark.parametrize("name", PROPER)
def test_the_slopes_are_those_of_a_proper_score(name):
    assert is_proper_by_slopes(*PAYOFFS[name])


@pytest.mark.parametrize("pair", [LINEAR, SQUARED_WRONGLY])
def test_a_score_that_is_not_proper_is_caught(pair):
    assert not is_proper(*pair)
    assert not is_proper_by_slopes(*pair)


@pytest.mark.parametrize("name", PROPER)
@given(st.floats(0.1, 10), st.floats(-5, 5), st.sampled_from(CHANCES[1:-1]))
def test_neither_a_positive_factor_nor_a_constant_moves_the_best_confidence(name, a, b, p):
    right, wrong = PAYOFFS[name]
    assert best(a * right + b, a * wrong + b, p) == pytest.approx(best(right, wrong, p))


@pytest.mark.parametrize("name", PROPER)
@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_a_correctness_reward_beside_it_leaves_the_best_confidence_alone(name, weight):
    right, wrong = PAYOFFS[name]
    for p in CHANCES[1:-1]:
        assert best(weight + right, wrong, p).tolist() == best(right, wrong, p).tolist()


@pytest.mark.parametrize("name", PROPER)
def test_right_and_wrong_are_mirror_images(name):
    right, wrong = PAYOFFS[name]
    assert right == pytest.approx(wrong[::-1])


def test_an_expected_brier_is_one_less_the_variance():
    right, wrong = PAYOFFS["brier"]
    assert GRID * right + (1 - GRID) * wrong == pytest.approx(1 - GRID * (1 - GRID))


@pytest.mark.parametrize("mu", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_the_capability_itself_pays_most(mu, mix):
    """Over every outcome of a group of three answers that are right independently."""
    cs = np.round(np.linspace(0, 1, 21), 4)
    outcomes = list(itertools.product((0, 1), repeat=3))
    rows = [(f"{i}-{c}", f"{7 if z else 8}\nConfidence: {c:.4f}")
            for c in cs for i, zs in enumerate(outcomes) for z in zs]  # fmt: skip
    names, replies = zip(*rows, strict=True)
    found = capability(
        prompts=["q"] * len(rows), completions=replies, question_id=names,
        gold=["7"] * len(rows), kind="number", mix=mix,
    )  # fmt: skip
    first = np.array(found).reshape(len(cs), len(outcomes), 3)[:, :, 0]
    chances = [math.prod(mu if z else 1 - mu for z in zs) for zs in outcomes]
    expected = first @ chances
    assert cs[expected.argmax()] == mu
    assert (np.sort(expected)[-2] < expected.max() - 1e-6).all()


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 0.75, 0.9])
def test_answering_pays_exactly_above_the_threshold(t):
    right, wrong, unknown = thresholded(
        prompts=["q"] * 3,
        completions=["7", "8", "I don't know"],
        gold=["7"] * 3,
        kind="number",
        threshold=t,
    )
    pays = GRID * right + (1 - GRID) * wrong > unknown + 1e-12
    assert pays.tolist() == (t < GRID).tolist()


def gain_of_hacking(right, wrong, p):
    """What a wrong answer with confidence 0 earns above the best honest one, right with p."""
    honest = max(p * right + (1 - p) * wrong)
    return float(wrong[0] - honest)


def break_even(right, wrong):
    """The chance below which a wrong answer on purpose pays more."""
    return brentq(lambda p: gain_of_hacking(right, wrong, p), 0.2, 0.99)


@pytest.mark.parametrize(("k", "p"), [(1.5, 1 / 3), (2, 0.5), (4, 0.75)])
def test_brier_weighted_above_correctness_breaks_even_where_published(k, p):
    right, wrong = PAYOFFS["brier"]
    assert break_even(1 + k * right, k * wrong) == pytest.approx(p, abs=1e-3)


def test_the_unbounded_log_breaks_even_where_published():
    cs = np.clip(GRID, 1e-9, 1 - 1e-9)
    right, wrong = 1 - log_loss(np.ones_like(cs), cs), -log_loss(np.zeros_like(cs), cs)
    assert break_even(right, wrong) == pytest.approx(0.6484, abs=1e-3)


def test_the_log_as_rewarding_doubt_weighs_it_breaks_even_where_published():
    """Scaled to [-1, 1], a quarter more for a right answer, times ten; on trained answers."""
    right, wrong = (10 * (2 * score - 1) for score in PAYOFFS["bounded_log"])
    right = right + 2.5
    half = np.searchsorted(GRID, 0.5)
    assert wrong[0] == pytest.approx(10)
    assert (right[half] + wrong[half]) / 2 == pytest.approx(9.25, abs=0.01)
    assert break_even(right, wrong) == pytest.approx(0.71, abs=0.01)


@pytest.mark.parametrize("name", PROPER)
@given(right=st.floats(0.01, 5), ratio=st.floats(0, 1))
def test_up_to_a_ratio_of_one_no_wrong_answer_beats_a_right_one(name, right, ratio):
    """Not only in expectation: whatever the two confidences are."""
    score_right, score_wrong = PAYOFFS[name]
    k = right * ratio
    assert (right + k * score_right).min() >= (k * score_wrong).max() - 1e-12
    for p in CHANCES:
        assert gain_of_hacking(right + k * score_right, k * score_wrong, p) <= 1e-12


@pytest.mark.parametrize("name", ["brier", "spherical"])
@pytest.mark.parametrize("ratio", [1.2, 2.0, 10.0])
def test_above_a_ratio_of_one_some_question_is_given_up(name, ratio):
    right, wrong = PAYOFFS[name]
    assert max(gain_of_hacking(1 + ratio * right, ratio * wrong, p) for p in GRID) > 0


WEIGHTS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0])


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, WEIGHTS, WEIGHTS, WEIGHTS)
def test_the_lint_refuses_exactly_the_sums_that_some_answer_can_game(c, r, b, s):
    """Its verdict against the payoffs: the worst right answer and the best wrong one."""
    assume(b + s > 0)
    columns = {"prompts": ["q"] * 2, "gold": ["7"] * 2, "kind": "number"}
    gap = c * np.diff(correctness(completions=["8", "7"], **columns))[0]
    gap += r * min(
        np.diff(reference_accuracy(completions=["8", "7"], reference_accuracy=[a, a], **columns))[0]
        for a in (0.0, 0.4, 1.0)
    )
    right = b * PAYOFFS["brier"][0] + s * PAYOFFS["spherical"][0]
    wrong = b * PAYOFFS["brier"][1] + s * PAYOFFS["spherical"][1]
    gamed = bool(gap + right.min() < wrong.max() - 1e-9)
    weights = {"correctness": c, "reference_accuracy": r, "brier": b, "spherical": s}
    try:
        check_weights(weights)
    except UsageError:
        assert gamed
    else:
        assert not gamed


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"correctness": 1, "brier": 2}, r"ratio of 2: .* below 0\.5;"),
        ({"correctness": 0.5, "brier": 0.3, "capability": 0.3}, r"ratio of 1\.2"),
        ({"brier": 1}, "ratio of inf"),
        ({"majority": 1, "brier": 1}, "ratio of inf"),
        ({"correctness": 1, "bounded_log": 0.1}, r"log score .* 0\.648"),
    ],
)
def test_a_refusal_gives_the_reason_and_a_way_out_and_can_be_forced(weights, said):
    with pytest.raises(UsageError, match=said) as caught:
        check_weights(weights)
    assert "force" in str(caught.value)
    assert "\n" not in str(caught.value)
    check_weights(weights, forced=True)
    check_weights(weights, trained_answer=False)


def test_sums_that_are_safe_pass():
    check_weights({"correctness": 1, "brier": 1, "formatted": 1})
    check_weights({"correctness": 0.3, "brier": 0.1, "spherical": 0.2})
    check_weights({"correctness": 0.5, "reference_accuracy": 0.5, "brier": 1})
    check_weights({"thresholded": 1, "brier": 1})
    check_weights({"correctness": 1}, normalised=True)
    check_weights({"bounded_log": 1}, trained_answer=False)


def test_normalising_each_reward_voids_the_ratio():
    with pytest.raises(UsageError, match="divided by its own spread"):
        check_weights({"correctness": 1, "brier": 0.5}, normalised=True)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"brir": 1}, "no reward 'brir'; choose from"),
        ({"correctness": -1}, "finite number of at least 0"),
        ({"correctness": math.nan}, "finite number of at least 0"),
    ],
)
def test_names_and_numbers_are_checked_even_when_forced(weights, said):
    with pytest.raises(UsageError, match=said):
        check_weights(weights, forced=True)


def test_every_reward_has_its_place_in_the_lint():
    for name in REWARDS:
        check_weights({name: 1.0}, forced=True)
