"""``poise train sft``: Self-Calibration on stored pools, with its numbers before and after."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as Grid

from poise.cli import options
from poise.cli.progress import PLAIN_EVERY, count, span
from poise.cli.train import flags
from poise.cli.train.extra import needed
from poise.cli.train.in_use import show_in_use
from poise.cli.train.sets import read_all
from poise.cli.train.stated import within
from poise.errors import UsageError

if TYPE_CHECKING:
    from poise.train.model import Loaded
    from poise.train.recipe import Data, Recipe

LAST = 20
"""Steps that the time still needed is judged by."""


SETTINGS = (
    *("weight", "lr", "epochs", "batch", "accumulation"),
    *("save_every", "check_every", "seed", "mixed"),
)
RECIPE = (
    "limit",
    "rows",
    "balance",
    "threshold",
    "held_out",
    "questions",
    "score",
    "longest",
)
"""Flags that training knows by the same names."""


def sft(
    pools: flags.Pools,
    output: flags.Output = None,
    model: flags.Model = None,
    dry_run: flags.DryRun = False,  # noqa: FBT002 - a flag
    target: flags.Target = flags.Targets.SSC,
    score: flags.Score = False,  # noqa: FBT002 - a flag
    loss: flags.Loss = None,
    wording: flags.Wording = flags.Wordings.OWN,
    weight: flags.Weight = 0.1,
    threshold: flags.Threshold = 0.75,
    limit: flags.Limit = None,
    rows: flags.Rows = None,
    balance: flags.Balance = None,
    epochs: flags.Epochs = 1.0,
    lr: flags.Rate = 5e-5,
    layers: flags.Layers = flags.Adapted.QV,
    batch: flags.Batch = 16,
    accumulation: flags.Accumulation = 1,
    longest: flags.Longest = 1024,
    held_out: flags.HeldOut = 0.2,
    segments: flags.Segments = None,
    others: flags.Others = None,
    questions: flags.Questions = 40,
    in_use: flags.InUse = None,
    answer_above: flags.AnswerAbove = None,
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
    """Teach a model a true confidence in its own answers, from its own stored samples.

    The recipe of Self-Calibration (arXiv 2503.00031) at its full size, not run here: pools
    of 32 samples a question, --rows 100000 --batch 16 --accumulation 16 --score.
    """
    given = dict(locals())
    if output is None and not dry_run:
        raise UsageError("name the folder of this run: -o FOLDER")
    with needed():
        from poise.train import recipe, self_calibration  # noqa: PLC0415 - an optional extra
        from poise.train.model import load  # noqa: PLC0415
    wanted = _recipe(given)
    arms, sets, prompt = read_all(pools, others or (), system)
    parts = recipe.data(arms, sets, wanted, prompt)
    told = Steps(quiet=quiet)
    told.say("loading the model")
    loaded = load(model, dtype=dtype)
    if output is None or dry_run:
        print_record(_tried(loaded, parts, wanted), as_json=as_json)
        return
    heard: dict[str, Any] = {"say": told.say, "told": told.step}
    report = self_calibration.run(loaded, parts, wanted, output, resume=resume, **heard)
    print_record(report, as_json=True) if as_json else show(report, output)


def _recipe(given: Mapping[str, Any]) -> Recipe:
    """What the flags ask for. Raises UsageError for what makes no sense."""
    from poise.train.recipe import Recipe  # noqa: PLC0415 - an optional extra, heavy
    from poise.train.sft import Settings  # noqa: PLC0415

    stated = given["wording"] is flags.Wordings.STATED
    if given["answer_above"] is not None and not stated:
        raise UsageError("--answer-above is about a stated confidence: --wording stated")
    labels = given["target"] is flags.Targets.LABELS
    own = flags.Losses.LOG if labels else flags.Losses.SMOOTH  # which is not proper for labels
    fresh = given["in_use"]
    return Recipe(
        **{name: given[name] for name in RECIPE},
        target=given["target"].value,
        wording=given["wording"].value,
        layers=given["layers"].value,
        in_use=(0 if stated else 16) if fresh is None else fresh,
        answer_above=0.5 if given["answer_above"] is None else given["answer_above"],
        segments=tuple(given["segments"] or ()),
        settings=Settings(
            **{name: given[name] for name in SETTINGS},
            loss=(given["loss"] or own).value,
            report_to=tuple(given["report_to"] or ()),
        ),
    )


def _tried(loaded: Loaded, parts: Data, recipe: Recipe) -> dict[str, Any]:
    """What the run would take: rows, memory, and time from batches that are tried."""
    from poise.train.estimate import estimate  # noqa: PLC0415 - an optional extra, heavy
    from poise.train.in_use import to_draw  # noqa: PLC0415
    from poise.train.model import LAYERS, with_adapter  # noqa: PLC0415
    from poise.train.recipe import levels_of, prepare  # noqa: PLC0415

    prepared = prepare(loaded, parts.train, parts.prompt, recipe)
    levels = levels_of(loaded, recipe.wording)
    adapted = with_adapter(
        loaded,
        rank=recipe.rank,
        alpha=recipe.alpha,
        targets=LAYERS[recipe.layers],
        seed=recipe.settings.seed,
    )
    made = estimate(adapted, prepared.items, levels, recipe.settings)
    return {
        "data": dict(prepared.counts),
        "estimate": made.to_dict(),
        "in_use": {"fresh_samples": to_draw(parts, recipe)},
    }


def print_record(record: Mapping[str, Any], *, as_json: bool) -> None:
    """One JSON object on stdout: on one line for programs, indented for people."""
    print(json.dumps(record, ensure_ascii=False, indent=None if as_json else 1))  # noqa: T201


class Steps:
    """What is said on stderr while it runs: stages, and every few seconds a step with its ETA."""

    def __init__(
        self, *, quiet: bool, shown: Callable[[Mapping[str, Any]], list[str]] | None = None
    ):
        """``shown``: what is said of a step's record behind its loss; None: of a confidence."""
        self._quiet, self._live = quiet, sys.stderr.isatty()
        self._shown = shown or _confidence
        self._started = time.monotonic()
        self._said = float("-inf")
        self._took: list[float] = []

    def say(self, text: str) -> None:
        """A stage begins."""
        if not self._quiet:
            passed = span(time.monotonic() - self._started)
            sys.stderr.write(f"{text} · {passed}\n")
            sys.stderr.flush()

    def step(self, record: Mapping[str, Any], steps: int) -> None:
        """One more optimizer step is done."""
        self._took.append(record["seconds"])
        now, last = time.monotonic(), record["step"] >= steps
        if self._quiet or not (last or now - self._said >= PLAIN_EVERY):
            return
        self._said = now
        pace = median(self._took[-LAST:])
        parts = [
            f"step {record['step']}/{steps}",
            f"loss {record['loss']:.4f}",
            *self._shown(record),
            f"{pace:.1f} s/step",
            span(now - self._started),
        ]
        if record.get("accuracy") is not None:
            parts.insert(-2, f"accuracy {record['accuracy']:.2f}")
        if not last:
            parts.append(f"ETA {span(pace * (steps - record['step']))}")
        ending = "\n" if last or not self._live else ""
        sys.stderr.write(("\r" if self._live else "") + " · ".join(parts) + ending)
        sys.stderr.flush()


def _confidence(record: Mapping[str, Any]) -> list[str]:
    return [f"confidence {record['p']:.2f} for {record['target']:.2f}"]


def show(report: Mapping[str, Any], output: Path) -> None:
    """Before and after of each held-out set, and what went wrong, on stdout."""
    console = Console(highlight=False)
    for name, each in report["evaluation"].items():
        more = within("stated") if "stated" in each["before"] else ()
        console.print(before_and_after(name, each, (*ROWS, *more)))
        if "in_use" in report:
            show_in_use(name, report["in_use"], console)
    for sign in report["signs"]:
        console.print(f"! {sign}", soft_wrap=True)
    model, took = report["model"], report["seconds"]
    console.print(
        f"{output}: {report['data']['rows']} rows in {len(report['steps'])} steps,"
        f" {count(model['trained_parameters'])} of {count(model['parameters'])} parameters trained;"
        f" training took {span(took['training'])}",
        soft_wrap=True,
    )


Row = tuple[str, Callable[[Mapping[str, Any]], float | None]]
"""A line of a table: what it is called, and where it stands in a report."""


def before_and_after(name: str, each: Mapping[str, Any], rows: Sequence[Row]) -> Grid:
    """The table of one set that was measured before and after training."""
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    grid.add_column(name, overflow="fold")
    for heading in ("before", "after"):
        grid.add_column(heading, justify="right")
    for label, read in rows:
        grid.add_row(label, *(_cell(read, each[when]) for when in ("before", "after")))
    return grid


ROWS: tuple[Row, ...] = (
    ("ECE", lambda at: at["confidence"]["ece"]),
    ("ECE by chance alone", lambda at: at["confidence"]["ece_floor"]["mean"]),
    ("Brier", lambda at: at["confidence"]["brier"]["value"]),
    ("Brier of the base rate", lambda at: at["confidence"]["base_brier"]),
    ("AUROC", lambda at: at["confidence"]["auroc"]["value"]),
    ("within-question", lambda at: at["confidence"]["within_question"]["estimate"]["value"]),
    ("mean in wrong majorities", lambda at: at["consensus"]["wrong"]["mean"]),
    ("accuracy, greedy", lambda at: at["greedy"]["accuracy"]),
    ("accuracy, sampled", lambda at: at["sampled"]["accuracy"]),
)


def _cell(read: Any, at: Mapping[str, Any]) -> str:
    try:
        value = read(at)
    except KeyError:
        return "-"
    return "-" if value is None else f"{value:.3f}"
