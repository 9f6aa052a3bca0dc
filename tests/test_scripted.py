"""The public fake keeps to the back-end protocol and to its script."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.backends.scripted import Fail, Hang, Miscount, NoLogprobs, Scripted, Slow
from poise.errors import (
    Exhausted,
    MalformedReply,
    RateLimited,
    Rejected,
    ServerFault,
    StreamCut,
    Unauthorized,
    Unavailable,
    UsageError,
)
from poise.types import Backend, Batch, Capabilities, Reply, Request

T = TypeVar("T")
WORDS = st.lists(st.text("ab1é", min_size=1, max_size=3), max_size=12).map(" ".join)


class Counter:
    """A meter that remembers every report."""

    def __init__(self) -> None:
        self.reports: list[int] = []
        self.first = asyncio.Event()

    def queued(self, waiting: bool) -> None:
        pass

    def received(self, tokens: int) -> None:
        """Remember, and say that something arrived."""
        self.reports.append(tokens)
        self.first.set()

    @property
    def total(self) -> int:
        """All tokens so far."""
        return sum(self.reports)


def request(n: int = 1, first: int = 0, question: str = "q", **more: Any) -> Request:
    messages = ({"role": "user", "content": "What is 3 + 4?"},)
    return Request(messages, {}, n=n, first_index=first, question_id=question, **more)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def texts(batch: Batch) -> list[str | None]:
    return [reply.text for reply in batch.replies]


def test_it_is_a_backend() -> None:
    backend: Backend = Scripted("12", model="fake")
    assert (backend.engine, backend.model) == ("scripted", "fake")


# -- what is drawn ------------------------------------------------------------------------------


@given(st.integers(1, 12), st.data())
def test_however_draws_are_split_into_requests_the_same_are_drawn(n: int, data: Any) -> None:
    backend = Scripted(lambda request, index: f"{request.question_id}/{index}")
    cuts = sorted(data.draw(st.sets(st.integers(1, n)))) if n > 1 else []
    edges = sorted({0, *cuts, n})
    parts = [run(backend.sample(request(b - a, a))) for a, b in itertools.pairwise(edges)]
    assert [text for part in parts for text in texts(part)] == [f"q/{i}" for i in range(n)]


def test_one_text_is_drawn_for_ever_and_a_list_only_to_its_end() -> None:
    assert texts(run(Scripted("12").sample(request(3, 100)))) == ["12"] * 3
    backend = Scripted(["1", "2", "3"])
    assert texts(run(backend.sample(request(2, 2)))) == ["3"]
    with pytest.raises(Exhausted, match="at most 3"):
        run(backend.sample(request(1, 3)))


def test_a_mapping_gives_each_question_its_own_draws_and_rejects_others() -> None:
    backend = Scripted({"a": ["1"], "b": ["2"]})
    assert texts(run(backend.sample(request(question="b")))) == ["2"]
    with pytest.raises(Rejected, match="'c'"):
        run(backend.sample(request(question="c")))


def test_a_reply_is_given_as_it_stands_and_an_unknown_count_stays_unknown() -> None:
    reply = Reply(None, finish="tool_calls", tool_calls=({"id": "1"},))
    batch = run(Scripted(["7 8", reply]).sample(request(2)))
    assert batch.replies[1] == reply
    assert batch.usage.completion_tokens is None


@given(WORDS, st.integers(0, 12))
def test_tokens_are_words_and_never_more_than_max_tokens(text: str, limit: int) -> None:
    asked = Request((), {"max_tokens": limit})
    (reply,) = run(Scripted(text).sample(asked)).replies
    assert reply.tokens == len((reply.text or "").split()) == min(limit, len(text.split()))
    assert text.startswith(reply.text or "")
    assert reply.finish == ("length" if len(text.split()) > limit else "stop")


def test_usage_counts_the_prompt_once_and_every_reply() -> None:
    usage = run(Scripted(["a b", "c"]).sample(request(2))).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (5, 3, False)


# -- log-probabilities --------------------------------------------------------------------------


@given(WORDS, st.integers(0, 8))
def test_log_probabilities_are_lawful_and_depend_on_the_text_alone(text: str, top: int) -> None:
    (reply,) = run(Scripted(text).sample(request(logprobs=top))).replies
    (again,) = run(Scripted(text).sample(request(first=9, logprobs=top))).replies
    found = reply.logprobs
    assert found is not None
    assert found == again.logprobs
    assert "".join(found.tokens) == text
    assert len(found.chosen) == reply.tokens
    assert all(value <= 0 for value in found.chosen)
    if top == 0:
        assert found.top is None
        return
    assert found.top is not None
    for token, chosen, listed in zip(found.tokens, found.chosen, found.top, strict=True):
        assert listed[0] == (token, chosen)
        assert len(listed) == top
        values = [value for _, value in listed]
        assert values == sorted(values, reverse=True)
        assert sum(map(math.exp, values)) <= 1 + 1e-9


def test_log_probabilities_come_only_if_asked_for_and_possible() -> None:
    without = Scripted("1", capabilities=Capabilities(n=4, logprobs=None))
    few = Scripted("1", capabilities=Capabilities(n=4, logprobs=2))
    assert run(Scripted("1").sample(request())).replies[0].logprobs is None
    assert run(without.sample(request(logprobs=5))).replies[0].logprobs is None
    found = run(few.sample(request(logprobs=5))).replies[0].logprobs
    assert found is not None
    assert [len(listed) for listed in found.top or ()] == [2]


def test_more_draws_than_one_request_may_make_are_rejected() -> None:
    backend = Scripted("1", capabilities=Capabilities(n=2))
    assert run(backend.capabilities()).n == 2
    with pytest.raises(Rejected, match="at most 2"):
        run(backend.sample(request(3)))


# -- time ---------------------------------------------------------------------------------------


def test_without_latency_a_call_never_gives_up_the_event_loop() -> None:
    with pytest.raises(StopIteration) as done:
        Scripted("1").sample(request()).send(None)
    assert texts(done.value.value) == ["1"]


def test_latency_by_index_decides_the_order_of_finishing() -> None:
    async def finishing() -> list[int]:
        order: list[int] = []
        backend = Scripted("1", latency=lambda _, index: (0.06, 0.03, 0.0)[index])

        async def one(index: int) -> None:
            await backend.sample(request(1, index))
            order.append(index)

        await asyncio.gather(*map(one, range(3)))
        assert (backend.in_flight, backend.most_in_flight) == (0, 3)
        return order

    assert run(finishing()) == [2, 1, 0]


def test_a_batch_takes_as_long_as_its_slowest_draw() -> None:
    backend = Scripted("1", latency=lambda _, index: (0.0, 0.06, 0.01)[index])
    start = time.perf_counter()
    run(backend.sample(request(3)))
    assert time.perf_counter() - start >= 0.05


def test_the_meter_hears_of_tokens_while_they_are_generated() -> None:
    meter = Counter()
    run(Scripted("a b c d e f g h", latency=0.04).sample(request(2), meter))
    assert meter.total == 16
    assert len(meter.reports) > 2
    at_once = Counter()
    run(Scripted("a b").sample(request(2), at_once))
    assert at_once.total == 4


def test_a_cancelled_call_has_received_a_part_and_is_counted() -> None:
    async def cancelled() -> tuple[Counter, Scripted]:
        meter, backend = Counter(), Scripted(" ".join("x" * 100), latency=10.0)
        task = asyncio.create_task(backend.sample(request(), meter))
        await meter.first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return meter, backend

    meter, backend = run(cancelled())
    assert 0 < meter.total < 100
    assert (backend.cancelled, backend.in_flight) == (1, 0)


@pytest.mark.parametrize("latency", [-1.0, math.nan, math.inf])
def test_a_latency_that_is_no_time_is_refused(latency: float) -> None:
    with pytest.raises(UsageError, match="latency"):
        Scripted("1", latency=latency)


# -- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [RateLimited, ServerFault, MalformedReply, Unavailable, Unauthorized, StreamCut]
)
def test_a_listed_fault_hits_the_call_in_its_place(error: type[Exception]) -> None:
    backend = Scripted("1", faults=[None, Fail(error, retry_after=2.5)])  # type: ignore[arg-type]
    assert texts(run(backend.sample(request()))) == ["1"]
    with pytest.raises(error) as raised:
        run(backend.sample(request()))
    assert raised.value.retry_after == 2.5  # type: ignore[attr-defined]
    assert texts(run(backend.sample(request()))) == ["1"]
    assert len(backend.calls) == 3


def test_a_fault_function_counts_the_tries_of_each_request() -> None:
    backend = Scripted("1", faults=lambda _, tried: Fail(ServerFault) if tried < 2 else None)
    for first in (0, 5):
        for _ in range(2):
            with pytest.raises(ServerFault):
                run(backend.sample(request(1, first)))
        assert texts(run(backend.sample(request(1, first)))) == ["1"]


def test_a_cut_stream_has_delivered_what_the_script_says() -> None:
    meter = Counter()
    with pytest.raises(StreamCut):
        run(Scripted("1", faults=[Fail(StreamCut, after_tokens=7)]).sample(request(), meter))
    assert meter.total == 7


def test_a_hanging_call_ends_only_when_cancelled() -> None:
    async def hanging() -> int:
        backend, meter = Scripted("1", faults=[Hang(after_tokens=3)]), Counter()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(backend.sample(request(), meter), 0.03)
        assert meter.total == 3
        return backend.cancelled

    assert run(hanging()) == 1


def test_a_slow_call_is_right_and_late() -> None:
    start = time.perf_counter()
    assert texts(run(Scripted("1", faults=[Slow(0.05)]).sample(request()))) == ["1"]
    assert time.perf_counter() - start >= 0.045


def test_a_reply_may_lack_the_log_probabilities_asked_for() -> None:
    backend = Scripted("1", faults=[NoLogprobs()])
    found = [run(backend.sample(request(logprobs=1))).replies[0].logprobs for _ in range(2)]
    assert found[0] is None
    assert found[1] is not None


@pytest.mark.parametrize("n", [0, 1, 5])
def test_a_batch_may_hold_another_number_of_replies_than_asked(n: int) -> None:
    batch = run(Scripted("1 2", faults=[Miscount(n)]).sample(request(3)))
    assert len(batch.replies) == n
    assert batch.usage.completion_tokens == 2 * n


# -- the record ---------------------------------------------------------------------------------


def test_requests_are_recorded_with_their_seeds_and_closing_twice_is_fine() -> None:
    async def used() -> Scripted:
        backend = Scripted("1")
        for seed in (3, 4):
            await backend.sample(request(seed=seed))
        assert not backend.closed
        await backend.aclose()
        await backend.aclose()
        return backend

    backend = run(used())
    assert [call.seed for call in backend.calls] == [3, 4]
    assert backend.closed
