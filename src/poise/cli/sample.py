"""Draw N samples of each question and write them, with their log-probabilities, as a pool file."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from poise.cli import options
from poise.cli.arms import ArmFlags, Chosen, budget, choose
from poise.cli.batch import Batch, Source, say, work_through
from poise.errors import UsageError
from poise.grading import grade
from poise.policies import Fixed, Policy
from poise.policies.bounds import MOST_SAMPLES
from poise.pools import Labelled, Pool, QuestionLine, pool_record
from poise.score import score
from poise.signals import Signal, asking, logprobs_for, signal
from poise.solve import Setting
from poise.types import Arm, FollowUp, Kind, Result, Sample, StopReason, TokenLogprobs


def sample(
    file: Annotated[str, typer.Argument(help="Question file (JSONL, CSV, Parquet); - is stdin.")],
    n: Annotated[
        int,
        typer.Option("-n", "--samples", min=1, max=MOST_SAMPLES, help="Samples of each question."),
    ] = 16,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: stdout.")] = None,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    api_key_env: options.KeyEnv = None,
    kind: options.KindFlag = None,
    temperature: options.Temperature = None,
    edt: options.Edt = None,
    system: options.System = None,
    reply_tokens: options.ReplyTokens = None,
    top_logprobs: Annotated[
        int, typer.Option("--top-logprobs", min=0, max=20, help="Alternatives kept per token.")
    ] = 0,
    signals: options.Signals = None,
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
        concurrency, "none", options.edt(edt),
    )  # fmt: skip
    chosen = choose(flags)
    if chosen.arm.decoding.get("temperature") == 0 and n > 1:
        raise UsageError("temperature 0 gives the same sample every time; use -n 1")
    source = Source(file, chosen.kind, limit, skip_bad=skip_bad, check_gold=True)
    named = [signal(name) for name in options.listed(signals) or ()]
    asks = asking(one.name for one in named)
    top_logprobs = max(top_logprobs, logprobs_for(one.name for one in named) or 0)
    setting = Setting(seed, logprobs=top_logprobs, ask=asks)
    total = budget(total_budget, chosen.arm)
    batch = Batch(chosen, Policy(Fixed(n)), setting, total, concurrency)
    pools = _Pools(dataset or _name(file), chosen, n, named)
    header = {"verb": "sample", "dataset": pools.dataset, "n": n, "top_logprobs": top_logprobs}
    if named:
        header["signals"] = [one.name for one in named]
    work = work_through(
        source, batch, output, record=pools.record, header=header, resume=resume,
        overwrite=overwrite, quiet=quiet,
    )  # fmt: skip
    asyncio.run(work)
    pools.report()


class _Pools:
    """Makes the pool line of each finished question, and knows which have one sample only."""

    def __init__(self, dataset: str, chosen: Chosen, n: int, signals: Sequence[Signal]):
        self.dataset, self._chosen, self._n = dataset, chosen, n
        self._signals = signals
        self._missing: Counter[str] = Counter()
        self._alone: Counter[str] = Counter()

    def record(self, line: QuestionLine, result: Result) -> Mapping[str, Any] | None:
        if result.stop not in {StopReason.FIXED, StopReason.SINGLE}:
            return None
        if result.n_samples < self._n:
            self._alone[result.reason or "no reason given"] += 1
        labelled = _labelled(line, result, self.dataset, self._chosen.arm_for(line.question))
        return pool_record(replace(labelled, pool=self._read(labelled.pool)))

    def _read(self, pool: Pool) -> Pool:
        """The pool with the values of the signals that were named, None where one is missing."""
        found = score(pool, [one.name for one in self._signals])
        self._missing.update(found.stated.missing.keys())
        if not found.each:
            return replace(pool, signals={**pool.signals, **found.stated.signals})
        samples = tuple(
            replace(sample, signals={**sample.signals, **_rounded(values)})
            for sample, values in zip(pool.samples, found.each, strict=True)
        )
        return replace(pool, samples=samples, signals={**pool.signals, **found.stated.signals})

    def report(self) -> None:
        for reason, questions in self._alone.items():
            say(f"{questions} questions have one sample instead of {self._n} ({reason})")
        for name, questions in self._missing.most_common():
            say(f"{name} is missing in {questions} questions; `poise score` says why")


def _name(file: str) -> str:
    return "stdin" if file == "-" else Path(file).name.lstrip(".").split(".")[0] or "questions"


def _labelled(line: QuestionLine, result: Result, dataset: str, arm: Arm) -> Labelled:
    """The pool of one question; each sample is graded where the question states its gold answer."""
    question = line.question
    key = arm.key(question.kind)
    pool = Pool(
        dataset=str(line.extra.get("dataset") or dataset),
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
        followups={name: _brief(reply) for name, reply in result.followups.items()},
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
    followups = {name: _brief(reply) for name, reply in drawn.followups.items()}
    logprobs = _short(drawn.logprobs)
    return replace(drawn, index=index, seconds=seconds, logprobs=logprobs, followups=followups)


def _brief(reply: FollowUp) -> FollowUp:
    return replace(reply, logprobs=_short(reply.logprobs))


def _short(logprobs: TokenLogprobs | None) -> TokenLogprobs | None:
    if logprobs is None:
        return None
    top = logprobs.top
    return TokenLogprobs(
        logprobs.tokens,
        tuple(round(value, 3) for value in logprobs.chosen),
        None
        if top is None
        else tuple(tuple((text, round(value, 3)) for text, value in row) for row in top),
    )


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 5) for name, value in values.items()}
