"""After how many questions training is even: the arithmetic, a run's report, and the command."""

from __future__ import annotations

import copy
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import call
from poise.errors import InputError, UsageError
from poise.metrics import Estimate
from poise.report import Prices, break_even, of_training
from poise.report.break_even import UNITS, prices_of

LIKE = Estimate(0.0, (-0.05, 0.05))
"""An accuracy that is equal within noise."""

costs = st.floats(0, 1e9)
savings = st.floats(1e-3, 1e3)


def even(cost: float, saved: float, accuracy: Estimate = LIKE) -> int | None:
    return break_even(cost, Estimate(saved), accuracy).questions


# -- the arithmetic -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cost", "saved", "questions"),
    [(100, 2.5, 40), (100, 3, 34), (0, 1, 0), (0.3, 0.1, 3), (1.1, 0.1, 11), (1, 2, 1)],
)
def test_small_examples_are_exact(cost: float, saved: float, questions: int) -> None:
    assert even(cost, saved) == questions


@given(cost=st.integers(0, 10**6), saved=st.integers(1, 10**3))
def test_it_is_the_fewest_questions_that_bring_the_cost_back(cost: int, saved: int) -> None:
    found = even(cost, saved / 8)
    assert found is not None
    assert found * Fraction(saved, 8) >= cost
    assert found == 0 or (found - 1) * Fraction(saved, 8) < cost


@given(costs, costs, savings)
def test_a_greater_cost_never_comes_back_sooner(a: float, b: float, saved: float) -> None:
    less, more = even(min(a, b), saved), even(max(a, b), saved)
    assert less is not None
    assert more is not None
    assert less <= more


@given(costs, savings, savings)
def test_a_greater_saving_never_takes_longer(cost: float, a: float, b: float) -> None:
    less, more = even(cost, max(a, b)), even(cost, min(a, b))
    assert less is not None
    assert more is not None
    assert less <= more


@given(costs, savings, st.floats(0, 1e3), st.floats(0, 1e3))
def test_the_interval_holds_the_number_and_ends_at_never_where_nothing_may_be_saved(
    cost: float, saved: float, below: float, above: float
) -> None:
    ends = (saved - below, saved + above)
    found = break_even(cost, Estimate(saved, ends), LIKE)
    assert found.questions is not None
    assert found.interval is not None
    soonest, latest = found.interval
    assert soonest <= found.questions
    assert (latest is None) == (ends[0] <= 0) or latest is None
    assert latest is None or latest >= found.questions


@given(costs, st.floats(-1e3, 0))
def test_what_saves_nothing_never_pays(cost: float, saved: float) -> None:
    found = break_even(cost, Estimate(saved, (saved - 1, saved + 1)), LIKE)
    assert (found.questions, found.never, found.reason) == (None, True, "it saves nothing")


@given(costs, savings)
def test_what_answers_worse_beyond_noise_never_pays_however_much_it_saves(
    cost: float, saved: float
) -> None:
    found = break_even(cost, Estimate(saved), Estimate(-0.1, (-0.15, -0.05)))
    assert (found.questions, found.never) == (None, True)
    assert "less accurately" in str(found.reason)


def test_better_answers_count_only_where_they_cost_no_more() -> None:
    better = Estimate(0.1, (0.05, 0.15))
    assert even(100, 2.5, better) == 40
    more = break_even(100, Estimate(-1.0, (-2.0, -0.5)), better)
    assert (more.questions, more.never) == (None, False)
    assert "not comparable" in str(more.reason)


def test_what_is_not_known_has_its_reason_and_no_number() -> None:
    unknown = Estimate(None, reason="no seconds")
    assert break_even(1, unknown, LIKE).to_dict() == {
        "questions": None,
        "interval": None,
        "never": False,
        "reason": "no seconds",
    }
    few = break_even(10, Estimate(1.0, reason="3 questions"), Estimate(0.0, reason="3 questions"))
    assert (few.questions, few.interval, few.reason) == (10, None, "3 questions")


def test_worse_answers_whose_noise_is_not_known_are_no_equal_accuracy() -> None:
    worse = break_even(10, Estimate(1.0, reason="few"), Estimate(-0.2, reason="few"))
    assert (worse.questions, worse.never) == (None, False)
    assert str(worse.reason) == "it answers 0.200 less accurately, beyond noise or not (few)"


@pytest.mark.parametrize("cost", [-1.0, float("nan"), float("inf")])
def test_a_cost_that_is_none_is_refused(cost: float) -> None:
    with pytest.raises(UsageError, match="cost"):
        break_even(cost, Estimate(1.0), LIKE)


def test_a_saving_too_small_to_divide_by_is_no_crash() -> None:
    found = break_even(1e300, Estimate(5e-324, (0.0, 1.0)), LIKE)
    assert found.never


# -- a run's report -------------------------------------------------------------------------------


def told(value: float, spread: float = 0.0) -> dict[str, Any]:
    return {"value": value, "interval": [value - spread, value + spread], "reason": None}


def against(
    samples: float, followups: float, accuracy: float = 0.0, spread: float = 0.5
) -> dict[str, Any]:
    return {
        "accuracy": told(accuracy, 0.02),
        "samples": told(samples, spread),
        "tokens": told(10 * samples, 10 * spread),
        "followups": told(followups, spread),
        "samples_of_it": told(16.0),
    }


REPORT: dict[str, Any] = {
    "cost": {
        "generation": {"questions": 10, "samples": 160, "tokens": 1600, "seconds": 32.0},
        "scoring": {"rows": 100},
    },
    "seconds": {"training": 60.0, "a_confidence": 0.05},
    "resumed_at_step": None,
    "steps": [{"seconds": 40.0}, {"seconds": 50.0}],
    "in_use": {
        "sets": {
            "held_out": {
                "questions": 40,
                "against": {
                    "selection": {"majority": against(4, -12)},
                    "both": {"majority": against(6, -10), "untrained": against(2, 2)},
                },
            },
            "empty": {"reason": "no question is graded"},
        }
    },
}
"""Samples take .2 s and 10 tokens, confidences .05 s."""


def changed(*path: str, to: Any) -> dict[str, Any]:
    report = copy.deepcopy(REPORT)
    place = report
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = to
    return report


def test_a_runs_cost_is_what_its_parts_take_in_every_unit() -> None:
    cost = of_training(REPORT, Prices(hour=36))["cost"]
    assert {unit: cost[unit]["total"] for unit in UNITS} == pytest.approx(
        {"samples": 160 + 25 + 300, "tokens": 1600 + 250 + 3000, "seconds": 97, "usd": 0.97}
    )
    assert cost["samples"]["scoring"] == pytest.approx(25)
    priced = of_training(REPORT, Prices(hour=36, sample=0.01, token=0.001))["cost"]["usd"]
    assert priced["generation"] == pytest.approx(160 * 0.01 + 1600 * 0.001)
    assert priced["training"] == pytest.approx(0.6)


def test_a_saving_counts_the_follow_ups_that_the_other_way_did_not_ask() -> None:
    """Against the vote: 6 samples of .2 s saved, 10 confidences of .05 s more, so .7 s."""
    found = of_training(REPORT)["sets"]["held_out"]
    assert found["cell"] == "both"
    rows = found["against"]
    assert rows["majority"]["seconds"]["saved"] == pytest.approx(0.7)
    assert rows["majority"]["seconds"]["questions"] == 139  # 97 / .7 = 138.6
    assert rows["untrained"]["seconds"]["saved"] == pytest.approx(0.5)
    assert rows["untrained"]["seconds"]["saved_interval"] == pytest.approx([0.375, 0.625])
    assert rows["untrained"]["seconds"]["interval"] == [156, 259]
    assert rows["untrained"]["samples"]["questions"] == 194
    assert rows["untrained"]["tokens"]["saved"] == pytest.approx(20 + 2 * 2.5)


def test_the_verdict_is_that_against_the_strongest_alternative() -> None:
    found = of_training(REPORT)["sets"]
    assert found["held_out"]["verdict"] == (
        "it pays for itself after 194 questions (156 to 259), against untrained"
    )
    assert found["empty"] == {"reason": "no question is graded"}
    both = ("in_use", "sets", "held_out", "against", "both")
    lost = of_training(changed(*both, "logprob", to=against(-1, -5)))["sets"]["held_out"]
    assert lost["verdict"] == "it never pays for itself, against logprob (it saves nothing)"
    worse = of_training(changed(*both, "majority", to=against(6, -10, accuracy=-0.1)))
    assert "0.100 less accurately" in worse["sets"]["held_out"]["verdict"]
    better = of_training(changed(*both, "logprob", to=against(-1, -5, accuracy=0.1)))
    assert better["sets"]["held_out"]["verdict"] == found["held_out"]["verdict"]


def test_a_saving_that_may_be_none_may_never_come_back() -> None:
    report = changed(
        "in_use", "sets", "held_out", "against", "both", to={"untrained": against(1, 1, spread=2)}
    )
    found = of_training(report)["sets"]["held_out"]
    assert found["against"]["untrained"]["seconds"]["interval"][1] is None
    assert "to never" in found["verdict"]


def test_a_resumed_runs_training_is_the_sum_of_its_steps() -> None:
    resumed = of_training(changed("resumed_at_step", to=1))
    assert resumed["cost"]["seconds"]["training"] == 90


def test_what_the_pools_do_not_state_is_not_made_up() -> None:
    report = changed("cost", "generation", "seconds", to=None)
    found = of_training(report, Prices(hour=36, sample=0.01))
    for unit in ("samples", "tokens", "seconds"):
        assert found["cost"][unit]["total"] is None
        assert "seconds of their samples" in found["cost"][unit]["reason"]
    assert found["cost"]["usd"]["total"] == pytest.approx(1.6 + 65 / 100)
    assert "in usd" not in found["sets"]["held_out"]["verdict"]
    unpriced = of_training(report)
    assert "no price of an hour" in unpriced["cost"]["usd"]["reason"]
    assert unpriced["sets"]["held_out"]["verdict"].startswith("not known: ")
    tokenless = of_training(changed("cost", "generation", "tokens", to=None))
    assert tokenless["cost"]["tokens"]["total"] is None
    assert tokenless["cost"]["samples"]["total"] == 485


def test_a_run_without_numbers_in_use_says_how_to_have_them() -> None:
    with pytest.raises(InputError, match="--in-use 16"):
        of_training({name: part for name, part in REPORT.items() if name != "in_use"})


@pytest.mark.parametrize(
    "report",
    [
        {"in_use": {}},
        changed("cost", to=None),
        changed("steps", to=[{}]),
        changed("in_use", "sets", "held_out", "against", to={"both": {"majority": {}}}),
        changed("cost", "generation", "samples", to="many"),
    ],
)
def test_a_report_of_something_else_is_one_line(report: Any) -> None:
    with pytest.raises(InputError, match="no report of poise train sft"):
        of_training(report)


# -- prices and the command -----------------------------------------------------------------------


def test_prices_are_read_as_they_are_written() -> None:
    assert prices_of(None) == Prices()
    assert prices_of("hour=1.2, token=4e-7") == Prices(hour=1.2, token=4e-7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("minute=1", "hour, sample and token"),
        ("hour=1,hour=2", "once each"),
        ("", "hour, sample"),
        ("hour", "number of dollars"),
        ("hour=dear", "number of dollars"),
        ("hour=-1", "dollars >= 0"),
        ("token=nan", "dollars >= 0"),
    ],
)
def test_prices_that_make_no_sense_are_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        prices_of(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    return tmp_path


def test_the_command_prints_costs_savings_verdict_and_where_they_come_from(folder: Path) -> None:
    done = call("report", folder, "--price", "hour=36")
    assert (done.code, done.err) == (0, "")
    for said in (
        "generation",
        "0.97",
        "against untrained: accuracy +0.000 (-0.020 +0.020), samples saved +2.00 (+1.50 +2.50)",
        "even after: 194 (156 to 259) in samples, tokens, seconds, usd",
        "it pays for itself after 194 questions",
        "empty: no question is graded",
        "160 samples trained on",
        "36 USD an hour",
        "Not counted: measuring, prompts",
    ):
        assert said in done.out, done.out


def test_the_command_gives_the_same_as_json(folder: Path) -> None:
    done = call("report", folder, "--json", "--price", "hour=36")
    assert json.loads(done.out) == json.loads(json.dumps(of_training(REPORT, Prices(hour=36))))


def test_without_prices_there_is_no_money_and_the_output_says_so(folder: Path) -> None:
    done = call("report", folder)
    assert "in usd: no price of an hour" in done.out
    assert "prices from --price: none" in done.out


@pytest.mark.parametrize(
    ("content", "words", "code", "said"),
    [
        (None, (), 3, "no report.json"),
        ("{", (), 3, "cannot be read"),
        ("[]", (), 3, "--in-use 16"),
        ("3", (), 3, "no report of poise train sft"),
        (json.dumps(REPORT), ("-o", "card.html"), 2, "goes alone"),
        (json.dumps(REPORT), ("--signals", "agreement"), 2, "goes alone"),
        (json.dumps(REPORT), ("--overwrite",), 2, "goes alone"),
        (json.dumps(REPORT), ("--seed", "3"), 2, "goes alone"),
        (json.dumps(REPORT), ("--price", "hour"), 2, "number of dollars"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_line(
    tmp_path: Path, content: str | None, words: tuple[str, ...], code: int, said: str
) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    done = call("report", tmp_path, *words)
    assert (done.code, done.out, said in done.err) == (code, "", True), done.err
    assert done.err.count("\n") == 1


def test_a_price_without_a_training_run_is_refused(tmp_path: Path) -> None:
    done = call("report", tmp_path / "p.jsonl", "--price", "hour=1", "--json")
    assert (done.code, "folder of a training run" in done.err) == (2, True)
