"""Server-sent events: chunks as they come, signs of life in between, and the end of it all.

The decision may take a while, so the stream opens with comments that keep the connection alive;
where the first sample is streamed at once its chunks come as the server sends them, under our id,
and the last one waits for the decision. When the client goes, the work is cancelled. It does not
know how an answer comes about.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, Generic, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from poise.serve.exchange import GONE
from poise.serve.refusals import refusal, stopping
from poise.serve.wire import write_json

__all__ = ["DONE", "HEARTBEAT", "EventStream", "Events", "event"]

Value = TypeVar("Value")

DONE = b"data: [DONE]\n\n"
HEARTBEAT = b": working\n\n"


def event(data: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + write_json(data) + b"\n\n"


class Events(Generic[Value]):
    """Work under way that says things before it is done. Belongs to one event loop.

    ``say`` is handed to the work. ``first`` waits for the first word or the end; ``all`` then gives
    every word, None for each ``heartbeat`` seconds of silence, and last the value. Leaving ``all``
    early, or ``close``, cancels the work.
    """

    def __init__(self, heartbeat: float):
        self._heartbeat = heartbeat
        self._queue: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        self._task: asyncio.Task[Value] | None = None

    def say(self, word: Mapping[str, Any]) -> None:
        """Hand on one word."""
        self._queue.put_nowait(word)

    def start(self, work: Coroutine[Any, Any, Value]) -> None:
        """Begin the work."""
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(lambda _: self._queue.put_nowait(None))

    async def first(self) -> None:
        """Wait for the first word, the end, or a heartbeat's time. Raises what ended the work."""
        assert self._task is not None
        try:
            async with asyncio.timeout(self._heartbeat):
                word = await self._queue.get()
        except TimeoutError:
            return
        except asyncio.CancelledError:
            await self.close()
            raise
        if word is None:
            self._task.result()
        # Put back in front: nothing else has been taken yet.
        waiting = [word]
        while not self._queue.empty():
            waiting.append(self._queue.get_nowait())
        for one in waiting:
            self._queue.put_nowait(one)

    @property
    def value(self) -> Value | None:
        """What the work came to, if it is done and came to something."""
        task = self._task
        if task is None or not task.done() or task.cancelled() or task.exception():
            return None
        return task.result()

    async def all(self) -> AsyncGenerator[Mapping[str, Any] | Value | None]:
        """Words, None for silence, and the value. Raises what ended the work."""
        assert self._task is not None
        try:
            while True:
                try:
                    async with asyncio.timeout(self._heartbeat):
                        word = await self._queue.get()
                except TimeoutError:
                    yield None
                    continue
                if word is None:
                    yield await self._task
                    return
                yield word
        finally:
            await self.close()

    async def close(self) -> None:
        """End the work, if it is not over."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class EventStream(Response):
    """A response of server-sent events, which ends when the client goes.

    ``events`` is closed whatever happens. An error in it is told as a last event, since the status
    has gone out long before; so is it where the server ends it, whose time to finish is over.
    ``ended`` is called in the end, with the status that it came to and the error: 499 and None
    where the client went.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        headers: Mapping[str, str],
        ended: Callable[[int, Exception | None], Awaitable[None]],
    ):
        self.events, self._ended = events, ended
        self._opened = False
        self._came_to: tuple[int, Exception | None] = (GONE, None)
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no", **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the events; the interface of every response."""
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        stopped = False
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            stopped = True
        finally:
            leaving.cancel()
            sending.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            if stopped and self._opened and self._came_to[0] == GONE:
                said = stopping(0.0)
                self._came_to = (said.status, said)
                await self._close(send, event(said.body()) + DONE)
            await self._ended(*self._came_to)

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            self._opened = True
            async for part in self._told():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await self._close(send)
        finally:
            with contextlib.suppress(Exception):
                await self.events.aclose()

    async def _close(self, send: Send, last: bytes = b"") -> None:
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _told(self) -> AsyncGenerator[bytes]:
        try:
            async for part in self.events:
                yield part
            self._came_to = (200, None)
        except Exception as error:  # noqa: BLE001 - told to the client
            said = refusal(error)
            self._came_to = (said.status, error)
            yield event(said.body())
        yield DONE


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
