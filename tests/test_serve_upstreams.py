"""Servers of one model stand in for each other, and what fails on the way is charged once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest

from poise.backends import Scripted
from poise.backends.scripted import Fail, Hang, Miscount, NoLogprobs, Slow
from poise.dispatch import bounds
from poise.errors import (
    BackendError,
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
from poise.policies import Fixed, Policy
from poise.serve.breaker import Breaker, Condition
from poise.serve.upstreams import Replica, Upstreams
from poise.solve import Setting, solve
from poise.spend import Limits
from poise.types import Arm, Backend, Batch, Capabilities, Kind, Meter, Question, Request, Result
from poise.types import StopReason as Reason

T = TypeVar("T")
Chunk = Mapping[str, Any]

ASKED = Question.ask("What is 2 + 2?", Kind.NUMBER, id="q")
DECODING = {"temperature": 0.8, "max_tokens": 20}
ONE_A_REQUEST = Capabilities(n=1, logprobs=20, seed=True)
CALL = Request(({"role": "user", "content": "What is 2 + 2?"},), DECODING, question_id="q")

RETRYABLE = [Unavailable, ServerFault, TimedOut, StreamCut, MalformedReply, RateLimited]
WITHOUT_PAUSE = 0.4
"""Seconds; a retry that waits takes at least half a second."""


@dataclass
class Clock:
    """Seconds that pass when told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Lab:
    """Upstreams named a, b, … over back-ends, on one clock; remembers what metrics would hear."""

    backends: tuple[Backend, ...]
    failures: int = 5
    check_every: float = 15.0
    clock: Callable[[], float] = field(default_factory=Clock)
    heard: list[tuple[str, Exception | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.replicas = [
            Replica(chr(97 + i), backend, Breaker(self.failures, 10.0, self.clock))
            for i, backend in enumerate(self.backends)
        ]
        self.upstreams = Upstreams(
            self.replicas,
            self.check_every,
            on_call=lambda name, _seconds, error: self.heard.append((name, error)),
            clock=self.clock,
        )

    async def solve(self, n: int = 1, setting: Setting = Setting()) -> Result:
        """One question through a view of its own."""
        arm = Arm(self.upstreams.view(), DECODING)
        return await solve(ASKED, arm, Policy(Fixed(n)), setting)

    @property
    def states(self) -> list[str]:
        return [one["state"] for one in self.upstreams.status()]

    def pass_time(self, seconds: float) -> None:
        assert isinstance(self.clock, Clock)
        self.clock.now += seconds


def lab(*backends: Backend, **more: Any) -> Lab:
    return Lab(backends, **more)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def always(fault: Any) -> Callable[[Request, int], Any]:
    return lambda _request, _tried: fault


def failing(error: type[BackendError], **more: Any) -> Scripted:
    return Scripted("5", faults=always(Fail(error, **more)))


async def everything_begins() -> None:
    """Let every task run up to where it waits for time to pass."""
    for _ in range(20):
        await asyncio.sleep(0)


class Engine(Scripted):
    """A script that says which engine plays it."""

    def __init__(self, engine: str, *given: Any, **more: Any):
        super().__init__(*given, **more)
        self.engine = engine


class Listed(Scripted):
    """A script with a model list, which fails by what is in ``problem``."""

    problem: Exception | None = None
    looks = 0

    async def models(self) -> list[Mapping[str, Any]]:
        self.looks += 1
        if self.problem is not None:
            raise self.problem
        return []


class Streaming(Scripted):
    """A script that can relay: ``chunks`` pass before what the script says happens."""

    def __init__(self, *given: Any, chunks: int = 2, **more: Any):
        super().__init__(*given, **more)
        self.chunks = chunks

    async def relay(
        self, request: Request, meter: Meter | None, listen: Callable[[Chunk], None]
    ) -> Batch:
        for place in range(self.chunks):
            listen({"place": place})
        return await self.sample(request, meter)


# -- failover within one question ---------------------------------------------------------------


@pytest.mark.parametrize("error", RETRYABLE)
def test_within_one_question_the_next_server_takes_over_at_once(error: type[BackendError]) -> None:
    site = lab(failing(error, after_tokens=3, retry_after=30.0), Scripted("4"))
    started = time.monotonic()
    result = run(site.solve())
    assert time.monotonic() - started < WITHOUT_PAUSE
    assert result.answer == "4"
    assert result.error is None
    assert [name for name, _ in site.heard] == ["a", "b"]
    assert isinstance(site.heard[0][1], error)


@pytest.mark.parametrize("error", RETRYABLE)
def test_each_attempt_is_charged_once_and_one_of_unknown_fate_in_full(
    error: type[BackendError],
) -> None:
    site = lab(failing(error, after_tokens=3), Scripted("4"))
    spend = run(site.solve()).spend
    assert (spend.calls, spend.samples) == (2, 1)
    prompt = bounds(Arm(Scripted("4"), DECODING), ASKED)[0]
    if error.fate_known:
        assert (spend.prompt_tokens, spend.completion_tokens) == (5, 1)
        assert (spend.held_samples, spend.held_tokens, spend.estimated) == (0, 0, False)
    else:
        assert (spend.prompt_tokens, spend.completion_tokens) == (prompt + 5, 4)
        assert spend.cancelled_tokens == 3
        assert (spend.held_samples, spend.held_tokens, spend.estimated) == (1, 17, True)


def test_a_cap_holds_when_a_server_of_unknown_fate_used_it_up() -> None:
    second = Scripted("4")
    site = lab(failing(ServerFault), second)
    result = run(site.solve(setting=Setting(limits=Limits(max_samples=1))))
    assert result.n_samples == 0
    assert second.calls == []


@pytest.mark.parametrize("error", [Unauthorized, ModelMissing])
def test_a_key_or_a_model_that_is_wrong_on_one_server_alone_is_no_error(
    error: type[BackendError],
) -> None:
    site = lab(failing(error), Scripted("4"))
    result = run(site.solve())
    assert result.answer == "4"
    assert result.spend.calls == 2
    assert site.replicas[0].breaker.failures == 1


def test_what_one_server_refuses_is_told_under_its_configured_name() -> None:
    site = lab(failing(Unauthorized), Scripted("4"))
    with pytest.raises(Unavailable, match="upstream 'a' wants another key") as caught:
        run(site.upstreams.view().sample(CALL))
    assert caught.value.retryable
    assert caught.value.retry_after == pytest.approx(0.01)
    assert isinstance(caught.value.__cause__, Unauthorized)


def test_the_last_server_with_a_wrong_key_says_so() -> None:
    site = lab(failing(Unauthorized))
    result = run(site.solve())
    assert isinstance(result.error, Unauthorized)
    assert result.spend.calls == 1


def test_a_request_that_is_rejected_is_rejected_everywhere() -> None:
    second = Scripted("4")
    site = lab(failing(Rejected), second)
    result = run(site.solve())
    assert isinstance(result.error, Rejected)
    assert second.calls == []
    assert site.replicas[0].breaker.failures == 0


@pytest.mark.usefixtures("quick_retries")
def test_a_reply_without_choices_is_a_failure_of_its_server() -> None:
    site = lab(Scripted("5", faults=always(Miscount(0))), Scripted("4"))
    result = run(site.solve())
    assert result.answer == "4"
    assert site.replicas[0].breaker.failures == 1
    assert isinstance(site.heard[0][1], MalformedReply)


@pytest.mark.parametrize("fault", [Slow(0.02), NoLogprobs(), Miscount(1), None])
def test_what_is_no_failure_stays_where_it_is(fault: Any) -> None:
    second = Scripted("5")
    site = lab(Scripted("4", faults=always(fault)), second)
    result = run(site.solve(4, Setting(logprobs=2)))
    assert (result.answer, result.n_samples) == ("4", 4)
    assert second.calls == []
    assert site.states == ["closed", "closed"]


@pytest.mark.usefixtures("quick_retries")
def test_where_every_server_fails_the_question_ends_with_the_error() -> None:
    first, second = failing(ServerFault), failing(TimedOut)
    result = run(lab(first, second).solve())
    assert result.stop is Reason.ERROR
    assert isinstance(result.error, TimedOut)
    assert len(first.calls) == len(second.calls)
    assert result.spend.calls == len(first.calls) + len(second.calls)


def test_a_call_that_failed_everywhere_waits_before_it_goes_round_again() -> None:
    site = lab(failing(ServerFault), failing(StreamCut))
    view = site.upstreams.view()

    async def pauses() -> list[float | None]:
        found = []
        for _ in range(4):
            with pytest.raises(BackendError) as caught:
                await view.sample(CALL)
            assert caught.value.retryable
            found.append(caught.value.retry_after)
        return found

    assert run(pauses()) == [0.01, None, 0.01, None]
    assert [name for name, _ in site.heard] == ["a", "b", "b", "a"]


def test_one_servers_wish_to_be_left_alone_holds_up_no_other() -> None:
    site = lab(failing(ServerFault), failing(ServerFault, retry_after=30.0))
    site.replicas[1].breaker = Breaker(1, 10.0, site.clock)
    view = site.upstreams.view()

    async def pauses() -> list[float | None]:
        found = []
        for _ in range(3):
            with pytest.raises(ServerFault) as caught:
                await view.sample(CALL)
            assert caught.value.retryable
            found.append(caught.value.retry_after)
        return found

    assert run(pauses()) == [0.01, None, None]  # the second is open from then on
    assert [name for name, _ in site.heard] == ["a", "b", "a"]


def test_all_calls_of_a_request_stay_with_the_server_that_took_over() -> None:
    site = lab(Scripted("4", faults=[None, Fail(ServerFault)]), Scripted("4"))

    async def story() -> None:
        view = site.upstreams.view()
        await view.sample(CALL)
        with pytest.raises(ServerFault):
            await view.sample(replace(CALL, first_index=1))
        for index in range(2, 5):
            await view.sample(replace(CALL, first_index=index))
        await site.upstreams.view().sample(CALL)  # another request has nothing to do with it

    run(story())
    assert [name for name, _ in site.heard] == ["a", "a", "b", "b", "b", "a"]


def test_calls_that_fail_together_take_over_together() -> None:
    fault = always(Fail(ServerFault, seconds=0.01))
    first = Scripted("5", faults=fault, capabilities=ONE_A_REQUEST)
    second = Scripted("4", capabilities=ONE_A_REQUEST)
    site = lab(first, second)
    started = time.monotonic()
    result = run(site.solve(5))
    assert time.monotonic() - started < WITHOUT_PAUSE
    assert (result.n_samples, result.answer) == (5, "4")
    assert (len(first.calls), len(second.calls), result.spend.calls) == (5, 5, 10)


# -- the breaker in use -------------------------------------------------------------------------


def test_a_server_that_keeps_failing_is_left_alone_and_found_again() -> None:
    first = Scripted("4", faults=[Fail(ServerFault), Fail(ServerFault)])
    second = Scripted("4")
    site = lab(first, second, failures=2)

    async def story() -> None:
        for _ in range(4):
            assert (await site.solve()).answer == "4"
        assert (len(first.calls), len(second.calls)) == (2, 4)
        assert site.states == ["open", "closed"]
        site.pass_time(10.0)
        assert site.states == ["half-open", "closed"]
        assert (await site.solve()).answer == "4"
        assert (len(first.calls), len(second.calls)) == (3, 4)
        assert site.states == ["closed", "closed"]

    run(story())


def test_with_no_server_left_the_answer_is_no_at_once() -> None:
    only = failing(ServerFault)
    site = lab(only, failures=1)

    async def story() -> None:
        first = await site.solve()
        assert isinstance(first.error, ServerFault)
        assert (len(only.calls), first.error.retry_after) == (1, pytest.approx(10.0))
        site.pass_time(3.0)
        started = time.monotonic()
        second = await site.solve(4)
        assert time.monotonic() - started < WITHOUT_PAUSE
        assert isinstance(second.error, Unavailable)
        assert second.error.retry_after == pytest.approx(7.0)
        assert not second.error.retryable
        assert "(a)" in str(second.error)
        assert "7.0 s" in str(second.error)
        assert (len(only.calls), second.spend.calls) == (1, 0)

    run(story())
    assert not site.upstreams.ready


def test_a_call_that_finds_no_server_is_not_tried_again() -> None:
    site = lab(failing(ServerFault), failures=1)

    async def story() -> None:
        view = site.upstreams.view()
        for kind in (ServerFault, Unavailable):
            with pytest.raises(kind) as caught:
                await view.sample(CALL)
            assert not caught.value.retryable
            assert caught.value.retry_after == pytest.approx(10.0)

    run(story())


def test_while_a_trial_is_made_others_go_elsewhere() -> None:
    first = Scripted("4", latency=0.02, faults=[Fail(ServerFault)])
    second = Scripted("4", latency=0.02)
    site = lab(first, second, failures=1)

    async def story() -> None:
        await site.solve()
        site.pass_time(10.0)
        before = len(second.calls)
        results = await asyncio.gather(*(site.solve() for _ in range(8)))
        assert [r.answer for r in results] == ["4"] * 8
        assert len(first.calls) == 2
        assert len(second.calls) - before == 7
        assert site.states == ["closed", "closed"]

    run(story())


def test_while_a_trial_is_made_of_the_only_server_others_are_told_to_come_back() -> None:
    only = Scripted("4", latency=0.02, faults=[Fail(ServerFault)])
    site = lab(only, failures=1)

    async def story() -> None:
        await site.solve()
        site.pass_time(10.0)
        results = await asyncio.gather(*(site.solve() for _ in range(5)))
        errors = [r.error for r in results if r.error is not None]
        assert [type(error) for error in errors] == [Unavailable] * 4
        assert only.most_in_flight == 1
        assert (await site.solve()).answer == "4"

    run(story())


def test_the_other_calls_of_the_request_that_makes_the_trial_wait_for_it() -> None:
    only = Scripted(
        "4", latency=0.02, faults=[Fail(ServerFault)], capabilities=replace(ONE_A_REQUEST, n=1)
    )
    site = lab(only, failures=1)

    async def story() -> None:
        await site.solve()
        site.pass_time(10.0)
        result = await site.solve(4)
        assert (result.n_samples, result.stop) == (4, Reason.FIXED)
        assert len(only.calls) == 5

    run(story())


def test_a_trial_that_fails_ends_the_wait_of_the_others() -> None:
    only = Scripted("4", faults=always(Fail(ServerFault, seconds=0.02)), capabilities=ONE_A_REQUEST)
    site = lab(only, failures=1)

    async def story() -> None:
        await site.solve()
        site.pass_time(10.0)
        async with asyncio.timeout(5):
            result = await site.solve(4)
        assert result.stop is Reason.ERROR
        assert len(only.calls) == 2

    run(story())


# -- rate limits --------------------------------------------------------------------------------


def test_a_server_that_limits_its_rate_is_passed_over_until_it_said() -> None:
    first = Scripted("4", faults=[Fail(RateLimited, retry_after=5.0)])
    second = Scripted("4")
    site = lab(first, second)

    async def story() -> None:
        await site.solve()
        await site.solve()
        assert (len(first.calls), len(second.calls)) == (1, 2)
        assert site.states == ["closed", "closed"]
        site.pass_time(5.0)
        await site.solve()
        assert (len(first.calls), len(second.calls)) == (2, 2)

    run(story())


def test_the_only_server_is_waited_for_while_it_limits_its_rate_for_a_little() -> None:
    only = Scripted("4", faults=[Fail(RateLimited, retry_after=0.05)])
    site = lab(only, clock=time.monotonic)
    result = run(site.solve())
    assert (result.answer, len(only.calls)) == ("4", 2)


def test_nobody_is_held_for_a_long_rate_limit() -> None:
    only = failing(RateLimited, retry_after=40.0)
    site = lab(only)

    async def story() -> None:
        for said in (40.0, 35.0):
            started = time.monotonic()
            result = await site.solve()
            assert time.monotonic() - started < WITHOUT_PAUSE
            assert isinstance(result.error, RateLimited)
            assert result.error.retry_after == pytest.approx(said)
            site.pass_time(5.0)
        assert len(only.calls) == 1
        assert site.upstreams.ready  # it is up, and will be asked

    run(story())


# -- streams ------------------------------------------------------------------------------------


def test_chunks_pass_in_order_as_the_server_sends_them() -> None:
    site = lab(Streaming("4", chunks=3))
    chunks: list[Chunk] = []
    batch = run(site.upstreams.view().relay(CALL, None, chunks.append))
    assert chunks == [{"place": 0}, {"place": 1}, {"place": 2}]
    assert batch.replies[0].text == "4"


@pytest.mark.parametrize("error", RETRYABLE)
def test_once_a_chunk_was_passed_on_nobody_takes_over(error: type[BackendError]) -> None:
    second = Streaming("4")
    site = lab(Streaming("5", faults=always(Fail(error, retry_after=2.0))), second)
    chunks: list[Chunk] = []
    with pytest.raises(error) as caught:
        run(site.upstreams.view().relay(CALL, None, chunks.append))
    assert type(caught.value) is error
    assert not caught.value.retryable
    assert caught.value.retry_after == 2.0
    assert (len(chunks), second.calls) == (2, [])
    assert isinstance(site.heard[0][1], error)


def test_before_the_first_chunk_another_takes_over() -> None:
    site = lab(Streaming("5", chunks=0, faults=always(Fail(StreamCut))), Streaming("4"))
    chunks: list[Chunk] = []

    async def story() -> Batch:
        view = site.upstreams.view()
        with pytest.raises(StreamCut) as caught:
            await view.relay(CALL, None, chunks.append)
        assert caught.value.retryable
        return await view.relay(CALL, None, chunks.append)

    assert run(story()).replies[0].text == "4"
    assert len(chunks) == 2


def test_a_server_that_cannot_relay_is_sampled_and_nothing_is_passed_on() -> None:
    class Whole:
        """A back-end that offers no more than it must."""

        engine = model = "whole"

        async def capabilities(self) -> Capabilities:
            return Capabilities()

        async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
            return await Scripted("4").sample(request, meter)

        async def aclose(self) -> None:
            pass

    chunks: list[Chunk] = []
    batch = run(lab(Whole()).upstreams.view().relay(CALL, None, chunks.append))
    assert batch.replies[0].text == "4"
    assert chunks == []


def test_a_listener_that_fails_is_no_failure_of_the_server() -> None:
    site = lab(Streaming("4"), failures=1)

    def gone(chunk: Chunk) -> None:
        raise ValueError("the client has gone")

    with pytest.raises(ValueError, match="has gone"):
        run(site.upstreams.view().relay(CALL, None, gone))
    assert (site.states, site.replicas[0].running) == (["closed"], 0)


# -- who answered -------------------------------------------------------------------------------


def test_a_view_is_the_server_that_it_uses() -> None:
    site = lab(Engine("x", "4", model="m"), Engine("y", "4", model="m"), failures=1)

    async def story() -> None:
        view = site.upstreams.view()
        assert (view.engine, view.model) == ("x", "m")
        site.replicas[0].breaker.check(well=False)
        site.replicas[0].breaker.check(well=False)
        assert view.engine == "y"  # the one that would be asked
        await view.sample(CALL)
        assert view.engine == "y"
        site.pass_time(10.0)
        assert (view.engine, view.model) == ("y", "m")

    run(story())


def test_answers_of_unlike_servers_belong_to_no_arm_that_a_profile_knows() -> None:
    first = Engine("x", "4", faults=always(Fail(ServerFault)), model="m")
    second = Engine("y", "4", model="m")
    site = lab(first, second)

    async def story() -> None:
        view = site.upstreams.view()
        arm = Arm(view, DECODING)
        first._faults = ()
        await view.sample(CALL)
        assert arm.key(Kind.NUMBER)["engine"] == "x"
        first._faults = always(Fail(ServerFault))
        with pytest.raises(ServerFault):
            await view.sample(CALL)
        assert arm.key(Kind.NUMBER)["engine"] == "x"  # what failed has answered nothing
        await view.sample(CALL)
        assert arm.key(Kind.NUMBER)["engine"] == "x+y"
        assert arm.key(Kind.NUMBER)["model"] == "m"
        assert site.upstreams.view().engine == "x"  # another request has nothing to do with it

    run(story())


def test_servers_that_are_alike_stay_one_arm() -> None:
    site = lab(Engine("x", "4", faults=[None, Fail(ServerFault)]), Engine("x", "4"))

    async def story() -> str:
        view = site.upstreams.view()
        await view.sample(CALL)
        with pytest.raises(ServerFault):
            await view.sample(CALL)
        await view.sample(CALL)
        return view.engine

    assert run(story()) == "x"
    assert [name for name, error in site.heard if error is None] == ["a", "b"]


def test_one_engine_with_two_models_is_no_arm_either() -> None:
    site = lab(Engine("x", "4", model="m", faults=[None, Fail(ServerFault)]), Engine("x", "4"))

    async def story() -> str:
        view = site.upstreams.view()
        await view.sample(CALL)
        with pytest.raises(ServerFault):
            await view.sample(CALL)
        await view.sample(CALL)
        return view.engine

    assert run(story()) == "x+x"


# -- what they can do ---------------------------------------------------------------------------


class Dumb(Scripted):
    """Cannot say what it can do."""

    problem: Exception = Unavailable("nobody there")
    asked = 0

    async def capabilities(self) -> Capabilities:
        self.asked += 1
        await asyncio.sleep(0)
        raise self.problem


@pytest.mark.parametrize("error", [*RETRYABLE, Unauthorized, ModelMissing])
def test_a_server_that_cannot_be_asked_what_it_can_is_passed_over(
    error: type[BackendError],
) -> None:
    first = Dumb("5")
    first.problem = error("no")
    site = lab(first, Scripted("4", capabilities=ONE_A_REQUEST))
    result = run(site.solve(2))
    assert (result.answer, result.n_samples, first.calls) == ("4", 2, [])
    assert result.spend.calls == 2


def test_where_none_can_be_asked_what_it_can_the_reason_is_given() -> None:
    result = run(lab(Dumb("4"), Dumb("4")).solve())
    assert isinstance(result.error, Unavailable)


def test_nobody_waits_for_a_server_whose_breaker_opened_over_what_it_can_do() -> None:
    only = Dumb("4")
    only.problem = ServerFault("broken")
    result = run(lab(only, failures=1).solve())
    assert isinstance(result.error, ServerFault)
    assert result.error.retry_after == pytest.approx(10.0)
    assert only.asked == 1


def test_a_server_is_asked_once_what_it_can_do_by_however_many() -> None:
    class Counting(Scripted):
        asked = 0

        async def capabilities(self) -> Capabilities:
            self.asked += 1
            await asyncio.sleep(0.01)
            return await super().capabilities()

    backend = Counting("4")
    site = lab(backend)

    async def story() -> None:
        await asyncio.gather(*(site.solve() for _ in range(10)))

    run(story())
    assert backend.asked == 1


def test_those_who_wait_for_a_server_to_be_asked_do_not_ask_it_themselves_once_it_is_open() -> None:
    first = Dumb("4")
    site = lab(first, Scripted("4"), failures=2)

    async def story() -> list[Result]:
        return await asyncio.gather(*(site.solve() for _ in range(10)))

    assert [r.answer for r in run(story())] == ["4"] * 10
    assert first.asked == 2


def test_a_server_that_takes_over_is_asked_no_more_than_it_can() -> None:
    first = Scripted("4", faults=[Fail(ServerFault)])
    second = Scripted("4", capabilities=Capabilities(n=2, logprobs=None, seed=False))
    result = run(lab(first, second).solve(4, Setting(logprobs=3)))
    call = second.calls[0]
    assert (call.n, call.logprobs, call.seed) == (2, None, None)
    assert (first.calls[0].n, first.calls[0].logprobs) == (4, 3)
    assert result.answer == "4"
    assert result.n_samples == 4


@pytest.mark.usefixtures("quick_retries")
def test_a_call_that_was_never_sent_is_not_charged_in_full() -> None:
    """The one that takes over times out over what it can do: nothing was asked of it."""
    second = Dumb("4")
    second.problem = TimedOut("no reply in time")
    site = lab(Scripted("4", faults=[Fail(RateLimited)]), second)
    result = run(site.solve(setting=Setting(attempts=2)))
    assert isinstance(result.error, Unavailable)
    assert "'b' could not be asked" in str(result.error)
    assert (result.spend.held_tokens, result.spend.estimated) == (0, False)


# -- cancelling ---------------------------------------------------------------------------------


def test_cancelling_reaches_the_server_and_is_no_failure() -> None:
    only = Scripted("4", faults=always(Hang(after_tokens=2)), capabilities=ONE_A_REQUEST)
    site = lab(only, failures=1)

    async def story() -> None:
        work = asyncio.create_task(site.solve(3))
        await everything_begins()
        assert only.in_flight == 3
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    run(story())
    assert (only.in_flight, only.cancelled) == (0, 3)
    assert (site.states, site.replicas[0].breaker.failures) == (["closed"], 0)
    assert (site.replicas[0].running, site.heard) == (0, [])


def test_a_server_that_hangs_until_the_deadline_is_cancelled_and_charged() -> None:
    only = Scripted("4", faults=always(Hang(after_tokens=2)))
    result = run(lab(only).solve(setting=Setting(limits=Limits(max_seconds=0.05))))
    assert (result.stop, only.cancelled) == (Reason.DEADLINE, 1)
    assert (result.spend.cancelled_tokens, result.spend.estimated) == (2, True)


def test_a_cancelled_trial_makes_room_for_another() -> None:
    only = Scripted("4", faults=[Fail(ServerFault), Hang()])
    site = lab(only, failures=1)

    async def story() -> None:
        await site.solve()
        site.pass_time(10.0)
        late = await site.solve(setting=Setting(limits=Limits(max_seconds=0.02)))
        assert late.stop is Reason.DEADLINE
        assert (await site.solve()).answer == "4"

    run(story())
    assert site.states == ["closed"]


def test_a_call_cancelled_while_it_waits_for_a_trial_was_never_sent() -> None:
    only = Scripted("4", faults=[Fail(ServerFault), Hang()], capabilities=ONE_A_REQUEST)
    site = lab(only, failures=1)

    async def story() -> Result:
        await site.solve()
        site.pass_time(10.0)
        return await site.solve(3, Setting(limits=Limits(max_seconds=0.05)))

    result = run(story())
    assert len(only.calls) == 2
    assert (result.spend.calls, result.spend.held_samples) == (1, 1)


def test_a_call_that_was_sent_after_it_waited_for_a_trial_is_charged() -> None:
    faults = [Fail(ServerFault), Slow(0.02), Hang(), Hang()]
    only = Scripted("4", faults=faults, capabilities=ONE_A_REQUEST)
    site = lab(only, failures=1)

    async def story() -> Result:
        await site.solve()
        site.pass_time(10.0)
        return await site.solve(3, Setting(limits=Limits(max_seconds=0.1)))

    result = run(story())
    assert result.stop is Reason.DEADLINE
    assert (result.spend.calls, result.spend.samples, result.spend.held_samples) == (3, 1, 2)


def test_a_call_that_was_sent_after_its_server_was_asked_what_it_can_is_charged() -> None:
    second = Scripted("4", faults=always(Hang()))
    site = lab(failing(RateLimited), second)
    result = run(site.solve(setting=Setting(limits=Limits(max_seconds=0.1))))
    assert (result.stop, len(second.calls)) == (Reason.DEADLINE, 1)
    assert (result.spend.calls, result.spend.held_samples) == (2, 1)


# -- checks -------------------------------------------------------------------------------------


def test_a_check_finds_a_server_that_is_back_before_the_cool_down_is_over() -> None:
    first = Listed("4", faults=[Fail(ServerFault)])
    site = lab(first, Scripted("4"), failures=1)

    async def story() -> None:
        await site.solve()
        first.problem = Unavailable("still down")
        await site.upstreams.check()
        assert site.states[0] == "open"
        first.problem = None
        site.pass_time(8.0)
        await site.upstreams.check()
        assert site.states[0] == "half-open"
        await site.solve()
        assert site.states[0] == "closed"

    run(story())
    assert len(first.calls) == 2


@pytest.mark.parametrize(
    "problem", [Unavailable("x"), ServerFault("x"), TimedOut("x"), RuntimeError("a defect")]
)
def test_a_server_that_fails_two_checks_is_left_alone(problem: Exception) -> None:
    first = Listed("4")
    first.problem = problem
    site = lab(first, Scripted("4"))

    async def story() -> None:
        await site.upstreams.check()
        assert site.states[0] == "closed"
        site.pass_time(15.0)
        await site.upstreams.check()
        assert site.states[0] == "open"
        await site.solve()

    run(story())
    assert first.calls == []


@pytest.mark.parametrize("problem", [Unauthorized("x"), RateLimited("x"), MalformedReply("x")])
def test_a_server_that_has_no_model_list_for_us_may_chat_all_the_same(problem: Exception) -> None:
    first = Listed("4")
    first.problem = problem
    site = lab(first)

    async def story() -> None:
        for _ in range(4):
            await site.upstreams.check()
            site.pass_time(15.0)

    run(story())
    assert (first.looks, site.states) == (4, ["closed"])


def test_a_server_that_is_in_use_is_not_checked() -> None:
    first, second = Listed("4", latency=0.03), Listed("4")
    site = lab(first, second)

    async def story() -> None:
        work = asyncio.create_task(site.solve())
        await everything_begins()
        assert first.in_flight == 1
        site.pass_time(100.0)
        await site.upstreams.check()  # a call is under way on the first
        await work
        site.pass_time(10.0)
        await site.upstreams.check()  # and one was answered just now
        assert (first.looks, second.looks) == (0, 2)
        site.pass_time(15.0)
        await site.upstreams.check()
        assert (first.looks, second.looks) == (1, 3)

    run(story())


def test_a_server_that_several_aliases_share_is_not_checked_twice_as_often() -> None:
    shared = Listed("4")
    site = lab(shared)
    other = Upstreams(site.replicas, 15.0, clock=site.clock)

    async def story() -> None:
        for _ in range(3):
            await asyncio.gather(site.upstreams.check(), other.check())
            site.pass_time(15.0)

    run(story())
    assert shared.looks == 3


def test_a_trial_is_not_disturbed_by_checks() -> None:
    first = Listed("4", faults=[Fail(ServerFault), Slow(0.03)])
    site = lab(first, failures=1)

    async def story() -> None:
        await site.solve()
        site.pass_time(10.0)
        work = asyncio.create_task(site.solve())
        await everything_begins()
        assert first.in_flight == 1
        await site.upstreams.check()
        await work

    run(story())
    assert (first.looks, site.states) == (0, ["closed"])


def test_the_watch_goes_on_until_it_is_cancelled() -> None:
    first = Listed("4")
    first.problem = RuntimeError("a defect")
    site = lab(first, check_every=0.01, clock=time.monotonic)

    async def story() -> None:
        watching = asyncio.create_task(site.upstreams.watch())
        await asyncio.sleep(0.2)
        assert first.looks > 2
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    run(story())


def test_without_an_interval_nothing_is_watched() -> None:
    first = Listed("4")
    run(asyncio.wait_for(lab(first, check_every=0.0).upstreams.watch(), 5))
    assert first.looks == 0


def test_a_server_without_a_model_list_is_asked_what_it_can_do() -> None:
    site = lab(Dumb("4"))

    async def story() -> None:
        for _ in range(2):
            await site.upstreams.check()
            site.pass_time(15.0)

    run(story())
    assert site.states == ["half-open"]  # opened at the second, 15 seconds ago


# -- the group ----------------------------------------------------------------------------------


def test_the_status_names_servers_and_states_and_nothing_else() -> None:
    site = lab(failing(ServerFault), Scripted("4"), failures=1)
    run(site.solve())
    site.pass_time(3.0)
    first, second = site.upstreams.status()
    assert {**first, "since": 0} == {"name": "a", "state": "open", "failures": 1, "since": 0}
    assert {**second, "since": 0} == {"name": "b", "state": "closed", "failures": 0, "since": 0}
    assert first["since"] == pytest.approx(time.time() - 3.0, abs=1.0)
    assert site.upstreams.ready


def test_a_group_is_ready_while_any_server_may_be_asked() -> None:
    site = lab(Scripted("4"), Scripted("4"), failures=1)
    tickets = [r.breaker.admit() for r in site.replicas]
    for replica, ticket in zip(site.replicas, tickets, strict=True):
        assert site.upstreams.ready
        assert ticket is not None
        replica.breaker.hear(ticket, ServerFault("down"))
    assert not site.upstreams.ready
    site.pass_time(10.0)
    assert site.upstreams.ready


def test_closing_closes_every_server_also_where_one_fails_to_close() -> None:
    class Stuck(Scripted):
        async def aclose(self) -> None:
            raise OSError("stuck")

    last = Scripted("4")
    site = lab(Stuck("4"), last)
    with pytest.raises(OSError, match="stuck"):
        run(site.upstreams.aclose())
    assert last.closed


def test_closing_a_view_closes_no_server() -> None:
    only = Scripted("4")
    site = lab(only)
    run(site.upstreams.view().aclose())
    assert not only.closed


def test_a_view_is_a_backend() -> None:
    backend: Backend = lab(Scripted("4")).upstreams.view()
    assert (backend.engine, backend.model) == ("scripted", "scripted")


@pytest.mark.parametrize("names", [(), ("a", "a")])
def test_a_group_wants_servers_that_can_be_told_apart(names: tuple[str, ...]) -> None:
    replicas = [Replica(name, Scripted("4"), Breaker(1, 1.0)) for name in names]
    with pytest.raises(UsageError, match="a name of its own"):
        Upstreams(replicas)


def test_an_interval_below_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="check_every"):
        lab(Scripted("4"), check_every=-1.0)


def test_the_breakers_state_is_what_the_status_says() -> None:
    assert {condition.value for condition in Condition} == {"closed", "open", "half-open"}
