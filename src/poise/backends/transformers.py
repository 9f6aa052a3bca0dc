"""A model run by PyTorch and transformers in this process: for training data and hidden states.

Slower than a serving engine and open to the inside: temperatures by entropy (``drawing.Edt``),
adapters without merging, hidden states. The draws of one request decode together over one shared
prompt; requests follow one another, so that a reply depends on its own request alone and the same
request gives the same reply. It does not know answers, signals or training.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from poise.backends import checkpoint
from poise.backends.drawing import Decoding
from poise.errors import Rejected, Unavailable, UsageError
from poise.types import (
    Batch,
    Capabilities,
    Message,
    Meter,
    Reply,
    Request,
    TokenLogprobs,
    Usage,
)

if TYPE_CHECKING:
    import torch

__all__ = ["Transformers"]

T = TypeVar("T")
Told = Callable[[int], None]

TOP = 20
"""Most alternatives a token comes with."""


class Transformers:
    """A causal language model of a .gguf file or a Hugging Face folder, with a chat template.

    ``path`` None: the embedded model. ``adapter``: the folder of an adapter for it, or of the run
    of training that wrote one. ``draws``: the most draws in one request. ``context``: tokens that
    prompt and reply may have together, None: as many as the model was made for. ``dtype``:
    ``float32``, ``bfloat16`` or ``float16``. ``device`` None: the first accelerator, else the
    processor.

    Loaded on first use and, after ``aclose``, again; may be used in several event loops. Raises
    ModelMissing, here when there is no such model, on first use when it cannot be read; InputError
    here for a folder without an adapter, on first use for one of other weights.
    """

    engine = "transformers"

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        adapter: str | Path | None = None,
        draws: int = 16,
        context: int | None = None,
        dtype: str = "float32",
        device: str | None = None,
    ):
        if dtype not in ("float32", "bfloat16", "float16"):
            raise UsageError(f"dtype={dtype!r}: must be float32, bfloat16 or float16")
        if draws < 1 or (context is not None and context < 2):
            raise UsageError(f"draws={draws}, context={context}: must be >= 1 and >= 2 tokens")
        self.path = checkpoint.find(path)
        self.adapter = None if adapter is None else checkpoint.find_adapter(adapter)
        name = self.path.stem if self.path.suffix == ".gguf" else self.path.name
        self._name = name if self.adapter is None else checkpoint.adapted(name, self.adapter)
        self.draws, self.context, self.dtype, self.device = draws, context, dtype, device
        self._model: _Model | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._running: set[threading.Event] = set()

    @property
    def model(self) -> str:
        """The file's or folder's name, with an adapter as ``checkpoint.adapted`` has it."""
        return self._name

    async def capabilities(self) -> Capabilities:
        """Known without loading anything."""
        return Capabilities(n=self.draws, logprobs=TOP, seed=True)

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        """Draw ``request.n`` <= ``draws`` replies. Raises BackendError.

        A cancelled call ends before its next token. Decoding: ``temperature`` (1) or ``edt``
        (``{"t0", "m", "gamma"}``), ``top_k``, ``top_p``, ``min_p``, ``max_tokens`` (512),
        ``ignore_eos``; another key is refused. Log-probabilities are the model's own, before
        temperature and truncation.
        """
        decoding = Decoding.read(request.decoding)
        if not 1 <= request.n <= self.draws:
            raise Rejected(f"n={request.n}: 1 to {self.draws} draws in one request")

        def work(told: Told, stopped: threading.Event) -> Batch:
            return self._loaded().sample(request, decoding, told, stopped)

        return await self._do(work, meter)

    async def hidden(
        self, messages: Sequence[Message], layers: Sequence[int] | None = None
    ) -> npt.NDArray[np.float32]:
        """Hidden states of the prompt's last token, (layers, width).

        The prompt ends where a reply would begin. Layer 0 is the embedding, the last the model's
        output after its final norm; None: all of them. Raises BackendError; Rejected for a layer
        that is not there.
        """

        def work(_told: Told, _stopped: threading.Event) -> npt.NDArray[np.float32]:
            return self._loaded().hidden(messages, layers)

        return await self._do(work, None)

    async def aclose(self) -> None:
        """End what runs and give the memory back."""
        worker, self._worker = self._worker, None
        for stopped in tuple(self._running):
            stopped.set()
        if worker is not None:
            await asyncio.to_thread(worker.shutdown)
        self._model = None

    # -- inside ---------------------------------------------------------------------------------

    async def _do(self, work: Callable[[Told, threading.Event], T], meter: Meter | None) -> T:
        """Run ``work`` on the one thread that uses the model, in its turn."""
        loop, stopped = asyncio.get_running_loop(), threading.Event()

        def tell(say: Callable[..., None], *said: Any) -> None:
            def heard() -> None:
                if not stopped.is_set():
                    say(*said)

            if meter is not None and not stopped.is_set():
                with suppress(RuntimeError):  # the loop is gone, and the caller with it
                    loop.call_soon_threadsafe(heard)

        def turn() -> T:
            if meter is not None:
                tell(meter.queued, False)  # noqa: FBT003 - the protocol's
            if stopped.is_set():
                raise Unavailable(f"{self.model}: the back-end was closed")
            return work(lambda tokens: tell(meter.received, tokens) if meter else None, stopped)

        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="poise-transformers")
        if meter is not None:
            meter.queued(waiting=True)
        self._running.add(stopped)
        try:
            return await loop.run_in_executor(self._worker, turn)
        except asyncio.CancelledError:
            stopped.set()
            raise
        finally:
            self._running.discard(stopped)

    def _loaded(self) -> _Model:
        if self._model is None:
            model, tokenizer = checkpoint.load(self.path, self.dtype, self.device)
            if self.adapter is not None:
                base = checkpoint.digest(self.path)
                model = checkpoint.attach(model, self.adapter, base).eval()
            longest = int(model.config.max_position_embeddings)
            context = longest if self.context is None else min(self.context, longest)
            self._model = _Model(model, tokenizer, context, _ends(model, tokenizer), self.model)
        return self._model


@dataclass(frozen=True, slots=True)
class _Model:
    """A model in memory, used by one thread at a time."""

    model: Any
    tokenizer: Any
    context: int
    ends: tuple[int, ...]
    name: str

    def sample(
        self, request: Request, decoding: Decoding, told: Told, stopped: threading.Event
    ) -> Batch:
        import torch  # noqa: PLC0415 - an optional extra, heavy to load

        prompt = self._prompt(request.messages)
        drawn = _Drawn(request.n, request.logprobs)
        limit = min(decoding.max_tokens, self.context - len(prompt))
        with torch.inference_mode():
            for tokens in self._tokens(prompt, request, decoding, limit, drawn):
                told(tokens)
                if stopped.is_set():
                    raise Unavailable(f"{self.name}: the back-end was closed")
        replies = tuple(self._reply(drawn, row) for row in range(request.n))
        return Batch(replies, Usage(len(prompt), sum(map(len, drawn.ids)), 0, 0))

    def hidden(
        self, messages: Sequence[Message], layers: Sequence[int] | None
    ) -> npt.NDArray[np.float32]:
        import torch  # noqa: PLC0415 - an optional extra, heavy to load

        prompt = self._prompt(messages)
        with torch.inference_mode():
            given = torch.tensor([prompt], device=self.model.device)
            states = self.model(given, output_hidden_states=True, logits_to_keep=1).hidden_states
        wanted = range(len(states)) if layers is None else layers
        if not all(0 <= layer < len(states) for layer in wanted):
            raise Rejected(f"layers {list(wanted)}: {self.name} has 0 to {len(states) - 1}")
        found = torch.stack([states[layer][0, -1] for layer in wanted]).float().cpu().numpy()
        return np.asarray(found, np.float32)

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        """Raises Rejected where it leaves no room for a reply."""
        prompt = checkpoint.prompt_ids(self.tokenizer, messages)
        if len(prompt) >= self.context:
            raise Rejected(
                f"the prompt has {len(prompt)} tokens and the context of {self.name} holds"
                f" {self.context}, a reply included; shorten it"
            )
        return prompt

    def _tokens(
        self, prompt: list[int], request: Request, decoding: Decoding, limit: int, drawn: _Drawn
    ) -> Iterator[int]:
        """Fill ``drawn`` a token a row at a time; yields how many rows got one."""
        import torch  # noqa: PLC0415

        device, n = self.model.device, request.n
        rows = list(range(n))
        # A source for each draw: its numbers are its own, however many draws stand beside it.
        seed = secrets.randbits(64) if request.seed is None else request.seed % 2**64
        sources = [np.random.default_rng([seed, row]) for row in rows]
        ends = torch.tensor(self.ends, device=device)
        out = self.model(torch.tensor([prompt], device=device), use_cache=True, logits_to_keep=1)
        cache, logits = out.past_key_values, out.logits[:, -1].float()
        if n > 1:
            cache.batch_repeat_interleave(n)
            logits = logits.repeat(n, 1)
        for left in reversed(range(limit)):
            allowed = logits.index_fill(1, ends, -torch.inf) if decoding.ignore_eos else logits
            numbers = [sources[row].random() for row in rows]
            ids = decoding.draw(allowed, torch.tensor(numbers, dtype=torch.float64, device=device))
            drawn.take(rows, ids, logits)
            yield len(rows)
            going = [place for place, one in enumerate(ids.tolist()) if one not in self.ends]
            if not (going and left):
                return
            if len(going) < len(rows):
                rows = [rows[place] for place in going]
                kept = torch.tensor(going, device=device)
                cache.batch_select_indices(kept)
                ids = ids[kept]
            out = self.model(ids[:, None], past_key_values=cache, use_cache=True)
            logits = out.logits[:, -1].float()

    def _reply(self, drawn: _Drawn, row: int) -> Reply:
        """One draw; its end is a token too, counted, without text or log-probability."""
        ids = drawn.ids[row]
        ended = ids[-1] in self.ends
        said = ids[:-1] if ended else ids
        logprobs = None
        if drawn.top is not None:
            chosen, top = tuple(drawn.chosen[row][: len(said)]), None
            if drawn.top:
                top = tuple(
                    tuple(
                        (checkpoint.text_of(self.tokenizer, [one]), value) for one, value in listed
                    )
                    for listed in drawn.listed[row][: len(said)]
                )
            logprobs = TokenLogprobs(checkpoint.pieces(self.tokenizer, said), chosen, top)
        finish = "stop" if ended else "length"
        return Reply(
            checkpoint.text_of(self.tokenizer, said),
            finish=finish,
            tokens=len(ids),
            logprobs=logprobs,
        )


@dataclass(slots=True)
class _Drawn:
    """What was drawn so far, a list for each of ``n`` rows; ``top`` as in a request."""

    n: int
    top: int | None
    ids: list[list[int]] = field(init=False)
    chosen: list[list[float]] = field(init=False)
    listed: list[list[list[tuple[int, float]]]] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = [[] for _ in range(self.n)]
        self.chosen = [[] for _ in range(self.n)]
        self.listed = [[] for _ in range(self.n)]

    def take(self, rows: Sequence[int], ids: torch.Tensor, logits: torch.Tensor) -> None:
        """One token for each of ``rows``: ``ids`` (r,) drawn from ``logits`` (r, V)."""
        for row, one in zip(rows, ids.tolist(), strict=True):
            self.ids[row].append(one)
        if self.top is None:
            return
        logs = logits.log_softmax(dim=-1)
        for row, value in zip(rows, logs.gather(-1, ids[:, None])[:, 0].tolist(), strict=True):
            self.chosen[row].append(value)
        if not self.top:
            return
        values, places = logs.topk(min(self.top, TOP, logs.shape[-1]), dim=-1)
        for row, own, best in zip(rows, places.tolist(), values.tolist(), strict=True):
            self.listed[row].append(list(zip(own, best, strict=True)))


def _ends(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Tokens that end a reply, by the model, its generation settings and the tokenizer."""
    found: set[int] = set()
    for stated in (
        model.config.eos_token_id,
        model.generation_config.eos_token_id,
        tokenizer.eos_token_id,
    ):
        found.update(stated if isinstance(stated, list) else [] if stated is None else [stated])
    return tuple(sorted(found))
