"""What clients are told of failures: a status, OpenAI's shape, and nothing of the inside."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise import errors
from poise.errors import BackendError, CapReached, ConfigError, InputError, PoiseError
from poise.serve.refusals import Refusal, invalid, refusal, without_addresses

UPSTREAM = "http://ada:hunter2@gpu-7.lab.internal:8000/v1"

EXPECTED = {
    "RateLimited": (429, "rate_limit_error"),
    "Unavailable": (503, "server_error"),
    "TimedOut": (504, "server_error"),
    "ServerFault": (502, "server_error"),
    "StreamCut": (502, "server_error"),
    "MalformedReply": (502, "server_error"),
    "Unauthorized": (502, "server_error"),
    "Rejected": (400, "invalid_request_error"),
    "ModelMissing": (503, "server_error"),
    "UsageError": (400, "invalid_request_error"),
    "InputError": (400, "invalid_request_error"),
    "ConfigError": (500, "server_error"),
    "CapReached": (429, "insufficient_quota"),
    # These two cannot be what a request ran into: a pool file, and a job that fits or tunes.
    "Exhausted": (500, "server_error"),
    "RefusedError": (500, "server_error"),
    "MissingEvidence": (500, "server_error"),
    "Unusable": (500, "server_error"),
    "PoiseError": (500, "server_error"),
    "BackendError": (500, "server_error"),
}


def raised(name: str, message: str) -> PoiseError:
    if name == "CapReached":
        return CapReached("tokens", message)
    made: PoiseError = getattr(errors, name)(message)
    return made


def kinds(cls: type[PoiseError] = PoiseError) -> Iterator[str]:
    yield cls.__name__
    for below in cls.__subclasses__():
        yield from kinds(below)


def test_every_error_of_poise_has_its_status() -> None:
    assert set(errors.__all__) == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_error_is_told_with_its_status_and_type(name: str) -> None:
    told = refusal(raised(name, "it went wrong"))
    assert (told.status, told.type) == EXPECTED[name]
    assert told.code


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_no_error_tells_where_the_upstream_is(name: str) -> None:
    message = (
        f"{UPSTREAM}: HTTP 500: no ([Errno 111] Connect call failed ('10.1.2.3', 8000)); again"
    )
    told = refusal(raised(name, message)).message
    for part in ("ada", "hunter2", "gpu-7", "lab.internal", "8000", "10.1.2.3"):
        assert part not in told
    assert "\n" not in told
    assert told


@pytest.mark.parametrize("name", ["ServerFault", "Rejected", "UsageError", "CapReached"])
def test_what_the_client_can_act_on_is_told(name: str) -> None:
    told = refusal(raised(name, f"{UPSTREAM}: the prompt has 9,000 tokens,\nthe window 4,096"))
    assert told.message == "the upstream: the prompt has 9,000 tokens, the window 4,096"


@given(st.text(min_size=12), st.sampled_from([ValueError, KeyError, RuntimeError, OSError]))
def test_an_unforeseen_error_tells_none_of_its_words(text: str, kind: type[Exception]) -> None:
    told = refusal(kind(text))
    assert told.body() == refusal(ZeroDivisionError()).body()
    assert told.status == 500


def test_a_refusal_is_told_as_it_is() -> None:
    own = invalid("model is missing", "model")
    assert refusal(own) is own


def test_files_of_the_operator_are_not_named() -> None:
    at = InputError("no such column", "/srv/secret/pool.jsonl", 3)
    assert refusal(at).message == "no such column"
    assert "secret" not in refusal(ConfigError("secret: no such key", "/srv/secret.toml")).message


@pytest.mark.parametrize("name", ["RateLimited", "Unavailable", "ServerFault"])
def test_what_the_upstream_asks_to_wait_is_passed_on(name: str) -> None:
    cls: type[BackendError] = getattr(errors, name)
    assert refusal(cls("busy", retry_after=2.1)).headers() == {"Retry-After": "3"}
    assert refusal(cls("busy")).headers() == {}


@given(st.floats(0, 1e6))
def test_retry_after_is_whole_and_never_too_early(seconds: float) -> None:
    stated = Refusal(429, "full", "rate_limit_error", retry_after=seconds).headers()["Retry-After"]
    assert int(stated) == math.ceil(seconds)


def test_a_refusal_has_the_error_shape_of_openai() -> None:
    made = Refusal(404, "no such model", code="model_not_found", param="model")
    assert made.body() == {
        "error": {
            "message": "no such model",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
    assert str(made) == "no such model"


def test_who_lacks_a_key_is_told_which_scheme_to_use() -> None:
    told = Refusal(401, "no key", "authentication_error").headers()
    assert told == {"WWW-Authenticate": "Bearer"}


HOSTS = st.from_regex(r"[a-z][a-z0-9-]{2,8}q(\.[a-z]{2,6}q){1,2}", fullmatch=True)


@given(HOSTS, st.integers(10, 65535), st.sampled_from(["{}", "({})", '"{}"', "<{}>", "at {}, or"]))
def test_no_host_is_left_in_a_text(host: str, port: int, around: str) -> None:
    for form in (f"http://{host}", f"https://u:p4ss@{host}:{port}/v1?key=k,1", f"{host}:{port}"):
        told = without_addresses(around.format(form))
        assert told == around.format("the upstream")


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.5", "10.0.0.5:80", "[::1]:8000", "[fe80::1]", "localhost", "localhost:80"),
        *("http://[::1]:8000/v1", "('::1', 8000, 0, 0)", "('10.0.0.5', 80)", "ada:pw@db.lan"),
        *("HTTP://LAB/v1", "redis://h:1/0", "Localhost:8080"),
    ],
)
def test_addresses_of_every_form_are_left_out(address: str) -> None:
    assert without_addresses(f"cannot reach {address}.") == "cannot reach the upstream."


@pytest.mark.parametrize(
    "text",
    [
        "open chat: the answer kind is not known, so answers cannot be compared",
        "temperature 0: every sample would be the same draw",
        "the cap on tokens leaves no room for 1 more sample(s)",
        "HTTP 400: max_tokens: 5000 is above 4096.",
        "the model qwen2.5:7b v1.2.3 began at 10:30, messages[0].content",
    ],
)
def test_a_text_without_addresses_stays_as_it_is(text: str) -> None:
    assert without_addresses(text) == text


@given(st.text(alphabet="a1.:/@[]('-, ", max_size=300))
def test_looking_for_addresses_ends_soon_on_any_text(text: str) -> None:
    without_addresses(text * 10)
