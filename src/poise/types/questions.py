"""What is asked: a question, its answer kind, and the prompt an arm puts around it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Kind", "Message", "Prompt", "Question"]

Message = Mapping[str, Any]
"""One chat message in OpenAI's shape: ``{"role": …, "content": …}``."""


class Kind(StrEnum):
    """What sort of answer a question wants; it decides how text is read and answers compared."""

    NUMBER = "number"
    MATH = "math"
    CHOICE = "choice"
    YESNO = "yesno"
    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Question:
    """One question, without its gold answer.

    ``kind`` None: open chat, which is never sampled adaptively. ``options``: the texts of a
    choice, first option = A. ``segment``: a group of questions that reports keep apart.
    """

    id: str
    messages: tuple[Message, ...]
    kind: Kind | None = None
    options: tuple[str, ...] | None = None
    segment: str | None = None

    @classmethod
    def ask(
        cls,
        text: str,
        kind: Kind | str | None = None,
        *,
        id: str = "1",
        options: tuple[str, ...] | None = None,
        segment: str | None = None,
    ) -> Question:
        """A question of a single user turn."""
        messages = ({"role": "user", "content": text},)
        return cls(id, messages, None if kind is None else Kind(kind), options, segment)

    @property
    def text(self) -> str:
        """The last message's text: what is being asked."""
        content = self.messages[-1].get("content")
        return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an arm puts around a question: a system message and worked examples by answer kind."""

    system: str | None = None
    examples: Mapping[Kind, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    def messages(self, question: Question) -> tuple[Message, ...]:
        """The whole conversation to send for ``question``."""
        head: list[Message] = []
        if self.system is not None:
            head.append({"role": "system", "content": self.system})
        for asked, answered in self._shown(question.kind):
            head.append({"role": "user", "content": asked})
            head.append({"role": "assistant", "content": answered})
        *earlier, last = question.messages
        if question.options is not None:
            listed = "\n".join(
                f"{chr(65 + i)}) {option}" for i, option in enumerate(question.options)
            )
            last = {**last, "content": _with_line(last["content"], listed)}
        return (*head, *earlier, last)

    def hash(self, kind: Kind | None) -> str:
        """Twelve hexadecimal digits that name this prompt as questions of ``kind`` see it."""
        seen = json.dumps([self.system, self._shown(kind)], ensure_ascii=False)
        return hashlib.sha256(seen.encode()).hexdigest()[:12]

    def _shown(self, kind: Kind | None) -> tuple[tuple[str, str], ...]:
        return self.examples.get(kind, ()) if kind is not None else ()


def _with_line(content: Any, line: str) -> Any:
    """A message's content, text or a list of parts, with one more text at its end."""
    if isinstance(content, str):
        return f"{content}\n{line}"
    return [*content, {"type": "text", "text": line}]
