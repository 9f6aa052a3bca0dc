r"""Numbers: read exactly, written as one canonical decimal or, where that never ends, a fraction.

Canonical: ``108``, ``-3.5``, ``1/3``; no grouping, no trailing zeros, no unit, currency or percent
sign. Equal numbers have equal canonical forms. The answer is taken from the last ``\boxed{…}``,
else a GSM8K line ``#### x``, else "answer is"/"answer:", else the first number after the last "="
that has a number before it, else the last number.

It does not know: units (12 cm and 12 are the same), number words, or unevaluated expressions.
"""

from __future__ import annotations

import re
from fractions import Fraction

from poise.answers.markers import boxed, clause_end, final_text, stated, was_cut
from poise.answers.reading import Unreadable, readable
from poise.types import Reply

__all__ = ["Number"]

LONGEST = 300
"""Most characters of a number, and most decimal places an exponent may shift it."""

_RAW = r"(?:\d++(?:[.,]\d++)*+|(?<![\w.])\.\d++)"
_EXPONENT = (
    r"(?:[eE][-+−]?\d++(?!\w)"
    r"|\s?(?:×|x|\*|·|⋅|\\times|\\cdot)\s?10"
    r"(?:\s?(?:\^|\*\*)\s?\{?[-+−]?\d++\}?|[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]++))"
)
_PART = rf"{_RAW}{_EXPONENT}?+"
_NUMBER = re.compile(
    # A digit inside a word (H2O), a subscript or an exponent is no number of its own.
    r"(?<![^\W_])(?<![^\W_]_)(?<!\^)(?<!\^\{)(?<!\d\*\*)"
    r"(?<!\^[-−])(?<!\^\{[-−])(?:"
    rf"(?:(?P<wholes>\d++)\s?)?\\[dt]?frac\s?"
    rf"(?:\{{\s?(?P<top>[-−]?{_RAW})\s?\}}\s?\{{\s?(?P<bottom>{_RAW})\s?\}}|(?P<digits>\d\s?\d))"
    rf"|(?:(?P<whole>\d++)[ ](?=\d++/\d))?(?P<parts>{_PART}(?:\s?/\s?{_PART})*+)"
    # A base waiting for its exponent is not the number that was meant; ** may also end bold type.
    r")(?!\s?\^|\s?\*\*\d|[⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹])"
)
_SIGN = re.compile(r"(?P<before>\S?)(?P<space>\s*)[-−–](?P<gap>[ ]?)(?:\\?[$€£¥₹][ ]?)?$")
_POWER = re.compile(
    r"(?P<digits>-?[\d.,]++)"
    r"(?:\s?(?:[eE]|(?:×|x|\*|·|⋅|\\times|\\cdot)\s?10\s?(?:\^|\*\*)?\s?\{?)(?P<power>[-+]?\d++)\}?)?"
)
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}(?:\.\d+)?")
_GSM8K = re.compile(r"^####[^A-Za-z\n]*$", re.MULTILINE)
_EQUALS = re.compile(r"(?<![<>!=≤≥])=(?![=>])")
_SUPERSCRIPTS = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "+-0123456789-")


class Number:
    """The kind ``number``."""

    slow = False

    @readable
    def read(self, reply: Reply, options: tuple[str, ...] | None) -> str:  # noqa: ARG002
        """The number the reply ends on, as a canonical string of at most 300 characters."""
        text = _plain(final_text(reply))
        box = boxed(text)
        if box is not None:
            found = _after_equals(box, 0, len(box)) or _last(box)
            if found is None:
                raise Unreadable("the boxed answer holds no number")
            return _canonical(_value(found))
        found = _marked(text) or _after_equals(text, 0, len(text)) or _last(text)
        if found is None:
            raise Unreadable("the reply holds no number")
        if was_cut(reply) and found.end() == len(text):
            raise Unreadable("the reply was cut inside the number")
        return _canonical(_value(found))

    def same(self, a: str, b: str) -> bool:
        """Whether the two are equal as fractions; strings that are no numbers must be identical."""
        return a == b or (_exact(a) is not None and _exact(a) == _exact(b))


def _plain(text: str) -> str:
    r"""Without LaTeX's ways to space digits (``1{,}234``, ``1\,234``, ``1\!234``)."""
    return text.replace("{,}", ",").replace("\\,", "").replace("\\!", "")


def _marked(text: str) -> re.Match[str] | None:
    line = [None, *_GSM8K.finditer(text)][-1]
    if line is not None and (found := _NUMBER.search(text, line.start(), line.end())) is not None:
        return found
    span = stated(text)
    if span is None:
        return None
    start, end = span[0], clause_end(text, *span)
    return _after_equals(text, start, end) or _NUMBER.search(text, start, end)


def _after_equals(text: str, start: int, end: int) -> re.Match[str] | None:
    """The first number after the last "=", provided that a number stands before that sign."""
    sign = [None, *_EQUALS.finditer(text, start, end)][-1]
    if sign is None:
        return None
    first = _NUMBER.search(text, start, end)
    if first is None or first.start() > sign.start():
        return None
    return _NUMBER.search(text, sign.end(), end)


def _last(text: str) -> re.Match[str] | None:
    return [None, *_NUMBER.finditer(text)][-1]


def _value(found: re.Match[str]) -> Fraction:
    """The exact value of a match of ``_NUMBER``, with the sign that stands before it."""
    if found["digits"] is not None:
        value = _ratio([found["digits"][0], found["digits"][-1]])
    elif found["top"] is not None:
        value = _ratio([found["top"], found["bottom"]])
    else:
        value = _ratio(found["parts"].split("/"))
    whole = found["wholes"] or found["whole"]
    if whole is not None:
        value += _part(whole)
    return -value if _is_negative(found.string[: found.start()][-12:]) else value


def _is_negative(before: str) -> bool:
    """Whether ``before`` ends in a minus that belongs to the number, not in a dash or operator."""
    sign = _SIGN.search(before)
    if sign is None:
        return False
    left = sign["before"]
    if sign["gap"]:
        # "= - 5" is a sign; "90 - 20" is an operator, and "- 5" at a line's start is a bullet.
        return left in ("=", ":", "≈", "(") and "\n" not in sign["space"]
    hyphen = left.isalpha() and not sign["space"]  # COVID-19
    return not hyphen and not left.isdigit() and left not in (")", "]", "}", "%")


def _ratio(parts: list[str]) -> Fraction:
    if len(parts) > 2:
        raise Unreadable("several slashes: a date or an unevaluated division")
    top, *rest = [_part(part) for part in parts]
    if not rest:
        return top
    if rest[0] == 0:
        raise Unreadable("the number is divided by zero")
    return top / rest[0]


def _part(text: str) -> Fraction:
    """One number without a slash: digits with grouping and point, maybe a power of ten."""
    written = _POWER.fullmatch(text.strip().translate(_SUPERSCRIPTS))
    assert written is not None, "_NUMBER lets nothing else through"
    digits, power = written["digits"], written["power"] or "0"
    if len(digits) > LONGEST or len(power.lstrip("+-0")) > 3 or abs(int(power)) > LONGEST:
        raise Unreadable(f"the number is longer than {LONGEST} digits")
    sign = -1 if digits.startswith("-") else 1
    digits = digits.removeprefix("-")
    if digits.count(".") > 1:
        raise Unreadable("several decimal points: a version, a date or grouped digits")
    if "," in digits:
        if _GROUPED.fullmatch(digits) is None:
            raise Unreadable("a comma that may be a decimal comma or part of a list")
        digits = digits.replace(",", "")
    wholes, _, decimals = digits.partition(".")
    return sign * int(wholes + decimals) * Fraction(10) ** (int(power) - len(decimals))


def _canonical(value: Fraction) -> str:
    """The terminating decimal that equals ``value``, else its reduced fraction."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest != 1:
        written = f"{value.numerator}/{value.denominator}"
    elif places > LONGEST:
        raise Unreadable(f"the number has more than {LONGEST} decimal places")
    else:
        digits = str(abs(value.numerator) * 10**places // value.denominator).zfill(places + 1)
        written = f"{digits[: len(digits) - places]}.{digits[len(digits) - places :]}".rstrip(".")
        written = "-" + written if value < 0 else written
    if len(written) > LONGEST:
        raise Unreadable(f"the number is longer than {LONGEST} digits")
    return written


def _exact(canonical: str) -> Fraction | None:
    found = _NUMBER.fullmatch(canonical.removeprefix("-"))
    try:
        return None if found is None else _value(found) * (-1 if canonical[0] == "-" else 1)
    except Unreadable:
        return None
