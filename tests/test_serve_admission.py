"""Admission: never more than there is room for, first come first served, no place ever lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.config import Key
from poise.serve.admission import Admission
from poise.serve.keys import Caller
from poise.serve.refusals import Refusal

ANYBODY = Caller(None, None)


def key(name: str, concurrency: int | None) -> Caller:
    return Caller(Key(name=name, env=name.upper(), concurrency=concurrency), name)


async def hold(
    admission: Admission, until: Callable[[], Awaitable[object]], caller: Caller = ANYBODY
) -> None:
    async with admission.admit(caller):
        await until()


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def code(done: asyncio.Task[None]) -> str | None:
    error = done.exception()
    assert isinstance(error, Refusal)
    return error.code


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(whole())


async def assert_whole(admission: Admission, places: int) -> None:
    """As many as ever get in at once, and nobody is counted who is not there."""
    assert (admission.under_way, admission.waiting) == (0, 0)
    end = asyncio.Event()
    tasks = [asyncio.create_task(hold(admission, end.wait)) for _ in range(places)]
    await turns()
    assert (admission.under_way, admission.waiting) == (places, 0)
    end.set()
    await asyncio.gather(*tasks)
    assert admission.under_way == 0


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    places=st.integers(1, 4),
    queue=st.integers(0, 6),
    concurrency=st.none() | st.integers(1, 3),
)
def test_whatever_is_cancelled_and_whenever_no_bound_is_passed_and_no_place_is_lost(
    seed: int, places: int, queue: int, concurrency: int | None
) -> None:
    rng = random.Random(seed)
    callers = [ANYBODY, key("team", concurrency), key("other", None)]

    async def scenario() -> None:
        admission = Admission(places, queue, 0.004)
        inside: list[Caller] = []

        async def request(caller: Caller, steps: int) -> None:
            async with admission.admit(caller):
                inside.append(caller)
                assert len(inside) <= admission.under_way <= places
                assert concurrency is None or inside.count(callers[1]) <= concurrency
                try:
                    for _ in range(steps):
                        await asyncio.sleep(rng.choice((0, 0, 0, 0.001)))
                    if rng.random() < 0.2:
                        raise LookupError
                finally:
                    inside.remove(caller)

        tasks: list[asyncio.Task[None]] = []
        for _ in range(40):
            if rng.random() < 0.6:
                work = request(rng.choice(callers), rng.randrange(6))
                tasks.append(asyncio.create_task(work))
            for _ in range(rng.randrange(3)):
                if tasks:
                    rng.choice(tasks).cancel()
            assert admission.waiting <= queue
            if rng.random() < 0.6:
                await asyncio.sleep(rng.choice((0, 0, 0, 0.001)))
        done = await asyncio.gather(*tasks, return_exceptions=True)
        expected = (asyncio.CancelledError, LookupError, Refusal, type(None))
        assert all(isinstance(one, expected) for one in done), done
        await assert_whole(admission, places)

    run(scenario)


def test_a_place_handed_to_a_waiter_that_is_cancelled_in_the_same_turn_goes_on_to_the_next() -> (
    None
):
    async def scenario() -> None:
        admission = Admission(1, 5, 10)
        first = asyncio.Event()
        tasks = [asyncio.create_task(hold(admission, first.wait))]
        tasks += [asyncio.create_task(hold(admission, turns)) for _ in range(2)]
        await turns()
        first.set()
        await asyncio.sleep(0)  # the first ends and hands its place to the second, still asleep
        assert (admission.under_way, admission.waiting) == (1, 1)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert tasks[1].cancelled()
        assert not tasks[2].cancelled()
        assert tasks[2].exception() is None
        await assert_whole(admission, 1)

    run(scenario)


@settings(max_examples=30, deadline=None)
@given(places=st.integers(1, 5), count=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_the_line_is_served_in_the_order_of_coming(places: int, count: int, seed: int) -> None:
    rng = random.Random(seed)

    async def scenario() -> None:
        admission = Admission(places, count, 10)
        entered: list[int] = []

        async def request(number: int) -> None:
            async with admission.admit(ANYBODY):
                entered.append(number)
                await turns(rng.randrange(5))

        await asyncio.gather(*(request(number) for number in range(count)))
        assert entered == list(range(count))

    run(scenario)


def test_nobody_who_comes_later_overtakes_the_line() -> None:
    async def scenario() -> None:
        admission = Admission(1, 5, 10)
        end = asyncio.Event()
        order: list[str] = []

        async def request(name: str, until: Callable[[], Awaitable[object]]) -> None:
            async with admission.admit(ANYBODY):
                order.append(name)
                await until()

        first = asyncio.create_task(request("first", end.wait))
        await turns()
        second = asyncio.create_task(request("second", turns))
        await turns()
        end.set()
        await first  # the place is the second's, which has not run since
        await asyncio.gather(request("third", turns), second)
        assert order == ["first", "second", "third"]

    run(scenario)


def test_beyond_the_line_the_answer_is_429_at_once() -> None:
    async def scenario() -> None:
        admission = Admission(2, 1, 10)
        end = asyncio.Event()
        tasks = [asyncio.create_task(hold(admission, end.wait)) for _ in range(3)]
        await turns()
        with pytest.raises(Refusal) as caught:
            async with admission.admit(ANYBODY):
                raise AssertionError("let in")
        assert (caught.value.status, caught.value.code) == (429, "queue_full")
        assert caught.value.type == "rate_limit_error"
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 1
        end.set()
        await asyncio.gather(*tasks)
        await assert_whole(admission, 2)

    run(scenario)


def test_who_waits_too_long_is_told_so_and_leaves_the_line() -> None:
    async def scenario() -> None:
        admission = Admission(1, 3, 0.02)
        end = asyncio.Event()
        first = asyncio.create_task(hold(admission, end.wait))
        await turns()
        started = time.monotonic()
        late = [asyncio.create_task(hold(admission, turns)) for _ in range(2)]
        await asyncio.wait(late)
        assert 0.015 < time.monotonic() - started < 5
        assert [code(task) for task in late] == ["queue_timeout"] * 2
        assert (admission.under_way, admission.waiting) == (1, 0)
        end.set()
        await first
        await assert_whole(admission, 1)

    run(scenario)


def test_the_wait_that_is_asked_for_grows_with_the_line_and_the_time_a_request_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    async def refused(admission: Admission) -> float:
        with pytest.raises(Refusal) as caught:
            await hold(admission, turns)
        assert caught.value.retry_after is not None
        return caught.value.retry_after

    async def scenario() -> None:
        admission = Admission(2, 7, 1e6)
        end = asyncio.Event()
        for seconds in (6.0, 6.0):
            async with admission.admit(ANYBODY):
                clock[0] += seconds
        tasks = [asyncio.create_task(hold(admission, end.wait)) for _ in range(9)]
        await turns()
        # Eight requests before it (seven in the line and itself), two at once, six seconds each.
        assert await refused(admission) == pytest.approx(8 * 6 / 2)
        end.set()
        await asyncio.gather(*tasks)

        fresh = Admission(1, 0, 1e6)
        end.clear()
        task = asyncio.create_task(hold(fresh, end.wait))
        await turns()
        assert await refused(fresh) == 1.0
        clock[0] += 50  # none has ended yet: one takes at least as long as the first has taken
        assert await refused(fresh) == pytest.approx(50)
        end.set()
        await task

    asyncio.run(scenario())


def test_a_key_has_no_more_under_way_and_waiting_than_it_may_and_others_are_not_in_its_way() -> (
    None
):
    async def scenario() -> None:
        admission = Admission(2, 8, 10)
        team, other = key("team", 3), key("other", None)
        end = asyncio.Event()
        tasks = [asyncio.create_task(hold(admission, end.wait, team)) for _ in range(5)]
        await turns()
        assert [task.done() for task in tasks] == [False, False, False, True, True]
        assert [code(task) for task in tasks[3:]] == ["concurrency"] * 2
        theirs = asyncio.create_task(hold(admission, end.wait, other))
        await turns()
        assert admission.waiting == 2
        tasks[2].cancel()  # one that waits counts no more once it is gone
        await turns()
        again = asyncio.create_task(hold(admission, end.wait, team))
        await turns()
        assert not again.done()
        end.set()
        await asyncio.gather(*tasks[:2], theirs, again)
        async with admission.admit(team), admission.admit(team):
            assert admission.under_way == 2

    run(scenario)


def test_draining_admits_nobody_refuses_who_waits_and_lets_the_others_finish() -> None:
    async def scenario() -> None:
        admission = Admission(1, 5, 10)
        end = asyncio.Event()
        first = asyncio.create_task(hold(admission, end.wait))
        waiting = asyncio.create_task(hold(admission, turns))
        await turns()
        draining = asyncio.create_task(admission.drain(10))
        await turns()
        assert admission.draining
        assert code(waiting) == "draining"
        with pytest.raises(Refusal) as caught:
            await hold(admission, turns)
        assert (caught.value.status, caught.value.code) == (503, "draining")
        assert int(caught.value.headers()["Retry-After"]) >= 1
        assert not draining.done()
        end.set()
        async with asyncio.timeout(2):
            assert await draining
        await first
        assert admission.under_way == 0

    run(scenario)


@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_draining_ends_when_its_time_is_over(seconds: float) -> None:
    async def scenario() -> None:
        admission = Admission(1, 5, 10)
        end = asyncio.Event()
        first = asyncio.create_task(hold(admission, end.wait))
        await turns()
        assert not await admission.drain(seconds)
        assert admission.under_way == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert await admission.drain(seconds)

    run(scenario)


def test_draining_what_is_idle_is_done_at_once() -> None:
    assert asyncio.run(Admission(1, 1, 1).drain(0))


def test_a_place_costs_microseconds_where_there_is_room() -> None:
    async def scenario() -> None:
        admission = Admission(256, 1024, 30)
        team = key("team", 32)
        best = float("inf")
        for _ in range(20):
            started = time.perf_counter()
            for _ in range(500):
                async with admission.admit(team):
                    pass
            best = min(best, (time.perf_counter() - started) / 500)
        assert best < 20e-6  # measured: 2 to 3; the rest is for slow machines

    run(scenario)
