"""The card's numbers are the metrics' own, and its words warn where they should and only there."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from poise import metrics
from poise.errors import UsageError
from poise.metrics.rows import read
from poise.report import Card, Decision, Evaluation, make_card
from poise.report.evaluation import BASE_RATE
from poise.report.gaps import Gap
from poise.report.parts import parts
from poise.scoring import FloatArray


def drawn(
    seed: int, m: int, *, lowered: float = 0.0, segments: int = 4
) -> tuple[FloatArray, FloatArray, list[str]]:
    """Labels that are right with probability stated - ``lowered``; stated; segments."""
    rng = np.random.default_rng(seed)
    stated = np.clip(rng.beta(4, 2, m), lowered, 1)
    right = (rng.random(m) < stated - lowered).astype(np.float64)
    return right, stated, [f"segment {place % segments}" for place in range(m)]


def evaluation(seed: int = 0, m: int = 300, **more: Any) -> Evaluation:
    right, stated, named = drawn(seed, m)
    rng = np.random.default_rng(seed + 1)
    raw = np.round(np.clip(stated + rng.normal(0, 0.15, m), 0, 1) * 8) / 8
    given = {"raw": raw, "raw_name": "vote share", "segment": named, "held_out": True}
    return Evaluation(right, stated, **{**given, **more})


def gaps_of(rows: Evaluation) -> list[Gap]:
    found = parts(rows, read(rows.right, rows.stated, None, rows.group), 0)
    cut = [one.gap for one in found.bins] + [one.gap for one in found.segments or ()]
    return [found.overall, *cut]


def kinds(card: Card) -> set[str]:
    return {one.kind for one in card.findings}


@pytest.fixture(scope="module")
def card() -> Card:
    return make_card(evaluation())


def test_every_number_of_a_column_is_the_metrics_own(card: Card) -> None:
    rows = evaluation()
    assert card.stated == metrics.summary(rows.right, rows.stated)
    assert card.raw is not None
    assert rows.raw is not None
    assert card.raw.report == metrics.summary(rows.right, rows.raw)
    assert [one.aurc for one in card.columns] == [
        metrics.aurc(rows.right, p) for p in (rows.stated, rows.raw)
    ]


def test_a_difference_is_the_metrics_paired_difference(card: Card) -> None:
    rows = evaluation()
    others = {BASE_RATE: np.full(300, rows.right.mean()), "vote share": rows.raw}
    assert len(card.differences) == 4
    for one in card.differences:
        other = others[one.against]
        assert other is not None
        assert one.estimate == metrics.paired(one.metric, rows.right, rows.stated, other)


def test_a_segments_numbers_are_the_metrics_own_on_its_rows(card: Card) -> None:
    rows = evaluation()
    assert rows.segment is not None
    brier = {
        one.name: one for one in metrics.segments("brier", rows.right, rows.stated, rows.segment)
    }
    for one in card.parts.segments or ():
        inside = np.array([name == one.name for name in rows.segment])
        assert one.brier == brier[one.name].estimate
        assert one.ece.value == metrics.ece(rows.right[inside], rows.stated[inside])
        assert (one.gap.rows, one.gap.questions) == (75, 75)
        assert one.gap.difference.value == pytest.approx(
            rows.stated[inside].mean() - rows.right[inside].mean()
        )


def test_a_baseline_is_measured_and_compared_like_the_raw_signal() -> None:
    right, stated, _ = drawn(0, 200)
    made = make_card(Evaluation(right, stated, baselines={"half": np.full(200, 0.5)}))
    assert [(one.name, one.role) for one in made.columns] == [
        ("stated", "stated"),
        ("half", "baseline"),
    ]
    assert made.columns[1].report == metrics.summary(right, np.full(200, 0.5))
    assert {one.against for one in made.differences} == {BASE_RATE, "half"}


def test_a_raw_signal_outside_the_unit_interval_is_ranked_only() -> None:
    rows = evaluation()
    assert rows.raw is not None
    card = make_card(replace(rows, raw=np.log(rows.raw + 0.01), raw_name="log"))
    assert card.raw is not None
    assert card.raw.report is None
    assert card.raw.reliability is None
    assert card.raw.reason is not None
    assert card.raw.reason in card.limits
    assert card.raw.auroc == metrics.with_interval("auroc", rows.right, rows.raw)
    assert {one.against for one in card.differences} == {BASE_RATE}


@pytest.mark.parametrize("segments", [1, 12])
def test_true_probabilities_are_rarely_called_over_confident(segments: int) -> None:
    alarms = 0
    for seed in range(40):
        right, stated, named = drawn(seed, 400, segments=segments)
        found = gaps_of(Evaluation(right, stated, segment=named))
        alarms += any(one.over_confident for one in found)
    assert alarms <= 4


def test_questions_whose_rows_go_together_are_no_reason_for_a_warning() -> None:
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        stated, luck = np.repeat(rng.beta(8, 1, 60), 10), np.repeat(rng.random(60), 10)
        right = (luck < stated).astype(float)
        rows = Evaluation(right, stated, group=np.repeat(np.arange(60), 10))
        alarms += any(one.beyond_chance for one in gaps_of(rows))
    assert alarms <= 4


@pytest.mark.parametrize("seed", range(5))
def test_over_confidence_of_fifteen_points_is_always_warned_of(seed: int) -> None:
    right, stated, _ = drawn(seed, 1000, lowered=0.15)
    card = make_card(Evaluation(right, stated, held_out=True))
    warned = [one for one in card.findings if one.grave]
    assert "over_confident" in {one.kind for one in warned}
    assert "miscalibrated" in {one.kind for one in warned}
    assert card.verdict.startswith("Over-confident")
    first = warned[0]
    assert first.gap is not None
    assert f"says {first.gap.stated:.2f} on average, right {first.gap.right:.2f}" in first.text
    assert "n = 1,000" in first.text


def test_one_bad_segment_is_found_among_forty_and_comes_first() -> None:
    right, stated, named = drawn(3, 4000, segments=40)
    bad = np.array([name == "segment 7" for name in named])
    right = np.where(bad, (np.random.default_rng(0).random(4000) < stated - 0.35), right)
    card = make_card(Evaluation(right.astype(float), stated, segment=named))
    assert card.parts.segments is not None
    assert card.parts.segments[0].name == "segment 7"
    assert [one.name for one in card.parts.segments if one.gap.beyond_chance] == ["segment 7"]
    assert "in segment 'segment 7'" in " ".join(one.text for one in card.findings)
    assert "Over-confident in 1 of 40 segments" in card.verdict


def test_segments_come_worst_first_and_those_too_small_last() -> None:
    right, stated, named = drawn(1, 600, segments=6)
    named[:9] = ["few"] * 9
    found = make_card(Evaluation(right, stated, segment=named)).parts.segments
    assert found is not None
    assert [one.name for one in found if one.too_small] == ["few"] == [found[-1].name]
    sizes = [abs(one.gap.difference.value or 0) for one in found if not one.gap.beyond_chance]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-2] > 0


def test_true_probabilities_are_said_to_be_within_the_noise(card: Card) -> None:
    assert "within_noise" in kinds(card)
    assert card.verdict.startswith("No miscalibration found over 300 questions; an error below")
    assert not any(one.grave for one in card.findings)


def test_few_questions_are_called_few_and_small_segments_are_kept() -> None:
    rows = evaluation(m=25)
    card = make_card(rows)
    assert "few_questions" in kinds(card)
    assert "small_segments" in kinds(card)
    assert card.verdict.startswith("Too few questions to judge: 25")
    assert card.parts.segments is not None
    assert len(card.parts.segments) == 4
    for one in card.parts.segments:
        assert one.too_small
        assert one.brier.value is one.ece.value is one.gap.difference.value is None
        assert one.ece.reason is not None
        assert "at least 20" in one.ece.reason


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_has_no_ranking_and_a_reason(label: float) -> None:
    card = make_card(Evaluation(np.full(120, label), np.linspace(0.4, 0.6, 120)))
    assert "one_class" in kinds(card)
    assert card.stated.auroc.value is None
    assert card.to_dict()["columns"][0]["auroc"]["reason"]


def test_no_better_than_the_base_rate_is_a_warning() -> None:
    right = np.tile([1.0, 0.0], 100)
    card = make_card(Evaluation(right, np.tile([0.4, 0.6], 100)))
    assert "no_skill" in kinds(card)
    assert "No better than stating the base rate" in card.verdict


def test_worse_than_the_raw_signal_is_a_warning() -> None:
    right, stated, _ = drawn(0, 400)
    card = make_card(Evaluation(right, stated**3, raw=stated, raw_name="vote share"))
    assert any(
        one.kind == "worse_than_baseline" and "vote share" in one.text for one in card.findings
    )


def test_a_wrong_certainty_is_counted() -> None:
    right, stated, _ = drawn(0, 200)
    stated[:10], right[:10] = 1, 0
    card = make_card(Evaluation(right, stated))
    assert any(one.text.startswith("10 rows were stated as certain") for one in card.findings)


@pytest.mark.parametrize(("lost", "level"), [(10, "note"), (100, "warning")])
def test_rows_left_out_are_counted_and_many_are_a_warning(lost: int, level: str) -> None:
    card = make_card(evaluation(left_out={"no readable answer": lost, "no grade": 0}))
    (found,) = [one for one in card.findings if one.kind == "left_out"]
    assert found.level == level
    assert f"{lost:,} of {300 + lost:,} rows" in found.text
    assert "no readable answer" in found.text
    assert "no grade" not in found.text


def test_a_small_gap_beyond_chance_is_not_called_none() -> None:
    rng = np.random.default_rng(0)
    stated = np.repeat([0.05, 0.5, 0.95], 500)
    right = (rng.random(1500) < np.repeat([0.05, 0.5, 0.99], 500)).astype(float)
    card = make_card(Evaluation(right, stated))
    assert "within_noise" in kinds(card)
    assert [one.level for one in card.findings if one.kind == "under_confident"] == ["note"]
    assert card.verdict.startswith("Nearly calibrated")


def test_a_probability_that_never_changes_and_tied_signals_are_named() -> None:
    right, _, _ = drawn(0, 150)
    tied = np.where(np.arange(150) < 90, 1.0, 0.5)
    card = make_card(Evaluation(right, np.full(150, 0.6), raw=tied, raw_name="vote share"))
    assert {"constant", "ties"} <= kinds(card)
    assert "vote share takes 2 values, and 60% of the rows share one" in " ".join(
        one.text for one in card.findings
    )


@pytest.mark.parametrize(
    ("held_out", "said"), [(None, "not stated whether"), (False, "were fitted"), (True, None)]
)
def test_what_is_not_known_about_the_fit_is_a_limit(
    held_out: bool | None, said: str | None
) -> None:
    limits = make_card(evaluation(m=30, held_out=held_out)).limits
    assert any("flatter" in one for one in limits) == (said is not None)
    assert said is None or any(said in one for one in limits)


def test_a_decisions_limits_are_repeated_and_a_missing_tolerance_is_one() -> None:
    rows = evaluation(m=30)
    assert "Only sums." in make_card(rows, Decision(limits=("Only sums.",))).limits
    missing = "No risk tolerance was stated"
    assert any(missing in one for one in make_card(rows, Decision()).limits)
    stated = Decision(tolerance={"right": 1, "wrong": -4})
    assert not any(missing in one for one in make_card(rows, stated).limits)


def test_a_card_is_json_and_every_number_in_it_is_finite(card: Card) -> None:
    body = card.to_dict()
    assert body["schema"] == 1
    assert json.loads(json.dumps(body, allow_nan=False)) == body
    assert all(math.isfinite(number) for number in numbers(body))
    assert body["columns"][0]["report"]["brier"]["value"] == card.stated.brier.value


def numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return list(itertools.chain.from_iterable(numbers(inner) for inner in value))
    return [value] if isinstance(value, int | float) else []


def test_equal_seeds_give_equal_cards_and_other_seeds_other_bands() -> None:
    rows = evaluation(m=60)
    assert make_card(rows, seed=3) == make_card(rows, seed=3)
    first, second = make_card(rows, seed=3).columns[0], make_card(rows, seed=4).columns[0]
    assert first.reliability is not None
    assert second.reliability is not None
    assert first.reliability.right == second.reliability.right
    assert first.reliability.low != second.reliability.low


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"right": [0, 1, 2]}, r"right\[2\]"),
        ({"right": []}, "at least one row"),
        ({"stated": [0.5, 0.5]}, "stated has 2 rows and right has 3"),
        ({"stated": [0.5, 0.5, float("nan")]}, r"stated\[2\]"),
        ({"raw": [1, 2, 3]}, "raw_name"),
        ({"raw": [1, 2, float("inf")], "raw_name": "x"}, "raw: .*finite"),
        ({"raw": [1, 2], "raw_name": "x"}, "raw has 2 rows"),
        ({"group": [1, 2]}, "group has 2 rows"),
        ({"segment": ["a", "b", None]}, "segment: a row has no id"),
        ({"baselines": {"stated": [1, 1, 1]}}, "baselines: 'stated'"),
        ({"baselines": {"x": [1, 1, 2]}}, r"baselines\['x'\]\[2\]"),
        ({"left_out": {"lost": -1}}, "left_out"),
    ],
)
def test_columns_that_make_no_sense_are_refused(change: dict[str, Any], said: str) -> None:
    given = {"right": [0, 1, 1], "stated": [0.2, 0.5, 0.9], **change}
    with pytest.raises(UsageError, match=said):
        Evaluation(**given)


def test_the_callers_arrays_can_change_without_changing_the_evaluation() -> None:
    right = np.array([0.0, 1.0])
    rows = Evaluation(right, np.array([0.2, 0.9]))
    right[0] = 1
    assert rows.right[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        rows.stated[0] = 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_a_decision_that_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="decision.considered"):
        Decision(considered=({"what": "platt", "log_loss": value},))
