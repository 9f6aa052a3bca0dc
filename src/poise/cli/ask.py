"""Ask one question: an answer, and how sure. On the embedded model unless a server is named."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from typing import Annotated

import typer

from poise.answers.infer import infer_kind
from poise.cli import options
from poise.cli.arms import ArmFlags, Chosen, choose, limits
from poise.errors import BackendError, InputError, UsageError
from poise.solve import Setting, solve
from poise.spend import priced
from poise.types import Kind, Question, Result, StopReason

MOST_OPTIONS = 26
"""Options are named by the letters A to Z."""


def ask(
    text: Annotated[str, typer.Argument(help="The question; - reads it from stdin.")],
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    api_key_env: options.KeyEnv = None,
    policy: options.Policy = None,
    profile: options.ProfileFile = None,
    kind: options.KindFlag = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="One option of a choice; repeat it.")
    ] = None,
    temperature: options.Temperature = None,
    system: options.System = None,
    max_samples: options.MaxSamples = None,
    max_tokens: options.MaxTokens = None,
    reply_tokens: options.ReplyTokens = None,
    max_seconds: options.MaxSeconds = None,
    max_usd: options.MaxUsd = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,  # noqa: FBT002 - a flag
    config: options.ConfigFile = None,
) -> None:
    """Ask one question."""
    text = _asked(text)
    flags = ArmFlags(
        model,
        base_url,
        api_key_env,
        policy,
        kind,
        temperature,
        system,
        reply_tokens,
        max_samples,
        config,
        profile=profile,
    )
    caps = limits(max_samples, max_tokens, max_seconds, max_usd)
    chosen = choose(flags)
    setting = Setting(seed, caps, profile=chosen.profile)
    question = _question(text, chosen, tuple(option or ()))
    result, error = asyncio.run(_ask(question, chosen, setting))
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))  # noqa: T201
    elif error is None:
        print(_shown(result))  # noqa: T201
    if error is not None:
        raise error


def _asked(text: str) -> str:
    try:
        read = sys.stdin.buffer.read().decode() if text == "-" else text
        read.encode()
    except UnicodeError:
        raise InputError("the question is not UTF-8 text") from None
    if not read.strip():
        raise InputError("the question is empty")
    return read.strip()


def _question(text: str, chosen: Chosen, listed: tuple[str, ...]) -> Question:
    question = Question.ask(text, chosen.kind, options=listed or None)
    kind = chosen.kind or infer_kind(question)
    if len(listed) == 1 or len(listed) > MOST_OPTIONS or (kind is Kind.CHOICE and not listed):
        raise UsageError(f"a choice needs 2 to {MOST_OPTIONS} --option, not {len(listed)}")
    return Question(question.id, question.messages, kind, question.options)


async def _ask(
    question: Question, chosen: Chosen, setting: Setting
) -> tuple[Result, BackendError | None]:
    arm = chosen.arm_for(question)
    try:
        result = await solve(question, arm, chosen.policy, setting)
        if result.spend.calls:
            warm_up = priced((await arm.backend.capabilities()).spend, arm.price)
            result = replace(result, spend=warm_up + result.spend)
    finally:
        await arm.backend.aclose()
    failed = result.stop is StopReason.ERROR and not result.samples
    return result, BackendError(result.reason or "the back-end failed") if failed else None


def _shown(result: Result) -> str:
    """A few lines for people; the first is the answer alone."""
    if result.kind is None:
        head = result.text or ""
    else:
        head = "(no answer)" if result.answer is None else result.answer
    sure = f"not calibrated: {result.reason}"
    if result.probability is not None:
        sure = f"probability {result.probability:.2f}"
        if result.interval is not None:
            sure += " (95 % {:.2f} to {:.2f})".format(*result.interval)
    spend = result.spend
    tokens = "unknown" if spend.tokens is None else str(spend.tokens)
    lines = [head, sure]
    if result.kind not in {None, Kind.TEXT} or len(result.votes) > 1:
        votes = ", ".join(f"{answer} x{votes}" for answer, votes in result.votes.items())
        lines.append(f"votes: {votes or 'none'}")
    plural = "" if result.n_samples == 1 else "s"
    lines.append(
        f"{result.n_samples} sample{plural}, stopped: {result.stop.value};"
        f" {tokens} tokens, {spend.seconds:.1f} s; {result.model}"
    )
    return "\n".join(lines)
