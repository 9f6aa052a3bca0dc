"""Two result files of the same questions, side by side: what each spent, and where they differ.

Usage: python compare.py ADAPTIVE.jsonl FIXED.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def read(path: str) -> dict[str, dict]:
    """Results by question id."""
    lines = Path(path).read_text("utf-8").splitlines()
    return {result["question_id"]: result for result in map(json.loads, lines)}


def total(results: dict[str, dict], field: str) -> float:
    """Sum of one field of the spend."""
    return sum(result["spend"][field] for result in results.values())


def main() -> None:
    """Print the comparison."""
    adaptive, fixed = read(sys.argv[1]), read(sys.argv[2])
    print(f"\n{'':24}{'adaptive':>12}{'fixed':>12}{'ratio':>8}")
    for name in ("samples", "prompt_tokens", "completion_tokens", "seconds"):
        a, f = total(adaptive, name), total(fixed, name)
        shown = [f"{value:,.1f}" if name == "seconds" else f"{value:,.0f}" for value in (a, f)]
        print(f"{name.replace('_', ' '):24}{shown[0]:>12}{shown[1]:>12}{a / f:>8.2f}")
    known = [id for id, result in adaptive.items() if result["kind"] is not None]
    same = sum(adaptive[id]["answer"] == fixed[id]["answer"] for id in known)
    print(f"same answer as fixed voting on {same} of {len(known)} questions")
    for id in known:
        a, f = adaptive[id]["answer"], fixed[id]["answer"]
        if a != f:
            votes = fixed[id]["votes"]
            print(
                f"  {id}: {a} (adaptive), {f} (fixed; {votes.get(f, 0)} votes, {a} had "
                f"{votes.get(a, 0)})"
            )


if __name__ == "__main__":
    main()
