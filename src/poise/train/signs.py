"""What a training report says went wrong, in sentences with advice; none where nothing did.

It reads the report's numbers and knows nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["beaten", "signs"]


def signs(report: Mapping[str, Any]) -> list[str]:
    """One sentence for each sign of failure in a report of ``self_calibration.run``."""
    found = []
    if report["stopped"]:
        found.append(f"training stopped early: {report['stopped']}")
    for name, each in report["evaluation"].items():
        before, after = each["before"], each["after"]
        found += [f"{name}: {sentence}" for sentence in _answers(before, after)]
        found += [f"{name}: {sentence}" for sentence in _confidence(before, after)]
        found += [f"{name}: {sentence}" for sentence in beaten(each)]
        found += [f"{name}: {sentence}" for sentence in _silent(after)]
    for name, told in report.get("in_use", {}).get("sets", {}).items():
        if "reason" not in told:
            found += [f"{name}: {sentence}" for sentence in _used(told)]
    return found


def _answers(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    old, new = before["greedy"]["right"], after["greedy"]["right"]
    lost = sum(a > b for a, b in zip(old, new, strict=True))
    won = sum(a < b for a, b in zip(old, new, strict=True))
    if lost - won > 2 * math.sqrt(lost + won):
        return [
            (
                f"accuracy fell: {lost} questions lost and {won} won; raise --weight or lower"
                " --threshold, so that more responses are kept"
            )
        ]
    return []


def _confidence(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    found = []
    old, new = before["confidence"], after["confidence"]
    if "ece" in old and "ece" in new:
        if new["ece"] > new["ece_floor"]["p95"] and new["ece"] > 0.8 * old["ece"]:
            found.append(
                f"ECE stayed ({old['ece']:.3f} to {new['ece']:.3f}); mix its domain into training"
            )
        if new["brier"]["value"] >= new["base_brier"]:
            found.append(
                f"Brier {new['brier']['value']:.3f} is no better than the base rate's"
                f" {new['base_brier']:.3f}: the confidence does not help here"
            )
        if new["missing"] > old["missing"]:
            found.append(f"{new['missing']} rows no longer state a confidence")
    wrong = before["consensus"]["wrong"]["mean"], after["consensus"]["wrong"]["mean"]
    if None not in wrong and wrong[1] > wrong[0] + 0.02:
        found.append(
            f"confidence in wrong majority answers rose from {wrong[0]:.2f} to {wrong[1]:.2f}:"
            " it learned to agree with itself; train on labels, or use them to calibrate"
        )
    return found


def _silent(after: Mapping[str, Any]) -> list[str]:
    """Of a model that was to state a confidence in its replies."""
    share = after["stated"]["in_form"]["share"] if "stated" in after else None
    if share is None or share >= 0.9:
        return []
    return [
        (
            f"only {share:.0%} of replies state a confidence in the form; train on more rows, or"
            " raise --weight or --lr"
        )
    ]


def beaten(each: Mapping[str, Any]) -> list[str]:
    """Maps of the untrained model's numbers that do better than what was trained."""
    after = each["after"]["confidence"]
    if "brier" not in after:
        return []
    rows = [
        (told["brier"]["value"], f"{name} on {size}")
        for size, them in each["baselines"].items()
        for name, told in them.items()
        if isinstance(told, Mapping) and "brier" in told
    ]
    better = sorted(row for row in rows if row[0] < after["brier"]["value"])
    if not better:
        return []
    return [
        (
            f"{better[0][1]} has Brier {better[0][0]:.3f}, the trained confidence"
            f" {after['brier']['value']:.3f}: a map of the untrained model does better"
        )
    ]


# -- in use ---------------------------------------------------------------------------------------

SMALL = 4
"""Budgets at which best of N is what early stopping has to reach."""


def _used(told: Mapping[str, Any]) -> list[str]:
    """What early stopping by the trained confidence does worse, beyond noise."""
    budgets = told["budgets"]
    cell = "both" if "both" in next(iter(budgets.values())) else "selection"
    found = []
    for budget, cells in budgets.items():
        if int(budget) <= SMALL:
            found += _below_best(int(budget), cells[cell]["early"])
    full = budgets[max(budgets, key=int)]
    before, after = full["untrained"]["early"], full[cell]["early"]
    if _ends(after["sure_wrong_change"])[0] > 0:
        found.append(
            "early stopping stops confidently wrong more often than before: on"
            f" {after['sure_wrong']['value']:.1%} of questions, {before['sure_wrong']['value']:.1%}"
            " before; raise the threshold, or train on labels"
        )
    return found + _cheaper(told["against"][cell])


def _below_best(budget: int, early: Mapping[str, Any]) -> list[str]:
    if _ends(early["to_best_of_n"])[1] >= 0:
        return []
    often = early["sure"]["value"]
    advice = "too high: lower it" if often < 0.5 else "too low: raise it"
    return [
        (
            f"at {budget} samples early stopping is {-early['to_best_of_n']['value']:.3f} less"
            f" accurate than best of N; it was sure on {often:.0%} of questions, so the threshold"
            f" is {advice} (--policy confident:threshold=…)"
        )
    ]


def _cheaper(against: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Log-probabilities that need fewer samples, and are not less accurate beyond noise."""
    return [
        (
            f"early stopping by the untrained {name} under Platt's map needs"
            f" {-each['samples']['value']:.1f} samples fewer a question at equal accuracy:"
            " training buys nothing over it here"
        )
        for name, each in against.items()
        if name.startswith("logprob")
        and _ends(each["samples"])[1] < 0
        and _ends(each["accuracy"])[0] <= 0
    ]


def _ends(estimate: Mapping[str, Any]) -> tuple[float, float]:
    """The interval; everything where there is none."""
    low, high = estimate["interval"] or (-math.inf, math.inf)
    return low, high
