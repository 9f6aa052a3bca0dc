r"""How probable the model found the tokens of its answer, apart from the words around it.

The answer's place is where its canonical form, or another spelling of the same number, stands in
the reply: in the last ``\boxed{…}``, else right behind "answer is", else at the start (numbers:
never there), else for the last time. A kind that reads more freely (an option by its text, a JSON
value) may leave no such place; that is missing evidence, not a guess.

It does not know gold answers or the question's kind, only what the reply says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Literal

from poise.answers import KINDS
from poise.answers.markers import boxed, clause_end, stated
from poise.errors import MissingEvidence, Unusable, UsageError
from poise.signals.evidence import Evidence, logprobs_of
from poise.types import Kind, Reply, Sample, TokenLogprobs

__all__ = ["AnswerLogprob", "answer_tokens"]

_BOX = re.compile(r"\\(?:boxed|fbox)\s*+\{")
# A minus belongs to the number unless something that can be subtracted from stands before it.
_NUMBER = re.compile(
    r"(?P<minus>(?<![\w)\]}%])[-−–](?:\\?[$€£¥₹])?)?"
    r"(?P<size>\\[dt]?frac\{\d{1,300}\}\{\d{1,300}\}"
    r"|(?<![^\W_])(?:\d{1,300}(?:,\d{2,3}|\{,\}\d{3})*+(?:\.\d{1,300})?|\.\d{1,300})"
    r"(?:\s?/\s?\d{1,300})?+)"
)
_CANONICAL_NUMBER = re.compile(r"-?\d+(?:\.\d+|/\d+)?")
_SPELLINGS = {"yes": "yes|true", "no": "no|false"}

Span = tuple[int, int]
"""First character and the one after the last."""


@dataclass(frozen=True, slots=True)
class AnswerLogprob:
    """Mean, least or sum of the answer's token log-probabilities, natural log: (-inf, 0].

    A token that holds part of the answer counts whole. Raises MissingEvidence for anything but one
    sample with a readable answer, log-probabilities, and a place where the answer stands;
    UsageError for any other ``how``.
    """

    level: ClassVar[Literal["sample"]] = "sample"
    needs: ClassVar[tuple[str, ...]] = ("answers", "text", "logprobs")
    range: ClassVar[tuple[float, float]] = (-math.inf, 0.0)
    how: Literal["mean", "min", "sum"] = "mean"

    def __post_init__(self) -> None:
        if self.how not in ("mean", "min", "sum"):
            raise UsageError(f"how={self.how!r}: must be mean, min or sum")

    @property
    def name(self) -> str:
        """``answer_logprob``, ``answer_logprob_min`` or ``answer_logprob_sum``."""
        return "answer_logprob" if self.how == "mean" else f"answer_logprob_{self.how}"

    def __call__(self, evidence: Evidence) -> float:
        """The mean, the least or the sum over the answer's tokens in the one sample."""
        sample = evidence.only
        first, end = answer_tokens(sample)
        chosen = logprobs_of(sample).chosen[first:end]
        if self.how == "min":
            return min(chosen)
        return sum(chosen) / (len(chosen) if self.how == "mean" else 1)


def answer_tokens(sample: Sample) -> Span:
    """The tokens that hold the sample's answer: the first and the one after the last.

    Raises MissingEvidence, with the reason, where they cannot be told.
    """
    if sample.answer is None:
        raise MissingEvidence(f"no readable answer: {sample.unread or 'no reason was kept'}")
    logprobs = logprobs_of(sample)
    if not sample.text:
        raise MissingEvidence("the reply's text was not kept")
    offset = _text_offset(logprobs, sample.text)
    thinking = sample.text.rfind("</think>")
    begin = 0 if thinking < 0 else thinking + len("</think>")
    span = _find(sample.text[begin:], sample.answer)
    if span is None:
        shown = sample.answer if len(sample.answer) <= 40 else sample.answer[:37] + "..."
        raise Unusable(f"the reply does not spell out its answer {shown!r}")
    start, end = span[0] + begin + offset, span[1] + begin + offset
    ends = list(accumulate(len(token) for token in logprobs.tokens))
    first = next(place for place, after in enumerate(ends) if after > start)
    return first, next(place for place, after in enumerate(ends) if after >= end) + 1


def _text_offset(logprobs: TokenLogprobs, text: str) -> int:
    """Where ``text`` begins in the tokens put together.

    Servers leave white space, end markers and a train of thought out of the text and in the tokens.
    """
    said = text.strip()
    whole = "".join(logprobs.tokens)
    after = len(whole)
    for token in reversed(logprobs.tokens):
        end = after - len(token) + len(token.rstrip())
        if said and whole.endswith(said, 0, end):
            return end - len(said) - (len(text) - len(text.lstrip()))
        after -= len(token)
    raise Unusable("the tokens put together are not the reply's text")


def _find(text: str, answer: str) -> Span | None:
    """Where ``answer`` stands in ``text``; None where it is not spelled out."""
    number = _CANONICAL_NUMBER.fullmatch(answer) is not None
    for start, end in _passages(text):
        spans = (_numbers if number else _words)(text, answer, start, end)
        if spans:
            return spans[-1]
    spans = (_numbers if number else _words)(text, answer, 0, len(text))
    if not spans:
        return None
    opens = not any(character.isalnum() for character in text[: spans[0][0]])
    return spans[0] if opens and not number else spans[-1]


def _passages(text: str) -> Iterator[Span]:
    """Where an answer is most likely meant, surest first."""
    inside = boxed(text)
    if inside:
        starts = [text.find(inside, box.end()) for box in _BOX.finditer(text)]
        start = max(starts)
        yield start, start + len(inside)
    line = stated(text)
    if line is not None:
        yield line[0], clause_end(text, *line)
        yield line


def _numbers(text: str, answer: str, start: int, end: int) -> list[Span]:
    """Every number in ``text[start:end]`` that equals the canonical ``answer``, sign included."""
    size, negative = answer.removeprefix("-"), answer.startswith("-")
    number = KINDS[Kind.NUMBER]
    spans = []
    for found in _NUMBER.finditer(text, start, end):
        if (found["minus"] is not None) == negative:
            read = number.read(Reply(found["size"]), None).answer
            if read is not None and number.same(read, size):
                spans.append(found.span())
    return spans


def _words(text: str, answer: str, start: int, end: int) -> list[Span]:
    """Every place in ``text[start:end]`` where ``answer`` stands as words of their own."""
    words = answer.split()
    if not words:
        return []
    if len(answer) == 1 and answer.isupper():
        # "a" is a word and "A" a choice; only brackets make the small letter one.
        pattern, flags = rf"(?<!\w){answer}(?!\w)|(?<=\(){answer.lower()}(?=\))", re.NOFLAG
    else:
        written = _SPELLINGS.get(answer, r"[\W_]+".join(map(re.escape, words)))
        pattern, flags = rf"(?<!\w)(?:{written})(?!\w)", re.IGNORECASE
    return [found.span() for found in re.compile(pattern, flags).finditer(text, start, end)]
