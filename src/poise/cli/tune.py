"""The cheapest threshold that keeps to a target, with a certificate; exit 4 where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

from poise.cli import options, selection
from poise.cli.output import refuse_existing
from poise.errors import UsageError
from poise.pools import SkipCount
from poise.profile import Profile, load
from poise.tune import Certificate, Tuned, fitted, parse_target
from poise.tune import tune as tuned_stop
from poise.tune import tune_exit as tuned_exit
from poise.tune.tuning import SHARE, SHUFFLES
from poise.votes import parse_vote

EXIT = "abstain"
"""What ``--policy`` is to sweep the bar of, instead of a stop rule's threshold."""


Wanted = Annotated[
    str,
    typer.Option(
        "--target",
        help="What to keep to: loss<=0.01 (right answers lost against the majority of all samples),"
        " net<=0.005 (less those won), risk<=0.05 (wrong among the given), spend<=4samples.",
    ),
]
Swept = Annotated[
    str,
    typer.Option(
        "--policy",
        help="The stop rule whose threshold is swept, or one rule with its parameters; abstain"
        " sweeps the bar below which the --profile abstains.",
    ),
]
Base = Annotated[
    str | None,
    typer.Option("--profile", help="Profile to abstain by, or whose signals the new one reads."),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Write a profile: this policy, with its certificate."),
]
Files = Annotated[list[Path], typer.Argument(help="Pool files of one arm.", metavar="POOL…")]
Delta = Annotated[float, typer.Option("--delta", help="Risk of a wrong certificate.")]
Vote = Annotated[str, typer.Option("--vote", help="Who wins: majority, weighted, borda, ….")]
Shuffles = Annotated[
    int, typer.Option("--shuffles", min=1, max=10_000, help="Orders of every question.")
]
Split = Annotated[
    float, typer.Option("--split", help="Share of questions to tune on; the others certify.")
]


def tune(
    pools: Files,
    target: Wanted,
    delta: Delta = 0.1,
    policy: Swept = "beta",
    vote: Vote = "majority",
    model: selection.Model = None,
    run: selection.Run = None,
    dataset: selection.Dataset = None,
    max_samples: options.MaxSamples = None,
    shuffles: Shuffles = SHUFFLES,
    split: Split = SHARE,
    profile: Base = None,
    output: Output = None,
    seed: options.Seed = 0,
    skip_bad: options.SkipBad = False,  # noqa: FBT002 - a flag
    overwrite: options.Overwrite = False,  # noqa: FBT002 - a flag
    as_json: options.AsJson = False,  # noqa: FBT002 - a flag
) -> None:
    """Certify a threshold."""
    refuse_existing(output, overwrite=overwrite)
    if not 0 < split < 1:
        raise UsageError(f"--split {split:g}: must be above 0 and below 1")
    wanted = parse_target(target)
    base = None if profile is None else load(profile)
    skipped = SkipCount() if skip_bad else None
    found = selection.read_arm(pools, model, run, dataset, skip_bad=skipped)
    shared: dict[str, Any] = {"delta": delta, "share": split, "seed": seed}
    if policy == EXIT:
        if base is None:
            raise UsageError("--policy abstain: name the --profile whose probability it goes by")
        if max_samples is not None or vote != "majority":
            raise UsageError("--policy abstain follows the profile: no --max-samples or --vote")
        made = tuned_exit(found, wanted, base, **shared)
    else:
        shared |= {"shuffles": shuffles, "max_samples": max_samples, "vote": parse_vote(vote)}
        made = tuned_stop(found, wanted, policy, **shared)
    written = None if output is None else _written(made, base, output, overwrite=overwrite)
    left_out = 0 if skipped is None else skipped.count
    if as_json:
        certificate, name = made.certificate.to_dict(), written and written.id
        body = {"certificate": certificate, "profile": name, "bad_lines": left_out}
        print(json.dumps(body, ensure_ascii=False, allow_nan=False))  # noqa: T201
        return
    _show(made.certificate, left_out)
    if written is not None:
        print(f"{output}: profile {written.id} for this policy, with the certificate")  # noqa: T201


def _written(made: Tuned, base: Profile | None, output: Path, *, overwrite: bool) -> Profile:
    profile = fitted(made, base)
    profile.save(output, overwrite=overwrite)
    return profile


def _show(made: Certificate, left_out: int) -> None:
    """The tests in order, and what follows from them."""
    console = Console(highlight=False)
    kind = made.target.kind
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    grid.add_column("tested, in order", overflow="fold")
    for name in ("p", "", kind, "samples", "answered"):
        grid.add_column(name, justify="right", no_wrap=True)
    for one in made.tested:
        found = "none" if one.found is None else f"{one.found:.4f}"
        said = "certified" if one.certified else "not"
        share = f"{one.answered:.1%}"
        policy = one.policy.replace(f",max_samples={made.max_samples}", "")
        grid.add_row(policy, f"{one.p:.2g}", said, found, f"{one.samples:.2f}", share)
    console.print(grid)
    sure = f"{1 - made.delta:.4g} confidence"
    right = "" if made.truth == "gold" else " Right means as the majority of all: no grades."
    skipped = f" {left_out} bad lines skipped." if left_out else ""
    console.print(
        f"certified: {made.target} at {sure} by {made.policy}, at {made.certified.samples:.2f} of"
        f" {made.max_samples} samples; {made.questions['tuning']} questions to tune on,"
        f" {made.questions['certification']} others to certify, {made.orders} orders each."
        f"{right}{skipped}",
        soft_wrap=True,
    )
    console.print(f"It assumes: {'; '.join(made.assumes)}.", soft_wrap=True)
    console.print(f"It is void if: {'; '.join(made.void_if)}.", soft_wrap=True)
