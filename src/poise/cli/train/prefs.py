"""``poise train prefs``: preferences for what the model was surer of, measured before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from poise.cli import options
from poise.cli.progress import count, span
from poise.cli.train import flags
from poise.cli.train.extra import needed
from poise.cli.train.sets import read_all
from poise.cli.train.sft import Row, Steps, before_and_after
from poise.errors import UsageError

if TYPE_CHECKING:
    from poise.train.model import Loaded
    from poise.train.prefs import Recipe
    from poise.train.recipe import Data

SETTINGS = (
    *("beta", "lr", "epochs", "batch", "accumulation"),
    *("save_every", "check_every", "seed", "mixed"),
)
RECIPE = ("gap", "pairs", "limit", "held_out", "questions", "draws", "longest")
"""Flags that training knows by the same names."""


def prefs(
    pools: flags.Pools,
    output: flags.Output = None,
    model: flags.Model = None,
    dry_run: flags.DryRun = False,  # noqa: FBT002 - a flag
    gap: flags.Gap = 0.2,
    pairs: flags.Pairs = 4,
    limit: flags.Limit = None,
    beta: flags.Beta = 0.1,
    epochs: flags.Epochs = 1.0,
    lr: flags.Rate = 5e-5,
    batch: flags.Batch = 8,
    accumulation: flags.Accumulation = 1,
    longest: flags.Longest = 1024,
    held_out: flags.HeldOut = 0.2,
    segments: flags.Segments = None,
    others: flags.Others = None,
    questions: flags.Questions = 40,
    draws: flags.Draws = 4,
    save_every: flags.SaveEvery = 20,
    check_every: flags.CheckEvery = 25,
    system: options.System = None,
    mixed: flags.Mixed = False,  # noqa: FBT002 - a flag
    dtype: flags.Dtype = "float32",
    report_to: flags.ReportTo = None,
    resume: options.Resume = False,  # noqa: FBT002 - a flag
    seed: options.Seed = 0,
    as_json: options.AsJson = False,  # noqa: FBT002 - a flag
    quiet: options.Quiet = False,  # noqa: FBT002 - a flag
) -> None:
    """Teach a model to prefer the answers it was surer of (RLSF, arXiv 2507.21931).

    No gold answer is needed: stored samples are ranked by the probability of their answers,
    and pairs of different answers to a question are trained on by DPO. It sharpens, so that
    over-confidence is measured on fresh samples; grades in the pools serve only for that.
    A row is a pair.
    """
    given = dict(locals())
    if output is None and not dry_run:
        raise UsageError("name the folder of this run: -o FOLDER")
    with needed():
        from poise.train import prefs as training  # noqa: PLC0415 - an optional extra, heavy
        from poise.train.model import load  # noqa: PLC0415
    recipe = _recipe(given)
    arms, sets, prompt = read_all(pools, others or (), system)
    parts = training.parted(arms, sets, recipe, prompt)
    told = Steps(quiet=quiet, shown=_margin)
    told.say("loading the model")
    loaded = load(model, dtype=dtype)
    if output is None or dry_run:
        _print(_tried(loaded, parts, recipe), as_json=as_json)
        return
    report = training.run(
        loaded, parts, recipe, output, resume=resume, say=told.say, told=told.step
    )
    if as_json:
        _print(report, as_json=True)
    else:
        _show(report, output)


def _tried(loaded: Loaded, parts: Data, recipe: Recipe) -> dict[str, Any]:
    """What the run would take: pairs, memory, time from batches that are tried, fresh samples."""
    from poise.train.prefs import tried  # noqa: PLC0415 - an optional extra, heavy

    counts, estimate = tried(loaded, parts, recipe)
    samples = 2 * recipe.draws * sum(map(len, parts.held_out.values()))
    return {"data": dict(counts), "estimate": estimate.to_dict(), "fresh_samples": samples}


def _recipe(given: Mapping[str, Any]) -> Recipe:
    """What the flags ask for. Raises UsageError for what makes no sense."""
    from poise.train.dpo import Settings  # noqa: PLC0415 - an optional extra, heavy
    from poise.train.prefs import Recipe  # noqa: PLC0415

    return Recipe(
        **{name: given[name] for name in RECIPE},
        segments=tuple(given["segments"] or ()),
        settings=Settings(
            **{name: given[name] for name in SETTINGS},
            report_to=tuple(given["report_to"] or ()),
        ),
    )


def _margin(record: Mapping[str, Any]) -> list[str]:
    return [f"margin {record['margin']:.2f}", f"pairs ranked {record['pairs_ranked']:.2f}"]


def _print(record: Mapping[str, Any], *, as_json: bool) -> None:
    print(json.dumps(record, ensure_ascii=False, indent=None if as_json else 1))  # noqa: T201


def _show(report: Mapping[str, Any], output: Path) -> None:
    """Before and after of each held-out set, and what went wrong, on stdout."""
    console = Console(highlight=False)
    for name, each in report["evaluation"].items():
        console.print(before_and_after(name, each, ROWS))
        n, questions = each["after"]["samples"], report["change"][name]["questions"]
        console.print(f"{n} fresh samples of {questions} questions, before and after")
        for size, them in each["baselines"].items():
            known = them.get("p + platt", them)
            told = f"Brier {known['brier']['value']:.3f}" if "brier" in known else known["reason"]
            console.print(f"untrained confidence + Platt on {size}: {told}", soft_wrap=True)
        _show_change(report["change"][name], console)
    for sign in report["signs"]:
        console.print(f"! {sign}", soft_wrap=True)
    model, took = report["model"], report["seconds"]
    console.print(
        f"{output}: {report['data']['rows']} pairs in {len(report['steps'])} steps,"
        f" {count(model['trained_parameters'])} of {count(model['parameters'])} parameters trained;"
        f" training took {span(took['training'])}",
        soft_wrap=True,
    )


def _show_change(change: Mapping[str, Any], console: Console) -> None:
    for name in ("accuracy", "confidence", "overconfidence"):
        told = change.get(name)
        if told is None or told["value"] is None:
            continue
        spread = told["interval"]
        shown = told["reason"] if spread is None else f"95 %: {spread[0]:+.3f} to {spread[1]:+.3f}"
        console.print(f"{name} changed by {told['value']:+.3f} ({shown})", soft_wrap=True)


ROWS: tuple[Row, ...] = (
    ("accuracy, greedy", lambda at: at["greedy"]["accuracy"]),
    ("accuracy, sampled", lambda at: at["sampled"]["accuracy"]),
    ("mean confidence", lambda at: at["means"]["all"]["mean"]),
    ("mean when wrong", lambda at: at["means"]["wrong"]["mean"]),
    ("mean when right", lambda at: at["means"]["right"]["mean"]),
    ("mean in wrong majorities", lambda at: at["consensus"]["wrong"]["mean"]),
    ("ECE", lambda at: at["confidence"]["ece"]),
    ("ECE by chance alone", lambda at: at["confidence"]["ece_floor"]["mean"]),
    ("Brier", lambda at: at["confidence"]["brier"]["value"]),
    ("Brier of the base rate", lambda at: at["confidence"]["base_brier"]),
    ("AUROC", lambda at: at["confidence"]["auroc"]["value"]),
    ("within-question", lambda at: at["confidence"]["within_question"]["estimate"]["value"]),
    ("answers a question", lambda at: at["answers_a_question"]),
)
