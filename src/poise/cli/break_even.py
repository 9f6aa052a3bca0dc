"""After how many questions training pays for itself: a run's folder, for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from poise.errors import InputError
from poise.report.break_even import UNITS, of_training, prices_of

__all__ = ["report_training"]


def report_training(folder: Path, price: str | None, *, as_json: bool) -> None:
    """Print what training cost, what it saves, and when that is even.

    Raises InputError for a folder without a report of ``poise train sft``, UsageError for prices.
    """
    prices = prices_of(price)
    place = folder / "report.json"
    try:
        report = json.loads(place.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError("the folder holds no report.json of poise train sft", folder) from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", place) from None
    try:
        found = of_training(report, prices)
    except InputError as error:
        raise InputError(error.problem, place) from None
    if as_json:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))  # noqa: T201
    else:
        _show(found, place)


def _show(found: Mapping[str, Any], place: Path) -> None:
    console = Console(highlight=False)
    units = [unit for unit in UNITS if found["cost"][unit]["total"] is not None]
    if units:
        console.print(_costs(found["cost"], units))
    for unit in UNITS:
        if unit not in units:
            console.print(f"in {unit}: {found['cost'][unit]['reason']}", soft_wrap=True)
    for name, told in found["sets"].items():
        console.print()
        if "reason" in told:
            console.print(f"{name}: {told['reason']}", soft_wrap=True)
            continue
        console.print(f"{name}: {told['verdict']}", style="bold", soft_wrap=True)
        for other, each in told["against"].items():
            console.print(_savings(other, each, units), soft_wrap=True)
    console.print(f"\n{_sources(found['inputs'], place)}", soft_wrap=True)


def _costs(cost: Mapping[str, Mapping[str, Any]], units: list[str]) -> Grid:
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    grid.add_column("training cost")
    for unit in units:
        grid.add_column(unit, justify="right")
    for part in ("generation", "scoring", "training", "total"):
        grid.add_row(part, *(f"{cost[unit][part]:,.4g}" for unit in units))
    return grid


def _savings(other: str, each: Mapping[str, Any], units: list[str]) -> str:
    """What is saved a question against one other way, and the questions to break even."""
    even: dict[str, list[str]] = {}
    for unit in units:
        even.setdefault(_even(each[unit]), []).append(unit)
    told = "; ".join(f"{after} in {', '.join(of)}" for after, of in even.items())
    return (
        f"against {other}: accuracy {_with_ends(each['accuracy'], '{:+.3f}')}, samples saved"
        f" {_with_ends(each['samples_saved'], '{:+.2f}')}; even after: {told or 'unknown'}"
    )


def _with_ends(one: Mapping[str, Any], form: str) -> str:
    ends = "" if one["interval"] is None else " ({} {})".format(*map(form.format, one["interval"]))
    return form.format(one["value"]) + ends


def _even(row: Mapping[str, Any]) -> str:
    if row["questions"] is None:
        return f"never ({row['reason']})" if row["never"] else f"unknown ({row['reason']})"
    if row["interval"] is None:
        return f"{row['questions']:,}"
    soonest, latest = row["interval"]
    return f"{row['questions']:,} ({soonest:,} to {'never' if latest is None else f'{latest:,}'})"


def _sources(inputs: Mapping[str, Any], place: Path) -> str:
    """Where the numbers come from, in words."""

    def known(name: str, form: str) -> str:
        return "not known" if inputs[name] is None else form.format(inputs[name])

    prices = [
        f"{known(name, '{:g}')} USD {called}"
        for name, called in (
            ("usd_an_hour", "an hour"),
            ("usd_a_sample", "a sample"),
            ("usd_a_token", "a token"),
        )
        if inputs[name] is not None
    ]
    return (
        f"from {place}: {inputs['samples']:,} samples trained on, {known('tokens', '{:,}')} tokens,"
        f" {known('seconds_a_sample', '{:.3g}')} s a sample as stored;"
        f" {inputs['confidences']:,} confidences asked for,"
        f" {known('seconds_a_confidence', '{:.3g}')} s each as measured;"
        f" training {inputs['training_seconds']:.0f} s;"
        f" prices from --price: {', '.join(prices) or 'none'}. Not counted: measuring, prompts."
    )
