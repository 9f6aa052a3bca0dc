"""Gold answers in one spelling for each kind, from the spellings that published sets use.

Knows numbers, yes and no, and options with their letters; knows no file layout.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

__all__ = ["bare_options", "letter", "number", "yes_or_no"]

_DECIMAL = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?", re.ASCII)
_LETTERED = re.compile(r"\s*\(?\s*([A-Za-z])\s*\)\s*")


def number(value: object) -> str | None:
    """A decimal without grouping or idle zeros: "1,200" -> "1200", 76.0 -> "76", "$.50" -> "0.5".

    None where ``value`` is no plain finite decimal.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        text = value.strip().replace("$", "", 1).strip()
        if not _DECIMAL.fullmatch(text) or not any(map(str.isdigit, text)):
            return None
        exact = Decimal(text.replace(",", ""))
    else:
        exact = Decimal(repr(value))
        if not exact.is_finite():
            return None
    if exact == 0:
        return "0"
    plain = format(exact, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def yes_or_no(value: object) -> str | None:
    """The word "yes" or "no", from true and false or from words in any case; otherwise None."""
    word = str(value).strip().lower() if isinstance(value, bool | str) else None
    return {"yes": "yes", "true": "yes", "no": "no", "false": "no"}.get(word or "")


def letter(value: object, count: int) -> str | None:
    """The capital letter of one of ``count`` options: "b", "(B)", "B)" -> "B"; otherwise None."""
    found = re.fullmatch(r"\s*\(?([A-Za-z])\)?\s*", value) if isinstance(value, str) else None
    if found is None or ord(found[1].upper()) - ord("A") >= count:
        return None
    return found[1].upper()


def bare_options(options: Sequence[str]) -> tuple[str, ...]:
    """Options without their letters, ("A) bank", "B) mall") -> ("bank", "mall").

    They are bared only where all are lettered, in order. An option that is nothing but its letter
    becomes empty.
    """
    found = [_LETTERED.match(option) for option in options]
    letters = [None if match is None else ord(match[1].upper()) - ord("A") for match in found]
    if letters != list(range(len(options))):
        return tuple(options)
    return tuple(_LETTERED.sub("", option, count=1).strip() for option in options)
