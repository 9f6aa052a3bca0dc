"""JSON objects, arrays and tool-call arguments, in one canonical order.

Canonical: compact, keys sorted, every number that is whole written as an integer (1.0 is 1), text
unescaped. Tool calls become a list of ``{"arguments": …, "name": …}`` in the order of the calls.

It does not know: schemas, tools, or which fields matter.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn

from poise.answers.markers import final_text
from poise.answers.reading import Unreadable, readable
from poise.types import Reply

__all__ = ["Json"]

DEEPEST = 64
"""Most levels of nesting; a parser's own limit depends on the caller's stack."""

STARTS = 200
"""Most places in a text where JSON is looked for, which bounds the time on hostile replies."""

LONGEST = 320
"""Most characters of a number, as many as the whole part of the largest double needs."""

_FENCE = re.compile(r"^[ \t]*+```[\w+-]*+[ \t]*+\n(.*?)^[ \t]*+```", re.DOTALL | re.MULTILINE)
_START = re.compile(r"[{\[]")


class Json:
    """The kind ``json``."""

    slow = False

    @readable
    def read(self, reply: Reply, options: tuple[str, ...] | None) -> str:  # noqa: ARG002
        """The reply's tool calls, else the first object or array in its text."""
        if reply.tool_calls:
            return _canonical([_call(call) for call in reply.tool_calls])
        text = final_text(reply)
        for passage in (*_FENCE.findall(text), text):
            found = _first(passage)
            if found is not None:
                return _canonical(found)
        raise Unreadable("the reply holds no complete JSON object or array")

    def same(self, a: str, b: str) -> bool:
        """Whether the two canonical texts are identical."""
        return a == b


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """One tool call in OpenAI's shape, its arguments parsed."""
    function = call.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str):
        raise Unreadable("a tool call without a function name")
    # Servers send "" or nothing for a function without parameters.
    given = function.get("arguments") or "{}"
    try:
        text = given.strip() if isinstance(given, str) else json.dumps(given)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unreadable(f"the arguments of {name} are not JSON") from error
    decoded = _decode(text, 0)
    if decoded is None or decoded[1] != len(text) or not isinstance(decoded[0], dict):
        raise Unreadable(f"the arguments of {name} are not one JSON object")
    return {"name": name, "arguments": decoded[0]}


def _first(text: str) -> dict[str, Any] | list[Any] | None:
    for start, _ in zip(_START.finditer(text), range(STARTS), strict=False):
        decoded = _decode(text, start.start())
        if decoded is not None:
            value: dict[str, Any] | list[Any] = decoded[0]
            return value
    return None


def _decode(text: str, start: int) -> tuple[Any, int] | None:
    """The JSON value at ``start`` and where it ends; None where there is none.

    Raises Unreadable for JSON whose meaning is open: doubled keys, NaN, numbers out of range.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except RecursionError as error:
        raise Unreadable(f"JSON nested deeper than {DEEPEST} levels") from error
    except json.JSONDecodeError:
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise Unreadable("a JSON object with a key that occurs twice")
    return unique


def _whole(digits: str) -> int:
    if len(digits) > LONGEST:
        raise Unreadable("a JSON number out of range")
    return int(digits)


def _real(written: str) -> int | float:
    """A number with a point or an exponent; whole ones are exact integers."""
    value = float(written)
    if math.isinf(value):
        raise Unreadable("a JSON number out of range")
    if len(written) <= LONGEST:
        exact = Decimal(written)
        if exact == exact.to_integral_value():
            return int(exact)
    return int(value) if value.is_integer() else value


def _constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_real, parse_constant=_constant
)


def _canonical(value: Any) -> str:
    _check_depth(value)
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        written.encode()
    except UnicodeEncodeError as error:
        raise Unreadable("a JSON string with half a surrogate pair") from error
    return written


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise Unreadable(f"JSON nested deeper than {DEEPEST} levels")
