"""Where in a reply the answer stands: after the thinking, in a box, behind "the answer is".

Every search is linear in the length of the reply, whatever a model writes.

It does not know: answer kinds, or what a marked passage means.
"""

from __future__ import annotations

import re
import unicodedata

from poise.answers.reading import Unreadable
from poise.types import Reply

__all__ = ["boxed", "clause_end", "final_text", "printable", "stated", "was_cut"]

_BOX = re.compile(r"\\(?:boxed|fbox)\s*+\{|\\.|[{}]", re.DOTALL)
_STATED = re.compile(r"\banswer[*_\"']{0,3}\s{0,3}(?:is\b|[:：=])", re.IGNORECASE)
_AFTER_STATED = " \t\r\n:：=*_"
_CLAUSE_END = re.compile(
    r"[;,](?=\s)|[.!?](?=\s|$)|\b(?:because|since|so|where|when)\b", re.IGNORECASE
)


def final_text(reply: Reply) -> str:
    """The text after a reasoning model's thinking (``<think>…</think>``), stripped.

    Raises Unreadable when there is none.
    """
    if reply.text is None or not reply.text.strip():
        raise Unreadable("the reply holds no text")
    head, closed, tail = reply.text.rpartition("</think>")
    if not closed and tail.lstrip().startswith("<think>"):
        raise Unreadable("the reply ended inside its thinking")
    if closed and head and not tail.strip():
        raise Unreadable("the reply holds nothing after its thinking")
    return tail.strip()


def was_cut(reply: Reply) -> bool:
    """Whether the token limit ended the reply in a word, which may be half a word."""
    return reply.finish == "length" and reply.text is not None and not reply.text[-1:].isspace()


def boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{…}`` whose braces balance (the innermost, if nested)."""
    opened: list[tuple[int, bool]] = []
    best: tuple[int, int] | None = None
    for token in _BOX.finditer(text):
        if token[0] == "}":
            if opened:
                start, is_box = opened.pop()
                if is_box and (best is None or start > best[0]):
                    best = (start, token.start())
        elif token[0].endswith("{") and token[0] != "\\{":
            opened.append((token.end(), token[0] != "{"))
    return None if best is None else text[best[0] : best[1]].strip()


def stated(text: str) -> tuple[int, int] | None:
    """Where the line stands that follows the last "answer is" or "answer:", as (start, end).

    Marks of emphasis before it are left out. None where nothing follows.
    """
    marker = [None, *_STATED.finditer(text)][-1]
    if marker is None:
        return None
    start = len(text) - len(text[marker.end() :].lstrip(_AFTER_STATED))
    newline = text.find("\n", start)
    end = len(text) if newline < 0 else newline
    return None if start == end else (start, end)


def clause_end(text: str, start: int, end: int) -> int:
    """Where the first clause of ``text[start:end]`` ends: what comes later gives the reasons."""
    stop = _CLAUSE_END.search(text, start, end)
    return end if stop is None else stop.start()


def printable(text: str) -> str:
    """``text`` with any white space as one blank and without control and format characters.

    Half surrogate pairs go too: a canonical answer can always be written as UTF-8.
    """
    spaced = " ".join(text.split())
    return "".join(c for c in spaced if unicodedata.category(c)[0] != "C").strip()
