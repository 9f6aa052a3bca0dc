"""``poise train rl``: stated confidences reinforced by rewards, with numbers before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from poise.cli import options
from poise.cli.progress import count, span
from poise.cli.train import flags, rl_flags
from poise.cli.train.extra import needed
from poise.cli.train.sets import read_all
from poise.cli.train.sft import Steps, before_and_after, print_record
from poise.cli.train.stated import STATED
from poise.errors import UsageError

if TYPE_CHECKING:
    from poise.train.rl_recipe import Recipe

SETTINGS = (
    *("split", "mix", "group", "batch", "steps", "lr", "kl", "temperature"),
    *("save_every", "check_every", "seed", "mixed"),
)
RECIPE = ("reply_tokens", "limit", "held_out", "questions", "draws")
"""Flags that training knows by the same names."""


def rl(
    pools: flags.Pools,
    output: flags.Output = None,
    model: flags.Model = None,
    adapter: rl_flags.Adapter = "none",
    dry_run: flags.DryRun = False,  # noqa: FBT002 - a flag
    reward: rl_flags.Reward = None,
    split: rl_flags.Split = False,  # noqa: FBT002 - a flag
    mix: rl_flags.Mix = None,
    force: rl_flags.Force = False,  # noqa: FBT002 - a flag
    group: rl_flags.Group = 8,
    per_step: rl_flags.PerStep = 4,
    batch: rl_flags.Batch = None,
    steps: rl_flags.Steps = 100,
    lr: rl_flags.Rate = 1e-5,
    kl: rl_flags.Kl = 0.0,
    temperature: rl_flags.Temperature = 1.0,
    reply_tokens: rl_flags.ReplyTokens = None,
    limit: flags.Limit = None,
    held_out: flags.HeldOut = 0.2,
    segments: flags.Segments = None,
    others: flags.Others = None,
    questions: flags.Questions = 40,
    draws: rl_flags.Draws = 4,
    answer_above: flags.AnswerAbove = None,
    save_every: flags.SaveEvery = 10,
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
    """Reinforce a confidence that replies state themselves, by rewards that need gold answers.

    The pools give questions with gold answers; replies are drawn anew, in groups, and learn from
    what each earned more or less than its group (GRPO by TRL, nothing divided by a spread).
    """
    given = dict(locals())
    if output is None and not dry_run:
        raise UsageError("name the folder of this run: -o FOLDER")
    with needed():
        from poise.train import reinforcement, rl_recipe  # noqa: PLC0415 - an optional extra
        from poise.train.model import load  # noqa: PLC0415
    recipe = _recipe(given)
    arms, sets, prompt = read_all(pools, others or (), system)
    parts = rl_recipe.data(arms, sets, recipe, prompt)
    told = Steps(quiet=quiet, shown=_shown)
    told.say("loading the model")
    loaded = load(model, dtype=dtype)
    if output is None or dry_run:
        tried = reinforcement.estimate(loaded, parts, recipe)
        print_record({"estimate": tried}, as_json=as_json)
        return
    heard: dict[str, Any] = {"say": told.say, "told": told.step}
    report = reinforcement.run(loaded, parts, recipe, output, resume=resume, **heard)
    print_record(report, as_json=True) if as_json else show(report, output)


def _recipe(given: Mapping[str, Any]) -> Recipe:
    """What the flags ask for. Raises UsageError for what makes no sense."""
    from poise.train.rl import WEIGHTS, Settings  # noqa: PLC0415 - an optional extra, heavy
    from poise.train.rl_recipe import Recipe  # noqa: PLC0415

    start = given["adapter"]
    return Recipe(
        **{name: given[name] for name in RECIPE},
        adapter=None if start == "none" else Path(start),
        segments=tuple(given["segments"] or ()),
        answer_above=0.5 if given["answer_above"] is None else given["answer_above"],
        settings=Settings(
            **{name: given[name] for name in SETTINGS},
            weights=tuple(map(_weight, given["reward"])) if given["reward"] else WEIGHTS,
            forced=given["force"],
            questions=given["per_step"],
            report_to=tuple(given["report_to"] or ()),
        ),
    )


def _weight(text: str) -> tuple[str, float]:
    """NAME=WEIGHT. Raises UsageError for another form; names are judged with their sum."""
    name, given, weight = text.partition("=")
    try:
        found = float(weight)
    except ValueError:
        found = math.nan
    if not (name and given and math.isfinite(found)):
        raise UsageError(f"--reward {text}: must be NAME=WEIGHT, as in brier=1")
    return name, found


def _shown(record: Mapping[str, Any]) -> list[str]:
    parts = [
        f"reward {record['reward']:.2f}",
        f"right {record['right']:.2f}",
        f"in form {record['in_form']:.2f}",
        f"{record['length']:.0f} tokens",
    ]
    if "p" in record:
        parts.insert(3, f"confidence {record['p']:.2f}")
    return parts


def show(report: Mapping[str, Any], output: Path) -> None:
    """Before and after of each held-out set, and what went wrong, on stdout."""
    console = Console(highlight=False)
    for name, each in report["evaluation"].items():
        console.print(before_and_after(name, each, STATED))
    for sign in report["signs"]:
        console.print(f"! {sign}", soft_wrap=True)
    model, took, done = report["model"], report["seconds"], report["data"]
    console.print(
        f"{output}: {done['replies']} replies to {done['questions']} questions in"
        f" {len(report['steps'])} steps, {count(model['trained_parameters'])} of"
        f" {count(model['parameters'])} parameters trained; training took {span(took['training'])}",
        soft_wrap=True,
    )
