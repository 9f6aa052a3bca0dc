r"""Mathematical expressions, written as tidy LaTeX and compared by computer algebra.

The answer is the last ``\boxed{…}``, else what follows "answer is"/"answer:", else the last
``$…$``, else the last line's expression, right-hand side or number. Canonical: no delimiters, no
sizing commands, no blanks but between words; the name of a variable before "=" is dropped; words
stand in ``\text{…}``.

Two answers are the same if their canonical forms are identical up to blanks, or if math-verify
shows them equal within a timeout (``equivalence.py``); a comparison that times out says "not the
same". It does not know: computer algebra itself, units, or the question.
"""

from __future__ import annotations

import re

from poise.answers.equivalence import Equivalence
from poise.answers.markers import boxed, clause_end, final_text, printable, stated, was_cut
from poise.answers.reading import Unreadable, readable
from poise.types import Reply

__all__ = ["Maths"]

LONGEST = 400
"""Most characters of an expression."""

_INLINE = re.compile(
    r"(?<!\\)\$(?=\S)(?P<dollars>(?:[^$\\]|\\.)++)(?<=\S)\$(?!\d)"
    r"|\\\((?P<round>(?:(?!\\[()]).)*+)\\\)"
    r"|\\\[(?P<square>(?:(?!\\[\[\]]).)*+)\\\]",
    re.DOTALL,
)
_DELIMITERS = re.compile(r"(?P<keep>\\\\)|\\[()\[\]$]|\$")
_SIZING = re.compile(r"\\(?:left|right|big|Big|bigg|Bigg|displaystyle|limits)(?![A-Za-z])")
_SPACING = re.compile(r"(?P<keep>\\\\)|\\(?:[;:! ]|,|q?quad(?![A-Za-z]))")
_BLANK = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_NAME_OR_SUM = re.compile(
    r"[A-Za-z](?:_\{?\w\}?)?|(?:[\d\s+\-−*/×÷.()^{}]|\\(?:times|cdot|div|frac)(?![A-Za-z]))*+"
)
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|operatorname)\s?\{[^{}]*+\}")
_COMMAND = re.compile(r"\\(?:begin|end)\{[a-z]++\*?\}|\\[A-Za-z]++")
_PROSE = re.compile(r"[^\W\d_]{3,}+|\b(?:is|so|to|we|it|in|as|at|be|by|of|if|he)\b", re.IGNORECASE)
_UNITS = re.compile(r"(?:\s?[A-Za-z]{2,}+\.?)+$")
_NUMBER = re.compile(r"(?<!\w)-?\d++(?:[.,]\d++)*+(?:/\d++)?")
_BRACE = re.compile(r"\\.|[{}]")
_INTEGER = re.compile(r"-?\d{1,100}")
_FUNCTIONS = re.compile(
    r"arc(?:sin|cos|tan)|(?:sin|cos|tan)h?|cot|sec|csc|log|exp|sqrt|min|max|mod|gcd|lcm|det|and",
    re.IGNORECASE,
)


class Maths:
    """The kind ``math``; ``equivalence`` decides what the spelling does not."""

    slow = True

    def __init__(self, equivalence: Equivalence | None = None):
        self._equivalence = equivalence or Equivalence()

    @readable
    def read(self, reply: Reply, options: tuple[str, ...] | None) -> str:  # noqa: ARG002
        """The expression the reply ends on, at most 400 characters of LaTeX."""
        text = final_text(reply)
        answer, end = _extract(text)
        if was_cut(reply) and end == len(text):
            raise Unreadable("the reply was cut inside the expression")
        # What was tidied must read back as itself, so that a stored answer keeps its meaning.
        for _ in range(4):
            again, _end = _extract(answer)
            if again == answer:
                return answer
            answer = again
        raise Unreadable("the expression has no settled form")

    def same(self, a: str, b: str) -> bool:
        """Whether the two are equal expressions; False where the timeout passes first.

        Raises UsageError when math-verify is needed and not installed.
        """
        left, right = (text.replace(" ", "") for text in (a, b))
        if left == right:
            return True
        if _is_words(a) and _is_words(b):
            return left.casefold() == right.casefold()
        if _INTEGER.fullmatch(a) and _INTEGER.fullmatch(b):
            return int(a) == int(b)
        return self._equivalence.same(a, b)


def _extract(text: str) -> tuple[str, int]:
    """The tidied answer in ``text``, and where it ends (-1: at a delimiter of its own)."""
    if _is_words(text):
        return _tidy(text), -1
    box = boxed(text)
    if box is not None:
        return _tidy(box), -1
    span = stated(text)
    if span is not None:
        return _from_line(text, *span)
    inline = [None, *_INLINE.finditer(text)][-1]
    if inline is not None:
        return _tidy(inline[inline.lastgroup or 0]), -1
    start = text.rfind("\n") + 1
    return _from_line(text, start, len(text))


def _from_line(text: str, start: int, end: int) -> tuple[str, int]:
    """The answer in the line ``text[start:end]``, which may be prose."""
    line = text[start:end]
    inline = _INLINE.search(line)
    if inline is not None:
        return _tidy(inline[inline.lastgroup or 0]), -1
    if len(line) <= LONGEST and _is_expression(line):
        return _tidy(line), end
    stop = clause_end(text, start, end)
    equals = text.rfind("=", start, stop)
    if equals >= 0:
        return _tidy(text[equals + 1 : stop]), stop
    number = [None, *_NUMBER.finditer(text, start, end)][-1]
    if number is None:
        raise Unreadable("the reply holds no expression")
    return _tidy(number[0]), number.end()


def _tidy(expression: str) -> str:
    r"""One spelling for what only looks different; prose becomes ``\text{…}``."""
    if len(expression) > 4 * LONGEST:
        raise Unreadable(f"not one expression: more than {LONGEST} characters")
    tidy = printable(expression).replace("{,}", ",")
    tidy = _DELIMITERS.sub(lambda found: found["keep"] or "", tidy)
    tidy = re.sub(r"\\[dt]frac(?![A-Za-z])", r"\\frac", _SIZING.sub("", tidy))
    tidy = _SPACING.sub(lambda found: found["keep"] or " ", tidy).replace("−", "-")
    tidy = tidy.strip().removeprefix("**").removesuffix("**").strip("=:;,. ")
    tidy = _BLANK.sub("", " ".join(tidy.split()))
    *names, value = re.split(r"(?<![<>!:])=", tidy)
    if names and value and all(_NAME_OR_SUM.fullmatch(name) for name in names):
        tidy = value
    if not _balances(tidy):
        raise Unreadable("the expression's braces do not balance")
    if not tidy:
        raise Unreadable("the expression is empty")
    if not _is_words(tidy) and not _is_expression(tidy):
        bare = _UNITS.sub("", tidy)
        tidy = bare if _NUMBER.search(bare) and _is_expression(bare) else f"\\text{{{tidy}}}"
    if len(tidy) > LONGEST:
        raise Unreadable(f"not one expression: more than {LONGEST} characters")
    return tidy


def _is_expression(text: str) -> bool:
    """Whether ``text`` holds no prose: no word of three letters but names of functions.

    A few shorter words that no product of variables spells count as prose too.
    """
    if not text.strip():
        return False
    words = _PROSE.findall(_COMMAND.sub("", _TEXT.sub("", text)))
    return all(_FUNCTIONS.fullmatch(word) for word in words)


def _balances(text: str) -> bool:
    depth = 0
    for brace in _BRACE.findall(text):
        depth += (brace == "{") - (brace == "}")
        if depth < 0:
            return False
    return depth == 0


def _is_words(text: str) -> bool:
    r"""Whether ``text`` is one ``\text{…}`` and nothing else."""
    return text.startswith("\\text{") and text.endswith("}") and "}" not in text[:-1]
