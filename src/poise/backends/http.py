"""Any OpenAI-compatible server, over HTTP: one attempt a call, errors translated at the border.

Replies are streamed by default, because that is what lets a call be ended early: closing the
connection stops generation (llama.cpp notices within a second when streaming, and not at all
otherwise), and the tokens that arrived are known. What the server supports is probed once, on
first use (``probing``). Connections are kept for the next call (``connections``), apart for each
event loop that uses the back-end. A call is the hot path of the gateway: what can be made once is
made once, and nothing is done for listeners and meters that are not there. It does not know:
retries (``solve``), caps (``spend``), answers.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpcore2
from aiolimiter import AsyncLimiter

from poise.backends import wire
from poise.backends.address import Address
from poise.backends.assembling import StreamReader
from poise.backends.connections import Answer, Connections
from poise.backends.events import Events
from poise.backends.probing import probe
from poise.backends.refusing import BROKEN, refusal, translate
from poise.errors import (
    BackendError,
    MalformedReply,
    Rejected,
    StreamCut,
    Unauthorized,
    Unavailable,
    UsageError,
)
from poise.types import Batch, Capabilities, Meter, Request, Usage

__all__ = ["Completed", "Http"]

ENGINES = {"vllm": "vllm", "llamacpp": "llama.cpp", "sglang": "sglang", "openai": "openai"}
"""Engine names by what a server's model list states as owner."""

CLOSING = {"llama.cpp"}
"""Servers, as they name themselves, that promise to keep a connection and close it after a stream:
a request sent into one is lost, so that none is used again."""

LONGEST = 500
"""Characters of an error's line: a server may have much to say."""

ENDING = 0.25
"""Seconds to wait, after ``[DONE]``, for the end of the response: without it the connection cannot
be used again, and a server that never ends one must not hold up the reply."""

Listen = Callable[[Mapping[str, Any]], None]
T = TypeVar("T")

# Made once: json.dumps makes one for each call that does not want the defaults.
ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Http:
    """A model behind an OpenAI-compatible chat-completions endpoint.

    ``base_url`` is what an OpenAI client takes, usually ending in ``/v1``. ``timeout`` is the
    longest silence in seconds that is waited through (a slow reply that keeps coming is not
    silent). ``concurrency`` bounds calls in flight, ``per_second`` (None: no bound) their rate,
    both for each event loop. ``capabilities`` given: nothing is probed. ``max_n``: most draws to
    ask for in one request where the server supports several. White space around ``api_key`` is
    dropped; the key travels in the ``Authorization`` header and appears in no error.

    A proxy that the environment names (``HTTPS_PROXY`` and its kin) is used as it stood when the
    back-end was made. Redirects are not followed, cookies not kept.

    May be used in several event loops, and again after ``aclose``. Raises UsageError for a URL, a
    key, a proxy or a bound that makes no sense (on first use: a SOCKS proxy without its package).
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        engine: str | None = None,
        concurrency: int = 16,
        per_second: float | None = None,
        timeout: float = 120.0,
        stream: bool = True,
        max_n: int = 8,
        capabilities: Capabilities | None = None,
    ):
        bounds = (concurrency, timeout, max_n, 1.0 if per_second is None else per_second)
        if not all(math.isfinite(bound) and bound > 0 for bound in bounds):
            raise UsageError("concurrency, timeout, max_n and per_second must be above 0")
        self.base_url = base_url.rstrip("/")
        self.max_tokens_field = "max_tokens"
        self._address = Address.of(self.base_url, api_key)
        self._model, self._engine = model, engine
        self._stream, self._max_n = stream, max_n
        self._concurrency, self._per_second, self._timeout = concurrency, per_second, timeout
        self._capabilities = capabilities
        self._links: dict[asyncio.AbstractEventLoop, _Link] = {}

    @property
    def engine(self) -> str:
        """What runs the model, as far as the server says; ``http`` where it does not."""
        return self._engine or "http"

    @property
    def model(self) -> str:
        """The model's name, asked of the server if none was given."""
        return self._model or "(not asked yet)"

    async def capabilities(self) -> Capabilities:
        """What the server supports; probed once. Raises BackendError when it cannot be asked."""
        async with self._link().asking:
            if self._model is None or (self._engine is None and self._capabilities is None):
                await self._identify()
            if self._capabilities is None:
                self._capabilities = await probe(self, self._max_n)
            return self._capabilities

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        """Draw ``request.n`` replies in one call. Raises BackendError."""
        return await self._draw(request, meter, None)

    async def relay(
        self,
        request: Request,
        meter: Meter | None,
        listen: Callable[[Mapping[str, Any]], None],
    ) -> Batch:
        """As ``sample``; ``listen`` hears each chunk as it arrives (``types.Relay``)."""
        return await self._draw(request, meter, listen)

    async def complete(self, body: Mapping[str, Any], listen: Listen | None) -> Completed:
        """Pass a text completion on as it is, but for the model; no draw comes of it.

        ``listen`` hears each chunk; without it the body must not ask for a stream. Raises
        BackendError.
        """
        link = self._link()
        if self._model is None:
            async with link.asking:
                await self._identify()
        content = self._written({**body, "model": self._model})

        async def read(answer: Answer) -> Completed:
            if answer.media_type != "text/event-stream":
                reply = await self._json(answer)
                wire.choices_in(reply)  # an object, and no error told with status 200
                return Completed(reply, wire.usage_in(reply.get("usage")))
            events, used = Events(), None
            async for part in answer.parts:
                for data in events.feed(part):
                    if data == "[DONE]":
                        return Completed(None, used)
                    chunk = self._parse(data)
                    wire.choices_in(chunk)
                    used = wire.usage_in(chunk.get("usage")) or used
                    if listen is not None:
                        listen(chunk)
            raise StreamCut(f"{self._address.shown}: the reply broke off before it was finished")

        async with link.slots:
            if link.rate is not None:
                await link.rate.acquire()
            return await self._call("POST", self._address.completions, content, read)

    async def models(self) -> list[Mapping[str, Any]]:
        """The server's model list; empty where it has none. Raises BackendError."""
        try:
            reply = await self._call("GET", self._address.models, None, self._json)
        except (Unauthorized, Unavailable):
            raise
        except Rejected:
            return []
        listed = reply.get("data") if isinstance(reply, Mapping) else None
        return [m for m in listed if isinstance(m, Mapping)] if isinstance(listed, list) else []

    async def aclose(self) -> None:
        """Close all connections, also those of other event loops; the next call opens new ones."""
        links, self._links = self._links, {}
        for loop, link in links.items():
            if loop is asyncio.get_running_loop():
                await link.connections.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(link.connections.aclose(), loop)
                await asyncio.wrap_future(closing)

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _per_choice(self) -> bool:
        return self._capabilities is not None and self._capabilities.usage_per_choice

    def _link(self) -> _Link:
        """What belongs to the running event loop, made on first use."""
        loop = asyncio.get_running_loop()
        if loop not in self._links:
            self._links = {used: link for used, link in self._links.items() if not used.is_closed()}
            self._links[loop] = self._connect()
        return self._links[loop]

    def _connect(self) -> _Link:
        rate = self._per_second
        return _Link(
            # One more than the calls that draw: the model list is asked for outside the bound.
            Connections(self._address, timeout=self._timeout, most=self._concurrency + 1),
            asyncio.Semaphore(self._concurrency),
            AsyncLimiter(max(1.0, rate), max(1.0, 1 / rate)) if rate else None,
            asyncio.Lock(),
        )

    async def _identify(self) -> None:
        try:
            listed = await self.models()
        except (Rejected, MalformedReply):
            # A key for chat alone, or a web page in the list's place: no reason not to chat.
            if self._model is None:
                raise
            listed = []
        names = [str(m.get("id")) for m in listed]
        if self._model is None:
            if len(names) != 1:
                have = ", ".join(names[:8]) or "no list of models"
                raise Rejected(
                    f"{self._address.shown}: name a model with -m; the server offers {have}"
                )
            self._model = names[0]
        if self._engine is None:
            owner = next((str(m.get("owned_by")) for m in listed if m.get("id") == self._model), "")
            self._engine = ENGINES.get(owner.lower(), "http")

    async def _draw(self, request: Request, meter: Meter | None, listen: Listen | None) -> Batch:
        link = self._link()
        if self._model is None:
            async with link.asking:
                await self._identify()
        content = self._body(request)

        async def read(answer: Answer) -> Batch:
            # A server that cannot stream may answer whole, and say so.
            if self._stream and answer.media_type != "application/json":
                return await self._streamed(answer, request.logprobs, meter, listen)
            return await self._whole(answer, request.logprobs, meter, listen)

        if meter is not None:
            meter.queued(waiting=True)
        async with link.slots:
            if link.rate is not None:
                await link.rate.acquire()
            if meter is not None:
                meter.queued(waiting=False)
            return await self._call("POST", self._address.chat, content, read)

    def _body(self, request: Request) -> bytes:
        body = wire.body(
            request,
            self._model or "",
            stream=self._stream,
            max_tokens_field=self.max_tokens_field,
        )
        return self._written(body)

    def _written(self, body: Mapping[str, Any]) -> bytes:
        try:
            return ENCODE(body).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise Rejected(
                f"{self._address.shown}: the request cannot be written as JSON ({error})"
            ) from error

    async def _whole(
        self, answer: Answer, top: int | None, meter: Meter | None, listen: Listen | None
    ) -> Batch:
        reply = await self._json(answer)
        batch = wire.read_batch(reply, usage_per_choice=self._per_choice, top=top)
        if meter is not None and batch.usage.completion_tokens:
            meter.received(batch.usage.completion_tokens)
        if listen is not None:
            listen(wire.whole_chunk(reply))
        return batch

    async def _streamed(
        self, answer: Answer, top: int | None, meter: Meter | None, listen: Listen | None
    ) -> Batch:
        if answer.media_type != "text/event-stream":
            stated = answer.media_type or "no content type"
            raise MalformedReply(f"{self._address.shown}: not an event stream ({stated})")
        events, reader = Events(), StreamReader(top, usage_per_choice=self._per_choice)
        async for part in answer.parts:
            if self._take(events.feed(part), reader, meter, listen):
                if answer.header("server") not in CLOSING:
                    await answer.drain(ENDING)
                break
        if not reader.complete:
            raise StreamCut(f"{self._address.shown}: the reply broke off before it was finished")
        return reader.finish()

    def _take(
        self, found: list[str], reader: StreamReader, meter: Meter | None, listen: Listen | None
    ) -> bool:
        """Read the events that arrived together; whether they say that it was the last."""
        for data in found:
            if data == "[DONE]":
                return True
            chunk = self._parse(data)
            arrived = reader.feed(chunk)
            if meter is not None and arrived:
                meter.received(arrived)
            if listen is not None and chunk.get("choices"):
                listen(chunk)
        return False

    async def _json(self, answer: Answer) -> Any:
        return self._parse(await answer.whole())

    def _parse(self, data: str | bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            text = data if isinstance(data, str) else data.decode("utf-8", "replace")
            shown = self._masked(text)[:60]
            raise MalformedReply(
                f"{self._address.shown}: the server sent broken JSON: {shown!r}"
            ) from error

    async def _call(
        self,
        method: str,
        url: httpcore2.URL,
        content: bytes | None,
        read: Callable[[Answer], Awaitable[T]],
    ) -> T:
        """What ``read`` makes of a response of status 200; all that fails is a BackendError."""
        try:
            answer = await self._link().connections.send(method, url, content)
            try:
                if answer.status != 200:
                    said = (await answer.whole()).decode("utf-8", "replace")
                    where = self._address.shown
                    raise refusal(where, answer.status, self._masked(said), answer.header)
                return await read(answer)
            finally:
                await answer.aclose()
        except BROKEN as error:
            raise translate(error, self._address.shown) from error
        except BackendError as error:
            said = self._masked(str(error))[:LONGEST]
            if said == str(error):
                raise
            raise type(error)(said, retry_after=error.retry_after) from None

    def _masked(self, text: str) -> str:
        """``text`` without the key, which a server may repeat."""
        key = self._address.key
        return text.replace(key, "[key]") if key else text


@dataclass(frozen=True, slots=True)
class Completed:
    """A text completion: the server's ``reply``, None where it was streamed, and its usage."""

    reply: Mapping[str, Any] | None
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class _Link:
    """What one event loop uses: none of it can be shared with another."""

    connections: Connections
    slots: asyncio.Semaphore
    rate: AsyncLimiter | None
    asking: asyncio.Lock
