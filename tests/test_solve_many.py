"""Many questions as a stream: bounded, complete, under one budget."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from fault_server import Behaviour, FaultServer
from poise.backends import Http, Scripted
from poise.errors import InputError, UsageError
from poise.ledger import Ledger
from poise.policies import Fixed, Policy
from poise.solve import Setting, solve_many
from poise.spend import Limits
from poise.types import Arm, Capabilities, Kind, Question, Result, StopReason


def questions(n: int) -> Iterator[Question]:
    return (Question.ask(f"What is {i} + 0?", Kind.NUMBER, id=str(i)) for i in range(n))


def test_every_question_is_answered_once_and_no_more_run_than_allowed() -> None:
    backend = Scripted("4", latency=0.002)

    async def collect() -> list[str]:
        stream = solve_many(questions(50), Arm(backend), Policy(Fixed(3)), concurrency=7)
        return [question.id async for question, _ in stream]

    assert sorted(asyncio.run(collect()), key=int) == [str(i) for i in range(50)]
    assert backend.most_in_flight == 7


def test_questions_are_taken_only_when_there_is_room() -> None:
    taken = 0

    def counted() -> Iterator[Question]:
        nonlocal taken
        for question in questions(100):
            taken += 1
            yield question

    async def first() -> None:
        stream = solve_many(
            counted(), Arm(Scripted("4", latency=0.001)), Policy(Fixed(1)), concurrency=4
        )
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(first())
    assert taken == 4


def test_a_bad_line_is_raised_after_what_was_under_way_is_done() -> None:
    def broken() -> Iterator[Question]:
        yield from questions(3)
        raise InputError("not JSON", "q.jsonl", 4)

    async def collect() -> list[str]:
        done = []
        stream = solve_many(broken(), Arm(Scripted("4", latency=0.01)), Policy(Fixed(1)))
        with pytest.raises(InputError, match="q.jsonl:4"):
            async for question, _ in stream:
                done.append(question.id)
        return done

    assert sorted(asyncio.run(collect())) == ["0", "1", "2"]


def test_leaving_early_cancels_what_is_running() -> None:
    backend = Scripted("4", latency=lambda request, _i: 0.0 if request.question_id == "0" else 30)

    async def leave() -> None:
        stream = solve_many(questions(9), Arm(backend), Policy(Fixed(1)), concurrency=5)
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(leave())
    assert backend.in_flight == 0
    assert backend.cancelled >= 4


def test_one_budget_holds_over_all_questions() -> None:
    backend = Scripted("4", latency=0.001)
    budget = Ledger(Limits(max_samples=25))

    async def collect() -> list[tuple[int, StopReason]]:
        stream = solve_many(
            questions(10), Arm(backend), Policy(Fixed(4)), budget=budget, concurrency=3
        )
        return [(result.n_samples, result.stop) async for _, result in stream]

    results = asyncio.run(collect())
    assert sum(n for n, _ in results) == 25
    assert budget.spend.samples == 25
    assert sum(call.n for call in backend.calls) == 25
    assert {stop for n, stop in results if n < 4} == {StopReason.BUDGET}


def test_room_that_others_hold_is_waited_for() -> None:
    """Bounds are far above what is used: early questions must not end the later ones."""
    backend = Scripted("4", latency=0.005)
    budget = Ledger(Limits(max_tokens=3_000))
    decoding = {"temperature": 1, "max_tokens": 500}

    async def collect() -> list[StopReason]:
        stream = solve_many(
            questions(40), Arm(backend, decoding), Policy(Fixed(2)), budget=budget, concurrency=32
        )
        return [result.stop async for _, result in stream]

    assert set(asyncio.run(collect())) == {StopReason.FIXED}


def test_nothing_can_be_done_with_no_concurrency() -> None:
    async def start() -> None:
        async for _ in solve_many([], Arm(Scripted("4")), Policy(Fixed(1)), concurrency=0):
            pass

    with pytest.raises(UsageError, match="concurrency"):
        asyncio.run(start())


def test_calls_that_waited_their_turn_are_not_charged_when_cancelled() -> None:
    """Four draws on a server taken one at a time: at the deadline three were never sent."""
    with FaultServer(Behaviour(latency=30.0)) as server:
        able = Capabilities(n=1, seed=True)
        backend = Http(server.base_url, "m", engine="t", concurrency=1, capabilities=able)
        budget = Ledger(Limits(max_samples=4))
        setting = Setting(limits=Limits(max_seconds=0.4))

        async def collect() -> list[Result]:
            stream = solve_many(
                questions(1), Arm(backend), Policy(Fixed(4)), setting, budget=budget
            )
            found = [result async for _, result in stream]
            await backend.aclose()
            return found

        (result,) = asyncio.run(collect())
        assert server.until(lambda: len(server.requests) == 1)
    assert (result.stop, result.spend.calls) == (StopReason.DEADLINE, 1)
    assert budget.room(4, 1, 1) == 3
