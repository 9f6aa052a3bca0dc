"""Whether a sum of rewards can be gamed by answering wrongly on purpose.

A wrong answer with confidence 0 earns all of a calibration reward. Where the answer is trained too,
that must never beat a right answer, whatever confidence goes with it. All calibration rewards here
lie in [0, 1], so this holds exactly where their weights together are at most that of being right.

It does not know: rewards that are not Poise's, or what training makes of it: this is about the
optimum.

Source: 2607.04332; RLCR, 2507.16806 (bounded scores only).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from poise.errors import UsageError

__all__ = ["check_weights"]

ACCURACY = ("correctness", "reference_accuracy", "thresholded")
"""Rewards that are larger by at least 1 for a right answer than for a wrong one."""

CALIBRATION = ("brier", "spherical", "bounded_log", "capability")
"""Rewards in [0, 1] for the confidence."""

OTHERS = (
    *("formatted", "majority", "semantic_frequency", "self_certainty"),
    "reference_probability",
)
"""Rewards that know neither."""


def check_weights(
    weights: Mapping[str, float],
    *,
    trained_answer: bool = True,
    normalised: bool = False,
    forced: bool = False,
) -> None:
    """Refuse a sum of rewards that pays for a wrong answer on purpose.

    ``weights``: the final weight, at least 0, of each of Poise's rewards by its name in
    ``REWARDS``, whatever scales it multiplied in. ``trained_answer``: whether the calibration
    rewards reach the tokens of the answer (not where advantages are split by token).
    ``normalised``: whether each reward is divided by its own spread before the sum
    (``normalize_then_sum`` in TRL), which makes the ratio another one in each group. ``forced``:
    skip this judgement, not the check of names and numbers. Raises UsageError with the reason.
    """
    known = (*ACCURACY, *CALIBRATION, *OTHERS)
    for name, weight in weights.items():
        if name not in known:
            raise UsageError(f"there is no reward {name!r}; choose from {', '.join(sorted(known))}")
        if not (math.isfinite(weight) and weight >= 0):
            raise UsageError(f"weight {name}={weight}: must be a finite number of at least 0")
    right = math.fsum(weights.get(name, 0.0) for name in ACCURACY)
    calibration = math.fsum(weights.get(name, 0.0) for name in CALIBRATION)
    if forced or not trained_answer or not calibration:
        return
    ways = "train the confidence's tokens alone, or force it"
    if weights.get("bounded_log"):
        raise UsageError(
            "the log score is refused where the answer is trained too: its guarantee is for the "
            "confidence alone (unbounded, a wrong answer with confidence 0 beats an honest one "
            f"that is right with a probability below 0.648); use brier, {ways}"
        )
    if normalised:
        raise UsageError(
            "each reward is divided by its own spread before the sum, so that the weights no "
            "longer bound what a wrong answer with confidence 0 gains; normalise the sum or "
            f"nothing, {ways}"
        )
    # Weights are written in decimals: 0.1 + 0.2 against 0.3 is a ratio of one.
    if calibration > right * (1 + 1e-9):
        ratio = calibration / right if right else math.inf
        raise UsageError(
            f"calibration weighs {calibration:g} and being right {right:g}, a ratio of {ratio:.3g}:"
            " above 1 a wrong answer with confidence 0 can beat a right one, with Brier wherever "
            f"the answer is right with a probability below {max(0.0, 1 - 1 / ratio):.3g}; lower "
            f"the calibration weights to {right:g} in all, {ways}"
        )
