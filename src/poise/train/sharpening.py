"""What a report of preference training says went wrong, in sentences with advice.

A model that learns to prefer what it was sure of grows surer, of wrong answers as well. It reads
the report's numbers and knows nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["signs"]

LEAST_PAIRS = 20
"""With fewer graded pairs nothing is said of how they are ranked."""

LEAST_RIGHT = 0.6
"""Share of pairs with one right answer in which the surer has to be the right one."""


def signs(report: Mapping[str, Any]) -> list[str]:
    """One sentence for each sign of failure in a report of ``prefs.run``."""
    found = []
    if report["stopped"]:
        found.append(f"training stopped early: {report['stopped']}")
    found += _ranking(report["data"]["grades"])
    for name, each in report["evaluation"].items():
        before, after, change = each["before"], each["after"], report["change"][name]
        told = [
            *_answers(before, after),
            *_surer(before, after, change),
            *_calibration(before, after),
            *_beaten(each),
            *_form(before, after),
        ]
        found += [f"{name}: {sentence}" for sentence in told]
    return found


def _ranking(grades: Mapping[str, int]) -> list[str]:
    """Whether the surer answer was the right one, of the pairs that have one."""
    chosen, rejected = grades["chosen right"], grades["rejected right"]
    n = chosen + rejected
    if n >= LEAST_PAIRS and chosen < LEAST_RIGHT * n:
        return [
            (
                f"of {n} pairs with one right answer the surer was right in {chosen}: confidence"
                " hardly ranks these answers, so that preferring it teaches little; raise --gap"
            )
        ]
    return []


def _answers(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    old, new = before["greedy"]["right"], after["greedy"]["right"]
    lost = sum(a > b for a, b in zip(old, new, strict=True))
    won = sum(a < b for a, b in zip(old, new, strict=True))
    if lost - won > 2 * math.sqrt(lost + won):
        return [
            (
                f"accuracy fell: {lost} questions lost and {won} won; raise --beta, or lower --lr"
                " or --epochs"
            )
        ]
    return []


def _surer(
    before: Mapping[str, Any], after: Mapping[str, Any], change: Mapping[str, Any]
) -> list[str]:
    found = []
    excess = change.get("overconfidence", {})
    if excess.get("interval") and excess["interval"][0] > 0:
        low, high = excess["interval"]
        found.append(
            f"over-confidence rose by {excess['value']:.2f} ({low:.2f} to {high:.2f}): answers grew"
            " surer than they grew right; profiles of the untrained model do not hold, fit new ones"
        )
    for where, told in (("answers", "means"), ("majority answers", "consensus")):
        old, new = before[told]["wrong"]["mean"], after[told]["wrong"]["mean"]
        if None not in (old, new) and new > old + 0.02:
            found.append(f"confidence in wrong {where} rose from {old:.2f} to {new:.2f}")
    return found


def _calibration(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    old, new = before["confidence"], after["confidence"]
    if "ece" not in old or "ece" not in new:
        return []
    found = []
    if new["ece"] > new["ece_floor"]["p95"] and new["ece"] > old["ece"]:
        found.append(
            f"ECE rose from {old['ece']:.3f} to {new['ece']:.3f} (chance alone:"
            f" {new['ece_floor']['mean']:.3f}); map the confidence before it is used"
        )
    if new["brier"]["value"] >= new["base_brier"]:
        found.append(
            f"Brier {new['brier']['value']:.3f} is no better than the base rate's"
            f" {new['base_brier']:.3f}: the raw confidence does not help here"
        )
    return found


def _beaten(each: Mapping[str, Any]) -> list[str]:
    """Maps of the untrained model's confidence that do better on the untrained model's samples."""
    after = each["after"]["confidence"]
    rows = [
        (told["brier"]["value"], f"{name} on {size}")
        for size, them in each["baselines"].items()
        for name, told in them.items()
        if isinstance(told, Mapping) and "brier" in told
    ]
    if "brier" not in after or not rows or min(rows)[0] >= after["brier"]["value"]:
        return []
    value, name = min(rows)
    return [
        (
            f"{name} has Brier {value:.3f} on the untrained model's samples, the trained model's"
            f" confidence {after['brier']['value']:.3f} on its own"
        )
    ]


def _form(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Replies that are cut more often than they were, beyond chance."""
    n, m = before["samples"], after["samples"]
    old, new = before["finish"].get("length", 0), after["finish"].get("length", 0)
    if not n or not m:
        return []
    share = (old + new) / (n + m)
    chance = 2 * math.sqrt(share * (1 - share) * (1 / n + 1 / m))
    if new / m - old / n > chance:
        return [f"{new} of {m} replies are cut, and {old} of {n} were: they have grown longer"]
    return []
