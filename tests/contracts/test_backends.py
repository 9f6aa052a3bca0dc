"""What every back-end promises, whatever runs behind it; ``solve`` relies on nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

import tiny_model
from fault_server import Behaviour, Body, FaultServer, number_for
from poise.backends import BACKENDS, Http, LlamaCpp, Scripted, Stored, Transformers
from poise.backends.assembling import StreamReader
from poise.errors import BackendError
from poise.pools import Pool
from poise.types import Backend, Batch, Relay, Request, Sample, TokenLogprobs

T = TypeVar("T")

TEXTS = tuple(number_for(7, index) for index in range(4))
ASKED = Request(
    ({"role": "user", "content": "Tell me a story."},),
    # A model that may not end by itself, so that the number of its tokens is known.
    {"temperature": 0.8, "max_tokens": 6, "ignore_eos": True},
    seed=7,
    question_id="q",
)


@dataclass(frozen=True)
class Case:
    """A back-end in use, with a request that it cannot serve.

    ``texts``: its draws for ``ASKED``, None: whatever a model says.
    """

    backend: Backend
    run: Callable[[Awaitable[Any]], Any]
    bad: Request
    texts: tuple[str, ...] | None = TEXTS

    def draw(self, request: Request = ASKED, **more: Any) -> Batch:
        return self.run(self.backend.sample(replace(request, **more)))


def stored() -> Stored:
    found = TokenLogprobs(("7",), (-0.5,), ((("7", -0.5), ("8", -1.5)),))
    samples = tuple(
        Sample(index, text, text, tokens=1, logprobs=found) for index, text in enumerate(TEXTS)
    )
    return Stored([Pool("d", "m", "q", samples)])


@contextlib.contextmanager
def http(*, stream: bool) -> Iterator[Http]:
    def script(body: Body, number: int) -> Behaviour:
        return Behaviour(status=400 if body["messages"][0]["content"] == "bad" else 200)

    with FaultServer(script) as server:
        yield Http(server.base_url, stream=stream)


MAKERS: dict[str, Callable[[], contextlib.AbstractContextManager[Backend]]] = {
    "scripted": lambda: contextlib.nullcontext(Scripted({"q": TEXTS})),
    "stored": lambda: contextlib.nullcontext(stored()),
    "http": lambda: http(stream=True),
    "http, whole": lambda: http(stream=False),
}
UNKNOWN = replace(ASKED, question_id="another", messages=({"role": "user", "content": "bad"},))


MODELS = ("llamacpp", "transformers")
"""Back-ends that run a model: what they say is not known beforehand."""


@pytest.fixture(scope="module", params=[*MAKERS, *MODELS])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    with asyncio.Runner() as runner:

        def run(work: Awaitable[T]) -> T:
            async def go() -> T:
                return await work

            return runner.run(go())

        if request.param == "llamacpp":
            path = request.getfixturevalue("weights")
            embedded = LlamaCpp(path, threads=1, slots=4, context=256)
            unreadable = replace(ASKED, decoding={"temperature": "warm"})
            yield Case(embedded, run, unreadable, None)
            run(embedded.aclose())
            return
        if request.param == "transformers":
            folder = tiny_model.save_folder(tmp_path_factory.mktemp("model") / "tiny")
            own = Transformers(folder, draws=4, device="cpu")
            yield Case(own, run, replace(ASKED, decoding={"temperature": "warm"}), None)
            run(own.aclose())
            return
        with MAKERS[request.param]() as backend:
            yield Case(backend, run, UNKNOWN)
            run(backend.aclose())


class Count:
    """A meter."""

    def __init__(self) -> None:
        self.tokens = 0

    def queued(self, waiting: bool) -> None:
        pass

    def received(self, tokens: int) -> None:
        assert tokens > 0
        self.tokens += tokens


# -- shape --------------------------------------------------------------------------------------


def test_every_back_end_of_the_table_is_held_to_the_contract() -> None:
    assert {name.partition(",")[0] for name in [*MAKERS, *MODELS]} == set(BACKENDS)


@pytest.mark.parametrize("backend", BACKENDS.values())
@pytest.mark.parametrize("method", ["capabilities", "sample", "aclose"])
def test_methods_have_the_protocols_signature(backend: type, method: str) -> None:
    own, promised = getattr(backend, method), getattr(Backend, method)
    assert inspect.iscoroutinefunction(own)
    assert inspect.signature(own) == inspect.signature(promised)


def test_engine_and_model_are_named_once_the_back_end_was_asked(case: Case) -> None:
    case.run(case.backend.capabilities())
    for name in (case.backend.engine, case.backend.model):
        assert isinstance(name, str)
        assert name.strip()
        assert "not asked" not in name


def test_capabilities_are_well_formed_and_do_not_change(case: Case) -> None:
    able = case.run(case.backend.capabilities())
    assert able == case.run(case.backend.capabilities())
    assert able.n >= 1
    assert able.logprobs is None or able.logprobs >= 0
    assert all(isinstance(note, str) and note for note in able.notes)


# -- drawing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 4])
def test_as_many_replies_come_as_were_asked_for_and_in_order(case: Case, n: int) -> None:
    replies = case.draw(n=n).replies
    assert len(replies) == n
    if case.texts is not None:
        assert tuple(reply.text for reply in replies) == case.texts[:n]


@pytest.mark.parametrize("n", [1, 3])
def test_what_the_meter_counted_is_what_is_billed(case: Case, n: int) -> None:
    meter = Count()
    batch = case.run(case.backend.sample(replace(ASKED, n=n), meter))
    each = 6 if case.texts is None else 1
    assert meter.tokens == batch.usage.completion_tokens == each * n


def test_counts_are_counts_or_unknown(case: Case) -> None:
    batch = case.draw(n=2)
    usage = batch.usage
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    for count in (*counts, usage.reasoning_tokens, *(reply.tokens for reply in batch.replies)):
        assert count is None or (isinstance(count, int) and count >= 0)
    known = [reply.tokens for reply in batch.replies]
    if None not in known:
        assert sum(known) == usage.completion_tokens


def test_no_logprobs_come_unasked(case: Case) -> None:
    assert all(reply.logprobs is None for reply in case.draw(n=2, logprobs=None).replies)


def test_logprobs_that_can_be_had_come_as_asked(case: Case) -> None:
    able = case.run(case.backend.capabilities())
    assert able.logprobs, "every back-end here can give alternatives"
    for reply in case.draw(n=2, logprobs=able.logprobs).replies:
        found = reply.logprobs
        assert found is not None
        assert found.top is not None
        assert len(found.tokens) == len(found.chosen) == len(found.top) > 0
        for value, alternatives in zip(found.chosen, found.top, strict=True):
            assert all(math.isfinite(v) and v <= 0 for v in (value, *dict(alternatives).values()))
            assert 1 <= len(alternatives) <= able.logprobs


def test_a_request_is_left_as_it_was(case: Case) -> None:
    request = replace(ASKED, n=2, logprobs=1)
    before = copy.deepcopy(request)
    case.run(case.backend.sample(request))
    assert request == before


def test_calls_side_by_side_do_not_mix(case: Case) -> None:
    async def work() -> list[Batch]:
        sizes = (1, 3, 2, 4)
        return await asyncio.gather(*(case.backend.sample(replace(ASKED, n=n)) for n in sizes))

    batches = case.run(work())
    assert [len(batch.replies) for batch in batches] == [1, 3, 2, 4]
    if case.texts is not None:
        for batch in batches:
            drawn = tuple(reply.text for reply in batch.replies)
            assert drawn == case.texts[: len(drawn)]


# -- relaying -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [Http, LlamaCpp, Scripted])
def test_who_relays_has_the_protocols_signature(backend: type) -> None:
    assert inspect.iscoroutinefunction(backend.relay)
    assert inspect.signature(backend.relay) == inspect.signature(Relay.relay)


@pytest.mark.parametrize(("n", "logprobs"), [(1, None), (3, None), (2, 1)])
def test_what_is_heard_is_what_is_returned_and_counted(
    case: Case, n: int, logprobs: int | None
) -> None:
    backend, meter, reader = case.backend, Count(), StreamReader(logprobs)
    if not isinstance(backend, Relay):
        # Stored answers are all there at once, and nobody talks to what training data is drawn by.
        assert isinstance(backend, Stored | Transformers)
        return
    heard: list[Any] = []
    request = replace(ASKED, n=n, logprobs=logprobs)
    batch = case.run(backend.relay(request, meter, heard.append))
    assert all(chunk["choices"] for chunk in heard)
    for chunk in heard:
        reader.feed(chunk)
    found = reader.finish().replies
    assert [reply.raw for reply in found] == [
        {name: value for name, value in (reply.raw or {}).items() if value is not None}
        for reply in batch.replies
    ]
    assert [(r.text, r.finish, r.logprobs) for r in found] == [
        (r.text, r.finish, r.logprobs) for r in batch.replies
    ]
    assert meter.tokens == batch.usage.completion_tokens
    if case.texts is not None:
        again = case.draw(n=n, logprobs=logprobs)
        assert again == batch
        assert [reply.raw for reply in again.replies] == [reply.raw for reply in batch.replies]


# -- failing and ending -------------------------------------------------------------------------


def test_a_call_that_cannot_be_served_is_a_back_end_error_in_one_line(case: Case) -> None:
    with pytest.raises(BackendError) as caught:
        case.run(case.backend.sample(case.bad))
    assert not caught.value.retryable
    assert caught.value.fate_known
    assert len(str(caught.value).splitlines()) == 1
    assert len(case.draw().replies) == 1


def test_a_cancelled_call_takes_nothing_with_it(case: Case) -> None:
    async def work() -> Batch:
        calls = [asyncio.ensure_future(case.backend.sample(ASKED)) for _ in range(3)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        return await case.backend.sample(replace(ASKED, n=2))

    assert len(case.run(work()).replies) == 2


def test_closing_twice_does_no_harm(case: Case) -> None:
    for _ in range(2):
        case.run(case.backend.aclose())


def test_a_back_end_that_was_never_used_can_be_closed(weights: str) -> None:
    models = (LlamaCpp(weights), Transformers(weights))
    unused = (Http("http://localhost:1/v1"), *models, Scripted("7"), stored())
    assert {type(backend) for backend in unused} == set(BACKENDS.values())
    for backend in unused:
        asyncio.run(backend.aclose())
