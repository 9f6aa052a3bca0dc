"""Reinforcement of stated confidences as one run: pools -> before -> training -> after -> report.

Everything lands in one folder, and a run that was killed goes on from there::

    settings.json   what was asked for, and of which data (a resumed run must agree)
    before.json     the starting model's numbers, its baselines, its accuracy
    checkpoints/    the Trainer's
    adapter/        the trained adapter, and which questions it has seen
    report.json     all of it

The model starts from an adapter that was taught the form (``train sft --wording stated``), or from
none; whichever it is, that is the model of "before". It does not know flags or terminals.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from poise.backends.checkpoint import digest
from poise.errors import RefusedError
from poise.train import evaluating, lineage, rl
from poise.train.episodes import LEAST
from poise.train.folder import enter, fingerprint, hashed, plain, read_record, write_record
from poise.train.loop import Told, Trained, Watch
from poise.train.model import (
    Loaded,
    count,
    free_bytes,
    require_memory,
    save_adapter,
    training_bytes,
)
from poise.train.recipe import Data
from poise.train.replies import answerable
from poise.train.rl_recipe import (
    Recipe,
    decoding_of,
    episodes,
    prompt_tokens,
    row_tokens,
    settings_of,
    started,
)
from poise.train.rl_signs import changes, signs
from poise.train.stated import Drawn, drawn, reported

__all__ = ["estimate", "run"]

Say = Callable[[str], None]

WATCHED = 32
"""Training questions whose greedy replies are looked at during training."""

TRIED = 2
"""Steps that a dry run takes; the first also warms up."""


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
    holds. Raises RefusedError where replies hardly ever state a confidence in the form, which
    leaves nothing to reinforce; UsageError where the folder is of another run, or not empty without
    ``resume``; what the parts raise.
    """
    kept = folder / "report.json"
    asked = enter(folder, _asked(loaded, given, recipe), resume=resume)
    if kept.is_file():
        return read_record(kept)
    adapted = started(loaded, recipe)
    settings = settings_of(adapted, given, recipe)
    tokens = row_tokens(adapted, settings, prompt_tokens(adapted, given))
    require_memory(adapted, settings.per_batch, tokens)
    begun = time.monotonic()
    before = _before(adapted, given, recipe, folder, say)
    seconds = {"before": time.monotonic() - begun}
    say(f"training: {settings.steps} steps of {settings.replies} replies")
    trained = rl.train(
        adapted,
        episodes(given, recipe, before["reference"]),
        settings,
        folder / "checkpoints",
        told=told,
        watch=_watch(adapted, given, recipe, before["watched"]),
        resume=resume,
    )
    save_adapter(adapted, folder / "adapter")
    earlier = _seen(recipe)
    if earlier is not None:
        lineage.remember(folder / "adapter", given.train, earlier)
    seconds["training"] = trained.seconds
    begun = time.monotonic()
    evaluation = {
        name: {
            **before["sets"][name],
            "after": _measured(adapted, name, given, recipe, "after", say),
        }
        for name in given.held_out
    }
    seconds["after"] = time.monotonic() - begun
    report = _report(asked, adapted, given, recipe, before, evaluation, seconds, trained)
    write_record(kept, report)
    return report


def _asked(loaded: Loaded, given: Data, recipe: Recipe) -> dict[str, Any]:
    start = recipe.start
    return {
        "recipe": {**asdict(recipe), "adapter": None if start is None else digest(start)},
        "model": loaded.sha256,
        "prompt": hashed([asdict(given.prompt)]),
        "train": fingerprint(given.train),
        "held_out": {name: fingerprint(pools) for name, pools in given.held_out.items()},
    }


def _report(
    asked: Mapping[str, Any],
    adapted: Loaded,
    given: Data,
    recipe: Recipe,
    before: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    seconds: Mapping[str, float],
    trained: Trained,
) -> dict[str, Any]:
    size = count(adapted)
    seen = _seen(recipe)
    asked_of = episodes(given, recipe, before["reference"])
    asked_of = asked_of[: recipe.settings.questions * len(trained.steps)]
    report: dict[str, Any] = {
        "schema": 1,
        "asked": asked,
        "model": {
            "name": adapted.name,
            "sha256": adapted.sha256,
            "parameters": size.total,
            "trained_parameters": size.trainable,
        },
        "start": {
            "adapter": recipe.adapter is not None,
            "questions_seen": None if seen is None or recipe.start is None else len(seen),
            **before["start"],
        },
        "data": {
            "questions": len({row["question_id"] for row in asked_of}),
            "replies": recipe.settings.replies * len(trained.steps),
            "reference_accuracy": before["reference_from"],
        },
        "evaluation": evaluation,
        "change": {name: changes(each) for name, each in evaluation.items()},
        "seconds": seconds,
        "stopped": trained.stopped,
        "resumed_at_step": trained.resumed,
        "steps": [_step(step) for step in trained.steps],
    }
    report["signs"] = signs(report)
    return report


def _seen(recipe: Recipe) -> frozenset[str] | None:
    """The questions that the start was trained on; None where that is not known."""
    return frozenset() if recipe.start is None else lineage.seen(recipe.start)


def _step(record: Mapping[str, Any]) -> dict[str, Any]:
    """A step's record without TRL's lengths and times, and the clipping of ratios: all are 1."""
    dropped = ("completions/m", "clip_ratio/", "num_tokens", "step_time")
    return plain({name: value for name, value in record.items() if not name.startswith(dropped)})


# -- the start ------------------------------------------------------------------------------------


def _before(loaded: Loaded, given: Data, recipe: Recipe, folder: Path, say: Say) -> dict[str, Any]:
    """The starting model's numbers, measured once in a run's life."""
    place = folder / "before.json"
    if place.is_file():
        return read_record(place)
    labels = _labels(loaded, given, recipe, folder, say)
    seed, sets = recipe.settings.seed, dict[str, Any]()
    for name in given.held_out:
        found = _drawn(loaded, name, given, recipe, "before", say)
        sets[name] = {
            "before": reported(found, threshold=recipe.answer_above, seed=seed),
            "baselines": evaluating.baselines(labels.graded, found.graded, seed=seed),
        }
    reference, source = _reference(loaded, given, recipe, say)
    made = {
        "start": {"replies": len(labels.right), "in_form": labels.in_form},
        "sets": sets,
        "watched": list(_watched(loaded, given, recipe)) if recipe.settings.check_every else [],
        "reference": None if reference is None else [[*name, a] for name, a in reference.items()],
        "reference_from": source,
    }
    write_record(place, made)
    return read_record(place)


def _labels(loaded: Loaded, given: Data, recipe: Recipe, folder: Path, say: Say) -> Drawn:
    """One reply each to some training questions: is the form there, and labels for baselines."""
    pools = answerable(given.train)
    random.Random(recipe.settings.seed).shuffle(pools)  # noqa: S311 - a seeded draw, not a secret
    pools = pools[: max(evaluating.LABELS)]
    say(f"before: the form, on {len(pools)} training questions")
    found = drawn(
        loaded,
        pools,
        given.prompt,
        decoding_of(loaded, pools, recipe),
        seed=recipe.settings.seed,
        batch=recipe.settings.replies,
    )
    share, stated = found.in_form or 0.0, {c for c in found.confidence if c is not None}
    if share < LEAST or len(stated) < 2:
        (folder / "settings.json").unlink()  # nothing has begun: the folder is free again
        what = f"only {share:.0%} of {len(found.right)} replies state a confidence in the form"
        if share >= LEAST:
            what = f"all of {len(found.right)} replies state the same confidence, {min(stated)}"
        raise RefusedError(
            f"{what}, which leaves nothing to reinforce; teach it first: poise train sft --wording"
            " stated, then --adapter with its folder"
        )
    return found


def _drawn(loaded: Loaded, name: str, given: Data, recipe: Recipe, when: str, say: Say) -> Drawn:
    pools = given.held_out[name]
    say(f"{when}: {name}, {len(pools)} questions")
    return drawn(
        loaded,
        pools,
        given.prompt,
        decoding_of(loaded, pools, recipe),
        draws=recipe.draws,
        seed=recipe.settings.seed,
        batch=max(1, recipe.settings.replies // recipe.draws),
    )


def _measured(
    loaded: Loaded, name: str, given: Data, recipe: Recipe, when: str, say: Say
) -> dict[str, Any]:
    found = _drawn(loaded, name, given, recipe, when, say)
    return reported(found, threshold=recipe.answer_above, seed=recipe.settings.seed)


def _watched(loaded: Loaded, given: Data, recipe: Recipe) -> tuple[float, ...]:
    pools = answerable(given.train)[:WATCHED]
    greedy = {"max_tokens": decoding_of(loaded, pools, recipe)["max_tokens"]}
    batch = recipe.settings.replies
    return drawn(loaded, pools, given.prompt, greedy, batch=batch).accuracy.right


def _watch(loaded: Loaded, given: Data, recipe: Recipe, watched: Sequence[float]) -> Watch | None:
    if not watched:
        return None
    return Watch(tuple(watched), lambda: _watched(loaded, given, recipe))


def _reference(
    loaded: Loaded, given: Data, recipe: Recipe, say: Say
) -> tuple[dict[tuple[str, str], float] | None, str | None]:
    """Each training question's accuracy before training, and where it comes from.

    Of the pools' own grades where the run starts from the untrained model, else of fresh replies.
    None where no reward asks for it.
    """
    if "reference_accuracy" not in recipe.settings.names:
        return None, None
    pools = answerable(given.train)
    known = {one.pool.group: [label for label in one.correct if label is not None] for one in pools}
    if recipe.start is None and all(known.values()):
        return {name: sum(labels) / len(labels) for name, labels in known.items()}, "pools"
    say(f"before: accuracy on {len(pools)} training questions")
    group, batch = recipe.settings.group, recipe.settings.questions
    rest: dict[str, Any] = {"draws": group, "seed": recipe.settings.seed, "batch": batch}
    found = drawn(loaded, pools, given.prompt, decoding_of(loaded, pools, recipe), **rest)
    return dict(zip(known, found.accuracy.right, strict=True)), f"{found.draws} fresh replies each"


def estimate(loaded: Loaded, given: Data, recipe: Recipe) -> dict[str, Any]:
    """What the run would take, from steps that are tried; JSON-ready.

    The model given is not to be used afterwards: the steps were real.
    """
    adapted = started(loaded, recipe)
    tried = replace(settings_of(adapted, given, recipe), steps=TRIED, save_every=TRIED + 1)
    reference = _no_reference(given, recipe)
    asked = prompt_tokens(adapted, given)
    with TemporaryDirectory() as folder:
        steps = rl.train(adapted, episodes(given, recipe, reference), tried, folder).steps
    last, settings = steps[-1], recipe.settings
    measured = recipe.draws * sum(len(answerable(them)) for them in given.held_out.values())
    labels = min(max(evaluating.LABELS), len(answerable(given.train)))
    return {
        "steps": settings.steps,
        "replies_per_step": settings.replies,
        "prompt_tokens_at_most": asked,
        "reply_tokens_mean": last["length"],
        "in_form": last["in_form"],
        "right": last["right"],
        "seconds_per_step": last["seconds"],
        "seconds": last["seconds"] * settings.steps,
        "replies_measured": 2 * measured + labels,
        "trained_parameters": count(adapted).trainable,
        "bytes": training_bytes(adapted, tried.per_batch, row_tokens(adapted, tried, asked)),
        "free": free_bytes(adapted.device),
    }


def _no_reference(given: Data, recipe: Recipe) -> list[list[Any]] | None:
    """Any numbers for a reward that wants them: a dry run learns nothing."""
    if "reference_accuracy" not in recipe.settings.names:
        return None
    return [[*one.pool.group, 0.5] for one in given.train]
