"""Text completions: passed on as they are, under caps, recorded, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import NotFoundError, OpenAI

from gateway_server import Serving
from poise.backends import Scripted
from poise.config import Alias, Caps, Config, Key, Serve, Store
from poise.errors import BackendError, Rejected

USED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def choice(text: str, finish: str | None = "stop") -> dict[str, Any]:
    return {"index": 0, "text": text, "finish_reason": finish, "logprobs": None, "odd": 1}


def post(gateway: Serving, path: str, body: Any, headers: Any = None) -> httpx2.Response:
    """The embedded model may be slow on a busy machine."""
    return httpx2.post(gateway.base_url + path, json=body, headers=headers, timeout=60)


@pytest.fixture
def gateway(weights: str, tmp_path: Path) -> Iterator[Serving]:
    """The embedded model, with a store."""
    del weights
    config = Config(alias=(Alias(name="m"),), store=Store(path=str(tmp_path / "p.db")))
    with Serving(config) as serving:
        yield serving


@pytest.mark.model
def test_the_embedded_model_completes_whole_and_streamed(gateway: Serving) -> None:
    client = OpenAI(base_url=gateway.base_url, api_key="none", max_retries=0)
    whole = client.completions.create(model="m", prompt="1, 2, 3, 4,", max_tokens=8, temperature=0)
    assert whole.id.startswith("cmpl-")
    assert whole.model == "m"
    assert whole.usage is not None
    assert 0 < whole.usage.completion_tokens <= 8
    streamed = client.completions.create(
        model="m", prompt="1, 2, 3, 4,", max_tokens=8, temperature=0, stream=True
    )
    text = "".join(chunk.choices[0].text for chunk in streamed if chunk.choices)
    assert text == whole.choices[0].text


@pytest.mark.model
def test_a_completion_is_recorded_with_what_it_cost(gateway: Serving) -> None:
    body = {"model": "m", "prompt": "Red, green,", "max_tokens": 4}
    reply = post(gateway, "/completions", body).json()
    outcome = {"id": reply["id"], "value": 1}
    said = post(gateway, "/outcomes", outcome).json()
    assert said["data"][0]["status"] == "stored"
    metrics = httpx2.get(gateway.root + "/metrics").text
    assert 'poise_requests_total{alias="m",status="200"} 1.0' in metrics


@pytest.mark.model
def test_caps_hold_for_completions_too(weights: str) -> None:
    del weights
    config = Config(alias=(Alias(name="m"),), serve=Serve(caps=Caps(max_tokens=50)))
    with Serving(config) as gateway:
        body = {"model": "m", "prompt": "x" * 60, "max_tokens": 4}
        refused = post(gateway, "/completions", body)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "cap_reached"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "x"}, "model"),
        ({"model": "m"}, "prompt"),
        ({"model": "m", "prompt": None}, "prompt"),
        ({"model": "m", "prompt": {}}, "prompt"),
        ({"model": "m", "prompt": "x", "poise": {}}, "poise"),
        ({"model": "m", "prompt": "x", "max_tokens": -1}, "max_tokens"),
        ({"model": "m", "prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"model": "m", "prompt": "x", "max_tokens": False}, "max_tokens"),
        ({"model": "m", "prompt": "x", "n": "two"}, "n"),
        ([], "model"),
    ],
)
def test_a_wrong_body_is_refused_by_the_field(body: Any, param: str) -> None:
    with Serving(Config(alias=(Alias(name="m"),)), lambda *_: Scripted("12")) as gateway:
        refused = post(gateway, "/completions", body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param


def test_a_server_that_completes_no_texts_is_named_as_such() -> None:
    with Serving(Config(alias=(Alias(name="m"),)), lambda *_: Scripted("12")) as gateway:
        client = OpenAI(base_url=gateway.base_url, api_key="none", max_retries=0)
        refused = post(gateway, "/completions", {"model": "m", "prompt": "x"})
        with pytest.raises(NotFoundError, match="no model"):
            client.completions.create(model="other", prompt="x")
    assert refused.status_code == 501


class Completing(Scripted):
    """A scripted back-end that completes one text, or fails."""

    def __init__(self, error: BackendError | None = None):
        super().__init__("12")
        self.error = error
        self.bodies: list[dict[str, Any]] = []

    async def complete(self, body: Any, listen: Any) -> Any:
        from poise.backends.http import Completed
        from poise.types import Usage

        self.bodies.append(dict(body))
        if self.error is not None:
            raise self.error
        if listen is None:
            return Completed({"choices": [choice("4")], "usage": USED, "more": "kept"}, Usage(3, 2))
        for word in ("4", ",", " 5"):
            listen({"choices": [choice(word, None)]})
        return Completed(None, Usage(3, 2))


def test_fields_that_nobody_knows_go_both_ways(tmp_path: Path) -> None:
    backend = Completing()
    config = Config(
        alias=(Alias(name="m"),),
        key=(Key(name="k", sha256=_sha("secret"), tokens=1000),),
        store=Store(path=str(tmp_path / "p.db")),
    )
    with Serving(config, lambda *_: backend) as gateway:
        keyed = {"Authorization": "Bearer secret"}
        body = {"model": "m", "prompt": ["a", "b"], "grammar": "root ::= [0-9]"}
        reply = post(gateway, "/completions", body, keyed).json()
        assert post(gateway, "/completions", body).status_code == 401
    assert reply["more"] == "kept"
    assert reply["choices"] == [choice("4")]
    assert backend.bodies[0]["grammar"] == "root ::= [0-9]"
    assert backend.bodies[0]["max_tokens"] == 16


def test_null_is_no_way_around_the_bound_on_a_reply() -> None:
    backend = Completing()
    with Serving(Config(alias=(Alias(name="m"),)), lambda *_: backend) as gateway:
        body = {"model": "m", "prompt": "x", "max_tokens": None, "suffix": None}
        assert post(gateway, "/completions", body).status_code == 200
    assert backend.bodies[0]["max_tokens"] == 16
    assert "suffix" not in backend.bodies[0]


def test_a_failure_is_told_and_the_breaker_hears_of_it() -> None:
    backend = Completing(Rejected("too long"))
    with Serving(Config(alias=(Alias(name="m"),)), lambda *_: backend) as gateway:
        refused = post(gateway, "/completions", {"model": "m", "prompt": "x"})
    assert refused.status_code == 400
    assert "too long" in refused.json()["error"]["message"]


def _sha(key: str) -> str:
    import hashlib

    return hashlib.sha256(key.encode()).hexdigest()
