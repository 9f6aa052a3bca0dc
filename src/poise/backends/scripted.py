"""The public fake: a back-end whose every reply, delay and failure is written down beforehand.

For tests, documentation and measuring what ``solve`` itself costs. What is drawn comes from
``draws``, how long it takes from ``latency``, what goes wrong from ``faults``::

    Scripted("12")                                        # every draw says 12
    Scripted(["12", "13", "12"])                          # three draws for any question
    Scripted({"q1": ["12", "13"], "q2": ["7"]})           # draws by question id
    Scripted(lambda request, index: f"{request.seed}")    # a function of request and index
    Scripted("12", follow_ups={"p_true": "Yes"})          # further questions, by signal

The same script gives the same replies under any concurrency, because a draw is addressed by its
index (``request.first_index`` + place in the request), never by when it was asked for.

It does not know: models, tokenizers (a token is a word), retries, clocks other than the event
loop's.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from poise.backends import wire
from poise.backends.arriving import Arriving, Chunk, Listen, arrive, chunks, words
from poise.errors import BackendError, Exhausted, Rejected, StreamCut, UsageError
from poise.types import Batch, Capabilities, Meter, Reply, Request, TokenLogprobs, Usage

__all__ = [
    "Draws",
    "Fail",
    "Fault",
    "Faults",
    "FollowUps",
    "Hang",
    "Miscount",
    "NoLogprobs",
    "Scripted",
    "Slow",
]


@dataclass(frozen=True, slots=True)
class Fail:
    """The call raises ``error`` (``Fail(RateLimited, retry_after=2)``, ``Fail(Unauthorized)``, …).

    ``after_tokens`` completion tokens arrive first, spread over ``seconds`` >= 0; with StreamCut
    that is a reply that breaks off. ``retry_after``: seconds, as a server may state them.
    """

    error: type[BackendError] = StreamCut
    after_tokens: int = 0
    seconds: float = 0.0
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Hang:
    """``after_tokens`` tokens arrive, and then nothing, until the call is cancelled."""

    after_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Slow:
    """The reply is right and takes ``seconds`` >= 0 longer; its tokens spread over all of it."""

    seconds: float


@dataclass(frozen=True, slots=True)
class NoLogprobs:
    """The reply comes without the log-probabilities that were asked for."""


@dataclass(frozen=True, slots=True)
class Miscount:
    """The batch holds ``n`` >= 0 replies, however many were asked for."""

    n: int


Fault = Fail | Hang | Slow | NoLogprobs | Miscount
"""Everything that can be made to go wrong with one call."""

Draws = (
    str
    | Sequence[str | Reply]
    | Mapping[str, Sequence[str | Reply]]
    | Callable[[Request, int], str | Reply]
)
"""What is drawn: one text for ever, texts by index, texts by question and index, or a function."""

FollowUps = Mapping[str, str | Reply] | Callable[[Request], str | Reply]
"""What a further question is answered with: by the signal that asks, or a function of the call."""

Faults = Callable[[Request, int], Fault | None] | Sequence[Fault | None]
"""What goes wrong: a function of the request and of how often it was tried before (0 the first
time), or one entry for each call in the order of the calls, none after the last entry."""


class Scripted:
    """A ``Backend`` that plays a script.

    ``draws``: a text is a reply of as many tokens as it has words, cut at ``max_tokens`` of the
    decoding; a ``Reply`` is given as it stands. ``latency``: seconds >= 0 a draw takes, or a
    function of request and index; a batch takes as long as its slowest draw, and with 0 the call
    never gives up the event loop. ``capabilities`` are kept to: more draws in one request than
    ``n`` are rejected, log-probabilities are given only if asked for and possible.

    For tests to look at: ``calls`` every request in order, faulty ones included; ``cancelled`` how
    many calls were cancelled; ``in_flight`` and ``most_in_flight`` how many run, and ever ran, at
    once; ``closed`` whether ``aclose`` was called.
    """

    engine = "scripted"

    def __init__(
        self,
        draws: Draws,
        *,
        follow_ups: FollowUps = {},  # noqa: B006 - never written to
        model: str = "scripted",
        latency: Callable[[Request, int], float] | float = 0.0,
        faults: Faults = (),
        capabilities: Capabilities = Capabilities(n=128, logprobs=20, seed=True),
    ):
        if not callable(latency) and not (math.isfinite(latency) and latency >= 0):
            raise UsageError(f"latency={latency}: must be a finite number of seconds >= 0")
        self.model = model
        self.calls: list[Request] = []
        self.cancelled = self.in_flight = self.most_in_flight = 0
        self.closed = False
        self._draw = _reader(draws)
        self._follow_up = _follow_ups(follow_ups)
        self._latency = latency
        self._faults = faults
        self._capabilities = capabilities
        self._tries: Counter[tuple[str, int, int | None]] = Counter()

    async def capabilities(self) -> Capabilities:
        """What the script was told to be capable of."""
        return self._capabilities

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        """Play one call. Raises BackendError where the script says so or has no more draws.

        Where only the first of several draws exist the batch is short; Exhausted is raised once
        none is left.
        """
        return await self._call(request, meter, None)

    async def relay(
        self,
        request: Request,
        meter: Meter | None,
        listen: Callable[[Mapping[str, Any]], None],
    ) -> Batch:
        """As ``sample``; ``listen`` hears every word, in the time that the script gives it.

        The words of several draws come side by side; the last chunk of each says why it ended.
        """
        return await self._call(request, meter, listen)

    async def aclose(self) -> None:
        """Note that it was closed; a script holds nothing to give back."""
        self.closed = True

    # -- inside ---------------------------------------------------------------------------------

    async def _call(self, request: Request, meter: Meter | None, listen: Listen | None) -> Batch:
        fault = self._fault(request)
        self.calls.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._play(request, fault, meter, listen)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    def _fault(self, request: Request) -> Fault | None:
        if not callable(self._faults):
            place = len(self.calls)
            return self._faults[place] if place < len(self._faults) else None
        call = (request.question_id, request.first_index, request.seed)
        tried = self._tries[call]
        self._tries[call] += 1
        return self._faults(request, tried)

    async def _play(
        self, request: Request, fault: Fault | None, meter: Meter | None, listen: Listen | None
    ) -> Batch:
        if isinstance(fault, Fail | Hang):
            await self._break_off(request, fault, meter, listen)
        if request.n > self._capabilities.n:
            raise Rejected(f"n={request.n}: at most {self._capabilities.n} draws in one request")
        drawn = self._replies(request, fault)
        late = fault.seconds if isinstance(fault, Slow) else 0.0
        arriving = [
            Arriving(
                reply.tokens or 0,
                self._seconds(request, request.first_index + place) + late,
                chunks(reply.raw or {}) if listen is not None else (),
            )
            for place, reply in enumerate(drawn)
        ]
        await arrive(arriving, meter, listen)
        counts = [reply.tokens for reply in drawn]
        known = [n for n in counts if n is not None]
        completion = sum(known) if len(known) == len(counts) else None
        return Batch(tuple(drawn), Usage(_prompt_tokens(request), completion))

    async def _break_off(
        self, request: Request, fault: Fail | Hang, meter: Meter | None, listen: Listen | None
    ) -> None:
        """Let as many tokens arrive as the fault says, and no more of the reply than these."""
        heard: list[Chunk] = []
        if listen is not None and fault.after_tokens:
            said = [chunks(reply.raw or {}) for reply in self._replies(request, None)]
            # The words in turn, without the chunks that say why a reply ended.
            turns = itertools.zip_longest(*(chunks[:-1] for chunks in said))
            heard = [chunk for turn in turns for chunk in turn if chunk is not None]
        seconds = fault.seconds if isinstance(fault, Fail) else 0.0
        part = Arriving(fault.after_tokens, seconds, tuple(heard[: fault.after_tokens]))
        await arrive([part], meter, listen)
        if isinstance(fault, Fail):
            problem = f"scripted fault {fault.error.__name__} on question {request.question_id!r}"
            raise fault.error(problem, retry_after=fault.retry_after)
        await asyncio.Event().wait()

    def _replies(self, request: Request, fault: Fault | None) -> list[Reply]:
        n = fault.n if isinstance(fault, Miscount) else request.n
        top = self._capabilities.logprobs
        if request.logprobs is None or isinstance(fault, NoLogprobs):
            top = None
        elif top is not None:
            top = min(top, request.logprobs)
        drawn: list[Reply] = []
        for index in range(request.first_index, request.first_index + n):
            try:
                asked = self._draw if request.follow_up is None else self._follow_up
                said = asked(request, index)
            except Exhausted:
                if not drawn:
                    raise
                break
            reply = _reply(said, request) if isinstance(said, str) else said
            if top is None:
                reply = replace(reply, logprobs=None)
            elif reply.logprobs is None and reply.text is not None:
                reply = replace(reply, logprobs=_logprobs(reply.text, top))
            if reply.raw is None:
                reply = replace(reply, raw=wire.spoken(reply, len(drawn)))
            drawn.append(reply)
        return drawn

    def _seconds(self, request: Request, index: int) -> float:
        return self._latency(request, index) if callable(self._latency) else self._latency


def _reader(draws: Draws) -> Callable[[Request, int], str | Reply]:
    """The one function that every shape of ``draws`` comes down to."""
    if callable(draws):
        return draws
    if isinstance(draws, str):
        return lambda _request, _index: draws

    def listed(request: Request, index: int) -> str | Reply:
        asked = request.question_id
        if isinstance(draws, Mapping) and asked not in draws:
            raise Rejected(f"the script has no draws for question {asked!r}")
        texts = draws[asked] if isinstance(draws, Mapping) else draws
        if index >= len(texts):
            raise Exhausted(
                f"the script holds only {len(texts)} draws for question {asked!r}; "
                f"draw at most {len(texts)}"
            )
        return texts[index]

    return listed


def _follow_ups(replies: FollowUps) -> Callable[[Request, int], str | Reply]:
    if callable(replies):
        return lambda request, _index: replies(request)

    def listed(request: Request, _index: int) -> str | Reply:
        assert request.follow_up is not None
        name, _ = request.follow_up
        if name not in replies:
            raise Rejected(f"the script has no reply to {name}")
        return replies[name]

    return listed


def _reply(text: str, request: Request) -> Reply:
    said = words(text)
    limit = request.decoding.get("max_tokens")
    if limit is not None and len(said) > limit:
        return Reply("".join(said[:limit]), finish="length", tokens=limit)
    return Reply(text, finish="stop", tokens=len(said))


def _logprobs(text: str, top: int) -> TokenLogprobs:
    """Made-up log-probabilities that depend on each word alone; the word itself ranks first."""
    said = tuple(words(text))
    # From .50 to .99, so that no alternative, each half of what the one before it left, is above.
    probabilities = [0.5 + zlib.crc32(word.encode()) % 50 / 100 for word in said]
    chosen = tuple(math.log(p) for p in probabilities)
    if top == 0:
        return TokenLogprobs(said, chosen)
    listed = tuple(
        (
            (word, math.log(p)),
            *((f"{word}~{rank}", math.log((1 - p) / 2**rank)) for rank in range(1, top)),
        )
        for word, p in zip(said, probabilities, strict=True)
    )
    return TokenLogprobs(said, chosen, listed)


def _prompt_tokens(request: Request) -> int:
    return sum(len(str(message.get("content") or "").split()) for message in request.messages)
