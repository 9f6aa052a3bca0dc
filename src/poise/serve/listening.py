"""A back-end that lets one listener hear the first sample while it is being generated.

Everything else goes through as it is: spend, retries and cancelling stay where they were. It does
not know who listens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from poise.types import Backend, Batch, Capabilities, Meter, Request

__all__ = ["Listen", "Overheard"]

Listen = Callable[[Mapping[str, Any]], None]
"""Hears each chunk of the first sample, in the server's own words."""


class Overheard:
    """``backend``, with the chunks of the first sample handed to ``listen`` as they arrive.

    Only choice 0 of the first draw is heard. A back-end that cannot relay is heard not at all: its
    reply arrives whole.
    """

    def __init__(self, backend: Backend, listen: Listen):
        self._backend, self._listen = backend, listen

    @property
    def engine(self) -> str:
        """As the back-end says."""
        return self._backend.engine

    @property
    def model(self) -> str:
        """As the back-end says."""
        return self._backend.model

    async def capabilities(self) -> Capabilities:
        """As the back-end says."""
        return await self._backend.capabilities()

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        """As the back-end does it. Raises BackendError."""
        relay = getattr(self._backend, "relay", None)
        if relay is None or request.first_index or request.follow_up or self._further(request):
            return await self._backend.sample(request, meter)
        batch: Batch = await relay(request, meter, self._hear)
        return batch

    async def aclose(self) -> None:
        """Close the back-end."""
        await self._backend.aclose()

    def _further(self, request: Request) -> bool:
        return request.question_id.endswith("/further")

    def _hear(self, chunk: Mapping[str, Any]) -> None:
        first = [one for one in chunk.get("choices") or () if not one.get("index")]
        if first:
            self._listen({**chunk, "choices": first})
