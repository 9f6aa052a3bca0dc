"""A reply heard while it is being said: over HTTP as it arrives, from a script word by word.

That what is heard is what is returned holds for every back-end (``contracts/test_backends``).
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest

from fault_server import Behaviour, FaultServer, UsageKind
from http_client import ASK, LONG, Count, both_ways, using
from poise.backends import Http, LlamaCpp, Scripted, Stored
from poise.backends.scripted import Fail, Hang, Slow
from poise.errors import BackendError, MalformedReply, ServerFault, StreamCut
from poise.types import Batch, Relay, Reply, Request

THREE = Behaviour(texts=("one two three",))
EVENTS = {"Content-Type": "text/event-stream"}


class Heard(list[Any]):
    """A listener that remembers what it heard, and when."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.first = asyncio.Event()

    def __call__(self, chunk: Any) -> None:
        self.append(chunk)
        self.times.append(time.monotonic())
        self.first.set()

    def texts(self, index: int = 0) -> list[str]:
        choices = [choice for chunk in self for choice in chunk["choices"]]
        said = [choice["delta"].get("content") for choice in choices if choice["index"] == index]
        return [text for text in said if text]


def relayed(server: FaultServer, heard: Any, request: Request = ASK, **more: Any) -> Batch:
    meter = more.pop("meter", None)
    return using(server, lambda backend: backend.relay(request, meter, heard), **more)


def test_who_can_relay_can_be_told_apart() -> None:
    assert all(issubclass(backend, Relay) for backend in (Http, LlamaCpp, Scripted))
    assert not issubclass(Stored, Relay)


# -- over HTTP ----------------------------------------------------------------------------------


def test_the_servers_own_chunks_are_heard_in_order_and_those_without_choices_are_not() -> None:
    heard = Heard()
    with FaultServer(THREE) as server:
        relayed(server, heard)
    assert [chunk["choices"][0]["delta"] for chunk in heard] == [
        {"role": "assistant", "content": ""},
        *({"content": word} for word in ("one", " two", " three")),
        {},
    ]
    assert heard[-1]["choices"][0]["finish_reason"] == "stop"
    assert all("usage" in chunk for chunk in heard), "the chunks are passed on as they came"


def test_a_chunk_is_heard_when_it_arrives() -> None:
    heard = Heard()
    with FaultServer(replace(THREE, token_delay=0.05)) as server:
        relayed(server, heard)
    gaps = [after - before for before, after in zip(heard.times, heard.times[1:], strict=False)]
    assert sum(gap > 0.025 for gap in gaps) >= 3


@both_ways
@pytest.mark.parametrize("kind", UsageKind)
@pytest.mark.parametrize("n", [1, 3])
def test_relaying_costs_what_sampling_costs(kind: UsageKind, n: int, stream: bool) -> None:
    request = replace(ASK, n=n, seed=3)
    behaviour = Behaviour(texts=("a b c", "d e", "f"), usage=kind)
    with FaultServer(behaviour) as server:
        meters = [Count(), Count()]
        sampled = using(server, lambda b: b.sample(request, meters[0]), stream=stream)
        heard = relayed(server, Heard(), request, stream=stream, meter=meters[1])
        assert server.requests[0].body == server.requests[1].body
    assert heard == sampled
    assert [reply.raw for reply in heard.replies] == [reply.raw for reply in sampled.replies]
    assert meters[0].tokens == meters[1].tokens


def test_a_whole_reply_is_heard_once_as_a_chunk() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call, call], "mood": "good"}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": 5, "completion_tokens": 1}
    body = {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}
    for stream in (True, False):
        heard = Heard()
        with FaultServer(Behaviour(body=json.dumps(body))) as server:
            batch = relayed(server, heard, stream=stream)
        calls = [{"index": index} | call for index in range(2)]
        delta = message | {"tool_calls": calls}
        chunk = {"index": 0, "delta": delta, "finish_reason": "tool_calls"}
        assert heard == [{"id": "x", "object": "chat.completion.chunk", "choices": [chunk]}]
        assert batch.replies[0].raw == choice


@pytest.mark.parametrize("packet", [1, 3, 1000])
def test_torn_packets_make_no_other_chunks(packet: int) -> None:
    heard = Heard()
    with FaultServer(replace(THREE, packet=packet, newline="\r\n", heartbeats=True)) as server:
        relayed(server, heard)
    assert heard.texts() == ["one", " two", " three"]


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (replace(THREE, cut_after=2), StreamCut),
        (replace(THREE, broken_after=2), MalformedReply),
        (replace(THREE, finish=False), StreamCut),
    ],
)
def test_what_came_before_a_failure_was_heard(
    behaviour: Behaviour, error: type[BackendError]
) -> None:
    heard, meter = Heard(), Count()
    with FaultServer(behaviour) as server, pytest.raises(error):
        relayed(server, heard, meter=meter)
    assert heard.texts() == ["one", " two", " three"][: meter.tokens]
    assert meter.tokens == (3 if not behaviour.finish else 2)


@both_ways
def test_an_error_is_raised_and_not_heard(stream: bool) -> None:
    error = {"error": {"message": "out of memory"}, "choices": []}
    body = f"data: {json.dumps(error)}\n\n" if stream else json.dumps(error)
    headers = EVENTS if stream else {}
    heard = Heard()
    with (
        FaultServer(Behaviour(body=body, headers=headers)) as server,
        pytest.raises(ServerFault),
    ):
        relayed(server, heard, stream=stream)
    with FaultServer(Behaviour(status=503)) as server, pytest.raises(ServerFault):
        relayed(server, heard, stream=stream)
    assert heard == []


def test_a_listener_that_fails_ends_the_call_and_its_connection() -> None:
    class Full(Exception):
        """What the listener raises."""

    heard: list[Any] = []

    def listen(chunk: Any) -> None:
        heard.append(chunk)
        if len(heard) == 3:
            raise Full

    with FaultServer(LONG) as server:

        async def work(backend: Http) -> None:
            with pytest.raises(Full):
                await backend.relay(ASK, None, listen)
            assert server.until(lambda: server.requests[0].aborted)
            assert server.until(lambda: server.open_connections == 0)

        using(server, work)
    assert len(heard) == 3


def test_cancelling_while_listening_closes_the_connection_at_once() -> None:
    with FaultServer(LONG) as server:

        async def work(backend: Http) -> Heard:
            heard = Heard()
            call = asyncio.ensure_future(backend.relay(ASK, None, heard))
            await asyncio.wait_for(heard.first.wait(), 5)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert server.until(lambda: server.open_connections == 0)
            return heard

        assert 0 < len(using(server, work)) < 100
        assert server.requests[0].aborted


# -- from a script ------------------------------------------------------------------------------


def script(backend: Scripted, request: Request = ASK) -> tuple[Batch, Heard]:
    async def go() -> tuple[Batch, Heard]:
        heard = Heard()
        return await backend.relay(request, None, heard), heard

    return asyncio.run(go())


def test_a_script_is_heard_word_by_word() -> None:
    batch, heard = script(Scripted("one two  three\n"))
    assert heard.texts() == ["one", " two", "  three\n"]
    assert heard[0]["choices"][0]["delta"]["role"] == "assistant"
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in heard]
    assert finishes == [None, None, None, "stop"]
    message = {"role": "assistant", "content": "one two  three\n"}
    assert batch.replies[0].raw == {"index": 0, "message": message, "finish_reason": "stop"}


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_a_text_without_words_is_heard_too(text: str) -> None:
    _, heard = script(Scripted(text))
    assert "".join(heard.texts()) == text
    assert heard[0]["choices"][0]["delta"]["role"] == "assistant"


def test_a_script_takes_its_time_between_words() -> None:
    _, heard = script(Scripted("a b c d e f", latency=0.12))
    assert heard.times[0] < heard.times[-1] - 0.06
    assert heard.times == sorted(heard.times)
    _, late = script(Scripted("a b c", faults=[Slow(0.06)]))
    assert late.times[0] < late.times[-1] - 0.02


def test_draws_are_heard_side_by_side_each_in_its_own_time() -> None:
    request = replace(ASK, n=2, first_index=1)
    backend = Scripted(["-", "a b", "c d"], latency=lambda _, index: 0.03 * index)
    _, heard = script(backend, request)
    assert (heard.texts(0), heard.texts(1)) == (["a", " b"], ["c", " d"])
    order = [chunk["choices"][0]["index"] for chunk in heard]
    assert order[-1] == 1
    _, at_once = script(Scripted(["a b", "c d"]), replace(ASK, n=2))
    assert [chunk["choices"][0]["index"] for chunk in at_once] == [0, 1] * 3


def test_tool_calls_of_a_script_are_heard_with_their_index() -> None:
    calls = ({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},)
    batch, heard = script(Scripted([Reply(None, "tool_calls", tool_calls=calls)]))
    deltas = [chunk["choices"][0]["delta"] for chunk in heard]
    assert deltas == [{"role": "assistant", "tool_calls": [{"index": 0} | calls[0]]}, {}]
    assert batch.replies[0].raw is not None
    assert batch.replies[0].raw["message"]["tool_calls"] == list(calls)


def test_a_reply_that_brings_its_own_words_keeps_them() -> None:
    raw = {"index": 0, "message": {"content": "7", "mood": "good"}, "finish_reason": "stop"}
    batch, heard = script(Scripted([Reply("7", "stop", 1, raw=raw)]))
    assert batch.replies[0].raw == raw
    assert heard.texts() == ["7"]


@pytest.mark.parametrize(("tokens", "words"), [(0, []), (2, ["a", " b"]), (9, ["a", " b", " c"])])
def test_a_script_that_breaks_off_was_heard_so_far(tokens: int, words: list[str]) -> None:
    async def go() -> Heard:
        heard = Heard()
        backend = Scripted("a b c", faults=[Fail(StreamCut, after_tokens=tokens, seconds=0.01)])
        with pytest.raises(StreamCut):
            await backend.relay(ASK, None, heard)
        return heard

    heard = asyncio.run(go())
    assert heard.texts() == words
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in heard)


def test_a_script_that_hangs_is_heard_until_it_does() -> None:
    async def go() -> Heard:
        heard = Heard()
        backend = Scripted("a b c", faults=[Hang(after_tokens=1)])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(backend.relay(ASK, None, heard), 0.03)
        assert backend.cancelled == 1
        return heard

    assert asyncio.run(go()).texts() == ["a"]
