"""What a training report says went wrong, in sentences with advice; none where nothing did.

It reads the report's numbers and knows nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["signs"]


def signs(report: Mapping[str, Any]) -> list[str]:
    """One sentence for each sign of failure in a report of ``self_calibration.run``."""
    found = []
    if report["stopped"]:
        found.append(f"training stopped early: {report['stopped']}")
    for name, each in report["evaluation"].items():
        before, after = each["before"], each["after"]
        found += [f"{name}: {sentence}" for sentence in _answers(before, after)]
        found += [f"{name}: {sentence}" for sentence in _confidence(before, after)]
        found += [f"{name}: {sentence}" for sentence in _beaten(each)]
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


def _beaten(each: Mapping[str, Any]) -> list[str]:
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
