"""What a run bought in use: stored and fresh samples under the confidence of before and of after.

::

    fresh.NAME.jsonl.gz   the trained model's samples of a held-out set, with the confidence of both
    redrawn.NAME.jsonl.gz the untrained model's, drawn in the same way, where another engine drew
                          the stored ones: what the engine changes is not a gain of training

What such a file holds is not drawn again by a run that goes on. Thresholds are chosen on questions
of the training part, those not trained on first. It does not know what the numbers are (``gains``)
or how a model was trained.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from poise.backends import checkpoint
from poise.calibrators import Platt
from poise.errors import MissingEvidence
from poise.pools import Labelled, read_pools
from poise.signals.evidence import Evidence
from poise.signals.logprob import Logprob
from poise.train import evaluating
from poise.train.early import arm, is_graded, joined, thresholds
from poise.train.folder import write_pools
from poise.train.fresh import ENGINE, fresh
from poise.train.gains import LOGPROBS, TRAINED, UNTRAINED, gains
from poise.train.losses import Levels
from poise.train.model import Loaded, without_adapter
from poise.train.recipe import Data, Recipe
from poise.types import Sample

__all__ = ["InUse", "in_use", "to_draw"]

Say = Callable[[str], None]
Columns = dict[str, list[list[float | None]]]

AT_ONCE = 4
"""Fresh replies at a time, as a multiple of the rows of a training batch."""

SAID_EVERY = 15.0
"""Seconds between words about how far drawing is, and between keeping what was drawn."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What every set is measured with."""

    adapted: Loaded
    given: Data
    recipe: Recipe
    levels: Levels
    folder: Path
    say: Say


@dataclass(frozen=True, slots=True)
class InUse:
    """The section of the report, and the seconds that stating one confidence took, many at once.

    ``a_confidence``: of those that were really asked for, equal ones once; None: there were none.
    """

    section: Mapping[str, Any]
    a_confidence: float | None


def in_use(
    adapted: Loaded,
    given: Data,
    recipe: Recipe,
    levels: Levels,
    folder: Path,
    *,
    say: Say = lambda _text: None,
) -> InUse:
    """Measure every held-out set, whose marked pools of before and after are in ``folder``.

    Raises what drawing and marking raise.
    """
    run = _Run(adapted, given, recipe, levels, folder, say)
    maps = _maps(given.labels, recipe)
    say(f"in use: thresholds on {len(given.thresholds)} questions of the training part")
    started = time.perf_counter()
    both = _both(run, given.thresholds)
    taken = time.perf_counter() - started
    stated = 2 * _asked(both)
    names = (UNTRAINED, TRAINED, *maps)
    chosen = thresholds(joined(both, _mapped(both, maps)), names, seed=recipe.settings.seed)
    chosen["trained_on"] = _trained_on(given)
    values = {name: each["threshold"] for name, each in chosen.get("of", {}).items()}
    sets = {}
    for name, pools in given.held_out.items():
        held = _stored(folder, name, recipe, maps)
        drawn = _fresh(run, name, pools)
        control = _redrawn(run, name, pools) if drawn and _of_another_engine(pools) else []
        control = joined(control, _mapped(control, maps))
        sets[name] = gains(held, drawn, values, control, seed=recipe.settings.seed)
    section = {"draws": recipe.in_use, "thresholds": chosen, "sets": sets}
    return InUse(section, taken / stated if stated else None)


def to_draw(given: Data, recipe: Recipe) -> int:
    """How many samples will be drawn."""
    found = 0
    for pools in given.held_out.values():
        both = 1 + _of_another_engine(pools)
        found += recipe.in_use * len(_asked_again(pools)) * both
    return found


def _asked(pools: Sequence[Labelled]) -> int:
    """How many confidences one model is asked for: equal samples of a question share one."""
    return len(
        {
            (one.pool.group, sample.text, sample.answer)
            for one in pools
            for sample in one.pool.samples
            if sample.answer is not None and sample.text
        }
    )


def _trained_on(given: Data) -> int:
    """How many of the questions that thresholds are chosen on were trained on as well."""
    trained = {one.pool.group for one in given.train}
    return len({one.pool.group for one in given.thresholds} & trained)


def _both(run: _Run, pools: Sequence[Labelled]) -> list[Labelled]:
    """The pools with the confidence of the untrained and of the trained model."""
    return joined(pools, {**_untrained(run, pools), TRAINED: _confidences(run, run.adapted, pools)})


def _untrained(run: _Run, pools: Sequence[Labelled]) -> Columns:
    with without_adapter(run.adapted) as untrained:
        return {UNTRAINED: _confidences(run, untrained, pools)}


def _confidences(run: _Run, loaded: Loaded, pools: Sequence[Labelled]) -> list[list[float | None]]:
    recipe = run.recipe
    rest: dict[str, Any] = {"longest": recipe.longest, "batch": recipe.settings.batch}
    marked = evaluating.marked(loaded, pools, recipe.wording, run.levels, **rest)
    return _column(marked, evaluating.column(recipe.wording))


def _column(pools: Sequence[Labelled], name: str) -> list[list[float | None]]:
    return [[sample.signals.get(name) for sample in one.pool.samples] for one in pools]


def _stored(folder: Path, name: str, recipe: Recipe, maps: Mapping[str, Platt]) -> list[Labelled]:
    old, new = (list(read_pools(folder / f"{w}.{name}.jsonl.gz")) for w in ("before", "after"))
    signal = evaluating.column(recipe.wording)
    columns: Columns = {UNTRAINED: _column(old, signal), TRAINED: _column(new, signal)}
    return joined(old, {**columns, **_mapped(old, maps)})


def _fresh(run: _Run, name: str, pools: Sequence[Labelled]) -> list[Labelled]:
    """The trained model's samples, marked with both confidences; none where none can be drawn."""
    place = run.folder / f"fresh.{name}.jsonl.gz"
    if kept := _kept(place, TRAINED):
        return kept
    model = checkpoint.adapted(run.adapted.name, run.folder / "adapter")
    drawn = _both(run, _drawn(run, model, place, pools))
    if drawn:
        write_pools(place, drawn)
    return drawn


def _redrawn(run: _Run, name: str, pools: Sequence[Labelled]) -> list[Labelled]:
    """The untrained model's samples, drawn as the trained model's are, with its confidence."""
    place = run.folder / f"redrawn.{name}.jsonl.gz"
    if kept := _kept(place, UNTRAINED):
        return kept
    with without_adapter(run.adapted):
        drawn = _drawn(run, run.adapted.name, place, pools)
    drawn = joined(drawn, _untrained(run, drawn))
    write_pools(place, drawn)
    return drawn


def _kept(place: Path, name: str) -> list[Labelled]:
    """What the file holds where all of it is drawn and marked with this confidence."""
    kept = list(read_pools(place)) if place.is_file() else []
    whole = all(name in sample.signals for one in kept for sample in one.pool.samples)
    return kept if whole else []


def _of_another_engine(pools: Sequence[Labelled]) -> bool:
    """Whether the stored samples that fresh ones are compared with are another engine's."""
    return {one.pool.engine for one in _asked_again(pools)} != {ENGINE}


def _asked_again(pools: Sequence[Labelled]) -> list[Labelled]:
    """One pool a question, of those of one arm whose fresh samples would be alike and graded.

    A greedy decoding has but one sample, and what was drawn with one that is not stated cannot be
    redrawn.
    """
    known: dict[tuple[str, str], Labelled] = {}
    for one in arm([one for one in pools if is_graded(one)]):
        how = one.pool.decoding or {}
        drawn = how.get("temperature") or how.get("edt")
        if drawn and one.gold is not None and one.pool.question and one.pool.kind is not None:
            known.setdefault(one.pool.group, one)
    return list(known.values())


def _drawn(run: _Run, model: str, place: Path, pools: Sequence[Labelled]) -> list[Labelled]:
    """Samples of the model as it is, an arm called ``model``, behind those ``place`` has kept.

    A few questions at a time; none where none can be drawn.
    """
    asked = _asked_again(pools)
    draws, settings = run.recipe.in_use, run.recipe.settings
    if asked:
        which, _, name = place.name.removesuffix(".jsonl.gz").partition(".")
        run.say(f"in use: {name}, {draws} {which} samples of {len(asked)} questions")
    size = max(1, AT_ONCE * settings.batch // draws)
    found = list(read_pools(place)) if place.is_file() else []
    had, started = len(found), time.monotonic()
    said = started
    for start in range(had, len(asked), size):
        found += fresh(
            run.adapted,
            asked[start : start + size],
            run.given.prompt,
            model=model,
            draws=draws,
            seed=Random(f"{settings.seed}:in use:{start}").getrandbits(31),  # noqa: S311
            batch=size,
        )
        now, done = time.monotonic(), len(found)
        if now - said >= SAID_EVERY and done < len(asked):
            write_pools(place, found)
            said, left = now, (now - started) / (done - had) * (len(asked) - done)
            run.say(f"samples of {done} of {len(asked)} questions, ETA {left:.0f} s")
    return found


# -- log-probabilities under Platt's map ----------------------------------------------------------


def _signal(name: str) -> Logprob:
    return Logprob("sum" if name == "logprob_sum" else "mean")


def _maps(labels: Sequence[Labelled], recipe: Recipe) -> dict[str, Platt]:
    """A map of each log-probability, on one label of each training question.

    None where there is no such number, or all labels are alike.
    """
    rows = evaluating.graded(labels, recipe.wording)
    found = {}
    for name in LOGPROBS:
        x = getattr(rows, name)
        there = ~np.isnan(x)
        if len(set(rows.y[there])) == 2:
            found[name] = Platt("real").fit(x[there], rows.y[there])
    return found


def _mapped(pools: Sequence[Labelled], maps: Mapping[str, Platt]) -> Columns:
    return {name: _chances(pools, _signal(name), fitted) for name, fitted in maps.items()}


def _chances(pools: Sequence[Labelled], signal: Logprob, fitted: Platt) -> list[list[float | None]]:
    x = np.array([_read(signal, sample) for one in pools for sample in one.pool.samples])
    there = ~np.isnan(x)
    mapped = np.full(len(x), np.nan)
    if there.any():
        mapped[there] = fitted.predict_proba(x[there])[:, 1]
    values = iter([None if np.isnan(chance) else float(chance) for chance in mapped])
    return [[next(values) for _ in one.pool.samples] for one in pools]


def _read(signal: Logprob, sample: Sample) -> float:
    try:
        return signal(Evidence.single(sample))
    except MissingEvidence:
        return math.nan
