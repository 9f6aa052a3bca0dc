"""One request on its way through the gateway: what every part may note about it.

It does not know what is asked or answered.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from poise.serve import logs
from poise.serve.gateway import Gateway
from poise.serve.keys import Caller, Scope
from poise.serve.metrics import UNKNOWN
from poise.types import Result

__all__ = ["GONE", "Exchange", "Handler", "Route"]

log = logging.getLogger("poise.serve")

GONE = 499
"""What is noted where the client went away; nobody is sent it."""


@dataclass(slots=True)
class Exchange:
    """A request under way.

    ``alias`` is set once it is known to be one, ``result`` once there is one; ``counted`` for
    requests that metrics count. ``started``: seconds of a monotonic clock.
    """

    gateway: Gateway
    request: Request
    caller: Caller
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: float = field(default_factory=time.perf_counter)
    alias: str | None = None
    result: Result | None = None
    counted: bool = False

    @property
    def seconds(self) -> float:
        """Seconds since the request came in."""
        return time.perf_counter() - self.started

    def ended(self, status: int, error: Exception | None = None) -> None:
        """Note the end of the request: ``status`` as it was sent, or as a stream came to it."""
        if status == 500:
            log.error("failed", exc_info=error)
        if status != 200 and self.counted:
            self.gateway.metrics.of(self.alias or UNKNOWN).requested(status, self.seconds)
        logs.access(
            logs.request_id(self.request.headers.get("x-request-id"), self.id),
            self.alias or UNKNOWN,
            status,
            self.seconds,
            self.result,
            error=error,
            route=self.request.url.path if self.counted else None,
        )


Handler = Callable[[Exchange], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path, who may use it (``scope`` None: everybody), what does it, how it is documented."""

    method: str
    path: str
    scope: Scope | None
    handler: Handler
    summary: str
    document: dict[str, Any] = field(default_factory=dict)
