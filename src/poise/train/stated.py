"""How true the confidences are that fresh replies state themselves, and what they would withhold.

Replies are drawn anew, so that the confidence is one the model gave in its own words with its own
answer. A reply that states none in the form is counted, never filled in. It does not know training.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poise.errors import UsageError
from poise.pools import Labelled
from poise.rewards.judging import judged
from poise.train.evaluating import Graded, numbers
from poise.train.model import Loaded
from poise.train.replies import Accuracy, answerable, replies
from poise.train.stating import READ
from poise.types import Prompt

__all__ = ["Drawn", "drawn", "reported", "stated_numbers"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Fresh replies to graded questions, question by question, ``draws`` to each; (m,) columns.

    ``right``: 1 or 0, None where the reply gives no answer. ``confidence``: as it states, in
    [0, 1], None where it does not in the form. ``tokens`` of the reply, ``cut``: by the limit.
    """

    draws: int
    question: tuple[tuple[str, str], ...]
    right: tuple[int | None, ...]
    confidence: tuple[float | None, ...]
    abstained: tuple[bool, ...]
    tokens: tuple[int, ...]
    cut: tuple[bool, ...]

    @property
    def accuracy(self) -> Accuracy:
        """By question; a reply without an answer is not right."""
        shares = tuple(
            math.fsum(right or 0 for right in each) / self.draws
            for each in _groups(self.right, self.draws)
        )
        return Accuracy(shares, self.draws, self.right.count(None) - sum(self.abstained))

    @property
    def in_form(self) -> float | None:
        """The share of replies that state a confidence in the form; None without replies."""
        n = len(self.confidence)
        return None if not n else sum(c is not None for c in self.confidence) / n

    @property
    def graded(self) -> Graded:
        """The replies with an answer, as metrics take them."""
        rows = [
            (right, math.nan if c is None else c, question)
            for right, c, question in zip(self.right, self.confidence, self.question, strict=True)
            if right is not None
        ]
        none = np.full(len(rows), math.nan)
        return Graded(
            np.array([right for right, _, _ in rows], np.float64),
            tuple(question for _, _, question in rows),
            np.array([c for _, c, _ in rows], np.float64),
            none,
            none,
        )


def drawn(
    loaded: Loaded,
    pools: Sequence[Labelled],
    prompt: Prompt,
    decoding: Mapping[str, Any],
    *,
    draws: int = 1,
    seed: int = 0,
    batch: int = 16,
) -> Drawn:
    """Fresh replies to the pools' questions, ``draws`` each (one where ``decoding`` is greedy).

    ``prompt`` asks for the statement and ``decoding`` leaves room for it. Questions without gold,
    kind or text are left out. Raises InputError for gold answers that cannot be read.
    """
    known = answerable(pools)
    talks = [prompt.messages(one.pool.question) for one in known if one.pool.question is not None]
    made = replies(loaded, talks, decoding, draws=draws, seed=seed, batch=batch)
    rows = [(one, reply) for one, each in zip(known, made, strict=True) for reply in each]
    read = judged(
        [""] * len(rows),
        [reply.text or "" for _, reply in rows],
        [one.gold for one, _ in rows],
        [str(one.pool.kind) for one, _ in rows],
        [one.pool.options for one, _ in rows],
        READ,
    )
    found = [row for row in read if row is not None]  # every question has gold
    return Drawn(
        draws=len(made[0]) if made else draws,
        question=tuple(one.pool.group for one, _ in rows),
        right=tuple(None if row.abstained else row.correct for row in found),
        confidence=tuple(row.confidence for row in found),
        abstained=tuple(row.abstained for row in found),
        tokens=tuple(reply.tokens or 0 for _, reply in rows),
        cut=tuple(reply.finish == "length" for _, reply in rows),
    )


def stated_numbers(
    loaded: Loaded,
    pools: Sequence[Labelled],
    prompt: Prompt,
    decoding: Mapping[str, Any],
    *,
    draws: int = 4,
    threshold: float = 0.5,
    seed: int = 0,
    batch: int = 16,
) -> dict[str, Any]:
    """``reported`` of fresh replies to held-out questions; arguments as of ``drawn``."""
    found = drawn(loaded, pools, prompt, decoding, draws=draws, seed=seed, batch=batch)
    return reported(found, threshold=threshold, seed=seed)


def reported(found: Drawn, *, threshold: float = 0.5, seed: int = 0) -> dict[str, Any]:
    """What is reported of replies that state a confidence; JSON-ready.

    ``confidence``: the numbers of ``evaluating`` over replies with an answer, beside the constant
    base rate. ``over_abstention``: of right answers, the share that would be withheld for stating
    no more than ``threshold`` in [0, 1); ``under_abstention``: of wrong ones, the share that would
    be given; their standard errors are over questions. A threshold t stands for a payoff of 1
    right, -t / (1 - t) wrong and 0 withheld. Raises UsageError for another threshold.
    """
    if not 0 <= threshold < 1:
        raise UsageError(f"threshold {threshold}: must be at least 0 and below 1")
    n, stated = len(found.right), [c for c in found.confidence if c is not None]
    rows = [
        row
        for row in zip(found.right, found.confidence, found.question, strict=True)
        if row[1] is not None
    ]
    sides = {
        value: [(c, question) for right, c, question in rows if right == value and c is not None]
        for value in (1, 0)
    }
    accuracy = found.accuracy
    return {
        "accuracy": {**accuracy.to_dict(), "by_question": list(accuracy.right)},
        "replies": n,
        "in_form": {"replies": n, "states": len(stated), "share": found.in_form},
        "abstained": sum(found.abstained),
        "cut": sum(found.cut),
        "tokens": {"replies": n, "mean": sum(found.tokens) / n if n else None},
        "spread": {"replies": len(stated), "deviation": float(np.std(stated)) if stated else None},
        "confidence": numbers(found.graded, seed=seed),
        "right": _mean([c for c, _ in sides[1]]),
        "wrong": _mean([c for c, _ in sides[0]]),
        "threshold": threshold,
        "over_abstention": _share([(c <= threshold, of) for c, of in sides[1]]),
        "under_abstention": _share([(c > threshold, of) for c, of in sides[0]]),
    }


def _groups(values: Sequence[int | None], size: int) -> list[tuple[int | None, ...]]:
    return [tuple(values[start : start + size]) for start in range(0, len(values), size)]


def _mean(values: Sequence[float]) -> dict[str, Any]:
    return {"replies": len(values), "mean": math.fsum(values) / len(values) if values else None}


def _share(rows: Sequence[tuple[bool, tuple[str, str]]]) -> dict[str, Any]:
    """The share of rows that are true; its standard error as a ratio of sums over questions."""
    n, count = len(rows), sum(true for true, _ in rows)
    share = count / n if n else None
    residuals: dict[tuple[str, str], float] = defaultdict(float)
    for true, question in rows:
        residuals[question] += true - (share or 0)
    q = len(residuals)
    square = math.fsum(each**2 for each in residuals.values())
    error = math.sqrt(q / (q - 1) * square) / n if q > 1 else None
    return {"replies": n, "count": count, "share": share, "standard_error": error}
