"""Connections to one server, each for one call at a time, kept for the next call when whole.

The calls in flight are bounded by the caller, so what a pool would do (search all connections for
a free one, twice a call) is a stack here: the connection used last is used next. Only where a
proxy is on the way does a pool of the library's stand in its place. It knows HTTP, not what is
said over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpcore2
import httpx2

from poise.backends.address import Address, target
from poise.backends.refusing import BROKEN
from poise.backends.sockets import PlainSockets
from poise.errors import MalformedReply, UsageError

__all__ = ["Answer", "Connections"]

IDLE = 3.0
"""Seconds an unused connection is kept. Common servers close theirs after 5, and a request sent
into a connection that is just being closed is lost, its fate unknown."""

CONNECTING = 10.0
"""Seconds to wait for a connection, at most: it is quick or hopeless."""


class Connections:
    """The connections of one event loop to the server at ``address``.

    ``timeout``: the longest silence in seconds. ``most``: calls in flight at once, at most; held
    by the caller. Errors of the transport (``refusing.BROKEN``) leave as they are. Raises
    UsageError for a proxy whose support is not installed.
    """

    def __init__(self, address: Address, *, timeout: float, most: int):
        self._address = address
        patience = {"connect": min(timeout, CONNECTING), "read": timeout, "write": timeout}
        self._extensions = {"timeout": patience}
        self._context = httpx2.create_ssl_context() if address.secure else None
        # The own streams look at an unused socket by a system call that Windows does not have.
        self._plain = not address.secure and hasattr(select, "poll")
        self._pool = _through(address.proxy, self._context, most) if address.proxy else None
        self._idle: deque[httpcore2.AsyncHTTPConnection] = deque()
        self._busy: set[httpcore2.AsyncHTTPConnection] = set()
        self._closed = False

    async def send(self, method: str, url: httpcore2.URL, content: bytes | None = None) -> Answer:
        """Send one request, with a JSON body if any, and wait for the head of the response."""
        headers = list(self._address.headers)
        if content is not None:
            headers.append((b"Content-Type", b"application/json"))
            headers.append((b"Content-Length", b"%d" % len(content)))
        request = httpcore2.Request(
            method, url, headers=headers, content=content, extensions=self._extensions
        )
        if self._pool is not None:
            return Answer(await self._pool.handle_async_request(request), None)
        connection = await self._take()
        self._busy.add(connection)
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            self._busy.discard(connection)
            await connection.aclose()
            raise
        return Answer(response, lambda: self._give_back(connection))

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        self._closed = True
        if self._pool is not None:
            await self._pool.aclose()
        connections, self._idle, self._busy = [*self._idle, *self._busy], deque(), set()
        for connection in connections:
            await connection.aclose()

    async def _take(self) -> httpcore2.AsyncHTTPConnection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return httpcore2.AsyncHTTPConnection(
            self._address.chat.origin,
            ssl_context=self._context,
            keepalive_expiry=IDLE,
            network_backend=PlainSockets() if self._plain else None,
        )

    async def _give_back(self, connection: httpcore2.AsyncHTTPConnection) -> None:
        self._busy.discard(connection)
        if self._closed or not connection.is_available():
            await connection.aclose()
            return
        self._idle.append(connection)
        # The one at the bottom has waited longest: after a rush there are more than are needed.
        if len(self._idle) > 1 and self._idle[0].has_expired():
            await self._idle.popleft().aclose()


class Answer:
    """A response whose head has arrived; to be closed whatever happens.

    ``status``; ``parts``: the body as it arrives, uncompressed. One that is read to its end leaves
    the connection fit for the next call; closing any other ends the connection.
    """

    def __init__(
        self, response: httpcore2.Response, give_back: Callable[[], Awaitable[None]] | None
    ):
        self.status = response.status
        self._headers = {name.lower(): value for name, value in response.headers}
        self._response, self._give_back = response, give_back
        stream: Any = response.stream
        self._raw: AsyncGenerator[bytes] = aiter(stream)
        packing = self.header("content-encoding")
        self.parts = _unpacked(self._raw, packing) if packing else self._raw

    def header(self, name: str) -> str | None:
        """The value of the header of that name, in lower case; None where it is absent."""
        value = self._headers.get(name.encode())
        return None if value is None else value.decode("latin-1")

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case; empty where none is stated."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    async def whole(self) -> bytes:
        """The body, read to its end."""
        return b"".join([part async for part in self.parts])

    async def drain(self, seconds: float) -> None:
        """Read to the end and forget it, for at most ``seconds``; what goes wrong is nothing."""
        with contextlib.suppress(TimeoutError, MalformedReply, *BROKEN):
            async with asyncio.timeout(seconds):
                async for _ in self.parts:
                    pass

    async def aclose(self) -> None:
        """Give the connection back, or end it."""
        try:
            await self._raw.aclose()
            await self._response.aclose()
        finally:
            if self._give_back is not None:
                await self._give_back()


async def _unpacked(parts: AsyncGenerator[bytes], packing: str) -> AsyncGenerator[bytes]:
    if packing.strip().lower() not in {"gzip", "identity"}:
        raise MalformedReply(f"unreadable reply (packed as {packing!r}, which was not asked for)")
    unpack = zlib.decompressobj(wbits=31) if "gzip" in packing.lower() else None
    async for part in parts:
        try:
            yield part if unpack is None else unpack.decompress(part)
        except zlib.error as error:
            raise MalformedReply(f"unreadable reply ({error})") from error


def _through(
    proxy: httpx2.Proxy, context: ssl.SSLContext | None, most: int
) -> httpcore2.AsyncConnectionPool:
    url = target(proxy.url)
    bounds: dict[str, Any] = {"max_connections": most, "keepalive_expiry": IDLE}
    if proxy.url.scheme.startswith("socks"):
        try:
            return httpcore2.AsyncSOCKSProxy(
                url, proxy_auth=proxy.raw_auth, ssl_context=context, **bounds
            )
        except (ImportError, RuntimeError) as error:
            raise UsageError(
                "the proxy that the environment names needs a package: pip install 'httpx2[socks]'"
            ) from error
    return httpcore2.AsyncHTTPProxy(
        url,
        proxy_auth=proxy.raw_auth,
        proxy_headers=proxy.headers.raw,
        ssl_context=context,
        proxy_ssl_context=proxy.ssl_context,
        **bounds,
    )
