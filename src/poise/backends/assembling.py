"""A streamed reply put together from its chunks, as the server would have said it whole.

Pure: parsed chunks in, a batch out. Nothing a server adds of its own is lost: texts (the answer, a
refusal, reasoning) are joined, tool calls are put together by their index, objects field by field,
and of any other value the last one stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from poise.backends import wire
from poise.backends.fields import integer, object_in, objects_in, text_in
from poise.errors import MalformedReply
from poise.types import Batch, Reply, Usage

__all__ = ["StreamReader"]

PLACED = {"index", "delta", "finish_reason", "logprobs"}
"""Fields of a streamed choice that are read by name; all others are kept as they come."""


class StreamReader:
    """Assembles the chunks of a streamed reply; ``feed`` each, then ``finish``.

    ``top``: alternatives to keep a token (None or 0: none). ``usage_per_choice``: a single usage
    covers one choice of several, so that it says nothing about them together. Raises
    MalformedReply, or ServerFault for an error told in a chunk.
    """

    def __init__(self, top: int | None, *, usage_per_choice: bool = False):
        self._top, self._per_choice = top, usage_per_choice
        self._parts: dict[int, _Part] = {}
        self._running: Usage | None = None
        self._closing: list[Usage] = []

    def feed(self, chunk: Any) -> int:
        """Take one chunk; returns how many completion tokens it brought."""
        arrived = 0
        choices = wire.choices_in(chunk)
        for choice in choices:
            index = integer(choice.get("index")) or 0
            part = self._parts.get(index)
            if part is None:
                part = self._parts[index] = _Part(index)
            arrived += part.feed(choice)
        usage = wire.usage_in(chunk.get("usage"))
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
        return wire.together(replies, self._usage())

    def _usage(self) -> Usage | None:
        if len(self._closing) == len(self._parts) > 1:
            return _summed(self._closing)
        usage = self._closing[-1] if self._closing else self._running
        if usage is not None and self._per_choice and len(self._parts) > 1:
            return replace(usage, completion_tokens=None, estimated=True)
        return usage


class _Part:
    """One choice of a stream, growing."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.finish: str | None = None
        self.role = "assistant"
        self.texts: dict[str, list[str]] = {}
        self.others: dict[str, Any] = {}  # the message's fields that are no text
        self.around: dict[str, Any] = {}  # the choice's fields beside the message
        self.calls: dict[int, dict[str, Any]] = {}
        self.logprobs: dict[str, Any] | None = None

    def feed(self, choice: Mapping[str, Any]) -> int:
        """Take one choice of a chunk; returns how many tokens it brought."""
        delta = object_in(choice, "delta")
        calls = 0
        for name, value in delta.items():
            if name == "role":
                self.role = value if isinstance(value, str) and value else self.role
            elif name == "tool_calls":
                pieces = objects_in(delta, name)
                calls = len(pieces)
                for piece in pieces:
                    self._call(piece)
            elif isinstance(value, str):
                self.texts.setdefault(name, []).append(value)
            elif value is not None or name not in self.others:
                self.others[name] = _joined(self.others.get(name), value)
        for name in choice.keys() - PLACED:
            value = choice[name]
            if value is not None or name not in self.around:
                self.around[name] = value
        finish = text_in(choice, "finish_reason")
        if finish:
            self.finish = finish
        entries = self._logprobs(choice) if choice.get("logprobs") else 0
        if entries:
            return entries
        said = delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning")
        return int(bool(said or calls))

    def _logprobs(self, choice: Mapping[str, Any]) -> int:
        piece = object_in(choice, "logprobs")
        entries = objects_in(piece, "content")
        if self.logprobs is None:
            self.logprobs = {}
        for name, value in piece.items():
            old = self.logprobs.get(name)
            if isinstance(old, list) and isinstance(value, list):
                old.extend(value)
            elif value is not None or old is None:
                self.logprobs[name] = list(value) if isinstance(value, list) else value
        return len(entries)

    def _call(self, piece: Mapping[str, Any]) -> None:
        call = self.calls.setdefault(
            integer(piece.get("index")) or 0,
            {"id": None, "type": "function", "function": {"name": "", "arguments": ""}},
        )
        for name, value in piece.items():
            if name == "function":
                whole, new = call["function"], object_in(piece, name)
                for field in ("name", "arguments"):
                    whole[field] += text_in(new, field) or ""
                whole |= {k: v for k, v in new.items() if k not in {"name", "arguments"}}
            elif name in {"id", "type"}:
                call[name] = text_in(piece, name) or call[name]
            elif name != "index":
                call[name] = value

    def reply(self, top: int | None) -> Reply:
        """The choice as a whole reply has it."""
        message: dict[str, Any] = {"role": self.role, "content": None, **self.others}
        message |= {name: "".join(pieces) for name, pieces in self.texts.items()}
        # As in a whole reply: calling tools or declining, a model need not say anything.
        if message["content"] is None and not self.calls and "refusal" not in self.texts:
            message["content"] = ""
        if self.calls:
            message["tool_calls"] = [self.calls[index] for index in sorted(self.calls)]
        raw = {"index": self.index, "message": message, "finish_reason": self.finish, **self.around}
        if self.logprobs is not None:
            raw["logprobs"] = self.logprobs
        return wire.read_reply(raw, message, top)


def _joined(old: Any, new: Any) -> Any:
    """Two pieces of one field: objects field by field, texts inside them joined, else the last."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {name: _joined(old.get(name), value) for name, value in new.items()}
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    return old if new is None else new


def _summed(each: list[Usage]) -> Usage:
    """The usage of a request whose choices were counted one by one; the prompt was read once."""
    counts = [usage.completion_tokens for usage in each]
    return replace(
        each[0],
        completion_tokens=sum(c for c in counts if c is not None) if None not in counts else None,
        reasoning_tokens=sum(usage.reasoning_tokens or 0 for usage in each),
        estimated=any(usage.estimated for usage in each),
    )
