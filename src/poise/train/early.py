"""Rules that read a confidence, played over stored samples: what they answer and what they draw.

The rules, the votes and the orders are replay's own. A question's samples are taken in many seeded
orders, so that the one they were stored in is not luck; all numbers are means over orders. Here is
also how a threshold is chosen, on questions that nothing is reported of. It does not know models,
training or files.

Source: early stopping and the weighted vote of Self-Calibration, Huang et al. 2025, arXiv
2503.00031, whose thresholds were chosen on the questions reported.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from poise.policies import Confident, Fixed, StopRule
from poise.pools import Labelled
from poise.replay import GRIDS, Orders, orders
from poise.replay.following import elected, flat, grades_of, stops
from poise.scoring import FloatArray
from poise.votes import FirstConfident, Majority, Vote

__all__ = [
    "BUDGETS",
    "TAUS",
    "Played",
    "Usable",
    "arm",
    "early",
    "is_graded",
    "joined",
    "ordered",
    "play",
    "states",
    "stored",
    "thresholds",
    "usable",
]

BUDGETS = (4, 8, 16)
"""Most samples a question; the greatest that the pools hold is the full budget."""

ORDERS = 32

TAUS = (0.0, *(float(value) for value in GRIDS["threshold"]), 1.0)
"""Thresholds that are tried, ascending."""


MOST_LOST = 0.01
"""Accuracy that a threshold may lose on the questions it is chosen on: few of them are no excuse,
for their noise alone would let the least threshold pass."""


@dataclass(frozen=True, slots=True)
class Usable:
    """Pools of one arm that hold the full budget of samples; ``left_out`` counts the others.

    ``full`` None: there are none; ``reason`` says why.
    """

    pools: tuple[Labelled, ...]
    full: int | None
    left_out: Mapping[str, int]
    reason: str | None = None


def arm(pools: Sequence[Labelled]) -> list[Labelled]:
    """Those of the arm that has most of them; arms are never put together."""
    by_arm: dict[tuple[str, ...], list[Labelled]] = {}
    for one in pools:
        by_arm.setdefault(one.pool.key[1:4], []).append(one)
    return max(by_arm.values(), key=len, default=[])


def is_graded(one: Labelled) -> bool:
    """Whether all that could be read has a grade; a question without an answer is not right."""
    pairs = zip(one.pool.samples, one.correct, strict=True)
    return all(label is not None for sample, label in pairs if sample.answer is not None)


def usable(pools: Sequence[Labelled], most: int = BUDGETS[-1]) -> Usable:
    """The arm with most pools, at the greatest of ``BUDGETS`` that half of them hold.

    ``most``: no budget above it.
    """
    none: Counter[str] = Counter()
    theirs = arm(pools)
    none["pools of other arms"] = len(pools) - len(theirs)
    sizes = sorted(len(one.pool.samples) for one in theirs)
    half = sizes[len(sizes) // 2] if sizes else 0
    full = max((b for b in BUDGETS if b <= min(half, most)), default=None)
    if full is None:
        had = f"half of the pools hold fewer than {BUDGETS[0]} samples" if theirs else "no pools"
        return Usable((), None, {}, had)
    kept = tuple(one for one in theirs if len(one.pool.samples) >= full)
    none[f"pools of fewer than {full} samples"] = len(theirs) - len(kept)
    return Usable(kept, full, {why: count for why, count in none.items() if count})


def stored(name: str) -> str:
    """The signal that reads a number stored with a sample under ``name``."""
    return f"stored:{name}"


def ordered(pools: Sequence[Labelled], names: Sequence[str], full: int, seed: int) -> Orders:
    """``ORDERS`` seeded orders of ``full`` samples a question, with the stored ``names``.

    Raises what ``orders`` raises: each of the names has to be with some sample.
    """
    return orders(pools, ORDERS, seed, [stored(name) for name in names], max_samples=full)


@dataclass(frozen=True, slots=True)
class Played:
    """What a rule did, (q,) each, means over orders.

    Shares of orders that ended ``right``, with a ``wrong`` answer, stopped by a confidence
    (``sure``), and both (``sure_wrong``); ``same``: with the answer of the majority of all samples.
    ``samples`` drawn and their completion ``tokens``, nan where not known.
    """

    right: FloatArray
    wrong: FloatArray
    same: FloatArray
    sure: FloatArray
    sure_wrong: FloatArray
    samples: FloatArray
    tokens: FloatArray


def play(held: Orders, stop: StopRule, vote: Vote) -> Played:
    """Play a rule that never draws in vain, and its vote, through every order.

    Raises UsageError where ``held`` lacks a signal they need.
    """
    codes, values = flat(held)
    n = stops(stop, codes, values)
    leader = elected(vote, codes, n, values)
    majority = Majority().elect_all(codes, np.full(len(codes), codes.shape[1]))
    right = grades_of(held, leader) == 1
    wrong = (leader >= 0) & ~right
    last = np.arange(len(n)), n - 1
    sure = np.zeros(len(n), np.bool_)
    if isinstance(stop, Confident):
        sure = (codes[last] >= 0) & (values[stop.confidence][last] >= stop.threshold)
    spent = np.cumsum(held.tokens.reshape(codes.shape), axis=1)[last]

    def means(column: Any) -> FloatArray:
        found: FloatArray = column.reshape(held.shape[:2]).mean(axis=1)
        return found

    return Played(
        right=means(right),
        wrong=means(wrong),
        same=means(leader == majority),
        sure=means(sure),
        sure_wrong=means(sure & wrong),
        samples=means(n.astype(np.float64)),
        tokens=means(spent),
    )


def early(held: Orders, name: str, threshold: float, budget: int) -> Played:
    """Early stopping: the first sample whose confidence ``name`` reaches ``threshold`` answers.

    Where none of ``budget`` does, the sum of confidences decides.
    """
    signal = stored(name)
    return play(held, Confident(threshold, signal, budget), FirstConfident(threshold, signal))


def thresholds(pools: Sequence[Labelled], names: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """A threshold for each confidence in ``names``, and how it was chosen; JSON-ready.

    The least of ``TAUS`` with which early stopping over the full budget is less accurate than
    majority voting over all of it by no more than ``MOST_LOST``, nor than one standard error of the
    paired difference; where none is, the most accurate. Without labels, agreement with that
    majority stands for accuracy. ``reason`` in place of numbers where the pools do not allow it.
    """
    had = usable(pools)
    told: dict[str, Any] = {"left_out": dict(had.left_out)}
    if had.full is None:
        return {**told, "reason": had.reason}
    given = [name for name in names if states(had.pools, name)]
    held = ordered(had.pools, given, had.full, seed)
    labelled = held.gold
    held = held.take(held.graded) if labelled else held
    if held.shape[0] < 2 or not held.read:
        return {**told, "reason": "fewer than two questions have readable answers"}
    vote = play(held, Fixed(had.full), Majority())
    score = vote.right if labelled else vote.same
    return {
        **told,
        "questions": held.shape[0],
        "samples": had.full,
        "orders": ORDERS,
        "by": "labels" if labelled else "agreement with the majority of all samples",
        "vote": float(score.mean()),
        "of": {name: _chosen(held, name, had.full, score, labelled=labelled) for name in given},
    }


def states(pools: Sequence[Labelled], name: str) -> bool:
    """Whether any sample has a number stored under ``name``."""
    return any(s.signals.get(name) is not None for one in pools for s in one.pool.samples)


def _chosen(
    held: Orders, name: str, full: int, vote: FloatArray, *, labelled: bool
) -> dict[str, Any]:
    rows = []
    for tau in TAUS:
        played = early(held, name, tau, full)
        score = played.right if labelled else played.same
        gap = score - vote
        noise = float(gap.std(ddof=1)) / math.sqrt(len(gap))
        rows.append((tau, float(played.samples.mean()), float(score.mean()), noise))
    goal = float(vote.mean())
    enough = [row for row in rows if row[2] >= goal - min(row[3], MOST_LOST) - 1e-12]
    if enough:
        row = enough[0]
        why = (
            f"the least that loses at most {MOST_LOST:g} and one standard error against majority"
            f" voting over all {full} samples"
        )
    else:
        row = max(rows, key=lambda each: (each[2], -each[1]))
        why = (
            f"all lose more than {MOST_LOST:g} or one standard error against majority voting over"
            f" all {full} samples; this one least"
        )
    tau, samples, score_there, noise = row
    return {
        "threshold": tau,
        "samples": samples,
        "score": score_there,
        "standard_error": noise,
        "why": why,
    }


def joined(
    pools: Sequence[Labelled], columns: Mapping[str, Sequence[Sequence[float | None]]]
) -> list[Labelled]:
    """The pools with further numbers stored with their samples, one a sample of each pool."""
    found = []
    for place, one in enumerate(pools):
        samples = tuple(
            replace(
                sample,
                signals={
                    **sample.signals,
                    **{name: column[place][sample.index] for name, column in columns.items()},
                },
            )
            for sample in one.pool.samples
        )
        found.append(replace(one, pool=replace(one.pool, samples=samples)))
    return found
