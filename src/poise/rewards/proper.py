"""Rewards for a true confidence: proper scoring rules, on [0, 1], 1 for a certainty that holds.

Each is largest in expectation where the stated confidence is the probability of being right. A
completion without a readable answer or without a confidence earns 0, the least there is: to leave
it out would let a model escape by breaking the form. What that is worth beside a correctness reward
is for ``check_weights``. It does not know: how the model is trained, or on which tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from poise import scoring
from poise.errors import UsageError
from poise.rewards.judging import Judged, Prompts, Rewards, Rows, groups, judged
from poise.rewards.statement import Completion, Reader, line
from poise.rewards.targets import mixed_targets

__all__ = ["bounded_log", "brier", "capability", "spherical"]

FLOOR = 0.001
"""How near to certainty the log score looks, as in Rewarding Doubt."""


def brier(
    prompts: Prompts,
    completions: Sequence[Completion],
    *,
    gold: Rows = None,
    kind: str | Rows = None,
    options: Rows = None,
    read: Reader = line,
    **_columns: Any,
) -> Rewards:
    """1 - (c - z)^2 for a stated confidence c and an answer that is right (z = 1) or not (z = 0).

    None where the gold is None. Raises UsageError and InputError as ``judged``.

    Source: RLCR, 2507.16806, where it is added to ``correctness`` with the same weight.
    """
    rows = judged(prompts, completions, gold, kind, options, read)
    return _scored(rows, lambda z, c: 1 - float(scoring.brier(z, c)))


def spherical(
    prompts: Prompts,
    completions: Sequence[Completion],
    *,
    gold: Rows = None,
    kind: str | Rows = None,
    options: Rows = None,
    read: Reader = line,
    **_columns: Any,
) -> Rewards:
    """The cosine between (c, 1 - c) and the truth, otherwise as ``brier``."""
    rows = judged(prompts, completions, gold, kind, options, read)
    return _scored(rows, lambda z, c: 1 - float(scoring.spherical(z, c)))


def bounded_log(
    prompts: Prompts,
    completions: Sequence[Completion],
    *,
    floor: float = FLOOR,
    gold: Rows = None,
    kind: str | Rows = None,
    options: Rows = None,
    read: Reader = line,
    **_columns: Any,
) -> Rewards:
    """The log score with c moved into [floor, 1 - floor], scaled to [0, 1].

    Strictly proper between the two ends, flat beyond them. For confidence tokens alone: see
    ``check_weights``. Otherwise as ``brier``; raises UsageError unless 0 < floor < 0.5 too.

    Source: Rewarding Doubt, 2503.02623.
    """
    if not 0 < floor < 0.5:
        raise UsageError(f"floor={floor!r}: must be above 0 and below 0.5")
    rows = judged(prompts, completions, gold, kind, options, read)
    least, most = -math.log1p(-floor), -math.log(floor)
    return _scored(
        rows, lambda z, c: (most - float(scoring.log_loss(z, c, floor=floor))) / (most - least)
    )


def capability(
    prompts: Prompts,
    completions: Sequence[Completion],
    *,
    mix: float = 1.0,
    question_id: Rows = None,
    gold: Rows = None,
    kind: str | Rows = None,
    options: Rows = None,
    read: Reader = line,
    **_columns: Any,
) -> Rewards:
    """1 - (c - target)^2, the target between the own answer's grade and the others' accuracy.

    ``mix`` in [0, 1]: 0 is ``brier`` (this answer), 1 the share of right answers among the *other*
    completions of the question (any answer to it). Completions belong together by ``question_id``,
    else by prompt; all of a question's must be in one call. An unreadable answer counts as wrong
    among the others. None where the gold is None or there are no others and mix > 0. Raises
    UsageError and InputError as ``judged``.

    Source: DCPO, 2603.09117 (the target's mix and the square, as in its released code, which has
    the own answer in the mean as well).
    """
    rows = judged(prompts, completions, gold, kind, options, read)
    right = [None if row is None else float(row.correct == 1) for row in rows]
    targets = mixed_targets(right, groups(prompts, question_id), mix)
    return [
        None
        if row is None or target is None
        else 0.0
        if row.correct is None or row.confidence is None
        else 1 - (row.confidence - target) ** 2
        for row, target in zip(rows, targets, strict=True)
    ]


def _scored(rows: list[Judged | None], score: Callable[[int, float], float]) -> Rewards:
    return [
        None
        if row is None
        else 0.0
        if row.correct is None or row.confidence is None
        else score(row.correct, row.confidence)
        for row in rows
    ]
