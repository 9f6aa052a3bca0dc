"""The fault server itself, asked with nothing but the standard library."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import math
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fault_server import Behaviour, FaultServer, UsageKind, date_after, number_for


@contextlib.contextmanager
def ask(
    server: FaultServer, *, path: str = "/v1/chat/completions", **more: Any
) -> Iterator[http.client.HTTPResponse]:
    """The reply to one request on a connection of its own."""
    body = {"model": "m", "messages": [{"role": "user", "content": "What is 3 + 4?"}], **more}
    with contextlib.closing(connect(server)) as connection:
        connection.request("POST", path, json.dumps(body), {"Connection": "close"})
        with connection.getresponse() as response:
            yield response


def connect(server: FaultServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)


def reply(server: FaultServer, **more: Any) -> Any:
    with ask(server, **more) as response:
        return json.load(response)


def texts(server: FaultServer, **more: Any) -> list[str]:
    return [choice["message"]["content"] for choice in reply(server, **more)["choices"]]


def stream(server: FaultServer, **more: Any) -> str:
    with ask(server, stream=True, stream_options={"include_usage": True}, **more) as response:
        return response.read().decode()


def events(raw: str) -> list[Any]:
    """The JSON of every event but [DONE]."""
    lines = [line for line in re.split(r"\r\n|\n|\r", raw) if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]


def joined(chunks: list[Any]) -> dict[int, str]:
    """Every choice's text, put together."""
    made: dict[int, str] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        made[choice["index"]] = made.get(choice["index"], "") + choice["delta"].get("content", "")
    return made


# -- right answers ------------------------------------------------------------------------------


def test_a_seed_fixes_the_text_and_every_choice_is_another_draw() -> None:
    with FaultServer() as server:
        first = texts(server, seed=1, n=3)
        assert first == texts(server, seed=1, n=3) == [number_for(1, i) for i in range(3)]
        assert len({*first, *texts(server, seed=2, n=3)}) == 6
        assert texts(server) != texts(server)


def test_streamed_and_whole_replies_hold_the_same() -> None:
    with FaultServer(Behaviour(texts=("one two  three", "vier fünf"))) as server:
        chunks = events(stream(server, n=2))
        assert (
            list(joined(chunks).values()) == texts(server, n=2) == ["one two  three", "vier fünf"]
        )
        assert chunks[-1] == {
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": {"prompt_tokens": 5, "completion_tokens": 5},
        }
        assert reply(server, n=2)["usage"] == chunks[-1]["usage"]


def test_max_tokens_ends_a_choice_by_length() -> None:
    with FaultServer(Behaviour(texts=("a b c",))) as server:
        (choice,) = reply(server, max_tokens=2)["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("a b", "length")


def test_log_probabilities_come_when_asked_for_unless_the_script_forbids() -> None:
    with FaultServer(lambda _, number: Behaviour(texts=("a b",), logprobs=number < 2)) as server:
        whole = reply(server, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
        chunks = events(stream(server, logprobs=True, top_logprobs=2))
        streamed = [
            entry
            for chunk in chunks
            for choice in chunk["choices"]
            for entry in (choice["logprobs"] or {}).get("content", [])
        ]
        assert whole == streamed
        assert [len(entry["top_logprobs"]) for entry in whole] == [2, 2]
        assert all(entry["logprob"] < 0 for entry in whole)
        assert reply(server, logprobs=True)["choices"][0]["logprobs"] is None


def test_models_are_listed_behind_the_key_if_there_is_one() -> None:
    with (
        FaultServer(models=("a", "b"), api_key="secret") as server,
        contextlib.closing(connect(server)) as connection,
    ):
        connection.request("GET", "/v1/models")
        refused = connection.getresponse()
        assert (refused.status, bool(refused.read())) == (401, True)
        connection.request("GET", "/v1/models", headers={"Authorization": "Bearer secret"})
        listed = json.load(connection.getresponse())["data"]
        assert [model["id"] for model in listed] == ["a", "b"]
    with FaultServer(models=None) as server, ask(server, path="/v1/models") as response:
        assert response.status == 404


def test_a_connection_serves_several_requests_and_is_counted_while_open() -> None:
    with FaultServer() as server:
        connection = connect(server)
        for stream_it in (False, True, False):
            body = json.dumps({"messages": [], "stream": stream_it})
            connection.request("POST", "/v1/chat/completions", body, {"X-Sent": "yes"})
            assert connection.getresponse().read()
        assert server.open_connections == 1
        connection.close()
        assert server.until(lambda: server.open_connections == 0)
        assert [seen.headers["x-sent"] for seen in server.requests] == ["yes"] * 3
        assert all(seen.finished and not seen.aborted for seen in server.requests)


# -- faults -------------------------------------------------------------------------------------


def test_the_script_sees_each_body_and_its_number() -> None:
    def script(body: dict[str, Any], number: int) -> Behaviour:
        return Behaviour(texts=(f"{body['seed']}/{number}",))

    with FaultServer(script) as server:
        assert [texts(server, seed=seed) for seed in (5, 6)] == [["5/0"], ["6/1"]]


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 502, 503])
def test_a_status_comes_with_its_headers_and_body(status: int) -> None:
    headers = {"Retry-After": "2", "Content-Type": "text/html"}
    behaviour = Behaviour(status=status, headers=headers, body="<h1>no</h1>")
    with FaultServer(behaviour) as server, ask(server) as response:
        assert (response.status, response.read()) == (status, b"<h1>no</h1>")
        assert response.headers["Retry-After"] == "2"
        assert response.headers.get_all("Content-Type") == ["text/html"]


def test_a_date_for_retry_after_lies_in_the_future() -> None:
    at = email.utils.parsedate_to_datetime(date_after(30))
    assert 28 <= at.timestamp() - time.time() <= 30


@pytest.mark.parametrize("field", ["seed", "logprobs", "stream_options", "top_k", "max_tokens"])
def test_a_rejected_field_is_named(field: str) -> None:
    with FaultServer(Behaviour(rejects=frozenset({field}))) as server:
        sent: dict[str, Any] = {field: 1}
        with ask(server, **sent) as response:
            assert response.status == 400
            assert f"'{field}'" in json.load(response)["error"]["message"]
        assert len(texts(server)) == 1


def test_rejecting_n_lets_one_choice_pass() -> None:
    with FaultServer(Behaviour(rejects=frozenset({"n"}))) as server:
        assert len(texts(server, n=1)) == 1
        with ask(server, n=2) as response:
            assert response.status == 400


@pytest.mark.parametrize("given", [0, 1, 5])
def test_the_number_of_choices_can_differ_from_what_was_asked(given: int) -> None:
    with FaultServer(Behaviour(choices=given)) as server:
        assert len(texts(server, n=3)) == given
        assert len(joined(events(stream(server, n=3)))) == given


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        (UsageKind.TOTAL, [None, None, None, None, None, None, None, 3]),
        (UsageKind.NULL, [None] * 7),
        (UsageKind.MISSING, []),
        (UsageKind.EACH, [None] * 7 + [1, 2]),
        (UsageKind.ONE, [None] * 7 + [1]),
        (UsageKind.RUNNING, [0, 0, 1, 2, 3, 3, 3]),
    ],
)
def test_usage_is_reported_in_every_known_way(kind: UsageKind, counts: list[int | None]) -> None:
    with FaultServer(Behaviour(texts=("a", "b c"), usage=kind)) as server:
        stated = [e["usage"] for e in events(stream(server, n=2)) if "usage" in e]
        assert [usage and usage["completion_tokens"] for usage in stated] == counts
        whole = reply(server, n=2)
        assert ("usage" in whole) is (kind is not UsageKind.MISSING)
        if whole.get("usage"):
            assert whole["usage"]["completion_tokens"] == (1 if kind is UsageKind.ONE else 3)


@pytest.mark.parametrize("interleaved", [True, False])
def test_choices_of_a_stream_take_turns_or_do_not(interleaved: bool) -> None:
    with FaultServer(Behaviour(texts=("a b", "c d"), interleaved=interleaved)) as server:
        chunks = events(stream(server, n=2))
        order = [
            choice["index"]
            for chunk in chunks
            for choice in chunk["choices"]
            if choice["delta"].get("content")
        ]
        assert order == ([0, 1, 0, 1] if interleaved else [0, 0, 1, 1])


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_odd_but_lawful_streams_say_the_same(newline: str) -> None:
    plain = Behaviour(texts=("größer als 5 €",))
    odd = Behaviour(texts=plain.texts, newline=newline, heartbeats=True, packet=7)
    with FaultServer(lambda _, number: (plain, odd)[number]) as server:
        expected, raw = stream(server), stream(server)
        assert joined(events(raw)) == joined(events(expected)) == {0: "größer als 5 €"}
        assert raw.count(": ping" + newline) == len(events(raw))


def test_a_packet_size_splits_characters() -> None:
    with (
        FaultServer(Behaviour(texts=("€",), packet=1)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as link,
    ):
        body = json.dumps({"messages": [], "stream": True}).encode()
        link.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        link.sendall(body)
        raw = b""
        while not raw.endswith(b"\r\n0\r\n\r\n"):
            raw += link.recv(65536)
        assert "€".encode() not in raw
        assert b"1\r\n\xe2\r\n1\r\n\x82\r\n1\r\n\xac\r\n" in raw


def test_a_stream_may_lack_its_end_marks() -> None:
    with FaultServer(Behaviour(finish=False, done=False)) as server:
        raw = stream(server)
        assert "[DONE]" not in raw
        reasons = [choice["finish_reason"] for e in events(raw) for choice in e["choices"]]
        assert set(reasons) == {None}


def test_half_a_json_value_is_sent_where_the_script_says() -> None:
    with FaultServer(Behaviour(texts=("a b c",), broken_after=1)) as server:
        lines = [line for line in stream(server).splitlines() if line]
        assert '"content": "a"' in lines[1]
        with pytest.raises(json.JSONDecodeError):
            json.loads(lines[2].removeprefix("data: "))
        with pytest.raises(json.JSONDecodeError):
            reply(server)


def test_a_cut_closes_the_connection_after_so_many_tokens() -> None:
    with FaultServer(Behaviour(texts=("a b c d",), cut_after=2)) as server:
        with pytest.raises(http.client.IncompleteRead) as cut:
            stream(server)
        assert joined(events(cut.value.partial.decode())) == {0: "a b"}
        with pytest.raises(http.client.IncompleteRead):
            reply(server)
        assert server.until(lambda: server.requests[0].finished)
        assert (server.requests[0].tokens, server.requests[0].aborted) == (2, False)


def test_garbage_is_not_http() -> None:
    with (
        FaultServer(Behaviour(garbage=True)) as server,
        pytest.raises(http.client.BadStatusLine),
        ask(server),
    ):
        pass


@pytest.mark.parametrize(
    "behaviour", [Behaviour(latency=math.inf), Behaviour(texts=("a b c",), hang_after=2)]
)
def test_a_client_that_leaves_a_hanging_reply_is_noticed(behaviour: Behaviour) -> None:
    with FaultServer(behaviour) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as link:
            body = b'{"messages": [], "stream": true}'
            link.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 32\r\n\r\n" + body)
            sent = behaviour.hang_after or 0
            assert server.until(lambda: bool(server.requests) and server.requests[0].tokens == sent)
            assert (server.in_flight, server.most_in_flight) == (1, 1)
        assert server.until(lambda: server.requests[0].aborted)
        assert server.until(lambda: server.open_connections == server.in_flight == 0)
        assert (server.requests[0].tokens, server.requests[0].finished) == (sent, False)


def test_latency_and_token_delay_pass_before_the_end() -> None:
    with FaultServer(Behaviour(texts=("a b",), latency=0.03, token_delay=0.02)) as server:
        start = time.perf_counter()
        stream(server)
        assert time.perf_counter() - start >= 0.07


def test_an_error_in_the_script_reaches_the_test() -> None:
    def wrong(body: dict[str, Any], number: int) -> Behaviour:
        raise LookupError("the test is wrong")

    with (
        pytest.raises(LookupError, match="the test is wrong"),
        FaultServer(wrong) as server,
        ask(server) as response,
    ):
        assert response.status == 500
