"""Intervals: they cover the truth as often as they say, and only when questions are resampled."""

from __future__ import annotations

import numpy as np
import pytest

from poise import metrics
from poise.errors import UsageError
from poise.metrics import METRICS, paired, segments, with_interval
from poise.metrics.bootstrap import resample
from poise.metrics.capability import terms
from poise.metrics.rows import read
from poise.metrics.statistic import ratio

SIMULATIONS = 400
MARGIN = 3 * np.sqrt(0.95 * 0.05 / SIMULATIONS)
FAST = {"replicates": 300}

TRUTH = {"brier": 1 / 6, "auroc": 5 / 6, "brier_skill": 1 / 3, "log_loss": 1 / 2}
"""For p uniform on [0, 1] and y right with probability p, by integration."""


def uniform(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    p = rng.random(n)
    return (rng.random(n) < p).astype(float), p


@pytest.mark.parametrize("name", TRUTH)
def test_intervals_of_independent_rows_cover_the_truth(name) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(SIMULATIONS):
        interval = with_interval(name, *uniform(rng, 150), seed=seed, **FAST).interval
        assert interval is not None
        covered += interval[0] <= TRUTH[name] <= interval[1]
    assert covered / SIMULATIONS == pytest.approx(0.95, abs=MARGIN + 0.01)


def test_with_six_samples_a_question_only_resampling_questions_covers_the_truth() -> None:
    """Samples of one question agree here: as rows they would count six times."""
    rng = np.random.default_rng(1)
    question = np.repeat(np.arange(100), 6)
    by_question = by_row = 0
    for seed in range(SIMULATIONS):
        y, p = (np.repeat(column, 6) for column in uniform(rng, 100))
        for ids in (question, None):
            interval = with_interval("brier", y, p, ids, seed=seed, **FAST).interval
            assert interval is not None
            inside = interval[0] <= TRUTH["brier"] <= interval[1]
            by_question += inside and ids is not None
            by_row += inside and ids is None
    assert by_question / SIMULATIONS == pytest.approx(0.95, abs=MARGIN + 0.01)
    assert by_row / SIMULATIONS < 0.75


def test_the_difference_of_two_scores_is_covered_and_narrower_than_either() -> None:
    rng = np.random.default_rng(2)
    truth = 1 / 6 - 1 / 5  # p against p squared
    covered = 0
    for seed in range(SIMULATIONS):
        y, p = uniform(rng, 150)
        found = paired("brier", y, p, p**2, seed=seed, **FAST)
        assert found.interval is not None
        covered += found.interval[0] <= truth <= found.interval[1]
    assert covered / SIMULATIONS == pytest.approx(0.95, abs=MARGIN + 0.01)
    alone = with_interval("brier", y, p).interval
    assert alone is not None
    assert np.ptp(found.interval) < np.ptp(alone)


@pytest.mark.parametrize("name", METRICS)
def test_a_score_does_not_differ_from_itself(name) -> None:
    y, p = uniform(np.random.default_rng(3), 90)
    question = np.arange(90) // 3
    assert paired(name, y, p, p, question).interval == (0, 0)
    swapped = paired(name, y, p**2, p, question)
    forth = paired(name, y, p, p**2, question)
    assert forth.value == pytest.approx(-(swapped.value or 0))
    assert forth.value == pytest.approx(
        (with_interval(name, y, p, question).value or 0)
        - (with_interval(name, y, p**2, question).value or 0)
    )


def test_equal_seeds_give_equal_intervals_and_others_do_not() -> None:
    y, p = uniform(np.random.default_rng(4), 80)
    first, again = (with_interval("auroc", y, p, seed=5) for _ in range(2))
    assert first == again
    assert first.interval != with_interval("auroc", y, p, seed=6).interval


def test_a_higher_level_is_a_wider_interval() -> None:
    y, p = uniform(np.random.default_rng(5), 80)
    wide, narrow = (with_interval("brier", y, p, level=level).interval for level in (0.99, 0.8))
    assert wide is not None
    assert narrow is not None
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_too_few_questions_have_a_value_and_no_interval() -> None:
    y, p = uniform(np.random.default_rng(6), 90)
    found = with_interval("brier", y, p, np.arange(90) // 10)
    assert found.value == pytest.approx(metrics.brier(y, p))
    assert found.interval is None
    assert found.reason == "9 questions; an interval needs 10"


def test_too_many_resamples_without_a_value_give_no_interval() -> None:
    y = np.zeros(40)
    y[7] = 1
    found = with_interval("auroc", y, np.linspace(0, 1, 40))
    assert found.value is not None
    assert found.interval is None
    assert "resamples" in str(found.reason)


def test_segments_are_the_metric_on_their_rows_and_small_ones_say_so() -> None:
    y, p = uniform(np.random.default_rng(7), 200)
    segment = np.where(np.arange(200) < 185, np.where(np.arange(200) % 2, "odd", "even"), "rest")
    question = np.arange(200)
    table = segments("brier", y, p, segment, question, replicates=100)
    assert [row.name for row in table] == ["even", "odd", "rest"]
    assert sum(row.rows for row in table) == 200
    for row in table[:2]:
        inside = segment == row.name
        assert row.estimate == with_interval("brier", y[inside], p[inside], replicates=100)
    assert table[2].estimate.value is None
    assert table[2].estimate.reason == "15 questions; at least 20 are needed"
    assert (table[2].rows, table[2].questions) == (15, 15)


def test_a_segment_whose_rows_all_weigh_nothing_is_not_there() -> None:
    y, p = uniform(np.random.default_rng(8), 60)
    segment = ["a"] * 30 + ["b"] * 30
    table = segments("brier", y, p, segment, sample_weight=[1.0] * 30 + [0.0] * 30)
    assert [(row.name, row.rows) for row in table] == [("a", 30)]


def test_a_metric_of_ones_own_can_be_resampled() -> None:
    """The error to mu, from counts: a ratio of sums with one value a question."""
    rng = np.random.default_rng(9)
    mu = rng.random(200)
    term = terms(mu, rng.binomial(8, mu), np.full(200, 8))
    rows = read(np.zeros(200), mu)
    found = resample({"mse": ratio(term, np.ones(200))}, rows)["mse"]
    assert found.value == pytest.approx(term.mean())
    assert found.interval is not None
    assert found.interval[0] < 0 < found.interval[1]

    def accuracy(rows):
        return ratio(rows.y, np.ones(rows.questions))

    y, p = uniform(rng, 50)
    assert with_interval(accuracy, y, p).value == pytest.approx(y.mean())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metric": "ecce"}, "metric='ecce': there is brier"),
        ({"level": 1}, "level"),
        ({"replicates": -1}, "replicates"),
        ({"p": [0.5]}, "p has 1 rows"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options, said) -> None:
    with pytest.raises(UsageError, match=said):
        with_interval(**({"metric": "brier", "y": [1, 0], "p": [0.5, 0.5]} | options))


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(UsageError, match="segment has 1 rows"):
        segments("brier", [1, 0], [0.5, 0.5], ["a"])
    with pytest.raises(UsageError, match="p has 1 rows"):
        paired("brier", [1, 0], [0.5, 0.5], [0.5])
