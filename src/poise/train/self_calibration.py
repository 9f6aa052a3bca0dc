"""Self-Calibration as one run: pools -> targets -> rows -> before -> training -> after -> report.

Everything lands in one folder, and a run that was killed goes on from there::

    settings.json        what was asked for, and of which data (a resumed run must agree)
    scored.jsonl.gz      the training pools with the untrained model's confidence, if it was asked
    before.json          the numbers of the untrained model, its baselines, its accuracy
    before.NAME.jsonl.gz held-out pools with the untrained model's confidence as a stored signal
    checkpoints/         the Trainer's
    adapter/             the trained adapter
    after.NAME.jsonl.gz  the same pools with the trained model's confidence
    report.json          all of it

The marked pools can be replayed: samples are the same, only the confidences differ. It does not
know flags, terminals or exports.

Source: Huang et al. 2025, arXiv 2503.00031.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from poise.errors import UsageError
from poise.files import whole
from poise.pools import Labelled, pool_record, read_pools
from poise.train import evaluating, sft
from poise.train.losses import Levels
from poise.train.model import (
    Loaded,
    count,
    require_memory,
    save_adapter,
    with_adapter,
    without_adapter,
)
from poise.train.recipe import Data, Recipe, levels_of, prepare
from poise.train.replies import accuracy
from poise.train.signs import signs
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
        return _read(kept)
    levels = levels_of(loaded, recipe.wording)
    train = (
        _scored(loaded, given.train, recipe, levels, folder, say) if recipe.score else given.train
    )
    prepared = prepare(loaded, train, given.prompt, recipe)
    say(_sentence(prepared.counts, recipe))
    adapted = _adapted(loaded, recipe, prepared.counts["longest_row"])
    started = time.monotonic()
    with without_adapter(adapted) as untrained:
        before = _before(untrained, given, recipe, levels, folder, say)
    seconds = {"before": time.monotonic() - started}
    say(f"training: {recipe.settings.steps(len(prepared.items))} steps")
    watch = _watch(adapted, given, before, recipe)
    place, settings = folder / "checkpoints", recipe.settings
    rest: dict[str, Any] = {"told": told, "watch": watch, "resume": resume}
    trained = sft.train(adapted, prepared.items, levels, settings, place, **rest)
    save_adapter(adapted, folder / "adapter")
    seconds["training"] = trained.seconds
    started = time.monotonic()
    after = {
        name: _measure(adapted, name, pools, given.prompt, recipe, levels, folder, "after", say)
        for name, pools in given.held_out.items()
    }
    seconds["after"] = time.monotonic() - started
    report: dict[str, Any] = {
        "schema": 1,
        "asked": asked,
        "model": _model(adapted),
        "data": prepared.counts,
        "evaluation": {
            name: {**before["sets"][name], "after": numbers} for name, numbers in after.items()
        },
        "change": _changes(folder, given, recipe),
        "seconds": seconds,
        **_told(trained),
    }
    report["signs"] = signs(report)
    _write(kept, report)
    return report


def _adapted(loaded: Loaded, recipe: Recipe, longest: int) -> Loaded:
    """The model with a new adapter. Raises RefusedError where memory is too small for a step."""
    adapted = with_adapter(
        loaded,
        rank=recipe.rank,
        alpha=recipe.alpha,
        dropout=recipe.dropout,
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
        "steps": [_plain(step) for step in trained.steps],
    }


def _plain(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step's record for JSON, which has no word for a loss that is no number."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in step.items()
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
        "prompt": _hash([asdict(given.prompt)]),
        "train": _fingerprint(given.train),
        "held_out": {name: _fingerprint(pools) for name, pools in given.held_out.items()},
    }
    asked: dict[str, Any] = json.loads(json.dumps(made))
    place = folder / "settings.json"
    if place.is_file():
        earlier = _read(place)
        if not resume:
            raise UsageError(f"{folder} holds a run; pass --resume, or name another folder")
        other = _differing(earlier, asked)
        if other:
            raise UsageError(f"{folder} is of another run: {', '.join(other)} differ")
        return asked
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already and holds no run; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror})") from None
    _write(place, asked)
    return asked


def _differing(earlier: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    found = []
    for name in sorted(earlier.keys() | asked.keys()):
        a, b = earlier.get(name), asked.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differing(a, b)
        elif a != b:
            found.append(name)
    return found


def _fingerprint(pools: Sequence[Labelled]) -> str:
    return _hash([pool_record(one) for one in pools])


def _hash(values: Sequence[Any]) -> str:
    made = hashlib.sha256()
    for value in values:
        made.update(json.dumps(value, sort_keys=True, default=str).encode() + b"\n")
    return made.hexdigest()[:16]


def _scored(
    loaded: Loaded,
    pools: Sequence[Labelled],
    recipe: Recipe,
    levels: Levels,
    folder: Path,
    say: Say,
) -> Sequence[Labelled]:
    """The training pools with c_i of the untrained model, asked once."""
    place = folder / "scored.jsonl.gz"
    if not place.is_file():
        say(f"asking the untrained model about its samples to {len(pools)} questions")
        _write_pools(place, _marked(loaded, pools, recipe, levels))
    return list(read_pools(place))


def _marked(
    loaded: Loaded, pools: Sequence[Labelled], recipe: Recipe, levels: Levels
) -> list[Labelled]:
    batch, longest = recipe.settings.batch, recipe.longest
    return evaluating.marked(loaded, pools, recipe.wording, levels, longest=longest, batch=batch)


def _before(
    loaded: Loaded, given: Data, recipe: Recipe, levels: Levels, folder: Path, say: Say
) -> dict[str, Any]:
    """The untrained model's numbers, measured once in a run's life."""
    place = folder / "before.json"
    if place.is_file():
        return _read(place)
    settings, seed = recipe.settings, recipe.settings.seed
    labels = evaluating.graded(_marked(loaded, given.labels, recipe, levels), recipe.wording)
    sets: dict[str, Any] = {}
    for name, pools in given.held_out.items():
        told = _measure(loaded, name, pools, given.prompt, recipe, levels, folder, "before", say)
        held = evaluating.graded(_kept(folder, "before", name), recipe.wording)
        sets[name] = {"before": told, "baselines": evaluating.baselines(labels, held, seed=seed)}
    pools = given.labels[:WATCHED] if settings.check_every else ()
    watched = accuracy(loaded, pools, given.prompt, _greedy(pools), batch=settings.batch).right
    found = {"sets": sets, "watched": list(watched)}
    _write(place, found)
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
    marked = _marked(loaded, pools, recipe, levels)
    _write_pools(folder / f"{when}.{name}.jsonl.gz", marked)
    held = evaluating.graded(marked, recipe.wording)
    decoding = pools[0].pool.decoding or {}
    rest: dict[str, Any] = {"seed": settings.seed, "batch": settings.batch}
    greedy = accuracy(loaded, pools, prompt, _greedy(pools), **rest)
    sampled = accuracy(loaded, pools, prompt, decoding, draws=recipe.draws, **rest)
    return {
        "confidence": evaluating.numbers(held, seed=settings.seed),
        "consensus": evaluating.consensus(marked, recipe.wording),
        "greedy": {**greedy.to_dict(), "right": list(greedy.right)},
        "sampled": sampled.to_dict(),
    }


def _greedy(pools: Sequence[Labelled]) -> dict[str, Any]:
    decoding = (pools[0].pool.decoding or {}) if pools else {}
    return {"max_tokens": decoding["max_tokens"]} if "max_tokens" in decoding else {}


def _watch(
    loaded: Loaded, given: Data, before: Mapping[str, Any], recipe: Recipe
) -> sft.Watch | None:
    """A look at greedy replies to training questions; None where none is graded or asked for."""
    right, pools = tuple(before["watched"]), given.labels[:WATCHED]
    if not right or not recipe.settings.check_every:
        return None
    greedy, batch = _greedy(pools), recipe.settings.batch
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


def _read(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.read_text("utf-8"))
    return found


def _write(place: Path, record: Mapping[str, Any]) -> None:
    with whole(place) as stream:
        stream.write((json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode())


def _write_pools(place: Path, pools: Sequence[Labelled]) -> None:
    with whole(place) as stream, gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:
        for one in pools:
            packed.write((json.dumps(pool_record(one), ensure_ascii=False) + "\n").encode())
