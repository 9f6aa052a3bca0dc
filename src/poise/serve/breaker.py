"""Whether a server may be asked: closed (yes), open (no), half-open (one trial at a time).

::

    closed --failures in a row, or two failed checks--> open
    open   --cool-down over, or a check that succeeds--> half-open
    half-open --trial succeeds--> closed          half-open --trial fails--> open

A call asks for admission, and says with the ticket it got how it ended. What a call of an earlier
state has to say is ignored: it is about the server as it was. It does not know: servers, calls,
tasks; it sleeps for nobody.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from enum import StrEnum

from poise.errors import (
    MalformedReply,
    ModelMissing,
    RateLimited,
    ServerFault,
    StreamCut,
    TimedOut,
    Unauthorized,
    Unavailable,
    UsageError,
)

__all__ = ["Breaker", "Condition"]

COUNTED = (
    *(Unavailable, ServerFault, TimedOut, StreamCut, MalformedReply),
    *(Unauthorized, ModelMissing),
)
"""Failures of the server. Any other rejection is about the request, and a cancelled call about
neither."""

MISSES = 2
"""Failed checks in a row that open a closed breaker."""

BUSY = 1.0
"""Seconds a server that limits its rate is left alone where it does not say how long."""

LONGEST_BUSY = 60.0
"""Seconds after which such a server is asked again whatever it said: quotas are raised."""

TRIAL = 1.0
"""Seconds a caller is told to wait while a trial is under way, whose end nobody knows."""


class Condition(StrEnum):
    """What a breaker lets through: everything, nothing, or one trial at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Opens after ``failures`` >= 1 failures in a row, for ``cool_down`` > 0 seconds.

    ``clock`` gives seconds that never go back. ``failures`` counts the present row; ``trying``:
    a trial is under way. Not thread-safe. Raises UsageError for bounds that make no sense.
    """

    __slots__ = (
        *("_busy_until", "_changed", "_clock", "_cool_down", "_limit", "_misses", "_period"),
        *("_until", "failures", "trying"),
    )

    def __init__(
        self, failures: int, cool_down: float, clock: Callable[[], float] = time.monotonic
    ):
        if failures < 1 or not (math.isfinite(cool_down) and cool_down > 0):
            raise UsageError("a breaker wants failures >= 1 and a cool-down above 0 seconds")
        self._limit, self._cool_down, self._clock = failures, cool_down, clock
        self._until: float | None = None  # the end of the cool-down; None: closed
        self._busy_until = -math.inf
        self._changed = clock()
        self._period = self._misses = 0
        self.failures = 0
        self.trying = False

    @property
    def state(self) -> Condition:
        """Closed, open or half-open, as of now."""
        if self._until is None:
            return Condition.CLOSED
        over = self.trying or self._clock() >= self._until
        return Condition.HALF_OPEN if over else Condition.OPEN

    @property
    def age(self) -> float:
        """Seconds since the state last changed, >= 0."""
        began = self._changed
        if self._until is not None and self.state is Condition.HALF_OPEN:
            began = self._until
        return max(0.0, self._clock() - began)

    @property
    def busy(self) -> bool:
        """Whether nothing but the server's own rate limit keeps calls away."""
        limited = self._clock() < self._busy_until
        return limited and not self.trying and self.state is not Condition.OPEN

    @property
    def wait(self) -> float:
        """Seconds until a call may be tried; 0: now."""
        now = self._clock()
        wait = max(0.0, self._busy_until - now)
        if self._until is None:
            return wait
        return max(wait, TRIAL if self.trying else self._until - now)

    def admit(self) -> int | None:
        """A ticket for one call that is made now, or None: not now. In half-open it is the trial.

        Whoever holds a ticket hands it to ``hear`` when the call has ended, however it did.
        """
        if self._until is not None or self._busy_until > -math.inf:
            if self.wait > 0:
                return None
            self._busy_until = -math.inf
            self.trying = self._until is not None
        return self._period

    def valid(self, ticket: int) -> bool:
        """Whether nothing has changed since ``ticket`` was given out."""
        return ticket == self._period

    def hear(self, ticket: int, error: BaseException | None) -> None:
        """The call with ``ticket`` succeeded (None) or ended by ``error``."""
        if isinstance(error, RateLimited):
            said = BUSY if error.retry_after is None else min(error.retry_after, LONGEST_BUSY)
            self._busy_until = max(self._busy_until, self._clock() + said)
        if not self.valid(ticket):
            return
        trial, self.trying = self.trying, False
        if error is None:
            self.failures = self._misses = 0
            if trial:
                self._until, self._changed = None, self._clock()
        elif isinstance(error, COUNTED):
            self.failures += 1
            if trial or self.failures >= self._limit:
                self._open()

    def check(self, *, well: bool) -> None:
        """A look at the server, which was no call, found it ``well`` or not."""
        if self.trying:
            return  # the trial says more
        if well:
            self._misses = 0
            if self._until is not None:
                self._until = min(self._until, self._clock())
            return
        self._misses += 1
        half_open = self.state is Condition.HALF_OPEN
        if half_open or (self._until is None and self._misses >= MISSES):
            self._open()

    def _open(self) -> None:
        self._changed = self._clock()
        self._until = self._changed + self._cool_down
        self._misses = 0
        self._period += 1
