"""A confidence that the reply states itself: the prompt that asks for it, the rows that teach it.

A reply ends in the line ``Confidence: d``, one digit that is one token and means (d + 0.5) / 10
(the reader "digit" of ``rewards``). Prompt, text and line are tokenised apart, as they follow each
other when they are drawn. It does not know losses, targets' origin or metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from poise.errors import InputError, UsageError
from poise.rewards import READERS
from poise.train.replies import MAX_TOKENS
from poise.train.rows import DIGITS, ResponseRow, TooLong, end_of_turn, render
from poise.types import Kind, Prompt, Question, Sample

__all__ = [
    "READ",
    "STATED",
    "VALUES",
    "Line",
    "line_of",
    "longer",
    "said",
    "stated_response",
    "stated_row",
    "stating",
]

STATED = "stated"
"""The wording of a confidence for which nothing further is asked."""

READ = READERS["digit"]
"""Takes such a reply apart."""

VALUES = tuple((digit + 0.5) / 10 for digit in range(10))
"""What each digit means."""

_ASK = "End with a line 'Confidence: d', d from 0 (surely wrong) to 9 (surely right)."

_SURE = 9
_GUESSED: Mapping[Kind, tuple[str, str, int]] = {
    Kind.NUMBER: ("What is 468 * 379?", "468 * 379 = 172364", 1),
    Kind.YESNO: ("Did it rain in Paris on 7 May 1203?", "Yes", 5),
    Kind.TEXT: ("What did Caesar eat on his tenth birthday?", "bread", 1),
}
"""A question that nobody answers offhand, a guess, and the digit that it deserves."""


def stating(prompt: Prompt) -> Prompt:
    """The prompt with one more line in its system message, that asks for the statement.

    Worked examples end in the line. They are easy and right, which alone would teach "always 9":
    behind them comes a guess of the same kind, that says so. An arm without examples of a kind
    gets none, and those of kinds for which there is no guess here stay as they are. On the embedded
    model, untrained, 64 replies: in the form 0 with the system's line alone, 15 with easy examples
    (9 of them a nine), 48 with the guess as well, over all digits but two. Asking twice changes
    nothing.
    """
    if prompt.system is not None and prompt.system.endswith(_ASK):
        return prompt
    return Prompt(
        system=_ASK if prompt.system is None else f"{prompt.system}\n{_ASK}",
        examples={kind: _stated(kind, shown) for kind, shown in prompt.examples.items()},
    )


def _stated(kind: Kind, shown: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    if not shown or kind not in _GUESSED:
        return shown
    asked, guess, digit = _GUESSED[kind]
    sure = ((question, f"{answer}{_line(_SURE)}") for question, answer in shown)
    return (*sure, (asked, f"{guess}{_line(digit)}"))


def _line(digit: int | str) -> str:
    return f"\nConfidence: {digit}"


@dataclass(frozen=True, slots=True)
class Line:
    """The line as tokens: ``start`` is all before the digit, ``digits`` (10,) one token each."""

    start: tuple[int, ...]
    digits: tuple[int, ...]

    def states(self, confidence: float) -> tuple[int, ...]:
        """The line whose digit is nearest to ``confidence``, in [0, 1]."""
        return (*self.start, self.digits[min(int(confidence * 10), 9)])


def line_of(tokenizer: Any) -> Line:
    """The line in this vocabulary. Raises UsageError where a digit is not its last token alone."""
    rows = [
        tuple(tokenizer(_line(digit), add_special_tokens=False)["input_ids"]) for digit in DIGITS
    ]
    start, last = rows[0][:-1], tuple(row[-1] for row in rows)
    if not start or len(set(last)) < len(rows) or any(row[:-1] != start for row in rows):
        raise UsageError(
            "the tokenizer has no token of its own for each digit behind 'Confidence: ', so that no"
            " stated confidence can be trained; take a model with another tokenizer"
        )
    return Line(start, last)


def longer(decoding: Mapping[str, Any], line: Line) -> dict[str, Any]:
    """The decoding with room for the line and the end of turn."""
    tokens = int(decoding.get("max_tokens", MAX_TOKENS))
    return {**decoding, "max_tokens": tokens + len(line.start) + 2}


def said(text: str) -> str:
    """What a reply says before its statement, without blanks at its end."""
    return READ(text).answer.rstrip()


def stated_row(
    tokenizer: Any, question: Question, sample: Sample, prompt: Prompt, *, longest: int = 1024
) -> tuple[int, ...]:
    """Token ids, at most ``longest``, whose next token is the digit.

    ``prompt`` asks for the statement. Nothing is cut: raises TooLong where it does not fit,
    InputError for a sample without text.
    """
    before, text = _parts(tokenizer, question, sample, prompt)
    return _fitting((*before, *text, *line_of(tokenizer).start), question, longest)


def stated_response(
    tokenizer: Any,
    question: Question,
    sample: Sample,
    prompt: Prompt,
    target: float,
    *,
    whole: bool,
    longest: int = 1024,
) -> ResponseRow | None:
    """The reply as it should be: text, line with the digit nearest to ``target``, end of turn.

    Line and end carry the generation loss, the text too if ``whole``; the digit does not, for the
    confidence loss alone says what it should be. None for a reply that was cut, which would teach
    to break off. Raises as ``stated_row``.
    """
    if sample.finish not in {None, "stop"}:
        return None
    before, text = _parts(tokenizer, question, sample, prompt)
    line, end = line_of(tokenizer).states(target), end_of_turn(tokenizer, prompt.messages(question))
    ids = _fitting((*before, *text, *line, *end), question, longest)
    learnt = len(line) + len(end) + (len(text) if whole else 0)
    return ResponseRow(ids, learnt, skipped=len(end) + 1)


def _parts(
    tokenizer: Any, question: Question, sample: Sample, prompt: Prompt
) -> tuple[list[int], list[int]]:
    text = said(sample.text or "")
    if not text:
        raise InputError(f"question {question.id}, sample {sample.index}: no text to state about")
    asked = render(tokenizer, prompt.messages(question))
    before, behind = tokenizer([asked, text], add_special_tokens=False)["input_ids"]
    return before, behind


def _fitting(ids: tuple[int, ...], question: Question, longest: int) -> tuple[int, ...]:
    if len(ids) > longest:
        raise TooLong(f"question {question.id}: {len(ids)} tokens, and {longest} are allowed")
    return ids
