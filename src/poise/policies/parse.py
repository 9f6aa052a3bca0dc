"""Policies as people write them: ``beta``, ``beta:threshold=0.9``, ``window:width=5,n=40``.

It does not know what the parameters mean: names and types come from the rule's signature, and the
rule itself refuses values that make no sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any, TypeVar

from poise.errors import UsageError

__all__ = ["parse_rule"]

SHORT = {"n": "max_samples"}
"""Parameters that have a short spelling."""

Rule = TypeVar("Rule")


def parse_rule(text: str, rules: Mapping[str, type[Rule]], max_samples: int | None) -> Rule:
    """The rule that ``text`` names: ``NAME`` or ``NAME:PARAMETER=VALUE,PARAMETER=VALUE``.

    ``max_samples`` caps the rule: it takes the place of the rule's default, and lowers a number
    that ``text`` states but never raises it. ``n`` is short for ``max_samples``. Raises UsageError,
    naming what there is, for a rule, parameter or value that does not exist.
    """
    name, colon, rest = text.strip().partition(":")
    if name not in rules:
        raise UsageError(
            f"policy {text!r}: there is no stop rule {name!r}; choose from "
            f"{', '.join(sorted(rules))}"
        )
    known = signature(rules[name]).parameters
    given = _parameters(text, rest, known) if colon else {}
    if max_samples is not None:
        given["max_samples"] = min(given.get("max_samples", max_samples), max_samples)
    try:
        return rules[name](**given)
    except UsageError as error:
        raise UsageError(f"policy {text!r}: {error}") from None


def _parameters(text: str, rest: str, known: Mapping[str, Parameter]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for part in rest.split(","):
        stated, equals, value = (piece.strip() for piece in part.partition("="))
        parameter = SHORT.get(stated, stated)
        if not equals or parameter not in known:
            raise UsageError(
                f"policy {text!r}: {part.strip()!r} is not one of its parameters; write "
                f"{', '.join(f'{name}={known[name].default}' for name in known)}"
            )
        if parameter in given:
            raise UsageError(f"policy {text!r}: {parameter} is given twice")
        given[parameter] = _number(text, parameter, value, type(known[parameter].default))
    return given


def _number(text: str, name: str, value: str, kind: type[int | float]) -> int | float:
    try:
        return kind(value)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise UsageError(f"policy {text!r}: {name} must be {wanted}, not {value!r}") from None
