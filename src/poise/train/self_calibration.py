"""Self-Calibration as one run: pools -> targets -> rows -> before -> training -> after -> report.

Everything lands in one folder, and a run that was killed goes on from there::

    settings.json        what was asked for, and of which data (a resumed run must agree)
    scored.jsonl.gz      the training pools with the untrained model's confidence, if it was asked
    before.json          the numbers of the untrained model, its baselines, its accuracy
    before.NAME.jsonl.gz held-out pools with the untrained model's confidence as a stored signal
    checkpoints/         the Trainer's
    adapter/             the trained adapter
    after.json           the numbers of the trained model
    after.NAME.jsonl.gz  the same pools with the trained model's confidence
    fresh.NAME.jsonl.gz  the trained model's own samples, with the confidence of both
    redrawn.NAME.jsonl.gz the untrained model's, where another engine drew the stored ones
    report.json          all of it

The marked pools can be replayed: samples are the same, only the confidences differ. It does not
know flags, terminals or exports.

Source: Huang et al. 2025, arXiv 2503.00031.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from poise.pools import Labelled, read_pools
from poise.train import cost, evaluating, in_use, sft
from poise.train.folder import (
    enter,
    fingerprint,
    hashed,
    plain,
    read_record,
    write_pools,
    write_record,
)
from poise.train.lineage import remember
from poise.train.losses import Levels
from poise.train.model import (
    LAYERS,
    Loaded,
    count,
    require_memory,
    save_adapter,
    with_adapter,
    without_adapter,
)
from poise.train.recipe import Data, Prepared, Recipe, levels_of, prepare
from poise.train.replies import accuracy
from poise.train.signs import signs
from poise.train.stated import stated_numbers
from poise.train.stating import STATED, line_of, longer
from poise.types import Prompt

__all__ = ["run"]

Say = Callable[[str], None]

WATCHED = 32
"""Training questions whose greedy replies are looked at during training."""


def run(
    loaded: Loaded,
    given: Data,
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    say: Say = lambda _text: None,
    told: Callable[[Mapping[str, Any], int], None] = lambda _record, _steps: None,
) -> dict[str, Any]:
    """The whole run; its report, which is also written to ``folder``.

    ``say`` hears of every stage, ``told`` of every step. ``resume`` goes on with what the folder
    holds. Raises UsageError where the folder is of another run, or not empty without ``resume``;
    what the parts raise.
    """
    kept = folder / "report.json"
    asked = _open(loaded, given, recipe, folder, resume=resume)
    if kept.is_file():
        return read_record(kept)
    levels = levels_of(loaded, recipe.wording)
    train = (
        _scored(loaded, given.train, given.prompt, recipe, folder, say)
        if recipe.score
        else given.train
    )
    prepared = prepare(loaded, train, given.prompt, recipe)
    say(_sentence(prepared.counts, recipe))
    adapted = _adapted(loaded, recipe, prepared.counts["longest_row"])
    started = time.monotonic()
    with without_adapter(adapted) as untrained:
        before = _before(untrained, given, recipe, levels, folder, say)
    seconds: dict[str, float | None] = {"before": time.monotonic() - started}
    say(f"training: {recipe.settings.steps(len(prepared.items))} steps")
    rest: dict[str, Any] = {"told": told, "resume": resume}
    rest["watch"] = _watch(adapted, given, before, recipe)
    trained = _trained(adapted, prepared, levels, recipe, folder, given, **rest)
    seconds["training"] = trained.seconds
    started = time.monotonic()
    after = _after(adapted, given, recipe, levels, folder, say)
    seconds["after"] = time.monotonic() - started
    report: dict[str, Any] = {
        "schema": 1,
        "asked": asked,
        "model": _model(adapted),
        "data": prepared.counts,
        "evaluation": {n: {**before["sets"][n], "after": them} for n, them in after.items()},
        "change": _changes(folder, given, recipe),
        "cost": _cost(train, recipe),
        **_used(adapted, given, recipe, levels, folder, seconds, say),
        "seconds": seconds,
        **_told(trained),
    }
    report["signs"] = signs(report)
    write_record(kept, report)
    return report


def _trained(
    adapted: Loaded,
    prepared: Prepared,
    levels: Levels,
    recipe: Recipe,
    folder: Path,
    given: Data,
    **rest: Any,
) -> sft.Trained:
    """Train, and keep the adapter and which questions it has seen."""
    place = folder / "checkpoints"
    trained = sft.train(adapted, prepared.items, levels, recipe.settings, place, **rest)
    save_adapter(adapted, folder / "adapter")
    remember(folder / "adapter", given.train)
    return trained


def _cost(train: Sequence[Labelled], recipe: Recipe) -> dict[str, Any]:
    """What the training data had taken: the samples, and P(True) of them where it was used."""
    name = evaluating.column(recipe.asking)
    asked = recipe.score or recipe.target in ("ssc", "p_true")
    scored = cost.scoring(train, name) if asked else 0
    return {"generation": cost.generation(train), "scoring": {"rows": scored}}


def _used(
    adapted: Loaded,
    given: Data,
    recipe: Recipe,
    levels: Levels,
    folder: Path,
    seconds: dict[str, float | None],
    say: Say,
) -> dict[str, Any]:
    """The report's section ``in_use``, none where it was not asked for; adds to ``seconds``."""
    if not recipe.in_use:
        return {}
    started = time.monotonic()
    found = in_use.in_use(adapted, given, recipe, levels, folder, say=say)
    seconds["in_use"] = time.monotonic() - started
    seconds["a_confidence"] = found.a_confidence
    return {"in_use": dict(found.section)}


def _adapted(loaded: Loaded, recipe: Recipe, longest: int) -> Loaded:
    """The model with a new adapter. Raises RefusedError where memory is too small for a step."""
    adapted = with_adapter(
        loaded,
        rank=recipe.rank,
        alpha=recipe.alpha,
        dropout=recipe.dropout,
        targets=LAYERS[recipe.layers],
        seed=recipe.settings.seed,
    )
    require_memory(adapted, recipe.settings.batch, longest)
    return adapted


def _model(loaded: Loaded) -> dict[str, Any]:
    size = count(loaded)
    return {
        "name": loaded.name,
        "sha256": loaded.sha256,
        "parameters": size.total,
        "trained_parameters": size.trainable,
    }


def _told(trained: sft.Trained) -> dict[str, Any]:
    return {
        "stopped": trained.stopped,
        "resumed_at_step": trained.resumed,
        "steps": [plain(step) for step in trained.steps],
    }


def _sentence(counts: Mapping[str, Any], recipe: Recipe) -> str:
    plain = counts["questions_counted_plainly"]
    lacking = f"; {plain} questions lack P(True), so their samples count alike" if plain else ""
    even = ", drawn evenly over the targets" if counts["balanced"] else ""
    return (
        f"{counts['rows']} rows of {counts['questions']} questions{even};"
        f" target {recipe.target}, {counts['rows_with_response']} keep their response{lacking}"
    )


def _open(
    loaded: Loaded, given: Data, recipe: Recipe, folder: Path, *, resume: bool
) -> dict[str, Any]:
    """Start or re-enter the folder; returns what was asked for."""
    made = {
        "recipe": asdict(recipe),
        "model": loaded.sha256,
        "prompt": hashed([asdict(given.prompt)]),
        "train": fingerprint(given.train),
        "held_out": {name: fingerprint(pools) for name, pools in given.held_out.items()},
        "thresholds": fingerprint(given.thresholds),
    }
    return enter(folder, made, resume=resume)


def _scored(
    loaded: Loaded,
    pools: Sequence[Labelled],
    prompt: Prompt,
    recipe: Recipe,
    folder: Path,
    say: Say,
) -> Sequence[Labelled]:
    """The training pools with c_i of the untrained model, asked once."""
    place = folder / "scored.jsonl.gz"
    if not place.is_file():
        say(f"asking the untrained model about its samples to {len(pools)} questions")
        write_pools(place, _marked(loaded, pools, prompt, recipe, wording=recipe.asking))
    return list(read_pools(place))


def _marked(
    loaded: Loaded,
    pools: Sequence[Labelled],
    prompt: Prompt,
    recipe: Recipe,
    levels: Levels | None = None,
    *,
    wording: str | None = None,
) -> list[Labelled]:
    """``wording`` and its ``levels`` None: those of the recipe."""
    how = wording or recipe.wording
    rest: dict[str, Any] = {"longest": recipe.longest, "batch": recipe.settings.batch}
    known = levels or levels_of(loaded, how)
    return evaluating.marked(loaded, pools, how, known, prompt=prompt, **rest)


def _before(
    loaded: Loaded, given: Data, recipe: Recipe, levels: Levels, folder: Path, say: Say
) -> dict[str, Any]:
    """The untrained model's numbers, measured once in a run's life."""
    place = folder / "before.json"
    if place.is_file():
        return read_record(place)
    settings, seed = recipe.settings, recipe.settings.seed
    marked = _marked(loaded, given.labels, given.prompt, recipe, levels)
    labels = evaluating.graded(marked, recipe.wording)
    sets: dict[str, Any] = {}
    for name, pools in given.held_out.items():
        told = _measure(loaded, name, pools, given.prompt, recipe, levels, folder, "before", say)
        held = evaluating.graded(_kept(folder, "before", name), recipe.wording)
        sets[name] = {"before": told, "baselines": evaluating.baselines(labels, held, seed=seed)}
    pools = given.labels[:WATCHED] if settings.check_every else ()
    greedy = _greedy(_decoding(loaded, pools, recipe))
    watched = accuracy(loaded, pools, given.prompt, greedy, batch=settings.batch).right
    found = {"sets": sets, "watched": list(watched)}
    write_record(place, found)
    return found


def _after(
    loaded: Loaded, given: Data, recipe: Recipe, levels: Levels, folder: Path, say: Say
) -> dict[str, Any]:
    """The trained model's numbers by set, measured once in a run's life."""
    place = folder / "after.json"
    if place.is_file():
        return read_record(place)
    found = {
        name: _measure(loaded, name, pools, given.prompt, recipe, levels, folder, "after", say)
        for name, pools in given.held_out.items()
    }
    write_record(place, found)
    return found


def _measure(
    loaded: Loaded,
    name: str,
    pools: Sequence[Labelled],
    prompt: Prompt,
    recipe: Recipe,
    levels: Levels,
    folder: Path,
    when: str,
    say: Say,
) -> dict[str, Any]:
    """Confidence in stored samples and accuracy of fresh replies, before or after training."""
    say(f"{when}: {name}, {len(pools)} questions")
    settings = recipe.settings
    marked = _marked(loaded, pools, prompt, recipe, levels)
    write_pools(folder / f"{when}.{name}.jsonl.gz", marked)
    held = evaluating.graded(marked, recipe.wording)
    decoding = _decoding(loaded, pools, recipe)
    rest: dict[str, Any] = {"seed": settings.seed, "batch": settings.batch}
    greedy = accuracy(loaded, pools, prompt, _greedy(decoding), **rest)
    rest["draws"] = recipe.draws
    more: dict[str, Any] = {}
    if recipe.wording == STATED:
        rest["threshold"] = recipe.answer_above
        told = stated_numbers(loaded, pools, prompt, decoding, **rest)
        more["stated"] = told
        sampled = {k: v for k, v in told["accuracy"].items() if k != "by_question"}
        asked = evaluating.graded(_marked(loaded, pools, prompt, recipe, wording="own"), "own")
        more["p_true"] = evaluating.numbers(asked, seed=settings.seed)
    else:
        sampled = accuracy(loaded, pools, prompt, decoding, **rest).to_dict()
    return {
        **more,
        "confidence": evaluating.numbers(held, seed=settings.seed),
        "consensus": evaluating.consensus(marked, evaluating.column(recipe.wording)),
        "greedy": {**greedy.to_dict(), "right": list(greedy.right)},
        "sampled": sampled,
    }


def _decoding(loaded: Loaded, pools: Sequence[Labelled], recipe: Recipe) -> Mapping[str, Any]:
    """How the pools were drawn, with room for a statement where one is asked for."""
    found = (pools[0].pool.decoding or {}) if pools else {}
    return longer(found, line_of(loaded.tokenizer)) if recipe.wording == STATED else found


def _greedy(decoding: Mapping[str, Any]) -> dict[str, Any]:
    return {"max_tokens": decoding["max_tokens"]} if "max_tokens" in decoding else {}


def _watch(
    loaded: Loaded, given: Data, before: Mapping[str, Any], recipe: Recipe
) -> sft.Watch | None:
    """A look at greedy replies to training questions; None where none is graded or asked for."""
    right, pools = tuple(before["watched"]), given.labels[:WATCHED]
    if not right or not recipe.settings.check_every:
        return None
    greedy, batch = _greedy(_decoding(loaded, pools, recipe)), recipe.settings.batch
    return sft.Watch(
        right, lambda: accuracy(loaded, pools, given.prompt, greedy, batch=batch).right
    )


def _changes(folder: Path, given: Data, recipe: Recipe) -> dict[str, Any]:
    found = {}
    for name in given.held_out:
        before, after = (
            evaluating.graded(_kept(folder, when, name), recipe.wording)
            for when in ("before", "after")
        )
        found[name] = evaluating.changes(before, after, seed=recipe.settings.seed)
    return found


def _kept(folder: Path, when: str, name: str) -> list[Labelled]:
    return list(read_pools(folder / f"{when}.{name}.jsonl.gz"))
