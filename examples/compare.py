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
    for field in ("samples", "completion_tokens", "prompt_tokens", "cached_tokens"):
        a, f = total(adaptive, field), total(fixed, field)
        ratio = f"{a / f:.2f}" if f else "-"
        name = field.replace("_", " ").replace("cached", "of these cached")
        print(f"{name:24}{a:>12,.0f}{f:>12,.0f}{ratio:>8}")
    known = [name for name, result in adaptive.items() if result["kind"] is not None]
    same = sum(adaptive[name]["answer"] == fixed[name]["answer"] for name in known)
    print(f"same answer as fixed voting on {same} of {len(known)} questions")
    for name in known:
        a, f = adaptive[name]["answer"], fixed[name]["answer"]
        if a != f:
            votes = fixed[name]["votes"]
            print(
                f"  {name}: {a} (adaptive), {f} (fixed; {votes.get(f, 0)} votes, {a} had "
                f"{votes.get(a, 0)})"
            )


if __name__ == "__main__":
    main()
