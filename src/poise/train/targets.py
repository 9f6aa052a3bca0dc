"""What a stated confidence should become: a target for each readable sample of labelled pools.

====================  ==========================================================================
target                of a sample with answer y
====================  ==========================================================================
``ssc``               soft self-consistency: sum of c_i over samples that say y / sum of all c_i
``consistency``       the same with every c_i = 1: the share of samples that say y
``p_true``            c_i itself: how probable the untrained model found "yes" (P(True))
``labels``            1 right, 0 wrong
====================  ==========================================================================

Sums run over the readable samples of one question under one arm; equal answers are those of the
answer kind. c_i is what the pool keeps under the signal ``p_true``'s name in the chosen wording.
Only ``labels`` looks at grades. It does not know tokens, models or losses.

Source: Self-Calibration, Huang et al. 2025, arXiv 2503.00031 (its answers are compared as strings,
and its split parts rows of one question; here a question is in one part).
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from poise.answers.clusters import Clusters
from poise.errors import InputError, MissingEvidence, UsageError
from poise.pools import Labelled, split
from poise.signals.evidence import Evidence
from poise.signals.p_true import PTrue
from poise.types import Question, Sample

__all__ = [
    "BINS",
    "TARGETS",
    "Example",
    "Target",
    "Targets",
    "balanced",
    "bin_of",
    "confidences",
    "first",
    "parted",
    "self_consistency",
    "targets",
]

Target = Literal["ssc", "consistency", "p_true", "labels"]
TARGETS: tuple[Target, ...] = ("ssc", "consistency", "p_true", "labels")

BINS = 21
"""Of width 0.05 from 0; the last holds 1 alone."""


@dataclass(frozen=True, slots=True)
class Example:
    """One readable sample (``index`` of its pool) and its ``target`` in [0, 1]."""

    one: Labelled
    index: int
    target: float

    @property
    def question(self) -> Question:
        """What was asked."""
        question = self.one.pool.question
        assert question is not None, "targets() leaves such pools out"
        return question

    @property
    def sample(self) -> Sample:
        """The sample that the target is about."""
        return self.one.pool.samples[self.index]

    @property
    def group(self) -> tuple[str, str]:
        """(dataset, question id)."""
        return self.one.pool.group


@dataclass(frozen=True, slots=True)
class Targets:
    """``examples`` in file order; ``left_out``: samples without a target, counted by reason.

    ``weighted`` and ``unweighted``: questions whose soft self-consistency had every c_i, and those
    that lacked one and were counted plainly. Both are 0 for other targets.
    """

    examples: tuple[Example, ...]
    left_out: Mapping[str, int]
    weighted: int = 0
    unweighted: int = 0


def targets(pools: Sequence[Labelled], target: Target = "ssc", wording: str = "own") -> Targets:
    """A target for each sample that can have one.

    Unreadable samples have none, nor has a question whose text the file leaves out. Soft targets
    need two readable samples that were drawn (temperature 0 draws nothing). A question that lacks
    some c_i is counted plainly as a whole, never with numbers filled in. Raises InputError where
    nothing is left, saying why; UsageError for an unknown ``target``.
    """
    if target not in TARGETS:
        raise UsageError(f"target {target!r}: must be one of {', '.join(TARGETS)}")
    found: list[Example] = []
    left_out: Counter[str] = Counter()
    plain: Counter[bool] = Counter()
    for one in pools:
        known = confidences(one, wording) if target in ("ssc", "p_true") else ()
        values, why = _values(one, target, known)
        if target == "ssc" and not why:
            plain[_complete(one, known)] += 1
        for sample, value in zip(one.pool.samples, values, strict=True):
            reason = "the pool leaves the question out" if one.pool.messages is None else why
            if sample.answer is None:
                left_out["unreadable"] += 1
            elif reason or value is None:
                left_out[reason or _MISSING[target]] += 1
            else:
                found.append(Example(one, sample.index, value))
    if not found:
        most = ", ".join(f"{reason}: {n}" for reason, n in left_out.most_common()) or "no pools"
        raise InputError(f"no sample has the target {target} ({most}){_ADVICE.get(target, '')}")
    return Targets(tuple(found), dict(left_out), plain[True], plain[False])


_MISSING: dict[Target, str] = {
    "ssc": "no weight on any answer",
    "consistency": "no weight on any answer",
    "p_true": "no P(True) kept",
    "labels": "not graded",
}
_ADVICE = {
    "labels": "; grade the pools (gold answers), or train on ssc, which needs no grades",
    "p_true": "; sample with --signals p_true_own, or pass --score",
}


def _values(
    one: Labelled, target: Target, known: Sequence[float | None]
) -> tuple[Sequence[float | None], str]:
    """The target of each sample (n,), and why the question has none ("" where it has)."""
    samples = one.pool.samples
    if target == "labels":
        return [None if label is None else float(label) for label in one.correct], ""
    if target == "p_true":
        return known, ""
    if (one.pool.decoding or {}).get("temperature") == 0:
        return [None] * len(samples), "drawn at temperature 0: agreement says nothing"
    if sum(sample.answer is not None for sample in samples) < 2:
        return [None] * len(samples), "fewer than two readable samples"
    weights = known if target == "ssc" and _complete(one, known) else None
    return self_consistency(one, weights), ""


def _complete(one: Labelled, known: Sequence[float | None]) -> bool:
    return all(
        c is not None
        for sample, c in zip(one.pool.samples, known, strict=True)
        if sample.answer is not None
    )


def confidences(one: Labelled, wording: str = "own") -> tuple[float | None, ...]:
    """P(True) of each sample (n,) as the pool keeps it, None where it cannot be read."""
    signal = PTrue(wording)  # type: ignore[arg-type]  # checked by PTrue
    found: list[float | None] = []
    for sample in one.pool.samples:
        try:
            found.append(signal(Evidence.single(sample)))
        except MissingEvidence:
            found.append(None)
    return tuple(found)


def self_consistency(
    one: Labelled, weights: Sequence[float | None] | None = None
) -> tuple[float | None, ...]:
    """SSC(y) = sum_i c_i [a_i = y] / sum_i c_i for each sample (n,), in [0, 1].

    ``weights`` (n,) c_i >= 0, a number at each readable sample; None: all 1. None where the answer
    was unreadable, and everywhere where the weights sum to 0.
    """
    clusters = Clusters(one.pool.kind)
    mass: dict[int, list[float]] = defaultdict(list)
    for sample in one.pool.samples:
        cluster = clusters.add(sample.answer)
        if cluster is not None:
            weight = 1.0 if weights is None else weights[sample.index]
            assert weight is not None, "a readable sample without its weight"
            mass[cluster].append(weight)
    total = math.fsum(weight for each in mass.values() for weight in each)
    if not total > 0:
        return (None,) * len(one.pool.samples)
    share = {cluster: min(1.0, math.fsum(each) / total) for cluster, each in mass.items()}
    return tuple(None if cluster is None else share[cluster] for cluster in clusters.clusters)


def parted(
    pools: Sequence[Labelled], held_out: float, seed: int
) -> tuple[list[Labelled], list[Labelled]]:
    """Pools to train on and pools held out, by question: all arms and runs of one stay together.

    ``held_out`` expected share of the questions, in [0, 1). Raises UsageError for another.
    """
    if not 0 <= held_out < 1:
        raise UsageError(f"held-out share {held_out}: must be at least 0 and below 1")
    if held_out == 0:
        return list(pools), []
    parts = split(pools, {"train": 1 - held_out, "held_out": held_out}, seed)
    return parts["train"], parts["held_out"]


def first(pools: Sequence[Labelled], questions: int | None) -> list[Labelled]:
    """The pools of the first ``questions`` questions, in file order; None: all."""
    kept: set[tuple[str, str]] = set()
    found = []
    for one in pools:
        if one.pool.group not in kept and questions is not None and len(kept) >= questions:
            continue
        kept.add(one.pool.group)
        found.append(one)
    return found


def bin_of(target: float) -> int:
    """The bin of a target in [0, 1]: 0 to ``BINS`` - 1; an edge belongs to the bin above it."""
    return min(int(target * (BINS - 1) + 1e-9), BINS - 1)


def balanced(examples: Sequence[Example], rows: int, seed: int) -> list[Example]:
    """At most ``rows`` examples, as evenly over the bins of each data set as they allow.

    A bin with fewer gives all it has, and the others share the rest. Within a bin every text of a
    question comes once before any comes twice; beyond that the choice is random. In file order.
    Raises UsageError for fewer than one row.
    """
    if rows < 1:
        raise UsageError(f"rows={rows}: must be at least 1")
    bins: dict[tuple[str, int], list[int]] = defaultdict(list)
    for place, example in enumerate(examples):
        bins[example.group[0], bin_of(example.target)].append(place)
    rng = random.Random(seed)  # noqa: S311 - a seeded draw, not a secret
    kept: list[int] = []
    left = rows
    for taken, (_, places) in enumerate(sorted(bins.items(), key=lambda it: (len(it[1]), it[0]))):
        quota = min(len(places), left // (len(bins) - taken))
        rng.shuffle(places)
        kept += _fresh_first(examples, places)[:quota]
        left -= quota
    return [examples[place] for place in sorted(kept)]


def _fresh_first(examples: Sequence[Example], places: Sequence[int]) -> list[int]:
    seen: Counter[tuple[tuple[str, str], str | None]] = Counter()
    ranked = []
    for place in places:
        key = examples[place].group, examples[place].sample.text
        ranked.append((seen[key], place))
        seen[key] += 1
    return [place for _, place in sorted(ranked, key=lambda pair: pair[0])]
