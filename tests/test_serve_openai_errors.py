"""The gateway, asked by the official ``openai`` client: every "no" is one of its exceptions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from fault_server import Behaviour, FaultServer
from gateway_server import Serving
from openai_gateway import (
    KEY,
    client_of,
    everything,
    in_front_of,
    poise_of,
)
from told import say


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with everything(tmp_path_factory.mktemp("gateway")) as serving:
        yield serving


@pytest.fixture(scope="module")
def client(gateway: Serving) -> Iterator[OpenAI]:
    with client_of(gateway) as made_client:
        yield made_client


# -- what makes no sense --------------------------------------------------------------------------
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("an unknown key", {"max_sample": 4}, "poise.max_sample"),
    ("a kind that there is not", {"kind": "poem"}, "poise.kind"),
    ("options of another kind", {"kind": "number", "options": ["a", "b"]}, "poise"),
    ("a single option", {"options": ["a"]}, "poise.options"),
    ("an empty option", {"options": ["a", ""]}, "poise.options.1"),
    ("a choice without options", {"kind": "choice"}, "poise.options"),
    ("a tier that there is not", {"tier": "worst"}, "poise.tier"),
    ("a policy that there is not", {"policy": "coin"}, "poise.policy"),
    ("a policy with a wrong value", {"policy": "beta:threshold=7"}, "poise.policy"),
    ("a bar above 1", {"abstain": 1.5}, "poise.abstain"),
    ("a bar in words", {"abstain": "0.5"}, "poise.abstain"),
    ("no samples", {"max_samples": 0}, "poise.max_samples"),
    ("half a token", {"max_tokens": 1.5}, "poise.max_tokens"),
    ("no time", {"max_seconds": 0}, "poise.max_seconds"),
    ("a debt", {"max_usd": -1}, "poise.max_usd"),
    ("another stream", {"stream": "last"}, "poise.stream"),
]


@pytest.mark.parametrize(("_", "options", "param"), BAD, ids=[what for what, _, _ in BAD])
def test_a_bad_option_is_a_bad_request_that_names_it(
    client: OpenAI, _: str, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(
            model="chat", messages=say("?"), extra_body={"poise": options}
        )
    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"
    assert param.removeprefix("poise.").split(".")[0].strip("0123456789") in raised.value.message


@pytest.mark.parametrize("options", [[], "fast", 3, True])
def test_options_that_are_no_object_are_a_bad_request(client: OpenAI, options: Any) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(
            model="chat", messages=say("?"), extra_body={"poise": options}
        )
    assert raised.value.param == "poise"


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"content": "?"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"n": 0}, "n"),
    ({"n": 17}, "n"),
    ({"temperature": 3}, "temperature"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"max_tokens": 4, "max_completion_tokens": 5}, "max_tokens"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"tools": {}}, "tools"),
    ({"response_format": "json"}, "response_format"),
]


@pytest.mark.parametrize(("fields", "param"), BAD_FIELDS)
def test_a_bad_field_is_a_bad_request_that_names_it(
    client: OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{"model": "number", "messages": say("1"), **fields})
    assert raised.value.param == param


# -- who may ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["another", KEY.upper(), f"{KEY} {KEY}"])
def test_a_wrong_key_is_an_authentication_error(gateway: Serving, key: str) -> None:
    with client_of(gateway, key) as client, pytest.raises(openai.AuthenticationError) as raised:
        client.chat.completions.create(model="chat", messages=say("?"))
    assert raised.value.code == "invalid_api_key"
    assert raised.value.response.headers["www-authenticate"] == "Bearer"


def test_a_key_opens_what_it_is_for_and_no_more(gateway: Serving) -> None:
    with client_of(gateway, "asks") as asks, client_of(gateway, "tells") as tells:
        assert asks.chat.completions.create(model="chat", messages=say("Hi")).choices
        with pytest.raises(openai.PermissionDeniedError) as raised:
            asks.chat.completions.create(model="number", messages=say("1"))
        assert raised.value.param == "model"
        with pytest.raises(openai.PermissionDeniedError):
            asks.chat.completions.create(model="number", messages=say("1"), stream=True)
        with pytest.raises(openai.PermissionDeniedError):
            asks.post("/outcomes", body={"id": "x", "value": 1}, cast_to=object)
        with pytest.raises(openai.PermissionDeniedError):
            tells.chat.completions.create(model="chat", messages=say("Hi"))


def test_models_are_the_aliases_that_the_key_may_name(gateway: Serving, client: OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert set(listed) == {"chat", "number", "priced", "urn", "shadow", "slow", "lab/small"}
    assert client.models.retrieve("number") == listed["number"]
    assert (listed["chat"].object, listed["chat"].owned_by) == ("model", "poise")
    assert client.models.retrieve("lab/small").id == "lab/small"
    with client_of(gateway, "asks") as asks:
        assert [model.id for model in asks.models.list()] == ["chat"]
        with pytest.raises(openai.PermissionDeniedError):
            asks.models.retrieve("number")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def test_an_unknown_model_or_path_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="gpt-4o", messages=say("?"))
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert "number" in raised.value.message  # what there is
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4o", messages=say("?"), stream=True)
    with pytest.raises(openai.NotFoundError) as raised:
        client.embeddings.create(model="chat", input="?")
    assert raised.value.code == "unknown_url"


def test_a_spent_cap_is_a_rate_limit_error(gateway: Serving) -> None:
    with client_of(gateway, "poor") as poor:
        reply = poor.chat.completions.create(model="number", messages=say("1"))
        assert poise_of(reply)["n_samples"] <= 2
        with pytest.raises(openai.RateLimitError) as raised:
            for _ in range(3):
                poor.chat.completions.create(model="number", messages=say("1"))
    assert raised.value.type == "insufficient_quota"


def test_too_many_at_once_is_a_rate_limit_error_that_a_retry_gets_over(gateway: Serving) -> None:
    one = {"poise": {"policy": "fixed:max_samples=1"}}

    def ask(client: OpenAI) -> Any:
        return client.chat.completions.create(model="slow", messages=say("1"), extra_body=one)

    with (
        client_of(gateway, "single") as client,
        client_of(gateway, "single", max_retries=3) as again,
    ):
        begun = threading.Thread(target=ask, args=(client,))
        begun.start()
        while gateway.gateway.admission.under_way == 0:
            begun.join(0.005)
        with pytest.raises(openai.RateLimitError) as raised:
            ask(client)
        assert raised.value.code == "concurrency"
        assert int(raised.value.response.headers["retry-after"]) >= 1
        assert ask(again).choices
        begun.join()


def test_a_body_that_is_too_large_is_told_so(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model="chat", messages=say("x" * 30_000))
    assert raised.value.status_code == 413


# -- what a server does wrong ---------------------------------------------------------------------

FAULTS: list[tuple[Behaviour, type[openai.APIStatusError], int, str]] = [
    (Behaviour(status=500), openai.InternalServerError, 502, "upstream_error"),
    (Behaviour(status=400), openai.BadRequestError, 400, "upstream_rejected"),
    (Behaviour(status=401), openai.InternalServerError, 502, "upstream_unauthorized"),
    (Behaviour(body="<html>"), openai.InternalServerError, 502, "upstream_error"),
    (
        Behaviour(status=429, headers={"Retry-After": "90"}),
        openai.RateLimitError,
        429,
        "upstream_rate_limited",
    ),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("fault", "error", "status", "code"), FAULTS)
def test_a_failing_server_is_one_error_of_the_client_without_its_address(
    fault: Behaviour,
    error: type[openai.APIStatusError],
    status: int,
    code: str,
    stream: bool,
    quick_retries: None,
) -> None:
    with (
        FaultServer(fault) as server,
        in_front_of(server) as client,
        pytest.raises(error) as raised,
    ):
        client.chat.completions.create(model="chat", messages=say("?"), stream=stream)
    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert str(server.port) not in str(raised.value)
    if status == 429:
        assert 1 <= int(raised.value.response.headers["retry-after"]) <= 90


def test_no_server_at_all_is_an_internal_server_error(quick_retries: None) -> None:
    with FaultServer() as server:
        pass
    with in_front_of(server) as client, pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="chat", messages=say("?"))
    assert (raised.value.status_code, raised.value.code) == (503, "upstream_unavailable")
    assert str(server.port) not in str(raised.value)
