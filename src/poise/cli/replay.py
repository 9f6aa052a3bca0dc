"""Compare policies on stored pools: accuracy and everything spent, over many shuffled orders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table as Grid

from poise.cli import options, selection
from poise.cli.batch import say
from poise.errors import InputError, UsageError
from poise.files import refuse_existing, whole
from poise.metrics import Estimate
from poise.pools import Labelled, SkipCount, part_of
from poise.replay import (
    NET,
    Comparison,
    Frontier,
    Orders,
    Point,
    Replay,
    Sweep,
    compare,
    orders,
    png,
    sweep,
)
from poise.tune.target import parse_target
from poise.votes import parse_vote

SUFFIXES = (".png", ".json")


Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        help="A stop rule, e.g. beta, whose threshold is swept, or beta:threshold=0.9; repeats."
        " Default: beta.",
    ),
]
VoteFlag = Annotated[str, typer.Option("--vote", help="Who wins: majority, weighted, borda, ….")]
Shuffles = Annotated[
    int, typer.Option("--shuffles", min=1, max=10_000, help="Orders of every question.")
]
Split = Annotated[
    float,
    typer.Option("--split", help="Share of questions that thresholds are chosen on; 0: none."),
]
Target = Annotated[
    str, typer.Option("--target", help="What a chosen threshold may lose against voting over all.")
]
Outputs = Annotated[
    list[Path] | None,
    typer.Option("-o", "--output", help="Frontier to write: .png or .json; repeats."),
]


def replay(
    pools: Annotated[
        list[Path],
        typer.Argument(help="Pool files, two samples a question or more.", metavar="POOL…"),
    ],
    policy: Policies = None,
    vote: VoteFlag = "majority",
    model: selection.Model = None,
    run: selection.Run = None,
    dataset: selection.Dataset = None,
    shuffles: Shuffles = 20,
    max_samples: options.MaxSamples = None,
    split: Split = 0.5,
    target: Target = f"net<={NET:g}",
    output: Outputs = None,
    seed: options.Seed = 0,
    skip_bad: options.SkipBad = False,  # noqa: FBT002 - a flag
    overwrite: options.Overwrite = False,  # noqa: FBT002 - a flag
    as_json: options.AsJson = False,  # noqa: FBT002 - a flag
    quiet: options.Quiet = False,  # noqa: FBT002 - a flag
) -> None:
    """Compare policies on stored pools."""
    _check_output(output or (), overwrite=overwrite)
    if not 0 <= split < 1:
        raise UsageError(f"--split {split:g}: must be at least 0 and below 1")
    net, elected = _net(target), parse_vote(vote)
    skipped = SkipCount() if skip_bad else None
    found = selection.read_arm(pools, model, run, dataset, skip_bad=skipped)
    if skipped is not None and max_samples is not None:
        found = _long_enough(found, max_samples, quiet=quiet)
    size = max_samples or min(len(one.pool.samples) for one in found)
    sweeps = [sweep(text, max(2, size)) for text in dict.fromkeys(policy or ["beta"])]
    rules = {need for one in sweeps for each in one.policies for need in each.stop.needs}
    needs = sorted({*rules, *elected.needs})
    made = orders(found, shuffles, seed, needs, max_samples=max_samples)
    tuned = _set_aside(made, sweeps, split, seed)
    tuning = made.take(tuned) if tuned.any() else None
    result = compare(made.take(~tuned), sweeps, elected, tuning=tuning, net=net, seed=seed)
    for path in output or ():
        _write(path, result)
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False))  # noqa: T201
    else:
        _show(result, vote)
    if not quiet:
        for note in _notes(result, skipped, output or ()):
            say(note)


# -- what goes in ---------------------------------------------------------------------------------


def _long_enough(found: list[Labelled], size: int, *, quiet: bool) -> list[Labelled]:
    kept = [one for one in found if len(one.pool.samples) >= size]
    if not kept:
        raise InputError(f"no pool holds {size} samples; lower --max-samples")
    if len(kept) < len(found) and not quiet:
        say(f"left out: {len(found) - len(kept)} of {len(found)} pools hold fewer than {size}")
    return kept


def _set_aside(
    made: Orders, sweeps: Sequence[Sweep], split: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Which questions thresholds are chosen on, (q,): none where nothing is to be chosen."""
    if split == 0 or all(len(one.policies) == 1 for one in sweeps):
        return np.zeros(len(made.group), np.bool_)
    parts = {"tuning": split, "evaluation": 1 - split}
    return np.array([part_of(*group, parts, seed) == "tuning" for group in made.group])


def _net(text: str) -> float:
    target = parse_target(text)
    if target.kind != "net":
        raise UsageError(
            f"--target {text}: replay chooses thresholds by net<=…; other targets want a "
            "certificate, which is poise tune's"
        )
    return target.at_most


def _check_output(paths: Sequence[Path], *, overwrite: bool) -> None:
    for path in paths:
        if path.suffix not in SUFFIXES:
            raise UsageError(f"{path}: a frontier is {' or '.join(SUFFIXES)}")
        refuse_existing(path, overwrite=overwrite)


# -- what comes out -------------------------------------------------------------------------------


def _write(path: Path, result: Replay) -> None:
    if path.suffix == ".png":
        content = png(result)
    else:
        text = json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)
        content = f"{text}\n".encode()
    with whole(path) as stream:
        stream.write(content)


def _show(result: Replay, vote: str) -> None:
    """Every sweep's points, then what was chosen beside the baselines."""
    console = Console(highlight=False)
    score = "accuracy" if result.gold else "agreement"
    for one in result.frontiers:
        if len(one.points) > 1:
            _show_points(one, result, console)
    grid = _grid("policy", "samples", score, "- all, pt", "- equal spend, pt")
    for point in (result.fixed[-1], result.oracle):
        grid.add_row(point.policy, *_cells(point, result), "")
    for each in result.comparisons:
        grid.add_row(each.policy, *_cells(each, result), _points(each.score_to_fixed))
    console.print(grid)
    tuned = f"; {result.tuning_questions} others to choose on" if result.tuning_questions else ""
    console.print(
        f"{result.questions} questions{tuned}; {result.orders} orders of {result.max_samples}"
        f" samples; vote {vote}; in brackets 95 % over questions. - all: less majority of all"
        f" {result.max_samples}; - equal spend: less majority at the same mean samples.",
        soft_wrap=True,
    )
    for each in result.comparisons:
        console.print(f"{each.policy}: {_spend(each)}", soft_wrap=True)


def _show_points(one: Frontier, result: Replay, console: Console) -> None:
    """A sweep's points; of neighbours that stop everywhere alike, the chosen or the first."""
    score = "accuracy" if result.gold else "agreement"
    grid = _grid(f"{one.policy}, by {one.parameter}", "samples", score, "- all, pt")
    alike: dict[tuple[str, ...], list[int]] = {}
    for place, point in enumerate(one.points):
        alike.setdefault(_cells(point, result), []).append(place)
    for cells, places in alike.items():
        chosen = one.chosen in places
        point = one.points[one.chosen if chosen and one.chosen is not None else places[0]]
        grid.add_row(f"{point.setting:g}{' *' if chosen else ''}", *cells)
    console.print(grid)
    if one.why:
        console.print(f"{'' if one.chosen is None else '* '}{one.why}", soft_wrap=True)
    console.print()


def _cells(one: Point | Comparison, result: Replay) -> tuple[str, str, str]:
    score = one.accuracy if result.gold else one.agreement
    return (
        _number(one.samples, "{:.2f}"),
        _number(score, "{:.4f}"),
        _points(one.score_to_majority),
    )


def _points(one: Estimate) -> str:
    """A difference in percentage points."""
    if one.value is None:
        return "unknown"
    ends = "" if one.interval is None else " ({:+.1f} {:+.1f})".format(*_hundred(one.interval))
    return f"{100 * one.value:+.2f}{ends}"


def _hundred(ends: tuple[float, float]) -> tuple[float, float]:
    return 100 * ends[0], 100 * ends[1]


def _spend(one: Comparison) -> str:
    """The rest of its spend in words, with the reason for what is not known."""
    share = _number(one.samples_to_majority, "{:.0%}")
    told = [f"{share} of the samples, {_number(one.rounds, '{:.2f}')} rounds"]
    told.append(f"answered {_number(one.answered, '{:.1%}')}")
    for name, number, form in (
        ("completion tokens", one.tokens, "{:.0f}"),
        ("prompt tokens, estimated", one.prompt_tokens, "{:.0f}"),
        ("follow-ups", one.followups, "{:.2f}"),
        ("seconds p50", one.latency_p50, "{:.2f}"),
        ("seconds p99", one.latency_p99, "{:.2f}"),
    ):
        if (name == "follow-ups" and not number.value) or (
            name == "seconds p99" and number.value is None
        ):
            continue
        why = f" ({number.reason})" if number.value is None else ""
        told.append(f"{name} {_number(number, form)}{why}")
    return ", ".join(told)


def _notes(result: Replay, skipped: SkipCount | None, output: Sequence[Path]) -> list[str]:
    notes = []
    if skipped is not None and skipped.count:
        notes.append(f"{skipped.count} bad lines skipped")
    if result.left_out:
        notes.append(f"left out: {result.left_out} questions with samples that are not graded")
    if not result.gold:
        notes.append("accuracy unknown: no question is graded; agreement with all N stands for it")
    return notes + [f"{path} written" for path in output]


def _number(one: Estimate, form: str) -> str:
    return "unknown" if one.value is None else form.format(one.value)


def _grid(first: str, *names: str) -> Grid:
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    grid.add_column(first, overflow="fold", min_width=14)
    for name in names:
        grid.add_column(name, justify="right", no_wrap=True)
    return grid
