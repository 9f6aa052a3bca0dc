"""Stored samples -> preference pairs: of two different answers to one question, the surer one.

A sample's sureness is the probability that the model gave to the tokens of its answer, one after
another (the signal ``answer_logprob_sum``, as a probability); no grade is looked at to make a pair.
Grades, where there are any, only say afterwards how often the surer answer was the right one.

On the embedded model's arithmetic the sum ranked as well as the mean of the answer's
log-probabilities (AUROC .887 and .885, 9,336 samples) and was nearer to the truth (Brier .147 and
.243, the base rate's .167); on words .872 and .829 (3,353 samples), on facts neither ranks (.49).

It does not know models, losses or trainers.

Source: RLSF, van Niekerk et al. 2025, arXiv 2507.21931 (there beams of the frozen model, ranked by
the confidence in the answer span; here samples that are stored anyway).
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poise.answers.clusters import Clusters
from poise.errors import InputError, MissingEvidence, UsageError
from poise.pools import Labelled
from poise.signals.answer_span import AnswerLogprob
from poise.signals.evidence import Evidence
from poise.train.rows import TooLong, response_row
from poise.types import Prompt, Question, Sample

__all__ = ["Pair", "PairRow", "Pairs", "answer_probability", "pairs", "rows"]

_SPAN = AnswerLogprob("sum")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two samples (indices of a pool) with different answers; ``gap`` > 0 in probability."""

    one: Labelled
    chosen: int
    rejected: int
    gap: float

    @property
    def question(self) -> Question:
        """What was asked."""
        question = self.one.pool.question
        assert question is not None, "pairs() leaves such pools out"
        return question

    @property
    def samples(self) -> tuple[Sample, Sample]:
        """The chosen and the rejected one."""
        drawn = self.one.pool.samples
        return drawn[self.chosen], drawn[self.rejected]


@dataclass(frozen=True, slots=True)
class Pairs:
    """``pairs`` in file order; ``counts`` says what became of questions and samples, JSON-ready."""

    pairs: tuple[Pair, ...]
    counts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PairRow:
    """Token ids of a prompt and of the two responses to it, each with one token or more."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    @property
    def longest(self) -> int:
        """Tokens of the longer of the two sequences."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


def answer_probability(sample: Sample) -> float:
    """The probability of the sample's answer where it stands in its text, in [0, 1].

    Raises MissingEvidence, as the signal does, without log-probabilities or such a place.
    """
    return min(1.0, math.exp(_SPAN(Evidence.single(sample))))


def pairs(pools: Sequence[Labelled], *, gap: float = 0.2, most: int = 4, seed: int = 0) -> Pairs:
    """At most ``most`` pairs of each question, drawn by ``seed`` from all that it has.

    A pair is of one arm, its answers are in different clusters of the answer kind, and its
    probabilities lie ``gap`` in [0, 1) or more apart. Samples that are unreadable, cut, without
    text or probability, or said word for word before are left out and counted. Raises UsageError
    for a ``gap`` or ``most`` that makes no sense, InputError where no pair is left, saying why.
    """
    if not 0 <= gap < 1 or most < 1:
        raise UsageError(f"gap={gap}, pairs={most}: must be in [0, 1) and at least 1")
    samples: Counter[str] = Counter()
    without: dict[tuple[str, str], str] = {}
    found: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for one in pools:
        made, why = _of(one, gap, samples)
        found[one.pool.group] += made
        without[one.pool.group] = why
    kept = [pair for group, every in found.items() for pair in _drawn(every, most, seed, group)]
    if not kept:
        reasons = Counter(without.values()) + samples
        told = ", ".join(f"{reason}: {n}" for reason, n in reasons.most_common()) or "no pools"
        raise InputError(
            f"no two samples of a question make a pair ({told}); lower --gap, or sample more with"
            " log-probabilities (`poise sample` keeps them)"
        )
    paired = {group for group, every in found.items() if every}
    counts = {
        "questions": len(found),
        "questions_with_pairs": len(paired),
        "questions_left_out": dict(Counter(without[group] for group in found.keys() - paired)),
        "samples": sum(len(one.pool.samples) for one in pools),
        "samples_left_out": dict(samples),
        "pairs": len(kept),
        "pairs_over_the_most": sum(map(len, found.values())) - len(kept),
        "mean_gap": math.fsum(pair.gap for pair in kept) / len(kept),
        "grades": _grades(kept),
    }
    return Pairs(tuple(kept), counts)


def _of(one: Labelled, gap: float, left_out: Counter[str]) -> tuple[list[Pair], str]:
    """All pairs of one pool, and why it has none where it has none; counts what is left out."""
    usable: list[tuple[int, int, float]] = []
    clusters = Clusters(one.pool.kind)
    said: set[str] = set()
    for sample in one.pool.samples:
        probability, why = _probability(sample)
        if why is None and sample.text in said:
            why = "said word for word before"
        if probability is None or why is not None:
            left_out[why or "no probability"] += 1
            continue
        said.add(sample.text or "")
        cluster = clusters.add(sample.answer)
        assert cluster is not None, "a readable answer"
        usable.append((sample.index, cluster, probability))
    if one.pool.messages is None:
        return [], "the pool leaves the question out"
    found = [
        Pair(one, chosen, rejected, high - low)
        for chosen, first, high in usable
        for rejected, second, low in usable
        if first != second and high > low and high - low >= gap
    ]
    if found:
        return found, ""
    return [], "one answer only" if len(clusters.counts) < 2 else "no gap as wide as asked for"


def _probability(sample: Sample) -> tuple[float | None, str | None]:
    """The answer's probability, or why the sample is of no use."""
    if sample.answer is None:
        return None, "unreadable"
    if sample.finish not in (None, "stop"):
        return None, "cut"
    if not sample.text:
        return None, "no text"
    if sample.logprobs is None:
        return None, "no log-probabilities"
    try:
        return answer_probability(sample), None
    except MissingEvidence:
        return None, "the answer has no place in the text"


def _drawn(every: Sequence[Pair], most: int, seed: int, group: tuple[str, str]) -> list[Pair]:
    """At most ``most`` of a question's pairs, in their order; no other question changes them."""
    if len(every) <= most:
        return list(every)
    rng = random.Random(f"{seed} {group}")  # noqa: S311 - a seeded draw, not a secret
    return [every[place] for place in sorted(rng.sample(range(len(every)), most))]


def _grades(kept: Sequence[Pair]) -> dict[str, int]:
    """Which of the two was right, over the pairs that are graded."""
    names = {(1, 0): "chosen right", (0, 1): "rejected right", (0, 0): "both wrong"}
    told = Counter(dict.fromkeys(names.values(), 0))
    for pair in kept:
        labels = pair.one.correct[pair.chosen], pair.one.correct[pair.rejected]
        told["not graded" if None in labels else names.get(labels, "both right")] += 1  # type: ignore[arg-type]
    return dict(told)


def rows(
    tokenizer: Any, given: Sequence[Pair], prompt: Prompt, *, longest: int = 1024
) -> tuple[list[PairRow], int]:
    """Token rows of the pairs, as generated from the arm's prompt, and how many did not fit.

    A row that has more than ``longest`` tokens is left out whole: half a response would be judged
    for what it does not say. Raises UsageError where the tokenizer has no chat template.
    """
    made: list[PairRow] = []
    for pair in given:
        try:
            both = [
                response_row(tokenizer, pair.question, sample, prompt, longest=longest + 1)
                for sample in pair.samples
            ]
        except TooLong:
            continue
        if max(len(row.ids) for row in both) > longest:
            continue
        chosen, rejected = (row.ids[-row.response :] for row in both)
        made.append(PairRow(both[0].ids[: -both[0].response], chosen, rejected))
    return made, len(given) - len(made)
