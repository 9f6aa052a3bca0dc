"""Calls under way for one question: reserved, sent, retried, accounted for, cancelled.

``Dispatcher.launch`` sends draws, several to a request where the back-end can, and each call runs
as a task. ``wait`` hands back what arrived; ``cancel`` ends the rest and charges it. It does
not know: answers, votes, stop rules.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from poise.attempts import call_through
from poise.errors import BackendError, CapReached, MalformedReply, UsageError
from poise.ledger import Ledger, Reservation
from poise.spend import prompt_bound
from poise.types import Arm, Capabilities, Message, Question, Reply, Request

__all__ = [
    "MAX_FAILURES",
    "ROOM_EVERY",
    "Arrival",
    "Dispatcher",
    "OnReserve",
    "bounds",
    "derive_seed",
]

ROOM_EVERY = 0.02
"""Seconds between looks at a shared budget whose room others hold."""

MAX_FAILURES = 3
"""Calls of one question that may fail for good before no more is drawn."""

OnReserve = Callable[[str, Reservation], None]
"""Told of each reservation with the question's id, before the call is sent."""


def derive_seed(seed: int, question_id: str, index: int) -> int:
    """A 31-bit seed for draw ``index`` of a question: draws differ, and the same call repeats.

    Servers take signed 32-bit seeds at least; where one request draws several, they count up from
    the one given.
    """
    digest = hashlib.blake2b(f"{seed}\0{question_id}\0{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) & 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Arrival:
    """One draw that came to its end: a reply, or the error that kept it from coming."""

    index: int
    reply: Reply | None
    error: BackendError | CapReached | None = None
    seconds: float = 0.0
    seed: int | None = None


def bounds(arm: Arm, question: Question) -> tuple[int, int]:
    """Upper bounds on the prompt and completion tokens of one draw."""
    # Tools and schemas travel in the decoding and are part of what the model reads.
    extras = len(json.dumps(dict(arm.decoding), default=str).encode())
    prompt = prompt_bound(arm.prompt.messages(question)) + extras
    return prompt, int(arm.decoding.get("max_tokens", 0))


class Dispatcher:
    """The calls of one question on one arm.

    ``attempts``: how often a retryable failure is tried in all. ``error`` is the last final
    failure; ``failures`` counts calls that failed for good.
    """

    def __init__(
        self,
        question: Question,
        arm: Arm,
        capabilities: Capabilities,
        ledger: Ledger,
        *,
        seed: int,
        attempts: int,
        logprobs: int | None,
        on_reserve: OnReserve | None,
    ):
        self._question, self._arm, self._ledger = question, arm, ledger
        self._capabilities, self._seed, self._attempts = capabilities, seed, attempts
        self._on_reserve = on_reserve
        self._messages = arm.prompt.messages(question)
        self._prompt_bound, self._max_tokens = bounds(arm, question)
        _check_caps(arm, self._messages, ledger)
        top = capabilities.logprobs
        self._logprobs = None if logprobs is None or top is None else min(logprobs, top)
        self._tasks: dict[asyncio.Task[list[Arrival]], Reservation] = {}
        self.launched = 0
        self.failures = 0
        self.rounds = 0
        self.error: BackendError | CapReached | None = None

    @property
    def running(self) -> bool:
        """Whether any call is under way."""
        return bool(self._tasks)

    @property
    def may_get_room(self) -> bool:
        """Whether one more draw will fit once calls of other questions have been settled."""
        bounds = self._prompt_bound, self._max_tokens
        return self._ledger.room(1, *bounds, once_settled=True) > 0

    def launch(self, draws: int) -> int:
        """Send up to ``draws`` more draws, as far as the caps leave room; returns how many."""
        room = self._ledger.room(draws, self._prompt_bound, self._max_tokens)
        left = room
        while left > 0:
            n = min(left, self._capabilities.n)
            reservation = self._reserve(n)
            call = self._call(self.launched, n, reservation)
            self._tasks[asyncio.create_task(call)] = reservation
            self.launched += n
            left -= n
        self.rounds += room > 0
        return room

    async def wait(self, seconds: float | None) -> list[Arrival]:
        """What arrived next; empty when ``seconds`` ran out first (None: no limit)."""
        done, _ = await asyncio.wait(
            self._tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            del self._tasks[task]
        arrivals = [arrival for task in done for arrival in task.result()]
        for task in done:
            *_, last = task.result()
            if last.error is not None:
                self.error = last.error
                self.failures += all(arrival.reply is None for arrival in task.result())
        return sorted(arrivals, key=lambda arrival: arrival.index)

    async def cancel(self) -> None:
        """End every call under way; each is charged as far as it got."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reservation in self._tasks.values():
            if reservation.open:  # its task had not begun
                self._ledger.release(reservation, sent=False)
        self._tasks.clear()

    # -- inside ---------------------------------------------------------------------------------

    def _reserve(self, n: int) -> Reservation:
        reservation = self._ledger.reserve(n, self._prompt_bound, self._max_tokens)
        if self._on_reserve is not None:
            self._on_reserve(self._question.id, reservation)
        return reservation

    async def _call(self, first: int, n: int, reservation: Reservation) -> list[Arrival]:
        """One request through to its last attempt, as arrivals of all its draws."""
        # A seed stated in the decoding is the client's own, and goes upstream as it is.
        seeded = self._capabilities.seed and self._arm.decoding.get("seed") is None
        seed = derive_seed(self._seed, self._question.id, first) if seeded else None
        request = Request(
            self._messages,
            self._arm.decoding,
            n=n,
            seed=seed,
            logprobs=self._logprobs,
            question_id=self._question.id,
            first_index=first,
        )
        started = time.monotonic()
        try:
            batch = await call_through(
                self._arm.backend,
                self._ledger,
                request,
                reservation,
                again=lambda: self._reserve(n),
                attempts=self._attempts,
            )
        except (BackendError, CapReached) as error:
            return [Arrival(index, None, error) for index in range(first, first + n)]
        seconds = time.monotonic() - started
        replies = batch.replies[:n]
        arrivals = [
            Arrival(first + i, reply, None, seconds, seed) for i, reply in enumerate(replies)
        ]
        short = MalformedReply(f"asked for {n} choices and got {len(replies)}")
        missing = range(first + len(replies), first + n)
        return arrivals + [Arrival(index, None, short) for index in missing]


def _check_caps(arm: Arm, messages: tuple[Message, ...], ledger: Ledger) -> None:
    """Raise UsageError for a decoding that has its own number of draws, or breaks a cap's bound."""
    if "n" in arm.decoding or "best_of" in arm.decoding:
        raise UsageError("n is no part of an arm's decoding: the stop rule says how many draws")
    if ledger.caps_usd and arm.price is None:
        raise UsageError("a cap in dollars needs a dated price for the arm's model")
    if not ledger.caps_tokens:
        return
    if "max_tokens" not in arm.decoding or "max_completion_tokens" in arm.decoding:
        raise UsageError("a cap on tokens or dollars needs max_tokens in the arm's decoding")
    if not all(_is_text(message.get("content")) for message in messages):
        raise UsageError("a cap on tokens or dollars cannot bound messages that are not plain text")


def _is_text(content: object) -> bool:
    """Whether a message's content is text, in one piece or in parts; or nothing."""
    if isinstance(content, list):
        return all(isinstance(part, dict) and part.get("type") == "text" for part in content)
    return isinstance(content, str | None)
