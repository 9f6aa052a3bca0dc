"""How long ``poise --help`` takes, beside a bare interpreter; at most 12 times as long.

    python benchmarks/startup.py [--repeats 15]

Both are started in turns; the least time of each counts, since noise only ever adds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

MOST = 12.0


def seconds(command: list[str]) -> float:
    """Wall clock of one run."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure, print a table and one JSON line; exit 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    poise = str(Path(sys.executable).with_name("poise"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "poise --help": [poise, "--help"],
        "poise run --help": [poise, "run", "--help"],
    }
    best = dict.fromkeys(commands, float("inf"))
    for _ in range(repeats):
        for name, command in commands.items():
            best[name] = min(best[name], seconds(command))
    bare = best["python -c pass"]
    for name, took in best.items():
        print(f"{name:20}{took * 1e3:8.1f} ms{took / bare:8.1f} x")
    ratio = best["poise --help"] / bare
    found = {name: round(took, 4) for name, took in best.items()}
    print(json.dumps({"benchmark": "startup", "seconds": found, "ratio": round(ratio, 2)}))
    sys.exit(ratio > MOST)


if __name__ == "__main__":
    main()
