"""The loop: one question in, one result out.

::

    question -> draws -> answers -> prefix -> stop rule -> more draws, or stop
             -> vote -> exit rule -> follow-ups about the leader -> probability

Samples run in parallel, and decisions are made on the prefix in dispatch order: a later finisher
waits for the earlier. The first to finish are the short ones, and short replies tend to be right,
so deciding in the order of completion is biased and cannot be repeated. (The setting
``order="completion"`` does it all the same, under another arm key.) The result is the first prefix
at which the stop rule says stop; what is still under way then cannot change it, and is cancelled.

It does not know: gold answers, files, which back-end it talks to.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from poise.asking import Asker
from poise.attempts import ask_capabilities
from poise.dispatch import MAX_FAILURES, ROOM_EVERY, Dispatcher, OnReserve
from poise.errors import BackendError, CapReached, Exhausted, UsageError
from poise.ledger import Ledger
from poise.policies import Fixed, Policy
from poise.prefix import Prefix
from poise.profile import Profile
from poise.signals import AskingSignal, asking, logprobs_for
from poise.spend import Limits
from poise.types import Arm, Draw, Question, Result, Stop, StopReason
from poise.verdict import Verdict
from poise.votes import Majority, Vote

__all__ = ["Setting", "solve", "solve_many", "solve_sync"]


@dataclass(frozen=True, slots=True)
class Setting:
    """How questions are solved, apart from arm and policy.

    ``seed`` fixes every draw that the back-end lets be fixed. ``limits`` are hard caps for each
    question. ``attempts``: how often a retryable failure is tried in all. ``logprobs``: None asks
    for none, 0 for the chosen tokens', k for the top k as well. ``profile`` makes a probability of
    what it applies to; what it wants to know is asked about the leader. ``ask``: signals whose
    follow-ups are asked about every sample instead, for pools. ``on_reserve`` hears of each
    reservation before its call is sent.
    """

    seed: int = 0
    limits: Limits = Limits()
    order: Literal["dispatch", "completion"] = "dispatch"
    attempts: int = 4
    logprobs: int | None = None
    profile: Profile | None = None
    ask: tuple[AskingSignal, ...] = ()
    on_reserve: OnReserve | None = None

    def __post_init__(self) -> None:
        if self.order not in {"dispatch", "completion"}:
            raise UsageError(f"order {self.order!r}: choose dispatch or completion")
        if self.attempts < 1:
            raise UsageError(f"attempts={self.attempts}: must be at least 1")


async def solve(
    question: Question,
    arm: Arm,
    policy: Policy,
    setting: Setting = Setting(),
    *,
    vote: Vote = Majority(),
    budget: Ledger | None = None,
    id: str | None = None,
) -> Result:
    """Sample ``question`` on ``arm`` until ``policy`` stops, and answer.

    ``id``: the result's; None makes one. ``budget``: a ledger shared with other questions; its
    caps hold as well as the setting's.
    A back-end's failure does not raise: the result then has ``stop`` error and the reason, with an
    answer if the samples that did arrive allow one.
    """
    started = time.monotonic()
    ledger = Ledger(setting.limits, arm.price, budget)
    policy, single = _for_draws(question, arm, policy)
    needs = tuple(dict.fromkeys((*policy.stop.needs, *vote.needs)))
    prefix = Prefix(question, in_order=setting.order == "dispatch", needs=needs)
    verdict = Verdict(question, arm, policy, vote, setting.order, single, setting.profile, id)
    seconds = setting.limits.max_seconds
    deadline = None if seconds is None else started + seconds
    stop, error = StopReason.DEADLINE, None
    try:
        async with asyncio.timeout(seconds):
            capabilities = await ask_capabilities(arm.backend, setting.attempts)
    except (BackendError, TimeoutError) as failure:
        if isinstance(failure, BackendError):
            stop, error = StopReason.ERROR, failure
        spend = replace(ledger.spend, seconds=time.monotonic() - started)
        return verdict.result(prefix, stop, spend, error=error)
    calls = Dispatcher(
        question,
        arm,
        capabilities,
        ledger,
        seed=setting.seed,
        attempts=setting.attempts,
        logprobs=_logprobs(setting, needs),
        on_reserve=setting.on_reserve,
    )
    asker = Asker(question, arm, capabilities, ledger, setting.attempts, setting.on_reserve)
    try:
        stop = await _sample(policy, prefix, calls, asker, asking(needs), deadline)
    finally:
        await calls.cancel()
    await _ask(asker, setting, verdict, prefix, stop, deadline)
    spend = replace(ledger.spend, seconds=time.monotonic() - started)
    return verdict.result(prefix, stop, spend, calls.rounds, calls.error)


async def solve_many(
    questions: Iterable[Question],
    arm: Arm | Callable[[Question], Arm],
    policy: Policy,
    setting: Setting = Setting(),
    *,
    vote: Vote = Majority(),
    budget: Ledger | None = None,
    concurrency: int = 8,
) -> AsyncGenerator[tuple[Question, Result]]:
    """Solve questions as a stream, ``concurrency`` at a time, yielding each as it finishes.

    ``arm`` may be a function that gives each question its own. No more than ``concurrency``
    questions and results are held in memory. When ``questions`` raises, what is under way is
    finished and yielded first. Closing the generator cancels what is running.
    """
    if concurrency < 1:
        raise UsageError(f"concurrency={concurrency}: must be at least 1")
    source = iter(questions)
    running: dict[asyncio.Task[Result], Question] = {}
    broken: Exception | None = None
    more = True
    try:
        while True:
            while more and len(running) < concurrency:
                try:
                    question = next(source)
                except StopIteration:
                    more = False
                except Exception as error:  # noqa: BLE001 - raised again once the rest is done
                    broken, more = error, False
                else:
                    own = arm if isinstance(arm, Arm) else arm(question)
                    work = solve(question, own, policy, setting, vote=vote, budget=budget)
                    running[asyncio.create_task(work)] = question
            if not running:
                break
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield running.pop(task), task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if broken is not None:
        raise broken


def solve_sync(
    question: Question,
    arm: Arm,
    policy: Policy,
    setting: Setting = Setting(),
    *,
    vote: Vote = Majority(),
) -> Result:
    """``solve`` for code that is not async; works inside a running event loop too.

    All such calls share one event loop on a thread of its own, so that a back-end's connections
    outlive a single call.
    """
    work = solve(question, arm, policy, setting, vote=vote)
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


# -- inside -------------------------------------------------------------------------------------


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """An event loop on a thread of its own, for as long as the process lives."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="poise", daemon=True)
    thread.start()

    def end() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    atexit.register(end)
    return loop


def _logprobs(setting: Setting, needs: Sequence[str]) -> int | None:
    """What to ask for: as much as was asked for, and as profile, stop rule and vote read."""
    wanted = [setting.logprobs, logprobs_for(needs)]
    if setting.profile is not None:
        wanted.append(setting.profile.top_logprobs)
    return max((top for top in wanted if top is not None), default=None)


async def _ask(
    asker: Asker,
    setting: Setting,
    verdict: Verdict,
    prefix: Prefix,
    stop: StopReason,
    deadline: float | None,
) -> None:
    """Ask the follow-ups that are wanted, and keep the replies with what they are about."""
    signals, places = verdict.to_ask(prefix, stop, asker.ledger.spend)
    if setting.ask and prefix.samples:
        signals, places = setting.ask, list(range(len(prefix.samples)))
    if not signals:
        return
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    asked = await asker.ask(signals, [prefix.samples[place] for place in places], left)
    prefix.note(places, asked.samples, asked.about, asked.missing)


async def _sample(
    policy: Policy,
    prefix: Prefix,
    calls: Dispatcher,
    asker: Asker,
    asks: Sequence[AskingSignal],
    deadline: float | None,
) -> StopReason:
    """Draw until the stop rule, a cap, the deadline or failure ends it; returns which.

    ``asks``: signals that the rule or the vote reads and that have to be asked of every sample.
    """
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        decision = policy.stop.decide(prefix.state(asker.ledger.spend, left))
        if isinstance(decision, Stop):
            return decision.reason
        if await prefix.advance():
            if asks and prefix.samples:
                place = len(prefix.samples) - 1
                asked = await asker.ask(asks, prefix.samples[place:], left)
                prefix.note([place], asked.samples, asked.about, asked.missing)
            continue
        if left is not None and left <= 0:
            return StopReason.DEADLINE
        ended = _top_up(decision, prefix, calls)
        if ended is not None:
            return ended
        if not calls.running:  # other questions hold the budget's room: see what they give back
            await asyncio.sleep(ROOM_EVERY if left is None else min(ROOM_EVERY, left))
            continue
        prefix.arrive(await calls.wait(left))


def _top_up(decision: Draw, prefix: Prefix, calls: Dispatcher) -> StopReason | None:
    """Have the rule's Draw under way; the reason to stop when nothing is and nothing can be."""
    hopeless = calls.error is not None and not getattr(calls.error, "retryable", False)
    if not hopeless and calls.failures < MAX_FAILURES:
        missing = decision.n - (calls.launched - prefix.settled)
        if missing > 0:
            calls.launch(missing)
    elif not calls.running:
        out_of_room = isinstance(calls.error, Exhausted | CapReached)
        return StopReason.BUDGET if out_of_room else StopReason.ERROR
    return None if calls.running or calls.may_get_room else StopReason.BUDGET


def _for_draws(question: Question, arm: Arm, policy: Policy) -> tuple[Policy, str | None]:
    """The policy, or a single sample and the reason where agreement would mean nothing."""
    if policy.stop.max_samples == 1 and question.kind is not None:
        return policy, None  # nothing is to be compared
    temperature = arm.decoding.get("temperature")
    if question.kind is None and arm.backend.engine != "stored":
        reason = "open chat: the answer kind is not known, so answers cannot be compared"
    elif temperature == 0:
        reason = "temperature 0: every sample would be the same draw"
    elif arm.decoding.get("top_k") == 1:
        reason = "top_k 1: every sample would be the same draw"
    elif arm.decoding.get("seed") is not None:
        reason = "a fixed seed: every sample would be the same draw"
    else:
        return policy, None
    return replace(policy, stop=Fixed(max_samples=1)), reason
