"""The servers of one alias, all with the same model, for as long as the gateway runs.

Replicas stand in order of preference; ``view`` makes of them the back-end of one request
(``failover``), and ``watch`` looks at those that no call tells about. It does not know: HTTP,
spending, what is asked or answered.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from poise.errors import UsageError
from poise.serve.failover import OnCall, View
from poise.serve.replica import Replica

__all__ = ["OnCall", "Replica", "Upstreams", "View"]


class Upstreams:
    """The servers of one alias, all with the same model, in order of preference.

    ``check_every``: seconds between looks at replicas that are not in use; 0: never. ``on_call``
    hears of every call. Belongs to one event loop. Raises UsageError without replicas, or with
    two of one name.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        check_every: float = 15.0,
        *,
        on_call: OnCall | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        names = [replica.name for replica in replicas]
        if not names or len(set(names)) < len(names):
            raise UsageError(f"upstreams {names}: give one or more, each with a name of its own")
        if not (math.isfinite(check_every) and check_every >= 0):
            raise UsageError(f"check_every={check_every}: must be a number of seconds >= 0")
        self.replicas = tuple(replicas)
        self.check_every, self.on_call, self.clock = check_every, on_call, clock

    @property
    def ready(self) -> bool:
        """Whether any replica may be asked, or only limits its rate for a while."""
        return any(r.admissible or r.breaker.busy for r in self.replicas)

    def view(self) -> View:
        """A back-end for one request."""
        return View(self.replicas, self.on_call, self.clock)

    def status(self) -> list[dict[str, Any]]:
        """Each replica's name, state, failures in a row, and since when it is so (Unix seconds)."""
        now = time.time()
        return [
            {
                "name": replica.name,
                "state": replica.breaker.state.value,
                "failures": replica.breaker.failures,
                "since": round(now - replica.breaker.age, 3),
            }
            for replica in self.replicas
        ]

    async def watch(self) -> None:
        """Check for ever, at once and then every ``check_every`` seconds; ends when cancelled."""
        while self.check_every:
            await self.check()
            await asyncio.sleep(self.check_every)

    async def check(self) -> None:
        """Look once at every replica whose state no call is telling."""
        now = self.clock()
        wanting = [r for r in self.replicas if r.wants_check(now, self.check_every)]
        for replica in wanting:
            replica.checked = now
        await asyncio.gather(*(replica.check() for replica in wanting))

    async def aclose(self) -> None:
        """Close all back-ends, also where one of them fails to."""
        closing = (replica.backend.aclose() for replica in self.replicas)
        for problem in await asyncio.gather(*closing, return_exceptions=True):
            if problem is not None:
                raise problem
