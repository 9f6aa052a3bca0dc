"""The HTTP back-end against a real server that behaves: what travels, comes back, is let go.

What goes wrong on the wire is in ``test_http_faults``, what is found out beforehand in
``test_probing``, the shapes of JSON in ``test_wire``, connections in ``test_http_connections``.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from fault_server import Behaviour, FaultServer, UsageKind
from http_client import ASK, KNOWN, Count, both_ways, using
from poise.backends import Http
from poise.types import Batch, Request, Usage


def ask(server: FaultServer, request: Request = ASK, **more: Any) -> Batch:
    return using(server, lambda backend: backend.sample(request), **more)


def texts(batch: Batch) -> list[str | None]:
    return [reply.text for reply in batch.replies]


# -- requests and replies -----------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("logprobs", [None, 0, 2])
def test_a_reply_is_the_same_streamed_and_whole(n: int, logprobs: int | None) -> None:
    request = replace(ASK, n=n, seed=7, logprobs=logprobs)
    with FaultServer(Behaviour(texts=("one two  three", " vier fünf\n", "6"))) as server:
        streamed, whole = (ask(server, request, stream=stream) for stream in (True, False))
    assert streamed == whole
    assert texts(whole) == ["one two  three", " vier fünf\n", "6"][:n]
    assert whole.usage == Usage(5, 3 if n == 1 else 6, 0, 0)
    assert all((reply.logprobs is None) == (logprobs is None) for reply in whole.replies)


@both_ways
def test_what_is_asked_for_travels_and_unknown_fields_pass_through(stream: bool) -> None:
    decoding = {"max_tokens": 9, "top_k": 40, "reasoning_effort": "low", "stop": ["\n"], "x": None}
    request = replace(ASK, decoding=decoding, n=3, seed=11, logprobs=4)
    with FaultServer() as server:
        ask(server, request, stream=stream)
        (seen,) = server.requests
    wanted = decoding | {"n": 3, "seed": 11, "logprobs": True, "top_logprobs": 4}
    assert wanted.items() <= seen.body.items()
    assert seen.body["messages"] == [{"role": "user", "content": "What is 3 + 4?"}]
    assert seen.body["model"] == "faulty"
    assert bool(seen.body.get("stream")) is stream


def test_choices_that_take_turns_and_choices_that_queue_come_out_alike() -> None:
    request = replace(ASK, n=4, logprobs=1)
    made = tuple(f"{letter} " * (place + 2) for place, letter in enumerate("abcd"))
    batches = []
    for interleaved in (True, False):
        with FaultServer(Behaviour(texts=made, interleaved=interleaved)) as server:
            batches.append(ask(server, request))
    assert batches[0] == batches[1]
    assert texts(batches[0]) == list(made)


@pytest.mark.parametrize(("packet", "newline"), [(1, "\r\n"), (2, "\n"), (3, "\r"), (5, "\r\n")])
def test_characters_and_lines_may_be_torn_between_packets(packet: int, newline: str) -> None:
    said = "größer 7€🙂２"
    with FaultServer(
        Behaviour(texts=(said,), packet=packet, newline=newline, heartbeats=True)
    ) as server:
        assert texts(ask(server)) == [said]


def test_a_whole_reply_may_arrive_in_small_packets_too() -> None:
    with FaultServer(Behaviour(texts=("größer €",), packet=3)) as server:
        assert texts(ask(server, stream=False)) == ["größer €"]


@pytest.mark.parametrize(
    "beat", [": ping", "retry: 3000", "event: ping", "id: 7", "data:", "event: ping\ndata: {}"]
)
def test_events_that_say_nothing_are_passed_over(beat: str) -> None:
    chunk = '{"choices": [{"index": 0, "delta": {"content": "7"}, "finish_reason": "stop"}]}'
    body = f"{beat}\n\ndata: {chunk}\n\n{beat}\n\ndata: [DONE]\n\n"
    headers = {"Content-Type": "text/event-stream"}
    with FaultServer(Behaviour(body=body, headers=headers)) as server:
        assert texts(ask(server)) == ["7"]


def test_a_stream_that_is_complete_needs_no_done() -> None:
    with FaultServer(Behaviour(texts=("3 + 4 = 7",), done=False)) as server:
        batch = ask(server, replace(ASK, n=2))
    assert texts(batch) == ["3 + 4 = 7"] * 2
    assert batch.usage.completion_tokens == 10


def test_a_server_that_answers_a_stream_request_whole_is_understood() -> None:
    body = (
        '{"choices": [{"index": 0, "message": {"content": "7"}, "finish_reason": "stop"}],'
        ' "usage": {"prompt_tokens": 5, "completion_tokens": 1}}'
    )
    with FaultServer(Behaviour(body=body)) as server:
        meter = Count()
        batch = using(server, lambda backend: backend.sample(ASK, meter))
    assert texts(batch) == ["7"]
    assert meter.tokens == batch.usage.completion_tokens == 1


# -- usage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [UsageKind.TOTAL, UsageKind.EACH, UsageKind.RUNNING])
@pytest.mark.parametrize("n", [1, 3])
def test_usage_covers_every_choice_and_the_prompt_once_however_it_is_told(
    kind: UsageKind, n: int
) -> None:
    with FaultServer(Behaviour(texts=("a b c", "d e", "f"), usage=kind)) as server:
        meter = Count()
        batch = using(server, lambda backend: backend.sample(replace(ASK, n=n), meter))
    assert batch.usage == Usage(5, 3 if n == 1 else 6, 0, 0)
    assert meter.tokens == batch.usage.completion_tokens


@both_ways
@pytest.mark.parametrize("kind", [UsageKind.MISSING, UsageKind.NULL])
def test_usage_that_is_not_told_is_unknown_and_marked_so(kind: UsageKind, stream: bool) -> None:
    with FaultServer(Behaviour(texts=("a b c",), usage=kind)) as server:
        batch = ask(server, stream=stream)
        counted = ask(server, replace(ASK, logprobs=0), stream=stream)
    assert batch.usage == Usage(None, None, None, None, estimated=True)
    assert batch.replies[0].tokens is None
    assert counted.usage == Usage(None, 3, None, None, estimated=True)
    assert counted.replies[0].tokens == 3


@both_ways
def test_a_usage_known_to_cover_one_choice_is_not_taken_for_all(stream: bool) -> None:
    known = replace(KNOWN, usage_per_choice=True)
    with FaultServer(Behaviour(texts=("a b c", "d e"), usage=UsageKind.ONE)) as server:
        blind = ask(server, replace(ASK, n=2), stream=stream, capabilities=known)
        counted = ask(server, replace(ASK, n=2, logprobs=0), stream=stream, capabilities=known)
    assert blind.usage == Usage(5, None, 0, 0, estimated=True)
    assert counted.usage == Usage(5, 5, 0, 0, estimated=True)


# -- names and keys -----------------------------------------------------------------------------


def test_the_key_travels_in_its_header_without_the_space_around_it() -> None:
    with FaultServer(api_key="sk-7") as server:
        ask(server, api_key=" sk-7\n")
        assert server.requests[0].headers["authorization"] == "Bearer sk-7"


def test_without_a_key_no_header_is_sent() -> None:
    with FaultServer() as server:
        ask(server)
        ask(server, api_key="")
        assert all("authorization" not in seen.headers for seen in server.requests)


def test_a_call_before_anything_else_asks_the_server_for_its_model_once() -> None:
    with FaultServer(models=("only-one",), owned_by="vllm") as server:

        async def work(backend: Http) -> tuple[str, str]:
            await asyncio.gather(*(backend.sample(ASK) for _ in range(3)))
            return backend.model, backend.engine

        assert using(server, work, model=None, engine=None) == ("only-one", "vllm")
        assert [seen.body["model"] for seen in server.requests] == ["only-one"] * 3


def test_a_trailing_slash_of_the_base_url_is_dropped() -> None:
    with FaultServer() as server:
        backend = Http(server.base_url + "/", "faulty", capabilities=KNOWN)

        async def work() -> Batch:
            try:
                return await backend.sample(ASK)
            finally:
                await backend.aclose()

        assert len(asyncio.run(work()).replies) == 1
