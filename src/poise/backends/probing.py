"""Finding out, once, what an OpenAI-compatible server supports.

A handful of very short calls: one that asks for everything at once, then, only where that is
refused, one per feature, so that each degradation is known by name and nothing is ever retried in
the hope that it works next time. Their spend is part of the capabilities.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from poise.errors import Rejected
from poise.spend import Spend, Usage
from poise.types import Batch, Capabilities, Request

if TYPE_CHECKING:
    from poise.backends.http import Http

__all__ = ["probe"]

TOP = 5
"""Top log-probabilities asked for; every server known to give any gives this many."""

# Many different replies are likely, so that equal ones under different seeds mean something.
ASK = Request(
    messages=({"role": "user", "content": "Write eight random words."},),
    decoding={"temperature": 1.0, "max_tokens": 12},
)


async def probe(server: Http, max_n: int) -> Capabilities:
    """Capabilities of ``server``, asking for at most ``max_n`` draws in one request later on.

    Raises BackendError when even the plainest request fails.
    """
    probing = _Probing(server)
    everything = replace(ASK, n=2, seed=1, logprobs=TOP)
    both = await probing.ask(everything)
    n = seed = logprobs = both is not None
    if both is None:
        await probing.plainest()
        n = await probing.supports("n > 1", replace(ASK, n=2))
        seed = await probing.supports("seed", replace(ASK, seed=1))
        logprobs = await probing.supports("logprobs", replace(ASK, logprobs=TOP))
        both = await probing.together(n=n, seed=seed, logprobs=logprobs)
        if both is None:
            n = logprobs = False
    top = _top(both, probing.notes) if both and logprobs else None
    if both and n and len(both.replies) != 2:
        probing.notes.append(f"n > 1: asked for 2 choices and got {len(both.replies)}")
        n = False
    if seed:
        seed, distinct = await probing.seeds()
        if n and seed and distinct and both and both.replies[0].text == both.replies[1].text:
            probing.notes.append("n > 1: every choice of a request repeats the same draw")
            n = False
    return Capabilities(
        n=max_n if n else 1,
        logprobs=top,
        seed=seed,
        usage_per_choice=n and _per_choice(both),
        notes=tuple(probing.notes),
        spend=probing.spend,
    )


def _top(batch: Batch, notes: list[str]) -> int | None:
    """How many alternatives a token can have, going by what came back."""
    found = [reply.logprobs for reply in batch.replies]
    if not found or None in found:
        notes.append("logprobs: accepted, and none came back")
        return None
    if any(logprobs is not None and any(logprobs.top or ()) for logprobs in found):
        return TOP
    notes.append("logprobs: the chosen token's only, no alternatives came back")
    return 0


def _per_choice(batch: Batch | None) -> bool:
    """Whether the usage of two choices cannot cover both: each ran to its length, the sum did not.

    Only replies cut at the token limit have a length that is known without log-probabilities.
    """
    if batch is None or batch.usage.completion_tokens is None:
        return False
    cut = all(reply.finish == "length" for reply in batch.replies)
    return cut and batch.usage.completion_tokens <= int(ASK.decoding["max_tokens"])


class _Probing:
    """The calls of one probe, their spend and what they showed."""

    def __init__(self, server: Http):
        self.server = server
        self.notes: list[str] = []
        self.spend = Spend()

    async def ask(self, request: Request) -> Batch | None:
        """One call; None where the server rejects the request."""
        try:
            return await self._call(request)
        except Rejected:
            return None

    async def plainest(self) -> None:
        """A request without any feature; its rejection is an answer about the server itself."""
        await self._call(ASK)

    async def together(self, *, n: bool, seed: bool, logprobs: bool) -> Batch | None:
        """A request with all features that were accepted one by one; None if that is rejected."""
        wanted = replace(
            ASK, n=2 if n else 1, seed=1 if seed else None, logprobs=TOP if logprobs else None
        )
        batch = await self.ask(wanted)
        if batch is None:
            self.notes.append("n > 1 and logprobs: not used, as the server rejects them together")
        return batch

    async def supports(self, feature: str, request: Request) -> bool:
        """Whether the server takes a request with just this feature."""
        if await self.ask(request) is None:
            self.notes.append(f"{feature}: rejected by the server")
            return False
        return True

    async def seeds(self) -> tuple[bool, bool]:
        """Whether a seed fixes the draw, and whether different seeds give different draws."""
        first, again, other = [await self.ask(replace(ASK, seed=seed)) for seed in (11, 11, 12)]
        texts = [batch.replies[0].text if batch else None for batch in (first, again, other)]
        if texts[0] != texts[1]:
            self.notes.append("seed: accepted, but the same seed gives different replies")
            return False, True
        if texts[0] == texts[2]:
            self.notes.append("seed: different seeds give the same reply")
            return False, False
        return True, True

    async def _call(self, request: Request) -> Batch:
        """One call, or a second one where the server wants the token limit by its other name."""
        try:
            batch = await self.server.sample(request)
        except Rejected as error:
            self._count(Usage(0, 0))
            renamed = self.server.max_tokens_field == "max_completion_tokens"
            if renamed or "max_completion_tokens" not in str(error):
                raise
            self.server.max_tokens_field = "max_completion_tokens"
            self.notes.append("max_tokens: sent as max_completion_tokens")
            return await self._call(request)
        self._count(batch.usage)
        return batch

    def _count(self, usage: Usage) -> None:
        self.spend = self.spend + Spend(
            calls=1,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            estimated=usage.estimated,
        )
