"""Rewards for being right, for knowing when not to answer, and for keeping the form.

They need gold answers (``formatted`` does not). None of them makes a stated confidence true: they
sharpen a policy, so a model trained on them is measured for over-confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poise.errors import UsageError
from poise.rewards.judging import (
    Prompts,
    Rewards,
    Rows,
    column,
    given,
    judged,
)
from poise.rewards.statement import Completion, Reader, line

__all__ = ["correctness", "formatted", "reference_accuracy", "thresholded"]


def correctness(
    prompts: Prompts,
    completions: Sequence[Completion],
    *,
    gold: Rows = None,
    kind: str | Rows = None,
    options: Rows = None,
    read: Reader = line,
    **_columns: Any,
) -> Rewards:
    """1 for a right answer, else 0: an unreadable answer and an abstention are not right.

    None where the gold is None. Raises UsageError and InputError as ``judged``.
    """
    rows = judged(prompts, completions, gold, kind, options, read)
    return [None if row is None else float(row.correct == 1) for row in rows]


def thresholded(
    prompts: Prompts,
    completions: Sequence[Completion],
    *,
    threshold: float | Rows = None,
    gold: Rows = None,
    kind: str | Rows = None,
    options: Rows = None,
    read: Reader = line,
    **_columns: Any,
) -> Rewards:
    """1 for a right answer, -t / (1 - t) for a wrong or unreadable one, 0 for "I don't know".

    Answering pays exactly if it is right with a probability above ``threshold`` t, in [0, 1): one
    number, or a column where the prompts state different ones (the prompt has to say t). It elicits
    the side of t, not the probability. None where the gold is None. Raises UsageError and
    InputError as ``judged``, and UsageError for another threshold.

    Source: Kalai et al., Why Language Models Hallucinate, 2509.04664.
    """
    rows = judged(prompts, completions, gold, kind, options, read)
    bars = column("threshold", threshold, len(rows))
    for bar in bars:
        if bar is None or not 0 <= bar < 1:
            raise UsageError(f"threshold={bar!r}: must be a number from 0 to below 1")
    return [
        None if row is None else 0.0 if row.abstained else 1.0 if row.correct else -bar / (1 - bar)
        for row, bar in zip(rows, bars, strict=True)
    ]


def reference_accuracy(
    prompts: Prompts,
    completions: Sequence[Completion],
    *,
    reference_accuracy: float | Rows = None,
    gold: Rows = None,
    kind: str | Rows = None,
    options: Rows = None,
    read: Reader = line,
    **_columns: Any,
) -> Rewards:
    """The sign of (right - a): 1 for a gain over the reference model, -1 for a loss, else 0.

    Column ``reference_accuracy`` a: the share of right answers, in [0, 1], that the model had on
    the question before training; None there, or in the gold, gives None. Against a baseline by
    question this is correctness, weighted 2 where 0 < a < 1 and 1 at the ends. Raises UsageError
    and InputError as ``judged``.

    Source: C3RL, 2607.01612, by its description; its exact weights are not public.
    """
    rows = judged(prompts, completions, gold, kind, options, read)
    if reference_accuracy is None:
        raise UsageError(
            "this reward compares with a model before training: give the data set a column "
            "'reference_accuracy', from 0 to 1"
        )
    shares = column("reference_accuracy", reference_accuracy, len(rows))
    for share in shares:
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"reference_accuracy={share!r}: must be a number from 0 to 1")
    return [
        None if row is None or share is None else _sign(float(row.correct == 1) - share)
        for row, share in zip(rows, shares, strict=True)
    ]


def formatted(
    prompts: Prompts,
    completions: Sequence[Completion],
    *,
    kind: str | Rows = None,
    options: Rows = None,
    read: Reader = line,
    **_columns: Any,
) -> Rewards:
    """1 where an answer, or "I don't know", and a confidence can be read, else 0.

    Raises UsageError as ``given``.
    """
    rows = given(prompts, completions, kind, options, read)
    return [
        float((row.answer is not None or row.abstained) and row.confidence is not None)
        for row in rows
    ]


def _sign(gain: float) -> float:
    return math.copysign(1.0, gain) if gain else 0.0
