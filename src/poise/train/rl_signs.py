"""What a report of reinforcement says went wrong, in sentences with advice; none where nothing did.

It reads the report's numbers and knows nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["changes", "signs"]

CONSTANT = 0.05
"""Confidences that spread less are one confidence."""


def changes(each: Mapping[str, Any]) -> dict[str, Any]:
    """After less before of one set: accuracy, question by question, with its standard error."""
    old, new = (each[when]["accuracy"]["by_question"] for when in ("before", "after"))
    found = [b - a for a, b in zip(old, new, strict=True)]
    n = len(found)
    mean = math.fsum(found) / n if n else None
    error = None
    if mean is not None and n > 1:
        error = math.sqrt(math.fsum((d - mean) ** 2 for d in found) / (n - 1) / n)
    return {"accuracy": {"questions": n, "difference": mean, "standard_error": error}}


def signs(report: Mapping[str, Any]) -> list[str]:
    """One sentence for each sign of failure in a report of ``reinforcement.run``."""
    found = []
    if report["stopped"]:
        found.append(f"training stopped early: {report['stopped']}")
    if report["start"]["adapter"] and report["start"]["questions_seen"] is None:
        found.append(
            "which questions the adapter had seen is not known: those measured may be among them"
        )
    for name, each in report["evaluation"].items():
        said = [*_accuracy(each, report["change"][name]["accuracy"]), *_form(each)]
        said += [*_abstention(each), *_confidence(each), *_beaten(each)]
        found += [f"{name}: {sentence}" for sentence in said]
    return found


def _accuracy(each: Mapping[str, Any], change: Mapping[str, Any]) -> list[str]:
    fell, error = change["difference"], change["standard_error"]
    if fell is None or error is None or not fell < -2 * error:
        return []
    old, new = (_brier(each[when]) for when in ("before", "after"))
    if old is not None and new is not None and new < old:
        return [
            (
                f"hedging: accuracy fell by {-fell:.3f} while Brier improved ({old:.3f} to"
                f" {new:.3f}): it answers worse and says so; weigh correctness more, or --split"
            )
        ]
    return [f"accuracy fell by {-fell:.3f} (standard error {error:.3f}); lower --lr, or set --kl"]


def _form(each: Mapping[str, Any]) -> list[str]:
    old, new = (each[when]["in_form"]["share"] for when in ("before", "after"))
    if None in (old, new) or new >= old - 0.1:
        return []
    return [
        (
            f"{old:.0%} of replies stated a confidence in the form, now {new:.0%} do; give"
            " formatted more weight"
        )
    ]


def _abstention(each: Mapping[str, Any]) -> list[str]:
    found = []
    for name, what in (
        ("over_abstention", "right answers that would be withheld"),
        ("under_abstention", "wrong answers that would be given"),
    ):
        old, new = each["before"][name], each["after"][name]
        if _rose(old, new):
            found.append(
                f"{what} rose from {old['share']:.0%} of {old['replies']} to {new['share']:.0%} of"
                f" {new['replies']}, at a threshold of {each['after']['threshold']:g}"
            )
    return found


def _rose(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """By more than two standard errors of two shares.

    The greater of two errors: over questions, which replies to one question do not make smaller,
    and as if replies were independent, which is not nil where all shares are. No, where either
    share is of fewer than two questions.
    """
    errors = [each["standard_error"] for each in (old, new)]
    if None in errors:
        return False
    both = (old["count"] + new["count"]) / (old["replies"] + new["replies"])
    alone = math.sqrt(both * (1 - both) * (1 / old["replies"] + 1 / new["replies"]))
    return bool(new["share"] - old["share"] > 2 * max(alone, math.hypot(*errors)))


def _confidence(each: Mapping[str, Any]) -> list[str]:
    found, after = [], each["after"]
    new, brier = after["confidence"], _brier(each["after"])
    spread = after["spread"]["deviation"]
    if spread is not None and spread < CONSTANT and _differ(after["accuracy"]["by_question"]):
        found.append(
            f"all replies state nearly the same confidence (deviation {spread:.3f}) while questions"
            " differ in accuracy; train on questions of wider difficulty, or start from another"
            " warm start"
        )
    if brier is not None and brier >= new["base_brier"]:
        found.append(
            f"Brier {brier:.3f} is no better than the base rate's {new['base_brier']:.3f}: the"
            " stated confidence does not help here"
        )
    old = each["before"]["confidence"]
    known = "ece" in old and "ece" in new
    if known and new["ece"] > max(new["ece_floor"]["p95"], 0.8 * old["ece"]):
        found.append(
            f"ECE stayed ({old['ece']:.3f} to {new['ece']:.3f}); train longer, or mix its domain"
            " into training"
        )
    return found


def _beaten(each: Mapping[str, Any]) -> list[str]:
    """Maps of the starting model's confidences that tell more of its replies than the trained ones.

    Replies are others before and after, and easier to judge where nearly all are wrong: a Brier is
    taken as a share of the base rate's on the same replies.
    """
    after = _share(each["after"]["confidence"])
    maps = {
        f"{name} on {size}": told
        for size, them in each["baselines"].items()
        for name, told in them.items()
        if isinstance(told, Mapping)
    }
    shares = {name: share for name, told in maps.items() if (share := _share(told)) is not None}
    best = min(shares, key=shares.__getitem__, default=None)
    if after is None or best is None or shares[best] >= after:
        return []
    return [
        (
            f"{best} has {shares[best]:.0%} of the Brier of its replies' base rate, the trained"
            f" confidence {after:.0%} of that of its own: a map of the starting model does better"
        )
    ]


def _share(told: Mapping[str, Any]) -> float | None:
    if "brier" not in told or not told["base_brier"]:
        return None
    return float(told["brier"]["value"] / told["base_brier"])


def _differ(shares: Sequence[float]) -> bool:
    return len(set(shares)) > 1


def _brier(told: Mapping[str, Any]) -> float | None:
    confidence = told["confidence"]
    return float(confidence["brier"]["value"]) if "brier" in confidence else None
