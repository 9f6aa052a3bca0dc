"""Which stored answers to label next: out as a CSV sheet, and back into the pools."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table as Grid

from poise.cli import options
from poise.cli.batch import say
from poise.cli.output import refuse_existing, write_lines
from poise.cli.selection import read_arms
from poise.errors import UsageError
from poise.labelling import (
    Candidate,
    Coverage,
    LabelCount,
    apply,
    choose,
    coverage,
    read_csv,
    review_queue,
    write_csv,
)
from poise.pools import Labelled, pool_record, read_pools
from poise.profile import Profile, load
from poise.score import score

STAND_IN = "agreement"
"""Without a profile: the raw signal that stands in for a probability."""


Queue = Annotated[bool, typer.Option("--queue", help="The review queue instead: least sure first.")]
Override = Annotated[
    bool, typer.Option("--override", help="Labels may contradict grades that are there.")
]
Reach = Annotated[
    bool, typer.Option("--json", help="Print how far labels reach, by segment, as JSON.")
]


IGNORED = {
    "n": "-n",
    "profile": "--profile",
    "signals": "--signals",
    "threshold": "--threshold",
    "queue": "--queue",
    "seed": "--seed",
    "as_json": "--json",
}
"""Flags that choose answers, and say nothing where labels are put in."""


def label(
    ctx: typer.Context,
    pools: Annotated[list[Path], typer.Argument(help="Pool files.", metavar="POOL…")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Sheet or pool file; default: stdout.")
    ] = None,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="Answers to label.")] = 50,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="Profile that makes the probabilities.")
    ] = None,
    signals: options.Signals = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=1, help="Below it, questions are abstained on."),
    ] = None,
    queue: Queue = False,  # noqa: FBT002 - a flag
    sheet: Annotated[
        Path | None,
        typer.Option("--labels", help="A filled sheet: write the pools with its labels."),
    ] = None,
    override: Override = False,  # noqa: FBT002 - a flag
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,  # noqa: FBT002 - a flag
    as_json: Reach = False,  # noqa: FBT002 - a flag
    quiet: options.Quiet = False,  # noqa: FBT002 - a flag
) -> None:
    """Choose answers to label, or put labels into pools."""
    refuse_existing(output, overwrite=overwrite)
    if sheet is not None:
        stated = [flag for name, flag in IGNORED.items() if _is_stated(ctx, name)]
        if stated:
            raise UsageError(f"--labels chooses nothing; leave {', '.join(stated)} out")
        _put_in(pools, sheet, output, override=override, quiet=quiet)
        return
    if override:
        raise UsageError("--override goes with --labels")
    candidates = _candidates(pools, profile, signals, threshold)
    told = coverage(candidates)
    if as_json:
        print(json.dumps([row.to_dict() for row in told], ensure_ascii=False))  # noqa: T201
        if output is None:
            return
    elif not quiet:
        _show(told)
    if queue:
        picks = review_queue(candidates)[:n]
    else:
        picks = choose(candidates, n, threshold=threshold, seed=seed)
    if not picks:
        say("nothing is left to label")
        return
    write_csv(picks, sys.stdout if output is None else output)
    if output is not None and not quiet:
        say(f"{output}: {len(picks)} answers; fill in correct (1 or 0) or gold, then --labels")


def _is_stated(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _candidates(
    pools: list[Path], profile: Path | None, signals: str | None, threshold: float | None
) -> list[Candidate]:
    fitted = None if profile is None else load(profile)
    if fitted is not None and signals is not None:
        raise UsageError("--signals names the stand-in for a profile's probability; give one")
    name = options.one_signal(signals, STAND_IN)
    return [_candidate(one, fitted, name, threshold) for one in read_arms(pools)]


def _candidate(
    one: Labelled, profile: Profile | None, name: str, threshold: float | None
) -> Candidate:
    found = score(one.pool, None if profile is not None else [name], profile)
    chance = found.stated.probability
    reason = found.stated.reason
    calibrated = chance is not None
    if profile is None:
        chance, reason = found.stated.signals.get(name), found.stated.missing.get(name)
        if chance is not None and not 0 <= chance <= 1:
            raise UsageError(f"--signals {name}: {chance} is not in [0, 1]")
    unsure = threshold is not None and (chance is None or chance < threshold)
    return Candidate.of(
        one,
        found.answer,
        segment=found.segment,
        probability=chance,
        calibrated=calibrated,
        stand_in=name,
        decision="abstain" if found.place is None or unsure else "answer",
        reason="no readable answer" if found.place is None else reason,
    )


def _show(told: tuple[Coverage, ...]) -> None:
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    grid.add_column("segment")
    for name in ("answers", "labelled", "right"):
        grid.add_column(name, justify="right")
    for row in told:
        name = "all" if row.overall else row.segment or "(none)"
        right = f"{row.right} of {row.graded}" if row.graded else "-"
        grid.add_row(name, str(row.total), str(row.labelled), right)
    Console(stderr=True, highlight=False).print(grid)


# -- labels into pools --------------------------------------------------------------------------


def _put_in(
    pools: list[Path], sheet: Path, output: Path | None, *, override: bool, quiet: bool
) -> None:
    """The pools with the sheet's labels, as one pool file, whole or not at all."""
    labels = read_csv(sheet)
    count = LabelCount()
    labelled = (one for path in pools for one in read_pools(path))
    lines = (
        json.dumps(pool_record(one), ensure_ascii=False)
        for one in apply(labels, labelled, override=override, count=count)
    )
    write_lines(lines, output)
    if not quiet:
        say(f"{len(labels.labels)} labels read, {count.used} pools labelled")
        for what, number in (("no such answer", count.unmatched), ("no such pool", count.unknown)):
            if number:
                say(f"  {number} were not used ({what}): lines {_few(sorted(count.lines))}")


def _few(lines: list[int]) -> str:
    shown = ", ".join(map(str, lines[:8]))
    return shown + (" and more" if len(lines) > 8 else "")
