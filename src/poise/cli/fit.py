"""Fit a profile on labelled pools: what makes a probability of stopped samples, with provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

from poise import fit as fitting
from poise.cli import options
from poise.cli.output import refuse_existing
from poise.cli.selection import read_arms
from poise.config import load as load_config
from poise.errors import UsageError
from poise.plan import Plan, plan
from poise.policies import parse_policy
from poise.pools import read_pools
from poise.profile import Profile
from poise.score import score

Planned = Annotated[
    bool,
    typer.Option(
        "--plan", help="Fit nothing: say how many labels buy which floor and certificate."
    ),
]


def fit(
    pools: Annotated[
        list[Path] | None, typer.Argument(help="Pool files of one arm, graded.", metavar="POOL…")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The profile to write.")
    ] = None,
    policy: options.Policy = None,
    max_samples: options.MaxSamples = None,
    signals: options.Signals = None,
    others: Annotated[
        list[Path] | None,
        typer.Option("--others", help="Pools of other tasks, to test the domain check on."),
    ] = None,
    note: Annotated[str, typer.Option("--note", help="A remark kept in the profile.")] = "",
    planned: Planned = False,  # noqa: FBT002 - a flag
    delta: Annotated[
        float, typer.Option("--delta", help="With --plan: risk of a wrong certificate.")
    ] = 0.1,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,  # noqa: FBT002 - a flag
    as_json: options.AsJson = False,  # noqa: FBT002 - a flag
    config: options.ConfigFile = None,
) -> None:
    """Fit a profile."""
    if planned:
        if output is not None:
            raise UsageError("--plan fits nothing; leave -o out")
        _plan(pools or [], signals, delta, seed, as_json=as_json)
        return
    if output is None or not pools:
        raise UsageError("name the pools to fit on and the profile to write: POOL… -o PROFILE")
    refuse_existing(output, overwrite=overwrite)
    try:
        note.encode()
    except UnicodeEncodeError:
        raise UsageError("--note is not text in UTF-8") from None
    chosen = parse_policy(policy or "beta", max_samples)
    rules = load_config(config).rules()
    profile = fitting.fit(
        list(read_arms(pools)),
        chosen,
        signals=options.listed(signals),
        rules=rules,
        seed=seed,
        note=note,
        others=[_texts(path) for path in others or ()],
    )
    profile.save(output, overwrite=overwrite)
    if as_json:
        print(json.dumps({"profile": profile.id, **_numbers(profile)}, ensure_ascii=False))  # noqa: T201
    else:
        _show(profile, output)


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
    grid = _grid("on held-out questions", "log loss", "+-", "Brier", "+-")
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
        f" stop, signals {', '.join(profile.signals)}, final map {profile.final_map.name}",
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
    _show_capability(profile, console)
    for name, share in profile.detection.items():
        console.print(f"questions of {name} turned away: {share:.1%}")


def _show_capability(profile: Profile, console: Console) -> None:
    told = profile.data["capability"]
    if told is not None:
        console.print(
            f"capability after {told['after']} samples: squared error to mu {told['mse']:.4f}"
            f" (base rate {told['base_mse']:.4f}, agreement {told['agreement_mse']:.4f})",
            soft_wrap=True,
        )
    for by, found in (profile.data["segmenter"] or {}).items():
        if found is not None and found["accuracy"] is not None:
            console.print(
                f"segments found by {by}: {found['named']:.1%} of the questions, of those"
                f" {found['accuracy']:.1%} right",
                soft_wrap=True,
            )


# -- planning -----------------------------------------------------------------------------------


def _plan(
    pools: Sequence[Path], signals: str | None, delta: float, seed: int, *, as_json: bool
) -> None:
    """What labels would buy, for probabilities like those that the pools' raw signal gives."""
    name = options.one_signal(signals, "agreement")
    found = [
        value
        for one in read_arms(pools)
        if (value := score(one.pool, [name]).stated.signals.get(name)) is not None
    ]
    if pools and not found:
        raise UsageError(f"--plan: no pool has the signal {name}")
    made = plan(found or None, fewest=fitting.FEWEST_QUESTIONS, delta=delta, seed=seed)
    if as_json:
        print(json.dumps(made.to_dict()))  # noqa: T201
    else:
        _show_plan(made)


def _show_plan(made: Plan) -> None:
    console = Console(highlight=False)
    console.print(f"probabilities: {made.source}; one label a question", soft_wrap=True)
    sizes = _grid("labels", "ECE by chance", "at most", "smallest found", "Brier +-", "profile")
    for one in made.sizes:
        least = "-" if one.detectable is None else f"{one.detectable:.3f}"
        numbers = (one.floor_mean, one.floor_p95)
        sizes.add_row(
            str(one.questions),
            *(f"{number:.3f}" for number in numbers),
            least,
            f"{one.brier_half:.3f}",
            "yes" if one.profile else f"from {made.fewest}",
        )
    console.print(sizes)
    told = "; ".join(
        f"{one.target:g}: {'more than a million' if one.labels is None else one.labels}"
        for one in made.floors
    )
    console.print(f"labels until an ECE by chance alone is at most {told}", soft_wrap=True)
    console.print(
        f"a certificate that at most so many answers are wrong (confidence {1 - made.delta:g}):"
    )
    grid = _grid("risk", "labels if none is wrong", "labels at half the risk", "wrong allowed")
    for each in made.certificates:
        some = ("-", "-") if each.labels is None else (f"{each.labels}", f"{each.errors}")
        grid.add_row(f"{each.risk:g}", str(each.without_error), *some)
    console.print(grid)


def _grid(first: str, *names: str) -> Grid:
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    grid.add_column(first, overflow="fold")
    for name in names:
        grid.add_column(name, justify="right")
    return grid
