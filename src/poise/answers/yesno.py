r"""Yes or no: ``yes`` and ``no``; true and false count as them.

A marked answer (``\boxed{…}``, "answer is", "answer:") wins; else the word the reply begins with;
else the only one of the two that the reply uses as an answer.

It does not know: degrees (probably, unlikely) or what the question asked.
"""

from __future__ import annotations

import re

from poise.answers.markers import boxed, clause_end, final_text, stated
from poise.answers.reading import Unreadable, readable
from poise.types import Reply

__all__ = ["YesNo"]

# "no" before another word is mostly a determiner ("there is no proof"), so it must end a phrase.
_WORD = re.compile(
    r"(?P<negated>\bnot |n['’]t )?"
    r"\b(?P<word>yes|true|false|no(?=[\s*_\"'”’)}]{0,9}(?:[.,;:!?—–-]|$)))\b",
    re.IGNORECASE | re.MULTILINE,
)
_OPENING = re.compile(
    r"[\W_]*(?P<word>yes|true|false|no)\b(?!\s(?:one|doubt|matter|idea|wonder)\b)", re.IGNORECASE
)
_MEANS = {"yes": True, "true": True, "no": False, "false": False}


class YesNo:
    """The kind ``yesno``."""

    slow = False

    @readable
    def read(self, reply: Reply, options: tuple[str, ...] | None) -> str:  # noqa: ARG002
        """``yes`` or ``no``."""
        text = final_text(reply)
        box = boxed(text)
        if box is not None:
            return _decide(box, "the boxed answer")
        span = stated(text)
        if span is not None:
            said = text[span[0] : clause_end(text, *span)]
            if _said(said):
                return _decide(said, "the stated answer")
        return _decide(text, "the reply")

    def same(self, a: str, b: str) -> bool:
        """Whether both are ``yes`` or both are ``no``."""
        return a == b


def _said(text: str) -> set[bool]:
    """Every truth value that ``text`` uses as an answer."""
    opening = _OPENING.match(text)
    said = {_MEANS[opening["word"].lower()]} if opening else set()
    for use in _WORD.finditer(text):
        said.add(_MEANS[use["word"].lower()] != bool(use["negated"]))
    return said


def _decide(text: str, where: str) -> str:
    opening = _OPENING.match(text)
    if opening is not None:
        return "yes" if _MEANS[opening["word"].lower()] else "no"
    said = _said(text)
    if len(said) != 1:
        raise Unreadable(f"{where} says {'both yes and no' if said else 'neither yes nor no'}")
    return "yes" if said.pop() else "no"
