"""How true a model's confidence is on pools it was not trained on, and how well it still answers.

One pass a row gives the confidence in the wording that was trained; the numbers are those of
``metrics``, always with the constant base rate and, for the untrained model, beside maps fitted on
a few labels of *training* questions. It does not know how a model was trained.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from poise import metrics
from poise.answers.clusters import Clusters
from poise.calibrators import Constant, Platt
from poise.errors import MissingEvidence
from poise.metrics.report import Report
from poise.pools import Labelled
from poise.scoring import FloatArray
from poise.signals.evidence import Evidence
from poise.signals.logprob import Logprob
from poise.signals.p_true import LEAST_MASS, PTrue
from poise.train.batches import fill_token
from poise.train.losses import Levels, shares
from poise.train.model import Loaded
from poise.train.prefill import behind
from poise.train.rows import TooLong, confidence_row
from poise.train.stating import STATED, stated_row
from poise.types import Prompt

__all__ = [
    "Graded",
    "baselines",
    "changes",
    "column",
    "confidence",
    "consensus",
    "graded",
    "marked",
    "numbers",
    "rated",
]

LABELS = (50, 200)
"""How many labels the baselines of the untrained model are fitted on, one a question."""

REPLICATES = 300


def confidence(
    loaded: Loaded, rows: Sequence[Sequence[int]], levels: Levels, *, batch: int = 16
) -> tuple[FloatArray, FloatArray]:
    """What the model states behind each row: confidence (m,) in [0, 1] and its mass (m,).

    Equal rows are asked once. The model is left in the mode it was in.
    """
    distinct = sorted(set(map(tuple, rows)))  # rows that start alike share a batch
    fill = fill_token(loaded.tokenizer)
    value = torch.tensor(levels.values, device=loaded.device)
    known: dict[tuple[int, ...], tuple[float, float]] = {}
    was = loaded.model.training
    loaded.model.eval()
    try:
        for start in range(0, len(distinct), batch):
            part = distinct[start : start + batch]
            with torch.inference_mode():
                logits = behind(loaded.model, part, fill, loaded.device)
                share, mass = shares(logits, levels.tokens)
                stated = (share @ value).clamp(0, 1)
            known |= dict(zip(part, zip(stated.tolist(), mass.tolist(), strict=True), strict=True))
    finally:
        loaded.model.train(was)
    pairs = [known[tuple(row)] for row in rows]
    return np.array([p for p, _ in pairs]), np.array([mass for _, mass in pairs])


def marked(
    loaded: Loaded,
    pools: Sequence[Labelled],
    wording: str,
    levels: Levels,
    *,
    prompt: Prompt | None = None,
    longest: int = 1024,
    batch: int = 16,
) -> list[Labelled]:
    """The pools, with the model's confidence in every readable sample stored as a signal.

    The signal is named as the wording's own (``column``); None where a sample is unreadable or its
    row too long, and where the tokens that count have less than ``LEAST_MASS`` together.
    ``prompt``: what asks for a stated confidence, for the wording ``stated`` alone.
    """
    name = column(wording)
    places: list[tuple[int, int]] = []
    rows: list[tuple[int, ...]] = []
    for place, one in enumerate(pools):
        question = one.pool.question
        for sample in one.pool.samples if question is not None else ():
            if sample.answer is None or not sample.text:
                continue
            try:
                assert question is not None
                if prompt is not None and wording == STATED:
                    row = stated_row(loaded.tokenizer, question, sample, prompt, longest=longest)
                else:
                    row = confidence_row(
                        loaded.tokenizer, question, sample, wording, longest=longest
                    )
            except TooLong:
                continue
            places.append((place, sample.index))
            rows.append(row)
    stated, mass = confidence(loaded, rows, levels, batch=batch)
    found = {
        where: float(p)
        for where, p, enough in zip(places, stated, mass >= LEAST_MASS, strict=True)
        if enough
    }
    return [
        replace(
            one,
            pool=replace(
                one.pool,
                samples=tuple(
                    replace(
                        sample,
                        signals={**sample.signals, name: found.get((place, sample.index))},
                        followups={k: v for k, v in sample.followups.items() if k != name},
                    )
                    for sample in one.pool.samples
                ),
            ),
        )
        for place, one in enumerate(pools)
    ]


def column(wording: str) -> str:
    """The name under which a confidence in this wording is stored with a sample."""
    own = {"digit": "digit_confidence", STATED: "stated_confidence"}
    return own[wording] if wording in own else PTrue(wording).name  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Graded:
    """Graded samples that can be asked about, (m,) each: label, question, confidence.

    ``p`` NaN where the model stated none (``missing`` counts them); ``logprob`` and ``logprob_sum``
    NaN where the pool keeps none. NaN never reaches a metric.
    """

    y: FloatArray
    question: tuple[tuple[str, str], ...]
    p: FloatArray
    logprob: FloatArray
    logprob_sum: FloatArray

    @property
    def missing(self) -> int:
        """Rows without a stated confidence."""
        return int(np.isnan(self.p).sum())


def graded(pools: Sequence[Labelled], wording: str) -> Graded:
    """The readable, graded samples of marked pools, in file order."""
    return rated(pools, column(wording))


def rated(pools: Sequence[Labelled], name: str) -> Graded:
    """The readable, graded samples, in file order; ``name``: the signal read as confidence."""
    mean, total = Logprob(), Logprob("sum")
    groups: list[tuple[str, str]] = []
    table: list[tuple[float, float, float, float]] = []
    for one in pools:
        for sample, label in zip(one.pool.samples, one.correct, strict=True):
            if sample.answer is None or label is None:
                continue
            stated = sample.signals.get(name)
            alone = Evidence.single(sample)
            said = math.nan if stated is None else stated
            table.append((float(label), said, _read(mean, alone), _read(total, alone)))
            groups.append(one.pool.group)
    y, p, logprob, summed = np.array(table, np.float64).reshape(-1, 4).T
    return Graded(y, tuple(groups), p, logprob, summed)


def _read(signal: Logprob, evidence: Evidence) -> float:
    try:
        return signal(evidence)
    except MissingEvidence:
        return math.nan


def numbers(rows: Graded, p: FloatArray | None = None, *, seed: int = 0) -> dict[str, Any]:
    """What is reported of one column of confidences (``p`` None: the rows' own); JSON-ready.

    Rows without one are left out and counted in ``missing``; ``reason`` in place of numbers where
    nothing is left.
    """
    stated = rows.p if p is None else p
    there = ~np.isnan(stated)
    if not there.any():
        reason = "no sample is graded" if not there.size else "no row states a confidence"
        return {"rows": 0, "missing": int(there.size), "reason": reason}
    questions = [of for of, has in zip(rows.question, there, strict=True) if has]
    made = metrics.summary(
        rows.y[there], stated[there], questions, replicates=REPLICATES, seed=seed
    )
    return {"missing": int((~there).sum()), "mean": float(stated[there].mean()), **_kept(made)}


def _kept(made: Report) -> dict[str, Any]:
    told = asdict(made)
    names = ("rows", "questions", "base_rate", "base_brier", "brier", "log_loss", "auroc")
    more = ("ece", "ece_floor", "ece_debiased", "smooth_ece", "within_question")
    return {name: told[name] for name in (*names, *more)}


def changes(before: Graded, after: Graded, *, seed: int = 0) -> dict[str, Any]:
    """After less before on the rows where both state a confidence, with intervals by question.

    Brier and AUROC; negative is better for the first, positive for the second.
    """
    both = ~(np.isnan(before.p) | np.isnan(after.p))
    if not both.any():
        return {"rows": 0, "reason": "no row has a confidence before and after"}
    questions = [of for of, has in zip(before.question, both, strict=True) if has]
    found: dict[str, Any] = {"rows": int(both.sum())}
    for metric in ("brier", "auroc"):
        found[metric] = asdict(
            metrics.paired(
                metric,
                before.y[both],
                after.p[both],
                before.p[both],
                questions,
                replicates=REPLICATES,
                seed=seed,
            )
        )
    return found


def consensus(pools: Sequence[Labelled], name: str) -> dict[str, Any]:
    """Mean confidence in the majority answer where it is wrong, and where it is right.

    ``name``: the stored signal that is the confidence.

    The majority answer has more votes than any other (ties are counted apart); a question's mean is
    over its samples with that answer that state a confidence. A rise on wrong consensus is how
    training to agree with oneself goes wrong unseen.
    """
    found: dict[int, list[float]] = {0: [], 1: []}
    none: Counter[str] = Counter()
    for one in pools:
        clusters = Clusters(one.pool.kind)
        of = [clusters.add(sample.answer) for sample in one.pool.samples]
        ranked = sorted(clusters.counts, reverse=True)
        if not ranked or (len(ranked) > 1 and ranked[0] == ranked[1]):
            none["no single majority"] += 1
            continue
        leader = clusters.counts.index(ranked[0])
        members = [place for place, cluster in enumerate(of) if cluster == leader]
        label = next((one.correct[at] for at in members if one.correct[at] is not None), None)
        given = [one.pool.samples[at].signals.get(name) for at in members]
        stated = [p for p in given if p is not None]
        if label is None or not stated:
            none["not graded" if label is None else "no confidence"] += 1
            continue
        found[label].append(math.fsum(stated) / len(stated))
    return {
        "wrong": _mean(found[0]),
        "right": _mean(found[1]),
        "left_out": dict(none),
    }


def _mean(values: Sequence[float]) -> dict[str, Any]:
    mean = math.fsum(values) / len(values) if values else None
    return {"questions": len(values), "mean": mean}


def baselines(
    labels: Graded, held_out: Graded, *, sizes: Sequence[int] = LABELS, seed: int = 0
) -> dict[str, Any]:
    """What a few labels make of the untrained model, on the held-out rows.

    ``labels``: graded rows of training questions, one a question, in the order they are taken.
    The constant base rate and Platt's map of the confidence, of the mean and of the summed token
    log-probability; ``reason`` where there are too few labels or nothing to map.
    """
    found: dict[str, Any] = {}
    for size in sizes:
        if len(labels.y) < size:
            found[f"{size} labels"] = {"reason": f"only {len(labels.y)} training questions"}
            continue
        found[f"{size} labels"] = {
            "constant": numbers(held_out, _constant(labels, held_out, size), seed=seed),
            **{
                f"{name} + platt": _platt(labels, held_out, name, size, seed)
                for name in ("p", "logprob", "logprob_sum")
            },
        }
    return found


def _constant(labels: Graded, held_out: Graded, size: int) -> FloatArray:
    rate = Constant().fit(np.zeros(size), labels.y[:size])
    chance: FloatArray = rate.predict_proba(np.zeros(len(held_out.y)))[:, 1]
    return chance


def _platt(labels: Graded, held_out: Graded, name: str, size: int, seed: int) -> dict[str, Any]:
    x, y = getattr(labels, name)[:size], labels.y[:size]
    asked = getattr(held_out, name)
    there, known = ~np.isnan(x), ~np.isnan(asked)
    if there.sum() < 2 or not known.any():
        return {"reason": "the rows keep no such number"}
    if len(set(y[there])) < 2:
        return {"reason": "the labels are all alike"}
    fitted = Platt("probability" if name == "p" else "real").fit(x[there], y[there])
    mapped = np.full(len(asked), np.nan)
    mapped[known] = fitted.predict_proba(asked[known])[:, 1]
    return numbers(held_out, mapped, seed=seed)
