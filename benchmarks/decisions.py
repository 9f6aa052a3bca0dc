"""Stop decisions per second, beside the packages AdaptiveConsistency and scorio.

    python benchmarks/decisions.py [POOL.jsonl.gz ...] [--orders N] [--seed 0]

Pools are files in Poise's pool format. Without arguments: those of ``POOLS`` found in the folder
``POISE_POOLS``, else the project's own in ``benchmarks/pools``, else a seeded synthetic pool. Each
question is shuffled ``--orders`` times (default: until there are some 1.5 million samples, half a
minute of work); the prefixes of all orders are what is decided on.

First the contestants must agree: on every prefix whether to stop, and on every question where the
stops fall. Then each is timed on the decisions up to the stop, the best of three. A decision is one
look at one prefix: after every sample for Beta, after every whole window for ESC. Each contestant
gets prefixes in the form that it takes, made beforehand: a list of answers for the packages, a
``State`` for ``decide``, an array of cluster ids for ``stops``. Numbering answers into clusters,
which pools need once, is timed on a line of its own.

True differences of definition, and what is done about them:

- Unreadable answers. AdaptiveConsistency counts None as an answer like any other and fails on an
  empty list; it is given the readable answers of the prefix, and with none it is not asked and
  counts as going on. scorio leaves None out of Beta and lets it break a window, as Poise does.
- Boundary. All three stop at P >= threshold. Poise decides that in whole numbers; scorio in
  floating point, off by a rounding error; AdaptiveConsistency by numerical integration, which is
  off by up to 3e-6 (54 votes to 5). A threshold that lies on a value of P (0.9375 = three votes to
  none) can therefore part them; 0.95 does not.
- Budget. Neither package ends on its own at a maximum (AdaptiveConsistency warns at most); the end
  of the prefix stands in for it, so verdicts are compared on ``sure``, not on ``budget``.
- First sample. No package has a smallest number of samples here; at 0.95 the first stop is at 4.
- Windows. scorio judges the window it is handed; it is handed Poise's disjoint ones. (Self-
  Calibration's variant slides its window by one sample, and is another rule.)

Exit status: 1 if the array form is below 5 million decisions a second or below 1,000 times
AdaptiveConsistency, else 0. Disagreement is an AssertionError.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from adaptive_consistency import BetaStoppingCriteria
from scorio.aggregate import adaptive_consistency_stop, esc_stop

from poise.policies import Beta, IntArray, StopRule, Window
from poise.types import State, Stop, StopReason

POOLS = ("gpqa_diamond", "aqua_pot_codex_k30", "math_qwen15b", "date_gpt35", "otis_mock_aime")
BETA, WINDOW = Beta(), Window()
LEAST_RATE, LEAST_RATIO = 5e6, 1_000
SAMPLES = 1_500_000
Answers = list[str | None]

integrated = BetaStoppingCriteria(BETA.threshold)


@dataclass(frozen=True, slots=True)
class Opponent:
    """A package's rule: the form it wants a prefix in, and its verdict on that."""

    name: str
    form: Callable[[Answers], Answers]
    verdict: Callable[[Answers], bool]


BETA_OPPONENTS = (
    Opponent(
        "adaptive_consistency",
        lambda prefix: [answer for answer in prefix if answer is not None],
        lambda prefix: bool(prefix) and bool(integrated.should_stop(prefix)["stop"]),
    ),
    Opponent(
        "scorio",
        lambda prefix: prefix,
        lambda prefix: bool(adaptive_consistency_stop(prefix, threshold=BETA.threshold)),
    ),
)
WINDOW_OPPONENTS = (Opponent("scorio", lambda prefix: prefix[-WINDOW.width :], esc_stop),)


def synthetic(rng: random.Random) -> Iterator[Answers]:
    """2,000 questions of 40 samples from easy to hard, one sample in fifty unreadable."""
    for _ in range(2_000):
        share = rng.random()
        yield [
            None if rng.random() < 0.02 else "a" if rng.random() < share else rng.choice("bcdef")
            for _ in range(40)
        ]


def from_file(path: Path) -> Iterator[Answers]:
    """The answers of each question drawn from one arm; questions with one sample say nothing."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            samples = json.loads(line)["samples"]
            if len(samples) > 1 and not any("model" in s or "decoding" in s for s in samples):
                yield [sample["answer"] for sample in samples]


def pool_files(named: Sequence[Path]) -> list[Path]:
    """The files to read; none: take the synthetic pool."""
    if named:
        return list(named)
    if folder := os.environ.get("POISE_POOLS"):
        return [p for name in POOLS if (p := Path(folder, f"{name}.jsonl.gz")).exists()]
    return sorted(Path(__file__).with_name("pools").glob("*.jsonl.gz"))


def shuffled(pool: Sequence[Answers], orders: int, rng: random.Random) -> list[Answers]:
    """Every question in ``orders`` seeded orders, cut to what both rules may draw."""
    most = max(BETA.max_samples, WINDOW.max_samples)
    return [rng.sample(answers, len(answers))[:most] for _ in range(orders) for answers in pool]


def numbered(answers: Answers) -> list[int]:
    """Cluster ids by first appearance, -1 for an unreadable answer."""
    ids: dict[str, int] = {}
    return [-1 if a is None else ids.setdefault(a, len(ids)) for a in answers]


def state_of(ids: Sequence[int]) -> State:
    """What ``decide`` sees of a prefix."""
    counts = tuple(ids.count(i) for i in range(max(ids, default=-1) + 1))
    clusters = tuple(None if i < 0 else i for i in ids)
    return State(clusters, counts, tuple(map(str, range(len(counts)))))


@dataclass(frozen=True, slots=True)
class Tables:
    """Prefix arrays by length, since an array has one, and which row of the whole each row is."""

    tables: tuple[IntArray, ...]
    rows: tuple[IntArray, ...]

    @classmethod
    def of(cls, ids: Sequence[list[int]]) -> Tables:
        """Group rows of cluster ids by their length."""
        lengths = np.array([len(row) for row in ids])
        rows = tuple(np.flatnonzero(lengths == n) for n in np.unique(lengths))
        return cls(tuple(np.array([ids[i] for i in r], np.int16) for r in rows), rows)

    def stops(self, rule: StopRule) -> IntArray:
        """The array form's stop of every row, in the order of the whole."""
        out = np.empty(sum(map(len, self.rows)), np.int64)
        for table, rows in zip(self.tables, self.rows, strict=True):
            out[rows] = rule.stops(table)
        return out


def agree(
    rule: StopRule, step: int, opponents: Sequence[Opponent], orders: Sequence[Answers]
) -> int:
    """Assert that all give one verdict on every prefix, and one stop on every row.

    ``step``: samples between two looks. Returns the number of prefixes compared.
    """
    ids = [numbered(answers) for answers in orders]
    stops = Tables.of(ids).stops(rule)
    early = {StopReason.SURE, StopReason.CONSENSUS}
    looks = 0
    for answers, row, stop in zip(orders, ids, stops.tolist(), strict=True):
        first = None
        for n in range(step, len(row) + 1, step):
            decision = rule.decide(state_of(row[:n]))
            own = isinstance(decision, Stop) and decision.reason in early
            for opponent in opponents:
                theirs = opponent.verdict(opponent.form(answers[:n]))
                # ESC's verdict is on one window; ``decide`` also remembers those before it.
                if isinstance(rule, Window):
                    theirs = theirs or first is not None
                assert theirs == own, f"{opponent.name} {theirs}, {rule} {own}: {answers[:n]}"
            first = n if own and first is None else first
            looks += 1
        assert stop == (len(row) if first is None else first), f"{rule} at {stop}: {answers}"
    return looks


def rate(work: Callable[[], object], decisions: int) -> float:
    """Decisions a second, the best of three, each run long enough for the clock."""
    best = 0.0
    for _ in range(3):
        runs, begun = 0, time.perf_counter()
        while (seconds := time.perf_counter() - begun) < 0.2 or not runs:
            work()
            runs += 1
        best = max(best, runs * decisions / seconds)
    return best


def race(
    rule: StopRule,
    step: int,
    opponents: Sequence[Opponent],
    orders: Sequence[Answers],
    subset: int,
) -> dict[str, float]:
    """Decisions a second: the array form on everything, the others on about ``subset`` of it."""
    ids = [numbered(answers) for answers in orders]
    tables = Tables.of(ids)
    stops = tables.stops(rule).tolist()
    looks = [(i, n) for i, stop in enumerate(stops) for n in range(step, stop + 1, step)]
    some = looks[:: max(1, len(looks) // subset)]
    rates = {}
    for opponent in opponents:
        given = [opponent.form(orders[i][:n]) for i, n in some]
        verdict = opponent.verdict
        rates[opponent.name] = rate(lambda v=verdict, g=given: [v(p) for p in g], len(some))
    states = [state_of(ids[i][:n]) for i, n in some]
    rates["poise decide"] = rate(lambda: [rule.decide(state) for state in states], len(some))
    rates["poise stops"] = rate(lambda: tables.stops(rule), len(looks))
    print(f"{rule!r}: {len(looks):,} decisions, {len(some):,} of them for all but poise stops")
    for name, speed in rates.items():
        print(f"  {name:<22}{speed:>16,.0f} /s   poise stops x {rates['poise stops'] / speed:,.1f}")
    return rates


def main() -> int:
    """Compare, time, print the tables and one line of JSON; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pools", nargs="*", type=Path, help="pool files (default: POISE_POOLS)")
    parser.add_argument("--orders", type=int, help="shuffles of each question")
    parser.add_argument("--subset", type=int, default=20_000, help="decisions for slow contestants")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rng = random.Random(options.seed)
    files = pool_files(options.pools)
    pool = [answers for path in files for answers in from_file(path)] or list(synthetic(rng))
    times = options.orders or math.ceil(SAMPLES / sum(map(len, pool)))
    orders = shuffled(pool, times, rng)
    names = [path.name for path in files] or ["synthetic"]
    print(f"{', '.join(names)}: {len(pool):,} questions x {times} orders")

    prefixes = agree(BETA, 1, BETA_OPPONENTS, orders)
    windows = agree(WINDOW, WINDOW.width, WINDOW_OPPONENTS, orders)
    print(f"identical on {prefixes:,} prefixes for Beta and {windows:,} windows for ESC\n")

    beta = race(BETA, 1, BETA_OPPONENTS, orders, options.subset)
    window = race(WINDOW, WINDOW.width, WINDOW_OPPONENTS, orders, options.subset)
    numbering = rate(lambda: [numbered(answers) for answers in orders], sum(map(len, orders)))
    print(f"numbering answers, once a pool: {numbering:,.0f} samples/s")

    ratio = beta["poise stops"] / beta["adaptive_consistency"]
    met = ratio >= LEAST_RATIO and min(beta["poise stops"], window["poise stops"]) >= LEAST_RATE
    report = {
        "benchmark": "decisions",
        "pools": names,
        "seed": options.seed,
        "orders": times,
        "identical": {"prefixes": prefixes, "windows": windows},
        "per_second": {"beta": beta, "window": window, "numbering": numbering},
        "times_adaptive_consistency": ratio,
        "met": met,
    }
    print(json.dumps(report))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
