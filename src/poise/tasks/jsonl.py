"""Any question file with gold answers: the columns of a question file, as JSONL or a JSON array.

Knows those columns only; fields it does not know are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from poise.errors import UsageError
from poise.tasks.gold import letter, number, yes_or_no
from poise.tasks.labelled import Labelled
from poise.tasks.reading import offered, questions
from poise.tasks.records import Record
from poise.types import Kind, Message, Question

__all__ = ["Jsonl"]


@dataclass(frozen=True, slots=True)
class Jsonl:
    """Your own questions: id, question or messages, gold, and optionally kind, options, segment.

    ``kind`` is for lines that state none; without it a line with options is a choice, and another
    stays without a kind. Gold answers of numbers, choices and yes-or-no questions are brought to
    their kind's spelling; a choice's gold may be the letter or the option's text.
    """

    name: ClassVar[str] = "jsonl"
    path: str | Path
    kind: str | None = None

    def load(self) -> Iterator[Labelled]:
        """The questions in file order. Raises InputError, and UsageError for an unknown kind."""
        if self.kind is not None and self.kind not in set(Kind):
            raise UsageError(f"no kind {self.kind!r}; there are {', '.join(Kind)}")
        return questions(self.path, self._read)

    def _read(self, record: Record) -> Labelled:
        has_options = record.fields.get("options") is not None
        options = offered(record, record.texts("options")) if has_options else None
        kind = self._kind(record, has_options=has_options)
        segment = record.text("segment") if record.fields.get("segment") is not None else None
        known_as = record.id("id", "question_id")
        question = Question(known_as, _messages(record), kind, options, segment)
        return Labelled(question, _gold(record, kind, options))

    def _kind(self, record: Record, *, has_options: bool) -> Kind | None:
        stated = record.fields.get("kind")
        if stated is None:
            if self.kind is not None:
                return Kind(self.kind)
            return Kind.CHOICE if has_options else None
        if stated not in list(Kind):
            raise record.error(f"no kind {stated!r}; there are {', '.join(Kind)}")
        return Kind(stated)


def _messages(record: Record) -> tuple[Message, ...]:
    if record.fields.get("messages") is None:
        return ({"role": "user", "content": record.text("question")},)
    messages = record.fields["messages"]
    if not isinstance(messages, list) or not messages:
        raise record.error("'messages' must be a list of at least one message")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise record.error("each of 'messages' must be an object with a 'role'")
        if isinstance(message.get("content"), str):
            record.clean(message["content"], "a message's 'content'")
    return tuple(messages)


def _gold(record: Record, kind: Kind | None, options: tuple[str, ...] | None) -> str:
    """The gold answer as text, in its kind's spelling where there is only one way to write it."""
    gold: Any = record.value("gold")
    canonical: str | None = None
    if kind is Kind.NUMBER:
        canonical = number(gold)
    elif kind is Kind.YESNO:
        canonical = yes_or_no(gold)
        if canonical is None:
            raise record.error(f"the gold answer {gold!r} is neither yes nor no, true nor false")
    elif kind is Kind.CHOICE:
        canonical = _chosen(gold, options)
        if canonical is None:
            raise record.error(f"the gold answer {gold!r} names none of the options")
    if canonical is not None:
        return canonical
    return record.clean(gold if isinstance(gold, str) else json.dumps(gold), "'gold'")


def _chosen(gold: object, options: tuple[str, ...] | None) -> str | None:
    if options is not None and gold in options:
        return chr(ord("A") + options.index(str(gold)))
    return letter(gold, 26 if options is None else len(options))
