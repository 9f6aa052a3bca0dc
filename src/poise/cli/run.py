"""Answer a file of questions, sampling each only as much as it needs; one result a line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from poise.cli import options
from poise.cli.arms import ArmFlags, budget, choose, limits
from poise.cli.batch import Batch, Source, work_through
from poise.cli.table import Table
from poise.pools import QuestionLine
from poise.solve import Setting
from poise.types import Result


def run(
    file: Annotated[str, typer.Argument(help="Question file (JSONL, CSV, Parquet); - is stdin.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: stdout.")] = None,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    api_key_env: options.KeyEnv = None,
    policy: options.Policy = None,
    profile: options.ProfileFile = None,
    kind: options.KindFlag = None,
    temperature: options.Temperature = None,
    system: options.System = None,
    max_samples: options.MaxSamples = None,
    max_tokens: options.MaxTokens = None,
    reply_tokens: options.ReplyTokens = None,
    max_seconds: options.MaxSeconds = None,
    max_usd: options.MaxUsd = None,
    total_budget: options.Budget = None,
    concurrency: options.Concurrency = 8,
    limit: options.Limit = None,
    resume: options.Resume = False,  # noqa: FBT002 - a flag
    overwrite: options.Overwrite = False,  # noqa: FBT002 - a flag
    skip_bad: options.SkipBad = False,  # noqa: FBT002 - a flag
    seed: options.Seed = 0,
    table: Annotated[  # noqa: FBT002 - a flag
        bool,
        typer.Option(
            "--table", help="Print a table at the end, instead of JSON lines unless -o keeps them."
        ),
    ] = False,
    quiet: options.Quiet = False,  # noqa: FBT002 - a flag
    config: options.ConfigFile = None,
) -> None:
    """Answer a file of questions."""
    flags = ArmFlags(
        model, base_url, api_key_env, policy, kind, temperature, system, reply_tokens, max_samples,
        config, concurrency, profile,
    )  # fmt: skip
    caps = limits(max_samples, max_tokens, max_seconds, max_usd)
    chosen = choose(flags)
    source = Source(file, chosen.kind, limit, skip_bad=skip_bad)
    total = budget(total_budget, chosen.arm)
    setting = Setting(seed, caps, profile=chosen.profile)
    batch = Batch(chosen, chosen.policy, setting, total, concurrency)
    rows = Table() if table else None

    def record(line: QuestionLine, result: Result) -> Mapping[str, Any]:
        if rows is not None:
            rows.add(line, result)
        return result.to_dict()

    lines = Path(os.devnull) if table and output is None else output
    work = work_through(
        source, batch, lines, record=record, header={"verb": "run"}, resume=resume,
        overwrite=overwrite, quiet=quiet,
    )  # fmt: skip
    summary = asyncio.run(work)
    if rows is not None:
        rows.print(summary)
