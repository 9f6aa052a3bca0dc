"""What JSON from a file has to look like, said once and checked before anything is made of it.

A check takes where the value stands and the value, and raises InputError in one line. It does not
know what the values mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from poise.errors import InputError

__all__ = [
    "Check",
    "anything",
    "each",
    "listed",
    "number",
    "optional",
    "record",
    "share",
    "text",
    "whole",
]

Check = Callable[[str, Any], None]
"""``check(where, value)``: nothing, or InputError."""


def anything(where: str, value: Any) -> None:
    """Whatever is there; who reads it checks it."""


def text(where: str, value: Any) -> None:
    """A string that can be written as UTF-8."""
    if not isinstance(value, str):
        raise _wrong(where, value, "a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _wrong(where, value, "text: it holds half of a surrogate pair") from None


def number(where: str, value: Any) -> None:
    """A finite number."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain or not -1e300 < value < 1e300 or not math.isfinite(value):
        raise _wrong(where, value, "a finite number")


def share(where: str, value: Any) -> None:
    """A number from 0 to 1."""
    number(where, value)
    if not 0 <= value <= 1:
        raise _wrong(where, value, "from 0 to 1")


def whole(where: str, value: Any) -> None:
    """A whole number, 0 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise _wrong(where, value, "a whole number, 0 or more")


def optional(check: Check) -> Check:
    """The same, or null."""

    def found(where: str, value: Any) -> None:
        if value is not None:
            check(where, value)

    return found


def listed(check: Check, *, least: int = 0) -> Check:
    """A list of at least so many, all of which pass."""

    def found(where: str, value: Any) -> None:
        if not isinstance(value, list) or len(value) < least:
            raise _wrong(where, value, f"a list of {least} or more" if least else "a list")
        for place, one in enumerate(value):
            check(f"{where}[{place}]", one)

    return found


def each(check: Check) -> Check:
    """An object, all of whose values pass."""

    def found(where: str, value: Any) -> None:
        for name, one in _object(where, value).items():
            text(f"a name in {where}", name)
            check(f"{where}.{name}", one)

    return found


def record(checks: Mapping[str, Check], may: Mapping[str, Check] = MappingProxyType({})) -> Check:
    """An object with the fields of ``checks`` and perhaps those of ``may``; others may be there."""

    def found(where: str, value: Any) -> None:
        given = _object(where, value)
        for name, check in {**checks, **may}.items():
            if name in given:
                check(f"{where}.{name}", given[name])
            elif name in checks:
                raise InputError(f"{where} has no {name}")

    return found


def _object(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "an object")
    return value


def _wrong(where: str, value: Any, wanted: str) -> InputError:
    shown = ascii(value)
    return InputError(
        f"{where} is {shown if len(shown) <= 40 else shown[:37] + '...'}, not {wanted}"
    )
