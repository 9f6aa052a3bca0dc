"""How many labels are needed, against closed forms, brute force and simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from poise.errors import RefusedError, UsageError
from poise.plan import certificate, labels_for_floor, plan

RNG = np.random.default_rng(11)
P = np.round(RNG.beta(3, 1, 700), 2)


def certifies(n: int, errors: int, risk: float, delta: float) -> bool:
    """By adding up the binomial tail term by term."""
    tail = sum(math.comb(n, k) * risk**k * (1 - risk) ** (n - k) for k in range(errors + 1))
    return tail <= delta


# -- certificates -------------------------------------------------------------------------------


@pytest.mark.parametrize(("risk", "labels"), [(0.02, 114), (0.01, 230), (0.005, 460)])
def test_the_design_names_the_labels_that_certify_without_an_error(
    risk: float, labels: int
) -> None:
    assert certificate(risk, delta=0.1).without_error == labels


@given(st.floats(0.01, 0.9), st.floats(0.01, 0.6))
@settings(max_examples=60, deadline=None)
def test_without_an_error_the_least_number_is_the_closed_form(risk: float, delta: float) -> None:
    n = certificate(risk, delta=delta).without_error
    assert (1 - risk) ** n <= delta * (1 + 1e-12)
    assert (1 - risk) ** (n - 1) > delta * (1 - 1e-12)


@pytest.mark.parametrize("delta", [0.05, 0.1, 0.3])
@pytest.mark.parametrize(
    ("risk", "expected"), [(0.1, 0.05), (0.1, 0.0), (0.2, 0.05), (0.3, 0.2), (0.5, 0.3), (0.6, 0.1)]
)
def test_the_labels_with_power_are_the_least_by_brute_force(
    risk: float, expected: float, delta: float
) -> None:
    def power(n: int) -> tuple[float, int]:
        allowed = -1
        while certifies(n, allowed + 1, risk, delta):
            allowed += 1
        return float(binom.cdf(allowed, n, expected)), allowed

    found = certificate(risk, delta=delta, expected_error=expected)
    least = next(n for n in range(1, 1000) if power(n)[0] >= 0.8)
    assert (found.labels, found.errors) == (least, power(least)[1])
    assert found.without_error == next(n for n in range(1, 99) if certifies(n, 0, risk, delta))
    assert found.chance == pytest.approx((1 - expected) ** found.without_error)


def test_a_certificate_agrees_with_the_exact_interval_of_clopper_and_pearson() -> None:
    found = certificate(0.05, delta=0.1, expected_error=0.02)
    assert found.labels is not None
    assert found.errors is not None

    def bound(labels: int) -> float:
        test = binomtest(found.errors, labels, alternative="less")
        return float(test.proportion_ci(0.9, "exact").high)

    assert bound(found.labels) <= 0.05 < bound(found.labels - 1)


def test_simulated_labels_certify_as_often_as_planned_and_a_bad_model_hardly_ever() -> None:
    found = certificate(0.05, delta=0.1, expected_error=0.02)
    assert found.labels is not None
    wrong = RNG.binomial(found.labels, 0.02, 20_000)
    assert 0.79 < np.mean(wrong <= found.errors) < 0.9
    wrong = RNG.binomial(found.labels, 0.0501, 20_000)
    assert 0.05 < np.mean(wrong <= found.errors) < 0.1 + 4 * math.sqrt(0.09 / 20_000)


def test_harder_targets_and_surer_certificates_take_more_labels() -> None:
    by_risk = [certificate(risk, expected_error=0.002) for risk in (0.2, 0.1, 0.05, 0.01, 0.005)]
    assert [one.without_error for one in by_risk] == sorted(one.without_error for one in by_risk)
    labels = [one.labels for one in by_risk if one.labels is not None]
    assert len(labels) == 5
    assert labels == sorted(labels)
    by_delta = [certificate(0.05, delta=delta).labels for delta in (0.3, 0.1, 0.05, 0.01)]
    assert None not in by_delta
    assert by_delta == sorted(by_delta, key=lambda n: n or 0)


def test_a_rate_at_or_near_the_target_gets_no_number_but_a_reason() -> None:
    for expected in (0.01, 0.5):
        found = certificate(0.01, expected_error=expected)
        assert (found.labels, found.errors) == (None, None)
        assert "cannot be certified as at most 0.01" in (found.reason or "")
        assert found.without_error == 230
    near = certificate(1e-6, expected_error=9e-7)
    assert near.labels is None
    assert near.reason == "more than 10,000,000 labels at an error rate of 9e-07"


def test_tiny_risks_and_deltas_are_still_exact() -> None:
    found = certificate(1e-9, delta=1e-6)
    exact = math.log(1e-6) / math.log1p(-1e-9)
    assert found.without_error == pytest.approx(exact, rel=1e-9)
    assert found.labels is None


# -- sizes --------------------------------------------------------------------------------------


def test_the_assumed_distribution_has_the_floor_of_the_reference_table() -> None:
    """Perfectly calibrated Beta(2, 1), ten bins: mean and 95th percentile of ECE."""
    made = plan(fewest=100, sizes=(100, 200, 500, 1000, 5000))
    table = [(0.096, 0.136), (0.068, 0.096), (0.043, 0.063), (0.031, 0.044), (0.013, 0.019)]
    for size, (mean, p95) in zip(made.sizes, table, strict=True):
        assert size.floor_mean == pytest.approx(mean, rel=0.05)
        assert size.floor_p95 == pytest.approx(p95, rel=0.06)
    assert "Beta(2, 1) is assumed" in made.source


def test_more_labels_show_more() -> None:
    made = plan(P, fewest=100, sizes=(50, 100, 200, 400, 800, 3200))
    for name in ("floor_mean", "floor_p95", "detectable", "accuracy_half", "brier_half"):
        values = [getattr(size, name) for size in made.sizes]
        assert values == sorted(values, reverse=True), name
        assert values[-1] > 0
    assert all(s.floor_mean < s.floor_p95 < (s.detectable or 0) for s in made.sizes)
    assert [size.profile for size in made.sizes] == [False, True, True, True, True, True]
    assert made.source == "700 probabilities"


def test_half_widths_hold_the_truth_in_nineteen_of_twenty_simulated_data_sets() -> None:
    (size,) = plan(P, fewest=100, sizes=(300,)).sizes
    p = RNG.choice(P, (4000, 300))
    y = RNG.random(p.shape) < p
    accuracy, brier = y.mean(axis=1), ((y - p) ** 2).mean(axis=1)
    for means, truth, half in (
        (accuracy, P.mean(), size.accuracy_half),
        (brier, (P * (1 - P)).mean(), size.brier_half),
    ):
        assert means.std() * 1.96 == pytest.approx(half, rel=0.05)
        assert 0.935 < np.mean(np.abs(means - truth) <= half) < 0.965


def test_ones_own_probabilities_are_planned_with_and_not_the_assumed_ones() -> None:
    (sharp,) = plan([0.001] * 50 + [0.999] * 50, fewest=100, sizes=(400,)).sizes
    (vague,) = plan([0.4, 0.5, 0.6], fewest=100, sizes=(400,)).sizes
    (assumed,) = plan(fewest=100, sizes=(400,)).sizes
    assert sharp.floor_p95 < 0.01 < assumed.floor_p95
    assert sharp.brier_half < assumed.brier_half
    assert sharp.accuracy_half == pytest.approx(vague.accuracy_half, rel=0.01)
    assert vague.floor_mean > sharp.floor_mean


def test_the_order_and_the_repetition_of_probabilities_do_not_matter() -> None:
    once = plan(P, fewest=100, sizes=(200,)).sizes
    assert plan(RNG.permutation(P), fewest=100, sizes=(200,)).sizes == once
    assert plan(np.tile(P, 3), fewest=100, sizes=(200,)).sizes == once


def test_certain_probabilities_leave_nothing_to_chance() -> None:
    (size,) = plan([0.0, 1.0], fewest=100, sizes=(100,)).sizes
    assert (size.floor_mean, size.floor_p95, size.brier_half) == (0, 0, 0)


def test_a_shift_that_cannot_be_found_is_no_number() -> None:
    (size,) = plan([0.5], fewest=100, sizes=(1,)).sizes
    assert size.detectable is None
    assert "no constant shift" in (size.undetectable or "")


def test_equal_seeds_give_equal_plans_and_the_plan_is_json() -> None:
    made = plan(P, fewest=100, sizes=(100,), risks=(0.02,), expected_error=0.005, seed=3)
    assert made == plan(P, fewest=100, sizes=(100,), risks=(0.02,), expected_error=0.005, seed=3)
    read = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert read["unit"].startswith("labelled questions")
    assert read["certificates"][0]["without_error"] == 114
    assert read["certificates"][0]["expected"] == 0.005
    assert read["sizes"][0]["questions"] == 100
    assert [one["target"] for one in read["floors"]] == [0.05, 0.03, 0.02]


def test_a_plan_says_what_the_floors_take_and_a_million_is_no_number() -> None:
    made = plan(P, fewest=100, sizes=(100,), risks=(0.1,))
    for one in made.floors:
        assert one.labels == labels_for_floor(one.target, P)


# -- the floor the other way round --------------------------------------------------------------


@pytest.mark.parametrize("target", [0.14, 0.1, 0.08, 0.06])
def test_the_least_questions_for_a_floor_have_it_and_a_tenth_fewer_do_not(target: float) -> None:
    n = labels_for_floor(target, P)
    there, short = plan(P, fewest=1, sizes=(round(1.05 * n), round(0.9 * n))).sizes
    assert there.floor_p95 <= target < short.floor_p95


def test_the_least_questions_to_detect_an_error_detect_it_and_a_tenth_fewer_do_not() -> None:
    n = labels_for_floor(0.1, P, measure="detectable")
    there, short = plan(P, fewest=1, sizes=(round(1.1 * n), round(0.85 * n))).sizes
    assert there.detectable is not None
    assert short.detectable is not None
    assert there.detectable <= 0.1 < short.detectable
    assert n > labels_for_floor(0.1, P)


def test_a_lower_floor_never_takes_fewer_questions_and_falls_with_the_square_root() -> None:
    targets = (0.2, 0.199, 0.1, 0.05)
    needed = [labels_for_floor(target) for target in targets]
    assert needed == sorted(needed)
    assert needed[3] / needed[2] == pytest.approx(4, rel=0.1)


def test_a_floor_out_of_reach_is_refused() -> None:
    with pytest.raises(RefusedError, match="1,000,000 questions do not bring p95 down to 1e-05"):
        labels_for_floor(1e-5)


def test_a_floor_that_any_number_has_takes_the_fewest_looked_at() -> None:
    assert labels_for_floor(0.5, [0.0, 1.0]) == 10


# -- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: plan([1.2], fewest=100), r"probabilities\[0\]=1.2"),
        (lambda: plan([], fewest=100), "at least one row"),
        (lambda: plan(fewest=0), "fewest=0"),
        (lambda: plan(fewest=100, delta=0), "delta=0"),
        (lambda: plan(fewest=100, sizes=(100, 0)), "sizes=0"),
        (lambda: plan(fewest=100, risks=(0.1, 1)), "risk=1"),
        (lambda: certificate(0), "risk=0"),
        (lambda: certificate(math.nan), "risk=nan"),
        (lambda: certificate(0.1, delta=1), "delta=1"),
        (lambda: certificate(0.1, expected_error=-0.1), "expected_error=-0.1"),
        (lambda: certificate(0.1, expected_error=1), "expected_error=1"),
        (lambda: labels_for_floor(0), "target=0"),
        (lambda: labels_for_floor(0.1, measure="mean"), "measure='mean'"),  # type: ignore[arg-type]
    ],
)
def test_an_argument_that_makes_no_sense_is_named(asked, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked()
