"""The HTTP back-end against a real server that fails in every way: one error each, never a raw one.

Each error says whether a retry helps, whether anything may have been generated (and billed), and
what arrived before it; none repeats the key.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpcore2
import pytest

from fault_server import Behaviour, FaultServer, date_after
from http_client import KNOWN, Count, both_ways
from poise.backends import Http
from poise.backends.refusing import BROKEN, translate
from poise.errors import (
    BackendError,
    MalformedReply,
    RateLimited,
    Rejected,
    ServerFault,
    StreamCut,
    TimedOut,
    Unauthorized,
    Unavailable,
)
from poise.types import Batch, Request

ASK = Request(messages=({"role": "user", "content": "What is 3 + 4?"},), decoding={})
EVENTS = {"Content-Type": "text/event-stream"}
CHUNK = {"choices": [{"index": 0, "delta": {"content": "7"}, "finish_reason": None}]}
TEXT = Behaviour(texts=("one two three four five six",))


def ask(url: str, request: Request = ASK, meter: Count | None = None, **more: Any) -> Batch:
    async def go() -> Batch:
        given: dict[str, Any] = {"model": "faulty", "capabilities": KNOWN, "timeout": 10.0}
        backend = Http(url, **given | more)
        try:
            return await backend.sample(request, meter)
        finally:
            await backend.aclose()

    return asyncio.run(go())


def failure(behaviour: Behaviour, request: Request = ASK, **more: Any) -> BackendError:
    """The error of one call, which is one line and says where it happened."""
    with FaultServer(behaviour) as server, pytest.raises(BackendError) as caught:
        ask(server.base_url, request, **more)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def events(*chunks: Any) -> Behaviour:
    """A stream of just these events, as they stand."""
    lines = [one if isinstance(one, str) else json.dumps(one) for one in chunks]
    return Behaviour(body="".join(f"data: {line}\n\n" for line in lines), headers=EVENTS)


# -- statuses -----------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, Rejected) for status in (307, 400, 404, 413, 422, 501)),
        *((status, Unauthorized) for status in (401, 403)),
        *((status, ServerFault) for status in (409, 425, 500, 502, 503, 504)),
        (408, TimedOut),
        (429, RateLimited),
    ],
)
def test_every_status_is_one_kind_of_error(status: int, kind: type, stream: bool) -> None:
    error = failure(Behaviour(status=status), stream=stream)
    assert type(error) is kind
    assert f"HTTP {status}: scripted status {status}" in str(error)
    assert "http://127.0.0.1:" in str(error)
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": {"message": "no such model"}}', "no such model"),
        ('{"error": "no such model"}', "no such model"),
        ('{"message": "no such\\nmodel"}', "no such model"),
        ('{"detail": [{"msg": "no such model"}]}', "no such model"),
        ("no such\r\n  model", "no such model"),
        ('"no such model"', "no such model"),
        (b"\xff\xfe no such model", "no such model"),
        ("", "no explanation"),
        ("[" * 100_000, "[[["),
        ("x" * 100_000, "xxx"),
    ],
    ids=range(10),
)
def test_the_servers_own_words_are_kept_on_one_short_line(body: str | bytes, said: str) -> None:
    error = failure(Behaviour(status=400, body=body))
    assert said in str(error)
    assert len(str(error)) < 400


@both_ways
def test_a_proxys_page_is_a_fault_of_the_server_and_quoted_in_short(stream: bool) -> None:
    page = "<html>\n<body><h1>502 Bad Gateway</h1></body>\n</html>"
    headers = {"Content-Type": "text/html"}
    error = failure(Behaviour(status=502, body=page, headers=headers), stream=stream)
    assert isinstance(error, ServerFault)
    assert "502 Bad Gateway" in str(error)
    error = failure(Behaviour(body=page, headers=headers), stream=stream)
    assert isinstance(error, MalformedReply)


def test_a_missing_route_hints_at_the_usual_end_of_a_base_url() -> None:
    with FaultServer() as server, pytest.raises(Rejected, match=r"usually ends in /v1"):
        ask(server.base_url.removesuffix("/v1"))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        ({"retry-after-ms": "soon", "Retry-After": "2"}, 2.0),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait_is_read_as_the_server_says_it(
    status: int, headers: dict[str, str], seconds: float | None
) -> None:
    assert failure(Behaviour(status=status, headers=headers)).retry_after == seconds


def test_a_time_to_wait_until_is_a_time_to_wait() -> None:
    error = failure(Behaviour(status=429, headers={"Retry-After": date_after(30)}))
    assert error.retry_after is not None
    assert 20 < error.retry_after <= 30


# -- replies that break -------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [0, 1, 4, 6])
def test_a_stream_that_is_cut_is_no_reply_and_what_arrived_is_counted(tokens: int) -> None:
    meter = Count()
    error = failure(replace(TEXT, cut_after=tokens), meter=meter)
    assert type(error) is StreamCut
    assert meter.tokens == tokens


def test_a_stream_that_ends_without_saying_why_is_cut_even_if_it_says_done() -> None:
    meter = Count()
    assert type(failure(replace(TEXT, finish=False), meter=meter)) is StreamCut
    assert type(failure(replace(TEXT, finish=False, done=False))) is StreamCut
    assert meter.tokens == 6


def test_one_choice_that_stays_unfinished_cuts_the_whole_reply() -> None:
    end = {"choices": [{"index": 1, "delta": {"content": "8"}, "finish_reason": "stop"}]}
    assert type(failure(events(CHUNK, end, "[DONE]"))) is StreamCut


def test_a_whole_reply_that_is_cut_is_no_reply() -> None:
    assert type(failure(replace(TEXT, cut_after=1), stream=False)) is StreamCut


@both_ways
@pytest.mark.parametrize("tokens", [0, 3])
def test_broken_json_is_malformed_wherever_it_comes(tokens: int, stream: bool) -> None:
    meter = Count()
    error = failure(replace(TEXT, broken_after=tokens), stream=stream, meter=meter)
    assert type(error) is MalformedReply
    assert meter.tokens == (tokens if stream else 0)


@pytest.mark.parametrize(
    "lines", ["[]", "7", '"text"', "null", "{'a': 1}", "[" * 100_000, '{"choices": [7]}']
)
def test_events_of_another_shape_are_malformed(lines: str) -> None:
    assert type(failure(events(lines))) is MalformedReply


@both_ways
def test_bytes_that_are_not_http_are_a_broken_connection(stream: bool) -> None:
    assert type(failure(Behaviour(garbage=True), stream=stream)) is StreamCut


def test_lines_that_are_no_events_are_an_empty_stream() -> None:
    assert type(failure(Behaviour(body="hello\nthere\n\n", headers=EVENTS))) is StreamCut


def test_a_reply_without_choices_is_no_reply() -> None:
    assert type(failure(Behaviour(choices=0), stream=False)) is MalformedReply
    assert type(failure(Behaviour(choices=0))) is StreamCut


def test_text_that_does_not_decompress_is_malformed() -> None:
    squeezed = Behaviour(body="this is not gzip", headers={"Content-Encoding": "gzip"})
    assert type(failure(squeezed)) is MalformedReply


ERROR = {"error": {"message": "CUDA out of memory", "code": 500}}


@pytest.mark.parametrize(
    "chunks",
    [
        [ERROR],
        [CHUNK, ERROR],
        [CHUNK, ERROR, "[DONE]"],
        [CHUNK, CHUNK | ERROR],
        [CHUNK, {"error": "CUDA out of memory"}],
    ],
)
def test_an_error_inside_a_stream_is_the_servers_fault(chunks: list[Any]) -> None:
    meter = Count()
    error = failure(events(*chunks), meter=meter)
    assert type(error) is ServerFault
    assert "CUDA out of memory" in str(error)
    assert meter.tokens == (CHUNK in chunks)


@both_ways
def test_an_error_object_with_status_200_is_the_servers_fault(stream: bool) -> None:
    error = failure(Behaviour(body=json.dumps(ERROR)), stream=stream)
    assert type(error) is ServerFault
    assert "CUDA out of memory" in str(error)


# -- silence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [0, 2])
def test_silence_ends_a_call_and_closes_its_connection(tokens: int) -> None:
    meter = Count()
    with FaultServer(replace(TEXT, hang_after=tokens)) as server:
        with pytest.raises(TimedOut, match="no reply in time"):
            ask(server.base_url, meter=meter, timeout=0.4)
        assert server.until(lambda: server.requests[0].aborted)
    assert meter.tokens == tokens


@both_ways
def test_no_first_byte_in_time_is_silence_too(stream: bool) -> None:
    error = failure(Behaviour(latency=math.inf), stream=stream, timeout=0.2)
    assert type(error) is TimedOut


def test_a_slow_reply_that_keeps_coming_is_not_silent() -> None:
    slow = Behaviour(texts=("word " * 12,), token_delay=0.08)
    with FaultServer(slow) as server:
        batch = ask(server.base_url, timeout=0.6)  # the reply takes about a second
    assert batch.usage.completion_tokens == 12


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port nobody listens on, held so that nobody will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@both_ways
def test_a_server_that_is_not_there_is_unavailable_and_nothing_was_sent(
    closed_port: int, stream: bool
) -> None:
    with pytest.raises(Unavailable, match="is the server running") as caught:
        ask(f"http://127.0.0.1:{closed_port}/v1", stream=stream)
    assert caught.value.retryable
    assert caught.value.fate_known


# -- every error of the transport ---------------------------------------------------------------

RAISED = [
    error
    for error in (getattr(httpcore2, name) for name in httpcore2.__all__)
    if isinstance(error, type) and issubclass(error, Exception)
]
UNSENT = {
    httpcore2.ConnectError,
    httpcore2.ConnectTimeout,
    httpcore2.ConnectionNotAvailable,
    httpcore2.LocalProtocolError,
    httpcore2.PoolTimeout,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
}
"""Errors after which it is certain that the server got no request."""


def test_the_transports_errors_are_all_known_here() -> None:
    assert len(RAISED) > 12
    assert set(RAISED) > UNSENT
    assert all(issubclass(error, BROKEN) for error in RAISED)


@pytest.mark.parametrize("kind", RAISED)
def test_every_error_of_the_transport_becomes_one_of_ours(kind: type[Exception]) -> None:
    error = translate(kind("it\nbroke"), "http://host/v1")
    assert isinstance(error, BackendError)
    assert str(error).startswith("http://host/v1: ")
    assert len(str(error).splitlines()) == 1
    assert error.fate_known == (kind in UNSENT)


def test_an_error_without_words_is_named() -> None:
    assert "ReadError" in str(translate(httpcore2.ReadError(""), "http://host/v1"))


# -- secrets ------------------------------------------------------------------------------------

KEY = "sk-tests-0123456789"


@both_ways
@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(status=401, body=json.dumps({"error": {"message": f"Incorrect key: {KEY}"}})),
        Behaviour(status=500, body=f"Authorization: Bearer {KEY}"),
        Behaviour(status=400, body="x" * 290 + KEY),
        Behaviour(body=json.dumps({"error": {"message": f"Incorrect key: {KEY}"}})),
        events({"error": {"message": f"Incorrect key: {KEY}"}}),
        events({"error": "x" * 450 + KEY}),
        events(f"not JSON, {KEY}"),
        events(f"not JSON and long enough to be cut in the middle, {KEY}"),
        Behaviour(garbage=True),
    ],
)
def test_no_error_repeats_the_key(behaviour: Behaviour, stream: bool) -> None:
    error = failure(behaviour, api_key=KEY, stream=stream)
    assert KEY[:9] not in f"{error}{error.__cause__}"
    assert type(error) is type(failure(behaviour, stream=stream))


def test_a_refused_key_is_named_by_its_option() -> None:
    refused = pytest.raises(Unauthorized, match="api-key-env")
    with FaultServer(api_key="another") as server, refused as caught:
        ask(server.base_url, api_key=KEY)
    assert KEY not in str(caught.value)


def test_a_password_in_the_base_url_is_not_repeated(closed_port: int) -> None:
    with pytest.raises(Unavailable) as caught:
        ask(f"http://someone:hunter2@127.0.0.1:{closed_port}/v1")
    assert "hunter2" not in str(caught.value)
    assert f"http://127.0.0.1:{closed_port}/v1" in str(caught.value)
