"""Whatever ends a request early ends it upstream as well: the client, the policy, time, SIGTERM.

Against a scripted server, which sees how far each call got, and against llama.cpp itself, whose
slots must be idle soon after.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import httpx2
import pytest

from command import POISE
from fault_server import Behaviour, FaultServer, Script
from gateway_client import (
    AUTHORISED,
    PLENTY,
    PROMPT,
    SECRET,
    Caller,
    Watched,
    aliases,
    decisions,
    events,
    key,
    leased,
    settings,
    until,
)
from poise.backends import Http, LlamaCpp, Scripted
from poise.backends.scripted import Hang
from poise.config import Alias, Tier
from poise.policies import STOP_RULES
from poise.types import (
    Batch,
    Capabilities,
    Draw,
    Meter,
    Request,
    State,
    Stop,
    StopReason,
)

WORDS = 400
LONG = Behaviour(texts=("word " * WORDS,), token_delay=0.01)
QUICK = Behaviour(texts=("It is 12",))
SOON = 2.0
"""Seconds within which what nobody waits for any more has ended."""

LEAVING = {
    "whole": ("open", {}),
    "whole, four samples": ("number", {}),
    "stream of an open chat": ("open", {"stream": True}),
    "stream of a decision": ("number", {"stream": True}),
    "stream of the first sample": ("number", {"stream": True, "poise": {"stream": "first"}}),
}
ways = pytest.mark.parametrize("way", LEAVING)


@dataclass(frozen=True, slots=True)
class Eager:
    """Draws all at once, and stops at the first sample: the rest is wanted no more."""

    needs: ClassVar[tuple[str, ...]] = ()
    max_samples: int = 6

    def decide(self, state: State) -> Draw | Stop:
        return Stop(StopReason.SURE) if state.n else Draw(self.max_samples)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> tuple[Alias, ...]:
    """An alias whose policy stops while samples are still on their way."""
    monkeypatch.setitem(STOP_RULES, "eager", Eager)
    (_, number) = aliases()
    return (number.model_copy(update={"policy": "eager"}),)


def only(behaviour: Behaviour) -> Script:
    """So for what the tests ask; what the gateway asks to get to know a server is answered soon."""
    return lambda body, _: behaviour if PROMPT in json.dumps(body) else QUICK


def noted(gateway: Watched, status: int) -> float:
    counted = gateway.metric("poise_requests_total")
    return sum(count for labels, count in counted.items() if f'status="{status}"' in labels)


# -- the client goes ------------------------------------------------------------------------------


@ways
def test_a_client_that_leaves_ends_everything_upstream_and_what_was_spent_is_charged(
    tmp_path: Path, way: str
) -> None:
    model, how = LEAVING[way]
    with (
        FaultServer(only(LONG)) as server,
        Watched(settings(tmp_path, base_url=server.base_url)) as gateway,
    ):
        probe(gateway)
        before, charged = len(server.requests), gateway.charged()
        spent = gateway.metric("poise_spend_tokens_total")
        with gateway.send(gateway.body(model, max_tokens=WORDS, **how)) as client:
            assert server.until(lambda: sum(s.tokens for s in server.requests[before:]) >= 8)
            assert server.in_flight >= 1
            client.leave()
            left = time.monotonic()
        assert server.until(lambda: server.in_flight == 0, SOON)
        assert time.monotonic() - left < SOON
        gateway.settle()
        calls = server.requests[before:]
        assert calls
        assert all(call.aborted for call in calls)
        generated = sum(call.tokens for call in calls)
        assert 8 <= generated < WORDS
        assert gateway.charged() - charged >= generated
        assert noted(gateway, 499) == 1
        assert 0 < cancelled(gateway, spent) <= generated
        assert gateway.chat("open", max_tokens=1).status_code == 200


def cancelled(gateway: Watched, before: dict[str, float]) -> float:
    after = gateway.metric("poise_spend_tokens_total")
    return sum(
        count - before.get(labels, 0.0)
        for labels, count in after.items()
        if 'kind="cancelled"' in labels
    )


def probe(gateway: Watched) -> None:
    """Have the gateway find out what the server can do, which takes calls of its own."""
    assert gateway.chat("open", max_tokens=1).status_code == 200


@ways
def test_a_client_that_leaves_before_the_server_has_said_a_word_ends_the_call_too(
    tmp_path: Path, way: str
) -> None:
    model, how = LEAVING[way]
    backend = Scripted("12", faults=lambda _request, _tried: Hang())
    with Watched(settings(tmp_path, serve={"heartbeat": 0.05}), backend) as gateway:
        with gateway.send(gateway.body(model, **how)) as client:
            assert until(lambda: backend.in_flight > 0)
            if "stream" in how:
                client.read_until(b": working")  # signs of life come, and nothing else
        assert until(lambda: backend.in_flight == 0, SOON)
        assert backend.cancelled == len(backend.calls)
        gateway.settle()
        assert noted(gateway, 499) == 1
        # What a server may have generated of a call that was cut short is held, all of it.
        samples = sum(call.n for call in backend.calls)
        assert gateway.charged("samples") == samples
        assert gateway.charged() >= samples * 512


def test_a_client_that_leaves_the_queue_costs_nothing_and_leaves_no_gap(tmp_path: Path) -> None:
    release = threading.Event()
    backend = Scripted("12", latency=lambda *_: 0.0 if release.is_set() else 0.6)
    config = settings(tmp_path, serve={"in_flight": 1, "queue": 2}, key=(key(concurrency=3),))
    with Watched(config, backend) as gateway, ThreadPoolExecutor(1) as pool:
        first = pool.submit(gateway.chat)
        assert until(lambda: backend.in_flight == 1)
        for how in ({}, {"stream": True}):
            with gateway.send(gateway.body("open", **how)):
                assert until(lambda: gateway.gateway.admission.waiting == 1)
            assert until(lambda: gateway.gateway.admission.waiting == 0, SOON)
        assert len(backend.calls) == 1
        release.set()
        assert first.result().status_code == 200
        assert gateway.chat().status_code == 200
        gateway.settle()
        assert len(backend.calls) == 2
        assert noted(gateway, 499) == 2
        assert gateway.charged("samples") == 2


def test_a_client_that_leaves_in_the_middle_of_its_own_request_is_noted(tmp_path: Path) -> None:
    backend = Scripted("12")
    with Watched(settings(tmp_path), backend) as gateway:
        content = json.dumps(gateway.body("open")).encode()
        Caller(gateway.root, content, "/v1/chat/completions", only=20).leave()
        assert until(lambda: noted(gateway, 499) == 1)
        gateway.settle()
        assert backend.calls == []
        assert decisions(tmp_path) == []


def test_a_client_that_leaves_once_it_has_its_answer_is_one_that_was_served(tmp_path: Path) -> None:
    with Watched(settings(tmp_path), Scripted("12")) as gateway:
        for how in ({}, {"stream": True}):
            with gateway.send(gateway.body("open", **how)) as client:
                assert client.read().startswith(b"HTTP/1.1 200")
        gateway.settle()
        assert noted(gateway, 499) == 0
        assert noted(gateway, 200) == 2


def test_what_one_client_leaves_does_not_touch_its_neighbours(tmp_path: Path) -> None:
    with (
        FaultServer(only(Behaviour(texts=("word " * 40,), token_delay=0.01))) as server,
        Watched(settings(tmp_path, base_url=server.base_url)) as gateway,
        ThreadPoolExecutor(4) as pool,
    ):
        probe(gateway)
        before = len(server.requests)
        stay = [pool.submit(gateway.chat, "open", stream=n % 2 == 0) for n in range(4)]
        with gateway.send(gateway.body("open")), gateway.send(gateway.body("open")):
            assert server.until(lambda: server.in_flight == 6)
        assert [one.result().status_code for one in stay] == [200] * 4
        gateway.settle()
        aborted = Counter(seen.aborted for seen in server.requests[before:])
        assert aborted == {True: 2, False: 4}


# -- the policy stops -----------------------------------------------------------------------------


def test_a_policy_that_stops_ends_the_samples_that_are_still_running(
    tmp_path: Path, eager: tuple[Alias, ...]
) -> None:
    known: list[int] = []

    def script(body: dict[str, Any], _number: int) -> Behaviour:
        one_each = frozenset({"n"})
        if PROMPT not in json.dumps(body):
            return Behaviour(rejects=one_each)
        if known and body["seed"] not in known:
            return Behaviour(texts=("word " * 300,), token_delay=0.01, rejects=one_each)
        known.append(body["seed"])
        return Behaviour(texts=("It is 12",), latency=0.3, rejects=one_each)

    with FaultServer(script) as server:
        config = settings(tmp_path, base_url=server.base_url, alias=eager)
        with Watched(config) as gateway:
            # The same seed: what is asked first now is asked first again.
            one = {"policy": "fixed:max_samples=1"}
            assert gateway.chat("number", seed=7, poise=one).status_code == 200
            before = len(server.requests)
            reply = gateway.chat("number", seed=7, max_tokens=WORDS)
            poise = reply.json()["poise"]
            assert (poise["answer"], poise["n_samples"], poise["stop"]) == ("12", 1, "sure")
            assert server.until(lambda: server.in_flight == 0, SOON)
            gateway.settle()
            calls = server.requests[before:]
            assert len(calls) == 6
            assert sum(call.aborted for call in calls) == 5
            generated = sum(call.tokens for call in calls)
            stated = poise["spend"]["completion_tokens"]
            _, kept = decisions(tmp_path)
            assert stated == kept["spend_completion_tokens"]
            assert stated <= generated <= stated + kept["spend_held_tokens"]
            assert poise["spend"]["calls"] == 6


# -- time is up -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "stream"),
    [
        ("the request", False),
        ("the request", True),
        ("the tier", True),
        ("the alias's tier", False),
        ("the gateway", False),
    ],
)
def test_a_deadline_cuts_in_time_and_keeps_what_has_arrived(
    tmp_path: Path, bound: str, stream: bool
) -> None:
    """Two of four samples are there when the time is up: they decide."""
    limit = 0.3
    more: dict[str, Any] = {}
    ask: dict[str, Any] = {"stream": stream}
    if bound == "the request":
        ask["poise"] = {"max_seconds": limit}
    elif bound == "the tier":
        more["tier"] = {"quick": Tier(max_seconds=limit)}
        ask["poise"] = {"tier": "quick", "max_seconds": 60.0}
    elif bound == "the alias's tier":
        more["tier"] = {"quick": Tier(max_seconds=limit)}
        more["alias"] = aliases(tier="quick")
    else:
        more["serve"] = {"caps": {"max_seconds": limit}}
        ask["poise"] = {"max_seconds": 60.0}
    backend = Scripted(
        "It is 12",
        latency=lambda request, _: 0.0 if request.first_index < 2 else 30.0,
        capabilities=Capabilities(n=1, logprobs=5, seed=True),
    )
    with Watched(settings(tmp_path, **more), backend) as gateway:
        started = time.monotonic()
        reply = gateway.chat("number", **ask)
        took = time.monotonic() - started
        assert reply.status_code == 200
        poise = (events(reply.iter_lines())[-1] if stream else reply.json())["poise"]
        assert (poise["answer"], poise["n_samples"], poise["stop"]) == ("12", 2, "deadline")
        assert limit <= took < limit + 1.0
        gateway.settle()
        assert (backend.cancelled, backend.in_flight) == (2, 0)


def test_a_deadline_holds_for_all_choices_of_a_request_together(tmp_path: Path) -> None:
    backend = Scripted(
        "It is 12", latency=lambda request, _: 0.2 if "/" not in request.question_id else 30.0
    )
    with Watched(settings(tmp_path), backend) as gateway:
        for model in ("open", "number"):
            started = time.monotonic()
            reply = gateway.chat(model, n=6, poise={"max_seconds": 0.5})
            assert time.monotonic() - started < 2.0
            assert reply.status_code == 504, reply.text
            assert reply.json()["error"]["code"] == "deadline"
        gateway.settle()
        assert backend.in_flight == 0


# -- the gateway is told to stop ------------------------------------------------------------------


def test_a_gateway_that_is_told_to_stop_finishes_what_is_under_way_and_takes_no_more(
    tmp_path: Path,
) -> None:
    backend = Scripted("It is 12", latency=0.8)
    config = settings(tmp_path, serve={"in_flight": 2, "queue": 4})
    with Watched(config, backend) as gateway, ThreadPoolExecutor(4) as pool:
        replies = [pool.submit(gateway.chat, "open", stream=n % 2 == 1) for n in range(2)]
        assert until(lambda: backend.in_flight == 2)
        queued = pool.submit(gateway.chat)
        assert until(lambda: gateway.gateway.admission.waiting == 1)
        root = gateway.root
        gateway.stop()
        assert until(lambda: not reachable(root), 1.0)
        whole, streamed, last = [one.result() for one in (*replies, queued)]
        assert whole.json()["poise"]["recorded"] is True
        assert events(streamed.iter_lines())[-1]["poise"]["recorded"] is True
        # It had been taken in before: it is answered, or told to come back.
        assert last.status_code in {200, 503}
    ids = {row["id"] for row in decisions(tmp_path)}
    assert whole.json()["poise"]["id"] in ids
    assert backend.closed
    assert backend.in_flight == 0


def reachable(root: str) -> bool:
    host, _, port = root.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=0.2).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_what_does_not_finish_in_the_time_to_drain_is_ended_and_charged(
    tmp_path: Path, stream: bool
) -> None:
    with FaultServer(only(Behaviour(texts=("word " * 1000,), token_delay=0.02))) as server:
        config = settings(tmp_path, base_url=server.base_url, serve={"drain_seconds": 0.5})
        with Watched(config) as gateway:
            probe(gateway)
            before = server.requests[:]
            with gateway.send(gateway.body("open", stream=stream, max_tokens=1000)) as client:
                assert server.until(lambda: len(server.requests) > len(before))
                assert server.until(lambda: server.requests[-1].tokens > 3)
                started = time.monotonic()
                gateway.stop()
                said = client.read()
                assert server.until(lambda: server.in_flight == 0)
                assert time.monotonic() - started < 0.5 + 1.0 + SOON
        # The client is told in the shape that it expects, and nothing looks like a whole reply.
        assert (b"data: [DONE]" in said) == stream
        assert (b"HTTP/1.1 503" in said) != stream
        assert b'"code":"draining"' in said
        assert b'"finish_reason":"' not in said
        # What was spent stays with the key when the lease is given back.
        assert leased(tmp_path)["team"]["tokens"] >= server.requests[-1].tokens


def test_work_behind_the_reply_and_records_behind_it_are_finished_before_the_end(
    tmp_path: Path,
) -> None:
    backend = Scripted(
        "It is 12",
        latency=lambda request, _: 0.5 if request.question_id.endswith("/further") else 0.0,
    )
    more: dict[str, Any] = {"policy": "beta:max_samples=8", "kind": "number"}
    alias = Alias(name="number", upstream="lab", model="faulty", audit_rate=1.0, **more)
    config = settings(tmp_path, alias=(alias,), store={"writes": "behind"})
    with Watched(config, backend) as gateway:
        reply = gateway.chat("number")
        assert reply.json()["poise"]["recorded"] is False
        assert gateway.held()["behind"] == 1
        gateway.stop()
    live, audit = decisions(tmp_path)
    assert live["id"] == reply.json()["poise"]["id"]
    assert (audit["mode"], audit["parent"], audit["n_samples"]) == ("audit", live["id"], 8)


# -- the program ----------------------------------------------------------------------------------


class Program:
    """``poise serve`` as a process of its own, asked once it answers."""

    def __init__(self, folder: Path, server: FaultServer, *words: str, cap: int = PLENTY):
        (folder / "poise.toml").write_text(
            f"""
            [[upstream]]
            name = "lab"
            base_url = "{server.base_url}"
            [[alias]]
            name = "open"
            upstream = "lab"
            model = "faulty"
            [[key]]
            name = "team"
            env = "TEAM_KEY"
            scopes = ["chat", "outcomes", "metrics"]
            samples = {cap}
            period = "ever"
            [store]
            path = "{folder / "poise.db"}"
            [serve]
            drain_seconds = 8.0
            """
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.root = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [POISE, "serve", "--config", str(folder / "poise.toml"), "--port", str(port), *words],
            env={"PATH": "/usr/bin:/bin", "TEAM_KEY": SECRET, "OPENBLAS_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        assert until(self.answers, 60), self.process.communicate()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def answers(self) -> bool:
        if self.process.poll() is not None:
            return True  # it is over, which what comes next will say
        try:
            return httpx2.get(f"{self.root}/health", timeout=1).status_code == 200
        except httpx2.TransportError:
            return False

    def chat(self, client: httpx2.Client | None = None) -> httpx2.Response:
        body = {"model": "open", "messages": [{"role": "user", "content": PROMPT}]}
        url = f"{self.root}/v1/chat/completions"
        if client is not None:
            return client.post(url, json=body)
        return httpx2.post(url, json=body, headers=AUTHORISED, timeout=20)

    def stop(self) -> tuple[int, str, float]:
        """SIGTERM: the exit code, what was written to stderr, the seconds that it took."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said, time.monotonic() - started


def asked(server: FaultServer) -> int:
    return sum(PROMPT in json.dumps(seen.body) for seen in server.requests)


def test_the_program_ends_well_on_sigterm_with_a_request_under_way(tmp_path: Path) -> None:
    slow = Behaviour(texts=("It is 12",), latency=1.0)
    with (
        FaultServer(only(slow)) as server,
        Program(tmp_path, server) as program,
        ThreadPoolExecutor(1) as pool,
    ):
        reply = pool.submit(program.chat)
        assert server.until(lambda: asked(server) == 1, 20)
        code, said, seconds = program.stop()
        assert reply.result().json()["poise"]["recorded"] is True
    assert code == 0, said
    assert seconds < 8.0
    assert "Traceback" not in said
    assert SECRET not in said
    (kept,) = decisions(tmp_path)
    assert f"chatcmpl-{kept['id']}" == reply.result().json()["id"]


def test_two_workers_share_a_store_and_never_pass_a_key_s_cap_together(tmp_path: Path) -> None:
    cap = 24
    with (
        FaultServer(Behaviour(texts=("It is 12",), latency=0.02)) as server,
        Program(tmp_path, server, "--workers", "2", cap=cap) as program,
    ):

        def several(count: int) -> list[int]:
            # A connection of its own for each request, so that both workers get some.
            with httpx2.Client(headers=AUTHORISED | {"connection": "close"}, timeout=20) as c:
                return [program.chat(c).status_code for _ in range(count)]

        with ThreadPoolExecutor(8) as pool:
            codes = Counter(code for some in pool.map(several, [8] * 8) for code in some)
        assert set(codes) <= {200, 429}
        assert codes[200] == asked(server) <= cap
        assert leased(tmp_path)["team"]["samples"] <= cap
        # A cap errs on the safe side, and not by far.
        assert codes[200] >= cap - 4
        # One scrape of whichever worker gives the sums over both.
        counted = rf'requests_total{{alias="[^"]+",status="200"}} {codes[200]}.0'
        for _ in range(4):
            with httpx2.Client(headers=AUTHORISED | {"connection": "close"}, timeout=20) as c:
                assert re.search(counted, c.get(f"{program.root}/metrics").text)
        workers = program.process.pid
        assert len(children(workers)) >= 2
        code, said, seconds = program.stop()
    assert code == 0, said
    assert seconds < 10.0
    assert len(decisions(tmp_path)) == codes[200]
    assert leased(tmp_path)["team"]["samples"] == codes[200]


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


# -- llama.cpp itself -----------------------------------------------------------------------------


@dataclass
class Engine:
    """A llama.cpp server, and how busy it is."""

    backend: LlamaCpp
    gateway: Watched

    def busy(self) -> int:
        client = self.backend._http
        assert client is not None
        headers = {"Authorization": f"Bearer {client._address.key}"}
        url = client.base_url.removesuffix("/v1") + "/slots"
        slots = httpx2.get(url, headers=headers, timeout=5).json()
        return sum(slot["is_processing"] for slot in slots)

    def idle_soon(self) -> None:
        left = time.monotonic()
        assert until(lambda: self.busy() == 0, SOON), "slots go on generating"
        assert time.monotonic() - left < SOON


class InOrder(Http):
    """Sends a question's calls one a moment, so that the first is worked on first."""

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        await asyncio.sleep(0.02 * request.first_index)
        return await super().sample(request, meter)


ENDLESS = {"max_tokens": 220, "ignore_eos": True, "temperature": 0.8}


@pytest.fixture(scope="module")
def llama(weights: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    backend = LlamaCpp(weights, threads=1, slots=4, context=256)
    with Watched(settings(tmp_path_factory.mktemp("llama")), backend) as gateway:
        assert gateway.chat("open", max_tokens=2).status_code == 200
        yield Engine(backend, gateway)


@pytest.mark.model
@ways
def test_the_slots_of_llama_cpp_are_idle_soon_after_the_client_has_gone(
    llama: Engine, way: str
) -> None:
    model, how = LEAVING[way]
    gone = noted(llama.gateway, 499)
    with llama.gateway.send(llama.gateway.body(model, **how, **ENDLESS)) as client:
        if model == "open" and "stream" in how:
            client.read_until(b'"content":')
        assert until(lambda: llama.busy() == (4 if model == "number" else 1), 10)
    llama.idle_soon()
    llama.gateway.settle()
    assert noted(llama.gateway, 499) == gone + 1
    assert llama.gateway.chat("open", max_tokens=2).status_code == 200


@pytest.mark.model
def test_the_slots_of_llama_cpp_are_idle_soon_after_a_deadline(llama: Engine) -> None:
    started = time.monotonic()
    reply = llama.gateway.chat("number", poise={"max_seconds": 0.3}, **ENDLESS)
    assert reply.json()["error"]["code"] == "deadline"
    assert time.monotonic() - started < 0.3 + SOON
    llama.idle_soon()


@pytest.mark.model
def test_the_slots_of_llama_cpp_are_idle_soon_after_the_policy_has_stopped(
    llama: Engine, tmp_path: Path, eager: tuple[Alias, ...]
) -> None:
    """Twelve samples on four slots, one request each; the first is enough."""
    client = llama.backend._http
    assert client is not None
    server = InOrder(
        client.base_url,
        "faulty",
        api_key=client._address.key,
        engine="llama.cpp",
        capabilities=Capabilities(n=1, logprobs=5, seed=True),
    )
    (alias,) = eager
    twelve = alias.model_copy(update={"policy": "eager:max_samples=12"})
    with Watched(settings(tmp_path, alias=(twelve,)), server) as gateway:
        reply = gateway.chat("number", max_tokens=40, ignore_eos=True)
        poise = reply.json()["poise"]
        llama.idle_soon()
        assert (poise["n_samples"], poise["stop"]) == (1, "sure")
        spend = poise["spend"]
        assert spend["calls"] == 12
        assert spend["completion_tokens"] < 6 * 40
        gateway.settle()
