"""The PyTorch back-end on a tiny random model; the formula of its dynamic temperature.

What every back-end promises is in ``contracts/test_backends.py``.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_model
from poise.backends import Transformers, checkpoint
from poise.backends.drawing import Decoding, Edt
from poise.errors import InputError, ModelMissing, Rejected, Unavailable, UsageError
from poise.train import model as models
from poise.types import Batch, Request

T = TypeVar("T")

ASKED = Request(
    ({"role": "user", "content": "Is the 3 No?"},),
    {"temperature": 1.0, "max_tokens": 12},
    seed=3,
    logprobs=5,
)
LONG = replace(ASKED, decoding={"max_tokens": 400, "ignore_eos": True})


class Count:
    """A meter."""

    def __init__(self) -> None:
        self.tokens = 0
        self.waits: list[bool] = []
        self.started = asyncio.Event()

    def queued(self, waiting: bool) -> None:
        self.waits.append(waiting)

    def received(self, tokens: int) -> None:
        self.tokens += tokens
        self.started.set()


class Engine:
    """A back-end and the event loop it is used in."""

    def __init__(self, backend: Transformers, runner: asyncio.Runner):
        self.backend, self.runner = backend, runner

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def draw(self, request: Request = ASKED, **more: Any) -> Batch:
        return self.run(self.backend.sample(replace(request, **more)))

    def texts(self, **more: Any) -> list[str | None]:
        return [reply.text for reply in self.draw(**more).replies]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.save_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    with asyncio.Runner() as runner:
        engine = Engine(Transformers(folder, device="cpu"), runner)
        yield engine
        engine.run(engine.backend.aclose())


# -- the formula ----------------------------------------------------------------------------------

LOGITS = st.lists(st.floats(-30, 30), min_size=2, max_size=12)


@given(LOGITS, st.floats(0.1, 2), st.floats(0.05, 1), st.floats(0, 3))
def test_the_temperature_is_the_formula_of_the_true_entropy(
    values: list[float], t0: float, m: float, gamma: float
) -> None:
    shares = [math.exp(value - max(values)) for value in values]
    total = math.fsum(shares)
    entropy = -math.fsum(s / total * math.log(s / total) for s in shares if s)
    (found,) = Edt(t0, m, gamma).temperatures(torch.tensor([values], dtype=torch.float64)).tolist()
    if entropy > 1e-9:
        assert found == pytest.approx(t0 * m ** (gamma / entropy), rel=1e-4, abs=1e-12)
    assert 0 <= found <= t0


def test_the_entropy_has_its_log_sum_exp_term() -> None:
    """Without it the released code took H + log p_max: 0 for a uniform distribution, and greedy."""
    uniform = torch.zeros(1, 8)
    (found,) = Edt(0.8, 0.8, 1.0).temperatures(uniform).tolist()
    assert found == pytest.approx(0.8 * 0.8 ** (1 / math.log(8)))
    shifted = Edt(0.8, 0.8, 1.0).temperatures(uniform + 50.0)
    assert shifted.tolist() == [pytest.approx(found)]


def test_the_surer_the_cooler() -> None:
    sharp = torch.tensor([[gap, 0.0, 0.0, 0.0] for gap in (0.0, 1.0, 2.0, 4.0, 8.0)])
    found = Edt(0.8, 0.8, 1.0).temperatures(sharp).tolist()
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.6
    assert found[-1] < 1e-3


def test_without_any_entropy_the_likeliest_is_taken() -> None:
    one = torch.tensor([[0.0, -torch.inf, -torch.inf], [0.0, 200.0, 0.0]])
    edt = Edt(0.8, 0.8, 1.0)
    assert edt.temperatures(one).tolist() == [0.0, 0.0]
    drawn = Decoding(edt=edt).draw(one, torch.tensor([0.99, 0.99], dtype=torch.float64))
    assert drawn.tolist() == [0, 1]


def test_each_row_has_a_temperature_of_its_own() -> None:
    """A sure row is drawn greedily beside one that is not."""
    logits = torch.tensor([[9.0, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 0.0]])
    decoding = Decoding(edt=Edt(0.8, 0.8, 1.0))
    rows = [
        decoding.draw(logits, torch.full((2,), u, dtype=torch.float64)).tolist()
        for u in (0.0, 0.3, 0.6, 0.999999999)
    ]
    assert [row[0] for row in rows] == [0, 0, 0, 0]
    assert [row[1] for row in rows] == [0, 1, 2, 3]


# -- drawing --------------------------------------------------------------------------------------


def shares(decoding: Decoding, logits: torch.Tensor, n: int = 20_000) -> list[float]:
    """How often each token is drawn over an even grid of numbers."""
    grid = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    drawn = Counter(decoding.draw(logits.repeat(n, 1), grid).tolist())
    return [drawn[token] / n for token in range(logits.shape[-1])]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(-4, 4), min_size=2, max_size=8),
    st.floats(0.2, 2),
    st.integers(0, 8),
    st.floats(0.05, 1),
    st.floats(0, 0.9),
)
def test_tokens_are_drawn_as_often_as_their_probability_says(
    values: list[float], heat: float, top_k: int, top_p: float, min_p: float
) -> None:
    order = sorted(range(len(values)), key=lambda token: -values[token])
    left = order[: top_k or None]
    total = sum(math.exp(values[token]) for token in left)
    reached, kept = 0.0, []
    for token in left:
        if kept and reached >= top_p - 1e-9:
            break
        kept.append(token)
        reached += math.exp(values[token]) / total
    edge = max(values) + (math.log(min_p) if min_p else -math.inf)
    kept = [token for token in kept if values[token] >= edge]
    weight = {token: math.exp((values[token] - max(values)) / heat) for token in kept}
    expected = [weight.get(token, 0) / sum(weight.values()) for token in range(len(values))]
    decoding = Decoding(heat, None, top_k, top_p, min_p)
    found = shares(decoding, torch.tensor([values], dtype=torch.float64))
    assert sum(found) == 1
    if len(set(values)) == len(values):  # of equal tokens any may be the one that is left out
        assert np.abs(np.array(found) - expected).max() < 1e-3 or _near_an_edge(values, top_p)


def _near_an_edge(values: list[float], top_p: float) -> bool:
    """Whether rounding may decide which token is the last that top_p keeps."""
    ranked = sorted((math.exp(value) for value in values), reverse=True)
    return any(
        abs(sum(ranked[:k]) / sum(ranked[:n]) - top_p) < 1e-6
        for n in range(1, len(ranked) + 1)
        for k in range(n + 1)
    )


@pytest.mark.parametrize("heat", [0.0, 0.0005])
def test_a_temperature_near_zero_takes_the_likeliest(heat: float) -> None:
    logits = torch.tensor([[0.0, 1.0, 0.9]])
    assert shares(Decoding(heat), logits, 50) == [0, 1, 0]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"top_a": 1}, "'top_a' is not known .* it has temperature, edt"),
        ({"temperature": "warm"}, "temperature='warm'"),
        ({"temperature": -0.1}, "temperature=-0.1: must be a finite number >= 0"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"temperature": True}, "temperature=True"),
        ({"top_p": 1.1}, r"top_p=1.1: must be a finite number in \[0, 1\]"),
        ({"top_k": 2.0}, "top_k=2.0: must be a whole number >= 0"),
        ({"max_tokens": 0}, "max_tokens=0: must be a whole number >= 1"),
        ({"ignore_eos": 1}, "ignore_eos=1: must be true or false"),
        ({"edt": 0.8}, "must be an object of t0, m and gamma"),
        ({"edt": {"t0": 0.8, "m": 0.8}}, "must be an object of t0, m and gamma"),
        ({"edt": {"t0": 0.8, "m": 1.2, "gamma": 1}}, "m=1.2"),
        ({"edt": {"t0": 0, "m": 0.8, "gamma": 1}}, "must be above 0"),
        ({"edt": {"t0": 0.8, "m": 0.8, "gamma": 1}, "temperature": 1}, "state one of the two"),
    ],
)
def test_a_decoding_that_is_not_understood_is_refused_and_not_left_out(
    engine: Engine, stated: dict[str, Any], said: str
) -> None:
    with pytest.raises(Rejected, match=said):
        engine.draw(decoding=stated)


# -- replies --------------------------------------------------------------------------------------


def test_a_seed_fixes_the_draws_and_another_gives_others(engine: Engine) -> None:
    first, again, other = (engine.draw(n=4, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert len({reply.text for reply in first.replies}) > 1
    assert engine.texts(seed=None) != engine.texts(seed=None)


def test_a_draw_is_the_same_however_many_stand_beside_it(engine: Engine) -> None:
    assert engine.texts(n=6)[:2] == engine.texts(n=2)


def test_what_is_drawn_beside_it_does_not_change_a_reply(engine: Engine) -> None:
    alone = engine.draw(n=2)

    async def work() -> list[Batch]:
        asked = (ASKED, replace(ASKED, seed=9), replace(ASKED, seed=10, n=3))
        return await asyncio.gather(*(engine.backend.sample(replace(one, n=2)) for one in asked))

    assert engine.run(work())[0] == alone


def test_greedy_is_what_transformers_itself_generates(engine: Engine, folder: Path) -> None:
    from poise.backends.checkpoint import prompt_ids

    loaded = models.load(folder, device="cpu")
    ids = torch.tensor([prompt_ids(loaded.tokenizer, ASKED.messages)])
    mask = torch.ones_like(ids)
    whole = loaded.model.generate(ids, attention_mask=mask, max_new_tokens=20, do_sample=False)
    expected = loaded.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=False)
    batch = engine.draw(decoding={"temperature": 0, "max_tokens": 20}, n=2)
    for reply in batch.replies:
        assert str(reply.text) + "<|im_end|>" * (reply.finish == "stop") == expected
    assert batch.usage.prompt_tokens == ids.shape[1]


def test_logprobs_are_the_models_own_whatever_the_decoding(engine: Engine, folder: Path) -> None:
    """Recomputed in one pass over prompt and reply, without any cache."""
    from poise.backends.checkpoint import prompt_ids

    loaded = models.load(folder, device="cpu")
    decoding = {"temperature": 0.4, "top_k": 9, "max_tokens": 12, "ignore_eos": True}
    batch = engine.draw(decoding=decoding, n=3, logprobs=4)
    ids = prompt_ids(loaded.tokenizer, ASKED.messages)
    texts = [loaded.tokenizer.decode([token]) for token in range(len(loaded.tokenizer))]
    for reply in batch.replies:
        found = reply.logprobs
        assert found is not None
        assert found.top is not None
        with torch.inference_mode():
            own = loaded.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        best = own.topk(4)
        assert [text for text, _ in found.top[0]] == [texts[i] for i in best.indices.tolist()]
        assert [v for _, v in found.top[0]] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert found.chosen[0] in [pytest.approx(value, abs=1e-4) for value in own.tolist()]
        assert reply.tokens == len(found.chosen) == len(found.tokens) == 12


def test_a_reply_that_ends_by_itself_counts_its_end_and_shows_nothing_of_it(
    engine: Engine,
) -> None:
    batch = engine.draw(n=16, decoding={"temperature": 2.0, "max_tokens": 200})
    ended = [reply for reply in batch.replies if reply.finish == "stop"]
    assert ended, "one token in 278 ends a reply"
    assert len(ended) < 16
    for reply in batch.replies:
        assert reply.logprobs is not None
        assert reply.tokens is not None
        assert len(reply.logprobs.chosen) == reply.tokens - (reply.finish == "stop")
        assert "".join(reply.logprobs.tokens) == reply.text
        assert reply.text is not None
    assert {reply.tokens for reply in batch.replies if reply.finish == "length"} == {200}
    assert batch.usage.completion_tokens == sum(reply.tokens or 0 for reply in batch.replies)


@given(st.text(max_size=12))
@settings(deadline=None, max_examples=60)
def test_the_tokens_of_a_reply_are_its_text(engine: Engine, text: str) -> None:
    held = engine.backend._loaded()
    ids = held.tokenizer.encode(text, add_special_tokens=False)
    pieces = checkpoint.pieces(held.tokenizer, ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == checkpoint.text_of(held.tokenizer, ids)


def test_a_reply_ends_where_the_context_does(folder: Path) -> None:
    async def work() -> None:
        backend = Transformers(folder, context=40, device="cpu")
        batch = await backend.sample(replace(LONG, n=2))
        assert batch.usage.prompt_tokens is not None
        assert [r.tokens for r in batch.replies] == [40 - batch.usage.prompt_tokens] * 2
        assert {reply.finish for reply in batch.replies} == {"length"}
        long = replace(LONG, messages=({"role": "user", "content": "the " * 50},))
        for call in (backend.sample(long), backend.hidden(long.messages)):
            with pytest.raises(Rejected, match="the context of tiny holds 40"):
                await call
        await backend.aclose()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (replace(ASKED, n=17), "1 to 16 draws"),
        (replace(ASKED, n=0), "1 to 16 draws"),
        (replace(ASKED, messages=({"role": "user", "content": [{"type": "text"}]},)), "is text"),
    ],
)
def test_a_request_that_it_cannot_serve_is_refused(
    engine: Engine, request_: Request, said: str
) -> None:
    with pytest.raises(Rejected, match=said):
        engine.draw(request_)


# -- hidden states --------------------------------------------------------------------------------


def test_hidden_states_are_those_of_the_prompts_last_token(engine: Engine, folder: Path) -> None:
    from poise.backends.checkpoint import prompt_ids

    loaded = models.load(folder, device="cpu")
    found = engine.run(engine.backend.hidden(ASKED.messages))
    assert (found.shape, found.dtype) == ((3, 32), np.float32)
    ids = torch.tensor([prompt_ids(loaded.tokenizer, ASKED.messages)])
    with torch.inference_mode():
        states = loaded.model(ids, output_hidden_states=True).hidden_states
        logits = loaded.model(ids).logits[0, -1]
    for layer in range(3):
        np.testing.assert_allclose(found[layer], states[layer][0, -1], atol=1e-5)
    head = loaded.model.lm_head.weight.detach().numpy()
    np.testing.assert_allclose(head @ found[2], logits, atol=1e-4)
    chosen = engine.run(engine.backend.hidden(ASKED.messages, [2, 0]))
    np.testing.assert_array_equal(chosen, found[[2, 0]])


@pytest.mark.parametrize("layers", [[3], [-1], [0, 9]])
def test_a_layer_that_is_not_there_is_refused(engine: Engine, layers: list[int]) -> None:
    with pytest.raises(Rejected, match="tiny has 0 to 2"):
        engine.run(engine.backend.hidden(ASKED.messages, layers))


# -- adapters, files, ending ----------------------------------------------------------------------


def test_an_adapter_is_used_and_named(folder: Path, tmp_path: Path, engine: Engine) -> None:
    loaded = models.with_adapter(models.load(folder, device="cpu"), rank=4, dropout=0.5)
    torch.manual_seed(1)
    for name, weight in loaded.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    models.save_adapter(loaded, tmp_path / "honest")

    async def work() -> None:
        backend = Transformers(folder, adapter=tmp_path / "honest", device="cpu")
        assert backend.model == checkpoint.adapted("tiny", tmp_path / "honest")
        assert backend.model.startswith("tiny+honest-")
        first = await backend.hidden(ASKED.messages, [2])
        np.testing.assert_array_equal(first, await backend.hidden(ASKED.messages, [2]))
        assert np.abs(first - await engine.backend.hidden(ASKED.messages, [2])).max() > 0.01
        assert len((await backend.sample(replace(ASKED, n=3))).replies) == 3
        await backend.aclose()
        other = tiny_model.save_folder(tmp_path / "other", seed=1)
        wrong = Transformers(other, adapter=tmp_path / "honest", device="cpu")
        with pytest.raises(InputError, match="trained on tiny"):
            await wrong.sample(ASKED)
        await wrong.aclose()

    engine.run(work())


def test_a_packed_file_is_run_unpacked(folder: Path, engine: Engine) -> None:
    async def work() -> None:
        backend = Transformers(tiny_model.save_gguf(folder.parent / "t.gguf", folder), device="cpu")
        assert backend.model == "t"
        close = await backend.hidden(ASKED.messages) - await engine.backend.hidden(ASKED.messages)
        assert 0 < np.abs(close).max() < 0.2
        await backend.aclose()

    engine.run(work())


def test_a_cancelled_call_ends_before_its_next_token_and_tells_no_more(engine: Engine) -> None:
    meter = Count()

    async def work() -> int:
        call = asyncio.ensure_future(engine.backend.sample(LONG, meter))
        await meter.started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        told = meter.tokens
        # The one thread is free again long before 400 tokens would have been drawn.
        await engine.backend.sample(replace(ASKED, decoding={"max_tokens": 1}))
        return told

    assert engine.run(work()) == meter.tokens < 400
    assert meter.waits == [True, False]


def test_a_call_in_the_queue_says_so_and_costs_nothing_when_cancelled(engine: Engine) -> None:
    first, second = Count(), Count()

    async def work() -> None:
        running = asyncio.ensure_future(engine.backend.sample(LONG, first))
        waiting = asyncio.ensure_future(engine.backend.sample(LONG, second))
        await first.started.wait()
        waiting.cancel()
        running.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        await engine.backend.sample(replace(ASKED, decoding={"max_tokens": 1}))

    engine.run(work())
    assert (second.waits, second.tokens) == ([True], 0)


def test_closing_ends_what_runs_and_the_next_call_starts_it_again(folder: Path) -> None:
    async def work() -> None:
        backend = Transformers(folder, device="cpu")
        meter = Count()
        running = asyncio.ensure_future(backend.sample(LONG, meter))
        waiting = asyncio.ensure_future(backend.sample(LONG))
        await meter.started.wait()
        await backend.aclose()
        for call in (running, waiting):
            with pytest.raises(Unavailable, match="tiny: the back-end was closed"):
                await call
        await backend.aclose()
        assert len((await backend.sample(ASKED)).replies) == 1
        await backend.aclose()

    asyncio.run(work())


def test_another_event_loop_may_use_the_same_model(engine: Engine) -> None:
    here = engine.draw()
    assert asyncio.run(engine.backend.sample(ASKED)) == here


@pytest.mark.parametrize(
    ("given_", "said"),
    [({"draws": 0}, "draws=0"), ({"context": 1}, "context=1"), ({"dtype": "int8"}, "dtype='int8'")],
)
def test_a_setting_that_makes_no_sense_is_refused(
    folder: Path, given_: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        Transformers(folder, **given_)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="none: no such model"):
        Transformers(tmp_path / "none")
    (tmp_path / "broken.gguf").write_bytes(b"no model")
    backend = Transformers(tmp_path / "broken.gguf")
    with pytest.raises(ModelMissing, match=r"broken\.gguf: transformers cannot read it"):
        asyncio.run(backend.sample(ASKED))
    asyncio.run(backend.aclose())
