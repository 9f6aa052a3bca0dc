"""Calibrators on stored confidences and vote shares of real models, split by question.

    python benchmarks/calibration.py [POOLS] [--seeds 20] [--only TEXT]

``POOLS`` (default: the environment variable ``POISE_POOLS``) is a folder with the public pools; the
project's own ``arithmetic_fit`` is added. A *series* is one signal of one model on one data set, a
row a question: (score, right or not). Stored signals come one a sample and want 200 rows; those of
votes read all samples drawn, say whether the leader is right, and want 100 questions.
Samples without an answer, a grade or the signal are left out and counted.

For every seed the questions are parted in halves by a hash of (data set, question id): all is
fitted on one half and measured on the other, log loss with the stated floor. ``platt50`` is Platt
on 50 rows of the fitting half. ``best`` is the single calibrator with the least mean log loss on
the *measured* halves: chosen in hindsight, an opponent nobody can have.

"Worse": the mean of ``auto``'s loss less the other's, less 2 standard errors, is above 0. Errors
over seeds [s] leave out the chance of having met these questions; errors over questions [q] (each
one's difference averaged over the seeds that measured it) do not.

An ECE is below its floor where it is at most the 95th percentile of what exactly true probabilities
of these values would show on that half. That leaves out the error of the fit: even the base rate of
another half of equal size passes in some five of six splits, not 19 of 20, and so stands beside.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from poise.calibrators import CALIBRATORS, Scale
from poise.errors import RefusedError, UsageError
from poise.metrics import auroc, ece, noise_floor
from poise.pools import Labelled, part_of, read_pools
from poise.scoring import FloatArray, brier, log_loss
from poise.signals import Evidence, compute

OWN = Path(__file__).with_name("pools") / "arithmetic_fit.jsonl.gz"
STORED = ("gsm8k_token_budgets", "rlcr_verbalized", "mmlu_pro_confidence")
VOTED = ("gpqa_diamond", "math_qwen15b", "aqua_pot_codex_k30", "date_gpt35", "otis_mock_aime")
SHARES = ("verbal", "logit", "linguistic", "agreement")
SCALES: dict[str, Scale] = {**dict.fromkeys(SHARES, "probability"), "leader_logprob": "real"}
"""What each signal is; stored ones are in [0, 1] already. A signal not named is an error."""

MIRRORED = {"classifier"}  # RLCR's, equal to 1 - verbal: P(wrong), no series of its own

LEAST_ROWS, LEAST_QUESTIONS, MOST_ROWS, MOST_LEVELS = 200, 100, 3_000, 50
SAMPLE_SEED, FLOOR, RANKS = 20261122, 1e-6, 0.55
SINGLE = ("identity", "constant", "temperature", "platt", "quadratic", "isotonic", "levels")
BASELINES = {"identity": "raw", "constant": "base rate"}
RULES = ("log loss", "Brier")
HALVES = {"fit": 0.5, "test": 0.5}

Group = tuple[str, str]
Scored = tuple[str, str, float | None, int | None]  # model, signal, score, right or not


@dataclass(slots=True)
class Series:
    """One signal of one model on one data set: ``score``, ``right`` and ``group`` are (n,)."""

    pool: str
    dataset: str
    model: str
    signal: str
    score: FloatArray
    right: FloatArray
    group: list[Group]

    @property
    def name(self) -> str:
        """Data set, model and signal in one text."""
        return f"{self.dataset} · {self.model} · {self.signal}"

    @property
    def single(self) -> list[str]:
        """The calibrators that suit the scale and the number of levels."""
        odd = set() if SCALES[self.signal] == "probability" else {"identity", "temperature"}
        if len(np.unique(self.score)) > MOST_LEVELS:
            odd.add("levels")
        return [name for name in SINGLE if name not in odd]


def stored(one: Labelled) -> Iterator[Scored]:
    """Every stored signal of every sample; a token budget makes an arm of its own."""
    for index, sample in enumerate(one.pool.samples):
        arm = one.pool.arms[index].model if one.pool.arms else None
        extra = one.sample_extra[index] if one.sample_extra else {}
        budget = f" at {extra['max_new_tokens']}" if "max_new_tokens" in extra else ""
        right = None if sample.answer is None else one.correct[index]
        for signal in sample.signals.keys() - MIRRORED:
            yield f"{arm or one.pool.model}{budget}", signal, sample.signals[signal], right


def voted(one: Labelled) -> Iterator[Scored]:
    """Signals of all samples drawn; the leader is as right as its first sample."""
    answers = [sample.answer for sample in one.pool.samples]
    cluster: dict[str, int] = {}
    codes = tuple(None if a is None else cluster.setdefault(a, len(cluster)) for a in answers)
    counts = tuple(codes.count(code) for code in range(len(cluster)))
    leader = counts.index(max(counts)) if counts else None
    names = ["agreement"] + ["leader_logprob"] * (one.pool.samples[0].logprobs is not None)
    values, _ = compute(names, Evidence(one.pool.samples, codes, counts, leader))
    right = None if leader is None else one.correct[codes.index(leader)]
    model = one.pool.model.rsplit("/", 1)[-1].split(" (", 1)[0]
    run = f" {one.pool.run[:4]}" if one.pool.run else ""
    for signal, score in values.items():
        yield f"{model}{run}", signal, score, right


def read_series(folder: Path, left_out: Counter[str]) -> Iterator[Series]:
    """Every series; of a large one a seeded draw of rows."""
    files = [(name, folder / f"{name}.jsonl.gz") for name in STORED + VOTED]
    for pool, path in (*files, ("arithmetic_fit", OWN)):
        gathered: dict[tuple[str, str, str], list[tuple[Group, float, int]]] = defaultdict(list)
        for one in read_pools(path):
            for model, signal, score, right in stored(one) if pool in STORED else voted(one):
                if signal not in SCALES:
                    raise UsageError(f"{pool}: signal {signal!r} has no declared scale")
                if score is None or right is None:
                    left_out[f"{pool}: rows"] += 1
                else:
                    key = (one.pool.dataset, model, signal)
                    gathered[key].append((one.pool.group, score, right))
        for key, rows in sorted(gathered.items()):
            group, score, right = zip(*rows, strict=True)
            if len(rows) < (LEAST_ROWS if pool in STORED else LEAST_QUESTIONS):
                left_out[f"{pool}: small series"] += 1
            elif len(set(score)) == 1 or len(set(right)) == 1:
                left_out[f"{pool}: constant series"] += 1
            else:
                rng = np.random.default_rng(SAMPLE_SEED)
                taken = np.sort(rng.permutation(len(rows))[:MOST_ROWS])
                columns = (np.array(values, np.float64)[taken] for values in (score, right))
                yield Series(pool, *key, *columns, [group[i] for i in taken])


@dataclass(slots=True)
class Found:
    """What the calibrators did on one series, NaN where one refused.

    By name, (seeds,) each: mean ``losses`` by (name, rule), ``mean`` probability, ``ece`` and its
    ``floor`` (95th percentile). ``gaps``: by (other, rule), ``auto`` less the other on each
    question, mean and standard error.
    """

    series: Series
    auroc: float
    losses: dict[tuple[str, str], FloatArray] = field(default_factory=dict)
    mean: dict[str, FloatArray] = field(default_factory=dict)
    ece: dict[str, FloatArray] = field(default_factory=dict)
    floor: dict[str, FloatArray] = field(default_factory=dict)
    gaps: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    chosen: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def loss(self, name: str, rule: str = "log loss") -> float:
        """Mean over seeds."""
        return float(np.nanmean(self.losses[name, rule]))

    @property
    def best(self) -> str:
        """The single calibrator with the least mean log loss, seen afterwards."""
        return min(self.series.single, key=self.loss)

    @property
    def over(self) -> float:
        """Mean log loss of ``auto`` over that of the best single calibrator, less 1, in %."""
        return 100 * (self.loss("auto") / self.loss(self.best) - 1)

    def difference(self, other: str, rule: str) -> tuple[float, float]:
        """Mean loss of ``auto`` less that of another, and its standard error, over seeds."""
        return summed_up(self.losses["auto", rule] - self.losses[other, rule])

    def worse(self, *, questions: bool) -> list[str]:
        """Where ``auto`` is worse than raw or base rate by more than 2 standard errors."""
        found = []
        for (other, rule), by_question in self.gaps.items():
            gap, error = by_question if questions else self.difference(other, rule)
            if gap - 2 * error > 1e-12:
                found.append(f"{rule} {gap:+.4f} to {BASELINES[other]}")
        return found

    def below(self, name: str = "auto") -> FloatArray:
        """(seeds,) whether ECE is at most the floor's 95th percentile."""
        return self.ece[name] <= self.floor[name]

    @property
    def good(self) -> FloatArray:
        """(seeds,) whether ``auto`` is below the floor and, where the signal ranks, gains."""
        gains = self.losses["auto", "Brier"] < self.losses["constant", "Brier"]
        return self.below() & (gains | (self.auroc <= RANKS))

    @property
    def good_on_average(self) -> bool:
        """The same of mean ECE, mean floor and mean Brier scores."""
        gains = self.loss("auto", "Brier") < self.loss("constant", "Brier")
        low = np.nanmean(self.ece["auto"]) <= np.nanmean(self.floor["auto"])
        return bool(low and (gains or self.auroc <= RANKS))


def summed_up(values: FloatArray) -> tuple[float, float]:
    """Mean and standard error of the values that are there."""
    known = values[np.isfinite(values)]
    return float(known.mean()), float(known.std(ddof=1) / np.sqrt(len(known)))


def measure(series: Series, seeds: int, sides: dict[tuple[int, Group], bool]) -> Found:
    """All calibrators on all splits of one series; ``sides`` remembers what falls where."""
    names = [*series.single, "platt50", "auto"]
    numbers = np.arange(len(series.group))
    area = auroc(series.right, rankdata(series.score) / len(numbers)).value
    assert area is not None  # both classes are there
    found = Found(series, area)
    rows = {(n, r): np.full((seeds, len(numbers)), np.nan) for n in names for r in RULES}
    for column in (found.mean, found.ece, found.floor):
        column.update({name: np.full(seeds, np.nan) for name in names})
    for seed in range(seeds):
        for group in series.group:
            if (seed, group) not in sides:
                sides[seed, group] = part_of(*group, HALVES, seed) == "test"
        test = np.array([sides[seed, group] for group in series.group])
        train = np.random.default_rng(seed).permutation(numbers[~test])
        y = series.right[test]
        for name in names:
            fitting = np.sort(train[:50] if name == "platt50" else train)
            try:
                p, chosen = predicted(name, series, fitting, test)
            except RefusedError:
                found.refused[name] += 1
                continue
            rows[name, "log loss"][seed, test] = log_loss(y, p, floor=FLOOR)
            rows[name, "Brier"][seed, test] = brier(y, p)
            found.mean[name][seed] = p.mean()
            if name in BASELINES or name == "auto":
                found.ece[name][seed] = ece(y, p)
                found.floor[name][seed] = noise_floor(p, seed=seed).p95
            if name == "auto":
                found.chosen[chosen] += 1
    for key, losses in rows.items():
        known = np.isfinite(losses)
        count = np.where(known.any(axis=1), known.sum(axis=1), np.nan)
        found.losses[key] = np.nansum(losses, axis=1) / count
        if key[0] in BASELINES:
            gap = rows["auto", key[1]] - losses
            each = gap[:, np.isfinite(gap).any(axis=0)]
            found.gaps[key] = summed_up(np.nanmean(each, axis=0))
    return found


def predicted(
    name: str, series: Series, fitting: FloatArray, test: FloatArray
) -> tuple[FloatArray, str]:
    """P(right) of the rows ``test`` after a fit to others, and what ``auto`` chose."""
    kind = CALIBRATORS["platt" if name == "platt50" else name]()
    if "scale" in kind.get_params():
        kind.set_params(scale=SCALES[series.signal])
    # One row a question, so that every row is a group of its own.
    kind.fit(series.score[fitting], series.right[fitting])
    return kind.predict_proba(series.score[test])[:, 1], getattr(kind, "chosen_", name)


def three(values: FloatArray) -> str:
    """The mean to three digits, without the leading 0."""
    return f"{np.nanmean(values):.3f}".replace("0.", ".", 1)


def line(one: Found) -> str:
    """One series of the table."""
    shown = [("identity", "constant", "auto"), ("identity", "constant", "platt50", "auto")]
    scores = [
        " / ".join(
            three(one.losses[name, rule]) if (name, rule) in one.losses else "-" for name in names
        )
        for rule, names in zip(("Brier", "log loss"), shown, strict=True)
    ]
    errors = " / ".join(
        f"{three(one.ece[name])} ({three(one.floor[name])})" if name in one.ece else "-"
        for name in ("identity", "auto")
    )
    lost = [f"{w} [{k}]" for k, q in (("s", False), ("q", True)) for w in one.worse(questions=q)]
    lost += [f"{name} refused {count} x" for name, count in one.refused.items()]
    size = f"{len(one.series.right)} | {one.series.right.mean():.2f} | {one.auroc:.2f}"
    share = f"{one.best} {one.over:+.1f} | {errors} | {one.good.sum()}"
    return f"| {one.series.name} | {size} | {' | '.join(scores)} | {share} | {'; '.join(lost)} |"


def by_pool(results: list[Found]) -> Iterator[str]:
    """One line a pool."""
    for pool in (*dict.fromkeys(one.series.pool for one in results), "all"):
        part = [one for one in results if pool in {one.series.pool, "all"}]
        sizes = [len(one.series.right) for one in part]
        below = (
            f"{np.mean([one.below(name).mean() for one in part if name in one.ece]):.2f}"
            for name in ("identity", "constant", "auto")
        )
        worse = (sum(bool(one.worse(questions=q)) for one in part) for q in (False, True))
        yield (
            f"| {pool} | {len(part)} | {min(sizes)} to {max(sizes)} | "
            f"{np.mean([one.over for one in part]):+.2f} | {' / '.join(below)} | "
            f"{np.mean([one.good.mean() for one in part]):.2f} | "
            f"{sum(one.good_on_average for one in part)} | {' / '.join(map(str, worse))} |"
        )


def targets(results: list[Found]) -> Iterator[tuple[str, bool, str]]:
    """Each target: what it asks, whether it is met, the numbers."""
    n, seeds = len(results), len(results[0].mean["auto"])
    for questions in (False, True):
        lost = [w for one in results for w in one.worse(questions=questions)]
        count = sum(bool(one.worse(questions=questions)) for one in results)
        told = f"{count} of {n} series are; {dict(Counter(w[: w.find(' +')] for w in lost))}"
        kind = "questions" if questions else "seeds"
        yield f"never worse than raw or base rate (2 errors over {kind})", not lost, told
    over = np.array([one.over for one in results])
    told = f"{over.mean():+.2f} % on average, {(over <= 1).sum()} of {n} within 1 %, "
    told += f"largest {over.max():+.2f} %"
    yield "log loss within 1 % of the best single one on average", bool(over.mean() <= 1), told
    gaps = {}
    for name in (*SINGLE, "platt50"):
        if ran := [one for one in results if name in one.mean]:
            gaps[name] = np.mean([one.loss(name) - one.loss("auto") for one in ran])
    told = ", ".join(f"{name} {gap:+.4f}" for name, gap in gaps.items())
    yield "best overall (each one's mean log loss less auto's)", bool(min(gaps.values()) >= 0), told
    share = float(np.mean([one.good.mean() for one in results]))
    told = f"{share:.3f} of series, {seeds * share:.1f} of {seeds} splits"
    asked = "ECE below floor, Brier below base rate where it ranks, on 90 % of series"
    yield f"{asked} (each split by itself)", share >= 0.9, told
    good = sum(one.good_on_average for one in results)
    told = f"{good} of {n}; {sum(one.auroc > RANKS for one in results)} of {n} signals rank"
    yield f"{asked} (means over splits)", good >= 0.9 * n, told
    for one in results:
        if (one.series.dataset, one.series.signal) == ("commonsenseqa", "verbal"):
            yield from commonsense(one)


def commonsense(one: Found) -> Iterator[tuple[str, bool, str]]:
    """The two series of CommonsenseQA that have a target of their own."""
    before, after = (float(np.nanmean(one.mean[name])) for name in ("identity", "auto"))
    rate = float(one.series.right.mean())
    gaps = {rule: one.difference("identity", rule) for rule in RULES}
    told = f"mean probability {before:.3f} -> {after:.3f}, accuracy {rate:.3f}; "
    told += ", ".join(f"{rule} {gap:+.4f} ± {error:.4f}" for rule, (gap, error) in gaps.items())
    told += f"; ECE {three(one.ece['identity'])} -> {three(one.ece['auto'])}"
    if one.series.model == "Base":
        unharmed = all(gap <= 2 * error for gap, error in gaps.values())
        yield "CommonsenseQA base unharmed (2 errors over seeds)", unharmed, told
    if one.series.model == "RLCR":
        nearer = abs(after - rate) < abs(before - rate)
        yield "CommonsenseQA RLCR raised", before < after and nearer, told


def main() -> None:
    """Measure; print the tables as Markdown, each target and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("pools", nargs="?", default=os.environ.get("POISE_POOLS"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", default="", help="of all series those that hold this text")
    options = parser.parse_args()
    if options.pools is None:
        parser.error("name the folder of pools, or set POISE_POOLS")
    started = time.perf_counter()
    left_out, sides = Counter[str](), dict[tuple[int, Group], bool]()
    found = read_series(Path(options.pools), left_out)
    wanted = (one for one in found if options.only in f"{one.pool} {one.name}")
    results = [measure(one, options.seeds, sides) for one in wanted]
    print(
        "| pool | series | n | auto over best single, log loss % | splits with ECE below floor: "
        "raw / base rate / auto | splits that pass | series that pass on average "
        "| worse: over seeds / over questions |"
    )
    print("|---|" + "--:|" * 7, *by_pool(results), "", sep="\n")
    print(
        "| data set · model · signal | n | base rate | AUROC | Brier raw / base rate / auto "
        "| log loss raw / base rate / platt50 / auto | best single, auto over it % "
        "| ECE (floor) raw / auto | splits that pass | losses |"
    )
    print("|---|" + "--:|" * 8 + "---|", *map(line, results), "", sep="\n")
    verdicts, took = list(targets(results)), round(time.perf_counter() - started, 1)
    for asked, met, told in verdicts:
        print(f"{'met' if met else 'NOT MET':8}{asked}: {told}")
    refused = dict(sum((one.refused for one in results), Counter()))
    chosen = dict(sum((one.chosen for one in results), Counter()).most_common())
    print(f"left out: {dict(left_out)}\nrefused: {refused or 'none'}\nchosen by auto: {chosen}")
    summary = {"benchmark": "calibration", "seeds": options.seeds, "series": len(results)}
    told = {asked: met for asked, met, _ in verdicts}
    print(json.dumps({**summary, "met": told, "refused": refused, "seconds": took}))


if __name__ == "__main__":
    main()
