"""What ``solve`` costs over the raw back-end, and that finished questions leave no memory behind.

    python benchmarks/overhead.py [--questions 2000] [--samples 16] [--in-flight 1000]

The back-end is ``scripted`` at zero latency, so all that is measured is Poise: reserving, seeding,
tasks, reading and clustering answers, deciding, the result. The opponent is the same calls made by
hand, gathered question by question. Both are timed in turns, the best of five.

Memory: ``--in-flight`` questions run at once on a back-end with a little latency; the peak that
tracemalloc sees over the last fifth of the stream is compared with that over the second fifth.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

from poise.backends import Scripted
from poise.policies import Fixed, Policy
from poise.solve import Setting, solve, solve_many
from poise.types import Arm, Capabilities, Kind, Question, Request

DECODING = {"temperature": 0.8, "max_tokens": 64}
REPEATS = 5


def question(i: int) -> Question:
    """One of an endless supply."""
    return Question.ask(f"What is {i} + 1?", Kind.NUMBER, id=str(i))


def backend(n: int, latency: float = 0.0) -> Scripted:
    """Answers at once, ``n`` draws to a request; the record of calls is not kept."""
    scripted = Scripted(
        lambda _request, index: f"The answer is {41 + index % 3}",
        latency=latency,
        capabilities=Capabilities(n=n, logprobs=0, seed=True),
    )
    scripted.calls = _Nothing()
    return scripted


class _Nothing(list[Request]):
    """A record that stays empty, so that the fake does not count as Poise's memory."""

    def append(self, _request: Request) -> None:
        pass


async def by_hand(scripted: Scripted, questions: int, samples: int, n: int) -> float:
    """Seconds for the bare calls."""
    started = time.perf_counter()
    for i in range(questions):
        asked = question(i)
        request = Request(asked.messages, DECODING, n=n, seed=1, question_id=asked.id)
        firsts = range(0, samples, n)
        await asyncio.gather(*(scripted.sample(replace(request, first_index=f)) for f in firsts))
    return time.perf_counter() - started


async def by_solve(scripted: Scripted, questions: int, samples: int) -> float:
    """Seconds for the same draws through ``solve``."""
    arm, policy, setting = Arm(scripted, DECODING), Policy(Fixed(samples)), Setting()
    started = time.perf_counter()
    for i in range(questions):
        await solve(question(i), arm, policy, setting)
    return time.perf_counter() - started


def overhead(questions: int, samples: int, n: int) -> dict[str, float]:
    """Microseconds a sample, by hand and through ``solve``."""
    hand, ours = [], []
    for _ in range(REPEATS):
        hand.append(asyncio.run(by_hand(backend(n), questions, samples, n)))
        ours.append(asyncio.run(by_solve(backend(n), questions, samples)))
    scale = 1e6 / (questions * samples)
    return {
        "draws_per_request": n,
        "by_hand_us": round(min(hand) * scale, 2),
        "solve_us": round(min(ours) * scale, 2),
        "overhead_us": round((min(ours) - min(hand)) * scale, 2),
    }


async def growth(in_flight: int, questions: int) -> dict[str, float]:
    """Peak traced memory early and late in one long stream, in KiB."""
    scripted = backend(8, latency=0.001)

    def supply() -> Iterator[Question]:
        return (question(i) for i in range(questions))

    peaks: list[int] = []
    fifth = questions // 5
    tracemalloc.start()
    done = 0
    stream = solve_many(supply(), Arm(scripted, DECODING), Policy(Fixed(8)), concurrency=in_flight)
    async for _ in stream:
        done += 1
        if done % fifth == 0:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()
    tracemalloc.stop()
    late, early = peaks[-2], peaks[1]  # the first fifth fills up, the last one drains
    return {
        "in_flight": in_flight,
        "questions": questions,
        "most_calls_at_once": scripted.most_in_flight,
        "peak_kib_second_fifth": round(early / 1024),
        "peak_kib_fourth_fifth": round(late / 1024),
        "bytes_per_finished_question": round((late - early) / (2 * fifth), 1),
    }


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--in-flight", type=int, default=1000)
    options = parser.parse_args()
    rows = [overhead(options.questions, options.samples, n) for n in (1, options.samples)]
    print(f"{'draws per request':>18}{'by hand':>12}{'solve':>12}{'overhead':>12}   µs a sample")
    for row in rows:
        print(
            f"{row['draws_per_request']:>18}{row['by_hand_us']:>12}{row['solve_us']:>12}"
            f"{row['overhead_us']:>12}"
        )
    memory = asyncio.run(growth(options.in_flight, 10 * options.in_flight))
    print(
        f"{memory['in_flight']} questions in flight, {memory['questions']} in all: peak"
        f" {memory['peak_kib_second_fifth']} KiB early, {memory['peak_kib_fourth_fifth']} KiB late,"
        f" {memory['bytes_per_finished_question']} bytes per finished question"
    )
    print(json.dumps({"benchmark": "overhead", "rows": rows, "memory": memory}))


if __name__ == "__main__":
    main()
