"""The value rule against other stop rules: samples at the accuracy of the full vote less .2 points.

    python benchmarks/value.py POOLS [--seeds 20] [--only gpqa] [--json FILE]

Wants its-hub 1.2.0 beside the development tools (``pip install its-hub==1.2.0``). POOLS is a folder
with the public pools (see its README); the project's own arithmetic pool, its fitting part only, is
read beside this file. For each pool and seed the questions are halved (runs and models of one
question stay together) and their samples shuffled. Every rule's threshold, and for ``value`` its
price, is the one that draws fewest samples on the first half among those whose accuracy there is at
least that of the vote of all samples less .2 points. The second half is evaluated once. ``value``
learns its table on the first half as well: ``value`` for the payoff ``right``, ``value agree``
without labels for ``agree`` (both prices are chosen by accuracy). With log-probabilities it answers
by the vote it was learnt for, as CGES does by its own.

The opponents: a fixed number of samples, and the stop rules of AdaptiveConsistency, scorio and
its-hub as these packages decide them (``value_opponents.py`` says how, what is left out, and how
Poise's own versions are held against them), each at its own best threshold. The best opponent of a
pool is the one with the fewest samples on the second halves among those within half a point of the
full vote; of equals, the first. A ratio counts where the paired difference in accuracy, value less
opponent, averaged over seeds by question and bootstrapped over questions, has its lower 95 % bound
above -.5 points.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from value_looks import Looks
from value_opponents import Opponent, opponents

from poise import signals
from poise.fit.value import learn
from poise.policies import Fixed, StopRule
from poise.pools import Labelled, read_pools
from poise.replay.shuffling import renumbered
from poise.signals import Evidence, compute
from poise.types import Sample
from poise.votes import Majority, Vote

OWN = Path(__file__).parent / "pools" / "arithmetic_fit.jsonl.gz"
MARGIN = 0.002
FIT_ORDERS, TEST_ORDERS = 20, 10
PRICES = np.geomspace(3e-5, 0.3, 80)
BOOTSTRAPS = 4000
PACKAGES = ("fixed", "AC", "scorio", "its-hub")
DEFAULT = "AC beta at .95"
Played = tuple[np.ndarray, np.ndarray]
Candidate = partial[Played]
"""Of a half: after how many samples each order stops, (q * o,), and whether it is right there."""


@dataclass(frozen=True)
class Data:
    """q questions of N samples: labels and grades (q, N), log-probabilities or none, group (q,)."""

    labels: np.ndarray
    grades: np.ndarray
    values: np.ndarray | None
    group: np.ndarray


@dataclass(frozen=True)
class Half:
    """Some of the questions in shuffled orders: (q, o, N)."""

    codes: np.ndarray
    right: np.ndarray
    values: np.ndarray | None
    group: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """(q * o, N) codes."""
        return self.codes.reshape(-1, self.codes.shape[2])

    @cached_property
    def looks(self) -> Looks:
        """What the opponents see."""
        values = None if self.values is None else self.values.reshape(self.rows.shape)
        return Looks(self.rows, values, self.codes.shape[1])

    @cached_property
    def correct(self) -> np.ndarray:
        """(q * o, N) whether the leader after each sample is right."""
        return self.graded(self.looks.leader)

    def graded(self, answers: np.ndarray) -> np.ndarray:
        """(q * o, N) whether the answers are right, given as codes, -1 for none."""
        right = self.right.reshape(self.rows.shape)
        return (np.take_along_axis(right, np.maximum(answers, 0), axis=1) == 1) & (answers >= 0)


@dataclass
class Tally:
    """One rule on one pool: samples by seed, and by question the sum of accuracy and of seeds."""

    samples: list[float] = field(default_factory=list)
    accuracy: np.ndarray | None = None

    def add(self, samples: float, accuracy: np.ndarray) -> None:
        """Another seed; ``accuracy`` by question, 0 where it was in the first half."""
        self.samples.append(samples)
        self.accuracy = accuracy if self.accuracy is None else self.accuracy + accuracy


# -- reading --------------------------------------------------------------------------------------


def data(pools: Sequence[Labelled], size: int, signal: str | None = None) -> Data:
    """The first ``size`` samples of every pool that has so many."""
    kept = [one for one in pools if len(one.pool.samples) >= size]
    labels, grades, values = [], [], []
    for one in kept:
        known: dict[str, int] = {}
        drawn = one.pool.samples[:size]
        labels.append(
            [-1 if s.answer is None else known.setdefault(s.answer, len(known)) for s in drawn]
        )
        grades.append([c or 0 for c in one.correct[:size]])
        values.append([value(signal, s) for s in drawn] if signal else [])
    group = np.unique([one.pool.question_id for one in kept], return_inverse=True)[1]
    return Data(
        np.array(labels),
        np.array(grades, np.int8),
        np.array(values, np.float64) if signal else None,
        group,
    )


def value(name: str, sample: Sample) -> float | None:
    """A sample signal."""
    return compute([signals.signal(name)], Evidence.single(sample))[0][name]


def pools_of(folder: Path, only: str) -> Iterator[tuple[str, Data]]:
    """Every pool of the table, by name."""
    runs: dict[tuple[str, ...], list[Labelled]] = {}
    for name in (
        "gpqa_diamond",
        "otis_mock_aime",
        "math_qwen15b",
        "aqua_pot_codex_k30",
        "date_gpt35",
    ):
        for one in read_pools(folder / f"{name}.jsonl.gz"):
            runs.setdefault((name, one.pool.dataset, *one.pool.key[1:4]), []).append(one)
    listed: dict[str, tuple[list[Labelled], int]] = {}
    for (name, dataset, model, _, run), pools in runs.items():
        size = int(np.median([len(one.pool.samples) for one in pools]))
        if name == "gpqa_diamond" and size >= 8:
            listed[f"gpqa {model.split('/')[-1]} {run[:2]}"] = (pools, size)
        elif name == "otis_mock_aime" and size >= 8:
            listed.setdefault(f"otis k={size}", ([], size))[0].extend(pools)
        elif dataset in {"gsm8k", "math500", "aqua_rat", "bigbench_date"}:
            listed[dataset] = (pools, size)
    for name, (pools, size) in listed.items():
        if only in name:
            yield name, data(pools, size)
    if only in "own arithmetic":
        pools = list(read_pools(OWN))
        size = min(len(one.pool.samples) for one in pools)
        yield "own arithmetic, votes", data(pools, size)
        yield "own arithmetic, logprob", data(pools, size, "logprob")


# -- one seed -------------------------------------------------------------------------------------


def halves(pool: Data, orders: tuple[int, int], rng: np.random.Generator) -> tuple[Half, Half]:
    """Split by question, and shuffle."""
    first = rng.permutation(pool.group.max() + 1) < (pool.group.max() + 1) // 2
    chosen = first[pool.group]
    return (
        shuffled(pool, chosen, orders[0], rng),
        shuffled(pool, ~chosen, orders[1], rng),
    )


def shuffled(pool: Data, chosen: np.ndarray, orders: int, rng: np.random.Generator) -> Half:
    """``orders`` orders of the chosen questions."""
    q, size = int(chosen.sum()), pool.labels.shape[1]
    places = rng.random((q, orders, size)).argsort(axis=2)

    def taken(table: np.ndarray) -> np.ndarray:
        return np.take_along_axis(table[chosen][:, None].repeat(orders, 1), places, axis=2)

    codes, right = renumbered(
        taken(pool.labels).reshape(-1, size), taken(pool.grades).reshape(-1, size)
    )
    values = None if pool.values is None else taken(pool.values)
    return Half(
        codes.reshape(places.shape), right.reshape(places.shape), values, pool.group[chosen]
    )


def own(rule: StopRule, vote: Vote, half: Half) -> Played:
    """A rule of Poise, which answers by a vote."""
    values = dict.fromkeys(rule.needs, half.looks.values)
    stops = rule.stops(half.rows, values)
    right = half.correct if not vote.needs else half.graded(elected(vote, half))
    return stops, right[np.arange(len(stops)), stops - 1]


def elected(vote: Vote, half: Half) -> np.ndarray:
    """(q * o, N) the winner after each sample."""
    if repr(vote) not in half.looks.kept:
        rows, values = half.rows, dict.fromkeys(vote.needs, half.looks.values)
        after = [
            vote.elect_all(rows, np.full(len(rows), n + 1), values) for n in range(rows.shape[1])
        ]
        half.looks.kept[repr(vote)] = np.stack(after, axis=1)
    return half.looks.kept[repr(vote)]


def theirs(opponent: Opponent, threshold: float, half: Half) -> Played:
    """A rule of a package."""
    stops = opponent.stops(half.looks, threshold)
    answers = opponent.leader(half.looks)
    right = half.correct if answers is half.looks.leader else half.graded(answers)
    return stops, right[np.arange(len(stops)), stops - 1]


def tuned(candidates: Sequence[Candidate], half: Half) -> Candidate:
    """The one that draws fewest samples among those that are accurate enough on ``half``."""
    target = half.correct[:, -1].mean() - MARGIN
    best: Candidate = partial(own, Fixed(half.codes.shape[2]), Majority())
    fewest = float(half.codes.shape[2])
    for candidate in candidates:
        stops, right = candidate(half)
        if right.mean() >= target and stops.mean() < fewest:
            best, fewest = candidate, stops.mean()
    return best


def candidates_of(half: Half) -> dict[str, list[Candidate]]:
    """Every rule at everything that it may be tuned to, learnt on ``half`` where it learns."""
    size, signal = half.codes.shape[2], "" if half.values is None else "logprob"
    right = learn(half.codes, half.right, half.values, signal=signal)
    agree = learn(half.codes, None, half.values, objective="agree", signal=signal)
    against = opponents(size, confidence=half.values is not None)
    return {
        "fixed": [partial(own, Fixed(n), Majority()) for n in range(1, size + 1)],
        **{one.name: [partial(theirs, one, at) for at in one.thresholds] for one in against},
        "value": [partial(own, right.rule(price), right.vote) for price in PRICES],
        "value agree": [partial(own, agree.rule(price), agree.vote) for price in PRICES],
    }


def measured(pool: Data, seeds: int, name: str) -> tuple[dict[str, Tally], np.ndarray, np.ndarray]:
    """Every rule's tally, how often each question was evaluated, and stops (compared, parted)."""
    found: dict[str, Tally] = {}
    times, compared = np.zeros(pool.group.max() + 1), np.zeros(2, int)
    size = pool.labels.shape[1]
    default = opponents(size, confidence=pool.values is not None)[0]
    for seed in range(seeds):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        first, second = halves(pool, (FIT_ORDERS, TEST_ORDERS), rng)
        rules = {label: tuned(listed, first) for label, listed in candidates_of(first).items()}
        rules |= {
            "all": partial(own, Fixed(size), Majority()),
            DEFAULT: partial(theirs, default, 0.95),
        }
        times += np.bincount(second.group, minlength=len(times))
        shape = second.codes.shape[:2]
        for label, rule in rules.items():
            stops, right = rule(second)
            accuracy = right.reshape(shape).mean(axis=1)
            by_question = np.bincount(second.group, accuracy, len(times))
            found.setdefault(label, Tally()).add(float(stops.mean()), by_question)
            if rule.func is theirs:
                opponent, threshold = rule.args
                compared += opponent.checked(second.looks, threshold, stops)
    return found, times, compared


# -- the table ------------------------------------------------------------------------------------


def compared(found: Mapping[str, Tally], times: np.ndarray, rng: np.random.Generator) -> dict:
    """One line of the table."""
    there = times > 0

    def points(label: str, other: str) -> np.ndarray:
        return 100 * (found[label].accuracy - found[other].accuracy)[there]

    def mean(differences: np.ndarray) -> float:
        return float(differences.sum() / times[there].sum())

    samples = {label: float(np.mean(tally.samples)) for label, tally in found.items()}
    named = [label for label in samples if label not in {"value", "value agree", "all", DEFAULT}]
    near = [label for label in named if mean(points(label, "all")) >= -0.5] or named
    best = min(near, key=samples.__getitem__)
    packages = {name: [a for a in near if a.startswith(name)] for name in PACKAGES}
    difference, weight = points("value", best), times[there]
    picks = rng.integers(0, len(weight), (BOOTSTRAPS, len(weight)))
    low = float(np.quantile(difference[picks].sum(1) / weight[picks].sum(1), 0.025))
    return {
        "samples": {label: round(one, 3) for label, one in samples.items()},
        "to_full_vote": {label: round(mean(points(label, "all")), 2) for label in samples},
        "best": best,
        "ratio": round(samples["value"] / samples[best], 3),
        "ratio_to_package": {
            name: round(samples["value"] / min(samples[one] for one in listed), 3)
            for name, listed in packages.items()
            if listed
        },
        "ratio_to_default_beta": round(samples["value"] / samples[DEFAULT], 3),
        "difference": round(mean(difference), 2),
        "difference_low": round(low, 2),
        "counts": low > -0.5,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("pools", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", default="", help="pools whose name holds this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    started, lines, parted = time.perf_counter(), {}, np.zeros(2, int)
    print(f"{'pool':34}{'N':>3}{'value':>7}{'best opponent':>25}{'ratio':>7}{'acc. diff':>10}"
          f"{'low':>7}{'value - all':>12}{'best - all':>11}{'to beta .95':>12}")  # fmt: skip
    for name, pool in pools_of(options.pools, options.only):
        found, times, stops = measured(pool, options.seeds, name)
        parted += stops
        line = lines[name] = compared(found, times, np.random.default_rng(1))
        best, samples, lost = line["best"], line["samples"], line["to_full_vote"]
        print(
            f"{name[:33]:34}{pool.labels.shape[1]:>3}{samples['value']:>7.2f}"
            f"{best:>18}{samples[best]:>7.2f}{line['ratio']:>7.2f}{line['difference']:>10.2f}"
            f"{line['difference_low']:>7.2f}{lost['value']:>12.2f}{lost[best]:>11.2f}"
            f"{line['ratio_to_default_beta']:>12.2f}{'' if line['counts'] else '  does not count'}",
            flush=True,
        )
    votes = [line for name, line in lines.items() if "logprob" not in name]
    if votes:
        summary(votes)
    print(
        f"stops of packages held against Poise's rules or whole runs: {parted[0]:,}; parted, with "
        f"the number within 1e-5 of the threshold: {parted[1]:,}"
    )
    print(f"{time.perf_counter() - started:.0f} s, {options.seeds} seeds")
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1))


def summary(votes: Sequence[dict]) -> None:
    """Geometric means and counts over the pools of votes."""
    ratios = np.array([line["ratio"] for line in votes])
    counted = np.array([line["counts"] for line in votes])
    geometric: Callable[[np.ndarray], float] = lambda x: float(np.exp(np.log(x).mean()))  # noqa: E731
    to_agree = [line["samples"]["value agree"] / line["samples"][line["best"]] for line in votes]
    to_default = [line["ratio_to_default_beta"] for line in votes]
    print(
        f"votes only, {len(votes)} pools: geometric mean {geometric(ratios):.3f}, greatest "
        f"{ratios.max():.3f}; at most .75 on {int((ratios <= 0.75).sum())} "
        f"({(ratios <= 0.75).mean():.2f}), with accuracy kept on "
        f"{int((ratios[counted] <= 0.75).sum())}; at most 1 on {int((ratios <= 1).sum())}, "
        f"above 1.02 on {int((ratios > 1.02).sum())}; "
        f"accuracy holds on {int(counted.sum())}, geometric mean "
        f"there {geometric(ratios[counted]) if counted.any() else float('nan'):.3f}; learnt "
        f"without labels {geometric(np.array(to_agree)):.3f}; against beta at .95 "
        f"{geometric(np.array(to_default)):.3f}"
    )
    bests = Counter(line["best"] for line in votes)
    print("best opponent: " + ", ".join(f"{label} {times}" for label, times in bests.most_common()))
    for name in PACKAGES:
        against = [line["ratio_to_package"] for line in votes if name in line["ratio_to_package"]]
        if not against:
            continue
        alone = np.array([ratio[name] for ratio in against])
        print(
            f"against the best of {name} alone: geometric mean {geometric(alone):.3f} on "
            f"{len(alone)}, at most .75 on {int((alone <= 0.75).sum())}"
        )


if __name__ == "__main__":
    main()
