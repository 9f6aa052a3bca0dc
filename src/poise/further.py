"""More samples of a question that is decided already: further choices for a client, audits.

The decision and its probability stay what they were at the policy's stop; what is drawn here only
stands beside it. Answers join the decided question's clusters. It does not know why more is wanted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from poise.attempts import ask_capabilities
from poise.dispatch import MAX_FAILURES, Arrival, Dispatcher
from poise.errors import BackendError
from poise.ledger import Ledger
from poise.prefix import Prefix
from poise.spend import Spend
from poise.types import Arm, Question, Reply, Sample

__all__ = ["Further", "draw_further"]


@dataclass(frozen=True, slots=True)
class Further:
    """``samples`` that arrived, in dispatch order; ``clusters`` numbered on from the decision's.

    ``error``: the last call's failure, where fewer came than were wanted.
    """

    samples: tuple[Sample, ...] = ()
    clusters: tuple[int | None, ...] = ()
    spend: Spend = Spend()
    error: Exception | None = None


async def draw_further(
    question: Question,
    arm: Arm,
    count: int,
    drawn: Sequence[Sample] = (),
    *,
    seed: int = 0,
    attempts: int = 4,
    logprobs: int | None = None,
    budget: Ledger | None = None,
) -> Further:
    """Draw up to ``count`` more samples, as far as ``budget`` leaves room.

    ``drawn``: the samples of the decision, whose clusters are numbered on. Seeds differ from those
    of a decision with the same ``seed``. A back-end's failure does not raise: fewer come, with
    ``error``. Cancelling ends what is under way and charges it.
    """
    started = time.monotonic()
    ledger = Ledger(price=arm.price, parent=budget)
    try:
        capabilities = await ask_capabilities(arm.backend, attempts)
    except BackendError as error:
        return Further(error=error)
    calls = Dispatcher(
        replace(question, id=f"{question.id}/further"),
        arm,
        capabilities,
        ledger,
        seed=seed,
        attempts=attempts,
        logprobs=logprobs,
        on_reserve=None,
    )
    prefix = Prefix(question, in_order=True)
    prefix.arrive([_again(place, sample) for place, sample in enumerate(drawn)])
    start = len(drawn)
    try:
        calls.launch(count)
        while calls.running and calls.failures < MAX_FAILURES:
            arrived = await calls.wait(None)
            prefix.arrive([replace(one, index=one.index + start) for one in arrived])
    finally:
        await calls.cancel()
    while await prefix.advance():
        pass
    return Further(
        tuple(prefix.samples[start:]),
        tuple(prefix.members[start:]),
        replace(ledger.spend, seconds=time.monotonic() - started),
        calls.error,
    )


def _again(place: int, sample: Sample) -> Arrival:
    """A sample that was drawn before, as if it had just arrived with its answer read."""
    reply = Reply(sample.text, answer=sample.answer, answered=True, raw=sample.raw)
    return Arrival(place, reply)
