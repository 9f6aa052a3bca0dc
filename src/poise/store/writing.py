"""Group commit: one thread writes whatever is waiting in one transaction and tells who waits.

While a commit waits for the disk the queue fills, so that under load one commit serves many rows.
The bounded queue takes two sorts of items: decisions, and jobs (functions of a connection), which
run in the same transaction after the group's decisions. Items whose transaction fails because of
the disk are told so and forgotten; for any other reason, which may be that of one bad item, the
group is halved until that one is alone. The thread outlives all of it.

Items may come from several event loops and threads. It does not know what a decision or a job is.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from poise.errors import PoiseError, Unavailable

__all__ = ["Writer"]

MOST = 256
"""Items in one transaction: more would make the first wait long for the last."""

CLOSED = "the store is closed"

Row = TypeVar("Row")
T = TypeVar("T")
Job = Callable[[Connection], Any]
Waiter = asyncio.Future[Any]


@dataclass(slots=True)
class _Item:
    """``row`` or ``job``, or neither: then it only marks a place in the queue."""

    row: Any = None
    job: Job | None = None
    waiter: Waiter | None = None


_Told = tuple[Waiter | None, Any]
"""Who waits, and what for: a value, or the exception to raise there."""

_LAST = _Item()


class Writer(Generic[Row]):
    """The only writer of this process to ``engine``, whose database lies in ``place``.

    ``insert`` adds rows in one statement; ``size``: items that may wait. ``problem``: why the last
    write failed, in one line, until one succeeds again; ``lost``: rows that were not written.
    """

    def __init__(
        self,
        engine: Engine,
        place: Path,
        insert: Callable[[Connection, Sequence[Row]], None],
        size: int,
    ):
        self.problem: str | None = None
        self.lost = 0
        self._connection, self._place, self._insert = engine.connect(), place, insert
        self._file = _identity(place)
        self._queue: queue.Queue[_Item] = queue.Queue(size)
        self._lock = threading.Lock()
        self._room: list[asyncio.Future[None]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="poise-store", daemon=True)
        self._thread.start()

    async def write(self, row: Row) -> bool:
        """Have ``row`` written; whether it is, once that is known. Never raises for a failure."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        if not await self._put(_Item(row, None, waiter)):
            return False
        return bool(await waiter)

    async def leave(self, row: Row) -> None:
        """Have ``row`` written some time; waits only while the queue is full."""
        await self._put(_Item(row))

    async def run(self, job: Callable[[Connection], T]) -> T:
        """What ``job`` returns, once it is committed, after everything that was put before it.

        ``job`` may be run twice, each time from what is committed. Raises Unavailable where the
        database does not take it.
        """
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not await self._put(_Item(None, job, waiter)):
            raise Unavailable(CLOSED)
        return await waiter

    async def settle(self) -> None:
        """Wait until everything that was put before this is written, or has failed.

        Raises Unavailable where the writer is closed.
        """
        waiter: Waiter = asyncio.get_running_loop().create_future()
        if not await self._put(_Item(None, None, waiter)):
            raise Unavailable(CLOSED)
        await waiter

    def close(self) -> None:
        """Write what waits and end the thread; blocks. Closing twice does no harm."""
        with self._lock:
            first, self._closing = not self._closing, True
        if first:
            self._queue.put(_LAST)
        self._thread.join()

    async def _put(self, item: _Item) -> bool:
        """Queue the item once there is room; False where the writer is closed."""
        while True:
            with self._lock:
                # Under the lock, so that nothing can come after the last item.
                if self._closing:
                    if item.row is not None:
                        self.problem, self.lost = CLOSED, self.lost + 1
                    return False
                try:
                    self._queue.put_nowait(item)
                except queue.Full:
                    room = asyncio.get_running_loop().create_future()
                    self._room.append(room)
                else:
                    return True
            await room

    # -- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        last = False
        while not last:
            group = [self._queue.get()]
            with suppress(queue.Empty):
                while len(group) < MOST:
                    group.append(self._queue.get_nowait())
            self._make_room()
            last = group[-1] is _LAST
            _tell(self._written(group))
        self._connection.close()

    def _make_room(self) -> None:
        """Have those try again who found the queue full."""
        with self._lock:
            room, self._room = self._room, []
        _tell([(waiter, None) for waiter in room])

    def _written(self, group: list[_Item]) -> list[_Told]:
        """Write the group, or as much of it as can be written; never raises."""
        try:
            return self._commit(group)
        except Exception as error:  # noqa: BLE001 - the thread must outlive any row
            if len(group) == 1 or isinstance(error, (OperationalError, OSError)):
                return self._failed(group, error)
        half = len(group) // 2
        told, problem = self._written(group[:half]), self.problem
        told += self._written(group[half:])
        self.problem = self.problem or problem
        return told

    def _commit(self, group: list[_Item]) -> list[_Told]:
        rows = [item for item in group if item.row is not None]
        jobs = [item for item in group if item.job is not None]
        results: list[Any] = []
        if rows or jobs:
            with self._connection.begin():
                if rows:
                    self._insert(self._connection, [item.row for item in rows])
                results = [item.job(self._connection) for item in jobs if item.job is not None]
            # SQLite goes on writing to a file that has no name any more, and reports no error.
            if _identity(self._place) != self._file:
                raise FileNotFoundError("the file is gone from its place; start again to make one")
            self.problem = None
        done = [(item.waiter, True) for item in group if item.job is None]
        return done + [(job.waiter, result) for job, result in zip(jobs, results, strict=True)]

    def _failed(self, group: list[_Item], error: Exception) -> list[_Told]:
        self.problem = f"the store cannot be written ({_reason(error)})"
        with self._lock:
            self.lost += sum(item.row is not None for item in group)
        raised = error if isinstance(error, PoiseError) else Unavailable(self.problem)
        return [(item.waiter, raised if item.job is not None else False) for item in group]


def _tell(told: Iterable[_Told]) -> None:
    """Give each waiter its value, or raise it there, with one wake-up for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Told]] = {}
    for waiter, value in told:
        if waiter is not None:
            by_loop.setdefault(waiter.get_loop(), []).append((waiter, value))
    for loop, some in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed, so nobody waits
            loop.call_soon_threadsafe(_resolve, some)


def _resolve(told: Iterable[_Told]) -> None:
    for waiter, value in told:
        if waiter is None or waiter.done():  # cancelled
            continue
        if isinstance(value, Exception):
            waiter.set_exception(value)
        else:
            waiter.set_result(value)


def _identity(place: Path) -> tuple[int, int] | None:
    """Which file lies there; None: there is none."""
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _reason(error: Exception) -> str:
    """What went wrong, in one line and without what was to be written."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    return said.splitlines()[0] if said else type(error).__name__
