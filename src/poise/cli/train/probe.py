"""``poise train probe``: how well a question will be answered, read from one pass over it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from poise.backends import Transformers, checkpoint
from poise.cli import options
from poise.cli.output import refuse_existing, write_lines
from poise.cli.progress import PLAIN_EVERY, span
from poise.cli.selection import read_arm
from poise.cli.train.extra import needed
from poise.cli.train.sets import prompt_of
from poise.errors import InputError
from poise.pools import Labelled, pool_record
from poise.types import Prompt

if TYPE_CHECKING:
    from poise.train.probe import Probe, States

Base = Annotated[
    str | None,
    typer.Option("-m", "--model", help=".gguf file or folder. Default: the embedded model."),
]


def probe(
    pools: Annotated[list[Path], typer.Argument(help="Graded pool files.", metavar="POOL…")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The probe, or with --apply the pools.")
    ],
    apply: Annotated[
        Path | None,
        typer.Option("--apply", help="A fitted probe: keep what it says of each question."),
    ] = None,
    model: Base = None,
    adapter: Annotated[Path | None, typer.Option("--adapter", help="An adapter on it.")] = None,
    system: options.System = None,
    limit: options.Limit = None,
    overwrite: options.Overwrite = False,  # noqa: FBT002 - a flag
    seed: options.Seed = 0,
    as_json: options.AsJson = False,  # noqa: FBT002 - a flag
    quiet: options.Quiet = False,  # noqa: FBT002 - a flag
) -> None:
    """Fit a capability probe on hidden states of questions, or apply one to pools.

    Applied, it is the question's stored signal: use stored_question:probe in fit.
    """
    refuse_existing(output, overwrite=overwrite)
    with needed():
        from poise.train import probe as probing  # noqa: PLC0415 - an optional extra, heavy
    every = read_arm(pools)[:limit]
    prompt = prompt_of(every, system)
    backend = Transformers(model, adapter=adapter)
    if apply is not None:
        fitted = probing.load(apply)
        told = [one for one in every if one.pool.question is not None]
        _same(fitted, backend, prompt, told)
        found = _states(backend, told, prompt, [fitted.layer], quiet=quiet)[:, 0]
        kept = probing.applied(fitted, told, found)
        write_lines((json.dumps(pool_record(one), ensure_ascii=False) for one in kept), output)
        known = sum(fitted.knows(one) for one in told)
        _note(
            f"{len(kept)} pools; {known} of questions that it was fitted on, left without;"
            f" {len(every) - len(told)} without their question, left out"
        )
        return
    given = probing.graded(every)
    made = probing.fit(
        given,
        _states(backend, given.pools, prompt, None, quiet=quiet),
        model=backend.model,
        sha256=checkpoint.digest(backend.path),
        prompt_hash=_hash(prompt, given.pools),
        seed=seed,
    )
    made.save(output)
    print(json.dumps(dict(made.report)) if as_json else _shown(made.report))  # noqa: T201


def _states(
    backend: Transformers,
    pools: Sequence[Labelled],
    prompt: Prompt,
    layers: Sequence[int] | None,
    *,
    quiet: bool,
) -> States:
    from poise.train.probe import states  # noqa: PLC0415 - an optional extra, heavy

    started = said = time.monotonic()

    def told(done: int) -> None:
        nonlocal said
        now = time.monotonic()
        if quiet or (now - said < PLAIN_EVERY and done < len(pools)):
            return
        said = now
        left = (now - started) / done * (len(pools) - done)
        _note(f"{done} of {len(pools)} questions · {span(now - started)} · ETA {span(left)}")

    async def work() -> States:
        try:
            return await states(backend, pools, prompt, layers, told)
        finally:
            await backend.aclose()

    return asyncio.run(work())


def _same(fitted: Probe, backend: Transformers, prompt: Prompt, pools: Sequence[Labelled]) -> None:
    """Raise InputError where the probe was fitted on other states than will be read."""
    here = {
        "model": (fitted.model, backend.model),
        "weights": (fitted.sha256[:12], checkpoint.digest(backend.path)[:12]),
        "prompt": (fitted.prompt_hash, _hash(prompt, pools)),
    }
    for name, (then, now) in here.items():
        if then != now:
            raise InputError(f"the probe was fitted on the {name} {then}, and this is {now}")


def _hash(prompt: Prompt, pools: Sequence[Labelled]) -> str:
    """Of the prompt that all questions have. Raises InputError where they have several."""
    found = sorted({prompt.hash(one.pool.kind) for one in pools})
    if len(found) != 1:
        raise InputError(f"the questions have {len(found)} prompts; a probe is fitted to one")
    return found[0]


def _shown(report: Mapping[str, Any]) -> str:
    held = report["held_out"]
    ranked = "none" if held["spearman"] is None else f"{held['spearman']:.3f}"
    errors = [
        "unknown" if held[name] is None else f"{held[name]:.4f}" for name in ("mse", "base_mse")
    ]
    return (
        f"layer {report['layer']} of {report['layers'][-1]}, ridge {report['ridge']:g}; on"
        f" {held['questions']} held-out questions: squared error to mu {errors[0]} (constant"
        f" {errors[1]}), log loss {held['log_loss']:.4f} ({held['base_log_loss']:.4f}), rank"
        f" correlation {ranked}"
    )


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
