"""The store: every decision that was handed out, what became of it, and what keys have spent.

``records``    ``Decision`` · ``Outcome`` · ``Amounts``
``schema``     the tables, in portable SQL
``opening``    the file: is it a store, of which layout; making one
``decisions``  rows from decisions and back
``outcomes``   the history of outcomes
``leases``     parts of a key's cap, over processes
``writing``    the thread that commits what is waiting, group by group

``Store`` puts them together. Each worker process opens its own; several may share one file. Times
are unix seconds. It does not know the gateway, its configuration, or what an answer is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from poise.errors import Unavailable, UsageError
from poise.store import decisions, leases, outcomes
from poise.store.opening import open_engine, place_of, read_secret, reading
from poise.store.records import Amounts, Decision, Outcome, decision_id
from poise.store.writing import Writer

__all__ = ["Amounts", "Decision", "Outcome", "Store", "decision_id"]

T = TypeVar("T")


class Store:
    """One open store. ``open`` makes it; ``aclose`` writes what is waiting and gives it back.

    ``secret``: 32 random bytes that belong to the file, for keyed hashes of what is not to be kept.
    """

    def __init__(self, engine: Engine, writer: Writer[Decision], secret: bytes, *, behind: bool):
        self.secret = secret
        self._engine, self._writer, self._behind = engine, writer, behind

    @classmethod
    def open(
        cls,
        path_or_url: str | Path,
        *,
        writes: Literal["before", "behind"] = "before",
        queue: int = 10_000,
        content: bool = False,
        secret: bytes | None = None,
        lock_seconds: float = 5.0,
    ) -> Self:
        """Open the store in a file, which is made where there is none.

        ``writes``: whether ``record`` returns after the commit or before it. ``queue``: writes that
        may wait. ``content``: keep what decisions carry as content. ``lock_seconds``: how long a
        write waits for those of other processes. Raises InputError where the file is something
        else, of a newer layout or cannot be opened, UsageError for an argument out of range.
        """
        if writes not in {"before", "behind"}:
            raise UsageError(f"writes={writes!r}: before or behind")
        if queue < 1:
            raise UsageError(f"queue={queue}: at least 1 write must be able to wait")
        if not (math.isfinite(lock_seconds) and lock_seconds >= 0):
            raise UsageError(f"lock_seconds={lock_seconds}: a time of 0 or more")
        place = place_of(path_or_url)
        engine = open_engine(place, lock_seconds)
        insert = decisions.Inserts(engine.dialect, keeps_content=content)
        kept = read_secret(engine) if secret is None else secret
        return cls(engine, Writer(engine, place, insert, queue), kept, behind=writes == "behind")

    @property
    def problem(self) -> str | None:
        """Why the last write failed, in one line; None once another has succeeded."""
        return self._writer.problem

    @property
    def lost(self) -> int:
        """Decisions that could not be written since the store was opened."""
        return self._writer.lost

    async def record(self, row: Decision) -> bool:
        """Keep a decision. True: it is on the disk, and outlives a loss of power.

        With ``writes="behind"`` False at once, or as soon as the queue has room. Otherwise False
        says that it could not be written, and ``problem`` why: nothing is raised, because an answer
        must not fail with its record. A caller that is cancelled while it waits for the commit
        leaves the row to be written.
        """
        if self._behind:
            await self._writer.leave(row)
            return False
        return await self._writer.write(row)

    async def attach(self, given: Sequence[Outcome]) -> list[str]:
        """Add outcomes, all or none; for each in turn what it was.

        ``stored``: its source's first word on the decision; ``replaced``: another value than the
        source's last; ``unchanged``: the same value, so that sending twice does no harm;
        ``unknown``: there is no such decision, and nothing is kept (one that another process is
        still to write from its queue is unknown too: send again). Raises Unavailable.
        """
        return await self._writer.run(lambda connection: outcomes.attach(connection, given))

    async def find(self, id: str) -> Mapping[str, Any] | None:
        """The decision of this id; None: not known. Raises Unavailable.

        All fields of ``Decision`` with ``spend`` as JSON has it, and ``outcomes``, in the order
        they came: ``{"source", "value", "time", "received", "counts"}``, where ``counts`` marks
        each source's last word. ``content`` is None where it is not kept.
        """
        return await self._read(lambda connection: decisions.find(connection, id))

    async def recent(self, limit: int, alias: str | None = None) -> Sequence[Mapping[str, Any]]:
        """The last ``limit`` decisions, newest first, without content and outcomes.

        Raises Unavailable.
        """
        return await self._read(lambda connection: decisions.recent(connection, limit, alias))

    async def lease(self, key: str, period: str, want: Amounts, cap: Amounts) -> Amounts:
        """Take what is left of a key's cap in a period, at most ``want``, each amount by itself.

        Grants to all processes together never exceed the cap. A caller that is cancelled may have
        been granted something all the same. Raises Unavailable.
        """
        return await self._writer.run(
            lambda connection: leases.lease(connection, key, period, want, cap)
        )

    async def give_back(self, key: str, period: str, unused: Amounts) -> None:
        """Return what was leased and not spent. Raises Unavailable."""
        await self._writer.run(lambda connection: leases.give_back(connection, key, period, unused))

    async def aclose(self) -> None:
        """Write what is waiting, end the thread and close the file. Twice does no harm."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._engine.dispose()

    async def _read(self, query: Callable[[Connection], T]) -> T:
        # What this process has yet to write counts as known.
        await self._writer.settle()

        def fetch() -> T:
            try:
                with reading(self._engine).begin() as connection:
                    return query(connection)
            except SQLAlchemyError as error:
                reason = getattr(error, "orig", error)
                raise Unavailable(f"the store cannot be read ({reason})") from None

        return await asyncio.to_thread(fetch)
