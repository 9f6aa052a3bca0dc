"""Further questions about a question or its samples: asked for signals, charged like any call.

Equal questions are asked once, whatever number of samples they are about: P(True) that shows the
answer alone costs one short call for each distinct answer. What cannot be had (log-probabilities
that the server does not return, no room under a cap, a failure, the deadline) is missing with its
reason, and never an error. It does not know what a signal makes of a reply.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from poise.attempts import call_through
from poise.dispatch import ROOM_EVERY, OnReserve
from poise.errors import BackendError, CapReached
from poise.ledger import Ledger, Reservation
from poise.signals import Ask, AskingSignal
from poise.spend import prompt_bound
from poise.types import Arm, Capabilities, FollowUp, Question, Request, Sample

__all__ = ["Asked", "Asker"]

OF_SERVERS = frozenset(
    {"chat_template", "chat_template_kwargs", "reasoning", "reasoning_effort", "include_reasoning"}
    | {"enable_thinking", "thinking", "thinking_budget", "think"}
    | {"provider", "service_tier", "user", "priority", "lora", "cache_prompt", "id_slot"}
)
"""Settings that a follow-up shares with the draws: how the model is talked to and who serves it.

All others shape answers (samplers, penalties, lengths, schemas, tools, and whatever a server adds
to these next), and a follow-up has a form of its own, so they are named here to be kept, not to be
dropped. Headers belong to the back-end and are no part of a decoding.
"""

FEWEST_LISTED = 2
"""With fewer alternatives a token no follow-up's reply can be weighed against another."""


@dataclass(frozen=True, slots=True)
class Asked:
    """``samples`` with the replies about them, replies ``about`` the question, what is ``missing``.

    ``missing`` names signals, with the reason.
    """

    samples: tuple[Sample, ...]
    about: Mapping[str, FollowUp] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Job:
    """One call, and the samples it is about (places; none: it is about the question).

    ``key``: what is asked, in words; ``reply`` is there already where it was asked before.
    """

    key: str
    signal: AskingSignal
    ask: Ask
    places: list[int] = field(default_factory=list)
    reply: FollowUp | None = None
    problem: str | None = "the deadline came first"


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks about one question on one arm; ``attempts`` and ``on_reserve`` as for ``solve``.

    ``known``: replies by what was asked, so that a later sample with the same answer costs nothing.
    """

    question: Question
    arm: Arm
    capabilities: Capabilities
    ledger: Ledger
    attempts: int
    on_reserve: OnReserve | None = None
    known: dict[str, FollowUp] = field(default_factory=dict)

    async def ask(
        self,
        signals: Iterable[AskingSignal],
        samples: Sequence[Sample],
        seconds_left: float | None = None,
    ) -> Asked:
        """Ask what ``signals`` want to know of every sample in ``samples``, in parallel.

        What is there already is not asked again. ``seconds_left`` None: no deadline. A defect of
        the back-end (no BackendError) is raised once all other calls have been cut and charged.
        """
        jobs = self._jobs(signals, samples)
        await self._all([job for job in jobs if job.reply is None], samples, seconds_left)
        replies: list[dict[str, FollowUp]] = [dict(sample.followups) for sample in samples]
        about: dict[str, FollowUp] = {}
        missing: dict[str, str] = {}
        for job in jobs:
            if job.reply is None:
                missing[job.signal.name] = job.problem or ""
                continue
            self.known[job.key] = job.reply
            if not job.places:
                about[job.signal.name] = job.reply
            for place in job.places:
                replies[place][job.signal.name] = job.reply
        given = zip(samples, replies, strict=True)
        return Asked(tuple(replace(one, followups=kept) for one, kept in given), about, missing)

    def _jobs(self, signals: Iterable[AskingSignal], samples: Sequence[Sample]) -> list[_Job]:
        jobs: dict[str, _Job] = {}

        def job(signal: AskingSignal, sample: Sample | None) -> _Job | None:
            ask = signal.ask(self.question, sample)
            if ask is None:
                return None
            words = json.dumps([dict(message) for message in ask.messages])
            key = f"{signal.name}\0{words}"
            return jobs.setdefault(key, _Job(key, signal, ask, reply=self.known.get(key)))

        for signal in signals:
            if signal.level == "question":
                job(signal, None)
                continue
            for place, sample in enumerate(samples):
                if signal.name not in sample.followups and (one := job(signal, sample)):
                    one.places.append(place)
        return list(jobs.values())

    async def _all(
        self, jobs: Sequence[_Job], samples: Sequence[Sample], seconds_left: float | None
    ) -> None:
        """Every job at once; none is under way any more when this returns or raises."""
        calls = [asyncio.create_task(self._through(job, samples)) for job in jobs]
        try:
            async with asyncio.timeout(seconds_left) as limit:
                await asyncio.gather(*calls)
        except TimeoutError:
            if not limit.expired():  # a defect of the back-end, and not our deadline
                raise
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def _through(self, job: _Job, samples: Sequence[Sample]) -> None:
        """Ask, and note the reply or what kept it from coming."""
        ask, top = job.ask, self.capabilities.logprobs
        if ask.top_logprobs is not None and top is None:
            job.problem = "the server returns no log-probabilities"
            return
        if ask.top_logprobs is not None and (top or 0) < min(ask.top_logprobs, FEWEST_LISTED):
            job.problem = f"the server lists {top} alternatives a token, and two are needed"
            return
        request = Request(
            ask.messages,
            follow_up_decoding(self.arm.decoding, ask.max_tokens),
            logprobs=None if ask.top_logprobs is None else min(ask.top_logprobs, top or 0),
            question_id=self.question.id,
            follow_up=(job.signal.name, samples[job.places[0]].index if job.places else None),
        )
        try:
            batch = await call_through(
                self.arm.backend,
                self.ledger,
                request,
                await self._once_there_is_room(request),
                again=lambda: self._reserve(request),
                attempts=self.attempts,
            )
        except (BackendError, CapReached) as error:
            job.problem = str(error)
            return
        reply = batch.replies[0]
        # What was stored says itself which wording it replies to, or leaves it open.
        extra = reply.extra if reply.answered else {"version": job.signal.version}
        job.reply = FollowUp(reply.text, reply.logprobs, extra)

    async def _once_there_is_room(self, request: Request) -> Reservation:
        """A reservation, waited for while other calls hold what it wants. Raises CapReached."""
        while True:
            try:
                return self._reserve(request)
            except CapReached:
                if not self.ledger.room(1, *_bounds(request), once_settled=True, follow_up=True):
                    raise
            await asyncio.sleep(ROOM_EVERY)

    def _reserve(self, request: Request) -> Reservation:
        reservation = self.ledger.reserve(1, *_bounds(request), follow_up=True)
        if self.on_reserve is not None:
            self.on_reserve(self.question.id, reservation)
        return reservation


def _bounds(request: Request) -> tuple[int, int]:
    """Upper bounds on the prompt and completion tokens of a follow-up."""
    extras = len(json.dumps(dict(request.decoding), default=str).encode())
    return prompt_bound(request.messages) + extras, int(request.decoding["max_tokens"])


def follow_up_decoding(decoding: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
    """How an arm's further questions are decoded: greedily, with the settings of ``OF_SERVERS``."""
    kept = {name: value for name, value in decoding.items() if name in OF_SERVERS}
    return {**kept, "temperature": 0.0, "max_tokens": max_tokens}
