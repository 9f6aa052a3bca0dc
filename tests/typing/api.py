"""Code that only has to type-check: the public API as a user writes it.

mypy reads it in strict mode (``make types``); it is never run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_type

import numpy as np
import numpy.typing as npt

from poise import (
    Arm,
    Beta,
    Fixed,
    Http,
    Kind,
    Ledger,
    Limits,
    LlamaCpp,
    Majority,
    PoiseError,
    Policy,
    Price,
    Prompt,
    Question,
    Result,
    Sample,
    Scripted,
    Setting,
    Spend,
    StopReason,
    Stored,
    Usage,
    Window,
    embedded,
    parse_policy,
    solve_many,
    solve_sync,
)
from poise.policies import ExitRule, IntArray, StopRule
from poise.solve import solve
from poise.types import (
    Backend,
    Batch,
    Capabilities,
    Draw,
    Meter,
    Reply,
    Request,
    State,
    Stop,
)
from poise.votes import Vote


def first_steps() -> None:
    """One question on the embedded model."""
    question = Question.ask("What is 6 * 7?", "number")
    result = solve_sync(question, embedded(), Policy(Beta(0.95)))
    solve_sync(question, embedded(LlamaCpp(slots=4, threads=1)), Policy(Fixed(4)))
    assert_type(result, Result)
    assert_type(result.answer, str | None)
    assert_type(result.probability, float | None)
    assert_type(result.stop, StopReason)
    assert_type(result.spend, Spend)
    assert_type(result.samples, tuple[Sample, ...])
    assert_type(result.n_samples, int)


async def a_server() -> float | None:
    """A paid server under caps, with a prompt of its own."""
    price = Price("2026-11-01", prompt=1e-7, completion=3e-7)
    prompt = Prompt("Answer with a number.", {Kind.NUMBER: (("What is 3 + 4?", "3 + 4 = 7"),)})
    server = Http("http://localhost:8000/v1", "qwen", api_key="…", concurrency=32)
    arm = Arm(server, {"temperature": 0.7, "max_tokens": 256}, prompt, price)
    question = Question.ask("Is 9 odd?", Kind.YESNO, id="q1", segment="parity")
    setting = Setting(seed=7, limits=Limits(max_samples=12, max_usd=0.01), logprobs=0)
    try:
        result = await solve(question, arm, parse_policy("beta:threshold=0.9"), setting)
    except PoiseError as error:
        assert_type(error.exit_code, int)
        raise
    finally:
        await server.aclose()
    return result.spend.usd


async def a_file(questions: Iterable[Question], pool: str) -> dict[str, Result]:
    """Many questions over a stored pool, under one budget."""
    arm = Arm(Stored.open(pool, shuffle_seed=1))
    budget = Ledger(Limits(max_samples=5_000))
    found: dict[str, Result] = {}
    work = solve_many(
        questions, arm, Policy(Window(width=4)), vote=Majority(), budget=budget, concurrency=16
    )
    async for question, result in work:
        assert_type(question, Question)
        found[question.id] = result
    return found


@dataclass(frozen=True, slots=True)
class Twins:
    """A stop rule of a third party: stop once two samples agree. It derives from nothing."""

    max_samples: int = 8
    needs: tuple[str, ...] = ()

    def decide(self, state: State) -> Draw | Stop:
        """Two votes for one answer are enough."""
        if state.top_two[0] >= 2:
            return Stop(StopReason.CONSENSUS)
        return Stop(StopReason.BUDGET) if state.n >= self.max_samples else Draw(1)

    def stops(
        self, prefixes: IntArray, values: Mapping[str, npt.NDArray[np.float64]] | None = None
    ) -> IntArray:
        """The same for arrays."""
        stops: npt.NDArray[np.int64] = np.full(len(prefixes), prefixes.shape[1], np.int64)
        return stops


@dataclass(frozen=True, slots=True)
class Unanimous:
    """An exit rule of a third party."""

    def decide(self, state: State, leader: int | None) -> str:
        """Answers only where nobody disagrees."""
        return "answer" if leader is not None and len(state.counts) == 1 else "abstain"


class Echo:
    """A back-end of a third party: says what it was asked."""

    engine = "echo"
    model = "echo-1"

    async def capabilities(self) -> Capabilities:
        """Many draws at once, no log-probabilities."""
        return Capabilities(n=4)

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        """The last message, as often as asked for."""
        text = str(request.messages[-1]["content"])
        if meter is not None:
            meter.received(request.n)
        return Batch((Reply(text, finish="stop", tokens=1),) * request.n, Usage(1, request.n))

    async def aclose(self) -> None:
        """Nothing is held."""


def of_ones_own() -> Sequence[str]:
    """Parts of one's own fit where the package's do."""
    stop: StopRule = Twins()
    rule: StopRule = Fixed(3)
    vote: Vote = Majority()
    backend: Backend = Echo()
    fake: Backend = Scripted(["12", "13", "12"])
    policy = Policy(stop)
    question = Question.ask("What is 3 + 4?", "number")
    results = [
        solve_sync(question, Arm(backend), policy, vote=vote),
        solve_sync(question, Arm(fake), Policy(rule)),
    ]
    return [result.answer or "?" for result in results]


def what_is_wrong_is_an_error_of_types() -> None:
    """Each of these lines must fail; an ignore that is not needed is an error too."""
    Policy("beta")  # type: ignore[arg-type]
    Arm("http://localhost:8000/v1")  # type: ignore[arg-type]
    Limits(max_samples="12")  # type: ignore[arg-type]
    _exit: ExitRule = Unanimous()  # type: ignore[assignment]
    _stop: StopRule = Unanimous()  # type: ignore[assignment]
