"""Ranking, selective prediction, proper scores and capability: by brute force and by identity."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise import metrics
from poise.errors import UsageError
from poise.metrics.capability import terms

tied_rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=25
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))
"""Labels, probabilities in quarters, question ids."""


def concordance(pairs: list[tuple[float, float]]) -> float:
    return float(np.mean([(a > b) + (a == b) / 2 for a, b in pairs]))


@given(rows=tied_rows)
def test_auroc_is_the_share_of_pairs_in_order(rows) -> None:
    y, quarter, _ = rows
    pairs = list(itertools.product(quarter[y == 1], quarter[y == 0]))
    found = metrics.auroc(y, quarter / 4)
    if pairs:
        assert found.value == pytest.approx(concordance(pairs))
    else:
        assert found.value is None
        assert found.reason


@given(rows=tied_rows)
def test_within_question_counts_only_pairs_of_one_question(rows) -> None:
    y, quarter, question = rows
    by_question = {}
    for q in set(question.tolist()):
        right, wrong = ((y == label) & (question == q) for label in (1, 0))
        by_question[q] = list(itertools.product(quarter[right], quarter[wrong]))
    pairs = [pair for found in by_question.values() for pair in found]
    found = metrics.within_question(y, quarter / 4, question)
    assert found.questions == sum(map(bool, by_question.values()))
    assert found.left_out == len(by_question) - found.questions
    if pairs:
        assert found.estimate.value == pytest.approx(concordance(pairs))
    else:
        assert found.estimate.value is None
        assert found.estimate.reason


def test_within_question_is_blind_to_differences_between_questions() -> None:
    y, p = [1, 0, 1, 0], [0.9, 0.9, 0.1, 0.1]
    assert metrics.within_question(y, p, ["a", "a", "b", "b"]).estimate.value == 0.5
    easy_first = metrics.within_question([1, 1, 0, 0], p, ["a", "a", "b", "b"])
    assert easy_first.estimate.value is None
    assert (easy_first.questions, easy_first.left_out) == (0, 2)


@given(rows=tied_rows)
def test_average_precision_is_the_mean_precision_at_right_rows(rows) -> None:
    y, quarter, _ = rows
    at = [np.mean(y[quarter >= q]) for q in quarter[y == 1]]
    found = metrics.auprc(y, quarter / 4).value
    assert found == (pytest.approx(np.mean(at)) if at else None)


def test_spearman_of_ties_by_hand() -> None:
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    assert metrics.spearman([0, 0.5, 0.5, 1], [0.1, 0.2, 0.3, 0.4]).value == pytest.approx(
        4.5 / math.sqrt(4.5 * 5)
    )
    assert metrics.spearman([0, 1], [0.5, 0.5]).value is None


@given(rows=tied_rows)
def test_the_area_under_risk_is_its_mean_over_orders_within_ties(rows) -> None:
    y, quarter = rows[0][:6], rows[1][:6]
    areas = []
    for order in itertools.permutations(range(y.size)):
        confidence = quarter[list(order)]
        if (np.diff(confidence) <= 0).all():
            wrong = 1 - y[list(order)]
            areas.append(np.mean(np.cumsum(wrong) / np.arange(1, y.size + 1)))
    assert metrics.aurc(y, quarter / 4) == pytest.approx(np.mean(areas))


def test_the_curve_holds_what_each_threshold_reaches() -> None:
    y, p = np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.8, 0.8, 0.3, 0.1])
    curve = metrics.risk_coverage(y, p)
    assert curve.threshold.tolist() == [0.9, 0.8, 0.3, 0.1]
    for coverage, risk, threshold in zip(curve.coverage, curve.risk, curve.threshold, strict=True):
        assert coverage == pytest.approx(np.mean(p >= threshold))
        assert risk == pytest.approx(1 - np.mean(y[p >= threshold]))
        assert metrics.accuracy_at(coverage, y, p) == pytest.approx(1 - risk)


def test_a_coverage_within_a_tie_takes_its_share_of_the_tie() -> None:
    assert metrics.accuracy_at(0.5, [1, 1, 0, 0], [0.9, 0.5, 0.5, 0.1]) == pytest.approx(0.75)
    assert metrics.accuracy_at(0.1, [1, 0, 0, 0], [0.9, 0.5, 0.5, 0.1]) == pytest.approx(1)


@pytest.mark.parametrize("coverage", [0, -0.1, 1.01, math.nan])
def test_a_coverage_outside_its_range_is_refused(coverage) -> None:
    with pytest.raises(UsageError, match="coverage"):
        metrics.accuracy_at(coverage, [1, 0], [0.9, 0.1])


@pytest.mark.parametrize("rule", ["brier", "log_loss", "spherical"])
@given(rows=tied_rows)
def test_the_parts_of_a_score_add_up_and_none_is_negative(rule, rows) -> None:
    y, quarter, times = rows
    p = 0.1 + quarter / 5
    found = metrics.corp(y, p, times + 1, rule=rule)
    assert found.score == pytest.approx(found.mcb - found.dsc + found.unc, abs=1e-12)
    assert min(found.mcb, found.dsc, found.unc) >= -1e-12


def test_the_parts_by_hand() -> None:
    # Pooling the violators 0.6 and 0.7 gives rates 0, 1/2, 1/2, 1.
    found = metrics.corp([0, 1, 0, 1], [0.1, 0.6, 0.7, 0.9])
    score = (0.01 + 0.16 + 0.49 + 0.01) / 4
    assert found.score == pytest.approx(score)
    assert (found.unc, found.dsc) == pytest.approx((0.25, 0.125))
    assert found.mcb == pytest.approx(score - 0.125)


def test_rates_have_no_miscalibration_and_constants_no_discrimination() -> None:
    rates = metrics.corp([0, 1, 0, 1, 1, 1], [0.5, 0.5, 0.5, 0.5, 1, 1])
    assert rates.mcb == pytest.approx(0)
    assert metrics.corp([0, 1, 1], [0.4, 0.4, 0.4]).dsc == pytest.approx(0)


def test_a_wrong_certainty_makes_log_loss_infinite_and_says_so_in_the_miscalibration() -> None:
    found = metrics.corp([0, 1, 1], [1, 0.5, 0.7], rule="log_loss")
    assert found.score == found.mcb == math.inf
    assert math.isfinite(found.dsc)
    floored = metrics.corp([0, 1, 1], [1, 0.5, 0.7], rule="log_loss", floor=1e-4)
    assert floored.score == pytest.approx(metrics.log_loss([0, 1, 1], [1, 0.5, 0.7], floor=1e-4))


def test_skill_is_measured_from_the_constant_base_rate() -> None:
    y = [1, 1, 1, 0]
    assert metrics.brier_skill(y, [0.75] * 4).value == pytest.approx(0)
    assert metrics.brier_skill(y, y).value == 1
    assert metrics.brier_skill(y, [0.5] * 4).value == pytest.approx(1 - 0.25 / 0.1875)


def test_a_rule_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="there is brier, log_loss, spherical"):
        metrics.corp([0, 1], [0.1, 0.6], rule="hinge")
    with pytest.raises(UsageError, match="floor"):
        metrics.corp([0, 1], [0.1, 0.6], rule="log_loss", floor=0.7)


def test_the_error_to_mu_is_free_of_the_sampling_of_mu() -> None:
    rng = np.random.default_rng(0)
    mu = rng.beta(1, 1, 400)
    stated = np.clip(mu + rng.normal(0, 0.1, 400), 0, 1)
    truth = np.mean((stated - mu) ** 2)
    n = rng.integers(2, 6, 400)
    found = [metrics.mse_to_mu(stated, rng.binomial(n, mu), n).value for _ in range(600)]
    error = np.std(found) / math.sqrt(600)
    assert np.mean(found) == pytest.approx(truth, abs=3 * error)
    # Without the correction the sampling term would hide everything.
    assert np.mean(mu * (1 - mu) / n) > 50 * error


def test_the_error_to_mu_by_hand() -> None:
    assert terms([0.5, 1.0], [1, 4], [4, 4]) == pytest.approx([0.0625 - 0.0625, 0])
    weighed = metrics.mse_to_mu([0.5, 0.5], [4, 2], [4, 4], [3, 1])
    assert weighed.value == pytest.approx(0.75 * 0.25 + 0.25 * (0 - 0.25 / 3))


def test_one_sample_says_nothing_of_its_own_error() -> None:
    found = metrics.mse_to_mu([0.5, 0.5], [1, 1], [1, 4])
    assert found.value is None
    assert found.reason == "1 questions have fewer than two samples"


@pytest.mark.parametrize(
    ("capability", "right", "n", "weight", "said"),
    [
        ([0.5], [3], [2], None, "right at most n"),
        ([0.5], [1.5], [2], None, "whole"),
        ([0.5], [1], [2, 2], None, "one row for each question"),
        ([1.5], [1], [2], None, r"capability\[0\]"),
        ([0.5], [-1], [2], None, r"right\[0\]"),
        ([0.5], [1], [2], [0], "sample_weight"),
        ([0.5], [1], [2], [1, 1], "sample_weight"),
    ],
)
def test_counts_that_make_no_sense_are_refused(capability, right, n, weight, said) -> None:
    with pytest.raises(UsageError, match=said):
        metrics.mse_to_mu(capability, right, n, weight)
