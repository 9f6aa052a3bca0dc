"""What training buys in use, as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

__all__ = ["show_in_use"]

CELLS = ("untrained", "selection", "redrawn", "generation", "both", "logprob")

RULES = {"early": "early", "weighted": "weighted", "best_of_n": "best of", "majority": "majority"}
"""Rules, and how their rows are called in front of the budget."""


def show_in_use(name: str, section: Mapping[str, Any], console: Console) -> None:
    """One held-out set: accuracy and mean samples of each rule at each budget, in each cell."""
    told = section["sets"][name]
    if "reason" in told:
        console.print(f"{name} in use: {told['reason']}", soft_wrap=True)
        return
    columns = [cell for cell in CELLS if cell in next(iter(told["budgets"].values()))]
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    grid.add_column("in use", no_wrap=True)
    for cell in columns:
        grid.add_column(cell, justify="right", no_wrap=True)
    for budget, cells in told["budgets"].items():
        for rule, called in RULES.items():
            shown = [_cell(cells[cell].get(rule), rule) for cell in columns]
            grid.add_row(f"{called} {budget}", *shown)
    console.print(grid)
    if "without_fresh" in told:
        console.print(told["without_fresh"], soft_wrap=True)
    if "redrawn" in columns:
        stored, fresh = (", ".join(told["engines"][which]) for which in ("stored", "fresh"))
        console.print(
            f"stored samples are drawn by {stored}, fresh ones by {fresh}, which drew the untrained"
            " model's again (redrawn): generation and both are to be compared with these",
            soft_wrap=True,
        )
    of = section["thresholds"]["of"]
    tried = ", ".join(f"{each['threshold']:g} {called}" for called, each in of.items())
    console.print(
        f"{name}, in use: accuracy (mean samples) of {told['questions']} questions. Stored"
        " samples: untrained and selection (the trained confidence); the trained model's own:"
        " generation and both. Thresholds, chosen on"
        f" {section['thresholds']['questions']} questions of the training part: {tried}",
        soft_wrap=True,
    )


def _cell(each: Mapping[str, Any] | None, rule: str) -> str:
    if each is None:
        return ""
    right, drawn = each["accuracy"]["value"], each["samples"]["value"]
    return f"{right:.3f}" + (f" ({drawn:.{drawn < 10:d}f})" if rule == "early" else "")
