"""Room: so many requests are worked on at once, so many more wait in a line, the rest get 429.

::

    admit --- room ----------------------------> under way --- done: its place goes to
      |                                             ^          the first in the line
      +---- no room, but in the line ---> waiting --+
      |                                      +-- too long, or draining: refused
      +---- no room at all: refused

Memory is bounded by both numbers. One event loop owns an Admission. It does not know: what a
request asks, or HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from types import TracebackType

from poise.serve.keys import Caller
from poise.serve.refusals import Refusal, stopping

__all__ = ["Admission"]

RECENT = 0.05
"""Weight of the newest service time in their running mean: about the last twenty count."""

_GO, _LATE, _DRAINING = "go", "late", "draining"
_Waiter = asyncio.Future[str]


class Admission:
    """At most ``in_flight`` requests at once and ``queue`` waiting, first come, first served.

    A waiter gives up after ``queue_seconds``. ``async with admission.admit(caller):`` is the only
    way in; it raises Refusal, and holds its place until the block ends however it ends.
    """

    def __init__(self, in_flight: int, queue: int, queue_seconds: float):
        self._places, self._queue, self._queue_seconds = in_flight, queue, queue_seconds
        self._under_way = 0
        self._line: OrderedDict[_Waiter, None] = OrderedDict()
        self._by_key: dict[str, int] = {}
        self._mean: float | None = None
        self._began: float | None = None
        self._closes: float | None = None
        self._idle = asyncio.Event()

    @property
    def under_way(self) -> int:
        """Requests that hold a place."""
        return self._under_way

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return len(self._line)

    @property
    def draining(self) -> bool:
        """Whether nothing is admitted any more."""
        return self._closes is not None

    def admit(self, caller: Caller) -> _Admitted:
        """A place for one request of ``caller``, taken on entering the block.

        Entering raises Refusal: 429 with code ``concurrency``, ``queue_full`` or
        ``queue_timeout``; 503 with code ``draining``.
        """
        return _Admitted(self, caller)

    async def drain(self, seconds: float) -> bool:
        """Admit nobody any more and wait until nothing is under way, ``seconds`` at most.

        Who waits in the line is refused. Returns whether nothing is under way.
        """
        self._closes = time.monotonic() + seconds
        while self._line:
            waiter, _ = self._line.popitem(last=False)
            if not waiter.done():
                waiter.set_result(_DRAINING)
        if self._under_way:
            try:
                async with asyncio.timeout(seconds):
                    await self._idle.wait()
            except TimeoutError:
                return self._under_way == 0
        return True

    # -- inside: what _Admitted does -------------------------------------------------------------

    def _enter(self, caller: Caller) -> bool:
        """Count the caller in; whether there is a place at once. Raises Refusal."""
        if self._closes is not None:
            raise self._refusal(_DRAINING)
        free = self._under_way < self._places
        key = caller.key
        if key is not None and key.concurrency is not None:
            own = self._by_key.get(key.name, 0)
            if own >= key.concurrency:
                raise Refusal(
                    429,
                    f"key {key.name!r} has {own} requests under way, which is all it may;"
                    " wait for one to end",
                    "rate_limit_error",
                    "concurrency",
                    retry_after=self._wait_for(1, key.concurrency),
                )
        if not free and len(self._line) >= self._queue:
            raise self._refusal("queue_full")
        if key is not None and key.concurrency is not None:
            self._by_key[key.name] = own + 1
        if free:
            self._under_way += 1
        return free

    async def _wait(self) -> None:
        """Wait in the line for a place. Raises Refusal; whatever it raises, no place is held."""
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        self._line[waiter] = None
        timer = loop.call_later(self._queue_seconds, self._give_up, waiter)
        try:
            said = await waiter
        except asyncio.CancelledError:
            # A place may have been given in the same turn of the loop: it goes on to the next.
            if waiter.cancelled():
                self._line.pop(waiter, None)
            elif waiter.result() == _GO:
                self._free_place()
            raise
        finally:
            timer.cancel()
        if said != _GO:
            raise self._refusal(said)

    def _give_up(self, waiter: _Waiter) -> None:
        if not waiter.done():
            del self._line[waiter]
            waiter.set_result(_LATE)

    def _free_place(self) -> None:
        """Hand a place to the first in the line, or have one more free."""
        while self._line:
            waiter, _ = self._line.popitem(last=False)
            if not waiter.done():  # cancelled, and its task has not run since
                waiter.set_result(_GO)
                return
        self._under_way -= 1
        if self._closes is not None and not self._under_way:
            self._idle.set()

    def _uncount(self, caller: Caller) -> None:
        key = caller.key
        if key is not None and key.concurrency is not None:
            left = self._by_key[key.name] - 1
            if left:
                self._by_key[key.name] = left
            else:
                del self._by_key[key.name]

    def _served(self, started: float, ended: float) -> None:
        seconds = ended - started
        mean = self._mean
        self._mean = seconds if mean is None else mean + RECENT * (seconds - mean)

    # -- inside: refusing ------------------------------------------------------------------------

    def _wait_for(self, ended: int, at_once: int) -> float:
        """Seconds until ``ended`` requests have ended, ``at_once`` being worked on; at least 1.

        While none has ended yet, one takes at least as long as since the first began.
        """
        seconds = self._mean
        if seconds is None:
            seconds = 0.0 if self._began is None else time.monotonic() - self._began
        return max(1.0, seconds * ended / at_once)

    def _refusal(self, code: str) -> Refusal:
        if code == _DRAINING:
            assert self._closes is not None
            left = self._closes - time.monotonic()
            return stopping(left)
        wait = self._wait_for(len(self._line) + 1, self._places)
        if code == _LATE:
            return Refusal(
                429,
                f"no place came free in {self._queue_seconds:g} seconds; ask again later",
                "rate_limit_error",
                "queue_timeout",
                retry_after=max(wait, self._queue_seconds),
            )
        return Refusal(
            429,
            f"{self._under_way} requests are under way and {len(self._line)} are waiting, which is"
            " all there is room for; ask again later",
            "rate_limit_error",
            code,
            retry_after=wait,
        )


class _Admitted:
    """One request's place, from entering the block to its end."""

    __slots__ = ("_admission", "_caller", "_started")

    def __init__(self, admission: Admission, caller: Caller):
        self._admission, self._caller = admission, caller
        self._started = 0.0

    async def __aenter__(self) -> None:
        admission = self._admission
        if not admission._enter(self._caller):
            try:
                await admission._wait()
            except BaseException:
                admission._uncount(self._caller)
                raise
        self._started = time.monotonic()
        if admission._began is None:
            admission._began = self._started

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        admission = self._admission
        admission._served(self._started, time.monotonic())
        admission._uncount(self._caller)
        admission._free_place()
