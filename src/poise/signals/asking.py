"""Signals that need a further question to the model: what they ask, and what was replied.

A signal stays pure: it says what to ask and reads the reply that is kept with the sample or the
question. It does not know who asks, when, at what price, or whether equal questions are asked once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from poise.answers.markers import final_text
from poise.answers.reading import Unreadable
from poise.errors import MissingEvidence, Unusable
from poise.signals.protocol import Signal
from poise.types import FollowUp, Message, Prompt, Question, Reply, Sample

__all__ = ["Ask", "AskingSignal", "around", "replied", "said"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One further question: the conversation to send and how much of a reply is wanted.

    To be decoded greedily (temperature 0). ``top_logprobs``: how many alternatives a token has to
    come with, at most (a server that lists fewer will do); None: log-probabilities are not read.
    Equal messages may be asked once and the reply shared.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    top_logprobs: int | None


@runtime_checkable
class AskingSignal(Signal, Protocol):
    """A signal read from the reply to a follow-up, kept under the signal's name.

    One of the level ``sample`` asks about each sample and reads ``Sample.followups``; one of the
    level ``question`` asks once and reads ``Evidence.followups``.
    """

    @property
    def version(self) -> int:
        """Of the wording, from 1; raised whenever it changes: a reply to another is no evidence."""

    def ask(self, question: Question, sample: Sample | None) -> Ask | None:
        """What to ask; None where there is nothing to ask about (an unreadable answer).

        Pure, and a function of what the messages show alone. ``sample`` is not looked at by a
        signal of the level ``question``.
        """


def around(question: Question, before: str, after: str) -> tuple[Message, ...]:
    """The question's conversation with its last message set between ``before`` and ``after``.

    Earlier turns stay, options are listed as every prompt lists them. Content of several parts
    (text and images) keeps them, between two parts of text.
    """
    *earlier, last = Prompt().messages(question)
    content = last.get("content")
    if isinstance(content, list | tuple):
        head, tail = {"type": "text", "text": before}, {"type": "text", "text": after}
        return (*earlier, {**last, "content": [head, *content, tail]})
    shown = content if isinstance(content, str) else question.text
    return (*earlier, {**last, "content": f"{before}{shown}{after}"})


def replied(
    name: str,
    version: int | None,
    followups: Mapping[str, FollowUp],
    stored: Mapping[str, float | None],
) -> FollowUp | float:
    """The reply kept under ``name``, or else the number in [0, 1] that is stored under it.

    Raises MissingEvidence where there is neither, for a number outside [0, 1], and for a reply that
    says it is to another ``version`` of the wording.
    """
    if name in followups:
        kept = followups[name].extra.get("version", version)
        if kept != version:
            raise MissingEvidence(
                f"the reply kept is to wording {kept} of {name}, and this Poise asks {version}"
            )
        return followups[name]
    number = stored.get(name)
    if number is None:
        raise MissingEvidence(f"it was not asked: there is no reply to the follow-up {name}")
    if not (math.isfinite(number) and 0 <= number <= 1):
        raise MissingEvidence(f"{name} is {number}, not in [0, 1]")
    return float(number)


def said(text: str | None) -> str:
    """A reply's words after any thinking, stripped. Raises MissingEvidence where there are none."""
    try:
        return final_text(Reply(text))
    except Unreadable as unreadable:
        raise Unusable(str(unreadable)) from None
