"""Every fault of an upstream, in every way of asking: what the client gets, what is charged.

The table is in ``fault_matrix.py``. Whatever goes wrong the client is told in OpenAI's shape and
without a word about the upstream, what was spent is what the upstream generated (or is said to be
unknown, and held), nothing is left behind, and the next request is answered.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import stamina

from fault_matrix import BACKEND, OK, SERVER, TEXT, WAYS, Row
from fault_server import Behaviour, FaultServer
from gateway_client import PROMPT, SECRET, Tally, Watched, decisions, events, key, settings, until
from poise.backends.scripted import Fault
from poise.serve import logs

UPSTREAM_KEY = "sk-upstreams-own-7a3e"
MODELS = ("open", "number")
FOREVER = 10**6
ERROR_KEYS = {"message", "type", "param", "code"}
TYPES = {
    *("invalid_request_error", "authentication_error", "permission_error", "rate_limit_error"),
    *("insufficient_quota", "server_error"),
}
SILENT = {"recorded": True, "calibrated": False, "probability": None}

ALL_WAYS = pytest.mark.parametrize("way", WAYS)
BOTH = pytest.mark.parametrize("always", [False, True], ids=["once", "always"])


def rows(listed: tuple[Row, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", listed, ids=[row.name for row in listed])


@dataclass
class Trouble:
    """Hands out one fault for the next ``strikes`` calls, and none after them."""

    fault: Any = None
    strikes: int = 0

    def next(self) -> Any:
        self.strikes -= 1
        return self.fault if self.strikes >= 0 else None


@dataclass
class Lab:
    """A gateway, what is wrong upstream, and what the upstream has seen so far."""

    gateway: Watched
    folder: Path
    trouble: Trouble
    calls: Callable[[], int]
    generated: Callable[[], int]
    in_flight: Callable[[], int]
    hidden: tuple[str, ...]
    log: io.StringIO
    told: list[str] = field(default_factory=list)

    def ask(self, way: str, **more: Any) -> httpx2.Response:
        model, how = WAYS[way]
        poise = {**how.get("poise", {}), **more.get("poise", {})}
        return self.gateway.chat(model, **{**how, **more, "poise": poise})


@pytest.fixture(scope="module")
def log() -> Iterator[io.StringIO]:
    """All that is logged, at the lowest level, as an operator has it."""
    named = [logging.getLogger(name) for name in (*logs.LOGGERS, "poise.serve.access")]
    before = [(one, list(one.handlers), one.level, one.propagate) for one in named]
    page = io.StringIO()
    logs.set_up("DEBUG", page)
    yield page
    for one, handlers, level, propagate in before:
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


STRICT: Mapping[str, Any] = {
    "key": (key(concurrency=1),),
    "serve": {"in_flight": 1, "queue": 0},
}
"""One request at a time, so that a place that is not given back shows in the next."""


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory, log: io.StringIO) -> Iterator[Lab]:
    """A gateway before a real server."""
    trouble, folder = Trouble(), tmp_path_factory.mktemp("wired")
    right = Behaviour(texts=(TEXT,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_KEY", UPSTREAM_KEY)
        with FaultServer(lambda *_: trouble.next() or right, api_key=UPSTREAM_KEY) as server:
            lab = {"key_env": "LAB_KEY", "breaker": 1000, "cool_down": 0.05}
            config = settings(folder, base_url=server.base_url, upstream=lab, **STRICT)
            with Watched(config) as gateway:
                for model in MODELS:  # what the server can do is asked once, before anything
                    assert gateway.chat(model).status_code == 200
                yield Lab(
                    gateway,
                    folder,
                    trouble,
                    calls=lambda: len(server.requests),
                    generated=lambda: sum(seen.tokens for seen in server.requests),
                    in_flight=lambda: server.in_flight,
                    hidden=(f"127.0.0.1:{server.port}", str(server.port), UPSTREAM_KEY),
                    log=log,
                )


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory, log: io.StringIO) -> Iterator[Lab]:
    """A gateway before a script."""
    trouble, folder = Trouble(), tmp_path_factory.mktemp("scripted")
    backend = Tally(TEXT, faults=lambda _request, _tried: trouble.next())
    config = settings(folder, upstream={"breaker": 1000, "cool_down": 0.05}, **STRICT)
    with Watched(config, backend) as gateway:
        for model in MODELS:
            assert gateway.chat(model).status_code == 200
        yield Lab(
            gateway,
            folder,
            trouble,
            calls=lambda: len(backend.calls),
            generated=lambda: backend.generated,
            in_flight=lambda: backend.in_flight,
            hidden=("127.0.0.1:9",),
            log=log,
        )


@BOTH
@rows(SERVER)
@ALL_WAYS
def test_a_fault_of_a_server_is_told_charged_and_over(
    wired: Lab, row: Row, always: bool, way: str
) -> None:
    meet(wired, row, way, always=always)


@BOTH
@rows(BACKEND)
@ALL_WAYS
def test_a_fault_of_a_back_end_is_told_charged_and_over(
    scripted: Lab, row: Row, always: bool, way: str
) -> None:
    meet(scripted, row, way, always=always)


def test_every_fault_there_is_has_a_row() -> None:
    """A new kind of fault wants one."""
    assert {type(row.fault) for row in BACKEND} == set(Fault.__args__)
    errors = {row.fault.error for row in BACKEND if hasattr(row.fault, "error")}
    told = {row.name for row in BACKEND}
    assert {error.__name__ for error in errors} <= told
    plain = Behaviour(texts=(TEXT,))
    stated = {
        name
        for row in SERVER
        for name in Behaviour.__slots__
        if getattr(row.fault, name) != getattr(plain, name)
    }
    # What is lawful and is read elsewhere: test_wire, test_http.
    lawful = {"texts", "rejects", "heartbeats", "newline", "interleaved"}
    assert stated | lawful == set(Behaviour.__slots__)


# -- how a fault is met ---------------------------------------------------------------------------


def meet(lab: Lab, row: Row, way: str, *, always: bool) -> None:
    calls, generated = lab.calls(), lab.generated()
    counted, requested = lab.gateway.metric("poise_calls_total"), requests(lab)
    written = len(lab.log.getvalue())
    lab.trouble.fault, lab.trouble.strikes = row.fault, FOREVER if always else 1
    with stamina.set_testing(not row.patient, attempts=4, cap=True):
        reply = lab.ask(way, **row.ask)
    lab.trouble.strikes = 0
    expected = row.outcome(way, always=always)
    assert outcome(reply) == expected, reply.text
    lab.gateway.settle()
    assert until(lambda: lab.in_flight() == 0)

    kept = decisions(lab.folder)[-1]
    assert_charged(lab, row, kept, lab.calls() - calls, lambda: lab.generated() - generated)
    if expected == OK:
        assert_told(reply, kept)
    after = lab.gateway.metric("poise_calls_total")
    assert sum(after.values()) - sum(counted.values()) == kept["spend_calls"]
    assert_counted(requested, requests(lab), WAYS[way][0], expected)
    assert_silent(lab, reply, lab.log.getvalue()[written:])
    assert until(lambda: outcome(lab.ask(way)) == OK, 3.0), "the next request is not answered"


def outcome(reply: httpx2.Response) -> str:
    """As the table has it; and a failure has OpenAI's shape, whichever way it comes."""
    if reply.status_code != 200:
        return f"{reply.status_code} {error_in(reply.json())['code']}"
    if not reply.headers["content-type"].startswith("text/event-stream"):
        return "200"
    told = events(reply.iter_lines())
    failed = [one for one in told if "error" in one]
    assert failed in ([], told[-1:]), "an error ends a stream"
    return f"event {error_in(failed[0])['code']}" if failed else "200"


def error_in(body: Mapping[str, Any]) -> Mapping[str, Any]:
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == ERROR_KEYS
    assert error["type"] in TYPES
    message = error["message"]
    assert isinstance(message, str)
    assert 0 < len(message) < 400
    assert "\n" not in message
    assert "Traceback" not in message
    return error


def assert_charged(
    lab: Lab, row: Row, kept: Mapping[str, Any], calls: int, generated: Callable[[], int]
) -> None:
    """The record's spend is what the upstream saw: a number where it is known, else bounds."""
    assert kept["spend_calls"] == calls
    stated, held = kept["spend_completion_tokens"], kept["spend_held_tokens"]
    if row.spend == "exact":
        assert (stated, held, kept["spend_estimated"]) == (generated(), 0, 0)
    elif row.spend == "unknown":
        assert stated is None
        assert held >= generated() > 0
        assert kept["spend_estimated"]
        assert kept["spend_usd"] is None
    else:
        assert stated <= generated() <= stated + held
        assert kept["spend_estimated"]


def assert_told(reply: httpx2.Response, kept: Mapping[str, Any]) -> None:
    """The client is told the spend of the record, and no probability that there is not."""
    if reply.headers["content-type"] == "application/json":
        body = reply.json()
        assert body["choices"][0]["message"]["content"] == TEXT
        usage = body.get("usage")
        assert (usage or {}).get("completion_tokens") == kept["spend_completion_tokens"]
    else:
        told = events(reply.iter_lines())
        body = told[-1]
        words = [c["delta"].get("content") or "" for one in told for c in one["choices"]]
        assert "".join(words) == TEXT
    poise = body["poise"]
    assert {name: poise[name] for name in SILENT} == SILENT
    assert poise["id"] == kept["id"]
    assert poise["n_samples"] == kept["n_samples"]
    assert poise["spend"]["calls"] == kept["spend_calls"]
    assert poise["spend"]["completion_tokens"] == kept["spend_completion_tokens"]


def requests(lab: Lab) -> Mapping[str, float]:
    return lab.gateway.metric("poise_requests_total")


def assert_counted(
    before: Mapping[str, float], after: Mapping[str, float], alias: str, expected: str
) -> None:
    """One request more, under the status that it came to."""
    more = {name: after[name] - before.get(name, 0.0) for name in after}
    more = {name: count for name, count in more.items() if count}
    ((labels, count),) = more.items()
    assert count == 1
    assert f'alias="{alias}"' in labels
    word, _, code = expected.partition(" ")
    status = {"deadline": "504", "upstream_error": "502"}[code] if word == "event" else word
    assert f'status="{status}"' in labels


def assert_silent(lab: Lab, reply: httpx2.Response, logged: str) -> None:
    """No word about the upstream to the client; no key and no content in the log."""
    said = reply.text + json.dumps(dict(reply.headers))
    found = [word for word in (*lab.hidden, SECRET) if word in said]
    assert not found, said
    assert logged, "the request has a line"
    for word in (SECRET, UPSTREAM_KEY, PROMPT, TEXT):
        assert word not in logged


# -- faults that want a gateway of their own ------------------------------------------------------


def test_a_server_that_says_come_back_in_an_hour_is_left_alone_and_its_clients_are_told(
    tmp_path: Path, quick_retries: None
) -> None:
    busy = Behaviour(status=429, headers={"retry-after": "3600"})
    trouble, right = Trouble(), Behaviour(texts=(TEXT,))
    with (
        FaultServer(lambda *_: trouble.next() or right) as server,
        Watched(settings(tmp_path, base_url=server.base_url)) as gateway,
    ):
        assert gateway.chat().status_code == 200
        trouble.fault, trouble.strikes = busy, 1
        before = len(server.requests)
        replies = [gateway.chat() for _ in range(5)]
        assert len(server.requests) == before + 1
        assert {outcome(reply) for reply in replies} == {"429 upstream_rate_limited"}
        # An hour is more than quotas take to be raised: a minute, and it is asked again.
        assert all(1 <= int(reply.headers["retry-after"]) <= 60 for reply in replies)
        assert gateway.client.get("/ready").status_code == 200
        spent = [row["spend_calls"] for row in decisions(tmp_path)]
        assert spent == [1, 1, 0, 0, 0, 0]


def test_a_server_that_keeps_failing_is_left_alone_until_its_cool_down_is_over(
    tmp_path: Path, quick_retries: None
) -> None:
    trouble, right = Trouble(Behaviour(status=500)), Behaviour(texts=(TEXT,))
    lab = {"breaker": 3, "cool_down": 0.5}
    with FaultServer(lambda *_: trouble.next() or right) as server:
        config = settings(tmp_path, base_url=server.base_url, upstream=lab)
        with Watched(config) as gateway:
            assert gateway.chat().status_code == 200
            trouble.strikes, before = FOREVER, len(server.requests)
            first, *others = [gateway.chat() for _ in range(4)]
            assert len(server.requests) == before + 3
            assert first.status_code in {502, 503}
            assert {outcome(reply) for reply in others} == {"503 upstream_unavailable"}
            assert gateway.client.get("/ready").status_code == 503
            trouble.strikes = 0
            assert until(lambda: gateway.chat().status_code == 200, 3.0)
            assert gateway.client.get("/ready").status_code == 200
            calls = sum(row["spend_calls"] for row in decisions(tmp_path))
            assert calls == len(server.requests) - probes(server)


def probes(server: FaultServer) -> int:
    """Requests by which the gateway found out what the server can do."""
    return sum(PROMPT not in json.dumps(seen.body) for seen in server.requests)


def test_a_server_that_is_not_there_is_said_to_be_unreachable_and_not_where_it_is_not(
    tmp_path: Path, quick_retries: None
) -> None:
    with Watched(settings(tmp_path)) as gateway:
        reply = gateway.chat()
        assert outcome(reply) == "503 upstream_unavailable"
        assert "127.0.0.1" not in reply.text
        gateway.settle()
        (kept,) = decisions(tmp_path)
        assert (kept["spend_calls"], kept["spend_completion_tokens"]) == (0, 0)


def test_a_server_that_is_silent_for_too_long_is_given_up(
    tmp_path: Path, quick_retries: None
) -> None:
    trouble, right = Trouble(), Behaviour(texts=(TEXT,))
    with FaultServer(lambda *_: trouble.next() or right) as server:
        lab = {"timeout": 0.25, "breaker": 4}
        with Watched(settings(tmp_path, base_url=server.base_url, upstream=lab)) as gateway:
            assert gateway.chat().status_code == 200
            trouble.fault, trouble.strikes = replace(right, hang_after=0), FOREVER
            assert outcome(gateway.chat()) in {"504 upstream_timeout", "503 upstream_unavailable"}
            gateway.settle()
            assert server.until(lambda: server.in_flight == 0)
            assert all(seen.aborted for seen in server.requests[-4:])


def test_an_upstream_without_logprobs_works_and_says_so(tmp_path: Path) -> None:
    with (
        FaultServer(Behaviour(texts=(TEXT,), logprobs=False)) as server,
        Watched(settings(tmp_path, base_url=server.base_url)) as gateway,
    ):
        body = gateway.chat("number", logprobs=True, top_logprobs=2).json()
        assert body["choices"][0]["logprobs"] is None
        assert body["poise"]["signals"].get("logprob") is None
        assert body["poise"]["answer"] == "12"


@pytest.mark.parametrize("status", [400, 500])
def test_an_upstream_that_repeats_its_key_and_its_address_is_not_quoted_on_them(
    tmp_path: Path, quick_retries: None, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("LAB_KEY", UPSTREAM_KEY)
    said = f"the key {UPSTREAM_KEY} is odd at http://10.1.2.3:8000/v1 and vllm.internal:8000"
    trouble, right = Trouble(), Behaviour(texts=(TEXT,))
    with FaultServer(lambda *_: trouble.next() or right) as server:
        lab = {"key_env": "LAB_KEY", "breaker": 1000}
        with Watched(settings(tmp_path, base_url=server.base_url, upstream=lab)) as gateway:
            assert gateway.chat().status_code == 200
            body = json.dumps({"error": {"message": said}})
            trouble.fault, trouble.strikes = Behaviour(status=status, body=body), FOREVER
            for stream in (False, True):
                reply = gateway.chat(stream=stream)
                message = error_in(reply.json())["message"]
                assert "is odd at the upstream" in message
                for word in (UPSTREAM_KEY, "10.1.2.3", "internal", "8000", str(server.port)):
                    assert word not in reply.text
