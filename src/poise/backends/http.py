"""Any OpenAI-compatible server, over HTTP: one attempt a call, errors translated at the border.

Replies are streamed by default, because that is what lets a call be ended early: closing the
connection stops generation (llama.cpp notices within a second when streaming, and not at all
otherwise), and the tokens that arrived are known. What the server supports is probed once, on
first use (``probing``). It does not know: retries (``solve``), caps (``spend``), answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import time
from collections.abc import AsyncIterator, Mapping
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


class Http:
    """A model behind an OpenAI-compatible chat-completions endpoint.

    ``base_url`` is what an OpenAI client takes, usually ending in ``/v1``. ``timeout`` is the
    longest silence in seconds that is waited through (a slow reply that keeps coming is not
    silent). ``concurrency`` bounds calls in flight, ``per_second`` (None: no bound) their rate.
    ``capabilities`` given: nothing is probed. ``max_n``: most draws to ask for in one request
    where the server supports several.
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
        if not base_url.startswith(("http://", "https://")):
            raise UsageError(f"base URL {base_url!r}: must start with http:// or https://")
        if concurrency < 1 or timeout <= 0 or max_n < 1 or (per_second or 1) <= 0:
            raise UsageError("concurrency, timeout, max_n and per_second must be above 0")
        self.base_url = base_url.rstrip("/")
        self.max_tokens_field = "max_tokens"
        self._model, self._engine = model, engine
        self._stream, self._max_n = stream, max_n
        self._capabilities = capabilities
        self._probing = asyncio.Lock()
        self._slots = asyncio.Semaphore(concurrency)
        self._rate = (
            AsyncLimiter(max(1.0, per_second), max(1.0, 1 / per_second)) if per_second else None
        )
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx2.Limits(max_connections=concurrency + 1)
        # Connecting is quick or hopeless; silence while generating is not.
        patience = httpx2.Timeout(timeout, connect=min(timeout, 10.0), pool=None)
        self._client = httpx2.AsyncClient(headers=headers, limits=limits, timeout=patience)

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
        async with self._probing:
            if self._model is None or (self._engine is None and self._capabilities is None):
                await self._identify()
            if self._capabilities is None:
                self._capabilities = await probe(self, self._max_n)
            return self._capabilities

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        """Draw ``request.n`` replies in one call. Raises BackendError."""
        known = self._capabilities
        body = wire.body(
            request,
            self._model or "",
            stream=self._stream,
            max_tokens_field=self.max_tokens_field,
        )
        async with self._slots:
            if self._rate is not None:
                await self._rate.acquire()
            if self._stream:
                return await self._streamed(body, request.logprobs, meter)
            reply = await self._json("POST", "/chat/completions", body)
            per_choice = known is not None and known.usage_per_choice
            return wire.read_batch(reply, usage_per_choice=per_choice, top=request.logprobs)

    async def models(self) -> list[Mapping[str, Any]]:
        """The server's model list; empty where it has none. Raises BackendError."""
        try:
            reply = await self._json("GET", "/models")
        except (Unauthorized, Unavailable):
            raise
        except Rejected:
            return []
        listed = reply.get("data") if isinstance(reply, Mapping) else None
        return [m for m in listed if isinstance(m, Mapping)] if isinstance(listed, list) else []

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    # -- inside ---------------------------------------------------------------------------------

    async def _identify(self) -> None:
        listed = await self.models()
        names = [str(m.get("id")) for m in listed]
        if self._model is None:
            if len(names) != 1:
                have = ", ".join(names[:8]) or "no list of models"
                raise Rejected(f"{self.base_url}: name a model with -m; the server offers {have}")
            self._model = names[0]
        if self._engine is None:
            owner = next((str(m.get("owned_by")) for m in listed if m.get("id") == self._model), "")
            self._engine = ENGINES.get(owner.lower(), "http")

    async def _streamed(
        self, body: Mapping[str, Any], top: int | None, meter: Meter | None
    ) -> Batch:
        reader = wire.StreamReader(top)
        async with self._call("POST", "/chat/completions", body) as response:
            try:
                async for event in httpx2.EventSource(response):
                    if event.data == "[DONE]":
                        break
                    arrived = reader.feed(_parse(event.data))
                    if meter is not None and arrived:
                        meter.received(arrived)
            except httpx2.SSEError as error:
                raise MalformedReply(f"{self.base_url}: not an event stream ({error})") from error
        if not reader.complete:
            raise StreamCut(f"{self.base_url}: the reply broke off before it was finished")
        return reader.finish()

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        async with self._call(method, path, body) as response:
            return _parse(await response.aread())

    @contextlib.asynccontextmanager
    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> AsyncIterator[httpx2.Response]:
        try:
            async with self._client.stream(method, self.base_url + path, json=body) as response:
                if response.status_code != 200:
                    raise _refusal(self.base_url, response, await response.aread())
                yield response
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise translate(error, self.base_url) from error


def translate(error: Exception, base_url: str) -> BackendError:
    """The Poise error for a transport error of httpx2."""
    what = str(error) or type(error).__name__
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return Unavailable(f"{base_url}: cannot be reached ({what}); is the server running?")
    if isinstance(error, httpx2.ProxyError):
        return Unavailable(f"{base_url}: the proxy failed ({what})")
    if isinstance(error, httpx2.TimeoutException):
        return TimedOut(f"{base_url}: no reply in time ({type(error).__name__})")
    if isinstance(error, httpx2.DecodingError | httpx2.TooManyRedirects):
        return MalformedReply(f"{base_url}: unreadable reply ({what})")
    if isinstance(
        error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError | httpx2.InvalidURL
    ):
        return Rejected(f"{base_url}: the request cannot be sent ({what})")
    return StreamCut(f"{base_url}: the connection broke ({what})")


def _parse(data: str | bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        shown = data[:60] if isinstance(data, str) else data[:60].decode("utf-8", "replace")
        raise MalformedReply(f"the server sent broken JSON: {shown!r}") from error


def _refusal(base_url: str, response: httpx2.Response, content: bytes) -> BackendError:
    status = response.status_code
    message = f"{base_url}: HTTP {status}: {_said(content)}"
    if status in {401, 403}:
        return Unauthorized(message + "; check the key named by --api-key-env")
    if status == 429:
        return RateLimited(message, retry_after=_retry_after(response.headers))
    if status == 408:
        return TimedOut(message)
    if status >= 500 or status in {409, 425}:
        return ServerFault(message, retry_after=_retry_after(response.headers))
    if status == 404 and not base_url.endswith("/v1"):
        message += "; an OpenAI-compatible base URL usually ends in /v1"
    return Rejected(message)


def _said(content: bytes) -> str:
    """The server's own words about an error, on one line."""
    try:
        data = json.loads(content)
        error = data.get("error", data)
        text = error.get("message", error) if isinstance(error, Mapping) else error
    except (ValueError, AttributeError, RecursionError):
        text = content.decode("utf-8", "replace")
    return " ".join(str(text).split())[:300] or "no explanation"


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds to wait by ``retry-after-ms`` or ``Retry-After`` (seconds, a date); None: unsaid."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        with contextlib.suppress(ValueError):
            return max(0.0, float(value) * unit)
        with contextlib.suppress(ValueError, TypeError):
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
