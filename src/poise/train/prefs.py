"""Preference training as one run: pools -> pairs -> before -> training -> after -> report.

The model learns to prefer what it was surer of, without a grade. That sharpens it, so that what it
says afterwards is always measured for over-confidence. Everything lands in one folder, and a run
that was killed goes on from there::

    settings.json        what was asked for, and of which data (a resumed run must agree)
    before.json          the numbers of the untrained model's fresh samples, its baselines
    before.NAME.jsonl.gz those samples, with the probability of their answers as a stored signal
    checkpoints/         the Trainer's
    adapter/             the trained adapter
    after.NAME.jsonl.gz  the trained model's samples of the same questions
    report.json          all of it

It does not know flags, terminals or exports.

Source: RLSF, van Niekerk et al. 2025, arXiv 2507.21931, by direct preference optimisation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from poise.backends import checkpoint
from poise.errors import InputError, MissingEvidence, UsageError
from poise.pools import Labelled, read_pools
from poise.train import dpo, evaluating, sft
from poise.train.estimate import Estimate
from poise.train.folder import (
    enter,
    fingerprint,
    hashed,
    plain,
    read_record,
    write_pools,
    write_record,
)
from poise.train.fresh import SIGNAL, change, fresh, measured
from poise.train.lineage import remember
from poise.train.loop import Told, Trained, Watch
from poise.train.model import (
    Loaded,
    count,
    require_memory,
    save_adapter,
    with_adapter,
    without_adapter,
)
from poise.train.pairs import PairRow, answer_probability, pairs, rows
from poise.train.recipe import Data, data
from poise.train.recipe import Recipe as Parting
from poise.train.replies import accuracy
from poise.train.sharpening import signs
from poise.types import Prompt

__all__ = ["Prepared", "Recipe", "parted", "prepare", "run", "tried"]

Say = Callable[[str], None]

WATCHED = 32
"""Training questions whose greedy replies are looked at during training."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to prefer in which share of the pools; ``settings`` say how it is learned.

    ``gap``: least difference in probability of a pair, in [0, 1); ``pairs``: most of a question.
    ``limit``: questions to train on. ``held_out``: share of the questions never trained on, of
    which ``questions`` are measured by ``draws`` fresh samples each; ``segments`` are held out
    whole. ``longest``: most tokens of a row. Raises UsageError for values that make no sense.
    """

    gap: float = 0.2
    pairs: int = 4
    limit: int | None = None
    held_out: float = 0.2
    questions: int = 40
    segments: tuple[str, ...] = ()
    draws: int = 4
    longest: int = 1024
    rank: int = 32
    alpha: float = 16
    settings: dpo.Settings = field(default_factory=dpo.Settings)

    def __post_init__(self) -> None:
        if not 0 <= self.gap < 1 or self.pairs < 1 or self.draws < 1:
            raise UsageError(
                f"gap={self.gap}, pairs={self.pairs}, draws={self.draws}: must be in [0, 1) and at"
                " least 1"
            )


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows to train on; ``counts`` says what became of the samples, JSON-ready."""

    rows: tuple[PairRow, ...]
    counts: Mapping[str, Any]


def parted(
    pools: Sequence[Labelled],
    others: Mapping[str, Sequence[Labelled]],
    recipe: Recipe,
    prompt: Prompt,
) -> Data:
    """Part the pools by question, as for Self-Calibration; raises as ``recipe.data``."""
    parting = Parting(
        limit=recipe.limit,
        held_out=recipe.held_out,
        questions=recipe.questions,
        segments=recipe.segments,
        in_use=0,
        settings=sft.Settings(seed=recipe.settings.seed),
    )
    return data(pools, others, parting, prompt)


def prepare(loaded: Loaded, given: Data, recipe: Recipe) -> Prepared:
    """Pairs and their token rows. Raises InputError where there are none, or none that fits."""
    made = pairs(given.train, gap=recipe.gap, most=recipe.pairs, seed=recipe.settings.seed)
    fit, long = rows(loaded.tokenizer, made.pairs, given.prompt, longest=recipe.longest)
    if not fit:
        raise InputError(f"no pair fits in {recipe.longest} tokens; allow longer ones (--longest)")
    counts = {
        **made.counts,
        "rows": len(fit),
        "rows_too_long": long,
        "tokens": sum(2 * len(r.prompt) + len(r.chosen) + len(r.rejected) for r in fit),
        "longest_row": max(row.longest for row in fit),
    }
    return Prepared(tuple(fit), counts)


def tried(loaded: Loaded, given: Data, recipe: Recipe) -> tuple[Mapping[str, Any], Estimate]:
    """What became of the samples, and what the run would take; nothing is trained or written."""
    prepared = prepare(loaded, given, recipe)
    adapted = _with_adapter(loaded, recipe)
    return prepared.counts, dpo.estimate(adapted, prepared.rows, recipe.settings)


def run(
    loaded: Loaded,
    given: Data,
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    say: Say = lambda _text: None,
    told: Told = lambda _record, _steps: None,
) -> dict[str, Any]:
    """The whole run; its report, which is also written to ``folder``.

    ``say`` hears of every stage, ``told`` of every step. ``resume`` goes on with what the folder
    holds. Raises UsageError where the folder is of another run, or not empty without ``resume``;
    RefusedError where memory is too small for a step; what the parts raise.
    """
    kept = folder / "report.json"
    asked = enter(folder, _asked(loaded, given, recipe), resume=resume)
    if kept.is_file():
        return read_record(kept)
    prepared = prepare(loaded, given, recipe)
    say(_sentence(prepared.counts))
    adapted = _with_adapter(loaded, recipe)
    settings = recipe.settings
    require_memory(adapted, 2 * settings.batch, prepared.counts["longest_row"])
    started = time.monotonic()
    with without_adapter(adapted) as untrained:
        before = _before(untrained, given, recipe, folder, say)
    seconds = {"before": time.monotonic() - started}
    say(f"training: {settings.steps(len(prepared.rows))} steps")
    watch = _watch(adapted, given, before["watched"], recipe)
    place = folder / "checkpoints"
    rest: dict[str, Any] = {"told": told, "watch": watch, "resume": resume}
    trained = dpo.train(adapted, prepared.rows, settings, place, **rest)
    save_adapter(adapted, folder / "adapter")
    remember(folder / "adapter", given.train)
    seconds["training"] = trained.seconds
    started = time.monotonic()
    after = {
        name: _measure(adapted, name, pools, given.prompt, recipe, folder, "after", say)
        for name, pools in given.held_out.items()
    }
    seconds["after"] = time.monotonic() - started
    report = {
        "schema": 1,
        "asked": asked,
        "model": _model(adapted),
        "data": dict(prepared.counts),
        "evaluation": {
            name: {**before["sets"][name], "after": numbers} for name, numbers in after.items()
        },
        "change": {name: _change(folder, name, settings.seed) for name in given.held_out},
        "seconds": seconds,
        **_told(trained),
    }
    report["signs"] = signs(report)
    write_record(kept, report)
    return report


def _asked(loaded: Loaded, given: Data, recipe: Recipe) -> dict[str, Any]:
    return {
        "recipe": asdict(recipe),
        "model": loaded.sha256,
        "prompt": hashed([asdict(given.prompt)]),
        "train": fingerprint(given.train),
        "held_out": {name: fingerprint(pools) for name, pools in given.held_out.items()},
    }


def _with_adapter(loaded: Loaded, recipe: Recipe) -> Loaded:
    # Without dropout: the two log-probabilities of a pair would differ by chance alone.
    return with_adapter(
        loaded, rank=recipe.rank, alpha=recipe.alpha, dropout=0.0, seed=recipe.settings.seed
    )


def _model(loaded: Loaded) -> dict[str, Any]:
    size = count(loaded)
    return {
        "name": loaded.name,
        "sha256": loaded.sha256,
        "parameters": size.total,
        "trained_parameters": size.trainable,
    }


def _told(trained: Trained) -> dict[str, Any]:
    return {
        "stopped": trained.stopped,
        "resumed_at_step": trained.resumed,
        "steps": [plain(step) for step in trained.steps],
    }


def _sentence(counts: Mapping[str, Any]) -> str:
    return (
        f"{counts['rows']} pairs of {counts['questions_with_pairs']} questions, of"
        f" {counts['questions']}; mean gap {counts['mean_gap']:.2f}"
    )


def _before(loaded: Loaded, given: Data, recipe: Recipe, folder: Path, say: Say) -> dict[str, Any]:
    """The untrained model's numbers, measured once in a run's life."""
    place = folder / "before.json"
    if place.is_file():
        return read_record(place)
    settings = recipe.settings
    labels = evaluating.rated([_sure(one) for one in given.labels], SIGNAL)
    sets: dict[str, Any] = {}
    for name, pools in given.held_out.items():
        told = _measure(loaded, name, pools, given.prompt, recipe, folder, "before", say)
        held = evaluating.rated(_kept(folder, "before", name), SIGNAL)
        made = evaluating.baselines(labels, held, seed=settings.seed)
        sets[name] = {"before": told, "baselines": made}
    pools = given.labels[:WATCHED] if settings.check_every else ()
    watched = accuracy(loaded, pools, given.prompt, _greedy(pools), batch=settings.batch).right
    found = {"sets": sets, "watched": list(watched)}
    write_record(place, found)
    return found


def _sure(one: Labelled) -> Labelled:
    """A pool with the probability of each answer as a stored signal, where it has one."""
    samples = []
    for sample in one.pool.samples:
        try:
            stated: float | None = answer_probability(sample)
        except MissingEvidence:
            stated = None
        samples.append(replace(sample, signals={**sample.signals, SIGNAL: stated}))
    return replace(one, pool=replace(one.pool, samples=tuple(samples)))


def _measure(
    loaded: Loaded,
    name: str,
    pools: Sequence[Labelled],
    prompt: Prompt,
    recipe: Recipe,
    folder: Path,
    when: str,
    say: Say,
) -> dict[str, Any]:
    """Fresh samples and greedy replies of the model as it is, before or after training."""
    say(f"{when}: {name}, {len(pools)} questions, {recipe.draws} samples each")
    seed, batch = recipe.settings.seed, recipe.settings.batch
    model = loaded.name
    if when == "after":
        model = checkpoint.adapted(model, folder / "adapter")
    more: dict[str, Any] = {"draws": recipe.draws, "seed": seed, "batch": batch}
    drawn = fresh(loaded, pools, prompt, model=model, **more)
    write_pools(folder / f"{when}.{name}.jsonl.gz", drawn)
    greedy = accuracy(loaded, pools, prompt, _greedy(pools), batch=batch)
    return {
        **measured(drawn, seed=seed),
        "greedy": {**greedy.to_dict(), "right": list(greedy.right)},
    }


def _greedy(pools: Sequence[Labelled]) -> dict[str, Any]:
    decoding = (pools[0].pool.decoding or {}) if pools else {}
    return {"max_tokens": decoding["max_tokens"]} if "max_tokens" in decoding else {}


def _watch(loaded: Loaded, given: Data, before: Sequence[float], recipe: Recipe) -> Watch | None:
    """A look at greedy replies to training questions; None where none is graded or asked for."""
    if not before or not recipe.settings.check_every:
        return None
    pools, batch = given.labels[:WATCHED], recipe.settings.batch
    greedy = _greedy(pools)
    return Watch(
        tuple(before), lambda: accuracy(loaded, pools, given.prompt, greedy, batch=batch).right
    )


def _change(folder: Path, name: str, seed: int) -> dict[str, Any]:
    return change(*(_kept(folder, when, name) for when in ("before", "after")), seed=seed)


def _kept(folder: Path, when: str, name: str) -> list[Labelled]:
    return list(read_pools(folder / f"{when}.{name}.jsonl.gz"))
