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
    replies = [_reply(choice, choice.get("message") or {}, top) for choice in ordered]
    usage = _usage(reply.get("usage"))
    if usage_per_choice and len(replies) > 1 and usage is not None:
        usage = _with_completion(usage, None)
    return _batch(replies, usage)


class StreamReader:
    """Assembles the chunks of a streamed reply; ``feed`` each, then ``finish``."""

    def __init__(self, top: int | None):
        self._top = top
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
        if len(self._closing) > 1:  # one per choice; the prompt was evaluated once
            counts = [usage.completion_tokens for usage in self._closing]
            total = sum(c for c in counts if c is not None) if None not in counts else None
            return _with_completion(self._closing[0], total)
        return self._closing[0] if self._closing else self._running


class _Part:
    """One choice of a stream, growing."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.entries: list[Any] = []
        self.calls: dict[int, dict[str, Any]] = {}
        self.finish: str | None = None

    def feed(self, choice: Mapping[str, Any]) -> int:
        delta = choice.get("delta") or {}
        if not isinstance(delta, Mapping):
            raise MalformedReply("a stream chunk's delta is not an object")
        content = delta.get("content")
        if isinstance(content, str):
            self.text.append(content)
        for call in delta.get("tool_calls") or ():
            self._call(call)
        entries = (choice.get("logprobs") or {}).get("content") or []
        self.entries.extend(entries)
        self.finish = choice.get("finish_reason") or self.finish
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        return len(entries) or int(bool(content) or bool(reasoning) or "tool_calls" in delta)

    def _call(self, piece: Mapping[str, Any]) -> None:
        call = self.calls.setdefault(
            _int(piece.get("index")) or 0,
            {"id": None, "type": "function", "function": {"name": "", "arguments": ""}},
        )
        call["id"] = piece.get("id") or call["id"]
        function = piece.get("function") or {}
        for field in ("name", "arguments"):
            call["function"][field] += function.get(field) or ""

    def reply(self, top: int | None) -> Reply:
        message = {
            "content": "".join(self.text),
            "tool_calls": [self.calls[index] for index in sorted(self.calls)],
        }
        logprobs = {"content": self.entries} if self.entries else None
        return _reply({"finish_reason": self.finish, "logprobs": logprobs}, message, top)


def read_logprobs(entries: Iterable[Any], top: int | None) -> TokenLogprobs:
    """OpenAI's ``logprobs.content`` list, keeping ``top`` alternatives a token (0 or None: none).

    Servers write a probability of zero as -inf or a huge negative number; -inf becomes -1e4, so
    that sums stay finite. Raises MalformedReply where a number is missing, NaN or above 0.
    """
    tokens, chosen, tops = [], [], []
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise MalformedReply("a token's log-probability is not an object")
        tokens.append(str(entry.get("token", "")))
        chosen.append(_logprob(entry.get("logprob")))
        listed = (entry.get("top_logprobs") or [])[: top or 0]
        tops.append(tuple((str(t.get("token", "")), _logprob(t.get("logprob"))) for t in listed))
    return TokenLogprobs(tuple(tokens), tuple(chosen), tuple(tops) if top else None)


def _logprob(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise MalformedReply(f"a log-probability is {value!r}, not a number")
    if value > 1e-6:
        raise MalformedReply(f"a log-probability is {value}, above 0")
    return max(min(float(value), 0.0), -1e4)


def _reply(choice: Mapping[str, Any], message: Mapping[str, Any], top: int | None) -> Reply:
    entries = (choice.get("logprobs") or {}).get("content")
    logprobs = read_logprobs(entries, top) if entries else None
    content = message.get("content")
    calls = message.get("tool_calls")
    return Reply(
        text=content if isinstance(content, str) else None,
        finish=choice.get("finish_reason"),
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
        usage = _with_completion(usage, total)
    if len(replies) == 1 and usage.completion_tokens is not None and not usage.estimated:
        (only,) = replies
        text, finish, calls = only.text, only.finish, only.tool_calls
        replies = [Reply(text, finish, usage.completion_tokens, only.logprobs, calls)]
    return Batch(tuple(replies), usage)


def _usage(data: Any) -> Usage | None:
    if not isinstance(data, Mapping):
        return None
    prompt, completion = _int(data.get("prompt_tokens")), _int(data.get("completion_tokens"))
    inside = data.get("prompt_tokens_details") or {}
    outside = data.get("completion_tokens_details") or {}
    return Usage(
        prompt,
        completion,
        _int(inside.get("cached_tokens")) or 0,
        _int(outside.get("reasoning_tokens")) or 0,
        estimated=prompt is None or completion is None,
    )


def _with_completion(usage: Usage, completion: int | None) -> Usage:
    return Usage(
        usage.prompt_tokens,
        completion,
        usage.cached_tokens,
        usage.reasoning_tokens,
        estimated=usage.estimated or completion is None,
    )


def _choices(reply: Any) -> list[Mapping[str, Any]]:
    if not isinstance(reply, Mapping):
        raise MalformedReply("the server's reply is not a JSON object")
    if "error" in reply and not reply.get("choices"):
        error = reply["error"]
        text = error.get("message") if isinstance(error, Mapping) else error
        raise ServerFault(f"the server reported an error in its reply: {text}")
    choices = reply.get("choices", [])
    if not isinstance(choices, list) or not all(isinstance(c, Mapping) for c in choices):
        raise MalformedReply("the reply's choices are not a list of objects")
    return choices


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
