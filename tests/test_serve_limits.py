"""What nobody gets more of than they may: room, samples, tokens, dollars, bytes; and who may ask.

Over real sockets. What no cap and no key lets through never reaches the upstream, and nothing of
what was asked or answered is written down anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import logging
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fault_server import Behaviour, FaultServer
from gateway_client import (
    AUTHORISED,
    PROMPT,
    SECRET,
    Caller,
    Tally,
    Watched,
    aliases,
    decisions,
    key,
    settings,
    until,
)
from poise.backends import LlamaCpp, Scripted
from poise.backends.scripted import Fail, Miscount
from poise.config import Alias
from poise.errors import Rejected, ServerFault, StreamCut, Unavailable
from poise.serve import connection, logs
from poise.serve.keys import Scope
from poise.serve.routes import ROUTES
from poise.types import Batch, Capabilities, Meter, Reply, Request, TokenLogprobs

CHAT = "/v1/chat/completions"
TEXT = "It is 12"
YES = Reply("Yes", tokens=1, logprobs=TokenLogprobs(("Yes",), (-0.1,), ((("Yes", -0.1),),)))
PER_TOKEN = (1e-6, 2e-6)
"""US dollars for a token of the prompt and of the reply, as ``settings`` has them."""


# -- room ------------------------------------------------------------------------------------------


def test_a_crowd_gets_answers_or_is_told_to_come_back_and_never_more_are_worked_on(
    tmp_path: Path,
) -> None:
    places, queue, crowd = 6, 20, 150
    backend = Scripted(TEXT, latency=0.15)
    config = settings(tmp_path, serve={"in_flight": places, "queue": queue})
    waited: list[int] = []

    async def ask(client: httpx2.AsyncClient, number: int) -> httpx2.Response:
        model, stream = ("open", "number")[number % 2], number % 3 == 0
        return await client.post(CHAT, json=gateway.body(model, stream=stream))

    async def everybody() -> list[httpx2.Response]:
        limits = httpx2.Limits(max_connections=crowd)
        client = httpx2.AsyncClient(
            base_url=gateway.root, headers=AUTHORISED, timeout=30, limits=limits
        )
        async with client:
            asking = [asyncio.create_task(ask(client, number)) for number in range(crowd)]
            while not all(task.done() for task in asking):
                waited.append(gateway.gateway.admission.waiting)
                await asyncio.sleep(0.01)
            return [task.result() for task in asking]

    with Watched(config, backend) as gateway:
        replies = asyncio.run(everybody())
        codes = Counter(reply.status_code for reply in replies)
        assert codes.keys() == {200, 429}
        assert codes[200] >= places + queue
        assert backend.most_in_flight <= places
        assert 0 < max(waited) <= queue
        for reply in replies:
            if reply.status_code == 429:
                error = reply.json()["error"]
                assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
                assert int(reply.headers["retry-after"]) >= 1
        gateway.settle()
        assert len(decisions(tmp_path)) == codes[200]
        counted = gateway.metric("poise_requests_total")
        assert sum(n for labels, n in counted.items() if 'status="429"' in labels) == codes[429]
        assert gateway.chat().status_code == 200


def test_who_waits_too_long_is_told_so(tmp_path: Path) -> None:
    backend = Scripted(TEXT, latency=0.7)
    serve = {"in_flight": 1, "queue": 4, "queue_seconds": 0.1, "heartbeat": 0.02}
    with Watched(settings(tmp_path, serve=serve), backend) as gateway:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(gateway.chat)
            assert until(lambda: backend.in_flight == 1)
            late = gateway.chat()
            assert (late.status_code, late.json()["error"]["code"]) == (429, "queue_timeout")
            assert int(late.headers["retry-after"]) >= 1
            # A stream has begun by then, to show that it lives: it ends with the same error.
            with gateway.streaming() as lines:
                said = [line for line in lines if line]
            assert said[0] == ": working"
            assert json.loads(said[-2].removeprefix("data: "))["error"]["code"] == "queue_timeout"
            assert said[-1] == "data: [DONE]"
            assert first.result().status_code == 200
        assert len(backend.calls) == 1
        gateway.settle()


def test_a_key_has_no_more_under_way_than_it_may_and_another_key_is_not_held_up(
    tmp_path: Path,
) -> None:
    other = "sk-another-77"
    keys = (key(concurrency=2), key("other", other))
    backend = Scripted(TEXT, latency=0.5)
    with Watched(settings(tmp_path, key=keys), backend) as gateway, ThreadPoolExecutor(2) as pool:
        held = [pool.submit(gateway.chat, stream=n == 1) for n in range(2)]
        assert until(lambda: backend.in_flight == 2)
        refused = gateway.chat()
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrency")
        assert int(refused.headers["retry-after"]) >= 1
        body = gateway.body("open")
        headers = {"authorization": f"Bearer {other}"}
        assert gateway.client.post(CHAT, json=body, headers=headers).status_code == 200
        assert [one.result().status_code for one in held] == [200, 200]
        assert gateway.chat().status_code == 200


# -- caps of one request ---------------------------------------------------------------------------

WORDS = "a b c d e f 12"
FAULTS = (Fail(StreamCut, 3), Fail(ServerFault), Fail(Unavailable), Miscount(1), None, None)


def drawing(seed: int) -> Tally:
    """Seven words a draw, and every third call goes wrong in some way."""
    rng = random.Random(seed)
    return Tally(
        WORDS,
        follow_ups={"p_true": YES},
        faults=lambda _request, _tried: rng.choice(FAULTS),
        capabilities=Capabilities(n=3, logprobs=20, seed=True),
    )


CAPPED = (
    *aliases(),
    Alias(
        name="sure",
        upstream="lab",
        model="faulty",
        kind="number",
        policy="confident:confidence=p_true,threshold=0.999,max_samples=4",
        audit_rate=0.0,
    ),
)
"""``sure`` asks a follow-up about every sample."""


def asked(rng: random.Random) -> tuple[dict[str, float], dict[str, Any]]:
    """Some caps, and what a request asks for besides."""
    every = {
        "max_samples": rng.randint(1, 5),
        "max_tokens": rng.randint(100, 3000),
        "max_usd": rng.uniform(1e-4, 3e-3),
    }
    caps = {name: every[name] for name in rng.sample(sorted(every), rng.randint(1, 3))}
    more = {"n": rng.choice((1, 1, 2, 4)), "max_tokens": rng.choice((4, 8, 40))}
    return caps, {**more, "model": rng.choice(CAPPED).name, "stream": rng.random() < 0.3}


def within(caps: Mapping[str, float], script: Tally) -> None:
    prompt, completion = PER_TOKEN
    taken = {
        "max_samples": script.samples,
        "max_tokens": script.read + script.generated,
        "max_usd": script.read * prompt + script.generated * completion,
    }
    for name, most in caps.items():
        assert taken[name] <= most * (1 + 1e-9), (taken, caps)
    script.samples = script.read = script.generated = 0


@pytest.mark.parametrize("by", ["the request", "the gateway"])
def test_no_request_takes_more_than_its_caps_with_choices_follow_ups_and_retries(
    tmp_path: Path, quick_retries: None, by: str
) -> None:
    rng, codes, took = random.Random(5), Counter[int](), 0
    rounds = 60 if by == "the request" else 12
    for number in range(1 if by == "the request" else 4):
        script = drawing(number)
        fixed, _ = asked(rng)
        config = settings(
            tmp_path,
            alias=CAPPED,
            upstream={"breaker": 10_000, "cool_down": 0.01},
            serve={"caps": fixed} if by == "the gateway" else {},
        )
        with Watched(config, script) as gateway:
            for _ in range(rounds):
                caps, request = asked(rng)
                if by == "the gateway":
                    caps, more = fixed, {"max_samples": 1000, "max_tokens": 10**6}
                else:
                    more = caps
                reply = gateway.chat(**request, poise=more)
                codes[reply.status_code] += 1
                took += script.samples
                within(caps, script)
            gateway.settle()
    # Neither everything was refused, nor did the caps never bind.
    assert codes.keys() <= {200, 400, 502, 503}, codes
    assert codes[200] > 10
    assert codes[400] > 5
    assert took > 30


def test_what_does_not_fit_under_the_caps_is_refused_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    script = Tally(TEXT)
    with Watched(settings(tmp_path, serve={"caps": {"max_samples": 4}}), script) as gateway:
        for more, param in (
            ({"n": 5}, "n"),
            ({"poise": {"max_tokens": 10}}, None),
            ({"poise": {"max_usd": 1e-9}}, None),
            ({"poise": {"max_samples": 2}, "n": 3}, "n"),
        ):
            reply = gateway.chat("number", **more)
            error = reply.json()["error"]
            assert (reply.status_code, error["type"]) == (400, "invalid_request_error"), more
            assert error["param"] == param
        gateway.settle()
    assert script.samples <= 2  # the last one is known not to fit once two are drawn


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("model", ["open", "number"])
def test_a_cap_that_cannot_be_kept_is_refused(tmp_path: Path, model: str, n: int) -> None:
    """Nobody knows how many tokens a picture takes."""
    script = Tally(TEXT)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": PROMPT}, picture]}]
    with Watched(settings(tmp_path, key=()), script) as gateway:
        body = {"model": model, "messages": messages, "n": n, "poise": {"max_tokens": 10**6}}
        reply = gateway.client.post(CHAT, json=body)
        assert reply.status_code == 400, reply.text
        assert "plain text" in reply.json()["error"]["message"]
    assert script.calls == []


@pytest.mark.parametrize(
    "name", ["n_predict", "max_new_tokens", "num_predict", "n_cmpl", "best_of"]
)
def test_a_size_under_another_name_is_no_way_around_a_cap(tmp_path: Path, name: str) -> None:
    script = Tally(TEXT)
    with Watched(settings(tmp_path), script) as gateway:
        reply = gateway.chat(**{name: 100})
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == name
        assert gateway.chat(**{name: None}).status_code == 200
    assert len(script.calls) == 1


@pytest.mark.model
def test_llama_cpp_generates_no_more_than_the_caps_allow(weights: str, tmp_path: Path) -> None:
    """Whatever it would take as the length: what is sent on must not be read as another one."""
    backend = LlamaCpp(weights, threads=1, slots=2, context=256)
    with Watched(settings(tmp_path), backend) as gateway:
        for more in ({"n_predict": 60}, {"n_cmpl": 4}, {"max_completion_tokens": 3}, {}):
            ask = {"max_tokens": 3, "ignore_eos": True, **more}
            reply = gateway.chat("open", **ask)
            assert reply.status_code in {200, 400}
            if reply.status_code == 200:
                assert reply.json()["usage"]["completion_tokens"] <= 3


# -- caps of a key ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cap", "most"), [("samples", 17), ("tokens", 6000), ("usd", 6000e-6)], ids=str
)
def test_a_key_never_passes_its_cap_whatever_goes_wrong_and_is_told_when_it_is_used_up(
    tmp_path: Path, quick_retries: None, cap: str, most: float
) -> None:
    other = "sk-another-77"
    script = drawing(3)
    config = settings(
        tmp_path,
        alias=CAPPED,
        key=(key(**{"samples": None, "tokens": None, cap: most}), key("other", other)),
        upstream={"breaker": 10_000, "cool_down": 0.01},
    )
    rng = random.Random(1)
    with Watched(config, script) as gateway, ThreadPoolExecutor(6) as pool:

        def ask(_: int) -> httpx2.Response:
            return gateway.chat(
                rng.choice(CAPPED).name, n=rng.choice((1, 1, 2)), max_tokens=8, stream=False
            )

        replies = list(pool.map(ask, range(80)))
        codes = Counter(reply.status_code for reply in replies)
        assert codes.keys() <= {200, 400, 429, 502, 503}, codes
        assert codes[200] > 2
        refused = gateway.chat(max_tokens=8)
        error = refused.json()["error"]
        assert (refused.status_code, error["type"]) == (429, "insufficient_quota"), error
        gateway.settle()
        within({f"max_{cap}": most}, script)
        # Another key is another purse.
        headers = {"authorization": f"Bearer {other}"}
        body = gateway.body("open")
        assert until(
            lambda: gateway.client.post(CHAT, json=body, headers=headers).status_code == 200
        )


# -- bodies ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One request at a time, none larger than 4 KiB."""
    serve = {"max_body": 4096, "max_depth": 8, "in_flight": 1, "queue": 0}
    folder = tmp_path_factory.mktemp("small")
    with Watched(settings(folder, serve=serve), Scripted(TEXT)) as gateway:
        yield gateway


def padded(gateway: Watched, size: int) -> bytes:
    """A request of ``size`` bytes."""
    bare = json.dumps(gateway.body("open", user=""))
    return json.dumps(gateway.body("open", user="u" * (size - len(bare)))).encode()


def refused(reply: httpx2.Response, status: int) -> Mapping[str, Any]:
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert PROMPT not in reply.text
    return error


POSTED = [route.path for route in ROUTES if route.method == "POST"]


@pytest.mark.parametrize("path", POSTED)
def test_a_body_that_is_too_large_is_refused_stated_or_not(small: Watched, path: str) -> None:
    content = padded(small, 4096)
    for body in (padded(small, 4097), b"x" * 40_000):
        assert "4096" in refused(small.client.post(path, content=body), 413)["message"]
        chunked = iter([body[:1000], body[1000:]])
        refused(small.client.post(path, content=chunked), 413)
    assert small.client.post(CHAT, content=content).status_code == 200
    assert small.client.post(CHAT, content=iter([content[:9], content[9:]])).status_code == 200


def test_a_body_that_is_said_to_be_too_large_is_not_waited_for(small: Watched) -> None:
    host, _, port = small.root.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as caller:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
        caller.sendall(f"{head}Content-Length: 99999999999\r\n\r\n".encode())
        assert caller.recv(65536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", POSTED)
def test_a_body_that_is_nested_too_deep_is_refused(small: Watched, path: str) -> None:
    for body in (b'{"a":' * 9 + b"1" + b"}" * 9, b"[" * 3000):
        refused(small.client.post(path, content=body), 400)
    deep: Any = "bottom"
    for _ in range(6):
        deep = {"deeper": deep}
    assert small.chat(metadata=deep).status_code == 200


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize("packing", ["gzip", "deflate", "br", "identity, gzip"])
def test_a_packed_body_is_refused_so_that_nothing_can_unfold(
    small: Watched, path: str, packing: str
) -> None:
    bomb = gzip.compress(b" " * 1_000_000)
    reply = small.client.post(path, content=bomb, headers={"content-encoding": packing})
    refused(reply, 415)


def test_a_slow_body_holds_no_place_and_is_answered_once_it_is_there(small: Watched) -> None:
    content = json.dumps(small.body("open")).encode()
    with Caller(small.root, content, CHAT, only=10) as slow:
        for _ in range(3):
            assert small.chat().status_code == 200
        for place in range(10, len(content), 40):
            slow.socket.sendall(content[place : place + 40])
            time.sleep(0.005)
        assert slow.read().startswith(b"HTTP/1.1 200")


def test_a_body_that_never_comes_is_not_waited_for_for_ever(
    small: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.2)
    content = json.dumps(small.body("open")).encode()
    with Caller(small.root, content, CHAT, only=10) as slow:
        said = slow.read()
        assert said.startswith(b"HTTP/1.1 408")
        assert b'"type":"invalid_request_error"' in said
    small.settle()


# -- who may ask -----------------------------------------------------------------------------------

SCOPES: tuple[Scope, ...] = ("chat", "outcomes", "metrics")
BAD_KEYS = (
    None,
    "",
    "Bearer",
    f"Basic {SECRET}",
    SECRET,
    "Bearer sk-wrong",
    f"Bearer {SECRET}x",
    f"Bearer {SECRET[:-1]}",
    f"Bearer {SECRET} {SECRET}",
    f"Bearer {hashlib.sha256(SECRET.encode()).hexdigest()}",
)


def call(
    gateway: Watched, anybody: httpx2.Client, route: Any, authorization: str | None
) -> httpx2.Response:
    headers = {} if authorization is None else {"authorization": authorization}
    path = re.sub("{.*}", "open", route.path)
    content = b"{}" if route.method == "POST" else None
    return anybody.request(route.method, gateway.root + path, headers=headers, content=content)


def test_every_route_but_health_wants_a_key_that_opens_it(tmp_path: Path) -> None:
    keys = tuple(key(scope, f"sk-{scope}", scopes=(scope,)) for scope in SCOPES)
    script = Scripted(TEXT)
    config = settings(tmp_path, key=(key(), *keys))
    with Watched(config, script) as gateway, httpx2.Client(timeout=10) as anybody:
        for route in ROUTES:
            if route.path == "/health":
                assert route.scope is None
                assert call(gateway, anybody, route, None).json() == {"status": "ok"}
                continue
            for bad in BAD_KEYS:
                reply = call(gateway, anybody, route, bad)
                error = reply.json()["error"]
                assert (reply.status_code, error["type"]) == (401, "authentication_error"), route
                assert reply.headers["www-authenticate"] == "Bearer"
                assert SECRET not in reply.text
            for scope in SCOPES:
                reply = call(gateway, anybody, route, f"Bearer sk-{scope}")
                if scope == route.scope:
                    assert reply.status_code in {200, 400}, (route, reply.text)
                else:
                    error = reply.json()["error"]
                    assert (reply.status_code, error["type"]) == (403, "permission_error")
    assert script.calls == []


def test_a_key_for_one_model_neither_sees_nor_uses_the_other(tmp_path: Path) -> None:
    script = Scripted(TEXT)
    with Watched(settings(tmp_path, key=(key(aliases=("open",)),)), script) as gateway:
        assert gateway.chat("open").status_code == 200
        assert [one["id"] for one in gateway.client.get("/v1/models").json()["data"]] == ["open"]
        assert gateway.client.get("/v1/models/number").status_code == 403
        decision = {"model": "number", "type": "score", "input": PROMPT}
        completion = {"model": "number", "prompt": PROMPT}
        for path, body in (
            (CHAT, gateway.body("number")),
            (CHAT, gateway.body("number", stream=True)),
            ("/v1/decisions", decision),
            ("/v1/completions", completion),
        ):
            reply = gateway.client.post(path, json=body)
            assert (reply.status_code, reply.json()["error"]["code"]) == (403, "model")
    assert len(script.calls) == 1


def test_what_there_is_not_is_refused_in_the_same_shape(tmp_path: Path) -> None:
    with Watched(settings(tmp_path), Scripted(TEXT)) as gateway:
        for method, path, status in (
            ("GET", "/", 404),
            ("GET", "/docs", 404),
            ("GET", "/v1/chat/completions", 405),
            ("DELETE", "/v1/models", 405),
            ("POST", "/v1/embeddings", 404),
            ("GET", "/v1/../metrics/x", 404),
            ("GET", "/v1/models/no/such", 404),
        ):
            reply = gateway.client.request(method, path)
            assert reply.status_code == status, path
            assert reply.json()["error"].keys() == {"message", "type", "param", "code"}
        missing = gateway.chat("gpt-4")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_no_other_site_may_ask_from_a_browser(tmp_path: Path) -> None:
    with Watched(settings(tmp_path), Scripted(TEXT)) as gateway:
        site = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
        asked = gateway.client.options(CHAT, headers=site)
        answered = gateway.client.post(CHAT, json=gateway.body("open"), headers=site)
        for reply in (asked, answered):
            assert not [name for name in reply.headers if name.startswith("access-control")]
        assert asked.status_code == 405


def test_no_request_says_where_or_with_which_key_the_upstream_is_asked(tmp_path: Path) -> None:
    with (
        FaultServer(Behaviour(texts=(TEXT,))) as stranger,
        FaultServer(Behaviour(texts=(TEXT,))) as server,
        Watched(settings(tmp_path, base_url=server.base_url)) as gateway,
    ):
        url = stranger.base_url
        theirs = {"base_url": url, "api_base": url, "url": url, "api_key": "sk-theirs"}
        headers = {"x-upstream": url, "forwarded": f"host={url}", "host": "elsewhere"}
        body = gateway.body("open", **theirs, upstream=url)
        reply = gateway.client.post(CHAT, json=body, headers=headers)
        assert reply.status_code == 200
        assert stranger.requests == []
        sent = server.requests[-1]
        assert sent.headers["host"] == f"127.0.0.1:{server.port}"
        # The caller's own key stays here.
        assert SECRET not in json.dumps(dict(sent.headers)) + json.dumps(sent.body)
        assert "sk-theirs" not in json.dumps(dict(sent.headers))
        assert sent.body["model"] == "faulty"


# -- nothing is written down -----------------------------------------------------------------------

WORD = "zanzibar"
"""Stands in everything that a client and a model say."""

ANSWER = "918273645"


def conversation(gateway: Watched, trouble: list[Any]) -> list[int]:
    """Ask in every way there is, right and wrong; what it came to."""
    secret = f"the {WORD} secret"
    messages = [{"role": "system", "content": secret}, {"role": "user", "content": secret}]
    schema = {"type": "object", "title": WORD, "properties": {WORD: {"type": "string"}}}
    tool = {"type": "function", "function": {"name": WORD, "parameters": schema}}
    form = {"type": "json_schema", "json_schema": {"name": WORD, "schema": schema}}
    words = {"stop": [WORD], "user": WORD, "metadata": {WORD: WORD}, "odd": {WORD: WORD}}
    codes = []

    def ask(path: str = CHAT, **more: Any) -> None:
        body = {"model": "open", "messages": messages, **more}
        reply = gateway.client.post(path, json=body, headers={"x-request-id": "ours-1"})
        codes.append(reply.status_code)

    for stream in (False, True):
        ask(stream=stream, **words)
        ask(stream=stream, model="number", logprobs=True, top_logprobs=2)
        ask(stream=stream, tools=[tool], tool_choice="auto")
        ask(stream=stream, response_format=form)
        ask(stream=stream, poise={"kind": "choice", "options": [WORD, "other"]})
        ask(stream=stream, poise={"kind": "text", "abstain": 0.99})
        ask(stream=stream, n=3)
        trouble.append(Rejected)
        ask(stream=stream)
        trouble.append(ValueError)
        ask(stream=stream)
    ask(model=WORD)
    ask(poise={WORD: 1})
    ask(messages=[{"role": WORD, "content": 1}])
    ask("/v1/decisions", messages=None, type="predicate", input=secret)
    ask("/v1/completions", messages=None, prompt=secret)
    ask(f"/v1/{WORD}")
    bad = {"authorization": f"Bearer {WORD}"}
    codes.append(gateway.client.post(CHAT, content=WORD.encode(), headers=bad).status_code)
    codes.append(gateway.client.post(CHAT, content=WORD.encode()).status_code)
    return codes


class Talking(Scripted):
    """Answers with the secret, and fails with it in its errors."""

    def __init__(self, trouble: list[Any]):
        super().__init__(f"{WORD} {ANSWER}", model="faulty")
        self._trouble = trouble

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        if self._trouble:
            raise self._trouble.pop()(f"cannot do {WORD} at http://{WORD}.internal:8000/{WORD}")
        return await super().sample(request, meter)

    async def relay(self, request: Request, meter: Meter | None, listen: Any) -> Batch:
        if self._trouble:
            raise self._trouble.pop()(f"cannot do {WORD} at http://{WORD}.internal:8000/{WORD}")
        return await super().relay(request, meter, listen)


def test_no_prompt_answer_or_key_is_in_the_store_the_logs_or_the_metrics(
    tmp_path: Path, log: io.StringIO
) -> None:
    trouble: list[Any] = []
    with Watched(settings(tmp_path), Talking(trouble)) as gateway:
        codes = conversation(gateway, trouble)
        gateway.settle()
        metrics = gateway.client.get("/metrics").content
    assert Counter(codes)[200] >= 12
    assert {400, 401, 404, 500} <= set(codes)
    assert len(decisions(tmp_path)) >= 14
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files["poise.db"]
    written = {**files, "metrics": metrics, "log": log.getvalue().encode()}
    assert b"ours-1" in written["log"]
    for name, content in written.items():
        for word in (WORD, ANSWER, SECRET, "internal:8000"):
            assert word.encode() not in content, (name, around(content, word))


def around(content: bytes, word: str) -> bytes:
    place = content.index(word.encode())
    return content[max(0, place - 200) : place + 200]


def test_content_is_kept_where_it_is_asked_for_and_still_no_key(tmp_path: Path) -> None:
    with Watched(settings(tmp_path, store={"content": True}), Talking([])) as gateway:
        conversation(gateway, [])
        gateway.settle()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert WORD.encode() in files
    assert ANSWER.encode() in files
    assert SECRET.encode() not in files


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged by anything at all, at the lowest level."""
    page = io.StringIO()
    names = (*logs.LOGGERS, "poise.serve.access")
    with contextlib.ExitStack() as after:
        for one in [logging.getLogger(name) for name in names]:
            after.callback(setattr, one, "handlers", list(one.handlers))
            after.callback(setattr, one, "propagate", one.propagate)
            after.callback(one.setLevel, one.level)
        logs.set_up("DEBUG", page)
        yield page
