"""Connections of the HTTP back-end: ended early, bounded, used again, given back; its arguments."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from fault_server import Behaviour, FaultServer, number_for
from http_client import ASK, LONG, Count, both_ways, http, using
from poise.backends import Http
from poise.errors import UsageError
from poise.types import Batch


def texts(batch: Batch) -> list[str | None]:
    return [reply.text for reply in batch.replies]


async def cancelled(call: Awaitable[Any], when: Callable[[], bool]) -> None:
    """Start ``call`` and cancel it as soon as ``when`` holds."""
    task = asyncio.ensure_future(call)
    async with asyncio.timeout(5):
        while not when():  # noqa: ASYNC110 - what is waited for happens in the server's thread
            await asyncio.sleep(0.002)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- ending a call ------------------------------------------------------------------------------


def test_cancelling_a_stream_closes_its_connection_and_the_server_stops() -> None:
    with FaultServer(LONG) as server:
        meter = Count()

        async def work(backend: Http) -> None:
            request = replace(ASK, decoding={})
            await cancelled(backend.sample(request, meter), lambda: meter.tokens >= 3)
            assert server.until(lambda: server.requests[0].aborted)
            assert server.until(lambda: server.open_connections == 0)

        using(server, work)
        assert 3 <= meter.tokens <= server.requests[0].tokens < 400


@both_ways
def test_cancelling_before_the_first_byte_closes_the_connection_too(stream: bool) -> None:
    with FaultServer(Behaviour(latency=math.inf)) as server:

        async def work(backend: Http) -> None:
            await cancelled(backend.sample(ASK), lambda: server.in_flight == 1)
            assert server.until(lambda: server.requests[0].aborted)

        using(server, work, stream=stream)


def test_one_call_is_ended_and_its_neighbours_go_on() -> None:
    with FaultServer(Behaviour(texts=("word " * 30,), token_delay=0.005)) as server:
        meter = Count()

        async def work(backend: Http) -> list[Batch]:
            others = [asyncio.ensure_future(backend.sample(ASK)) for _ in range(3)]
            await cancelled(backend.sample(ASK, meter), lambda: meter.tokens >= 2)
            return await asyncio.gather(*others)

        batches = using(server, work)
        assert [batch.usage.completion_tokens for batch in batches] == [30] * 3
        assert server.until(lambda: sum(seen.aborted for seen in server.requests) == 1)


def test_cancelled_calls_give_back_their_place() -> None:
    with FaultServer(
        lambda body, number: Behaviour(latency=math.inf if number < 4 else 0.0)
    ) as server:

        async def work(backend: Http) -> Batch:
            for number in range(4):
                await cancelled(
                    backend.sample(ASK), lambda seen=number + 1: len(server.requests) == seen
                )
            return await backend.sample(ASK)

        assert len(using(server, work, concurrency=1).replies) == 1


def test_a_call_cancelled_while_it_waits_for_its_turn_is_never_sent() -> None:
    with FaultServer(lambda body, number: Behaviour(latency=0.1)) as server:

        async def work(backend: Http) -> None:
            first = asyncio.ensure_future(backend.sample(ASK))
            await cancelled(backend.sample(ASK), lambda: server.in_flight == 1)
            await first

        using(server, work, concurrency=1)
        assert len(server.requests) == 1


# -- bounds -------------------------------------------------------------------------------------


def many(calls: int) -> Callable[[Http], Awaitable[list[Batch]]]:
    async def work(backend: Http) -> list[Batch]:
        return await asyncio.gather(*(backend.sample(ASK) for _ in range(calls)))

    return work


@both_ways
def test_no_more_calls_are_in_flight_than_allowed(stream: bool) -> None:
    with FaultServer(Behaviour(latency=0.03)) as server:
        assert len(using(server, many(12), concurrency=3, stream=stream)) == 12
        assert 1 < server.most_in_flight <= 3
        assert len(server.requests) == 12


def sent_in(seconds: float, calls: int, **more: Any) -> tuple[int, float]:
    """How many of ``calls`` calls the server saw after ``seconds``, and how long that truly was."""
    with FaultServer() as server:

        async def work(backend: Http) -> tuple[int, float]:
            started = time.monotonic()
            tasks = [asyncio.ensure_future(backend.sample(ASK)) for _ in range(calls)]
            await asyncio.sleep(seconds)
            seen, passed = len(server.requests), time.monotonic() - started
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return seen, passed

        return using(server, work, **more)


def test_the_rate_bounds_how_many_calls_start_in_a_second() -> None:
    seen, seconds = sent_in(0.4, 30, per_second=5.0)
    # What one second allows comes at once; then it is refilled as time passes.
    assert 1 <= seen <= 5 + 5 * seconds + 1


def test_a_rate_below_one_lets_single_calls_through() -> None:
    seen, seconds = sent_in(0.4, 5, per_second=0.1)
    assert seen == 1 or seconds > 5


# -- connections --------------------------------------------------------------------------------


@both_ways
def test_a_connection_serves_one_call_after_the_other(stream: bool) -> None:
    with FaultServer() as server:

        async def work(backend: Http) -> None:
            for _ in range(5):
                await backend.sample(ASK)
            assert not server.until(lambda: server.open_connections != 1, seconds=0.05)

        using(server, work, stream=stream)
        assert server.until(lambda: server.open_connections == 0)


def test_no_connection_is_used_again_where_the_server_is_known_to_drop_it() -> None:
    with FaultServer(Behaviour(headers={"Server": "llama.cpp"})) as server:

        async def work(backend: Http) -> None:
            await backend.sample(ASK)
            assert server.until(lambda: server.open_connections == 0)

        using(server, work)


def test_a_server_that_never_ends_its_stream_does_not_hold_up_the_reply() -> None:
    chunk = '{"choices": [{"index": 0, "delta": {"content": "7"}, "finish_reason": "stop"}]}'
    body = f"data: {chunk}\n\ndata: [DONE]\n\n"
    # More is promised than is ever sent.
    headers = {"Content-Type": "text/event-stream", "Content-Length": "100000"}
    with FaultServer(Behaviour(body=body, headers=headers)) as server:
        assert texts(using(server, lambda backend: backend.sample(ASK), timeout=2.0)) == ["7"]


def test_closing_gives_back_every_connection_and_may_be_done_twice() -> None:
    with FaultServer() as server:

        async def work(backend: Http) -> None:
            await many(6)(backend)
            await backend.aclose()
            assert server.until(lambda: server.open_connections == 0)

        using(server, work, concurrency=6, stream=False)
        gc.collect()  # an unclosed socket would warn here, and warnings are errors


def test_a_closed_back_end_opens_again_when_it_is_used() -> None:
    with FaultServer() as server:

        async def work(backend: Http) -> Batch:
            await backend.sample(ASK)
            await backend.aclose()
            return await backend.sample(replace(ASK, seed=3))

        assert texts(using(server, work)) == [number_for(3)]


@both_ways
def test_one_back_end_works_in_several_event_loops_and_closes_from_any(stream: bool) -> None:
    with FaultServer(Behaviour(latency=0.01)) as server:
        backend = http(server, stream=stream, concurrency=2)
        other = asyncio.new_event_loop()
        thread = threading.Thread(target=other.run_forever)
        thread.start()
        try:
            there = asyncio.run_coroutine_threadsafe(many(5)(backend), other)

            async def here() -> list[Batch]:
                batches = await many(5)(backend)
                there.result()
                await backend.aclose()
                return batches

            assert len(asyncio.run(here())) == len(there.result()) == 5
            assert server.until(lambda: server.open_connections == 0)
            assert len(asyncio.run(_once_more(backend))) == 5
        finally:
            other.call_soon_threadsafe(other.stop)
            thread.join()
            other.close()


async def _once_more(backend: Http) -> list[Batch]:
    try:
        return await many(5)(backend)
    finally:
        await backend.aclose()


# -- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["schlüssel", "sk\x00", "a\nb"])
def test_a_key_no_header_can_carry_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        Http("http://localhost/v1", api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://host/v1", "", "http://", "http://host:99999/v1", "http://[::1/v1"],
)
def test_a_url_that_cannot_be_asked_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="base URL"):
        Http(url)


@pytest.mark.parametrize("name", ["concurrency", "timeout", "max_n", "per_second"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_a_bound_that_bounds_nothing_is_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=name):
        Http("http://localhost/v1", **{name: value})
