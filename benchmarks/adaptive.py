"""Adaptive sampling against fixed voting on the embedded model, live, on the same questions.

    python benchmarks/adaptive.py [--questions 150] [--cap 16] [--seed 7] [--threads 2]

Graded arithmetic from the fitting part (the held-out part stays untouched). Each policy answers
every question on the same engine, two questions at a time, in turns of ten questions so that a
noisy machine is noisy for all. Accuracy carries a 95 % bootstrap interval over questions; its
difference to fixed voting is paired by question. Nothing here is tuned: thresholds are the
policies' own defaults.

Fixed voting is also shown at the adaptive policies' mean spend (rounded to whole samples), read
from the prefixes of its own draws: what the same number of samples buys without adapting.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from poise.backends import LlamaCpp, embedded
from poise.grading import grade
from poise.policies import Beta, Fixed, Policy, StopRule, Window
from poise.solve import Setting, solve_many
from poise.tasks import Labelled
from poise.tasks.arithmetic import Arithmetic
from poise.types import Result

TURN = 10
BOOTSTRAPS = 10_000


@dataclass
class Run:
    """What one policy did with the questions so far."""

    rule: StopRule
    results: dict[str, Result] = field(default_factory=dict)
    seconds: float = 0.0

    async def turn(self, labelled: Sequence[Labelled], engine: LlamaCpp, seed: int) -> None:
        """Answer some more questions."""
        questions = [row.question for row in labelled]
        started = time.perf_counter()
        stream = solve_many(
            questions, embedded(engine), Policy(self.rule), Setting(seed), concurrency=2
        )
        async for question, result in stream:
            self.results[question.id] = result
        self.seconds += time.perf_counter() - started


def correct(answer: str | None, row: Labelled) -> int:
    """1 where the answer is right; none at all is not right."""
    return 0 if answer is None else grade(answer, row.gold, row.question.kind).correct or 0


def majority(result: Result, n: int) -> str | None:
    """The vote of the first ``n`` samples, ties to the first seen."""
    votes = Counter(sample.answer for sample in result.samples[:n] if sample.answer is not None)
    return votes.most_common(1)[0][0] if votes else None


def interval(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """95 % percentile bootstrap of the mean, resampling questions."""
    picks = rng.integers(0, len(values), (BOOTSTRAPS, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return round(float(low), 4), round(float(high), 4)


async def live(rows: Sequence[Labelled], runs: dict[str, Run], options: argparse.Namespace) -> None:
    """Run every policy over all questions, in turns."""
    engine = LlamaCpp(threads=options.threads)
    try:
        await engine.capabilities()
        for start in range(0, len(rows), TURN):
            for run in runs.values():
                await run.turn(rows[start : start + TURN], engine, options.seed)
            print(f"{min(start + TURN, len(rows))}/{len(rows)} questions", flush=True)
    finally:
        await engine.aclose()


def summary(
    name: str, run: Run, rows: Sequence[Labelled], fixed: Run, rng: np.random.Generator
) -> dict[str, object]:
    """One policy's line of the table."""
    results = [run.results[row.question.id] for row in rows]
    right = np.array([correct(r.answer, row) for r, row in zip(results, rows, strict=True)])
    base = np.array([correct(fixed.results[row.question.id].answer, row) for row in rows])
    samples = sum(r.n_samples for r in results)
    n = max(1, round(samples / len(rows)))
    same = np.array(
        [correct(majority(fixed.results[row.question.id], n), row) for row in rows]
    ).mean()
    return {
        "policy": name,
        "questions": len(rows),
        "samples": samples,
        "tokens": sum(r.spend.tokens or 0 for r in results),
        "completion_tokens": sum(r.spend.completion_tokens or 0 for r in results),
        "seconds": round(run.seconds, 1),
        "rounds_per_question": round(sum(r.rounds for r in results) / len(rows), 2),
        "accuracy": round(float(right.mean()), 4),
        "accuracy_95": interval(right, rng),
        "difference_to_fixed_95": interval(right - base, rng),
        "fixed_at_same_mean_spend": {"samples": n, "accuracy": round(float(same), 4)},
        "stops": dict(Counter(r.stop.value for r in results)),
    }


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--questions", type=int, default=150)
    parser.add_argument("--cap", type=int, default=16)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    rows = list(Arithmetic(1200, 20261122, "fit").load())[: options.questions]
    runs = {
        f"fixed:n={options.cap}": Run(Fixed(options.cap)),
        "beta": Run(Beta(max_samples=options.cap)),
        "window": Run(Window(max_samples=options.cap)),
    }
    asyncio.run(live(rows, runs, options))
    rng = np.random.default_rng(options.seed)
    fixed = next(iter(runs.values()))
    lines = [summary(name, run, rows, fixed, rng) for name, run in runs.items()]
    print(f"\n{'policy':12}{'samples':>9}{'tokens':>9}{'seconds':>9}{'rounds':>8}{'accuracy':>10}"
          "  95 % interval      difference to fixed")  # fmt: skip
    for line in lines:
        print(
            f"{line['policy']:12}{line['samples']:>9}{line['tokens']:>9}{line['seconds']:>9}"
            f"{line['rounds_per_question']:>8}{line['accuracy']:>10}  {line['accuracy_95']}  "
            f"{line['difference_to_fixed_95']}"
        )
    print(json.dumps({"benchmark": "adaptive", "seed": options.seed, "rows": lines}))


if __name__ == "__main__":
    main()
