"""The gateway holds what its OpenAPI document says, whatever is sent: schemathesis tries."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from gateway_server import Serving
from openai_gateway import KEY, digest
from poise.backends import Scripted
from poise.config import Alias, Config, Key, Store
from poise.serve import document
from poise.serve.routes import ROUTES

ALIASES = ("chat", "number", "yesno")
ASKING = ("/v1/chat/completions", "/v1/completions", "/v1/decisions")
OPEN = "/health"
HEADERS = {"Authorization": f"Bearer {KEY}"}

BOUNDED = settings(
    max_examples=30,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # replies are not all alike: nothing to shrink by
    suppress_health_check=list(HealthCheck),
)


def asked_for(*without: str) -> schemathesis.openapi.OpenApiSchema:
    """The document, with our aliases for models, so that a request can get to an answer.

    ``without``: fields of the bodies that ask, which are not to be sent.
    """
    whole = copy.deepcopy(document.whole(ROUTES))
    for path in ASKING:
        body = whole["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        fields = body["schema"]["properties"] | {"model": {"enum": list(ALIASES)}}
        body["schema"]["properties"] = {k: v for k, v in fields.items() if k not in without}
    return schemathesis.openapi.from_dict(whole)


everything = asked_for()
harmonious = asked_for("poise", "top_logprobs", "max_completion_tokens").include(path=ASKING[0])
"""Chats whose fields cannot contradict each other."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    kinds: dict[str, Any] = {"chat": None, "number": "number", "yesno": "yesno"}
    wanted = Config(
        alias=tuple(Alias(name=name, model="m", kind=kinds[name]) for name in ALIASES),
        key=(Key(name="all", sha256=digest(KEY), scopes=("chat", "outcomes", "metrics")),),
        store=Store(path=str(tmp_path_factory.mktemp("schema") / "decisions.db")),
    )
    with Serving(wanted, lambda *_: Scripted("Yes, it is 12, or B.")) as serving:
        yield serving


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        yield opened


def test_the_document_is_served_as_it_is_written(
    gateway: Serving, session: requests.Session
) -> None:
    served = session.get(f"{gateway.root}/openapi.json", headers=HEADERS, timeout=10)
    assert served.json() == document.whole(ROUTES)
    assert session.get(f"{gateway.root}/openapi.json", timeout=10).status_code == 401


@everything.parametrize()
@BOUNDED
def test_every_reply_is_one_that_the_document_names(
    case: schemathesis.Case, gateway: Serving, session: requests.Session
) -> None:
    excluded = [not_a_server_error]
    if case.operation.path in ASKING:
        # Some fields contradict each other, which no schema says: that is a 400 too.
        excluded.append(positive_data_acceptance)
    response = case.call_and_validate(
        base_url=gateway.root, headers=HEADERS, session=session, excluded_checks=excluded
    )
    if response.status_code >= 500:
        # Told to be so quick, or asked of a model that cannot: not ours to mend.
        assert response.json()["error"]["code"] in {"deadline", "no_completions"}


@harmonious.parametrize()
@BOUNDED
def test_every_chat_that_fits_the_document_is_answered(
    case: schemathesis.Case, gateway: Serving, session: requests.Session
) -> None:
    if isinstance(case.body, dict):  # to JSON Schema 2.0 is a whole number; we want it written so
        case.body = {name: _whole(value) for name, value in case.body.items()}
    case.call_and_validate(base_url=gateway.root, headers=HEADERS, session=session)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


@everything.parametrize()
@BOUNDED
def test_nothing_is_answered_without_a_key(
    case: schemathesis.Case, gateway: Serving, session: requests.Session
) -> None:
    case.headers.pop("Authorization", None)
    response = case.call(base_url=gateway.root, session=session)
    if case.operation.path == OPEN:
        assert response.status_code in {200, 405}
    else:
        assert response.status_code in {401, 404, 405}
        assert response.json()["error"]["message"]
