"""Confidences as models write them: "85%", "Confidence: 0.85", "85/100", a band in words.

A number means the same everywhere. With % (or the word) it is a percentage: "1%" is 0.01. Over
another number ("17/20", "8 out of 10") it is that share. Bare with a decimal point it is a
fraction: "1.0" is certainty, "85.0" is out of range. Bare and whole it is a percentage, but for a
bare "1", which may mean either: it is read only where a percentage was asked for. The last number
wins, and one out of range is never cut to fit, nor an earlier one taken for it.

Searches are linear in the length of the reply. It does not know what a confidence is of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from poise.errors import Unusable

__all__ = ["band_in", "confidence_in", "percentage_in"]

_NUMBER = (
    r"(?<![\w.,/])(?<!\d[-−–])(?<!\d%[-−–])(?<!\d\s[-−–]\s)(?P<minus>[-−–])?(?P<size>\d{1,9}(?:\.\d{1,20})?|\.\d{1,20})(?!\d|[.,]\d)"
    r"(?:\s{0,2}(?P<percent>\\?%|per\s?cent\b)"
    r"|\s{0,2}(?:/|out\s{1,2}of\b)\s{0,2}(?P<whole>\d{1,4})(?!\d|[.,]\d|\s?%))?"
    r"(?!\s?[-–]\s?\d|\s?/)"  # a range or a date is not a number
)
_LEADS_IN = (
    r"(?P<lead>(?:[:=>]|\b(?:is|of|at|about|around|approximately|roughly)\b)"
    r"[\s*_\"'$(\[{~≈]{0,6})?"
)
_KEYED = re.compile(
    r"(?<![/\w])(?:confidence|certainty)\b(?!\s+intervals?\b)[*_]{0,3}"
    r"(?:\s?\([^()\n]{0,60}\))?[^\d\n.;?!%<]{0,40}?" + _LEADS_IN + _NUMBER,
    re.IGNORECASE,
)
_SURE = re.compile(_NUMBER + r"\s{1,2}(?:confident|certain|sure)\b", re.IGNORECASE)
_ANY = re.compile(_NUMBER, re.IGNORECASE)
_NEGATED = re.compile(r"(?:\bnot|n['’]t|\bnever)\s+(?:\w+\s+)?$", re.IGNORECASE)
_RANGE = r"(?<![\w.])(?P<low>\d{1,3})\s?%?\s?(?:[-–]|to\b)\s?(?P<high>\d{1,3})\s?(?:%|per\s?cent\b)"
_MARKS = " \t\r\n*_`\"'()[].,;:$"


def confidence_in(text: str) -> float:
    """The last confidence that ``text`` states as such, in [0, 1].

    It has to be named ("confidence", "certainty", "… sure", "… certain", "… confident", a
    ``<confidence>`` tag): any other number is about the question. Raises MissingEvidence where
    there is none, for a bare "1", and for one out of range.
    """
    named = [found for found in _KEYED.finditer(text) if found["lead"] or _is_marked(found)]
    last = _last(text, [*named, *filter(_is_marked, _SURE.finditer(text))])
    if last is None:
        raise Unusable("the reply states no confidence")
    if last["size"] == "1" and not _is_marked(last):
        raise Unusable('the reply states a confidence of "1": 1 % or certainty')
    return _share(last)


def percentage_in(text: str) -> float:
    """The last percentage in a reply that was asked for one, in [0, 1].

    With %, over 10 or 100, or named a confidence; a bare number only where it is the whole reply.
    Raises MissingEvidence where there is none and for one out of range.
    """
    found = [one for one in _ANY.finditer(text) if one["percent"] or one["whole"] in ("10", "100")]
    last = _last(text, [*found, *(one for one in _KEYED.finditer(text) if one["lead"])])
    last = last or _ANY.fullmatch(text.strip(_MARKS))
    if last is None:
        raise Unusable("the follow-up's reply holds no percentage")
    return _share(last)


def band_in(text: str, labels: Sequence[str]) -> int:
    """Which of ``labels``, equal bands of [0, 1] from the lowest, a reply names last.

    By its label, by two percentages ("60-70%"), or by one within it (at an edge: the upper band);
    a bare number only where it is the whole reply. Raises MissingEvidence where none is named or
    the last percentage is out of range.
    """
    longest = sorted(labels, key=len, reverse=True)
    words = "|".join(r"\s+".join(map(re.escape, label.split())) for label in longest)
    pattern = rf"{_RANGE}|(?P<label>\b(?:{words})\b)|{_NUMBER}"
    found = [
        one
        for one in re.compile(pattern, re.IGNORECASE).finditer(text)
        if one["low"] or one["label"] or one["percent"]
    ]
    last = _last(text, found)
    if last is not None and last["label"]:
        return labels.index(" ".join(last["label"].casefold().split()))
    if last is not None and last["low"]:
        share = (int(last["low"]) + int(last["high"])) / 200
        if share > 1:
            raise Unusable(f"{last[0]!r} is not between 0 and 100 %")
    else:
        last = last or _ANY.fullmatch(text.strip(_MARKS))
        if last is None:
            raise Unusable("the follow-up's reply names no band")
        share = _share(last)
    # A percentage is a whole number of hundredths; 0.3 * 10 is not 3 in binary.
    return min(int(round(share * 1e9) * len(labels) // 10**9), len(labels) - 1)


def _is_marked(number: re.Match[str]) -> bool:
    return number["percent"] is not None or number["whole"] is not None


def _last(text: str, found: list[re.Match[str]]) -> re.Match[str] | None:
    """The one that ends last; "not 100% sure" states no number."""
    meant = [
        one for one in found if not _NEGATED.search(text[max(0, one.start() - 24) : one.start()])
    ]
    return max(meant, key=lambda one: one.end(), default=None)


def _share(number: re.Match[str]) -> float:
    size, whole = float(number["size"]), number["whole"]
    if whole is not None:
        share = size / int(whole) if int(whole) else 2.0
    elif number["percent"] or "." not in number["size"]:
        share = size / 100
    else:
        share = size
    if number["minus"] or share > 1:
        start = number.start("minus" if number["minus"] else "size")
        shown = number.string[start : number.end()]
        raise Unusable(f"{shown!r} is not between 0 and 1, or 0 and 100 %")
    return share
