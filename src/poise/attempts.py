"""One call through to its last attempt: tried again where that helps, and always accounted for.

Every attempt is reserved in the ledger before it is sent, also a retry, so a cap holds whatever
fails. It does not know what is asked, or what becomes of the reply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from poise.errors import BackendError, MalformedReply, Unavailable
from poise.ledger import Ledger, Reservation
from poise.spend import Usage
from poise.types import Backend, Batch, Capabilities, Request

__all__ = ["ask_capabilities", "call_through"]

Value = TypeVar("Value")

LONGEST_WAIT = 60.0
"""Seconds; a server that asks for a longer pause before a retry is treated as refusing."""


async def call_through(
    backend: Backend,
    ledger: Ledger,
    request: Request,
    reservation: Reservation,
    *,
    again: Callable[[], Reservation],
    attempts: int,
) -> Batch:
    """The batch that ``request`` gives within ``attempts`` tries.

    ``reservation`` is for the first, ``again`` reserves for each further one. All are closed when
    this returns or raises. Raises BackendError, the last one; CapReached where a retry has no room.
    """
    kept: Reservation | None = reservation

    async def once() -> Batch:
        nonlocal kept
        current, kept = kept or again(), None
        return await _attempt(backend, ledger, request, current)

    return await _tried(once, attempts, _pause)


async def ask_capabilities(backend: Backend, attempts: int) -> Capabilities:
    """What ``backend`` can do, asked up to ``attempts`` times. Raises BackendError.

    A server that cannot be reached on first contact is not waited for: its address is wrong.
    """

    def pause(error: Exception) -> bool | float:
        return False if isinstance(error, Unavailable) else _pause(error)

    return await _tried(backend.capabilities, attempts, pause)


# -- inside ---------------------------------------------------------------------------------------


class _Count:
    """A meter: completion tokens received of one call, and whether it was ever sent."""

    __slots__ = ("tokens", "waiting")

    def __init__(self) -> None:
        self.tokens, self.waiting = 0, False

    def queued(self, waiting: bool) -> None:  # noqa: FBT001 - the protocol's
        self.waiting = waiting

    def received(self, tokens: int) -> None:
        self.tokens += tokens


async def _attempt(
    backend: Backend, ledger: Ledger, request: Request, reservation: Reservation
) -> Batch:
    count = _Count()
    try:
        batch = await backend.sample(request, count)
    except BackendError as error:
        if error.fate_known:
            ledger.release(reservation, sent=not count.waiting)
        else:
            ledger.forfeit(reservation, count.tokens)
        raise
    except BaseException:
        if count.waiting:
            ledger.release(reservation, sent=False)
        else:  # cancelled, or a defect of the back-end: what was generated is not known
            ledger.forfeit(reservation, count.tokens)
        raise
    usage = batch.usage
    if usage.completion_tokens is None and count.tokens:
        usage = Usage(usage.prompt_tokens, None, usage.cached_tokens, None, estimated=True)
    draws = 0 if request.follow_up else min(len(batch.replies), request.n)
    ledger.settle(reservation, usage, draws)
    if not batch.replies:
        raise MalformedReply("the server's reply holds no choices")
    return batch


async def _tried(
    once: Callable[[], Awaitable[Value]],
    attempts: int,
    pause: Callable[[Exception], bool | float],
) -> Value:
    """What ``once`` gives within ``attempts`` tries; the pauses between them are stamina's.

    The first try is made before anything is set up for others: nearly all need no other, and the
    setting up costs more than all the rest here.
    """
    try:
        return await once()
    except BackendError as error:
        if attempts == 1 or pause(error) is False:
            raise
        failed = [error]
    retries = stamina.retry_context(
        on=pause, attempts=attempts, timeout=None, wait_initial=0.5, wait_max=20.0
    )
    async for attempt in retries:
        with attempt:
            if failed:
                raise failed.pop()
            return await once()
    raise AssertionError("unreachable: the last attempt returns or raises")


def _pause(error: Exception) -> bool | float:
    """Whether to try again after ``error``, or the seconds the server asked to wait first."""
    if not isinstance(error, BackendError) or not error.retryable:
        return False
    if error.retry_after is None:
        return True
    return error.retry_after if error.retry_after <= LONGEST_WAIT else False
