"""Guesses the answer kind of a question that names none, for the command line.

Conservative: a wrong kind makes votes of noise, while no kind costs only the adaptive sampling.

It does not know: the answer, other languages than English, or the kinds math, text and JSON,
which nothing in a question's wording tells apart.
"""

from __future__ import annotations

import re

from poise.types import Kind, Question

__all__ = ["infer_kind"]

_ARITHMETIC = re.compile(
    r"(?:(?:what\s(?:is|are)|what['’]s|calculate|compute|evaluate)\s)?"
    r"[\s\d.,()+\-−*/×÷x^%]*\d[\s)%]*[+\-−*/×÷x^][\s(.\-−]*\d[\s\d.,()+\-−*/×÷x^%]*[=?\s]*",
    re.IGNORECASE,
)
_QUANTITY = re.compile(r"\bhow\s(?:many|much)\b", re.IGNORECASE)
_YESNO = re.compile(
    r"(?:is|are|was|were|do|does|did|can|could|has|have|will|would|should)\s", re.IGNORECASE
)
_REQUEST = re.compile(r"(?:(?:can|could|will|would)\syou|do\syou\sknow)\b", re.IGNORECASE)
_OR = re.compile(r"\bor\b", re.IGNORECASE)
_WHY = re.compile(r"\bwhy\b", re.IGNORECASE)

LONGEST_SUM = 200
"""Most characters of a sum to work out."""


def infer_kind(question: Question) -> Kind | None:
    """The kind that the question's wording makes plain, else None; a stated kind is kept.

    Options make a choice. A sum to work out, or a last sentence that asks how many or how much,
    makes a number. A single question that opens with is, does, can, … and offers no "or" makes a
    yes/no.
    """
    if question.kind is not None:
        return question.kind
    if question.options is not None:
        return Kind.CHOICE
    if not isinstance(question.messages[-1].get("content"), str):
        return None
    text = question.text.strip()
    if len(text) <= LONGEST_SUM and _ARITHMETIC.fullmatch(text):
        return Kind.NUMBER
    if not text.endswith("?"):
        return None
    last = re.split(r"[.!?]\s|\n", text)[-1].strip()
    if _QUANTITY.search(last):
        return None if _WHY.search(last) else Kind.NUMBER
    if last == text and _YESNO.match(text) and not (_REQUEST.match(text) or _OR.search(text)):
        return Kind.YESNO
    return None
