"""Signals of stored answers, and a profile's probability for them; nothing is generated."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from poise.cli import options
from poise.cli.batch import say
from poise.cli.output import refuse_existing, write_lines
from poise.pools import Pool, SkipCount, read_pools
from poise.profile import load
from poise.score import Scored
from poise.score import score as scored


def score(
    file: Annotated[str, typer.Argument(help="Pool file (JSONL, Parquet); - is stdin.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: stdout.")] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Profile that makes probabilities.")
    ] = None,
    signals: options.Signals = None,
    skip_bad: options.SkipBad = False,  # noqa: FBT002 - a flag
    overwrite: options.Overwrite = False,  # noqa: FBT002 - a flag
    quiet: options.Quiet = False,  # noqa: FBT002 - a flag
) -> None:
    """Score stored answers."""
    refuse_existing(output, overwrite=overwrite)
    fitted = None if profile is None else load(profile)
    names = options.listed(signals)
    tally = _Tally()
    skipped = SkipCount() if skip_bad else None
    lines = (
        json.dumps(tally.count(scored(pool, names, fitted)).to_dict(), ensure_ascii=False)
        for pool in _pools(file, skipped)
    )
    write_lines(lines, output)
    if not quiet:
        tally.report(skipped, calibrating=fitted is not None)


def _pools(file: str, skipped: SkipCount | None) -> Iterator[Pool]:
    for labelled in read_pools(file, skip_bad=skipped):
        for one in labelled.by_arm():
            yield one.pool


class _Tally:
    """What was scored: how many, how many with a probability, why not, what was missing."""

    def __init__(self) -> None:
        self._pools = self._calibrated = 0
        self._reasons: Counter[str] = Counter()
        self._missing: Counter[str] = Counter()

    def count(self, one: Scored) -> Scored:
        self._pools += 1
        self._calibrated += one.stated.probability is not None
        if one.stated.reason is not None:
            self._reasons[one.stated.reason] += 1
        self._missing.update(one.stated.missing.keys())
        return one

    def report(self, skipped: SkipCount | None, *, calibrating: bool) -> None:
        said = f"{self._pools} pools scored"
        if calibrating:
            said += f", {self._calibrated} with a probability"
        say(said)
        if calibrating:
            for reason, count in self._reasons.most_common(5):
                say(f"  {count} without: {reason}")
        for name, count in self._missing.most_common():
            say(f"  {name} is missing in {count}")
        if skipped is not None and skipped.count:
            say(f"  {skipped.count} bad lines skipped")
