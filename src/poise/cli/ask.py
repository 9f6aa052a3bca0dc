"""Ask one question: an answer, and how sure. On the embedded model unless a server is named."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated

import typer

from poise.answers.infer import infer_kind
from poise.cli import options
from poise.cli.arms import ArmFlags, Chosen, choose, limits
from poise.errors import BackendError, InputError
from poise.solve import Setting, solve
from poise.types import Arm, Kind, Question, Result, StopReason

OPEN_CHAT_TOKENS = 256


def ask(
    text: Annotated[str, typer.Argument(help="The question; - reads it from stdin.")],
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    api_key_env: options.KeyEnv = None,
    policy: options.Policy = None,
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
    if text == "-":
        text = sys.stdin.read()
    if not text.strip():
        raise InputError("the question is empty")
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
    )
    setting = Setting(seed, limits(max_samples, max_tokens, max_seconds, max_usd))
    chosen = choose(flags)
    question = _question(text.strip(), chosen, tuple(option or ()))
    arm = chosen.arm
    if question.kind is None and reply_tokens is None:
        longer = max(OPEN_CHAT_TOKENS, int(arm.decoding["max_tokens"]))
        arm = Arm(arm.backend, {**arm.decoding, "max_tokens": longer}, arm.prompt, arm.price)
    result, error = asyncio.run(_ask(question, arm, chosen, setting))
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))  # noqa: T201
    elif result.text is not None or result.samples:
        print(_shown(result))  # noqa: T201
    if error is not None:
        raise error


def _question(text: str, chosen: Chosen, listed: tuple[str, ...]) -> Question:
    if len(listed) == 1:
        raise InputError("a choice needs at least two --option")
    question = Question.ask(text, chosen.kind, options=listed or None)
    kind = chosen.kind or infer_kind(question)
    return Question(question.id, question.messages, kind, question.options)


async def _ask(
    question: Question, arm: Arm, chosen: Chosen, setting: Setting
) -> tuple[Result, BackendError | None]:
    try:
        result = await solve(question, arm, chosen.policy, setting)
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
    sure = (
        f"probability {result.probability:.2f}"
        if result.probability is not None
        else f"not calibrated: {result.reason}"
    )
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
