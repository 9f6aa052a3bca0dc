"""Work behind the reply: shadow runs and audits. Bounded, never in the way, finished on shutdown.

It does not know what the work is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

__all__ = ["Background"]

log = logging.getLogger("poise.serve")


class Background:
    """At most ``most`` pieces of work at once; what comes beyond is left out and counted."""

    def __init__(self, most: int = 64):
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()
        self.left_out = 0

    def spawn(self, work: Coroutine[Any, Any, None]) -> bool:
        """Start ``work``; False, and it never runs, where there is no room."""
        if len(self._tasks) >= self._most:
            self.left_out += 1
            work.close()
            return False
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return True

    async def finish(self, seconds: float) -> None:
        """Wait for what is running, and end what is not done in ``seconds``."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            log.error("background_failed", extra={"error": type(error).__name__})
