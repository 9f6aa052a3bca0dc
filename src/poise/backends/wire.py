"""OpenAI's chat-completion shapes: a request's JSON body, replies and their parts.

Pure: JSON values in, Poise's nouns out. It knows no sockets and no status codes. Whatever does not
have the promised shape raises MalformedReply. Streams are put together in ``assembling``.

Completion tokens are counted three ways, the surest first: the server's ``usage``; the number of
token log-probabilities; else they stay unknown. Two habits of servers are known here. llama.cpp
sends one ``usage`` per choice when streaming several, and covers only one of them when not
streaming. Others repeat a running ``usage`` on every chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from poise.backends.fields import integer, object_in, objects_in, text_in
from poise.errors import MalformedReply, ServerFault
from poise.types import Batch, Reply, Request, TokenLogprobs, Usage

__all__ = [
    "body",
    "choices_in",
    "read_batch",
    "read_logprobs",
    "read_reply",
    "spoken",
    "together",
    "usage_in",
    "whole_chunk",
]


def body(request: Request, model: str, *, stream: bool, max_tokens_field: str) -> dict[str, Any]:
    """The JSON body of a chat-completion call."""
    decoding = dict(request.decoding)
    out: dict[str, Any] = {"model": model, "messages": [dict(m) for m in request.messages]}
    if "max_tokens" in decoding:
        out[max_tokens_field] = decoding.pop("max_tokens")
    out.update(decoding)
    if request.n > 1:
        out["n"] = request.n
    if request.seed is not None:
        out["seed"] = request.seed
    if request.logprobs is not None:
        out["logprobs"] = True
        if request.logprobs:
            out["top_logprobs"] = request.logprobs
    if stream:
        out["stream"] = True
        out["stream_options"] = {"include_usage": True}
    return out


def read_batch(reply: Any, *, usage_per_choice: bool, top: int | None) -> Batch:
    """A whole (not streamed) reply."""
    choices = choices_in(reply)
    if not choices:
        raise MalformedReply("the server's reply holds no choices")
    ordered = sorted(choices, key=lambda choice: integer(choice.get("index")) or 0)
    replies = [read_reply(choice, object_in(choice, "message"), top) for choice in ordered]
    usage = usage_in(reply.get("usage"))
    if usage_per_choice and len(replies) > 1 and usage is not None:
        usage = replace(usage, completion_tokens=None, estimated=True)
    return together(replies, usage)


def whole_chunk(reply: Mapping[str, Any]) -> dict[str, Any]:
    """The one chunk that says what a whole reply says, without its usage."""
    choices = []
    for choice in objects_in(reply, "choices"):
        message = object_in(choice, "message")
        calls = [
            {"index": place, **call} for place, call in enumerate(objects_in(message, "tool_calls"))
        ]
        delta = {**message, "tool_calls": calls} if calls else message
        choices.append({k: v for k, v in choice.items() if k != "message"} | {"delta": delta})
    around = {name: value for name, value in reply.items() if name != "usage"}
    return around | {"object": "chat.completion.chunk", "choices": choices}


def read_logprobs(entries: Iterable[Mapping[str, Any]], top: int | None) -> TokenLogprobs:
    """OpenAI's ``logprobs.content`` list, keeping ``top`` alternatives a token (0 or None: none).

    Servers write a probability of zero as -inf or a huge negative number; -inf becomes -1e4, so
    that sums stay finite. Raises MalformedReply where a number is missing, NaN or above 0.
    """
    tokens, chosen, tops = [], [], []
    for entry in entries:
        tokens.append(str(entry.get("token", "")))
        chosen.append(_logprob(entry.get("logprob")))
        listed = objects_in(entry, "top_logprobs")[: top or 0]
        tops.append(tuple((str(t.get("token", "")), _logprob(t.get("logprob"))) for t in listed))
    return TokenLogprobs(tuple(tokens), tuple(chosen), tuple(tops) if top else None)


def spoken(reply: Reply, index: int) -> dict[str, Any]:
    """``reply`` as the choice number ``index`` that a server would have sent."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = [dict(call) for call in reply.tool_calls]
    choice = {"index": index, "message": message, "finish_reason": reply.finish}
    found = reply.logprobs
    if found is None:
        return choice
    entries: list[dict[str, Any]] = [
        {"token": token, "logprob": value}
        for token, value in zip(found.tokens, found.chosen, strict=True)
    ]
    for entry, listed in zip(entries, found.top or (), strict=False):
        entry["top_logprobs"] = [{"token": t, "logprob": value} for t, value in listed]
    return choice | {"logprobs": {"content": entries}}


def _logprob(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or (isinstance(value, float) and math.isnan(value)):
        raise MalformedReply(f"a log-probability is {str(value)[:40]!r}, not a number")
    if value > 1e-6:
        raise MalformedReply(f"a log-probability is {str(value)[:40]}, above 0")
    return float(max(min(value, 0.0), -1e4))


def read_reply(choice: Mapping[str, Any], message: Mapping[str, Any], top: int | None) -> Reply:
    """One choice with its message, keeping ``top`` alternatives a token (0 or None: none)."""
    logprobs = None
    if choice.get("logprobs"):
        entries = objects_in(object_in(choice, "logprobs"), "content")
        logprobs = read_logprobs(entries, top) if entries else None
    content = message.get("content")
    calls = objects_in(message, "tool_calls")
    return Reply(
        text=content if isinstance(content, str) else None,
        finish=text_in(choice, "finish_reason"),
        tokens=len(logprobs.chosen) if logprobs else None,
        logprobs=logprobs,
        tool_calls=tuple(calls) if calls else None,
        raw=choice,
    )


def together(replies: list[Reply], usage: Usage | None) -> Batch:
    """Replies and the usage of all of them, counted by their log-probabilities if need be."""
    counted = [reply.tokens for reply in replies]
    total = sum(c for c in counted if c is not None) if None not in counted else None
    if usage is None:
        usage = Usage(None, total, None, None, estimated=True)
    elif usage.completion_tokens is None:
        usage = replace(usage, completion_tokens=total, estimated=True)
    if len(replies) == 1 and usage.completion_tokens is not None and not usage.estimated:
        replies = [replace(replies[0], tokens=usage.completion_tokens)]
    return Batch(tuple(replies), usage)


def usage_in(data: Any) -> Usage | None:
    """OpenAI's ``usage`` object; None where it is none."""
    if not isinstance(data, dict):
        return None

    def count(name: str, details: str | None = None) -> int | None:
        inside = data if details is None else data.get(details)
        number = integer(inside.get(name)) if isinstance(inside, dict) else None
        return None if number is None or number < 0 else number

    prompt, completion = count("prompt_tokens"), count("completion_tokens")
    return Usage(
        prompt,
        completion,
        count("cached_tokens", "prompt_tokens_details") or 0,
        count("reasoning_tokens", "completion_tokens_details") or 0,
        estimated=prompt is None or completion is None,
    )


def choices_in(reply: Any) -> list[Mapping[str, Any]]:
    """The choices of a whole reply or a chunk. Raises ServerFault for an error told in it."""
    if not isinstance(reply, dict):
        raise MalformedReply("the server's reply is not a JSON object")
    error = reply.get("error")
    if error:
        text = error.get("message", error) if isinstance(error, dict) else error
        raise ServerFault(
            f"the server reported an error in its reply: {' '.join(str(text).split())}"
        )
    return objects_in(reply, "choices")
