"""Policies side by side on the same orders: accuracy and spend, against voting at equal spend.

Every number is a mean over orders and then over questions; intervals resample questions, with all
policies on the same draws. It does not know files, commands or pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from poise.errors import InputError
from poise.metrics import Estimate
from poise.policies import Policy
from poise.replay.following import Followed, flat, follow, stops
from poise.replay.frontier import Comparison, Frontier, Point, Replay
from poise.replay.orders import FloatArray, Orders
from poise.replay.resampling import Resamples
from poise.replay.rounds import drawn_by
from poise.replay.sweeping import Sweep
from poise.replay.walking import Walk, walk
from poise.votes import Majority, Vote

__all__ = ["NET", "compare"]

NET = 0.002
"""Accuracy that a tuned threshold may lose on balance against majority voting over all samples."""

NO_GOLD = "no question is graded: samples carry no correct"
NO_TOKENS = "samples do not all state their tokens"
NO_SECONDS = "samples do not all state their seconds"
ASKED = "pools do not say how long a follow-up takes"
NO_PROMPT = "the pools leave questions' texts out"


@dataclass(frozen=True, slots=True)
class _Means:
    """Each policy's means over orders, (q, k); ``right`` None without gold.

    ``samples`` and ``tokens`` of all that was drawn, ``right`` and ``same`` at the stop.
    """

    samples: FloatArray
    right: FloatArray | None
    same: FloatArray
    tokens: FloatArray

    @property
    def score(self) -> FloatArray:
        """What policies are judged by: being right, or else agreeing with the majority of all N."""
        return self.same if self.right is None else self.right


def compare(
    orders: Orders,
    sweeps: Sequence[Sweep],
    vote: Vote = Majority(),
    *,
    tuning: Orders | None = None,
    net: float = NET,
    replicates: int = 1000,
    seed: int = 0,
) -> Replay:
    """Every sweep's frontier on ``orders``, and one policy of each against the baselines.

    Of a sweep of several the one is chosen on ``tuning``, other questions: the fewest samples that
    lose no more than ``net`` accuracy on balance (agreement, without gold) against majority voting
    over all N; without ``tuning`` none is chosen. Where some questions are graded the others are
    left out. Raises InputError where nothing is left, UsageError as ``follow``.
    """
    left_out = int((~orders.graded).sum()) if orders.gold else 0
    orders = orders.take(orders.graded) if left_out else orders
    if tuning is not None and tuning.gold:
        tuning = tuning.take(tuning.graded)
    if not orders.shape[0] or (tuning is not None and not tuning.shape[0]):
        raise InputError("no question is left to compare on: replay more, or change --split")
    if not orders.read:
        raise InputError("no sample holds a readable answer: there is nothing to compare")
    base = walk(orders)
    led = base if isinstance(vote, Majority) else walk(orders, vote)
    draws = Resamples(orders.shape[0], replicates, seed)
    fixed = _fixed(orders, base)
    every = fixed.score[:, -1]
    frontiers, comparisons = [], []
    for one in sweeps:
        chosen, why = _choose(one, vote, tuning, net)
        points = _points(one, _means(orders, one.policies, led), every, draws)
        frontiers.append(Frontier(one.name, one.parameter, points, chosen, why))
        if chosen is not None:
            followed = follow(orders, one.policies[chosen], vote)
            comparisons.append(_comparison(one.labels[chosen], orders, followed, fixed, draws))
    n = orders.shape[2]
    baselines = Sweep("fixed", "max_samples", tuple(range(1, n + 1)), (), _fixed_labels(n))
    return Replay(
        questions=orders.shape[0],
        tuning_questions=0 if tuning is None else tuning.shape[0],
        left_out=left_out,
        orders=orders.shape[1],
        max_samples=n,
        gold=orders.gold,
        net=net,
        fixed=_points(baselines, fixed, every, draws),
        oracle=_oracle(led, orders, every, draws),
        frontiers=tuple(frontiers),
        comparisons=tuple(comparisons),
    )


# -- means over orders ----------------------------------------------------------------------------


def _means(orders: Orders, policies: Sequence[Policy], led: Walk) -> _Means:
    q, o, _ = orders.shape
    codes, values = flat(orders)
    samples, right, same, tokens = [], [], [], []
    for policy in policies:
        n = stops(policy.stop, codes, values)
        drawn = drawn_by(policy.stop, codes, n, values, orders).reshape(q, o)
        stop = n.reshape(q, o)
        samples.append(drawn.mean(axis=1))
        right.append(_after(led.right, stop))
        same.append(_after(led.same, stop))
        tokens.append(_after(led.tokens, drawn))
    return _Means(
        np.stack(samples, axis=1),
        np.stack(right, axis=1) if orders.gold else None,
        np.stack(same, axis=1),
        np.stack(tokens, axis=1),
    )


def _after(column: npt.NDArray[Any], n: npt.NDArray[np.int64]) -> FloatArray:
    """Mean over orders, (q,), of ``column`` (q, o, N) after ``n`` (q, o) samples."""
    found: FloatArray = np.take_along_axis(column, (n - 1)[..., None], 2)[..., 0].mean(axis=1)
    return found


def _fixed(orders: Orders, base: Walk) -> _Means:
    """Majority voting over the first 1..N samples."""
    q, _, n = orders.shape
    return _Means(
        np.broadcast_to(np.arange(1.0, n + 1), (q, n)),
        base.right.mean(axis=1) if orders.gold else None,
        base.same.mean(axis=1),
        base.tokens.mean(axis=1),
    )


def _fixed_labels(n: int) -> tuple[str, ...]:
    return tuple(f"fixed:n={k}" for k in range(1, n + 1))


def _choose(
    one: Sweep, vote: Vote, tuning: Orders | None, net: float
) -> tuple[int | None, str | None]:
    """Which policy of a sweep to compare, and in words why."""
    if len(one.policies) == 1:
        return 0, None
    if tuning is None:
        return None, "no questions were set aside to tune on"
    base = walk(tuning)
    led = base if isinstance(vote, Majority) else walk(tuning, vote)
    means = _means(tuning, one.policies, led)
    score, samples = means.score.mean(axis=0), means.samples.mean(axis=0)
    what = "accuracy" if tuning.gold else "agreement with the majority of all samples"
    goal = _fixed(tuning, base).score[:, -1].mean() - net
    enough = score >= goal - 1e-12
    if enough.any():
        best = int(np.lexsort((-score, np.where(enough, samples, np.inf)))[0])
        return best, f"fewest samples that lose at most {net:g} {what} on the tuning questions"
    best = int(np.lexsort((samples, -score))[0])
    return best, f"all lose more than {net:g} {what} on the tuning questions; this one least"


# -- numbers with intervals -----------------------------------------------------------------------


def _points(one: Sweep, means: _Means, every: FloatArray, draws: Resamples) -> tuple[Point, ...]:
    """One point a policy; ``every`` (q,) is the score of majority voting over all N."""
    return tuple(
        Point(
            policy=label,
            setting=setting,
            samples=draws.mean(means.samples[:, k]),
            accuracy=_accuracy(None if means.right is None else means.right[:, k], draws),
            agreement=draws.mean(means.same[:, k]),
            score_to_majority=draws.mean(means.score[:, k] - every),
            tokens=_known(means.tokens[:, k], draws, NO_TOKENS),
        )
        for k, (label, setting) in enumerate(zip(one.labels, one.settings, strict=True))
    )


def _oracle(led: Walk, orders: Orders, every: FloatArray, draws: Resamples) -> Point:
    right, same, tokens = (
        _after(column, led.settled) for column in (led.right, led.same, led.tokens)
    )
    return Point(
        policy="oracle stop",
        setting=None,
        samples=draws.mean(led.settled.mean(axis=1)),
        accuracy=_accuracy(right if orders.gold else None, draws),
        agreement=draws.mean(same),
        score_to_majority=draws.mean((right if orders.gold else same) - every),
        tokens=_known(tokens, draws, NO_TOKENS),
    )


def _comparison(
    label: str, orders: Orders, followed: Followed, fixed: _Means, draws: Resamples
) -> Comparison:
    n = orders.shape[2]
    answered = ~followed.abstained
    right = (followed.right * answered).mean(axis=1)
    # Where no sample can be read, saying nothing is what the majority of all says too.
    silent = followed.abstained & (followed.leader >= 0)
    same = (followed.same_as_majority & ~silent).mean(axis=1)
    score = right if orders.gold else same
    samples = followed.samples.mean(axis=1)
    both = draws.means(np.column_stack([score, samples, fixed.score]))
    mean = np.column_stack([score, samples, fixed.score]).mean(axis=0)[None]
    against_all, against_equal = (
        draws.estimate(float(of(mean)[0]), of(both)) for of in (_to_majority, _to_matched)
    )
    follow_ups = bool(followed.followups.any())
    ratio = draws.estimate(float(mean[0, 1]) / n, both[:, 1] / n)
    latency = followed.latency
    timed = not np.isnan(latency).any()
    ends = np.quantile(latency, [0.5, 0.99]).tolist() if timed else (None, None)
    why = None if timed else ASKED if follow_ups else NO_SECONDS
    return Comparison(
        policy=label,
        samples=draws.mean(samples),
        accuracy=_accuracy(right if orders.gold else None, draws),
        agreement=draws.mean(same),
        answered=draws.mean(answered.mean(axis=1)),
        score_to_majority=against_all,
        score_to_fixed=against_equal,
        samples_to_majority=ratio,
        tokens=_known(followed.tokens.mean(axis=1), draws, NO_TOKENS),
        prompt_tokens=_known(followed.prompt.mean(axis=1), draws, NO_PROMPT),
        rounds=draws.mean(followed.rounds.mean(axis=1)),
        followups=draws.mean(followed.followups.mean(axis=1)),
        latency_p50=Estimate(ends[0], reason=why),
        latency_p99=Estimate(ends[1], reason=why),
    )


def _to_majority(means: FloatArray) -> FloatArray:
    """Score less that of voting over all N; columns score, samples, fixed 1..N."""
    return means[:, 0] - means[:, -1]


def _to_matched(means: FloatArray) -> FloatArray:
    """Score less that of voting at the same mean spend: a mixture of the two whole numbers by it.

    Tossing for each question which of the two to draw has exactly that mean and that score.
    """
    fixed = means[:, 2:]
    spent = np.clip(means[:, 1], 1, fixed.shape[1])
    low = np.floor(spent).astype(np.int64)
    high = np.minimum(low + 1, fixed.shape[1])
    rows: npt.NDArray[np.int64] = np.arange(len(means))
    share = spent - low
    matched = (1 - share) * fixed[rows, low - 1] + share * fixed[rows, high - 1]
    difference: FloatArray = means[:, 0] - matched
    return difference


def _accuracy(right: FloatArray | None, draws: Resamples) -> Estimate:
    return Estimate(None, reason=NO_GOLD) if right is None else draws.mean(right)


def _known(column: FloatArray, draws: Resamples, why: str) -> Estimate:
    return Estimate(None, reason=why) if np.isnan(column).any() else draws.mean(column)
