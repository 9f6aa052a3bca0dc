"""Draw N samples of each question and write them, with their log-probabilities, as a pool file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from poise.cli import options
from poise.cli.arms import ArmFlags, budget, choose, limits
from poise.cli.batch import Batch, Source, work_through
from poise.errors import UsageError
from poise.grading import grade
from poise.policies import Fixed, Policy
from poise.pools import Labelled, Pool, QuestionLine, pool_record
from poise.solve import Setting
from poise.types import Arm, Kind, Result, Sample, StopReason, TokenLogprobs


def sample(
    file: Annotated[str, typer.Argument(help="Question file (JSONL, CSV, Parquet); - is stdin.")],
    n: Annotated[int, typer.Option("-n", "--samples", help="Samples of each question.")] = 16,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: stdout.")] = None,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    api_key_env: options.KeyEnv = None,
    kind: options.KindFlag = None,
    temperature: options.Temperature = None,
    system: options.System = None,
    reply_tokens: options.ReplyTokens = None,
    top_logprobs: Annotated[
        int, typer.Option("--top-logprobs", min=0, max=20, help="Alternatives kept per token.")
    ] = 0,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Name in the pool; default: the file's.")
    ] = None,
    total_budget: options.Budget = None,
    concurrency: options.Concurrency = 4,
    limit: options.Limit = None,
    resume: options.Resume = False,  # noqa: FBT002 - a flag
    overwrite: options.Overwrite = False,  # noqa: FBT002 - a flag
    skip_bad: options.SkipBad = False,  # noqa: FBT002 - a flag
    seed: options.Seed = 0,
    quiet: options.Quiet = False,  # noqa: FBT002 - a flag
    config: options.ConfigFile = None,
) -> None:
    """Sample a file of questions."""
    flags = ArmFlags(
        model, base_url, api_key_env, None, kind, temperature, system, reply_tokens, None, config,
        concurrency,
    )  # fmt: skip
    policy = Policy(Fixed(n))
    chosen = choose(flags)
    if chosen.arm.decoding.get("temperature") == 0 and n > 1:
        raise UsageError("temperature 0 gives the same sample every time; use -n 1")
    source = Source(file, chosen.kind, limit, skip_bad=skip_bad, check_gold=True)
    name = dataset or _name(file)
    batch = Batch(
        chosen.arm,
        policy,
        Setting(seed, limits(None, None, None, None), logprobs=top_logprobs),
        budget(total_budget, chosen.arm),
        concurrency,
    )

    def record(line: QuestionLine, result: Result) -> Mapping[str, Any] | None:
        if result.stop not in {StopReason.FIXED, StopReason.SINGLE}:
            return None
        return pool_record(_labelled(line, result, name, chosen.arm))

    header = {"verb": "sample", "dataset": name, "n": n, "top_logprobs": top_logprobs}
    asyncio.run(
        work_through(
            source,
            batch,
            output,
            record=record,
            header=header,
            resume=resume,
            overwrite=overwrite,
            quiet=quiet,
        )
    )


def _name(file: str) -> str:
    return "stdin" if file == "-" else Path(file).name.split(".")[0]


def _labelled(line: QuestionLine, result: Result, dataset: str, arm: Arm) -> Labelled:
    """The pool of one question; each sample is graded where the question states its gold answer."""
    question = line.question
    key = arm.key(question.kind)
    pool = Pool(
        dataset=str(line.extra.get("dataset", dataset)),
        model=key["model"],
        question_id=question.id,
        samples=tuple(_compact(drawn, index) for index, drawn in enumerate(result.samples)),
        messages=question.messages,
        kind=question.kind,
        options=question.options,
        segment=question.segment,
        decoding=key["decoding"],
        engine=key["engine"],
        prompt_hash=key["prompt_hash"],
    )
    correct = tuple(
        _grade(drawn.answer, line.gold, question.kind, question.options) for drawn in pool.samples
    )
    return Labelled(pool, line.gold, correct, line.extra)


def _grade(
    answer: str | None, gold: str | None, kind: Kind | None, listed: tuple[str, ...] | None
) -> int | None:
    if gold is None or kind is None:
        return None
    if answer is None:
        return 0  # drawn, and not the right answer: the pool's accuracy counts it
    return grade(answer, gold, kind, listed).correct


def _compact(drawn: Sample, index: int) -> Sample:
    """The sample at its place in the pool, its numbers rounded to what they are worth."""
    seconds = None if drawn.seconds is None else round(drawn.seconds, 3)
    logprobs = drawn.logprobs
    if logprobs is not None:
        top = logprobs.top
        logprobs = TokenLogprobs(
            logprobs.tokens,
            tuple(round(value, 3) for value in logprobs.chosen),
            None
            if top is None
            else tuple(tuple((text, round(value, 3)) for text, value in row) for row in top),
        )
    return replace(drawn, index=index, seconds=seconds, logprobs=logprobs)
