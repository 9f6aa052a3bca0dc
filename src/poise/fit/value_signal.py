"""Learning what one more sample is worth where samples carry a signal.

A logistic regression of right on the confidence of single samples says what a sample weighs: its
odds. The process is then counted over (n, bucket of the leader's weight, of the runner-up's), few
enough for the pools to fill; a thin bucket leans on all of its layer. ``docs/value.md`` says why.

It does not know prices, or how the orders were made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poise.calibrators import Platt
from poise.columns import confidences
from poise.errors import InputError
from poise.policies import IntArray
from poise.policies.value_evidence import COLDEST, HOTTEST, Evidence
from poise.policies.value_process import Process

__all__ = ["RIVALS", "WEIGHTS", "leader_right", "learn_signal"]

FloatArray = npt.NDArray[np.float64]

WEIGHTS, RIVALS = 4, 2
"""Buckets of the leader's weight and of the runner-up's, each of equally many prefixes."""

KEPT = 5.0
"""Questions seen in a bucket that weigh as much as all others of its layer."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """``chance`` (q, q) of the next bucket, from each."""

    chance: FloatArray

    def expected(self, following: FloatArray) -> FloatArray:
        """(q,) mean of ``following`` one sample on."""
        mean: FloatArray = self.chance @ following
        return mean

    def soonest(self, following: IntArray) -> IntArray:
        """(q,) a sample may lead anywhere."""
        least: IntArray = np.full(len(following), following.min())
        return least


def learn_signal(
    codes: IntArray, right: IntArray | None, values: FloatArray, signal: str
) -> tuple[Process, Evidence]:
    """The process, and how its buckets are read; arrays as ``learn`` takes them, checked there.

    Without ``right`` the payoff is to agree with the winner by all samples, and a sample counts as
    right where the majority of all gave it. Raises UsageError for a signal that is no confidence;
    InputError where no sample has a value or a leader has no grade.
    """
    _, orders, size = codes.shape
    rows, read = codes.reshape(-1, size).astype(np.int64), values.reshape(-1, size)
    bare = Evidence(signal, _temperature(codes, right, values, signal))
    passed = bare.weighed(rows, read)
    there = passed.leader >= 0
    evidence = Evidence(
        signal,
        bare.temperature,
        _edges(passed.weight[there], WEIGHTS),
        _edges(passed.rival[there], RIVALS),
    )
    bucket, q = evidence.bucketed(passed), evidence.buckets
    if right is None:
        payoff = (passed.leader == passed.leader[:, -1:]).astype(np.float64)
    else:
        payoff = leader_right(right.reshape(-1, size), passed.leader)
    gain = payoff[:, -1:] - payoff
    loss, worth = [np.zeros(q)], [np.full(q, payoff[:, 0].mean())]
    for n in range(size):
        loss.append(_means(bucket[:, n], gain[:, n], q, orders))
        worth.append(_means(bucket[:, n], payoff[:, n], q, orders))
    loss[-1] = np.zeros(q)
    before = np.concatenate([np.zeros((len(rows), 1), np.int64), bucket[:, :-1]], axis=1)
    steps = tuple(_Counted(_chances(before[:, n], bucket[:, n], q, orders)) for n in range(size))
    return Process(steps, tuple(loss), tuple(worth)), evidence


def leader_right(right: IntArray, leader: IntArray) -> FloatArray:
    """(m, N) whether the leader is right, 0 where none leads. Raises InputError without a grade."""
    graded = np.take_along_axis(right, np.maximum(leader, 0), axis=1)
    if (graded[leader >= 0] < 0).any():
        raise InputError("some answers have no grade; leave their questions out to learn right")
    found: FloatArray = np.where(leader >= 0, graded, 0).astype(np.float64)
    return found


def _temperature(codes: IntArray, right: IntArray | None, values: FloatArray, signal: str) -> float:
    """At which exp(c / T) is proportional to the odds that a sample is right."""
    # Every order holds the same samples.
    codes, values = codes[:, 0], values[:, 0]
    there = (codes >= 0) & np.isfinite(values)
    if not there.any():
        raise InputError(f"{signal} has no value at any sample that could be read")
    if right is None:
        votes = (codes[:, :, None] == np.arange(codes.max() + 1)).sum(axis=1)
        target = codes == votes.argmax(axis=1)[:, None]
    else:
        target = np.take_along_axis(right[:, 0], np.maximum(codes, 0), axis=1) == 1
    told, y = confidences(signal, values)[there], target[there].astype(np.float64)
    # Where all samples are right, or none, nothing says that one should weigh more.
    slope = float(Platt(scale="real").fit(told, y).slope_[0]) if np.ptp(y) else 0.0
    return min(max(1 / slope, COLDEST), HOTTEST) if slope > 0 else HOTTEST


def _edges(values: FloatArray, buckets: int) -> tuple[float, ...]:
    inner = np.unique(np.quantile(values, np.arange(1, buckets) / buckets))
    return tuple(inner.tolist())


def _means(bucket: IntArray, of: FloatArray, q: int, orders: int) -> FloatArray:
    """(q,) means of ``of`` (m,), leaning on that of all."""
    total = np.bincount(bucket, of, q) / orders
    there = np.bincount(bucket, minlength=q) / orders
    found: FloatArray = (total + KEPT * of.mean()) / (there + KEPT)
    return found


def _chances(source: IntArray, target: IntArray, q: int, orders: int) -> FloatArray:
    """(q, q) chances of ``target`` (m,) from ``source`` (m,), leaning on those from anywhere."""
    moved = np.bincount(source * q + target, minlength=q * q).reshape(q, q) / orders
    anywhere = moved.sum(axis=0) / moved.sum()
    found: FloatArray = (moved + KEPT * anywhere) / (moved.sum(axis=1, keepdims=True) + KEPT)
    return found
