"""One completion taken apart: the text that answers, and the confidence stated after it.

=======  ==========================================  =========================================
reader   a reply ends with                           its value
=======  ==========================================  =========================================
line     a line ``Confidence: 0.83``                 a number, see below
tag      ``<confidence>83</confidence>``             a number; ``<answer>…</answer>``, where it
                                                     stands before, holds the answer
digit    a line ``Confidence: 8``                    one digit d, meaning (d + 0.5) / 10
=======  ==========================================  =========================================

A number means what it means to the signal ``stated_inline``: with % a percentage; with a decimal
point a fraction; bare and whole a percentage, but for a bare ``1``, which could be either and is no
confidence. Case and marks of emphasis do not matter. A confidence out of range, stated twice, or
followed by more text is none: training rewards a form, so the form is strict. The statement is
taken out of the text before the answer is read, whether or not it is a valid one: its number must
not be mistaken for the answer.

Searches are linear in the length of the reply. It does not know: gold answers, or rewards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from poise.types import Message

__all__ = [
    "READERS",
    "Completion",
    "Reader",
    "Stated",
    "abstains",
    "digit",
    "line",
    "tag",
    "text_of",
]

Completion = str | Sequence[Message]
"""What a trainer generated: a text, or the messages of a conversation."""

_LINE = re.compile(
    r"^[ \t*_]*+confidence[ \t*_]*+:(?P<value>[^\n]*+)$", re.IGNORECASE | re.MULTILINE
)
_NUMBER = re.compile(r"(?P<size>\d{1,3}(?:\.\d{1,20})?|\.\d{1,20})\s?(?P<percent>%)?")
_MARKS = " \t\r\n*_"
_OPEN, _CLOSE = "<confidence>", "</confidence>"
_UNKNOWN = re.compile(
    r"(?:(?:the )?(?:final )?answer(?: is)?[:,]? )?i (?:do not|don['’]t) know[.!]?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Stated:
    """A reply taken apart.

    ``answer``: the text to read the answer from. ``confidence``: in [0, 1], None where none is
    stated in the reader's form. ``start``: where in the reply the statement begins, valid or not
    (its tokens are the confidence tokens), None where there is none.
    """

    answer: str
    confidence: float | None
    start: int | None


Reader = Callable[[str], Stated]
"""Takes a reply's text apart; never raises for anything a model may write."""


def line(text: str) -> Stated:
    """A reply whose last line states a number: ``Confidence: 0.83``."""
    return _after_line(text, _share)


def digit(text: str) -> Stated:
    """A reply whose last line states one digit d, the middle of a tenth: (d + 0.5) / 10."""
    return _after_line(text, _tenth)


def tag(text: str) -> Stated:
    """A reply that ends in ``<confidence>…</confidence>``; ``<answer>…</answer>`` is its answer."""
    after = text.rfind("</think>") + 1
    start = text.find(_OPEN, after)
    head = text if start < 0 else text[:start]
    answer = _tagged_answer(head)
    if start < 0:
        return Stated(answer, None, None)
    rest = text[start + len(_OPEN) :].rstrip()
    alone = rest.endswith(_CLOSE) and _OPEN not in rest
    return Stated(answer, _share(rest.removesuffix(_CLOSE)) if alone else None, start)


READERS: dict[str, Reader] = {"line": line, "tag": tag, "digit": digit}
"""The forms of a stated confidence by name."""


def text_of(completion: Completion) -> str | None:
    """What the model said: the text, or that of the last message of the assistant.

    None where it said nothing, as where it only called tools.
    """
    if isinstance(completion, str):
        return completion
    said = [message for message in completion if message.get("role") == "assistant"]
    content = said[-1].get("content") if said else None
    if content is None or isinstance(content, str):
        return content
    parts = [part["text"] for part in content if isinstance(part, Mapping) and "text" in part]
    return "\n".join(parts) if parts else None


def abstains(answer: str) -> bool:
    """Whether the text that should answer ends on a line "I don't know"."""
    said = answer.rstrip(_MARKS)
    last = said[said.rfind("\n") + 1 :].replace("*", "").replace("_", "")
    return _UNKNOWN.fullmatch(" ".join(last.split())) is not None


def _after_line(text: str, value: Callable[[str], float | None]) -> Stated:
    # What a reasoning model thinks is neither its answer nor its statement.
    found = _LINE.search(text, text.rfind("</think>") + 1)
    if found is None:
        return Stated(text, None, None)
    last = not text[found.end() :].strip()
    return Stated(text[: found.start()], value(found["value"]) if last else None, found.start())


def _tagged_answer(head: str) -> str:
    opened = head.rfind("<answer>")
    if opened < 0:
        return head
    closed = head.find("</answer>", opened)
    return head[opened + len("<answer>") : closed if closed >= 0 else len(head)]


def _share(value: str) -> float | None:
    found = _NUMBER.fullmatch(value.strip(_MARKS))
    if found is None:
        return None
    size = float(found["size"])
    if found["percent"] is None and "." in found["size"]:
        share = size
    elif found["percent"] is None and size == 1:
        return None
    else:
        share = size / 100
    return share if share <= 1 else None


def _tenth(value: str) -> float | None:
    said = value.strip(_MARKS)
    return (int(said) + 0.5) / 10 if len(said) == 1 and said in "0123456789" else None
