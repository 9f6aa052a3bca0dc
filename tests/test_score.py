"""Stored pools scored: the same numbers as sampling gives, without drawing anything."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from poise.backends import Stored
from poise.errors import UsageError
from poise.fit import fit
from poise.policies import Beta, Fixed, Policy
from poise.pools import Labelled
from poise.profile import Profile
from poise.score import score
from poise.signals import SIGNALS
from poise.solve import Setting, solve
from poise.types import Arm, StopReason
from two_worlds import pools

POLICY = Policy(Beta(0.95, 8))


@cache
def made() -> Profile:
    return fit(pools(300, 8, 1), POLICY)


class Urn(Stored):
    """The arm that the simulated pools were drawn from."""

    engine = "simulated"


def test_a_pool_is_scored_as_solving_it_scores_it() -> None:
    fresh = [one.pool for one in pools(60, 8, 2)]
    arm = Arm(Urn(fresh), {"temperature": 1})
    profile = replace(made(), arm={**made().arm, "prompt_hash": arm.prompt.hash(made().kind)})
    seen = set()
    for pool in fresh:
        assert pool.question is not None
        live = asyncio.run(solve(pool.question, arm, POLICY, Setting(profile=profile)))
        own = replace(pool, prompt_hash=profile.arm["prompt_hash"])
        stored = score(own, profile=profile)
        assert stored.n == live.n_samples
        assert (stored.answer, stored.stop) == (live.answer, live.stop)
        assert stored.stated.probability == live.probability
        assert stored.stated.interval == live.interval
        assert dict(stored.stated.signals) == dict(live.signals)
        assert dict(stored.votes) == dict(live.votes)
        assert stored.stated.capability == live.capability
        seen.add(stored.n)
    assert len(seen) > 2


def test_labels_change_nothing() -> None:
    one = pools(1, 8, 3)[0]
    flipped = Labelled(one.pool, "9", tuple(1 - (c or 0) for c in one.correct))
    assert score(one.pool, profile=made()) == score(flipped.pool, profile=made())


def test_without_a_profile_every_sample_counts_and_nothing_is_claimed() -> None:
    pool = pools(1, 8, 3)[0].pool
    scored = score(pool)
    assert (scored.n, scored.stop) == (8, None)
    assert scored.stated.probability is None
    assert scored.to_dict()["calibrated"] is False
    share = max(scored.votes.values()) / 8
    assert scored.stated.signals["agreement"] == pytest.approx(share)
    assert "leader_p_true" not in scored.stated.signals


def test_named_signals_come_with_the_reason_where_they_are_missing() -> None:
    pool = pools(1, 8, 3, logprobs=False)[0].pool
    scored = score(pool, ["agreement", "leader_logprob", "logprob"])
    assert scored.stated.signals["leader_logprob"] is None
    assert "log-probabilities" in scored.stated.missing["leader_logprob"]
    assert scored.to_dict()["samples"] == [{"signals": {"logprob": None}}] * 8
    with pytest.raises(UsageError, match="no signal 'nothing'"):
        score(pool, ["nothing"])


def test_a_pool_shorter_than_the_policy_wants_gets_no_probability() -> None:
    whole = next(one.pool for one in pools(60, 8, 4) if score(one.pool, profile=made()).n == 8)
    short = replace(whole, samples=whole.samples[:5])
    scored = score(short, profile=made())
    assert scored.stated.probability is None
    assert "wants more than the 5 samples" in (scored.stated.reason or "")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"engine": "another"}, "another arm: engine"),
        ({"decoding": {"temperature": 0.2}}, "another arm: decoding"),
        ({"messages": None}, "leaves its question out"),
    ],
)
def test_a_pool_of_another_arm_or_without_its_question_gets_none(
    change: dict[str, object], word: str
) -> None:
    pool = replace(pools(1, 8, 3)[0].pool, **change)  # type: ignore[arg-type]
    scored = score(pool, profile=made())
    assert scored.stated.probability is None
    assert word in (scored.stated.reason or "")
    assert scored.profile is None


def test_unreadable_samples_are_drawn_and_no_votes() -> None:
    pool = pools(1, 4, 3)[0].pool
    blank = tuple(replace(sample, answer=None, unread="?") for sample in pool.samples)
    scored = score(replace(pool, samples=blank))
    assert (scored.answer, scored.votes, scored.n) == (None, {}, 4)
    assert scored.to_dict()["decision"] == "abstain"


def test_the_scores_of_fresh_pools_are_calibrated() -> None:
    """Exact to sampling: 2,000 fresh questions against the mean stated probability."""
    fresh = pools(2000, 8, 7)
    stated, right = [], []
    for one in fresh:
        found = score(one.pool, profile=made())
        if found.stated.probability is not None and found.place is not None:
            stated.append(found.stated.probability)
            right.append(one.correct[found.place])
    gap = np.mean(stated) - np.mean(np.array(right, float))
    assert abs(gap) < 0.05
    shuffled = random.Random(0).sample(right, len(right))
    brier = [
        float(np.mean((np.array(stated) - np.array(y, float)) ** 2)) for y in (right, shuffled)
    ]
    assert brier[0] < brier[1] - 0.05


def test_a_profile_of_single_samples_reads_no_votes() -> None:
    single = Policy(Fixed(1))
    profile = fit(pools(300, 4, 1), single)
    assert profile.signals == ("leader_logprob",)
    scored = score(pools(1, 4, 5)[0].pool, profile=profile)
    assert (scored.n, scored.stop) == (1, StopReason.SINGLE)
    assert scored.stated.probability is not None
    assert scored.stated.used == ("leader_logprob",)


def test_every_signal_of_a_pool_can_be_named() -> None:
    pool = pools(1, 4, 3)[0].pool
    names = [name for name, one in SIGNALS.items() if one.level != "sample"]
    scored = score(pool, names)
    assert set(scored.stated.signals) == set(names)
    absent = {name for name, value in scored.stated.signals.items() if value is None}
    assert absent == set(scored.stated.missing)
