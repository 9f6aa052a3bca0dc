"""Calibration errors: by hand, by identity, against the noise that they must stand out from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise import metrics
from poise.errors import UsageError
from poise.metrics import noise_floor, smallest_detectable

cells = st.lists(
    st.tuples(st.integers(0, 10).map(lambda k: k / 10), st.integers(0, 1), st.integers(1, 3)),
    min_size=1,
    max_size=30,
).map(lambda rows: tuple(np.array(column, float) for column in zip(*rows, strict=True)))


def calibrated(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    p = rng.beta(2, 1, n)
    return (rng.random(n) < p).astype(float), p


def test_a_probability_of_one_is_in_the_last_bin() -> None:
    """A published implementation leaves the last bin open and loses these rows."""
    assert metrics.ece([0, 0], [1.0, 1.0]) == 1
    assert metrics.ece([0, 1], [1.0, 0.95]) == pytest.approx(0.475)
    assert metrics.adaptive_ece([0, 0], [1.0, 1.0]) == 1
    assert metrics.smooth_ece([0, 0], [1.0, 1.0]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("bins", [1, 3, 7, 10, 15, 100])
def test_each_edge_belongs_to_the_bin_above_it(bins) -> None:
    """Rows just under an edge and on it cancel if, and only if, they share a bin."""
    for k in range(1, bins):
        edge = k / bins
        under = math.nextafter(edge, 0)
        apart = metrics.ece([1, 0], [under, edge], bins=bins)
        assert apart == pytest.approx((1 - under + edge) / 2)


@given(rows=cells)
def test_ece_is_the_mean_gap_over_bins(rows) -> None:
    p, y, w = rows
    expected = 0.0
    for k in range(10):
        inside = (p >= k / 10) & ((p < (k + 1) / 10) | (k == 9))
        if inside.any():
            gap = np.average(y[inside], weights=w[inside]) - np.average(
                p[inside], weights=w[inside]
            )
            expected += w[inside].sum() / w.sum() * abs(gap)
    assert metrics.ece(y, p, w) == pytest.approx(expected)


def test_adaptive_bins_hold_equal_numbers_and_do_not_split_ties() -> None:
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.9, 0.9])
    y = np.array([0, 1, 0, 1, 1, 0])
    by_hand = (abs(1 - 0.3) + abs(1 - 0.7) + abs(1 - 1.8)) / 6
    assert metrics.adaptive_ece(y, p, bins=3) == pytest.approx(by_hand)
    halves = (abs(1 - 0.6) + abs(2 - 2.2)) / 6
    assert metrics.adaptive_ece(y, p, bins=2) == pytest.approx(halves)


@given(rows=cells)
def test_no_binned_error_is_below_the_gap_of_the_means(rows) -> None:
    p, y, w = rows
    overall = abs(np.average(y - p, weights=w))
    for error in (metrics.ece, metrics.adaptive_ece):
        assert error(y, p, w, bins=1) == pytest.approx(overall)
        assert error(y, p, w) >= overall - 1e-12
    found = metrics.cumulative(y, p, w)
    assert found.kuiper >= found.ks - 1e-12 >= overall - 2e-12
    assert metrics.smooth_ece(y, p, w) <= 1


def test_cumulative_errors_by_hand() -> None:
    found = metrics.cumulative([1, 0, 0, 1], [0.2, 0.5, 0.5, 0.6])
    sums = [0, 0.2, -0.05, 0.05]  # after 0.2, after both of 0.5, after 0.6
    assert found.ks == pytest.approx(0.2)
    assert found.kuiper == pytest.approx(max(sums) - min(sums))
    noise = 0.2 * 0.8 + 2 * 0.25 + 0.6 * 0.4
    assert found.sigma == pytest.approx(math.sqrt(noise) / 4)


def test_the_cumulative_error_in_its_own_scale_keeps_its_false_alarm_rate() -> None:
    rng = np.random.default_rng(0)
    scaled = []
    for _ in range(600):
        found = metrics.cumulative(*calibrated(rng, 400))
        scaled.append(found.ks / found.sigma)
    assert np.mean(np.array(scaled) > 2.24) == pytest.approx(0.05, abs=0.03)


def test_the_smooth_error_is_the_width_at_which_smoothing_gives_the_width() -> None:
    """The definition, evaluated directly: images of each row reflected at both ends."""
    rng = np.random.default_rng(1)
    p = rng.beta(2, 1, 60)
    y = (rng.random(60) < p**2).astype(float)
    width = metrics.smooth_ece(y, p)
    t = (np.arange(4000) + 0.5) / 4000
    images = np.concatenate([p + 2 * k for k in (-1, 0, 1)] + [-p + 2 * k for k in (0, 1, -1)])
    kernel = np.exp(-(((t[:, None] - images) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))
    smoothed = np.abs(kernel @ np.tile(y - p, 6)).mean() / 60
    assert smoothed == pytest.approx(width, rel=1e-3)


def test_the_smooth_error_of_labels_stated_exactly_is_zero() -> None:
    assert metrics.smooth_ece([0, 1, 0.3], [0, 1, 0.3]) == 0


def test_the_debiased_square_by_hand_and_by_pairs() -> None:
    """Unbiased for the squared gap: the mean product over pairs of different rows of a bin."""
    p = np.array([0.1, 0.11, 0.12, 0.9, 0.95])
    y = np.array([1.0, 0, 0, 1, 0])
    d = y - p
    low = (d[0] * d[1] + d[0] * d[2] + d[1] * d[2]) / 3
    high = d[3] * d[4]
    found = metrics.debiased_square(y, p, bins=2).value
    assert found == pytest.approx(0.6 * low + 0.4 * high)


def test_the_debiased_square_averages_to_the_truth_over_clusters_too() -> None:
    """Samples of one question are all right or all wrong: debiasing by rows falls short."""
    rng = np.random.default_rng(2)
    question = np.repeat(np.arange(100), 5)
    by_question, by_row = [], []
    for _ in range(500):
        p = np.repeat(np.round(rng.random(100), 1) * 0.8 + 0.1, 5)
        y = np.repeat((rng.random(100) < p[::5] + 0.1), 5).astype(float)
        by_question.append(metrics.debiased_square(y, p, question=question, bins=20).value)
        by_row.append(metrics.debiased_square(y, p, bins=20).value)
    error = np.std(by_question) / math.sqrt(500)
    assert np.mean(by_question) == pytest.approx(0.01, abs=3 * error)
    assert np.mean(by_row) > 0.01 + 6 * error


def test_debiasing_brings_calibrated_probabilities_near_zero() -> None:
    rng = np.random.default_rng(3)
    plain, less, square = [], [], []
    for _ in range(400):
        y, p = calibrated(rng, 300)
        plain.append(metrics.ece(y, p))
        less.append(metrics.debiased_ece(y, p).value)
        square.append(metrics.debiased_square(y, p).value)
    assert np.mean(square) == pytest.approx(0, abs=3 * np.std(square) / 20)
    # E|N(0, s)| = a; the normal bootstrap of it is larger by sqrt(2), so 2 - sqrt(2) remains.
    assert np.mean(less) / np.mean(plain) == pytest.approx(2 - math.sqrt(2), abs=0.06)


def test_debiasing_leaves_a_large_gap_alone() -> None:
    rng = np.random.default_rng(4)
    p = np.full(2000, 0.85)
    y = (rng.random(2000) < 0.55).astype(float)
    assert metrics.debiased_ece(y, p).value == pytest.approx(metrics.ece(y, p), abs=1e-6)


def test_a_bin_of_one_question_has_no_sampling_error_to_take_off() -> None:
    for debiased in (metrics.debiased_ece, metrics.debiased_square):
        alone = debiased([1, 0], [0.1, 0.9])
        assert alone.value is None
        assert "two questions" in str(alone.reason)
        assert debiased([1, 1, 0], [0.1, 0.1, 0.9], question=[1, 1, 2]).value is None
        assert debiased([1, 1, 0], [0.9, 0.9, 0.9]).value is not None


def test_the_floor_is_what_calibrated_labels_show() -> None:
    rng = np.random.default_rng(5)
    p = rng.beta(2, 1, 200)
    labels = (rng.random((4000, 200)) < p).astype(float)
    direct = np.array([metrics.ece(y, p) for y in labels])
    floor = noise_floor(p, draws=4000)
    assert floor.mean == pytest.approx(direct.mean(), rel=0.03)
    assert floor.p95 == pytest.approx(np.quantile(direct, 0.95), rel=0.04)


def test_the_floor_counts_weights_as_the_error_does() -> None:
    rng = np.random.default_rng(6)
    p, w = rng.random(150), rng.choice([0.2, 1.0, 5.0], 150)
    labels = (rng.random((3000, 150)) < p).astype(float)
    direct = np.array([metrics.ece(y, p, w) for y in labels])
    floor = noise_floor(p, w, draws=3000)
    assert floor.mean == pytest.approx(direct.mean(), rel=0.04)
    assert floor.mean > 1.2 * noise_floor(p, draws=3000).mean


@pytest.mark.parametrize(
    ("n", "mean", "p95"), [(100, 0.096, 0.136), (500, 0.043, 0.063), (5000, 0.013, 0.019)]
)
def test_the_floor_of_beta_2_1_at_ten_bins(n, mean, p95) -> None:
    floor = noise_floor(np.random.default_rng(7).beta(2, 1, n))
    assert floor.mean == pytest.approx(mean, rel=0.08)
    assert floor.p95 == pytest.approx(p95, rel=0.08)


def test_a_large_calibrated_sample_shows_its_floor() -> None:
    y, p = calibrated(np.random.default_rng(8), 200_000)
    floor = noise_floor(p)
    assert 0.3 * floor.mean < metrics.ece(y, p) < 1.5 * floor.p95


def test_samples_of_one_question_do_not_lower_the_floor() -> None:
    p = np.random.default_rng(9).beta(2, 1, 100)
    question = np.repeat(np.arange(100), 16)
    many = noise_floor(np.repeat(p, 16), question=question)
    assert many == noise_floor(p)
    assert many.mean > 3 * noise_floor(np.repeat(p, 16)).mean


def test_certain_probabilities_have_no_floor() -> None:
    assert noise_floor([0.0, 1.0, 1.0]).p95 == 0


def test_the_smallest_detectable_error_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(10)
    p = rng.uniform(0.3, 0.7, 300)
    size = smallest_detectable(p).value
    assert size is not None
    threshold = noise_floor(p, draws=4000).p95
    found = []
    for sign in (1, -1):
        labels = (rng.random((1500, 300)) < p + sign * size).astype(float)
        found.append(np.mean([metrics.ece(y, p) > threshold for y in labels]))
    assert min(found) == pytest.approx(0.8, abs=0.05)


def test_more_questions_find_smaller_errors_and_more_samples_of_them_do_not() -> None:
    p = np.random.default_rng(11).beta(2, 1, 100)
    few, many = smallest_detectable(p).value, smallest_detectable(np.tile(p, 16)).value
    assert few is not None
    assert many is not None
    assert many < few / 2
    same = smallest_detectable(np.repeat(p, 16), question=np.repeat(np.arange(100), 16)).value
    assert same == few


def test_where_no_shift_can_be_found_there_is_no_smallest() -> None:
    lone = smallest_detectable([0.5])
    assert lone.value is None
    assert lone.reason


@pytest.mark.parametrize("of", [noise_floor, smallest_detectable])
def test_the_floor_refuses_what_it_cannot_use(of) -> None:
    for wrong, said in (({"draws": 0}, "draws"), ({"bins": 0}, "bins")):
        with pytest.raises(UsageError, match=said):
            of([0.5, 0.6], **wrong)
    with pytest.raises(UsageError, match=r"p\[1\]"):
        of([0.5, 2])
