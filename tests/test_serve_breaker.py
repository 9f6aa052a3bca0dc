"""A breaker opens after failures in a row, lets one trial through, and hears no old news."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.errors import (
    BackendError,
    Exhausted,
    MalformedReply,
    ModelMissing,
    RateLimited,
    Rejected,
    ServerFault,
    StreamCut,
    TimedOut,
    Unauthorized,
    Unavailable,
    UsageError,
)
from poise.serve.breaker import Breaker, Condition

COUNTED = [
    *(Unavailable, ServerFault, TimedOut, StreamCut, MalformedReply, Unauthorized, ModelMissing),
]
UNCOUNTED: list[BaseException] = [
    *(Rejected("no such field"), Exhausted("none left"), asyncio.CancelledError(), TypeError("x")),
]
FAILED = ServerFault("down")


@dataclass
class Clock:
    """Seconds that pass when told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def made(failures: int = 3, cool_down: float = 10.0) -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(failures, cool_down, clock), clock


def call(breaker: Breaker, error: BaseException | None = None) -> bool:
    """One call that ends by ``error``; whether it was let through."""
    ticket = breaker.admit()
    if ticket is not None:
        breaker.hear(ticket, error)
    return ticket is not None


def opened() -> tuple[Breaker, Clock]:
    breaker, clock = made()
    for _ in range(3):
        assert call(breaker, FAILED)
    return breaker, clock


# -- closed and open ----------------------------------------------------------------------------


@pytest.mark.parametrize("error", COUNTED)
def test_failures_in_a_row_open_it(error: type[BackendError]) -> None:
    breaker, _ = made()
    for _ in range(3):
        assert breaker.state is Condition.CLOSED
        assert call(breaker, error("it failed"))
    assert breaker.state is Condition.OPEN
    assert breaker.failures == 3
    assert not call(breaker)


@pytest.mark.parametrize("error", UNCOUNTED, ids=repr)
def test_what_says_nothing_about_the_server_does_not_count(error: BaseException) -> None:
    breaker, _ = made(failures=2)
    call(breaker, FAILED)
    for _ in range(5):
        call(breaker, error)
    assert (breaker.state, breaker.failures) == (Condition.CLOSED, 1)
    call(breaker, FAILED)
    assert breaker.state is Condition.OPEN  # the row was not broken either


def test_a_success_breaks_the_row() -> None:
    breaker, _ = made()
    for _ in range(4):
        call(breaker, FAILED)
        call(breaker, FAILED)
        call(breaker)
    assert (breaker.state, breaker.failures) == (Condition.CLOSED, 0)


def test_while_open_it_says_how_long_to_wait() -> None:
    breaker, clock = opened()
    clock.now += 4.0
    assert breaker.wait == pytest.approx(6.0)
    assert breaker.age == pytest.approx(4.0)
    assert breaker.admit() is None


# -- half-open ----------------------------------------------------------------------------------


def test_after_the_cool_down_one_trial_is_let_through_at_a_time() -> None:
    breaker, clock = opened()
    clock.now += 12.0
    assert (breaker.state, breaker.wait) == (Condition.HALF_OPEN, 0)
    assert breaker.age == pytest.approx(2.0)
    ticket = breaker.admit()
    assert ticket is not None
    assert breaker.trying
    assert breaker.wait > 0
    assert [breaker.admit() for _ in range(3)] == [None] * 3
    breaker.hear(ticket, None)
    assert (breaker.state, breaker.failures, breaker.wait) == (Condition.CLOSED, 0, 0)
    assert breaker.age == 0


def test_a_trial_that_fails_opens_it_for_a_whole_cool_down() -> None:
    breaker, clock = opened()
    clock.now += 12.0
    assert call(breaker, FAILED)
    assert (breaker.state, breaker.failures) == (Condition.OPEN, 4)
    assert breaker.wait == pytest.approx(10.0)


@pytest.mark.parametrize("error", UNCOUNTED, ids=repr)
def test_a_trial_that_says_nothing_makes_room_for_another(error: BaseException) -> None:
    breaker, clock = opened()
    clock.now += 10.0
    assert call(breaker, error)
    assert (breaker.state, breaker.trying) == (Condition.HALF_OPEN, False)
    assert call(breaker)
    assert breaker.state is Condition.CLOSED


def test_calls_of_an_earlier_state_are_not_heard() -> None:
    breaker, clock = made()
    late = [breaker.admit() for _ in range(6)]
    for ticket in late[:3]:
        assert ticket is not None
        breaker.hear(ticket, FAILED)
    breaker.hear(late[3] or 0, None)  # succeeds after the others failed
    assert breaker.state is Condition.OPEN
    clock.now += 10.0
    trial = breaker.admit()
    assert trial is not None
    breaker.hear(late[4] or 0, FAILED)
    assert breaker.trying  # nor does it end the trial
    breaker.hear(trial, None)
    breaker.hear(late[5] or 0, FAILED)
    assert (breaker.state, breaker.failures) == (Condition.CLOSED, 0)


# -- rate limits --------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "waited"), [(7.0, 7.0), (None, 1.0), (3600.0, 60.0)])
def test_a_rate_limit_keeps_calls_away_without_opening(said: float | None, waited: float) -> None:
    breaker, clock = made(failures=1)
    assert call(breaker, RateLimited("slow down", retry_after=said))
    assert (breaker.state, breaker.failures, breaker.busy) == (Condition.CLOSED, 0, True)
    assert breaker.wait == pytest.approx(waited)
    assert not call(breaker)
    clock.now += waited
    assert not breaker.busy
    assert call(breaker)


def test_a_rate_limited_trial_is_made_again_when_the_limit_is_over() -> None:
    breaker, clock = opened()
    clock.now += 10.0
    assert call(breaker, RateLimited("slow down", retry_after=3.0))
    assert (breaker.state, breaker.busy) == (Condition.HALF_OPEN, True)
    assert not call(breaker)
    clock.now += 3.0
    assert call(breaker)
    assert breaker.state is Condition.CLOSED


def test_a_limit_heard_of_late_does_not_make_an_open_breaker_merely_busy() -> None:
    breaker, clock = made()
    late = [breaker.admit() for _ in range(5)]
    for ticket in late[:3]:
        breaker.hear(ticket or 0, FAILED)
    breaker.hear(late[3] or 0, RateLimited("slow down", retry_after=15.0))
    assert (breaker.busy, breaker.state) == (False, Condition.OPEN)
    assert breaker.wait == pytest.approx(15.0)
    clock.now += 15.0
    assert breaker.admit() is not None
    breaker.hear(late[4] or 0, RateLimited("slow down", retry_after=15.0))
    assert (breaker.busy, breaker.trying) == (False, True)


# -- checks -------------------------------------------------------------------------------------


def test_a_check_that_succeeds_ends_the_cool_down_early_and_closes_nothing() -> None:
    breaker, clock = opened()
    clock.now += 1.0
    breaker.check(well=True)
    assert (breaker.state, breaker.wait) == (Condition.HALF_OPEN, 0)
    assert breaker.age == 0


def test_two_checks_that_fail_in_a_row_open_it() -> None:
    breaker, _ = made()
    breaker.check(well=False)
    breaker.check(well=True)
    breaker.check(well=False)
    call(breaker)  # an answered call is as good as a check
    breaker.check(well=False)
    assert breaker.state is Condition.CLOSED
    breaker.check(well=False)
    assert breaker.state is Condition.OPEN
    assert breaker.wait == pytest.approx(10.0)


def test_a_check_that_fails_spares_the_next_caller_the_trial() -> None:
    breaker, clock = opened()
    clock.now += 15.0
    breaker.check(well=False)
    assert breaker.state is Condition.OPEN
    assert breaker.wait == pytest.approx(10.0)


@pytest.mark.parametrize("well", [True, False])
def test_no_check_speaks_over_a_trial(well: bool) -> None:
    breaker, clock = opened()
    clock.now += 10.0
    trial = breaker.admit()
    breaker.check(well=well)
    breaker.check(well=well)
    assert breaker.admit() is None
    assert trial is not None
    breaker.hear(trial, None)
    assert breaker.state is Condition.CLOSED


# -- always -------------------------------------------------------------------------------------

ENDS: list[BaseException | None] = [
    *(None, FAILED, FAILED, Rejected("no"), RateLimited("slow", retry_after=2.0)),
]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.just(0)),
        st.tuples(st.just("hear"), st.integers(0, len(ENDS) - 1)),
        st.tuples(st.just("pass"), st.integers(1, 7)),
        st.tuples(st.just("check"), st.integers(0, 1)),
    ),
    max_size=60,
)


@given(STEPS)
def test_never_two_trials_and_never_a_call_into_an_open_breaker(
    steps: list[tuple[str, int]],
) -> None:
    breaker, clock = made(failures=2)
    tickets: list[tuple[int, bool]] = []
    for what, value in steps:
        if what == "admit":
            wait, state = breaker.wait, breaker.state
            ticket = breaker.admit()
            assert (ticket is not None) == (wait == 0)
            if ticket is not None:
                assert state is not Condition.OPEN
                tickets.append((ticket, state is Condition.HALF_OPEN))
        elif what == "hear" and tickets:
            ticket, _ = tickets.pop(value % len(tickets))
            breaker.hear(ticket, ENDS[value])
        elif what == "pass":
            clock.now += value
        elif what == "check":
            breaker.check(well=bool(value))
        trials = sum(trial for _, trial in tickets)
        assert trials == breaker.trying
        assert breaker.wait >= 0


@pytest.mark.parametrize(("failures", "cool_down"), [(0, 1.0), (1, 0.0), (1, float("inf"))])
def test_bounds_that_make_no_sense_are_refused(failures: int, cool_down: float) -> None:
    with pytest.raises(UsageError, match="breaker wants"):
        Breaker(failures, cool_down)
