"""The embedded model, for real: one engine for all tests, a few short generations each.

Two calls give the same text only where nothing else is decoded beside them: llama.cpp's sums depend
on what shares the batch. So what is compared here is drawn alone, one call after the other.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest

from poise.backends import Http, LlamaCpp
from poise.errors import ModelMissing, Rejected, Unauthorized, UsageError
from poise.types import Batch, Capabilities, Request

pytestmark = pytest.mark.model

T = TypeVar("T")

STORY = Request(
    ({"role": "user", "content": "Tell me a story."},),
    {"temperature": 0.8, "max_tokens": 10, "ignore_eos": True},
    seed=1,
    logprobs=3,
)
ENDLESS = replace(STORY, decoding=dict(STORY.decoding) | {"max_tokens": 200}, n=4)
SETTING: dict[str, Any] = {"threads": 1, "slots": 4, "context": 256}


class Count:
    """A meter."""

    def __init__(self) -> None:
        self.tokens = 0

    def queued(self, waiting: bool) -> None:
        pass

    def received(self, tokens: int) -> None:
        self.tokens += tokens


class Engine:
    """A back-end and the event loop it is used in."""

    def __init__(self, backend: LlamaCpp, runner: asyncio.Runner):
        self.backend, self.runner = backend, runner

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def draw(self, request: Request = STORY, **more: Any) -> Batch:
        return self.run(self.backend.sample(replace(request, **more)))


@pytest.fixture(scope="module")
def engine(weights: str) -> Iterator[Engine]:
    with asyncio.Runner() as runner:
        engine = Engine(LlamaCpp(weights, **SETTING), runner)
        yield engine
        engine.run(engine.backend.aclose())


def test_it_can_do_what_it_says(engine: Engine) -> None:
    able = engine.run(engine.backend.capabilities())
    assert (able.n, able.seed, able.notes) == (4, True, ())
    assert able.logprobs is not None
    (reply,) = engine.draw(logprobs=able.logprobs).replies
    assert reply.logprobs is not None
    assert reply.logprobs.top is not None
    assert {len(top) for top in reply.logprobs.top} == {able.logprobs}


def test_a_seed_fixes_the_draw_and_another_gives_another(engine: Engine) -> None:
    engine.draw()  # from here on the prompt is in the cache, and every draw reads it alike
    texts = [engine.draw(seed=seed).replies[0].text for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


def test_every_token_has_a_logprob_that_is_one(engine: Engine) -> None:
    batch = engine.draw(logprobs=3)
    (reply,) = batch.replies
    found = reply.logprobs
    assert found is not None
    assert found.top is not None
    assert len(found.chosen) == len(found.tokens) == len(found.top) == reply.tokens == 10
    assert batch.usage.completion_tokens == 10
    assert "".join(found.tokens) == reply.text
    assert all(math.isfinite(value) and value <= 0 for value in found.chosen)
    for alternatives in found.top:
        values = [value for _, value in alternatives]
        assert values == sorted(values, reverse=True)
        assert sum(math.exp(value) for value in values) <= 1 + 1e-6


def test_a_reply_that_ends_by_itself_is_billed_one_token_more_than_it_shows(
    engine: Engine,
) -> None:
    messages = (
        {"role": "user", "content": "What is 3 + 4?"},
        {"role": "assistant", "content": "3 + 4 = 7"},
        {"role": "user", "content": "What is 2 + 2?"},
    )
    decoding = {"temperature": 0.0, "max_tokens": 30}
    batch = engine.draw(messages=messages, decoding=decoding)
    (reply,) = batch.replies
    assert (reply.finish, reply.text) == ("stop", "2 + 2 = 4")
    assert reply.logprobs is not None
    # The end is a token too: it is generated, and has neither text nor log-probability.
    assert batch.usage.completion_tokens == reply.tokens == len(reply.logprobs.chosen) + 1


def test_the_prompt_is_read_once_and_its_cache_reported(engine: Engine) -> None:
    messages = ({"role": "user", "content": "Name a river in France."},)
    first = engine.draw(messages=messages).usage
    second = engine.draw(messages=messages, seed=2).usage
    assert first.prompt_tokens == second.prompt_tokens
    assert first.cached_tokens is not None
    assert second.cached_tokens is not None
    assert second.cached_tokens > first.cached_tokens
    assert second.prompt_tokens is not None
    assert 0 < second.cached_tokens <= second.prompt_tokens


def test_several_draws_in_one_request_are_all_given_and_all_counted(engine: Engine) -> None:
    meter = Count()
    batch = engine.run(engine.backend.sample(replace(STORY, n=4), meter))
    alone = engine.draw()
    assert len(batch.replies) == 4
    assert len({reply.text for reply in batch.replies}) > 1
    assert [reply.tokens for reply in batch.replies] == [10] * 4
    assert batch.usage.completion_tokens == meter.tokens == 40
    assert batch.usage.prompt_tokens == alone.usage.prompt_tokens


def test_more_draws_than_slots_are_rejected_in_clear_words(engine: Engine) -> None:
    with pytest.raises(Rejected, match=r"1 <= value <= 4"):
        engine.draw(n=5)


def test_a_conversation_too_long_for_a_slot_is_rejected_with_both_sizes(engine: Engine) -> None:
    long = ({"role": "user", "content": "word " * 400},)
    with pytest.raises(Rejected, match=r"HTTP 400.*tokens.*context size \(256 tokens\)") as caught:
        engine.draw(messages=long)
    assert len(str(caught.value).splitlines()) == 1


def test_decoding_the_engine_cannot_read_is_rejected(engine: Engine) -> None:
    with pytest.raises(Rejected, match="temperature"):
        engine.draw(decoding={"temperature": "warm"})


def test_cancelling_frees_the_slots_at_once(engine: Engine) -> None:
    async def work() -> tuple[int, float]:
        meter, backend = Count(), engine.backend
        assert backend.base_url is not None
        key = backend._http._address.key  # type: ignore[union-attr]
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(headers=headers) as client:

            async def busy() -> int:
                slots = await client.get(backend.base_url.removesuffix("/v1") + "/slots")
                return sum(slot["is_processing"] for slot in slots.json())

            call = asyncio.ensure_future(backend.sample(ENDLESS, meter))
            async with asyncio.timeout(5):
                while meter.tokens < 4:  # noqa: ASYNC110 - the meter cannot wake anybody
                    await asyncio.sleep(0.01)
            before = await busy()
            call.cancel()
            started = time.monotonic()
            while await busy():
                await asyncio.sleep(0.02)
                assert time.monotonic() - started < 3
            with pytest.raises(asyncio.CancelledError):
                await call
            return before, meter.tokens

    before, tokens = engine.run(work())
    assert before == 4
    assert tokens < 400


def test_many_calls_at_once_wait_for_a_free_slot(engine: Engine) -> None:
    short = replace(STORY, decoding=dict(STORY.decoding) | {"max_tokens": 2})

    async def work() -> list[Batch]:
        calls = (engine.backend.sample(replace(short, seed=seed)) for seed in range(9))
        return await asyncio.gather(*calls)

    assert [batch.usage.completion_tokens for batch in engine.run(work())] == [2] * 9


def test_calls_follow_each_other_without_losing_a_connection(engine: Engine) -> None:
    short = replace(STORY, decoding={"max_tokens": 1}, logprobs=None)

    async def work() -> int:
        return sum([len((await engine.backend.sample(short)).replies) for _ in range(25)])

    assert engine.run(work()) == 25


def test_without_its_key_the_engine_serves_nobody(engine: Engine) -> None:
    engine.run(engine.backend.capabilities())
    assert engine.backend.base_url is not None
    stranger = Http(engine.backend.base_url, "m", capabilities=Capabilities())
    for call in (stranger.sample(STORY), stranger.models()):
        with pytest.raises(Unauthorized):
            engine.run(call)
    engine.run(stranger.aclose())


def test_the_engine_listens_on_this_machine_only(engine: Engine) -> None:
    engine.run(engine.backend.capabilities())
    assert str(engine.backend.base_url).startswith("http://127.0.0.1:")


def test_another_event_loop_may_use_the_same_engine(engine: Engine) -> None:
    engine.draw()
    here = engine.draw().replies[0].text
    assert asyncio.run(engine.backend.sample(STORY)).replies[0].text == here
    assert engine.draw().replies[0].text == here


def test_an_engine_closed_as_soon_as_it_runs_ends_every_time(weights: str) -> None:
    """On a busy machine a start closed at once could hang before its queue was waited for."""

    async def work() -> None:
        for _ in range(8):
            backend = LlamaCpp(weights, **SETTING | {"slots": 1})
            await backend.capabilities()
            await asyncio.wait_for(backend.aclose(), 60)

    asyncio.run(work())


def test_closing_twice_does_no_harm_and_the_next_call_starts_it_again(weights: str) -> None:
    backend = LlamaCpp(weights, **SETTING | {"slots": 1})
    short = replace(STORY, decoding={"temperature": 0.8, "max_tokens": 1})

    async def work() -> None:
        await asyncio.gather(backend.capabilities(), backend.capabilities())
        await backend.aclose()
        assert backend.base_url is None
        await backend.aclose()

    asyncio.run(backend.aclose())
    asyncio.run(work())

    async def again() -> list[Batch]:
        try:
            return await asyncio.gather(backend.sample(short), backend.sample(short))
        finally:
            await backend.aclose()

    assert len(asyncio.run(again())) == 2


def test_the_weights_are_known_by_name_and_digest(engine: Engine) -> None:
    from poise.backends.weights import SHA256

    assert engine.backend.model == "SmolLM2-135M-Instruct.Q4_1"
    assert engine.backend.engine == "llama.cpp"
    assert engine.backend.sha256() == SHA256


@pytest.mark.parametrize("given", [{"slots": 0}, {"slots": 257}, {"context": 63}])
def test_a_size_that_makes_no_sense_is_refused(weights: str, given: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="slots must be"):
        LlamaCpp(weights, **given)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"none\.gguf: no such model file"):
        LlamaCpp(tmp_path / "none.gguf")


def test_a_file_that_is_no_model_is_named(weights: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"this is not a model")
    backend = LlamaCpp(broken)
    with pytest.raises(ModelMissing, match=r"broken\.gguf: llama\.cpp cannot load it"):
        asyncio.run(backend.capabilities())
    asyncio.run(backend.aclose())
