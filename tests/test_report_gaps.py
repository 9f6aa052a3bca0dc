"""The card's parts alone: gaps with their intervals and p-values, Holm's rule, curves and bands."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise import metrics
from poise.metrics.rows import read
from poise.report.curves import coverage, reliability
from poise.report.gaps import gap, marked
from poise.scoring import FloatArray


def drawn(seed: int, m: int, *, lowered: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Labels that are right with probability stated - ``lowered``; stated."""
    rng = np.random.default_rng(seed)
    stated = np.clip(rng.beta(4, 2, m), lowered, 1)
    return (rng.random(m) < stated - lowered).astype(np.float64), stated


@pytest.mark.parametrize("p", [(0.5,) * 20, (0.9,) * 30, tuple(np.linspace(0.02, 0.98, 25))])
def test_the_exact_p_value_is_the_sum_over_coins(p: tuple[float, ...]) -> None:
    chance = np.ones(1)
    for one in p:
        chance = np.convolve(chance, [1 - one, one])
    for right in (0, len(p) // 2, len(p) - 1, len(p)):
        labels = np.arange(len(p)) < right
        tails = (chance[: right + 1].sum(), chance[right:].sum())
        found = gap(read(labels.astype(float), p)).p_value
        assert found == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-9, abs=1e-15)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_a_gap_is_inside_its_interval_and_the_interval_inside_what_is_possible(
    rows: list[tuple[float, bool]],
) -> None:
    stated, right = zip(*rows, strict=True)
    found = gap(read(np.array(right, float), stated))
    if len(rows) < 20:
        assert found.difference.value is found.p_value is None
        return
    assert found.p_value is not None
    assert found.difference.value is not None
    assert found.difference.interval is not None
    assert 0 <= found.p_value <= 1
    low, high = found.difference.interval
    assert found.stated - 1 - 1e-9 <= low <= found.difference.value + 1e-9
    assert found.difference.value - 1e-9 <= high <= found.stated + 1e-9


@pytest.mark.parametrize(("a", "b", "m"), [(2, 1, 30), (9, 1, 40), (1, 1, 200)])
def test_the_interval_of_a_gap_holds_the_truth_nearly_nineteen_times_in_twenty(
    a: int, b: int, m: int
) -> None:
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        stated = rng.beta(a, b, m)
        truth = np.clip(stated - 0.1, 0, 1)
        found = gap(read((rng.random(m) < truth).astype(float), stated)).difference.interval
        assert found is not None
        held += found[0] <= (stated - truth).mean() <= found[1]
    assert held >= 0.92 * 200


def test_all_right_of_thirty_is_not_a_certain_gap() -> None:
    found = gap(read(np.ones(30), np.full(30, 0.95)))
    assert found.difference.interval is not None
    assert found.difference.interval[1] > 0
    assert found.p_value is not None
    assert found.p_value > 0.2


def test_holms_rule_grows_with_the_number_of_gaps_and_stops_at_the_first_failure() -> None:
    one = gap(read(np.ones(30), np.full(30, 0.5)))
    chances = [0.012, 0.02, 0.04, None, 0.0001]
    found = marked([replace(one, p_value=chance) for chance in chances])
    assert [which.beyond_chance for which in found] == [True, True, True, False, True]
    found = marked([replace(one, p_value=chance) for chance in (0.03, 0.03, 0.001)])
    assert [which.beyond_chance for which in found] == [False, False, True]


def test_the_reliability_curve_is_the_isotonic_fit_and_mostly_in_its_band_when_true() -> None:
    right, stated = drawn(1, 800)
    line = reliability(read(right, stated))
    assert all(a <= b for a, b in itertools.pairwise(line.right))
    inside = [
        low <= y <= high for low, y, high in zip(line.low, line.right, line.high, strict=True)
    ]
    assert np.mean(inside) > 0.85
    levels = np.round(stated * 4) / 4
    few = reliability(read(right, levels))
    assert few.stated == pytest.approx(sorted(set(levels)))
    rates = [right[levels == level].mean() for level in few.stated]
    assert sorted(rates) == pytest.approx(rates), "the fit leaves monotone rates as they are"
    assert few.right == pytest.approx(rates)


def test_an_over_confident_curve_leaves_its_band() -> None:
    right, stated = drawn(1, 800, lowered=0.3)
    line = reliability(read(right, stated))
    below = [y < low for low, y in zip(line.low, line.right, strict=True)]
    assert np.mean(below) > 0.8


def test_the_coverage_curve_is_one_minus_the_metrics_accuracy() -> None:
    right, stated = drawn(0, 37)
    line = coverage(right, np.round(stated, 1))
    for share, risk in zip(line.coverage, line.risk, strict=True):
        accuracy = metrics.accuracy_at(share, right, np.round(stated, 1))
        assert risk == pytest.approx(1 - accuracy, abs=1e-12)
    assert line.coverage[-1] == 1
    assert line.coverage[0] == 0.03, "the first hundredth of 37 rows that holds a whole one"
