"""OpenAI's chat-completion shapes: a request's JSON body, and replies read whole or as a stream.

Pure: JSON values in, Poise's nouns out. It knows no sockets and no status codes. Whatever does not
have the promised shape raises MalformedReply.

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

from poise.errors import MalformedReply, ServerFault
from poise.types import Batch, Reply, Request, TokenLogprobs, Usage

__all__ = ["StreamReader", "body", "read_batch", "read_logprobs"]


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
    choices = _choices(reply)
    if not choices:
        raise MalformedReply("the server's reply holds no choices")
    ordered = sorted(choices, key=lambda choice: _int(choice.get("index")) or 0)
    replies = [_reply(choice, _object(choice, "message"), top) for choice in ordered]
    usage = _usage(reply.get("usage"))
    if usage_per_choice and len(replies) > 1 and usage is not None:
        usage = replace(usage, completion_tokens=None, estimated=True)
    return _batch(replies, usage)


class StreamReader:
    """Assembles the chunks of a streamed reply; ``feed`` each, then ``finish``.

    ``usage_per_choice``: a single usage covers one choice of several, so that it says nothing
    about them together. Raises MalformedReply, or ServerFault for an error told in a chunk.
    """

    def __init__(self, top: int | None, *, usage_per_choice: bool = False):
        self._top, self._per_choice = top, usage_per_choice
        self._parts: dict[int, _Part] = {}
        self._running: Usage | None = None
        self._closing: list[Usage] = []

    def feed(self, chunk: Any) -> int:
        """Take one chunk; returns how many completion tokens it brought."""
        arrived = 0
        choices = _choices(chunk)
        for choice in choices:
            part = self._parts.setdefault(_int(choice.get("index")) or 0, _Part())
            arrived += part.feed(choice)
        usage = _usage(chunk.get("usage"))
        if usage is not None and choices:
            self._running = usage
        elif usage is not None:
            self._closing.append(usage)
        return arrived

    @property
    def complete(self) -> bool:
        """Whether every choice seen so far has said why it ended."""
        return bool(self._parts) and all(part.finish for part in self._parts.values())

    def finish(self) -> Batch:
        """All choices in index order, with their usage."""
        if not self._parts:
            raise MalformedReply("the stream ended without a single choice")
        replies = [self._parts[index].reply(self._top) for index in sorted(self._parts)]
        return _batch(replies, self._usage())

    def _usage(self) -> Usage | None:
        if len(self._closing) == len(self._parts) > 1:
            return _summed(self._closing)
        usage = self._closing[-1] if self._closing else self._running
        if usage is not None and self._per_choice and len(self._parts) > 1:
            return replace(usage, completion_tokens=None, estimated=True)
        return usage


class _Part:
    """One choice of a stream, growing."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.entries: list[Any] = []
        self.calls: dict[int, dict[str, Any]] = {}
        self.finish: str | None = None

    def feed(self, choice: Mapping[str, Any]) -> int:
        delta = _object(choice, "delta")
        content = delta.get("content")
        if isinstance(content, str):
            self.text.append(content)
        calls = _objects(delta, "tool_calls")
        for call in calls:
            self._call(call)
        entries = _objects(_object(choice, "logprobs"), "content")
        self.entries.extend(entries)
        self.finish = _text(choice, "finish_reason") or self.finish
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        return len(entries) or int(bool(content or reasoning or calls))

    def _call(self, piece: Mapping[str, Any]) -> None:
        call = self.calls.setdefault(
            _int(piece.get("index")) or 0,
            {"id": None, "type": "function", "function": {"name": "", "arguments": ""}},
        )
        call["id"] = _text(piece, "id") or call["id"]
        function = _object(piece, "function")
        for field in ("name", "arguments"):
            call["function"][field] += _text(function, field) or ""

    def reply(self, top: int | None) -> Reply:
        # As in a whole reply: calling tools, a model need not say anything.
        said = self.text or not self.calls
        message = {
            "content": "".join(self.text) if said else None,
            "tool_calls": [self.calls[index] for index in sorted(self.calls)],
        }
        logprobs = {"content": self.entries} if self.entries else None
        return _reply({"finish_reason": self.finish, "logprobs": logprobs}, message, top)


def read_logprobs(entries: Iterable[Mapping[str, Any]], top: int | None) -> TokenLogprobs:
    """OpenAI's ``logprobs.content`` list, keeping ``top`` alternatives a token (0 or None: none).

    Servers write a probability of zero as -inf or a huge negative number; -inf becomes -1e4, so
    that sums stay finite. Raises MalformedReply where a number is missing, NaN or above 0.
    """
    tokens, chosen, tops = [], [], []
    for entry in entries:
        tokens.append(str(entry.get("token", "")))
        chosen.append(_logprob(entry.get("logprob")))
        listed = _objects(entry, "top_logprobs")[: top or 0]
        tops.append(tuple((str(t.get("token", "")), _logprob(t.get("logprob"))) for t in listed))
    return TokenLogprobs(tuple(tokens), tuple(chosen), tuple(tops) if top else None)


def _logprob(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or (isinstance(value, float) and math.isnan(value)):
        raise MalformedReply(f"a log-probability is {str(value)[:40]!r}, not a number")
    if value > 1e-6:
        raise MalformedReply(f"a log-probability is {str(value)[:40]}, above 0")
    return float(max(min(value, 0.0), -1e4))


def _reply(choice: Mapping[str, Any], message: Mapping[str, Any], top: int | None) -> Reply:
    entries = _objects(_object(choice, "logprobs"), "content")
    logprobs = read_logprobs(entries, top) if entries else None
    content = message.get("content")
    calls = _objects(message, "tool_calls")
    return Reply(
        text=content if isinstance(content, str) else None,
        finish=_text(choice, "finish_reason"),
        tokens=len(logprobs.chosen) if logprobs else None,
        logprobs=logprobs,
        tool_calls=tuple(calls) if calls else None,
    )


def _batch(replies: list[Reply], usage: Usage | None) -> Batch:
    counted = [reply.tokens for reply in replies]
    total = sum(c for c in counted if c is not None) if None not in counted else None
    if usage is None:
        usage = Usage(None, total, None, None, estimated=True)
    elif usage.completion_tokens is None:
        usage = replace(usage, completion_tokens=total, estimated=True)
    if len(replies) == 1 and usage.completion_tokens is not None and not usage.estimated:
        replies = [replace(replies[0], tokens=usage.completion_tokens)]
    return Batch(tuple(replies), usage)


def _usage(data: Any) -> Usage | None:
    if not isinstance(data, Mapping):
        return None

    def count(name: str, details: str | None = None) -> int | None:
        inside = data if details is None else data.get(details)
        number = _int(inside.get(name)) if isinstance(inside, Mapping) else None
        return None if number is None or number < 0 else number

    prompt, completion = count("prompt_tokens"), count("completion_tokens")
    return Usage(
        prompt,
        completion,
        count("cached_tokens", "prompt_tokens_details") or 0,
        count("reasoning_tokens", "completion_tokens_details") or 0,
        estimated=prompt is None or completion is None,
    )


def _summed(each: list[Usage]) -> Usage:
    """The usage of a request whose choices were counted one by one; the prompt was read once."""
    counts = [usage.completion_tokens for usage in each]
    return replace(
        each[0],
        completion_tokens=sum(c for c in counts if c is not None) if None not in counts else None,
        reasoning_tokens=sum(usage.reasoning_tokens or 0 for usage in each),
        estimated=any(usage.estimated for usage in each),
    )


def _choices(reply: Any) -> list[Mapping[str, Any]]:
    if not isinstance(reply, Mapping):
        raise MalformedReply("the server's reply is not a JSON object")
    error = reply.get("error")
    if error:
        text = error.get("message", error) if isinstance(error, Mapping) else error
        raise ServerFault(
            f"the server reported an error in its reply: {' '.join(str(text).split())}"
        )
    return _objects(reply, "choices")


def _object(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object under ``name``; an empty one where there is none."""
    value = holder.get(name) or {}
    if not isinstance(value, Mapping):
        raise MalformedReply(f"the reply's {name} is not an object")
    return value


def _objects(holder: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The list of objects under ``name``; an empty one where there is none."""
    value = holder.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise MalformedReply(f"the reply's {name} is not a list of objects")
    return value


def _text(holder: Mapping[str, Any], name: str) -> str | None:
    value = holder.get(name)
    if not isinstance(value, str | None):
        raise MalformedReply(f"the reply's {name} is not text")
    return value


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
