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
from poise.dispatch import OnReserve
from poise.errors import BackendError, CapReached
from poise.ledger import Ledger, Reservation
from poise.signals import Ask, AskingSignal
from poise.spend import prompt_bound
from poise.types import Arm, Capabilities, FollowUp, Question, Request, Sample

__all__ = ["Asked", "Asker"]

OF_ANSWERS = frozenset(
    {"max_tokens", "max_completion_tokens", "stop", "tools", "tool_choice", "response_format"}
    | {"temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "logit_bias", "grammar"}
    | {"presence_penalty", "frequency_penalty", "repeat_penalty", "ignore_eos", "json_schema"}
)
"""Settings that shape an arm's answers; a follow-up has its own form and is not drawn at random."""


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
    """One call, and the samples it is about (places; none: it is about the question)."""

    signal: AskingSignal
    ask: Ask
    places: list[int] = field(default_factory=list)
    reply: FollowUp | None = None
    problem: str | None = "the deadline came first"


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks about one question on one arm; ``attempts`` and ``on_reserve`` as for ``solve``."""

    question: Question
    arm: Arm
    capabilities: Capabilities
    ledger: Ledger
    attempts: int
    on_reserve: OnReserve | None = None

    async def ask(
        self,
        signals: Iterable[AskingSignal],
        samples: Sequence[Sample],
        seconds_left: float | None = None,
    ) -> Asked:
        """Ask what ``signals`` want to know of every sample in ``samples``, in parallel.

        What is there already is not asked again. ``seconds_left`` None: no deadline.
        """
        jobs = self._jobs(signals, samples)
        try:
            async with asyncio.timeout(seconds_left):
                await asyncio.gather(*(self._through(job, samples) for job in jobs))
        except TimeoutError:
            pass  # the jobs that were cut say so
        replies: list[dict[str, FollowUp]] = [dict(sample.followups) for sample in samples]
        about: dict[str, FollowUp] = {}
        missing: dict[str, str] = {}
        for job in jobs:
            if job.reply is None:
                missing[job.signal.name] = job.problem or ""
                continue
            if not job.places:
                about[job.signal.name] = job.reply
            for place in job.places:
                replies[place][job.signal.name] = job.reply
        given = zip(samples, replies, strict=True)
        return Asked(tuple(replace(one, followups=kept) for one, kept in given), about, missing)

    def _jobs(self, signals: Iterable[AskingSignal], samples: Sequence[Sample]) -> list[_Job]:
        jobs: dict[str, _Job] = {}
        for signal in signals:
            if signal.level == "question":
                ask = signal.ask(self.question, None)
                if ask is not None:
                    jobs[signal.name] = _Job(signal, ask)
                continue
            for place, sample in enumerate(samples):
                if signal.name in sample.followups:
                    continue
                ask = signal.ask(self.question, sample)
                if ask is not None:
                    words = json.dumps([dict(message) for message in ask.messages])
                    job = jobs.setdefault(f"{signal.name}\0{words}", _Job(signal, ask))
                    job.places.append(place)
        return list(jobs.values())

    async def _through(self, job: _Job, samples: Sequence[Sample]) -> None:
        """Ask, and note the reply or what kept it from coming."""
        ask = job.ask
        if ask.top_logprobs is not None and self.capabilities.logprobs is None:
            job.problem = "the server returns no log-probabilities"
            return
        top = self.capabilities.logprobs
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
                self._reserve(request),
                again=lambda: self._reserve(request),
                attempts=self.attempts,
            )
        except (BackendError, CapReached) as error:
            job.problem = str(error)
            return
        reply = batch.replies[0]
        job.reply = FollowUp(reply.text, reply.logprobs, {"version": job.signal.version})

    def _reserve(self, request: Request) -> Reservation:
        extras = len(json.dumps(dict(request.decoding), default=str).encode())
        prompt = prompt_bound(request.messages) + extras
        reservation = self.ledger.reserve(
            1, prompt, int(request.decoding["max_tokens"]), follow_up=True
        )
        if self.on_reserve is not None:
            self.on_reserve(self.question.id, reservation)
        return reservation


def follow_up_decoding(decoding: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
    """How an arm's further questions are decoded: greedily, keeping what is no matter of answers.

    A server's own switches (a chat template's arguments, a thinking budget) are kept.
    """
    kept = {name: value for name, value in decoding.items() if name not in OF_ANSWERS}
    return {**kept, "temperature": 0.0, "max_tokens": max_tokens}
