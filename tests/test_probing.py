"""What is found out about a server before it is used: every habit by name, in a few short calls."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from fault_server import Behaviour, Body, FaultServer, UsageKind, number_for
from poise.backends import Http
from poise.backends.probing import TOP
from poise.errors import (
    BackendError,
    MalformedReply,
    Rejected,
    ServerFault,
    Unauthorized,
)
from poise.spend import Spend
from poise.types import Batch, Capabilities, Request

T = TypeVar("T")
Script = Callable[[Body, int], Behaviour] | Behaviour

MOST_CALLS = 10
LONG = tuple(f"{letter} " * 20 for letter in "ab")


def using(where: FaultServer | str, work: Callable[[Http], Awaitable[T]], **more: Any) -> T:
    """What ``work`` returns, given a back-end that is closed afterwards."""

    async def go() -> T:
        url = where if isinstance(where, str) else where.base_url
        backend = Http(url, **{"model": "faulty", "timeout": 10.0} | more)
        try:
            return await work(backend)
        finally:
            await backend.aclose()

    return asyncio.run(go())


def probed(script: Script, **more: Any) -> Capabilities:
    with FaultServer(script) as server:
        found = using(server, Http.capabilities, **more)
        assert len(server.requests) == found.spend.calls <= MOST_CALLS
    return found


def rejecting(*names: str) -> Behaviour:
    return Behaviour(rejects=frozenset(names))


# -- habits -------------------------------------------------------------------------------------

REPEATS = "n > 1: every choice of a request repeats the same draw"
SAME_SEED = "seed: accepted, but the same seed gives different replies"
ANY_SEED = "seed: different seeds give the same reply"

HABITS: dict[str, tuple[Script, Capabilities]] = {
    "does everything": (Behaviour(), Capabilities(8, TOP, seed=True)),
    "rejects n": (
        rejecting("n"),
        Capabilities(1, TOP, seed=True, notes=("n > 1: rejected by the server",)),
    ),
    "rejects logprobs": (
        rejecting("logprobs"),
        Capabilities(8, None, seed=True, notes=("logprobs: rejected by the server",)),
    ),
    "rejects seed": (
        rejecting("seed"),
        Capabilities(8, TOP, seed=False, notes=("seed: rejected by the server",)),
    ),
    "rejects all but the plainest": (
        rejecting("n", "seed", "logprobs"),
        Capabilities(
            notes=(
                "n > 1: rejected by the server",
                "seed: rejected by the server",
                "logprobs: rejected by the server",
            )
        ),
    ),
    "rejects n with logprobs": (
        lambda body, _: Behaviour(status=400 if "n" in body and "logprobs" in body else 200),
        Capabilities(
            seed=True,
            notes=("n > 1 and logprobs: not used, as the server rejects them together",),
        ),
    ),
    "ignores n": (
        Behaviour(choices=1),
        Capabilities(1, TOP, seed=True, notes=("n > 1: asked for 2 choices and got 1",)),
    ),
    "repeats itself over n": (
        lambda body, _: Behaviour(texts=(number_for(body.get("seed")),)),
        Capabilities(1, TOP, seed=True, notes=(REPEATS,)),
    ),
    "gives no logprobs": (
        Behaviour(logprobs=False),
        Capabilities(8, None, seed=True, notes=("logprobs: accepted, and none came back",)),
    ),
    "ignores the seed": (
        lambda _, number: Behaviour(texts=(f"reply {number} a", f"reply {number} b")),
        Capabilities(8, TOP, seed=False, notes=(SAME_SEED,)),
    ),
    "always says the same": (
        Behaviour(texts=("Apple tree",)),
        Capabilities(8, TOP, seed=False, notes=(ANY_SEED,)),
    ),
    "wants the limit's other name": (
        rejecting("max_tokens"),
        Capabilities(8, TOP, seed=True, notes=("max_tokens: sent as max_completion_tokens",)),
    ),
    "wants the limit's other name and rejects the rest first": (
        rejecting("logprobs", "max_tokens", "n", "seed"),
        Capabilities(
            notes=(
                "max_tokens: sent as max_completion_tokens",
                "n > 1: rejected by the server",
                "seed: rejected by the server",
                "logprobs: rejected by the server",
            )
        ),
    ),
}
every_habit = pytest.mark.parametrize("habit", HABITS)
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


@both_ways
@every_habit
def test_each_habit_is_found_and_named(habit: str, stream: bool) -> None:
    script, expected = HABITS[habit]
    assert replace(probed(script, stream=stream), spend=Spend()) == expected


@every_habit
def test_what_was_found_is_enough_for_the_server_never_to_reject_a_call(habit: str) -> None:
    script, _ = HABITS[habit]
    with FaultServer(script) as server:

        async def work(backend: Http) -> tuple[Capabilities, Batch]:
            able = await backend.capabilities()
            request = Request(
                ({"role": "user", "content": "What is 3 + 4?"},),
                {"temperature": 0.8, "max_tokens": 20},
                n=able.n,
                seed=5 if able.seed else None,
                logprobs=able.logprobs,
            )
            return able, await backend.sample(request)

        able, batch = using(server, work)
    assert len(batch.replies) == able.n
    for reply in batch.replies:
        assert (reply.logprobs is None) == (able.logprobs is None)


@every_habit
def test_every_token_of_the_probe_is_in_its_spend(habit: str) -> None:
    script, _ = HABITS[habit]
    with FaultServer(script) as server:
        spend = using(server, Http.capabilities).spend
        answered = [seen for seen in server.requests if seen.tokens]
        assert spend.calls == len(server.requests)
        assert spend.completion_tokens == sum(seen.tokens for seen in answered)
        assert spend.prompt_tokens == 4 * len(answered)
        assert not spend.estimated


def test_a_server_that_does_everything_is_known_after_four_calls() -> None:
    assert probed(Behaviour()).spend.calls == 4


def test_probing_is_short_and_never_greedy() -> None:
    with FaultServer() as server:
        using(server, Http.capabilities)
        for seen in server.requests:
            assert seen.body["max_tokens"] <= 16
            assert seen.body["temperature"] > 0


def test_an_unknown_spend_stays_unknown() -> None:
    spend = probed(Behaviour(usage=UsageKind.MISSING, logprobs=False)).spend
    assert (spend.prompt_tokens, spend.completion_tokens) == (None, None)
    assert spend.estimated


def test_alternatives_that_do_not_come_back_are_not_promised() -> None:
    entry = {"token": "Apple", "logprob": -0.5, "top_logprobs": []}

    def script(body: Body, number: int) -> Behaviour:
        choices = [
            {
                "index": index,
                "message": {"content": f"Apple {body.get('seed')} {index}"},
                "finish_reason": "stop",
                "logprobs": {"content": [entry]} if "logprobs" in body else None,
            }
            for index in range(body.get("n", 1))
        ]
        return Behaviour(body=json.dumps({"choices": choices}))

    found = probed(script)
    assert found.logprobs == 0
    assert found.notes == ("logprobs: the chosen token's only, no alternatives came back",)


@pytest.mark.parametrize("most", [1, 2, 32])
def test_no_more_draws_are_offered_than_the_caller_wants_in_a_request(most: int) -> None:
    assert probed(Behaviour(), max_n=most).n == most


@both_ways
@pytest.mark.parametrize(
    ("usage", "per_choice"),
    [(UsageKind.ONE, True), (UsageKind.TOTAL, False), (UsageKind.MISSING, False)],
)
def test_a_usage_that_covers_one_choice_only_is_noticed(
    usage: UsageKind, per_choice: bool, stream: bool
) -> None:
    def script(body: Body, number: int) -> Behaviour:
        texts = tuple(f"{body.get('seed')} {text}" for text in LONG)
        return Behaviour(texts=texts, usage=usage)

    found = probed(script, stream=stream)
    assert found.usage_per_choice is per_choice
    assert (found.n, found.notes) == (8, ())


# -- once ---------------------------------------------------------------------------------------


def test_many_who_ask_at_once_share_one_probe() -> None:
    with FaultServer(Behaviour(latency=0.01)) as server:

        async def work(backend: Http) -> list[Capabilities]:
            asked = [backend.capabilities() for _ in range(8)]
            return [*await asyncio.gather(*asked), await backend.capabilities()]

        found = using(server, work)
        assert found == [found[0]] * 9
        assert len(server.requests) == found[0].spend.calls


def test_capabilities_that_are_given_are_believed() -> None:
    given = Capabilities(n=3, logprobs=2, seed=True)
    with FaultServer() as server:
        assert using(server, Http.capabilities, capabilities=given) is given
        assert not server.requests


@pytest.mark.parametrize("broken", [0, 2, 3])
def test_a_probe_that_fails_leaves_nothing_behind_and_the_next_succeeds(broken: int) -> None:
    with FaultServer(
        lambda body, number: Behaviour(status=503 if number == broken else 200)
    ) as server:

        async def work(backend: Http) -> Capabilities:
            with pytest.raises(ServerFault):
                await backend.capabilities()
            return await backend.capabilities()

        assert replace(using(server, work), spend=Spend()) == HABITS["does everything"][1]


def test_a_probe_that_is_cancelled_does_not_lock_out_the_next() -> None:
    with FaultServer(
        lambda body, number: Behaviour(latency=60.0 if number == 0 else 0.0)
    ) as server:

        async def work(backend: Http) -> Capabilities:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(backend.capabilities(), 0.1)
            return await backend.capabilities()

        assert using(server, work).n == 8


def test_where_even_the_plainest_request_is_rejected_the_servers_words_come_out() -> None:
    body = json.dumps({"error": {"message": "The model `faulty` does not exist"}})
    with FaultServer(Behaviour(status=404, body=body)) as server:
        with pytest.raises(Rejected, match="The model `faulty` does not exist"):
            using(server, Http.capabilities)
        assert len(server.requests) == 2


def test_a_missing_key_is_told_as_such() -> None:
    with FaultServer(api_key="sk-7") as server, pytest.raises(Unauthorized, match="a key is"):
        using(server, Http.capabilities)


# -- names --------------------------------------------------------------------------------------


def named(where: FaultServer | str, model: str | None = None, **more: Any) -> tuple[str, str]:
    async def work(backend: Http) -> tuple[str, str]:
        await backend.capabilities()
        return backend.model, backend.engine

    return using(where, work, model=model, **more)


def test_the_only_model_of_a_server_needs_no_naming() -> None:
    with FaultServer(models=("tiny",)) as server:
        assert named(server)[0] == "tiny"
        assert {seen.body["model"] for seen in server.requests} == {"tiny"}


@pytest.mark.parametrize(
    ("models", "said"),
    [(("big", "small"), "big, small"), ((), "no list of models"), (None, "no list of models")],
)
def test_where_the_model_is_unclear_the_error_names_what_there_is(
    models: tuple[str, ...] | None, said: str
) -> None:
    with FaultServer(models=models) as server:
        with pytest.raises(Rejected, match=f"name a model with -m; the server offers {said}"):
            named(server)
        assert not server.requests


@pytest.mark.parametrize(
    ("owner", "engine"),
    [("vllm", "vllm"), ("llamacpp", "llama.cpp"), ("sglang", "sglang"), ("me", "http")],
)
def test_the_engine_is_read_from_the_models_owner(owner: str, engine: str) -> None:
    with FaultServer(models=("a", "b"), owned_by=owner) as server:
        assert named(server, "b") == ("b", engine)
        assert named(server, "b", engine="mine") == ("b", "mine")
        assert named(server, "not listed") == ("not listed", "http")


@contextlib.contextmanager
def listing(status: int, content: str) -> Iterator[str]:
    """The base URL of a server that chats, and whose list of models is ``content``."""
    chat = '{"choices": [{"index": 0, "message": {"content": "7"}, "finish_reason": "stop"}]}'

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(status, content)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200, chat)

        def answer(self, status: int, content: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (403, "this key is for chat", Unauthorized),
        (404, "", Rejected),
        (200, "<html>Welcome</html>", MalformedReply),
        (200, '["a"]', Rejected),
        (200, '{"data": {"id": "a"}}', Rejected),
    ],
)
def test_a_list_that_cannot_be_had_matters_only_where_a_name_is_wanted(
    status: int, content: str, kind: type[BackendError]
) -> None:
    with listing(status, content) as url:
        with pytest.raises(kind):
            named(url)
        assert named(url, "m") == ("m", "http")


def test_a_list_that_fails_for_a_moment_is_no_reason_to_guess_the_engine() -> None:
    with listing(503, "starting") as url, pytest.raises(ServerFault):
        named(url, "m")
