"""One request through: caps of the key, the loop, further choices, the record, what runs behind.

::

    plan -> lease of the key's caps -> solve -> further choices -> record -> Answered
                                                              -> behind it: shadow, audit

Cancelling the awaiting task cancels every call upstream. It does not know HTTP.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from poise.config import Serve
from poise.dispatch import bounds
from poise.errors import CapReached
from poise.further import Further, draw_further
from poise.ledger import Ledger
from poise.serve.aliases import Aliases
from poise.serve.background import Background
from poise.serve.budgets import Budgets, Share
from poise.serve.keys import Caller
from poise.serve.listening import Listen
from poise.serve.metrics import Metrics
from poise.serve.planning import Plan, plan
from poise.serve.recording import audit_row, decision_row
from poise.serve.refusals import Refusal, refusal
from poise.serve.replies import Answered, Choice
from poise.serve.wire import Asked
from poise.solve import Setting, solve
from poise.spend import Limits, Spend
from poise.store import Amounts, Decision, Store
from poise.types import Result, Sample, StopReason

__all__ = ["PREFIX", "Answering"]

PREFIX = "chatcmpl-"
"""What the ids of replies begin with, as clients expect."""

POLICY_STOPS = {StopReason.SURE, StopReason.FUTILE, StopReason.CONSENSUS}
"""Stops that a policy chose, and that an audit may therefore look behind."""


@dataclass(slots=True)
class Answering:
    """What answering needs; one for each worker. ``store`` None: nothing is recorded."""

    aliases: Aliases
    budgets: Budgets | None
    store: Store | None
    metrics: Metrics
    background: Background
    serve: Serve
    secret: bytes
    content: bool = False

    async def answer(
        self, asked: Asked, caller: Caller, id: str, listen: Listen | None = None
    ) -> Answered:
        """Answer ``asked`` under ``id``; ``listen`` hears the first sample's chunks as they arrive.

        Raises Refusal where there is no answer to give.
        """
        heard = False

        def hear(chunk: Mapping[str, Any]) -> None:
            nonlocal heard
            heard = True
            assert listen is not None
            listen(chunk)

        served = self.aliases.find(asked.model)
        bounded = caller.key is not None and (caller.key.tokens or caller.key.usd) is not None
        planned = plan(
            asked, served, self.serve.caps, None if listen is None else hear, bounded=bounded
        )
        ledger, share = await self._ledger(planned, caller)
        started = time.time()
        try:
            result, further = await self._solve(planned, ledger, id)
        except BaseException:  # also where the client has gone: what was spent is spent
            self.metrics.of(served.name).spent(ledger.spend)
            raise
        finally:
            if share is not None:
                share.end()
        if further.samples:
            result = replace(result, spend=result.spend + further.spend)
        answered = Answered(
            id=f"{PREFIX}{id}",
            created=int(started),
            model=served.name,
            result=result,
            choices=_choices(result, further, planned.n, streamed=heard),
            recorded=False,
            mode=served.settings.mode,
            plain=planned.shadow,
            abstain_text=served.settings.abstain_text,
        )
        audited = self._is_audited(planned, result)
        row = self._row(planned, result, caller, started, audited=audited)
        if audited and not self.background.spawn(self._audit(planned, row, result)):
            row = replace(row, propensity=None)  # its chance depended on the load
        recorded, problem = await self._record(row)
        if self.store is not None and result.samples and planned.shadow:
            self.background.spawn(self._shadow(planned, caller, row))
        if not result.samples:
            self.metrics.of(served.name).spent(result.spend)
            raise self._no_sample(planned, caller, result) from result.error
        return replace(answered, recorded=recorded, record_problem=problem)

    # -- inside ---------------------------------------------------------------------------------

    async def _ledger(self, planned: Plan, caller: Caller) -> tuple[Ledger, Share | None]:
        """A ledger for this request alone, and its share of the caps of the caller's key."""
        share: Share | None = None
        if self.budgets is not None and caller.key is not None:
            share = await self.budgets.ledger(caller.key, *_bound(planned), planned.served.price)
        limits = replace(planned.limits, max_seconds=None)
        return Ledger(limits, planned.served.price, share), share

    async def _solve(self, planned: Plan, ledger: Ledger, id: str) -> tuple[Result, Further]:
        setting = Setting(
            seed=planned.seed,
            limits=Limits(max_seconds=planned.limits.max_seconds),
            logprobs=planned.logprobs,
            profile=None if planned.shadow else planned.profile,
        )
        question, arm = planned.question, planned.arm
        further, ends = Further(), _end(planned.limits)
        solving = solve(question, arm, planned.policy, setting, budget=ledger, id=id)
        try:
            if planned.n > 1 and question.kind is None:  # nothing is decided: all at once
                drawing = _further(planned, planned.n - 1, (), ledger, ends)
                result, further = await _both(solving, drawing)
            else:
                result = await solving
                missing = planned.n - len(result.samples)
                if missing > 0 and result.samples:
                    further = await _further(planned, missing, result.samples, ledger, ends)
        except Exception as error:
            raise refusal(error) from error
        if result.samples and planned.n > len(result.samples) + len(further.samples):
            failed = further.error
            if failed is not None and not isinstance(failed, CapReached):
                raise refusal(failed) from failed
            raise _no_room(planned, result, further)
        return result, further

    def _no_sample(self, planned: Plan, caller: Caller, result: Result) -> Refusal:
        """Why there is nothing to reply with."""
        if result.error is not None and not isinstance(result.error, CapReached):
            return refusal(result.error)
        if self.budgets is not None and caller.key is not None:
            refused = self.budgets.refusal(caller.key, _bound(planned)[0])
            if refused is not None:
                return refused
        if result.stop is StopReason.DEADLINE:
            return _late("no sample arrived")
        return Refusal(
            400,
            "the caps leave no room for a single sample; raise max_tokens or max_usd, or ask for a"
            " shorter reply",
            code="cap_reached",
        )

    def _is_audited(self, planned: Plan, result: Result) -> bool:
        """Whether the question is drawn on to the cap: by lot, where the policy chose its stop."""
        rate = planned.served.settings.audit_rate
        drawn = random.random() < rate  # noqa: S311 - a lot, no secret
        return self.store is not None and drawn and _auditable(planned, result)

    def _row(
        self, planned: Plan, result: Result, caller: Caller, created: float, *, audited: bool
    ) -> Decision:
        rate = planned.served.settings.audit_rate
        return decision_row(
            planned,
            result,
            caller,
            self.secret,
            created=created,
            mode="plain" if planned.shadow else "live",
            propensity=(rate if audited else 1.0 - rate) if _auditable(planned, result) else None,
            content=self.content,
        )

    async def _record(self, row: Decision) -> tuple[bool, str | None]:
        if self.store is None:
            return False, "no store is configured"
        recorded = await self.store.record(row)
        self.metrics.recorded(recorded)
        return recorded, None if recorded else self.store.problem

    async def _shadow(self, planned: Plan, caller: Caller, plain: Decision) -> None:
        """What the alias would have answered, recorded beside the plain reply."""
        planned = planned.afresh()
        limits = Limits(max_seconds=planned.limits.max_seconds)
        setting = Setting(planned.seed, limits, logprobs=planned.logprobs, profile=planned.profile)
        budget = _behind(planned, plain.spend)
        result = await solve(planned.question, planned.arm, planned.whole, setting, budget=budget)
        row = decision_row(
            planned,
            result,
            caller,
            self.secret,
            created=time.time(),
            mode="shadow",
            parent=plain.id,
            content=self.content,
        )
        await self._record(row)
        self.metrics.of(planned.served.name).behind("shadow", result.spend, result)

    async def _audit(self, planned: Plan, live: Decision, result: Result) -> None:
        """The same question drawn on to the cap, recorded beside the decision."""
        left = _most_samples(planned) - len(result.samples)
        planned = planned.afresh()
        ledger = _behind(planned, result.spend)
        further = await _further(planned, left, result.samples, ledger)
        row = audit_row(live, uuid.uuid4().hex, result, further, wanted=left)
        await self._record(replace(row, engine=planned.arm.backend.engine))
        self.metrics.of(planned.served.name).behind("audit", further.spend)


def _behind(planned: Plan, spent: Spend) -> Ledger:
    """A ledger for work behind the reply: what one request may take, less what it took.

    The caller's key pays for none of it: shadows and audits are the operator's.
    """
    ledger = Ledger(replace(planned.limits, max_seconds=None), planned.served.price)
    ledger.absorb(spent)
    return ledger


async def _further(
    planned: Plan,
    count: int,
    drawn: Sequence[Sample],
    ledger: Ledger | None,
    ends: float | None = None,
) -> Further:
    """Further samples; raises Refusal, 504, where they take until ``ends`` on the loop's clock."""
    try:
        async with asyncio.timeout_at(ends):
            return await draw_further(
                planned.question,
                planned.arm,
                count,
                drawn,
                seed=planned.seed,
                logprobs=planned.logprobs,
                budget=ledger,
            )
    except TimeoutError:
        raise _late(f"not all {planned.n} choices arrived") from None


def _end(limits: Limits) -> float | None:
    """When time is up, by the clock of the event loop; None: never."""
    seconds = limits.max_seconds
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


def _late(what: str) -> Refusal:
    said = f"{what} before the deadline; allow more seconds"
    return Refusal(504, said, "server_error", "deadline")


async def _both(
    solving: Coroutine[Any, Any, Result], drawing: Coroutine[Any, Any, Further]
) -> tuple[Result, Further]:
    try:
        async with asyncio.TaskGroup() as group:
            result, further = group.create_task(solving), group.create_task(drawing)
    except ExceptionGroup as both:  # the one that failed first has cancelled the other
        raise both.exceptions[0] from None
    return result.result(), further.result()


def _auditable(planned: Plan, result: Result) -> bool:
    """Whether the policy chose this stop, and there was more to draw."""
    return (
        not planned.shadow
        and result.stop in POLICY_STOPS
        and len(result.samples) < _most_samples(planned)
    )


def _most_samples(planned: Plan) -> int:
    """The most samples that the question may be drawn to."""
    most, cap = planned.policy.stop.max_samples, planned.limits.max_samples
    return most if cap is None else min(most, cap)


def _bound(planned: Plan) -> tuple[Amounts, Amounts]:
    """Upper bounds on what one sample takes of the key's caps, and on what the request may."""
    prompt, completion = bounds(planned.arm, planned.question)
    draws = max(planned.policy.stop.max_samples, planned.n)
    if planned.limits.max_samples is not None:
        draws = min(draws, planned.limits.max_samples)
    price = planned.served.price
    usd = 0.0 if price is None else prompt * price.prompt + completion * price.completion
    one = Amounts(1, prompt + completion, usd)
    return one, Amounts(draws, draws * one.tokens, draws * usd)


def _choices(result: Result, further: Further, n: int, *, streamed: bool) -> tuple[Choice, ...]:
    """The choices to reply with; the answer itself where one is wanted."""
    samples = (*result.samples, *further.samples)
    clusters = (*result.clusters, *further.clusters)
    if result.decision != "answer" or not samples:
        return (Choice(None, result.probability, None),) * n
    leading = next((place for place, one in enumerate(samples) if one.answer == result.answer), 0)
    if result.answer is None:
        leading = 0
    places = [0 if streamed else leading] if n == 1 else list(range(n))
    return tuple(_choice(result, samples, clusters, place, clusters[leading]) for place in places)


def _choice(
    result: Result,
    samples: tuple[Any, ...],
    clusters: tuple[int | None, ...],
    place: int,
    leader: int | None,
) -> Choice:
    sample, same = samples[place], clusters[place] == leader
    probability = result.probability
    if same or probability is None:
        return Choice(sample, probability if same else None, sample.answer)
    return Choice(sample, None, sample.answer, at_most=1.0 - probability)


def _no_room(planned: Plan, result: Result, further: Further) -> Refusal:
    drawn = len(result.samples) + len(further.samples)
    return Refusal(
        400,
        f"the caps left room for {drawn} of {planned.n} choices; ask for fewer",
        code="cap_reached",
        param="n",
    )
