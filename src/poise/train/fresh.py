"""Fresh samples of a model in memory, how sure it was of their answers, and how many are right.

A model that is trained on what it says has to be measured on what it says then: its accuracy, and
how true the probability is that it gave to the answer it wrote. It does not know training.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from poise.answers import read
from poise.answers.clusters import Clusters
from poise.errors import InputError, MissingEvidence
from poise.grading import grade
from poise.metrics.bootstrap import resample
from poise.metrics.rows import read as read_rows
from poise.metrics.statistic import Statistic, ratio
from poise.pools import Labelled, Pool
from poise.scoring import FloatArray
from poise.train.evaluating import REPLICATES, consensus, numbers, rated
from poise.train.model import Loaded
from poise.train.pairs import answer_probability
from poise.train.replies import DRAWN, MAX_TOKENS, Accuracy, replies
from poise.types import Kind, Prompt, Question, Reply, Sample

__all__ = ["ENGINE", "SIGNAL", "change", "fresh", "measured"]

ENGINE = "transformers"
"""What draws fresh samples, as their pools state it."""

SIGNAL = "answer_probability"
"""The name under which the probability of its answer is stored with a sample."""


def fresh(
    loaded: Loaded,
    pools: Sequence[Labelled],
    prompt: Prompt,
    *,
    model: str,
    draws: int,
    seed: int = 0,
    batch: int = 16,
) -> list[Labelled]:
    """``draws`` samples of each question, with log-probabilities, decoded as its pool was.

    One pool a question, of the arm ``model``, graded where the given one states a gold answer.
    Questions without text or kind are left out. The same seed and batch give the same samples.
    Raises InputError for gold answers that cannot be read and a decoding without temperature,
    Rejected for one that the back-end refuses.
    """
    known: dict[tuple[str, str], Labelled] = {}
    for one in pools:
        if one.pool.question is not None and one.pool.kind is not None:
            known.setdefault(one.pool.group, one)
    alike: dict[str, list[Labelled]] = defaultdict(list)
    for one in known.values():
        alike[str(sorted(_decoding(one).items()))].append(one)
    found: dict[tuple[str, str], Labelled] = {}
    for them in alike.values():
        decoding = _decoding(them[0])
        asked = [one.pool.question for one in them if one.pool.question is not None]
        talks = [prompt.messages(question) for question in asked]
        more: dict[str, Any] = {"draws": draws, "seed": seed, "batch": batch, "logprobs": True}
        said = replies(loaded, talks, decoding, **more)
        for one, question, each in zip(them, asked, said, strict=True):
            arm = (model, decoding, prompt.hash(question.kind))
            found[one.pool.group] = _pool(one, question, each, arm)
    return [found[group] for group in known]


def _decoding(one: Labelled) -> dict[str, Any]:
    """What of the pool's decoding is used here. Raises InputError where it states no heat."""
    stated = one.pool.decoding or {}
    used = {name: stated[name] for name in DRAWN if name in stated}
    if "temperature" not in used and "edt" not in used:
        raise InputError(
            f"question {one.pool.question_id}: its pool does not state the temperature, so that"
            " fresh samples cannot be drawn alike; add it to the pool's decoding"
        )
    return {**used, "max_tokens": stated.get("max_tokens", MAX_TOKENS)}


def _pool(
    one: Labelled,
    question: Question,
    said: Sequence[Reply],
    arm: tuple[str, Mapping[str, Any], str],
) -> Labelled:
    assert question.kind is not None, "questions without a kind are left out"
    kind, options = question.kind, question.options
    samples = tuple(_sample(index, reply, question) for index, reply in enumerate(said))
    pool = Pool(
        dataset=one.pool.dataset,
        model=arm[0],
        question_id=one.pool.question_id,
        samples=samples,
        messages=question.messages,
        kind=kind,
        options=options,
        segment=one.pool.segment,
        decoding=arm[1],
        engine=ENGINE,
        prompt_hash=arm[2],
    )
    correct = tuple(_correct(sample.answer, one.gold, kind, options) for sample in samples)
    return Labelled(pool, one.gold, correct)


def _sample(index: int, reply: Reply, question: Question) -> Sample:
    assert question.kind is not None, "questions without a kind are left out"
    reading = read(reply, question.kind, question.options)
    sample = Sample(
        index,
        reply.text,
        reading.answer,
        unread=reading.reason,
        finish=reply.finish,
        tokens=reply.tokens,
        logprobs=reply.logprobs,
    )
    try:
        probability = answer_probability(sample)
    except MissingEvidence:
        return sample
    return replace(sample, signals={SIGNAL: probability})


def _correct(
    answer: str | None, gold: str | None, kind: Kind, options: tuple[str, ...] | None
) -> int | None:
    if gold is None:
        return None
    if answer is None:
        return 0  # drawn, and not the right answer
    return grade(answer, gold, kind, options).correct


def measured(pools: Sequence[Labelled], *, seed: int = 0) -> dict[str, Any]:
    """What is reported of fresh samples; JSON-ready.

    ``confidence``: the probability of the answer against its grade, over graded samples;
    ``consensus`` the same over majority answers; ``means`` of it over wrong, right and all samples.
    ``sampled``: accuracy. An unreadable sample counts as wrong there, and has no confidence.
    """
    graded = [one for one in pools if None not in one.correct]
    right = tuple(math.fsum(y or 0 for y in one.correct) / len(one.correct) for one in graded)
    unreadable = sum(s.answer is None for one in graded for s in one.pool.samples)
    draws = len(graded[0].correct) if graded else 0
    every = [sample for one in pools for sample in one.pool.samples]
    groups = [len(_clusters(one).counts) for one in pools]
    return {
        "confidence": numbers(rated(pools, SIGNAL), seed=seed),
        "consensus": consensus(pools, SIGNAL),
        "means": _means(pools),
        "sampled": Accuracy(right, draws, unreadable).to_dict(),
        "samples": len(every),
        "finish": dict(Counter(sample.finish for sample in every)),
        "answers_a_question": math.fsum(groups) / len(groups) if groups else None,
    }


def _clusters(one: Labelled) -> Clusters:
    clusters = Clusters(one.pool.kind)
    for sample in one.pool.samples:
        clusters.add(sample.answer)
    return clusters


def _means(pools: Sequence[Labelled]) -> dict[str, Any]:
    """The mean probability of an answer by its grade, and how many samples have one."""
    found: dict[str, list[float]] = {"wrong": [], "right": [], "all": []}
    for one in pools:
        for sample, label in zip(one.pool.samples, one.correct, strict=True):
            stated = sample.signals.get(SIGNAL)
            if stated is None:
                continue
            found["all"].append(stated)
            if label is not None:
                found["right" if label else "wrong"].append(stated)
    return {
        name: {"samples": len(them), "mean": math.fsum(them) / len(them) if them else None}
        for name, them in found.items()
    }


def change(
    before: Sequence[Labelled], after: Sequence[Labelled], *, seed: int = 0
) -> dict[str, Any]:
    """After less before, with intervals over questions, each drawn with both its sets of samples.

    ``accuracy`` of graded samples; ``confidence``, the mean probability of an answer;
    ``overconfidence``, that mean less the accuracy, over graded samples that have a probability.
    """
    named = sorted({one.pool.group for one in (*before, *after)})
    if not named:
        return {"questions": 0, "reason": "no question was measured"}
    old, new = (_sums(pools, named) for pools in (before, after))

    def difference(above: str, below: str) -> Statistic:
        ahead, behind = ratio(new[above], new[below]), ratio(old[above], old[below])
        return lambda counts: ahead(counts) - behind(counts)

    statistics = {
        "accuracy": difference("right", "graded"),
        "confidence": difference("probability", "probable"),
        "overconfidence": difference("excess", "compared"),
    }
    nothing = np.zeros(len(named))
    rows = read_rows(nothing, nothing, None, range(len(named)))
    made = resample(statistics, rows, replicates=REPLICATES, seed=seed)
    return {
        "questions": len(named),
        **{name: asdict(estimate) for name, estimate in made.items()},
    }


def _sums(pools: Sequence[Labelled], named: Sequence[tuple[str, str]]) -> Mapping[str, FloatArray]:
    """Sums over each question's samples, (q,) by name."""
    names = ("right", "graded", "probability", "probable", "excess", "compared")
    found = {name: np.zeros(len(named)) for name in names}
    place = {group: number for number, group in enumerate(named)}
    for one in pools:
        at = place[one.pool.group]
        for sample, label in zip(one.pool.samples, one.correct, strict=True):
            stated = sample.signals.get(SIGNAL)
            if label is not None:
                found["right"][at] += label
                found["graded"][at] += 1
            if stated is not None:
                found["probability"][at] += stated
                found["probable"][at] += 1
            if label is not None and stated is not None:
                found["excess"][at] += stated - label
                found["compared"][at] += 1
    return found
