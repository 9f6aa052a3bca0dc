"""Any OpenAI-compatible server, over HTTP: one attempt a call, errors translated at the border.

Replies are streamed by default, because that is what lets a call be ended early: closing the
connection stops generation (llama.cpp notices within a second when streaming, and not at all
otherwise), and the tokens that arrived are known. What the server supports is probed once, on
first use (``probing``). Connections are kept for the next call, a pool for each event loop that
uses the back-end. It does not know: retries (``solve``), caps (``spend``), answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import math
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from aiolimiter import AsyncLimiter

from poise.backends import wire
from poise.backends.probing import probe
from poise.errors import (
    BackendError,
    MalformedReply,
    RateLimited,
    Rejected,
    ServerFault,
    StreamCut,
    TimedOut,
    Unauthorized,
    Unavailable,
    UsageError,
)
from poise.types import Batch, Capabilities, Meter, Request

__all__ = ["Http", "translate"]

ENGINES = {"vllm": "vllm", "llamacpp": "llama.cpp", "sglang": "sglang", "openai": "openai"}
"""Engine names by what a server's model list states as owner."""

CLOSING = {"llama.cpp"}
"""Servers, as they name themselves, that promise to keep a connection and close it after a stream:
a request sent into one is lost, so that none is used again."""

IDLE = 3.0
"""Seconds an unused connection is kept. Common servers close theirs after 5, and a request sent
into a connection that is just being closed is lost, its fate unknown."""

LONGEST = 500
"""Characters of an error's line: a server may have much to say."""

ENDING = 0.25
"""Seconds to wait, after ``[DONE]``, for the end of the response: without it the connection cannot
be used again, and a server that never ends one must not hold up the reply."""


class Http:
    """A model behind an OpenAI-compatible chat-completions endpoint.

    ``base_url`` is what an OpenAI client takes, usually ending in ``/v1``. ``timeout`` is the
    longest silence in seconds that is waited through (a slow reply that keeps coming is not
    silent). ``concurrency`` bounds calls in flight, ``per_second`` (None: no bound) their rate,
    both for each event loop. ``capabilities`` given: nothing is probed. ``max_n``: most draws to
    ask for in one request where the server supports several. White space around ``api_key`` is
    dropped; the key travels in the ``Authorization`` header and appears in no error.

    May be used in several event loops, and again after ``aclose``. Raises UsageError for a URL, a
    key or a bound that makes no sense.
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
        self._shown = _shown(self.base_url)
        self._key = _header_key(api_key)
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
        link = self._link()
        if self._model is None:
            async with link.asking:
                await self._identify()
        body = wire.body(
            request,
            self._model or "",
            stream=self._stream,
            max_tokens_field=self.max_tokens_field,
        )
        if meter is not None:
            meter.queued(waiting=True)
        async with link.slots:
            if link.rate is not None:
                await link.rate.acquire()
            if meter is not None:
                meter.queued(waiting=False)
            async with self._call("POST", "/chat/completions", body) as response:
                # A server that cannot stream may answer whole, and say so.
                if self._stream and not _is_json(response):
                    return await self._streamed(response, request.logprobs, meter)
                reply = self._parse(await response.aread())
                batch = wire.read_batch(
                    reply, usage_per_choice=self._per_choice, top=request.logprobs
                )
        if meter is not None and batch.usage.completion_tokens:
            meter.received(batch.usage.completion_tokens)
        return batch

    async def models(self) -> list[Mapping[str, Any]]:
        """The server's model list; empty where it has none. Raises BackendError."""
        try:
            async with self._call("GET", "/models") as response:
                reply = self._parse(await response.aread())
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
                await link.client.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(link.client.aclose(), loop)
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
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx2.Limits(max_connections=self._concurrency + 1, keepalive_expiry=IDLE)
        # Connecting is quick or hopeless; silence while generating is not.
        connect = min(self._timeout, 10.0)
        patience = httpx2.Timeout(self._timeout, connect=connect, pool=None)
        return _Link(
            httpx2.AsyncClient(headers=headers, limits=limits, timeout=patience),
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
                raise Rejected(f"{self._shown}: name a model with -m; the server offers {have}")
            self._model = names[0]
        if self._engine is None:
            owner = next((str(m.get("owned_by")) for m in listed if m.get("id") == self._model), "")
            self._engine = ENGINES.get(owner.lower(), "http")

    async def _streamed(
        self, response: httpx2.Response, top: int | None, meter: Meter | None
    ) -> Batch:
        reader = wire.StreamReader(top, usage_per_choice=self._per_choice)
        events = aiter(httpx2.EventSource(response))
        try:
            async for event in events:
                if event.data == "[DONE]":
                    if response.headers.get("server") not in CLOSING:
                        await _exhaust(events)
                    break
                # An event without data (a reconnection time, a ping) says nothing here.
                arrived = reader.feed(self._parse(event.data)) if event.data else 0
                if meter is not None and arrived:
                    meter.received(arrived)
        except httpx2.SSEError as error:
            raise MalformedReply(f"{self._shown}: not an event stream ({error})") from error
        if not reader.complete:
            raise StreamCut(f"{self._shown}: the reply broke off before it was finished")
        return reader.finish()

    def _parse(self, data: str | bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            text = data if isinstance(data, str) else data.decode("utf-8", "replace")
            shown = text.replace(*self._mask)[:60]
            raise MalformedReply(
                f"{self._shown}: the server sent broken JSON: {shown!r}"
            ) from error

    @contextlib.asynccontextmanager
    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> AsyncIterator[httpx2.Response]:
        """A response of status 200; whatever fails under it leaves as a BackendError, keyless."""
        client, url = self._link().client, self.base_url + path
        try:
            async with client.stream(method, url, json=body) as response:
                if response.status_code != 200:
                    content = await response.aread()
                    said = _said(content.decode("utf-8", "replace").replace(*self._mask))
                    raise _refusal(self._shown, response, said)
                yield response
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise translate(error, self._shown) from error
        except BackendError as error:
            said = str(error).replace(*self._mask)[:LONGEST]
            if said == str(error):
                raise
            raise type(error)(said, retry_after=error.retry_after) from None

    @property
    def _mask(self) -> tuple[str, str]:
        """Arguments of ``str.replace`` that take the key out of what a server says."""
        return (self._key, "[key]") if self._key else ("", "")


@dataclass(frozen=True, slots=True)
class _Link:
    """What one event loop uses: none of it can be shared with another."""

    client: httpx2.AsyncClient
    slots: asyncio.Semaphore
    rate: AsyncLimiter | None
    asking: asyncio.Lock


def translate(error: Exception, base_url: str) -> BackendError:
    """The Poise error for a transport error of httpx2."""
    what = str(error) or type(error).__name__
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return Unavailable(f"{base_url}: cannot be reached ({what}); is the server running?")
    if isinstance(error, httpx2.ProxyError):
        return Unavailable(f"{base_url}: the proxy failed ({what})")
    if isinstance(error, httpx2.TimeoutException):
        return TimedOut(f"{base_url}: no reply in time ({type(error).__name__})")
    if isinstance(error, httpx2.DecodingError | httpx2.TooManyRedirects | httpx2.SSEError):
        return MalformedReply(f"{base_url}: unreadable reply ({what})")
    if isinstance(
        error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError | httpx2.InvalidURL
    ):
        return Rejected(f"{base_url}: the request cannot be sent ({what})")
    return StreamCut(f"{base_url}: the connection broke ({what})")


def _is_json(response: httpx2.Response) -> bool:
    kind, _, _ = response.headers.get("content-type", "").partition(";")
    return bool(kind.strip().lower() == "application/json")


async def _exhaust(events: AsyncIterator[httpx2.ServerSentEvent]) -> None:
    """Read to the end of a response whose reply is complete; whatever happens there is nothing."""
    with contextlib.suppress(TimeoutError, httpx2.TransportError):
        async with asyncio.timeout(ENDING):
            async for _ in events:
                pass


def _shown(base_url: str) -> str:
    """``base_url`` as messages name it, without user and password. Raises UsageError."""
    if not base_url.startswith(("http://", "https://")):
        raise UsageError(f"base URL {base_url!r}: must start with http:// or https://")
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as error:
        raise UsageError(f"base URL {base_url!r}: {error}") from error
    if not url.host or (url.port or 1) > 65535:
        raise UsageError(f"base URL {base_url!r}: must name a host, and a port up to 65535 if any")
    return str(url.copy_with(userinfo=b"")) if url.userinfo else base_url


def _header_key(api_key: str | None) -> str:
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError("the API key holds characters that no HTTP header can carry")
    return key


def _refusal(where: str, response: httpx2.Response, said: str) -> BackendError:
    status = response.status_code
    message = f"{where}: HTTP {status}: {said}"
    if status in {401, 403}:
        return Unauthorized(message + "; check the key named by --api-key-env")
    if status == 429:
        return RateLimited(message, retry_after=_retry_after(response.headers))
    if status == 408:
        return TimedOut(message)
    # 501 says that the server has no such feature, and never will while it runs.
    if (status >= 500 and status != 501) or status in {409, 425}:
        return ServerFault(message, retry_after=_retry_after(response.headers))
    if status == 404 and not where.endswith("/v1"):
        message += "; an OpenAI-compatible base URL usually ends in /v1"
    return Rejected(message)


def _said(content: str) -> str:
    """The server's own words about an error, on one line."""
    try:
        data = json.loads(content)
        error = data.get("error", data)
        text = error.get("message", error) if isinstance(error, Mapping) else error
    except (ValueError, AttributeError, RecursionError):
        text = content
    return " ".join(str(text).split())[:300] or "no explanation"


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds to wait by ``retry-after-ms`` or ``Retry-After`` (seconds, a date); None: unsaid."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        with contextlib.suppress(ValueError):
            seconds = float(value) * unit
            if math.isfinite(seconds):
                return max(0.0, seconds)
        with contextlib.suppress(ValueError, TypeError):
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
