"""The reports of training runs, condensed: one small file each, and a table of all.

    python benchmarks/training.py FOLDER… [--into benchmarks/training]
    python benchmarks/training.py            (the table alone, of what is stored)

``benchmarks/training/run.sh`` has the commands that made the folders. A report keeps all numbers
but those of single questions, samples and steps; of the steps it keeps five means.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HOME = Path(__file__).with_name("training")
LONGEST = 24
"""Lists beyond this length are of single questions, samples or steps."""

PARTS = 5
DIGITS = 4


def condensed(value: Any) -> Any:
    """Without long lists, with ``DIGITS`` significant decimals."""
    if isinstance(value, Mapping):
        return {k: condensed(v) for k, v in value.items() if not _long(v)}
    if isinstance(value, list):
        return [condensed(each) for each in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def _long(value: Any) -> bool:
    return isinstance(value, list) and len(value) > LONGEST


def steps(report: Mapping[str, Any]) -> list[dict[str, float]]:
    """Means of every number that the steps record, over ``PARTS`` equal parts of the run."""
    every = report.get("steps", [])
    size = max(1, math.ceil(len(every) / PARTS))
    found = []
    for start in range(0, len(every), size):
        part = every[start : start + size]
        names = [k for k, v in part[0].items() if isinstance(v, int | float)]
        means = {}
        for name in names:
            known = [each[name] for each in part if isinstance(each.get(name), int | float)]
            means[name] = round(math.fsum(known) / len(known), DIGITS)
        found.append(means)
    return found


def row(name: str, report: Mapping[str, Any]) -> list[str]:
    """Lines of the table: each set measured, before and after; what is stated on a line of its own.

    ECE (by chance alone), Brier (base rate), AUROC, and the accuracy of fresh samples.
    """
    lines = []
    for which, each in report["evaluation"].items():
        for part in ("", "stated"):
            cells = [_cell(each[when], part) for when in ("before", "after")]
            if any(cells):
                what = f"{which} {part}".strip()
                lines.append(f"{name:22s} {what:17s} {' -> '.join(cells)}")
    return lines


def _cell(measured: Mapping[str, Any], part: str) -> str:
    own = measured.get(part, {}) if part else measured
    told, accuracy = own.get("confidence", {}), own.get("sampled", own.get("accuracy", {}))
    if "brier" not in told:
        return ""
    rank = told["auroc"]["value"]
    return (
        f"ECE {told['ece']:.3f} ({told['ece_floor']['mean']:.3f})"
        f" Brier {told['brier']['value']:.3f} ({told['base_brier']:.3f})"
        f" AUROC {math.nan if rank is None else rank:.3f} right {accuracy['accuracy']:.3f}"
    )


def main() -> None:
    """Condense the folders that are named, then print the table of all that are stored."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--into", type=Path, default=HOME)
    given = parser.parse_args()
    given.into.mkdir(exist_ok=True)
    for folder in given.folders:
        report = json.loads((folder / "report.json").read_text("utf-8"))
        made = {**condensed({k: v for k, v in report.items() if k != "steps"})}
        made["steps"] = {"n": len(report.get("steps", [])), "parts": steps(report)}
        text = json.dumps(made, ensure_ascii=False, separators=(",", ":")) + "\n"
        (given.into / f"{folder.name}.json").write_text(text, "utf-8")
    for place in sorted(given.into.glob("*.json")):
        print(*row(place.stem, json.loads(place.read_text("utf-8"))), sep="\n")


if __name__ == "__main__":
    main()
