"""``Answered`` -> OpenAI's completion object, with what Poise knows about the answer beside it.

A choice is what the server said, unknown fields and all; the log-probabilities are there only as
far as the client asked for them, since signals may have wanted more. ``usage`` sums every call that
was made. It does not know: how the answer was found, HTTP, streams (``chunks``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from poise.serve.refusals import without_addresses
from poise.serve.wire import Asked
from poise.types import Kind, Result, Sample, Spend, TokenLogprobs

__all__ = [
    "Answered",
    "Choice",
    "beside",
    "choices",
    "completion",
    "headers",
    "poise_object",
    "trimmed",
    "usage",
]

LEAST_LOGPROB = -9999.0
"""OpenAI's number for a token of no probability; -Infinity is no JSON."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of the reply.

    ``sample`` None: the answer is withheld, or there is none. ``at_most``: where the sample is not
    of the leading answer, what its probability cannot exceed: 1 - the leader's.
    """

    sample: Sample | None
    probability: float | None
    answer: str | None
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A request, answered. ``id``: "chatcmpl-" and the result's. ``created``: Unix seconds.

    ``model``: the alias as it was asked for. ``recorded``: the decision is durable; else
    ``record_problem`` may say why not. ``mode``: live or shadow. ``plain``: nothing is said of
    Poise but the id. ``abstain_text``: what is said in the place of an answer.
    """

    id: str
    created: int
    model: str
    result: Result
    choices: tuple[Choice, ...]
    recorded: bool
    mode: str = "live"
    plain: bool = False
    abstain_text: str = "I don't know."
    record_problem: str | None = None


def completion(answered: Answered, asked: Asked) -> dict[str, Any]:
    """The ``chat.completion`` object."""
    out: dict[str, Any] = {
        "id": answered.id,
        "object": "chat.completion",
        "created": answered.created,
        "model": answered.model,
        "choices": choices(answered, asked),
    }
    used = usage(answered.result.spend)
    if used is not None:
        out["usage"] = used
    if not answered.plain:
        out["poise"] = poise_object(answered)
    return out


def headers(answered: Answered) -> dict[str, str]:
    """``x-poise-*``; of a plain reply only what finds the decision again."""
    result = answered.result
    out = {
        "x-poise-id": answered.id,
        "x-poise-recorded": "true" if answered.recorded else "false",
    }
    if answered.plain:
        return out
    out["x-poise-decision"] = result.decision
    out["x-poise-samples"] = str(result.n_samples)
    out["x-poise-stop"] = result.stop.value
    if result.calibrated and result.probability is not None:
        out["x-poise-probability"] = f"{result.probability:.6g}"
    return out


def choices(answered: Answered, asked: Asked) -> list[dict[str, Any]]:
    """The choices; where the client asked for several, each with its probability."""
    out = []
    for index, choice in enumerate(answered.choices):
        sample = choice.sample
        one = _withheld(answered) if sample is None else _said(sample, asked.logprobs)
        one["index"] = index
        if asked.n > 1 and not answered.plain:
            one["poise"] = beside(choice)
        out.append(one)
    return out


def beside(choice: Choice) -> dict[str, Any]:
    """What is known of one choice by itself."""
    known: dict[str, Any] = {"probability": choice.probability, "answer": choice.answer}
    return known if choice.at_most is None else {**known, "at_most": choice.at_most}


def usage(spend: Spend) -> dict[str, Any] | None:
    """Tokens of all calls together; None where they are not known."""
    if spend.prompt_tokens is None or spend.completion_tokens is None:
        return None
    out: dict[str, Any] = {
        "prompt_tokens": spend.prompt_tokens,
        "completion_tokens": spend.completion_tokens,
        "total_tokens": spend.prompt_tokens + spend.completion_tokens,
    }
    if spend.cached_tokens is not None:
        out["prompt_tokens_details"] = {"cached_tokens": spend.cached_tokens}
    if spend.reasoning_tokens is not None:
        out["completion_tokens_details"] = {"reasoning_tokens": spend.reasoning_tokens}
    return out


def poise_object(answered: Answered) -> dict[str, Any]:
    """The result but for its text, which the choices hold, and whether it is recorded.

    Reasons may quote an upstream's failure: its addresses are left out.
    """
    out = answered.result.to_dict()
    del out["text"]
    if out["reason"] is not None:
        out["reason"] = without_addresses(out["reason"])
    out["missing"] = {name: without_addresses(why) for name, why in out["missing"].items()}
    out["recorded"], out["mode"] = answered.recorded, answered.mode
    if answered.record_problem is not None:
        out["record_problem"] = without_addresses(answered.record_problem)
    return out


def trimmed(logprobs: Any, top: int | None) -> dict[str, Any] | None:
    """A server's log-probabilities with the ``top`` alternatives that the client asked for.

    None where it asked for none, or there are none: signals may have wanted what it did not.
    """
    if top is None or not isinstance(logprobs, Mapping):
        return None
    return {name: _trimmed(entries, top) for name, entries in logprobs.items()}


# -- inside -------------------------------------------------------------------------------------


def _withheld(answered: Answered) -> dict[str, Any]:
    """A choice without an answer. Text would break who parses JSON: there it is a refusal."""
    message: dict[str, Any] = {"role": "assistant", "content": answered.abstain_text}
    if answered.result.kind is Kind.JSON:
        message = {"role": "assistant", "content": None, "refusal": answered.abstain_text}
    return {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}


def _said(sample: Sample, top: int | None) -> dict[str, Any]:
    """A choice as the server made it; from the sample where its words were not kept."""
    raw = sample.raw or {}
    message, logprobs = raw.get("message"), raw.get("logprobs")
    if not isinstance(message, Mapping):
        message = {"content": sample.text}
    said = trimmed(logprobs, top)
    if said is None and top is not None and sample.logprobs is not None:
        said = {"content": _entries(sample.logprobs, top), "refusal": None}
    out = {
        **raw,
        "index": 0,
        "message": {"content": None, **message, "role": message.get("role") or "assistant"},
        "logprobs": said,
        "finish_reason": sample.finish or "stop",
    }
    out.pop("poise", None)  # an upstream that is a Poise itself speaks of its own choice
    return out


def _trimmed(entries: Any, top: int) -> Any:
    """Tokens' log-probabilities with ``top`` alternatives each; what is no list stays as it is."""
    if not isinstance(entries, list):
        return entries
    return [
        {
            **_written(entry),
            "top_logprobs": [_written(other) for other in (entry.get("top_logprobs") or [])[:top]],
        }
        for entry in entries
    ]


def _written(entry: Mapping[str, Any]) -> dict[str, Any]:
    value = entry.get("logprob")
    if isinstance(value, float) and not math.isfinite(value):
        return {**entry, "logprob": LEAST_LOGPROB}
    return dict(entry)


def _entries(logprobs: TokenLogprobs, top: int) -> list[dict[str, Any]]:
    """OpenAI's list, made of what was kept; the bytes of a token were not."""
    alternatives = logprobs.top or ((),) * len(logprobs.tokens)
    return [
        {
            "token": token,
            "logprob": chosen,
            "bytes": None,
            "top_logprobs": [
                {"token": other, "logprob": value, "bytes": None} for other, value in listed[:top]
            ],
        }
        for token, chosen, listed in zip(
            logprobs.tokens, logprobs.chosen, alternatives, strict=True
        )
    ]
