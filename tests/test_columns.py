"""Signals as columns beside the answers: how they read as confidences, and the prefix's own."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.columns import LOGS, UNBOUNDED, confidences, log_odds, named, reading
from poise.dispatch import Arrival
from poise.errors import TimedOut, UsageError
from poise.prefix import Prefix
from poise.signals import SIGNALS
from poise.spend import Spend
from poise.types import FollowUp, Kind, Question, Reply, TokenLogprobs

ASKED = Question.ask("What is 2 + 2?", Kind.NUMBER, id="q")


def test_every_signal_of_samples_is_told_apart_by_its_declared_range():
    """A new signal has to be put where it belongs: rules and votes cannot see its range."""
    of_samples = {name: one.range for name, one in SIGNALS.items() if one.level == "sample"}
    assert {name for name, (_, high) in of_samples.items() if high == 0} == LOGS
    inside = {name for name, (low, high) in of_samples.items() if low >= 0 and high <= 1}
    assert of_samples.keys() - inside - LOGS == UNBOUNDED


@given(st.lists(st.floats(-800, 0), min_size=1, max_size=40))
def test_logarithms_read_through_exp_with_the_same_bits_alone_and_among_others(values):
    together = reading("logprob", np.array(values))
    apart = [reading("logprob", np.array([value]))[0] for value in values]
    assert together.tolist() == apart
    assert together == pytest.approx([math.exp(value) for value in values], 1e-12, 1e-300)
    assert (reading("p_true", np.array(values)) == np.array(values)).all()


def test_what_is_missing_stays_missing():
    assert np.isnan(confidences("logprob", np.array([np.nan, -1.0]))).tolist() == [True, False]
    assert np.isnan(log_odds("p_true", np.array([np.nan, 0.5]))).tolist() == [True, False]


@pytest.mark.parametrize(("name", "value"), [("p_true", -0.01), ("stored:x", 3), ("logprob", 0.1)])
def test_what_is_no_confidence_is_refused_by_name(name, value):
    with pytest.raises(UsageError, match=f"{name} is .* no confidence"):
        confidences(name, np.array([0.0, value]))


@given(st.floats(0, 1))
def test_log_odds_stay_finite_and_keep_the_order(share):
    low, high = log_odds("p_true", np.array([share / 2, share]))
    assert math.isfinite(low)
    assert math.isfinite(high)
    assert low <= high


def test_an_unbounded_signal_may_rank_and_never_weigh():
    assert named("top_margin", bounded=False) == "top_margin"
    with pytest.raises(UsageError, match="weigh by a signal in"):
        named("top_margin", bounded=True)


# -- the prefix ------------------------------------------------------------------------------------


def reply(text, *chosen, **stored):
    logprobs = TokenLogprobs(tuple("x" * len(chosen)), chosen) if chosen else None
    return Reply(text=text, logprobs=logprobs, signals=stored)


def grown(prefix, *replies):
    """``prefix`` after these replies; None: a call that failed for good."""
    error = TimedOut("no reply")
    prefix.arrive(
        [Arrival(i, one, None if one else error) for i, one in reversed(list(enumerate(replies)))]
    )

    async def take():
        while await prefix.advance():
            pass

    asyncio.run(take())
    return prefix.state(Spend(), None)


def test_a_prefix_shows_what_is_needed_of_each_sample_in_dispatch_order():
    prefix = Prefix(ASKED, in_order=True, needs=("logprob", "stored:sure"))
    state = grown(
        prefix, reply("4", -0.5, -0.25, sure=0.25), reply("?", -1.0), None, reply("5", sure=0.5)
    )
    assert state.columns == {"logprob": (-0.375, -1.0, None), "stored:sure": (0.25, None, 0.5)}
    assert state.clusters == (0, None, 1)


def test_without_needs_a_prefix_shows_no_columns():
    assert grown(Prefix(ASKED, in_order=True), reply("4", -0.5)).columns == {}
    assert grown(Prefix(ASKED, in_order=True, needs=("logprob",))).columns == {"logprob": ()}


def test_a_follow_up_that_came_later_is_read_at_its_place():
    prefix = Prefix(ASKED, in_order=True, needs=("stated",))
    state = grown(prefix, reply("4"), reply("5"))
    assert state.columns == {"stated": (None, None)}
    from dataclasses import replace

    said = {"stated": FollowUp("85%", extra={"version": 1})}
    prefix.note([1], [replace(prefix.samples[1], followups=said)], {}, {})
    assert prefix.state(Spend(), None).columns == {"stated": (None, 0.85)}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("agreement", "agreement is a signal of the pool"),
        ("stated_band", "stated_band is a signal of the question"),
        ("leader_logprob", "leader_logprob is a signal of the pool"),
        ("logprobb", "there is no signal 'logprobb'"),
    ],
)
def test_only_signals_of_single_samples_can_be_needed(name, said):
    with pytest.raises(UsageError, match=said):
        Prefix(ASKED, in_order=True, needs=(name,))
