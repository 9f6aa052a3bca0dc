"""Whether two engines mean the same by one model: log-probabilities of first tokens compared.

It does not know what was done to the model in between.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poise.backends.checkpoint import prompt_ids
from poise.backends.llamacpp import LlamaCpp
from poise.errors import RefusedError
from poise.types import Batch, Message, Request

__all__ = ["CONVERSATIONS", "FirstTokens", "Parity", "compare", "llama_cpp", "transformers"]

TOP = 20


def _asked(*turns: str) -> tuple[Message, ...]:
    """Turns of user and assistant in turn."""
    return tuple(
        {"role": ("user", "assistant")[place % 2], "content": text}
        for place, text in enumerate(turns)
    )


CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    _asked("What is 3 + 4?", "3 + 4 = 7", "What is 58 + 17?"),
    _asked("What is 9 * 6?"),
    _asked("Is 9 an odd number?", "Yes", "Is a cat a plant?"),
    _asked("Name a river in France."),
    _asked("What is 12 - 5?", "12 - 5 = 7", "Is your answer correct? Reply Yes or No."),
    _asked("What is 12 - 5?", "12 - 5 = 9", "Is your answer correct? Reply Yes or No."),
    _asked("Question: What is 8 + 8?\nMy answer: 16\n\nIs my answer True or False?"),
    _asked("Write one sentence about the sea."),
)
"""Answers, opinions on answers and open chat."""


@dataclass(frozen=True, slots=True)
class FirstTokens:
    """For each conversation, by token text, natural-log probabilities of a reply's first token.

    Texts that several tokens share are left out. ``prompts``: tokens of each conversation.
    """

    logprobs: tuple[Mapping[str, float], ...]
    prompts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Parity:
    """How far two engines are apart, over ``compared`` tokens of ``conversations``.

    ``mean`` and ``largest`` absolute difference in natural-log probability; ``same_first``
    conversations with the same likeliest token; ``same_prompts`` with as many prompt tokens.
    """

    conversations: int
    compared: int
    mean: float
    largest: float
    same_first: int
    same_prompts: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def transformers(
    model: Any, tokenizer: Any, conversations: Sequence[Sequence[Message]]
) -> FirstTokens:
    """By a model in memory, every token of its vocabulary."""
    import torch  # noqa: PLC0415 - an optional extra, heavy to load

    texts = _texts(tokenizer)
    found, prompts = [], []
    for messages in conversations:
        ids = prompt_ids(tokenizer, messages)
        with torch.inference_mode():
            given = torch.tensor([ids], device=model.device)
            logits = model(given, logits_to_keep=1).logits[0, -1]
        logprobs = logits.float().log_softmax(dim=-1).tolist()
        found.append({text: logprobs[number] for number, text in texts.items()})
        prompts.append(len(ids))
    return FirstTokens(tuple(found), tuple(prompts))


def llama_cpp(
    path: Path, tokenizer: Any, conversations: Sequence[Sequence[Message]]
) -> FirstTokens:
    """By llama.cpp from a .gguf file: its most likely tokens. Raises BackendError.

    Runs an event loop of its own.
    """

    async def ask() -> list[Batch]:
        engine = LlamaCpp(path, slots=1, threads=1)
        decoding = {"temperature": 0.0, "max_tokens": 1, "ignore_eos": True}
        try:
            return [
                await engine.sample(Request(tuple(messages), decoding, logprobs=TOP))
                for messages in conversations
            ]
        finally:
            await engine.aclose()

    known = set(_texts(tokenizer).values())
    found, prompts = [], []
    for batch in asyncio.run(ask()):
        logprobs = batch.replies[0].logprobs
        listed = () if logprobs is None or not logprobs.top else logprobs.top[0]
        found.append({text: value for text, value in listed if text in known})
        prompts.append(batch.usage.prompt_tokens or 0)
    return FirstTokens(tuple(found), tuple(prompts))


def compare(one: FirstTokens, other: FirstTokens, top: int = TOP) -> Parity:
    """Over the ``top`` tokens that ``one`` finds likeliest and ``other`` lists too.

    Raises RefusedError where there is nothing to compare.
    """
    apart: list[float] = []
    same = 0
    for mine, theirs in zip(one.logprobs, other.logprobs, strict=True):
        shared = sorted(mine.keys() & theirs.keys(), key=lambda text: -mine[text])[:top]
        apart += [abs(mine[text] - theirs[text]) for text in shared]
        same += bool(shared) and shared[0] == max(shared, key=lambda text: theirs[text])
    if not apart:
        raise RefusedError("the two engines list no token in common; nothing can be compared")
    return Parity(
        conversations=len(one.logprobs),
        compared=len(apart),
        mean=float(np.mean(apart)),
        largest=max(apart),
        same_first=same,
        same_prompts=sum(a == b for a, b in zip(one.prompts, other.prompts, strict=True)),
    )


def _texts(tokenizer: Any) -> dict[int, str]:
    """Text by id, of tokens whose text no other has."""
    special = set(tokenizer.all_special_ids)
    ids = [number for number in range(len(tokenizer)) if number not in special]
    texts = tokenizer.batch_decode([[number] for number in ids])
    often = Counter(texts)
    return {number: text for number, text in zip(ids, texts, strict=True) if often[text] == 1}
