"""What all metrics promise: order, weights, soft labels, bad input, absence."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from poise import metrics
from poise.errors import UsageError
from poise.metrics import METRICS, Estimate, with_interval
from poise.metrics.rows import read

RNG = np.random.default_rng(7)
M = 240
P = np.round(RNG.beta(2, 1, M), 2)  # with ties
Y = (RNG.random(M) < P**1.4).astype(float)
TIMES = RNG.integers(0, 4, M)
QUESTION = RNG.integers(0, 60, M)

Call = Callable[..., object]

POINT: dict[str, Call] = {
    "brier": metrics.brier,
    "log_loss": lambda y, p, w=None: metrics.log_loss(y, p, w, floor=0.01),
    "brier_skill": metrics.brier_skill,
    "corp": metrics.corp,
    "corp_log_loss": lambda y, p, w=None: metrics.corp(y, p, w, rule="log_loss", floor=0.01),
    "ece": metrics.ece,
    "adaptive_ece": metrics.adaptive_ece,
    "smooth_ece": metrics.smooth_ece,
    "auroc": metrics.auroc,
    "auprc": metrics.auprc,
    "spearman": metrics.spearman,
    "aurc": metrics.aurc,
    "accuracy_at": lambda y, p, w=None: metrics.accuracy_at(0.37, y, p, w),
    "risk_coverage": metrics.risk_coverage,
    "ks": lambda y, p, w=None: metrics.cumulative(y, p, w).ks,
    "kuiper": lambda y, p, w=None: metrics.cumulative(y, p, w).kuiper,
}
SAMPLING: dict[str, Call] = {
    "debiased_ece": metrics.debiased_ece,
    "debiased_square": metrics.debiased_square,
    "cumulative": metrics.cumulative,
}
"""These look at sampling error, where a row of weight 2 is not two rows."""


def numbers(found: object) -> list[float]:
    """All numbers in a result, in order."""
    if dataclasses.is_dataclass(found):
        fields = dataclasses.fields(found)
        return [x for field in fields for x in numbers(getattr(found, field.name))]
    return [] if found is None else np.atleast_1d(np.asarray(found, float)).tolist()


def same(first: object, second: object) -> bool:
    return numbers(first) == pytest.approx(numbers(second), abs=1e-9) and bool(numbers(first))


@pytest.mark.parametrize("name", POINT | SAMPLING)
def test_row_order_changes_nothing(name) -> None:
    metric = (POINT | SAMPLING)[name]
    order = np.random.default_rng(1).permutation(M)
    assert same(metric(Y, P), metric(Y[order], P[order]))


@pytest.mark.parametrize("name", POINT)
def test_a_whole_weight_is_that_many_rows(name) -> None:
    repeated = POINT[name](np.repeat(Y, TIMES), np.repeat(P, TIMES))
    assert same(POINT[name](Y, P, TIMES), repeated)


@pytest.mark.parametrize("name", sorted((POINT | SAMPLING).keys() - {"aurc"}))
def test_only_the_proportions_of_weights_count(name) -> None:
    metric = (POINT | SAMPLING)[name]
    assert same(metric(Y, P, TIMES), metric(Y, P, TIMES * 2.5))


@pytest.mark.parametrize("name", (POINT | SAMPLING).keys())
def test_a_row_of_weight_zero_is_not_there(name) -> None:
    metric = (POINT | SAMPLING)[name]
    assert same(metric(Y, P, (TIMES > 0) * 1.0), metric(Y[TIMES > 0], P[TIMES > 0]))


@pytest.mark.parametrize("name", sorted(POINT.keys() - {"spearman"}))
def test_a_soft_label_of_weight_n_is_n_rows_of_which_a_share_is_right(name) -> None:
    """Ranks of labels (Spearman) are another matter: there 0.5 is a rank of its own."""
    rng = np.random.default_rng(3)
    n = rng.integers(1, 6, 50)
    right, p = rng.binomial(n, 0.6), rng.random(50)
    y = np.concatenate([np.arange(a) < b for a, b in zip(n, right, strict=True)])
    assert same(POINT[name](right / n, p, n), POINT[name](y, np.repeat(p, n)))


@pytest.mark.parametrize("name", ["auroc", "auprc", "spearman", "aurc", "accuracy_at"])
def test_an_increasing_map_of_the_probabilities_leaves_ranking_alone(name) -> None:
    assert same(POINT[name](Y, P), POINT[name](Y, 0.3 + P**3 / 2))


@pytest.mark.parametrize("name", ["auroc", "auprc", "spearman", "aurc", "accuracy_at"])
def test_a_decreasing_map_does_not(name) -> None:
    assert not same(POINT[name](Y, P), POINT[name](Y, 1 - P))


BAD = [
    ({"y": [1, 0, 2]}, r"y\[2\]=2: must be from 0 to 1"),
    ({"p": [0.5, math.nan, 0.5]}, r"p\[1\]=nan: must be from 0 to 1"),
    ({"p": [0.5, -1e-9, 0.5]}, r"p\[1\]"),
    ({"p": [0.5, 0.5]}, "p has 2 rows and y has 3"),
    ({"p": [0.5, None, "a"]}, "p: not all of it is numbers"),
    ({"p": [[0.5]]}, r"p: must be one column with at least one row, is \(1, 1\)"),
    ({"y": [], "p": []}, "y: must be one column with at least one row"),
    ({"sample_weight": [1, -1, 1]}, r"sample_weight\[1\]=-1: must be 0 or more"),
    ({"sample_weight": [1, 1, math.inf]}, r"sample_weight\[2\]=inf"),
    ({"sample_weight": [0, 0, 0]}, "sample_weight: all weights are 0"),
    ({"sample_weight": [1, 1]}, "sample_weight has 2 rows"),
    ({"question": ["a", "b"]}, "question has 2 rows"),
    ({"question": ["a", None, "b"]}, "question: a row has no id"),
    ({"question": [1.0, math.nan, 2.0]}, "question: a row has no id"),
    ({"question": [[1], [2], [3]]}, "question: an id cannot be hashed"),
    ({"question": np.zeros((3, 2), int)}, r"question: must be one column, is \(3, 2\)"),
]


@pytest.mark.parametrize(("wrong", "said"), BAD)
def test_bad_input_is_refused_by_name(wrong, said) -> None:
    given = {"y": [1, 0, 1], "p": [0.5, 0.5, 0.5]} | wrong
    with pytest.raises(UsageError, match=said):
        read(**given)
    with pytest.raises(UsageError, match=said):
        metrics.summary(**given)


@pytest.mark.parametrize("name", POINT | SAMPLING)
def test_every_metric_checks_its_rows(name) -> None:
    with pytest.raises(UsageError, match=r"p\[1\]=1.5"):
        (POINT | SAMPLING)[name]([1, 0], [0.5, 1.5])


@pytest.mark.parametrize("bins", [0, -1, 2.5, True])
def test_a_number_of_bins_that_makes_no_sense_is_refused(bins) -> None:
    for metric in (metrics.ece, metrics.adaptive_ece, metrics.debiased_ece):
        with pytest.raises(UsageError, match="bins"):
            metric(Y, P, bins=bins)


def test_question_ids_may_be_anything_hashable() -> None:
    named = [f"q{i}" for i in QUESTION]
    pairs = [("set", int(i)) for i in QUESTION]
    for ids in (named, pairs, np.array(named), np.array(pairs, "U8")[:, 1]):
        assert same(metrics.within_question(Y, P, ids), metrics.within_question(Y, P, QUESTION))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_has_no_ranking_and_no_skill_and_says_why(label) -> None:
    y = np.full(M, label)
    for found in (
        metrics.auroc(y, P),
        metrics.spearman(y, P),
        metrics.brier_skill(y, P),
        metrics.within_question(y, P, QUESTION).estimate,
        *(with_interval(name, y, P, QUESTION) for name in ("auroc", "brier_skill")),
        with_interval("within_question", y, P, QUESTION),
    ):
        assert found.value is None
        assert found.interval is None
        assert found.reason
    report = metrics.summary(y, P, QUESTION, replicates=20)
    assert report.auroc.value is None
    assert (report.auprc.value is None) == (label == 0)
    json.dumps(report.to_dict(), allow_nan=False)


def test_the_report_gives_the_numbers_of_the_single_metrics() -> None:
    report = metrics.summary(Y, P, QUESTION, TIMES, replicates=50, seed=3)
    shared = {"replicates": 50, "seed": 3}
    assert same(report.ece, metrics.ece(Y, P, TIMES))
    assert same(report.smooth_ece, metrics.smooth_ece(Y, P, TIMES))
    assert same(report.corp_brier, metrics.corp(Y, P, TIMES))
    assert same(report.ece_debiased, metrics.debiased_ece(Y, P, TIMES, QUESTION))
    assert same(report.square_debiased, metrics.debiased_square(Y, P, TIMES, QUESTION))
    for name in ("brier", "brier_skill", "log_loss", "auroc"):
        assert getattr(report, name) == with_interval(name, Y, P, QUESTION, TIMES, **shared)
    found = report.within_question
    assert found is not None
    assert same(
        dataclasses.replace(found, estimate=Estimate(found.estimate.value)),
        metrics.within_question(Y, P, QUESTION, TIMES),
    )
    assert report.rows == np.count_nonzero(TIMES)
    assert report.questions == len(set(QUESTION[TIMES > 0]))
    assert metrics.summary(Y, P, QUESTION, TIMES, replicates=50, seed=3) == report


def test_the_report_stands_beside_the_constant_base_rate() -> None:
    report = metrics.summary(Y, P, replicates=0)
    constant = np.full(M, Y.mean())
    assert report.base_brier == pytest.approx(metrics.brier(Y, constant))
    assert report.base_log_loss == pytest.approx(metrics.log_loss(Y, constant))
    assert report.beats_base_rate
    assert report.within_question is None
    assert report.brier.interval is None
    backwards = metrics.summary(Y, 1 - P, replicates=0)
    assert not backwards.beats_base_rate
    json.dumps(report.to_dict(), allow_nan=False)


def test_the_report_counts_rows_that_would_cost_infinity() -> None:
    report = metrics.summary([1, 0, 1, 0.5], [0.0, 1.0, 1.0, 1.0], replicates=0)
    assert report.log_infinite == 3
    assert report.log_loss.value is not None
    assert math.isfinite(report.log_loss.value)
    assert metrics.log_loss([1, 0, 1, 0.5], [0.0, 1.0, 1.0, 1.0]) == math.inf


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_prepared_for_resampling_is_the_metric(name) -> None:
    point = {
        "log_loss": lambda y, p, w: metrics.log_loss(y, p, w, floor=1e-6),
        "within_question": lambda y, p, w: metrics.within_question(y, p, QUESTION, w).estimate,
    }.get(name) or getattr(metrics, name)
    found = with_interval(name, Y, P, QUESTION, TIMES, replicates=0)
    assert [found.value] == pytest.approx(numbers(point(Y, P, TIMES)))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("clustered", [True, False])
def test_resampling_is_repeating_the_rows_of_the_questions_drawn(name, clustered) -> None:
    ids = QUESTION if clustered else np.arange(M)
    rows = read(Y, P, None, ids)
    rng = np.random.default_rng(5)
    counts = rng.multinomial(rows.questions, np.full(rows.questions, 1 / rows.questions), 4)
    shown = METRICS[name](rows)(counts.astype(float))
    for times, value in zip(counts, shown, strict=True):
        again = np.repeat(np.arange(M), times[rows.question])
        # Copies of a question are questions of their own.
        copy = np.concatenate([np.arange(t) for t in times[rows.question]])
        drawn = read(Y[again], P[again], None, [*zip(ids[again].tolist(), copy.tolist())])  # noqa: B905
        (direct,) = METRICS[name](drawn)(np.ones((1, drawn.questions)))
        assert value == pytest.approx(float(direct), nan_ok=True)
