"""Plain TCP streams for the HTTP connections to a server without TLS: an own one, near by.

The library's streams are made for any event loop; with them a third of a call's time goes into
starting and stopping to read, switching tasks and setting up timeouts. Here the transport of the
event loop is used as it is, and the head and the body of a request leave together. Servers over TLS
are left to the library. It does not know HTTP.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterable
from typing import Any, cast

import httpcore2

__all__ = ["PlainSockets"]


class PlainSockets(httpcore2.AsyncNetworkBackend):
    """Opens plain streams. Raises ConnectTimeout or ConnectError of the library."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore2.AsyncNetworkStream:
        """A stream to the first address of ``host`` that takes it, within ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, stream = await loop.create_connection(_Plain, host, port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(str(error)) from error
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(str(error)) from error
        return stream


class _Plain(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """One stream; read by one task at a time."""

    def __init__(self) -> None:
        self._unsent: list[bytes] = []
        self._arrived: list[bytes] = []
        self._ended = False
        self._problem: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None

    # -- told by the event loop -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: transports of other event loops (uvloop) are none by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        self._arrived.append(data)
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._problem = True, self._problem or exc
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # -- asked by the library -------------------------------------------------------------------

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109
        """Keep ``buffer``: it leaves when an answer is waited for."""
        self._unsent.append(buffer)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109
        """All that has arrived, waiting for something if need be; b"" at the end.

        Raises ReadTimeout after ``timeout`` seconds of silence, ReadError for a broken connection.
        """
        if self._unsent and not self._ended:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()
        if not self._arrived and not self._ended:
            await self._something(timeout)
        if self._arrived:
            data = b"".join(self._arrived)
            self._arrived.clear()
            return data
        if self._problem is not None:
            raise httpcore2.ReadError(str(self._problem))
        return b""

    async def _something(self, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self._too_late)
        try:
            await self._waiting
        finally:
            self._waiting = None
            if timer is not None:
                timer.cancel()

    def _too_late(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(httpcore2.ReadTimeout())

    async def aclose(self) -> None:
        """Close at once; who still waits for something is told that it was closed."""
        if not self._ended:
            self._ended, self._problem = True, ConnectionAbortedError("closed here")
            self._wake()
        self._transport.abort()
        await asyncio.sleep(0)  # one turn of the event loop later the socket is closed

    def get_extra_info(self, info: str) -> Any:
        """``is_readable``: whether an unused stream was ended by the server, or spoken into."""
        if info == "is_readable":
            return self._ended or bool(self._arrived) or bool(self._poll.poll(0))
        return None
