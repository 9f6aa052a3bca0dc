"""Targets and advantages that keep an answer apart from the confidence in it.

Pure functions for a trainer: what the confidence is rewarded for, and which tokens learn from what.
It does not know: models, tokens' texts, or a loss.

Source: DCPO, 2603.09117; leaving the own answer out is ours, so that the target does not move with
the answer that it is to judge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poise.errors import UsageError

__all__ = ["leave_one_out", "mixed_targets", "split_advantages"]


def leave_one_out(
    correct: Sequence[float | None], groups: Sequence[Hashable]
) -> list[float | None]:
    """For each of m answers, the mean grade of the *other* graded answers of its group, in [0, 1].

    ``correct`` (m,) grades in [0, 1], None where there is none; ``groups`` (m,) names. None where
    the group has no other grade. Unbiased for the capability: the expected accuracy of one answer.
    """
    if len(correct) != len(groups):
        raise UsageError(f"{len(correct)} grades for {len(groups)} groups: give one group each")
    totals: defaultdict[Hashable, float] = defaultdict(float)
    counts: defaultdict[Hashable, int] = defaultdict(int)
    for grade, group in zip(correct, groups, strict=True):
        if grade is not None:
            totals[group] += grade
            counts[group] += 1
    return [
        (totals[group] - (grade or 0)) / others
        if (others := counts[group] - (grade is not None))
        else None
        for grade, group in zip(correct, groups, strict=True)
    ]


def mixed_targets(
    correct: Sequence[float | None], groups: Sequence[Hashable], mix: float
) -> list[float | None]:
    """Between the own grade and the others': mix x (their mean) + (1 - mix) x (own), in [0, 1].

    ``mix`` in [0, 1], else UsageError: 0 the response's target, 1 the capability's. None where a
    part that counts is missing.
    """
    if not 0 <= mix <= 1:
        raise UsageError(f"mix={mix!r}: must be from 0 (this answer) to 1 (any answer)")
    if mix == 0:
        return list(correct)
    return [
        None
        if others is None or (own is None and mix < 1)
        else mix * others + (1 - mix) * (own or 0)
        for own, others in zip(correct, leave_one_out(correct, groups), strict=True)
    ]


def split_advantages(
    answer: ArrayLike, confidence: ArrayLike, is_confidence: ArrayLike
) -> NDArray[np.float64]:
    """The advantage of each token: the confidence's on confidence tokens, the answer's elsewhere.

    ``answer``, ``confidence`` (m,); ``is_confidence`` (m, T), true on the tokens that state the
    confidence; the result is (m, T). The answer then learns nothing from the confidence's reward,
    so that no answer can be given up for it. Raises UsageError for other shapes.
    """
    answers, confidences = np.asarray(answer, np.float64), np.asarray(confidence, np.float64)
    mask = np.asarray(is_confidence, bool)
    if mask.ndim != 2 or not answers.shape == confidences.shape == mask.shape[:1]:
        raise UsageError(
            f"advantages of shapes {answers.shape} and {confidences.shape} for a mask of shape "
            f"{mask.shape}: must be (m,), (m,) and (m, T)"
        )
    return np.where(mask, confidences[:, None], answers[:, None])
