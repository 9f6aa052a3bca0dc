"""A training report says in words what went wrong, and nothing where nothing did."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from poise.train.signs import signs


def numbers(ece: float, brier: float, right: list[float], wrong: float) -> dict[str, Any]:
    return {
        "confidence": {
            "missing": 0,
            "ece": ece,
            "ece_floor": {"mean": 0.02, "p95": 0.04},
            "brier": {"value": brier},
            "base_brier": 0.2,
        },
        "consensus": {"wrong": {"questions": 3, "mean": wrong}},
        "greedy": {"right": right},
    }


GOOD: dict[str, Any] = {
    "stopped": None,
    "evaluation": {
        "held_out": {
            "before": numbers(0.3, 0.25, [1.0] * 9, 0.7),
            "after": numbers(0.03, 0.1, [1.0] * 9, 0.3),
            "baselines": {
                "50 labels": {"p + platt": {"brier": {"value": 0.15}}},
                "200 labels": {"reason": "only 60 training questions"},
            },
        }
    },
}


def changed(**after: Any) -> dict[str, Any]:
    report = copy.deepcopy(GOOD)
    told = report["evaluation"]["held_out"]["after"]
    for name, value in after.items():
        told[name] = {**told[name], **value}
    return report


def test_a_run_that_went_well_has_no_signs() -> None:
    assert signs(GOOD) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"greedy": {"right": [0.0] * 9}}, "9 questions lost and 0 won; raise --weight"),
        ({"confidence": {"ece": 0.29}}, "ECE stayed (0.300 to 0.290); mix its domain"),
        ({"confidence": {"brier": {"value": 0.21}}}, "no better than the base rate's 0.200"),
        ({"confidence": {"missing": 4}}, "4 rows no longer state a confidence"),
        ({"consensus": {"wrong": {"mean": 0.8}}}, "rose from 0.70 to 0.80"),
        ({"confidence": {"brier": {"value": 0.16}}}, "p + platt on 50 labels has Brier 0.150"),
    ],
)
def test_each_failure_has_its_sentence_and_advice(after: dict[str, Any], said: str) -> None:
    found = signs(changed(**after))
    assert any(said in sign for sign in found), found
    assert all(sign.startswith("held_out: ") for sign in found)


def test_an_early_stop_is_said_first() -> None:
    assert signs({**GOOD, "stopped": "accuracy fell"})[0] == "training stopped early: accuracy fell"


def test_two_answers_lost_of_nine_are_chance() -> None:
    assert signs(changed(greedy={"right": [0.0] * 2 + [1.0] * 7})) == []


def test_sets_that_could_not_be_measured_have_no_signs() -> None:
    report = changed()
    each = report["evaluation"]["held_out"]
    for when in ("before", "after"):
        each[when]["confidence"] = {"rows": 0, "missing": 3, "reason": "no sample is graded"}
        each[when]["consensus"] = {"wrong": {"questions": 0, "mean": None}}
    assert signs(report) == []
