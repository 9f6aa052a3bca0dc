"""Several servers of one model as the back-end of one request: the first that may be asked.

Nothing is retried here: a failed attempt leaves as an error that says when the next may be made,
and ``attempts``, which makes it, reserves and charges each. It goes to the next replica, at once
where there is one that this call has not failed on.

It does not know: HTTP, spending, what is asked or answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from poise.errors import (
    BackendError,
    MalformedReply,
    ModelMissing,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from poise.serve.listening import Listen
from poise.serve.replica import Replica
from poise.types import Batch, Capabilities, Meter, Relay, Request

__all__ = ["OnCall", "View"]

AT_ONCE = 0.01
"""Seconds before the next attempt where another replica takes over."""

HELD = 10.0
"""Seconds of a rate limit that a request is held for; beyond that its client is told to wait."""

ITS_OWN = (Unauthorized, ModelMissing)
"""Failures that no retry mends and another replica may not have."""

OnCall = Callable[[str, float, Exception | None], None]
"""Told of each call that came to an end, but not of cancelled ones: the replica's name, seconds,
and the error, None where it was answered."""


class View:
    """A ``Backend`` for one request: one replica for all its calls, as long as that one answers.

    ``engine`` and ``model`` are those of the replica that answered, or would be asked. Where
    replicas that differ in either have answered, the engines are joined by ``+``, a name that no
    profile is fitted for.
    """

    __slots__ = (
        "_answered",
        "_clock",
        "_current",
        "_on_call",
        "_replicas",
        "_told",
        "_trial_over",
        "_trials",
        "_tried",
    )

    def __init__(
        self,
        replicas: tuple[Replica, ...],
        on_call: OnCall | None,
        clock: Callable[[], float],
    ):
        self._replicas, self._on_call, self._clock = replicas, on_call, clock
        self._current: Replica | None = None
        self._answered: dict[Replica, None] = {}
        self._tried: dict[tuple[object, ...], set[Replica]] = {}  # of each call, where it failed
        self._told = False
        self._trials, self._trial_over = 0, asyncio.Event()

    @property
    def engine(self) -> str:
        """What runs the model; ``a+b`` where unlike replicas have answered."""
        return "+".join(engine for engine, _ in self._identities())

    @property
    def model(self) -> str:
        """The model's name."""
        return "+".join(dict.fromkeys(model for _, model in self._identities()))

    async def capabilities(self) -> Capabilities:
        """What the replica in use can do; of the next one where it fails to say.

        Raises BackendError: the last one's where all failed.
        """
        failed: BackendError | None = None
        for replica in self._order(()):
            if not replica.admissible:
                continue
            try:
                told = replica.told or await self._learn(replica)
            except BackendError as error:
                if not _concerns_replica(error):
                    raise
                failed = error
                continue
            if told is not None:
                self._current, self._told = replica, True
                return told
        if failed is None:
            raise self._nobody()
        raise self._later(failed) from failed

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        """Draw ``request.n`` replies in one attempt on one replica. Raises BackendError.

        Where the replica that took over can draw fewer in a request, the batch is short.
        """
        return await self._call(request, meter, None)

    async def relay(self, request: Request, meter: Meter | None, listen: Listen) -> Batch:
        """As ``sample``, with each chunk handed to ``listen`` where the replica can stream.

        Once a chunk was handed on no other replica takes over, and the error is not retryable.
        """
        return await self._call(request, meter, listen)

    async def aclose(self) -> None:
        """Nothing: the back-ends belong to ``Upstreams``."""

    # -- one call -------------------------------------------------------------------------------

    async def _call(self, request: Request, meter: Meter | None, listen: Listen | None) -> Batch:
        call = (request.question_id, request.first_index, request.follow_up)
        tried = self._tried.setdefault(call, set())
        replica, ticket = await self._enter(tried, meter)
        passing = None if listen is None else _Passing(listen)
        clock = self._clock
        started = clock()
        replica.running += 1
        try:
            batch = await self._send(replica, ticket, request, meter, passing)
        except BaseException as error:
            self._leave(replica, ticket, clock() - started, error)
            if not isinstance(error, BackendError):
                raise
            passed = passing is not None and passing.passed
            if passed:  # what the client has read cannot be taken back
                onward = _restated(error, error.retry_after, final=True)
            else:
                onward = self._onward(replica, error, tried)
            if onward is error:
                raise
            raise onward from error
        # What it cost is for `attempts` to settle, which then raises the same error.
        empty = None if batch.replies else MalformedReply("the server's reply holds no choices")
        self._leave(replica, ticket, clock() - started, empty)
        if empty is not None:
            self._onward(replica, empty, tried)
            return batch
        self._answered[replica] = None
        self._tried.pop(call, None)
        return batch

    async def _enter(self, tried: set[Replica], meter: Meter | None) -> tuple[Replica, int]:
        """The replica for a call, with its ticket. Raises BackendError when there is none.

        While this very request makes a trial, its other calls wait for what comes of it.
        """
        while True:
            for replica in self._order(tried):
                ticket = self._admit(replica)
                if ticket is not None:
                    self._current = replica
                    return replica, ticket
            if meter is not None:  # nothing has been sent, whatever becomes of it
                meter.queued(waiting=True)
            if not self._trials:
                raise self._nobody()
            await self._trial_over.wait()
            if meter is not None:
                meter.queued(waiting=False)

    async def _send(
        self,
        replica: Replica,
        ticket: int,
        request: Request,
        meter: Meter | None,
        passing: _Passing | None,
    ) -> Batch:
        told = replica.told
        if told is None and self._told:  # it takes over from one that could something else, maybe
            if meter is not None:
                meter.queued(waiting=True)
            try:
                told = await replica.learn(ticket)
            except BackendError as error:
                if error.fate_known:
                    raise
                said = f"upstream {replica.name!r} could not be asked what it supports"
                raise Unavailable(said) from error
            if meter is not None:
                meter.queued(waiting=False)
        if told is not None:
            request = _fitted(request, told)
        backend = replica.backend
        if passing is not None and isinstance(backend, Relay):
            return await backend.relay(request, meter, passing)
        return await backend.sample(request, meter)

    def _admit(self, replica: Replica) -> int | None:
        ticket = replica.breaker.admit()
        self._trials += ticket is not None and replica.breaker.trying
        return ticket

    def _hear(self, replica: Replica, ticket: int, error: BaseException | None) -> None:
        trial = replica.breaker.trying and replica.breaker.valid(ticket)
        replica.breaker.hear(ticket, error)
        if trial:
            self._trials -= 1
            over, self._trial_over = self._trial_over, asyncio.Event()
            over.set()

    def _leave(
        self, replica: Replica, ticket: int, seconds: float, error: BaseException | None
    ) -> None:
        replica.running -= 1
        replica.used = self._clock()
        self._hear(replica, ticket, error)
        if self._on_call is not None and (error is None or isinstance(error, Exception)):
            self._on_call(replica.name, seconds, error)

    async def _learn(self, replica: Replica) -> Capabilities | None:
        """What ``replica`` can do; None where it may not be asked."""
        ticket = self._admit(replica)
        if ticket is None:
            return None
        try:
            told = await replica.learn(ticket)
        except BaseException as error:
            self._hear(replica, ticket, error)
            raise
        self._hear(replica, ticket, None)
        return told

    # -- which replica, and when ----------------------------------------------------------------

    def _identities(self) -> list[tuple[str, str]]:
        order = self._order(())
        used = self._answered or [next((r for r in order if r.admissible), order[0])]
        return list(dict.fromkeys((r.backend.engine, r.backend.model) for r in used))

    def _order(self, tried: set[Replica] | tuple[()]) -> Sequence[Replica]:
        """All replicas: the one in use, then by preference; those in ``tried`` last."""
        replicas, current = self._replicas, self._current
        if (current is None or current is replicas[0]) and not tried:
            return replicas
        return sorted(replicas, key=lambda r: (r in tried, r is not current))

    def _onward(self, replica: Replica, error: BackendError, tried: set[Replica]) -> BackendError:
        """The error as it leaves: when the next attempt may be made, which goes elsewhere."""
        if not _concerns_replica(error):
            return error
        tried.add(replica)
        heirs = (r for r in self._order(tried) if r not in tried and r.admissible)
        heir = next(heirs, None)
        if heir is None:
            tried.clear()
            return self._later(error, replica)
        if self._current is replica:
            self._current = heir
        if error.retryable:
            return _restated(error, AT_ONCE)
        what = "wants another key" if isinstance(error, Unauthorized) else "has no model to run"
        said = f"upstream {replica.name!r} {what}; another one takes over"
        return Unavailable(said, retry_after=AT_ONCE)

    def _later(self, error: BackendError, replica: Replica | None = None) -> BackendError:
        """``error`` where no fresh replica is left: by how long a pause a retry may help."""
        if not error.retryable:
            return error
        waits = [r.breaker.wait for r in self._replicas]
        if min(waits) == 0:
            if replica is None or replica.admissible:
                return error
            return _restated(error, None)
        busy = self._busy()
        if busy is not None:
            return _restated(error, busy, final=busy > HELD)
        return _restated(error, min(waits), final=True)

    def _nobody(self) -> BackendError:
        """No replica may be asked: an error, retryable only where one is just busy for a little."""
        replicas = self._replicas
        names = ", ".join(r.name for r in replicas)
        busy = self._busy()
        if busy is not None:
            said = f"busy upstreams ({names}): the next try is in {busy:.1f} s"
            return _restated(RateLimited(said), busy, final=busy > HELD)
        wait = min(r.breaker.wait for r in replicas)
        said = f"no upstream can be asked ({names}): the next try is in {wait:.1f} s"
        return _restated(Unavailable(said), wait, final=True)

    def _busy(self) -> float | None:
        """Seconds until the first rate limit is over; None where none is all that is wrong."""
        replicas = self._replicas
        return min((r.breaker.wait for r in replicas if r.breaker.busy), default=None)


class _Passing:
    """Hands chunks on, and remembers that it did."""

    __slots__ = ("listen", "passed")

    def __init__(self, listen: Listen):
        self.listen, self.passed = listen, False

    def __call__(self, chunk: Mapping[str, Any]) -> None:
        self.passed = True
        self.listen(chunk)


def _concerns_replica(error: BackendError) -> bool:
    """Whether another replica may do better."""
    return error.retryable or isinstance(error, ITS_OWN)


def _restated(
    error: BackendError, retry_after: float | None, *, final: bool = False
) -> BackendError:
    """``error`` with another pause; ``final``: not retryable, whatever errors of its kind are."""
    again = type(error)(str(error), retry_after=retry_after)
    if final:
        again.retryable = False
    return again


def _fitted(request: Request, told: Capabilities) -> Request:
    """``request`` within what a replica can do, for one that the request was not made for."""
    unseeded = request.seed is not None and not told.seed
    top = request.logprobs
    if top is not None:
        top = None if told.logprobs is None else min(top, told.logprobs)
    if request.n <= told.n and top == request.logprobs and not unseeded:
        return request
    seed = None if unseeded else request.seed
    return replace(request, n=min(request.n, told.n), seed=seed, logprobs=top)
