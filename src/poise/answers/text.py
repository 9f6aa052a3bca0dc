"""Short texts (names, dates, labels): compared without case, articles, quotes and punctuation.

The answer is what follows the last "answer is" or "answer:", else the reply's first line.

It does not know: synonyms, spellings, or paraphrases; a long reply is not a short answer.
"""

from __future__ import annotations

import re
import unicodedata

from poise.answers.markers import boxed, final_text, printable, stated, was_cut
from poise.answers.reading import Unreadable, readable
from poise.types import Reply

__all__ = ["Text"]

LONGEST = 200
"""Most characters of a short answer."""

_QUOTES = re.compile(r"[\"'`´‘’‚“”„«»*]+")
_BETWEEN = re.compile(r"(?<=\w)[-‐‑–—/_](?=\w)")
_ARTICLES = re.compile(r"(?:(?:the|an|a) )+(?=.)")
_EDGES = ".,;:!?()[]{}<>-–—_…|~"


class Text:
    """The kind ``text``."""

    slow = False

    @readable
    def read(self, reply: Reply, options: tuple[str, ...] | None) -> str:  # noqa: ARG002
        """The short answer in lower case, at most 200 characters."""
        text = final_text(reply)
        found, end = _find(text)
        if was_cut(reply) and end == len(text):
            raise Unreadable("the reply was cut inside the answer")
        # Unicode work stays small on replies that are far too long anyway.
        if len(found) > 10 * LONGEST:
            raise Unreadable(f"not a short answer: more than {LONGEST} characters")
        answer = _tidy(found)
        # Taking away quotes may leave a new "answer is": read on until nothing changes.
        for _ in range(LONGEST):
            if len(answer) > LONGEST:
                raise Unreadable(f"not a short answer: more than {LONGEST} characters")
            if not answer:
                raise Unreadable("nothing is left without articles and punctuation")
            again = _tidy(_find(answer)[0])
            if again == answer:
                return answer
            answer = again
        raise Unreadable("the answer has no settled form")

    def same(self, a: str, b: str) -> bool:
        """Whether the two canonical texts are identical."""
        return a == b


def _find(text: str) -> tuple[str, int]:
    """The passage that holds the answer, and where it ends."""
    box = boxed(text)
    if box is not None:
        return box, -1
    start, end = stated(text) or (0, len(text.partition("\n")[0]))
    return text[start:end], end


def _tidy(passage: str) -> str:
    folded = unicodedata.normalize("NFKC", passage).casefold()
    folded = _BETWEEN.sub(" ", _QUOTES.sub("", printable(folded)))
    words = [word.strip(_EDGES) for word in folded.split()]
    return _ARTICLES.sub("", " ".join(filter(None, words)), count=1)
