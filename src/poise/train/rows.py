"""Samples -> token rows: the confidence question behind an answer, and the answer to reproduce.

A *confidence row* ends where the model would state its confidence: the very messages that the
signal sends in use, in the tokenizer's own chat template. A *response row* is the arm's prompt and
the sample's text; only the text's tokens (and the end of turn, where the model gave one) carry a
generation loss. Nothing is cut out of a confidence question: of a text that is too long the start
is, for the answer stands at its end. It does not know targets or losses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from poise.errors import InputError, UsageError
from poise.signals.p_true import PTrue
from poise.types import Message, Prompt, Question, Sample

__all__ = [
    "DIGITS",
    "WORDINGS",
    "Padded",
    "ResponseRow",
    "TooLong",
    "confidence_row",
    "digit_tokens",
    "end_of_turn",
    "messages_of",
    "padded",
    "render",
    "response_row",
]

WORDINGS = ("own", "user", "proposed", "digit")
"""Three wordings of P(True), and one that asks for a digit (for the tokenised Brier loss).

A confidence that the reply states itself is no further question: its rows are in ``stating``.
"""

DIGITS = "0123456789"
_DIGIT = (
    "How sure are you that your answer is correct? Reply with one digit, from 0 (certainly wrong)"
    " to 9 (certainly right)."
)


class TooLong(Exception):
    """A row does not fit even without the text that may be cut. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """Token ids of prompt and response; the last ``response`` of them, >= 1, carry the loss.

    ``skipped``: the place among them, from 1 for the last, that carries none; None: all do.
    """

    ids: tuple[int, ...]
    response: int
    skipped: int | None = None


@dataclass(frozen=True, slots=True)
class Padded:
    """Rows of one length (m, L), filled on the left; ``mask`` is 0 where a row was filled."""

    ids: list[list[int]]
    mask: list[list[int]]


def messages_of(question: Question, sample: Sample, wording: str = "own") -> tuple[Message, ...]:
    """The conversation whose next token states the confidence, as it is sent in use.

    Raises UsageError for an unknown wording, InputError where there is nothing to ask about.
    """
    if wording not in WORDINGS:
        raise UsageError(f"wording {wording!r}: must be one of {', '.join(WORDINGS)}")
    asked = PTrue("own" if wording == "digit" else wording).ask(question, sample)  # type: ignore[arg-type]
    if asked is None:
        raise InputError(
            f"question {question.id}, sample {sample.index}: no text or no answer to ask about"
        )
    if wording != "digit":
        return asked.messages
    return (*asked.messages[:-1], {"role": "user", "content": _DIGIT})


def render(tokenizer: Any, messages: Sequence[Message], *, opened: bool = True) -> str:
    """The conversation in the tokenizer's chat template, with the reply ``opened`` or not.

    Raises UsageError where the tokenizer has no template, or its template refuses the messages.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError("the tokenizer has no chat template; train a model that was made for chat")
    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=opened
        )
    except Exception as error:  # noqa: BLE001 - templates are programs and raise what they like
        raise UsageError(f"the tokenizer's chat template refuses a conversation: {error}") from None
    return str(text)


def _ids(tokenizer: Any, text: str) -> list[int]:
    # The template has written the special tokens already.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def confidence_row(
    tokenizer: Any, question: Question, sample: Sample, wording: str = "own", *, longest: int = 1024
) -> tuple[int, ...]:
    """Token ids, at most ``longest``, whose next token states the confidence.

    Where they are too many, the start of the sample's text is left out, token by token; question
    and confidence question stay whole. Raises TooLong where those alone do not fit.
    """
    messages = messages_of(question, sample, wording)
    ids = _ids(tokenizer, render(tokenizer, messages))
    if len(ids) <= longest:
        return tuple(ids)
    text = _ids(tokenizer, sample.text or "")
    kept = len(text)
    shows_text = len(messages) >= 2 and messages[-2].get("role") == "assistant"
    while len(ids) > longest and shows_text and kept > 1:
        kept = max(1, kept - max(1, len(ids) - longest))
        said = {**messages[-2], "content": tokenizer.decode(text[-kept:])}
        ids = _ids(tokenizer, render(tokenizer, (*messages[:-2], said, messages[-1])))
    if len(ids) > longest:
        raise TooLong(f"question {question.id} leaves no room for the text in {longest} tokens")
    return tuple(ids)


def response_row(
    tokenizer: Any,
    question: Question,
    sample: Sample,
    prompt: Prompt,
    *,
    longest: int = 1024,
) -> ResponseRow:
    """The arm's prompt and what the sample said, as generated from it.

    Prompt and text are tokenised apart, as they are when the text is drawn. The end of turn is
    part of the response unless the reply was cut (``finish`` is neither "stop" nor unknown). Where
    it is too long, the end of the response is left out. Raises TooLong where the prompt fills it;
    InputError for a sample without text.
    """
    if not sample.text:
        raise InputError(f"question {question.id}, sample {sample.index}: no text to learn")
    messages = prompt.messages(question)
    before = _ids(tokenizer, render(tokenizer, messages))
    said = _ids(tokenizer, sample.text)
    if sample.finish in (None, "stop"):
        said += end_of_turn(tokenizer, messages)
    if len(before) >= longest:
        raise TooLong(f"question {question.id}: its prompt fills {longest} tokens")
    said = said[: longest - len(before)]
    return ResponseRow((*before, *said), len(said))


def end_of_turn(
    tokenizer: Any, messages: Sequence[Message] = ({"role": "user", "content": "x"},)
) -> list[int]:
    """What the template writes behind a reply to ``messages``, up to its first special token.

    Empty where it writes none.
    """
    reply = "§7391§"
    whole = render(tokenizer, (*messages, {"role": "assistant", "content": reply}), opened=False)
    tail = _ids(tokenizer, whole[whole.rindex(reply) + len(reply) :])
    special = set(tokenizer.all_special_ids)
    ends = [place for place, token in enumerate(tail) if token in special]
    return tail[: ends[0] + 1] if ends else []


def padded(rows: Iterable[Sequence[int]], fill: int) -> Padded:
    """The rows, filled on the left with ``fill`` to the longest of them."""
    kept = list(rows)
    length = max(map(len, kept))
    return Padded(
        [[fill] * (length - len(row)) + list(row) for row in kept],
        [[0] * (length - len(row)) + [1] * len(row) for row in kept],
    )


def digit_tokens(tokenizer: Any) -> tuple[tuple[int, ...], ...]:
    """Token ids of each digit 0 to 9, with or without blanks around it.

    Raises UsageError where a digit has no token of its own.
    """
    found: dict[str, list[int]] = {digit: [] for digit in DIGITS}
    for place, text in enumerate(tokenizer.batch_decode([[n] for n in range(len(tokenizer))])):
        if text.strip() in found:
            found[text.strip()].append(place)
    missing = [digit for digit, places in found.items() if not places]
    if missing:
        raise UsageError(f"the tokenizer has no single token for the digits {', '.join(missing)}")
    return tuple(tuple(places) for places in found.values())
