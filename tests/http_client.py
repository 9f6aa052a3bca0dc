"""What the tests of the http back-end share: a request, a meter, a back-end closed after use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from fault_server import Behaviour, FaultServer
from poise.backends import Http
from poise.types import Capabilities, Request

T = TypeVar("T")

ASK = Request(
    messages=({"role": "user", "content": "What is 3 + 4?"},),
    decoding={"temperature": 0.8, "max_tokens": 64},
)
KNOWN = Capabilities(n=8, logprobs=5, seed=True)
LONG = Behaviour(texts=("word " * 400,), token_delay=0.01)

both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


class Count:
    """A meter."""

    def __init__(self) -> None:
        self.tokens = 0

    def queued(self, waiting: bool) -> None:
        pass

    def received(self, tokens: int) -> None:
        self.tokens += tokens


def http(server: FaultServer, **more: Any) -> Http:
    given: dict[str, Any] = {"model": "faulty", "engine": "tests", "capabilities": KNOWN}
    return Http(server.base_url, **given | {"timeout": 10.0} | more)


def using(server: FaultServer, work: Callable[[Http], Awaitable[T]], **more: Any) -> T:
    """What ``work`` returns, given a back-end that is closed afterwards."""

    async def go() -> T:
        backend = http(server, **more)
        try:
            return await work(backend)
        finally:
            await backend.aclose()

    return asyncio.run(go())
