"""What runs behind a reply: shadow decisions, audits, records. The reply never shows any of it.

In shadow mode the client gets the upstream's first sample as it is, and the policy's decision is
recorded beside it. An audit draws a decided question on to the cap. Where the store fails, or
writes behind the reply, the reply stays as it is and says so.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fault_server import Behaviour, FaultServer
from gateway_client import (
    Tally,
    Watched,
    decisions,
    events,
    key,
    settings,
    until,
)
from poise.backends import Scripted
from poise.backends.scripted import Fail, Hang
from poise.config import Alias
from poise.errors import Unavailable
from poise.types import Request

TEXT = "It is 12"
OUR_HEADERS = {"x-poise-id", "x-poise-recorded"}
BETA = "beta:threshold=0.9,max_samples=8"
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def shadowed(**more: Any) -> tuple[Alias, ...]:
    stated: dict[str, Any] = {"kind": "number", "policy": BETA, "audit_rate": 0.0} | more
    return (Alias(name="number", upstream="lab", model="faulty", mode="shadow", **stated),)


def audited(rate: float = 1.0, **more: Any) -> tuple[Alias, ...]:
    stated: dict[str, Any] = {"kind": "number", "policy": BETA} | more
    return (Alias(name="number", upstream="lab", model="faulty", audit_rate=rate, **stated),)


def poise_words(reply: httpx2.Response) -> list[str]:
    """Whatever in the reply speaks of Poise: header names, and keys and values of the body."""
    named = [name for name in reply.headers if "poise" in name]
    return named + (["body"] if "poise" in reply.text.lower() else [])


# -- shadow ----------------------------------------------------------------------------------------


@both_ways
def test_a_shadowed_reply_is_the_upstreams_own_and_the_decision_is_recorded_beside_it(
    tmp_path: Path, stream: bool
) -> None:
    """The first sample says 13, and the others outvote it, unseen."""

    def script(body: dict[str, Any], number: int) -> Behaviour:
        said.append(body)
        return Behaviour(texts=("It is 13 I say",) if number == plain[0] else (TEXT,))

    said: list[dict[str, Any]] = []
    plain = [-1]
    with FaultServer(script) as server:
        config = settings(tmp_path, base_url=server.base_url, alias=shadowed())
        with Watched(config) as gateway:
            assert gateway.chat("number").status_code == 200  # what the server can do is known now
            gateway.settle()
            plain[0] = len(server.requests)
            reply = gateway.chat("number", stream=stream, temperature=0.7, user="me", seed=5)
            assert reply.status_code == 200
            # A stream has begun before it can be known whether it will be recorded.
            assert set(poise_words(reply)) == (
                OUR_HEADERS - {"x-poise-recorded"} if stream else OUR_HEADERS
            )
            gateway.settle()
            first, *behind = server.requests[plain[0] :]
            assert first.body.get("n", 1) == 1
            assert first.body["temperature"] == 0.7
            assert first.body["user"] == "me"
            assert behind
    if stream:
        told = events(reply.iter_lines())
        text = "".join(c["delta"].get("content") or "" for one in told for c in one["choices"])
        finish = [c["finish_reason"] for one in told for c in one["choices"]]
        assert [one for one in finish if one] == ["stop"]
        (named,) = {one["id"] for one in told}
    else:
        body = reply.json()
        text, named = body["choices"][0]["message"]["content"], body["id"]
        assert body["usage"]["completion_tokens"] == 5
    assert text == "It is 13 I say"
    assert reply.headers["x-poise-id"] == named
    live, shadow = decisions(tmp_path)[-2:]
    assert named == f"chatcmpl-{live['id']}"
    assert (live["mode"], live["n_samples"], live["parent"]) == ("plain", 1, None)
    assert (shadow["mode"], shadow["parent"]) == ("shadow", live["id"])
    assert (shadow["decision"], shadow["stop"]) == ("answer", "sure")
    assert shadow["n_samples"] >= 3
    assert shadow["spend_completion_tokens"] == sum(seen.tokens for seen in behind)
    assert live["spend_completion_tokens"] == first.tokens


def test_what_runs_in_the_shadow_neither_delays_nor_fails_the_reply(tmp_path: Path) -> None:
    backend = Scripted(TEXT, latency=lambda *_: 0.0 if len(backend.calls) == 1 else 0.5)
    with Watched(settings(tmp_path, alias=shadowed()), backend) as gateway:
        started = time.monotonic()
        assert gateway.chat("number").json()["choices"][0]["message"]["content"] == TEXT
        assert time.monotonic() - started < 0.4
        gateway.settle()
        assert [row["mode"] for row in decisions(tmp_path)] == ["plain", "shadow"]


def test_a_shadow_that_fails_is_noted_and_nothing_else(tmp_path: Path, quick_retries: None) -> None:
    backend = Scripted(
        TEXT,
        faults=lambda _request, _tried: Fail(Unavailable) if len(backend.calls) else None,
    )
    lab = {"breaker": 1000, "cool_down": 0.01}
    with Watched(settings(tmp_path, alias=shadowed(), upstream=lab), backend) as gateway:
        reply = gateway.chat("number")
        assert reply.status_code == 200
        gateway.settle()
        live, shadow = decisions(tmp_path)
        assert (live["mode"], live["stop"], live["n_samples"]) == ("plain", "single", 1)
        assert (shadow["stop"], shadow["n_samples"], shadow["answer_hmac"]) == ("error", 0, None)


def test_a_shadow_takes_no_more_than_the_request_may_and_nothing_from_the_key(
    tmp_path: Path,
) -> None:
    """The operator wanted it, not the caller."""
    backend = Tally(["1", "2", "3", "4", "5", "6", "7", "8"])
    config = settings(tmp_path, alias=shadowed(), key=(key(samples=100),))
    with Watched(config, backend) as gateway:
        assert gateway.chat("number", poise={"max_samples": 3}).status_code == 200
        gateway.settle()
        live, shadow = decisions(tmp_path)
        assert (live["n_samples"], shadow["n_samples"]) == (1, 2)
        assert backend.samples == 3
        assert gateway.charged("samples") == 1


def test_a_client_that_leaves_a_shadowed_request_leaves_no_shadow(tmp_path: Path) -> None:
    backend = Scripted(TEXT, faults=lambda _request, _tried: Hang())
    with Watched(settings(tmp_path, alias=shadowed()), backend) as gateway:
        with gateway.send(gateway.body("number")):
            assert until(lambda: backend.in_flight == 1)
        assert until(lambda: backend.in_flight == 0)
        gateway.settle()
        assert len(backend.calls) == 1
        assert decisions(tmp_path) == []


# -- audits ----------------------------------------------------------------------------------------


@both_ways
def test_an_audit_draws_on_to_the_cap_and_leaves_the_reply_as_it_would_have_been(
    tmp_path: Path, stream: bool
) -> None:
    """The samples beyond the stop disagree; nobody is told."""
    texts = ["It is 12"] * 3 + ["It is 13"] * 5

    def draw(request: Request, index: int) -> str:
        return "It is 13" if request.question_id.endswith("/further") else texts[index]

    told: list[dict[str, Any]] = []
    for folder, rate in (("with", 1.0), ("without", 0.0)):
        (tmp_path / folder).mkdir()
        config = settings(tmp_path / folder, alias=audited(rate))
        with Watched(config, Tally(draw)) as gateway:
            reply = gateway.chat("number", stream=stream, seed=3)
            poise = (events(reply.iter_lines())[-1] if stream else reply.json())["poise"]
            poise["spend"].pop("seconds")
            told.append({name: poise[name] for name in poise if name != "id"})
            gateway.settle()
    assert told[0] == told[1]
    assert (told[0]["answer"], told[0]["n_samples"], told[0]["stop"]) == ("12", 3, "sure")

    live, audit = decisions(tmp_path / "with")
    assert (live["mode"], live["propensity"], live["n_samples"]) == ("live", 1.0, 3)
    assert (audit["mode"], audit["parent"], audit["propensity"]) == ("audit", live["id"], 1.0)
    assert audit["n_samples"] == 8
    # The clusters of the decision come first, those that are new are numbered on.
    assert json.loads(live["clusters"]) == [0, 0, 0]
    assert json.loads(audit["clusters"]) == [0, 0, 0, 1, 1, 1, 1, 1]
    assert (audit["calibrated"], audit["probability"]) == (0, None)
    assert audit["spend_samples"] == 5
    assert audit["prompt_hmac"] == live["prompt_hmac"]
    (kept,) = decisions(tmp_path / "without")
    assert (kept["mode"], kept["propensity"]) == ("live", 1.0)


def test_an_audit_does_not_delay_the_reply_and_its_spend_is_counted_apart(tmp_path: Path) -> None:
    backend = Tally(
        TEXT, latency=lambda request, _: 0.6 if request.question_id.endswith("/further") else 0.0
    )
    with Watched(settings(tmp_path, alias=audited()), backend) as gateway:
        started = time.monotonic()
        poise = gateway.chat("number").json()["poise"]
        assert time.monotonic() - started < 0.5
        assert poise["spend"]["samples"] == poise["n_samples"] == 3
        assert gateway.charged("samples") == 3
        gateway.settle()
        assert backend.samples == 8
        assert sum(gateway.metric("poise_samples_total").values()) == 8
        questions = gateway.metric("poise_questions_total")
        for mode in ("live", "audit"):
            assert sum(n for labels, n in questions.items() if f'mode="{mode}"' in labels) == 1


def test_what_a_cap_or_a_deadline_ended_is_not_audited(tmp_path: Path) -> None:
    backend = Tally([str(number) for number in range(1, 9)])
    with Watched(settings(tmp_path, alias=audited()), backend) as gateway:
        for poise in ({"max_samples": 2}, {"policy": "fixed:max_samples=2"}):
            assert gateway.chat("number", poise=poise).status_code == 200
        gateway.settle()
        rows = decisions(tmp_path)
        assert [row["mode"] for row in rows] == ["live", "live"]
        assert [row["propensity"] for row in rows] == [None, None]


def test_an_audit_keeps_to_the_caps_of_the_request(tmp_path: Path) -> None:
    backend = Tally(TEXT)
    config = settings(tmp_path, alias=audited(), serve={"caps": {"max_samples": 5}})
    with Watched(config, backend) as gateway:
        assert gateway.chat("number").json()["poise"]["n_samples"] == 3
        gateway.settle()
        _, audit = decisions(tmp_path)
        assert audit["n_samples"] == 5
        assert backend.samples == 5


def test_a_share_of_the_questions_is_audited_and_each_says_how_likely_it_was(
    tmp_path: Path,
) -> None:
    with Watched(settings(tmp_path, alias=audited(0.3)), Scripted(TEXT)) as gateway:
        for _ in range(60):
            gateway.chat("number")
        gateway.settle()
    rows = decisions(tmp_path)
    chosen = {row["parent"] for row in rows if row["mode"] == "audit"}
    # Outside these bounds once in 10,000 runs.
    assert 5 <= len(chosen) <= 33
    for row in rows:
        if row["mode"] == "live":
            assert row["propensity"] == pytest.approx(0.3 if row["id"] in chosen else 0.7)


# -- the store -------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("what", ["deleted", "replaced"])
def test_a_store_that_cannot_be_written_leaves_the_reply_intact_and_unrecorded(
    tmp_path: Path, stream: bool, what: str
) -> None:
    uncapped = key(samples=None, tokens=None)
    with Watched(settings(tmp_path, key=(uncapped,)), Scripted(TEXT)) as gateway:
        assert gateway.chat("number").json()["poise"]["recorded"] is True
        if what == "deleted":
            delete_store(tmp_path)
        else:
            shutil.copy(tmp_path / "poise.db", tmp_path / "copy")
            (tmp_path / "copy").replace(tmp_path / "poise.db")
        poise = unrecorded(gateway, tmp_path, stream=stream)
        ready = gateway.client.get("/ready").json()
        assert ready["store"].startswith("the store cannot be written")
        told = gateway.client.post("/v1/outcomes", json={"id": poise["id"], "value": 1})
        assert told.status_code == 503
        assert told.json()["error"]["code"] == "store_unavailable"


def test_a_store_that_another_program_does_not_let_go_of_is_not_waited_for_for_ever(
    tmp_path: Path,
) -> None:
    uncapped = key(samples=None, tokens=None)
    with Watched(settings(tmp_path, key=(uncapped,)), Scripted(TEXT)) as gateway:
        with contextlib.closing(
            sqlite3.connect(tmp_path / "poise.db", isolation_level=None)
        ) as other:
            other.execute("BEGIN EXCLUSIVE")
            started = time.monotonic()
            unrecorded(gateway, tmp_path, stream=False)
            assert time.monotonic() - started < 8.0
        assert gateway.chat("number").json()["poise"]["recorded"] is True


def unrecorded(gateway: Watched, folder: Path, *, stream: bool) -> dict[str, Any]:
    """Ask; the answer is there, and is said to be recorded nowhere."""
    reply = gateway.chat("number", stream=stream)
    assert reply.status_code == 200
    last = events(reply.iter_lines())[-1] if stream else reply.json()
    poise: dict[str, Any] = last["poise"]
    assert (poise["recorded"], poise["answer"], poise["n_samples"]) == (False, "12", 4)
    assert poise["record_problem"].startswith("the store cannot be written")
    assert str(folder) not in json.dumps(last)
    assert stream or reply.headers["x-poise-recorded"] == "false"
    gateway.settle()
    counted = gateway.metric("poise_records_total")
    assert sum(n for labels, n in counted.items() if 'recorded="false"' in labels) == 1
    return poise


def delete_store(folder: Path) -> None:
    for one in folder.glob("poise.db*"):
        one.unlink()


def test_a_key_with_a_cap_is_not_served_while_the_store_that_keeps_it_is_gone(
    tmp_path: Path,
) -> None:
    """A cap that nobody keeps is none."""
    backend = Tally(TEXT)
    with Watched(settings(tmp_path, key=(key(samples=1000),)), backend) as gateway:
        assert gateway.chat("number").status_code == 200
        delete_store(tmp_path)
        codes = []
        for _ in range(12):  # what is leased already may be spent
            reply = gateway.chat("number")
            codes.append(reply.status_code)
            if reply.status_code != 200:
                break
        assert codes[-1] == 503
        error = reply.json()["error"]
        assert error["code"] == "store_unavailable"
        assert str(tmp_path) not in reply.text
        assert backend.samples <= 1000
        gateway.settle()


def test_a_store_that_writes_behind_says_so_and_loses_nothing_it_had_time_for(
    tmp_path: Path,
) -> None:
    with Watched(settings(tmp_path, store={"writes": "behind"}), Scripted(TEXT)) as gateway:
        ids = []
        for number in range(40):
            reply = gateway.chat(("open", "number")[number % 2])
            poise = reply.json()["poise"]
            assert poise["recorded"] is False
            assert reply.headers["x-poise-recorded"] == "false"
            ids.append(poise["id"])
        gateway.settle()
        # An outcome may come at once: what waits to be written is known.
        told = gateway.client.post("/v1/outcomes", json={"id": ids[-1], "value": 1}).json()
        assert told["data"][0]["status"] == "stored"
    assert [row["id"] for row in decisions(tmp_path)] == ids


def test_without_a_store_nothing_is_recorded_and_nothing_runs_behind(tmp_path: Path) -> None:
    backend = Tally(TEXT)
    config = settings(
        tmp_path, alias=audited(), store={"path": None}, key=(key(samples=None, tokens=None),)
    )
    with Watched(config, backend) as gateway:
        poise = gateway.chat("number").json()["poise"]
        assert poise["recorded"] is False
        assert poise["record_problem"] == "no store is configured"
        gateway.settle()
    assert backend.samples == 3
    assert list(tmp_path.iterdir()) == []
