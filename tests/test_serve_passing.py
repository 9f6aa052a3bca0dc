"""What is passed on as it came, what a stream says of its own words, and who is a stranger."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from gateway_server import Serving, sse
from poise.backends import Scripted
from poise.config import Alias, Caps, Config, Serve, Upstream
from poise.types import Capabilities, Kind

LAB = Upstream(name="lab", base_url="http://localhost:1/v1")
HI = [{"role": "user", "content": "Hi"}]


def served(backend: Scripted, **serve: Any) -> Serving:
    aliases = (
        Alias(name="open", upstream="lab", model="m"),
        Alias(name="number", upstream="lab", model="m", kind=Kind.NUMBER, policy="fixed:n=4"),
    )
    config = Config(upstream=(LAB,), alias=aliases, serve=Serve(**serve))
    return Serving(config, lambda *_: backend)


def test_open_chat_goes_to_the_server_with_nothing_added() -> None:
    backend = Scripted("Hello")
    with served(backend) as gateway:
        body = {"model": "open", "messages": HI, "odd": 1}
        assert httpx2.post(gateway.base_url + "/chat/completions", json=body).status_code == 200
    assert dict(backend.calls[-1].decoding) == {"odd": 1}


def test_under_a_cap_on_tokens_a_reply_gets_a_bound() -> None:
    backend = Scripted("Hello")
    with served(backend, caps=Caps(max_tokens=5000)) as gateway:
        body = {"model": "open", "messages": HI}
        assert httpx2.post(gateway.base_url + "/chat/completions", json=body).status_code == 200
    assert dict(backend.calls[-1].decoding) == {"max_tokens": 512}


@pytest.mark.parametrize("most", [1, 8])
def test_choices_of_one_seed_are_draws_and_not_copies(most: int) -> None:
    backend = Scripted(
        lambda request, index: f"{request.seed} {index}",
        capabilities=Capabilities(n=most, seed=True),
    )
    with served(backend) as gateway:
        body = {"model": "open", "messages": HI, "n": 3, "seed": 1}
        reply = httpx2.post(gateway.base_url + "/chat/completions", json=body).json()
        again = httpx2.post(gateway.base_url + "/chat/completions", json=body).json()
    texts = [choice["message"]["content"] for choice in reply["choices"]]
    assert len(set(texts)) == 3
    assert [choice["message"]["content"] for choice in again["choices"]] == texts


def test_the_end_of_a_stream_speaks_of_the_words_that_went_out() -> None:
    """The vote may come to another answer than the first sample's, which cannot be taken back."""
    with served(Scripted(["13", "12", "12", "12"])) as gateway:
        body = {"model": "number", "messages": HI, "stream": True, "poise": {"stream": "first"}}
        reply = httpx2.post(gateway.base_url + "/chat/completions", json=body)
    *_, last = [one for one in sse(reply.text.splitlines()) if isinstance(one, dict)]
    assert last["poise"]["answer"] == "12"
    assert last["choices"][0]["poise"] == {"probability": None, "answer": "13"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Host": "elsewhere.example"},
        {"Origin": "null"},
    ],
)
def test_without_keys_a_page_of_somewhere_else_is_refused(headers: dict[str, str]) -> None:
    backend = Scripted("Hello")
    with served(backend) as gateway:
        body = json.dumps({"model": "open", "messages": HI})
        url = gateway.base_url + "/chat/completions"
        reply = httpx2.post(url, content=body, headers={"Content-Type": "text/plain", **headers})
        assert reply.status_code == 403
        assert reply.json()["error"]["code"] == "not_local"
        own = {"Origin": "http://localhost:3000"}
        assert httpx2.post(url, content=body, headers=own).status_code == 200
        assert httpx2.get(gateway.root + "/health", headers=headers).status_code == 200
    assert len(backend.calls) == 1
