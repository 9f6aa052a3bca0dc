"""One server of a model, as the gateway sees it: its back-end, its breaker, what it was seen doing.

All aliases that mean the same server with the same model share one, and so what is known of it. It
does not know: other servers, requests, how a call ends.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

from poise.errors import MalformedReply, RateLimited, Rejected, Unavailable
from poise.serve.breaker import Breaker, Condition
from poise.types import Backend, Capabilities

__all__ = ["Replica"]

PATIENCE = 10.0
"""Seconds after which a check has failed."""


@dataclass(eq=False, slots=True)
class Replica:
    """One server of a model. ``name`` is the configured one, for messages and metrics.

    ``running`` calls are under way; the last one ended, and the last check began, at ``used`` and
    ``checked`` of a clock. Belongs to one event loop.
    """

    name: str
    backend: Backend
    breaker: Breaker
    told: Capabilities | None = field(default=None, init=False)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)
    running: int = field(default=0, init=False)
    used: float = field(default=-math.inf, init=False)
    checked: float = field(default=-math.inf, init=False)

    @property
    def admissible(self) -> bool:
        """Whether a call may be tried now."""
        return self.breaker.wait == 0

    async def learn(self, ticket: int) -> Capabilities:
        """What it can do, asked once under ``ticket``. Raises BackendError."""
        async with self.asking:
            if self.told is None:
                if not self.breaker.valid(ticket):
                    raise Unavailable(f"upstream {self.name!r} failed others who asked just now")
                self.told = await self.backend.capabilities()
        return self.told

    def wants_check(self, now: float, every: float) -> bool:
        """Whether neither a call nor a check tells how it is; checks are ``every`` seconds."""
        if self.breaker.state is not Condition.CLOSED:
            used = self.breaker.trying
        else:
            used = self.running > 0 or now - self.used < every
        # Another alias may watch it too, and be a little ahead.
        return not used and now - self.checked >= every / 2

    async def check(self) -> None:
        """Ask it for the little that any server tells, and let the breaker know."""
        ask = getattr(self.backend, "models", self.backend.capabilities)
        try:
            async with asyncio.timeout(PATIENCE):
                await ask()
        except (Rejected, RateLimited, MalformedReply):
            return  # it is there, and keys for chat alone exist: whether it serves, calls will show
        except Exception:  # noqa: BLE001 - a defect of one back-end must not end looks at the others
            self.breaker.check(well=False)
        else:
            self.breaker.check(well=True)
