r"""Multiple choice: one capital letter, A for the first option.

A marked answer (``\boxed{…}``, "answer is", "answer:") wins; else the letters written as options
are ("(B)", "B)", "B." at a line's start, "**B**", "option B", a line "B"), if they are all one
letter; else the only option whose text the reply contains. The article "A" is never a choice.

It does not know: the question, or which of several letters was meant.
"""

from __future__ import annotations

import re

from poise.answers.markers import boxed, clause_end, final_text, stated
from poise.answers.reading import Unreadable, readable
from poise.types import Reply

__all__ = ["Choice"]

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# What may stand before and after the letter in a marked answer: "**(b)**", "\text{B}", "option C.".
_LEADING = re.compile(
    r"[\s*_\"'`{($\[]*+(?:\\(?:text|mathrm|mathbf|textbf)\s?\{)?(?:the\s)?(?:option|choice|letter)?"
    r"[\s*_\"'`{(\[]*+(?P<letter>[A-Z])(?![\w'’])"
    r"(?P<closed>\s*+(?:[^\w\s]|$))?(?:\s++(?P<next>\w++))?",
    re.IGNORECASE,
)
_WRITTEN = re.compile(
    r"(?<!\w)\((?P<round>[A-Za-z])\)"
    r"|^[ \t*_>-]*+(?P<line>[A-Za-z])(?:[).:](?=\s|\*|$)|[*_]*+[ \t]*+$)"
    r"|\*\*(?P<bold>[A-Z])\*\*"
    r"|\b(?:[Oo]ption|[Cc]hoice)\s+\*{0,2}(?P<named>[A-Z])\b",
    re.MULTILINE,
)
# A second letter right after the first: "B and C", "(B) or (C)", "B, C".
_ANOTHER = re.compile(
    r"[)\]}*_]{0,4}\s{0,2}(?:and|or|&|/|,)\s{0,2}[(*_]{0,3}[A-Z]\b(?!['’]|\s+[a-z])"
)
_LABEL = re.compile(r"\s*\(?(?P<letter>[A-Z])[).:]\s*")
_REASONS = {"because", "since", "as", "which", "with"}


class Choice:
    """The kind ``choice``."""

    slow = False

    @readable
    def read(self, reply: Reply, options: tuple[str, ...] | None) -> str:
        """One of the first ``len(options)`` capital letters; any of A to Z without options."""
        text = final_text(reply)
        texts = _option_texts(options)
        box = boxed(text)
        if box is not None:
            return _marked(box, box, texts, "the boxed answer")
        span = stated(text)
        if span is not None:
            line, first = text[slice(*span)], text[span[0] : clause_end(text, *span)]
            return _marked(line, first, texts, "the stated answer")
        written = {
            letter.upper() for use in _WRITTEN.finditer(text) for letter in use.groups() if letter
        }
        offered = {letter for letter in written if texts is None or letter in texts}
        if len(offered) == 1:
            return offered.pop()
        if offered:
            raise Unreadable(f"several choices and no marked one: {', '.join(sorted(offered))}")
        named = None if texts is None else _named(text, texts)
        if named is None:
            raise Unreadable(f"the reply names no {'letter' if texts is None else 'option'}")
        return named

    def same(self, a: str, b: str) -> bool:
        """Whether the two letters are one."""
        return a == b


def _option_texts(options: tuple[str, ...] | None) -> dict[str, str] | None:
    """Each option's text by its letter, folded, without a label of its own ("A) bank")."""
    if options is None:
        return None
    texts = {}
    for letter, option in zip(_LETTERS, options, strict=False):
        label = _LABEL.match(option)
        own = label is not None and label["letter"] == letter
        texts[letter] = _fold(option[label.end() :] if own and label is not None else option)
    return texts


def _marked(line: str, first: str, texts: dict[str, str] | None, where: str) -> str:
    """The choice in a line that is known to hold the answer; ``first`` is its first clause."""
    found = _LEADING.match(line)
    if found is not None and _is_choice(found):
        letter = found["letter"].upper()
        if _ANOTHER.match(line, found.end("letter")):
            raise Unreadable(f"{where} names several letters")
        if texts is None or letter in texts:
            return letter
    named = None if texts is None else _named(line, texts) or _named(first, texts)
    if named is None:
        raise Unreadable(
            f"{where} names no letter" if texts is None else f"{where} names no option"
        )
    return named


def _is_choice(found: re.Match[str]) -> bool:
    """Whether a leading letter is a choice: before another word, "a" and "I" are words too."""
    if found["closed"] is not None:
        return True
    following = found["next"]
    if following is None:
        return True
    return found["letter"].isupper() and (
        found["letter"] not in "AI" or following.lower() in _REASONS
    )


def _named(passage: str, texts: dict[str, str]) -> str | None:
    """The only option whose text stands in ``passage``, longer texts first; None if not one."""
    rest = _fold(passage)
    named: list[str] = []
    for text in sorted(filter(None, set(texts.values())), key=lambda text: (-len(text), text)):
        whole = re.compile(rf"(?<!\w)(?<!\d[.,]){re.escape(text)}(?!\w|[.,]\d)")
        if whole.search(rest):
            # Data sets hold questions with the same option twice: then it is not clear which.
            named += [letter for letter, other in texts.items() if other == text]
            # "black cat" must not name "cat" as well.
            rest = whole.sub("\n", rest)
    return named[0] if len(named) == 1 else None


def _fold(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
