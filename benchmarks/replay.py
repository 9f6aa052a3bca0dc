"""A hundred thresholds of Beta over stored samples, beside a loop over AdaptiveConsistency.

    python benchmarks/replay.py [--questions 1319] [--shuffles 50] [--samples 40] [--thresholds 100]
                                [--loop-seconds 20] [--seed 0]

Synthetic answers of the shape of a GSM8K pool: questions from easy to hard, one answer right, the
wrong ones spread over eight. Poise is timed from the answers' cluster numbers on: shuffling,
numbering clusters anew, every threshold's stops, answers, samples, accuracy and 1,000 paired
resamples of the questions. The loop asks the package's ``BetaStoppingCriteria`` after every sample
until it stops, in one process, and does nothing else; all of it would take long, so runs drawn at
random (an order of a question under a threshold) are timed for ``--loop-seconds`` and their mean is
multiplied by the number of runs. On every run of the timed part both must stop at the same sample.

Thresholds go from 0.76 to 0.9999, evenly in log(1 - threshold): below 0.75 a single sample stops
the rule. The package counts None as an answer, so the synthetic samples are all readable; it
integrates numerically, and no threshold lies on a value that Beta can take.

Exit status: 1 if Poise takes more than 10 seconds, else 0. Disagreement is an AssertionError.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
from adaptive_consistency import BetaStoppingCriteria

from poise.policies import Beta, Policy
from poise.replay import Orders, Replay, Sweep, compare
from poise.replay.shuffling import permutations, renumbered

MOST_SECONDS = 10.0


def answers(questions: int, samples: int, seed: int) -> np.ndarray:
    """Cluster numbers (questions, samples); 0 is right."""
    rng = np.random.default_rng(seed)
    share = rng.beta(2, 1, (questions, 1))
    wrong = rng.integers(1, 9, (questions, samples))
    return np.where(rng.random((questions, samples)) < share, 0, wrong)


def shuffled(drawn: np.ndarray, shuffles: int, seed: int) -> Orders:
    """All orders of the answers, graded, without tokens or seconds."""
    q, n = drawn.shape
    index = np.stack([permutations(seed, "synthetic", str(k), n, shuffles) for k in range(q)])
    labels = np.take_along_axis(drawn[:, None, :], index, axis=2).reshape(-1, n)
    codes, right = renumbered(labels, (labels == 0).astype(np.int8))
    shape = (q, shuffles, n)
    unknown = np.broadcast_to(np.nan, shape)
    return Orders(
        codes=codes.reshape(shape),
        right=right.reshape(shape),
        tokens=unknown,
        seconds=unknown,
        prompt_tokens=np.full(q, np.nan),
        values={},
        asks={},
        group=tuple(("synthetic", str(k)) for k in range(q)),
        graded=np.ones(q, np.bool_),
    )


def sweep_of(thresholds: np.ndarray, samples: int) -> Sweep:
    """One policy for each threshold."""
    found = tuple(float(threshold) for threshold in thresholds)
    return Sweep(
        name="beta",
        parameter="threshold",
        settings=found,
        policies=tuple(Policy(Beta(each, samples)) for each in found),
        labels=tuple(f"beta:threshold={each:g}" for each in found),
    )


def poise(
    drawn: np.ndarray, thresholds: np.ndarray, options: argparse.Namespace
) -> tuple[Orders, Replay, float]:
    """Everything, timed."""
    started = time.perf_counter()
    made = shuffled(drawn, options.shuffles, options.seed)
    result = compare(made, [sweep_of(thresholds, options.samples)], seed=options.seed)
    return made, result, time.perf_counter() - started


def loop(made: Orders, thresholds: np.ndarray, seconds: float, seed: int) -> tuple[int, float]:
    """Runs of the package's rule until ``seconds`` are over: how many, and seconds in the rule."""
    rng = np.random.default_rng(seed)
    q, o, n = made.shape
    spent, runs = 0.0, 0
    while spent < seconds:
        row, order = rng.integers(q), rng.integers(o)
        threshold = float(thresholds[rng.integers(len(thresholds))])
        drawn = made.codes[row, order].tolist()
        rule = BetaStoppingCriteria(threshold)
        started = time.perf_counter()
        stop = next((k for k in range(1, n) if rule.should_stop(drawn[:k])["stop"]), n)
        spent += time.perf_counter() - started
        runs += 1
        (expected,) = Beta(threshold, n).stops(made.codes[row, order][None])
        assert stop == expected, (drawn, threshold, stop, expected)
    return runs, spent


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name, default in (
        ("questions", 1319),
        ("shuffles", 50),
        ("samples", 40),
        ("thresholds", 100),
        ("seed", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--loop-seconds", type=float, default=20.0)
    options = parser.parse_args()
    drawn = answers(options.questions, options.samples, options.seed)
    thresholds = 1 - np.geomspace(0.24, 1e-4, options.thresholds)
    made, result, seconds = poise(drawn, thresholds, options)
    runs, spent = loop(made, thresholds, options.loop_seconds, options.seed)
    all_runs = options.questions * options.shuffles * options.thresholds
    looped = spent / runs * all_runs
    row = {
        "benchmark": "replay",
        "questions": options.questions,
        "orders": options.shuffles,
        "samples": options.samples,
        "thresholds": options.thresholds,
        "seconds": round(seconds, 3),
        "loop_runs_timed": runs,
        "loop_seconds_timed": round(spent, 2),
        "loop_seconds_extrapolated": round(looped),
        "ratio": round(looped / seconds),
        "seed": options.seed,
    }
    cheapest = result.frontiers[0].points[0]
    print(f"{all_runs:,} runs of a threshold over an order of up to {options.samples} samples")
    print(f"poise, with accuracy and intervals   {seconds:10.2f} s")
    print(
        f"loop over AdaptiveConsistency        {looped:10,.0f} s  (extrapolated from {runs:,} runs"
        f" in {spent:.1f} s)"
    )
    print(f"ratio                                {looped / seconds:10,.0f}")
    print(f"lowest threshold: {cheapest.samples.value:.2f} samples a question")
    print(json.dumps(row))
    sys.exit(seconds > MOST_SECONDS)


if __name__ == "__main__":
    main()
