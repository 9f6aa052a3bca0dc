"""Strategies as people write them: ``beta``, ``beta:threshold=0.9``, ``window:width=5,n=40``.

It does not know what the parameters mean: names and types come from the strategy's signature, and
the strategy itself refuses values that make no sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any, TypeVar

from poise.errors import UsageError

__all__ = ["parse"]

SHORT = {"n": "max_samples"}
"""Parameters that have a short spelling."""

FLAGS = {"yes": True, "true": True, "no": False, "false": False}
"""How a parameter that is on or off is written, in any case."""

Strategy = TypeVar("Strategy")


def parse(
    text: str, kind: str, table: Mapping[str, type[Strategy]], max_samples: int | None = None
) -> Strategy:
    """The strategy that ``text`` names: ``NAME`` or ``NAME:PARAMETER=VALUE,PARAMETER=VALUE``.

    ``kind`` is what the table holds, for people ("stop rule"). Names stand as they are, without
    quotes; values hold no comma. ``max_samples`` caps the strategy: it takes the place of the
    default, and lowers a number that ``text`` states but never raises it. ``n`` is short for
    ``max_samples``. Raises UsageError, naming what there is, for a name, parameter or value that
    does not exist.
    """
    name, colon, rest = text.strip().partition(":")
    if name not in table:
        raise UsageError(f"there is no {kind} {name!r}; choose from {', '.join(sorted(table))}")
    known = signature(table[name]).parameters
    given = _parameters(rest, known) if colon else {}
    if max_samples is not None:
        given["max_samples"] = min(given.get("max_samples", max_samples), max_samples)
    return table[name](**given)


def _parameters(rest: str, known: Mapping[str, Parameter]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for part in rest.split(","):
        stated, equals, value = (piece.strip() for piece in part.partition("="))
        parameter = SHORT.get(stated, stated)
        if not equals or parameter not in known:
            listed = ", ".join(f"{name}={_written(known[name].default)}" for name in known)
            ask = f"write {listed}" if known else "it has none"
            raise UsageError(f"{part.strip()!r} is not one of its parameters; {ask}")
        if parameter in given:
            raise UsageError(f"{parameter} is given twice")
        given[parameter] = _value(parameter, value, type(known[parameter].default))
    return given


def _value(name: str, value: str, kind: type[object]) -> object:
    if kind is str:
        return value
    if kind is bool:
        if value.lower() not in FLAGS:
            raise UsageError(f"{name} must be yes or no, not {value!r}")
        return FLAGS[value.lower()]
    try:
        return int(value) if kind is int else float(value)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise UsageError(f"{name} must be {wanted}, not {value!r}") from None


def _written(default: object) -> str:
    return {True: "yes", False: "no"}[default] if isinstance(default, bool) else str(default)
