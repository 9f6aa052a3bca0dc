"""What a run bought in use: stored and fresh samples under the confidence of before and of after.

::

    fresh.NAME.jsonl.gz   the trained model's samples of a held-out set, with the confidence of both

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
from poise.train.fresh import fresh
from poise.train.gains import LOGPROBS, TRAINED, UNTRAINED, gains
from poise.train.losses import Levels
from poise.train.model import Loaded, without_adapter
from poise.train.recipe import Data, Recipe
from poise.types import Sample

__all__ = ["InUse", "in_use"]

Say = Callable[[str], None]
Columns = dict[str, list[list[float | None]]]

AT_ONCE = 4
"""Fresh replies at a time, as a multiple of the rows of a training batch."""

SAID_EVERY = 15.0
"""Seconds between words about how far drawing is, and between keeping what was drawn."""


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
    maps = _maps(given.labels, recipe)
    say(f"in use: thresholds on {len(given.thresholds)} questions of the training part")
    started = time.perf_counter()
    both = _both(adapted, given.thresholds, recipe, levels)
    taken = time.perf_counter() - started
    stated = 2 * _asked(both)
    names = (UNTRAINED, TRAINED, *maps)
    chosen = thresholds(joined(both, _mapped(both, maps)), names, seed=recipe.settings.seed)
    chosen["trained_on"] = _trained_on(given)
    values = {name: each["threshold"] for name, each in chosen.get("of", {}).items()}
    sets = {}
    for name, pools in given.held_out.items():
        drawn = _fresh(adapted, name, pools, given, recipe, levels, folder, say)
        held = _stored(folder, name, recipe, maps)
        sets[name] = gains(held, drawn, values, seed=recipe.settings.seed)
    section = {"draws": recipe.in_use, "thresholds": chosen, "sets": sets}
    return InUse(section, taken / stated if stated else None)


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


def _both(
    adapted: Loaded, pools: Sequence[Labelled], recipe: Recipe, levels: Levels
) -> list[Labelled]:
    """The pools with the confidence of the untrained and of the trained model."""
    rest: dict[str, Any] = {"longest": recipe.longest, "batch": recipe.settings.batch}
    with without_adapter(adapted) as untrained:
        old = evaluating.marked(untrained, pools, recipe.wording, levels, **rest)
    new = evaluating.marked(adapted, pools, recipe.wording, levels, **rest)
    name = evaluating.column(recipe.wording)
    return joined(pools, {UNTRAINED: _column(old, name), TRAINED: _column(new, name)})


def _column(pools: Sequence[Labelled], name: str) -> list[list[float | None]]:
    return [[sample.signals.get(name) for sample in one.pool.samples] for one in pools]


def _stored(folder: Path, name: str, recipe: Recipe, maps: Mapping[str, Platt]) -> list[Labelled]:
    old, new = (list(read_pools(folder / f"{w}.{name}.jsonl.gz")) for w in ("before", "after"))
    signal = evaluating.column(recipe.wording)
    columns: Columns = {UNTRAINED: _column(old, signal), TRAINED: _column(new, signal)}
    return joined(old, {**columns, **_mapped(old, maps)})


def _fresh(
    adapted: Loaded,
    name: str,
    pools: Sequence[Labelled],
    given: Data,
    recipe: Recipe,
    levels: Levels,
    folder: Path,
    say: Say,
) -> list[Labelled]:
    """The trained model's samples, marked with both confidences; none where none can be drawn."""
    place = folder / f"fresh.{name}.jsonl.gz"
    kept = list(read_pools(place)) if place.is_file() else []
    if kept and all(TRAINED in sample.signals for one in kept for sample in one.pool.samples):
        return kept
    asked = _can_be_drawn(arm([one for one in pools if is_graded(one)]))
    if not asked:
        return []
    say(f"in use: {name}, {recipe.in_use} fresh samples of {len(asked)} questions")
    drawn = _drawn(adapted, asked, kept, given, recipe, place, say)
    both = _both(adapted, drawn, recipe, levels)
    write_pools(place, both)
    return both


def _can_be_drawn(pools: Sequence[Labelled]) -> list[Labelled]:
    """One pool a question, of those of one arm whose fresh samples would be alike and graded.

    A greedy decoding has but one sample, and what was drawn with one that is not stated cannot be
    redrawn.
    """
    known: dict[tuple[str, str], Labelled] = {}
    for one in pools:
        how = one.pool.decoding or {}
        drawn = how.get("temperature") or how.get("edt")
        if drawn and one.gold is not None and one.pool.question and one.pool.kind is not None:
            known.setdefault(one.pool.group, one)
    return list(known.values())


def _drawn(
    adapted: Loaded,
    asked: Sequence[Labelled],
    kept: Sequence[Labelled],
    given: Data,
    recipe: Recipe,
    place: Path,
    say: Say,
) -> list[Labelled]:
    """Fresh samples, a few questions at a time, behind those that ``place`` has kept already."""
    settings = recipe.settings
    size = max(1, AT_ONCE * settings.batch // recipe.in_use)
    found = list(kept)
    model = checkpoint.adapted(adapted.name, place.parent / "adapter")
    started = said = time.monotonic()
    for start in range(len(kept), len(asked), size):
        found += fresh(
            adapted,
            asked[start : start + size],
            given.prompt,
            model=model,
            draws=recipe.in_use,
            seed=Random(f"{settings.seed}:in use:{start}").getrandbits(31),  # noqa: S311
            batch=size,
        )
        now, done = time.monotonic(), len(found)
        if now - said >= SAID_EVERY and done < len(asked):
            write_pools(place, found)
            said, left = now, (now - started) / (done - len(kept)) * (len(asked) - done)
            say(f"fresh samples of {done} of {len(asked)} questions, ETA {left:.0f} s")
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
