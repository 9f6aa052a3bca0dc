"""Fit a profile on labelled pools: what makes a probability of stopped samples, with provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

from poise import fit as fitting
from poise.cli import options
from poise.errors import UsageError
from poise.policies import parse_policy
from poise.pools import Labelled, read_pools
from poise.profile import Profile


def fit(
    pools: Annotated[list[Path], typer.Argument(help="Pool files of one arm, graded.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The profile to write.")],
    policy: options.Policy = None,
    max_samples: options.MaxSamples = None,
    others: Annotated[
        list[Path] | None,
        typer.Option("--others", help="Pools of other tasks, to test the domain check on."),
    ] = None,
    note: Annotated[str, typer.Option("--note", help="A remark kept in the profile.")] = "",
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,  # noqa: FBT002 - a flag
    as_json: options.AsJson = False,  # noqa: FBT002 - a flag
) -> None:
    """Fit a profile."""
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists; name another output or pass --overwrite")
    if not output.parent.is_dir():
        raise UsageError(f"{output.parent}: no such folder")
    chosen = parse_policy(policy or "beta", max_samples)
    listed = [labelled for path in pools for labelled in _arms(path)]
    profile = fitting.fit(
        listed, chosen, seed=seed, note=note, others=[_texts(path) for path in others or ()]
    )
    profile.save(output, overwrite=overwrite)
    if as_json:
        print(json.dumps({"profile": profile.id, **_numbers(profile)}, ensure_ascii=False))  # noqa: T201
    else:
        _show(profile, output)


def _arms(path: Path) -> Iterator[Labelled]:
    for labelled in read_pools(path):
        yield from labelled.by_arm()


def _texts(path: Path) -> tuple[str, Sequence[str]]:
    asked = (labelled.pool.question for labelled in read_pools(path))
    texts = [question.text for question in asked if question is not None]
    if not texts:
        raise UsageError(f"--others {path}: its pools leave the questions out")
    return path.name.split(".")[0], texts


def _numbers(profile: Profile) -> dict[str, Any]:
    return {
        "data": dict(profile.data),
        "detection": dict(profile.detection),
        "final_map": profile.final_map.name,
        "considered": [dict(one) for one in profile.considered],
    }


def _show(profile: Profile, output: Path) -> None:
    """What was considered, on held-out questions, best first."""
    console = Console(highlight=False)
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    grid.add_column("on held-out questions", no_wrap=True)
    for name in ("log loss", "+-", "Brier", "+-"):
        grid.add_column(name, justify="right")
    scored = [one for one in profile.considered if one["log_loss"] is not None]
    for one in sorted(scored, key=lambda row: row["log_loss"]):
        numbers = (one[name] for name in ("log_loss", "log_loss_se", "brier", "brier_se"))
        grid.add_row(one["what"], *(f"{number:.4f}" for number in numbers))
    console.print(grid)
    for one in profile.considered:
        if one["log_loss"] is None:
            console.print(f"not possible: {one['what']}: {one['reason']}", soft_wrap=True)
    data = profile.data
    console.print(
        f"{output}: {data['questions']} questions, {data['mean_samples_at_stop']} samples at the"
        f" stop, final map {profile.final_map.name}",
        soft_wrap=True,
    )
    held = data["held_out"]
    floor, auroc = held["ece_floor"], held["auroc"]
    console.print(
        f"held out, as reported: ECE {held['ece']:.3f} (a calibrated map of these questions has"
        f" {floor['mean']:.3f}, at most {floor['p95']:.3f}), Brier {held['brier']['value']:.3f}"
        f" (base rate {held['base_brier']:.3f}), AUROC {auroc['value']:.3f}"
        f" ({auroc['interval'][0]:.3f} to {auroc['interval'][1]:.3f})",
        soft_wrap=True,
    )
    for name, share in profile.detection.items():
        console.print(f"questions of {name} turned away: {share:.1%}")
