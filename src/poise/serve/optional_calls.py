"""Tools that a model may call or not: "no call" is an answer too, and can win the vote.

Without this a reply in plain words would count as unreadable, and one tool call in eight samples
would be unanimous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from poise.types import Backend, Batch, Capabilities, Meter, Reply, Request

__all__ = ["NO_CALL", "OptionalCalls"]

NO_CALL = "[]"
"""The canonical answer of a reply that calls no tool: an empty list of calls."""


class OptionalCalls:
    """``backend``, where a reply without a tool call is read as the answer ``NO_CALL``."""

    def __init__(self, backend: Backend):
        self._backend = backend
        if hasattr(backend, "relay"):
            self.relay = self._relay

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
        return _read(await self._backend.sample(request, meter))

    async def aclose(self) -> None:
        """Close the back-end."""
        await self._backend.aclose()

    async def _relay(
        self,
        request: Request,
        meter: Meter | None,
        listen: Callable[[Mapping[str, Any]], None],
    ) -> Batch:
        return _read(await self._backend.relay(request, meter, listen))  # type: ignore[attr-defined]


def _read(batch: Batch) -> Batch:
    return replace(batch, replies=tuple(_without_call(reply) for reply in batch.replies))


def _without_call(reply: Reply) -> Reply:
    if reply.tool_calls or reply.answered or reply.text is None:
        return reply
    return replace(reply, answered=True, answer=NO_CALL)
