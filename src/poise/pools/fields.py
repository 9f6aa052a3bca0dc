"""The fields of one row, taken out one by one and checked; what is left over is kept as it is.

Every function raises InputError that names the field and says what belongs there; the file and the
line are added by the reader. A field that is null counts as absent.

It does not know files or which row is which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from poise.errors import InputError
from poise.types import Kind, Message, TokenLogprobs

__all__ = ["Fields", "logprobs_record", "read_logprobs"]

MAX_OPTIONS = 26
"""Options are named by the letters A to Z."""


class Fields:
    """One row's fields; each is taken once, and ``rest`` is what nobody took.

    ``where`` is put before a field's name in messages (``samples[3].``).
    """

    __slots__ = ("_row", "_where")

    def __init__(self, row: Mapping[str, Any], where: str = ""):
        self._row, self._where = dict(row), where

    def rest(self) -> dict[str, Any]:
        """Fields that were not taken."""
        return self._row

    def states(self, name: str) -> bool:
        """Whether the row has this field, be it null."""
        return name in self._row

    def take(self, name: str) -> Any:
        """The field as it is, None where absent."""
        return self._row.pop(name, None)

    def wrong(self, name: str, value: Any, wanted: str) -> InputError:
        """The error for a field that holds something else than what is wanted."""
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return InputError(f"{self._where}{name} is {shown}; it should be {wanted}")

    def text(self, name: str) -> str | None:
        """A string, the empty one included."""
        value = self.take(name)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(name, value, "a string")

    def name(self, name: str) -> str | None:
        """A non-empty string that names something; a whole number becomes its digits."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return str(value)
        if isinstance(value, str) and value and "\0" not in value:
            return value
        raise self.wrong(name, value, "a non-empty string or a whole number")

    def required(self, name: str) -> str:
        """As ``name``, and it must be there."""
        value = self.name(name)
        if value is None:
            raise InputError(f"{self._where}{name} is missing")
        return value

    def whole(self, name: str) -> int | None:
        """A whole number >= 0 (Parquet may carry it as a float)."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
            return value
        raise self.wrong(name, value, "a whole number >= 0")

    def amount(self, name: str) -> float | None:
        """A finite number >= 0."""
        value = self.take(name)
        if value is None:
            return None
        amount = _number(value)
        if amount is None or amount < 0:
            raise self.wrong(name, value, "a finite number >= 0")
        return amount

    def mapping(self, name: str) -> dict[str, Any] | None:
        """A JSON object."""
        value = self.take(name)
        if value is None or isinstance(value, dict):
            return value
        raise self.wrong(name, value, "a JSON object")

    def signals(self) -> dict[str, float | None]:
        """``signals``: names with finite numbers or null; {} where absent."""
        signals: dict[str, float | None] = {}
        for name, value in (self.mapping("signals") or {}).items():
            number = _number(value)
            if number is None and value is not None:
                raise self.wrong(f"signals.{name}", value, "a finite number or null")
            signals[name] = number
        return signals

    def logprobs(self) -> TokenLogprobs | None:
        """``logprobs`` in the compact form of ``read_logprobs``."""
        value = self.take("logprobs")
        try:
            return None if value is None else read_logprobs(value)
        except InputError as error:
            raise InputError(self._where + error.problem) from None

    def kind(self) -> Kind | None:
        """``kind``: one of the answer kinds."""
        value = self.take("kind")
        if value is None:
            return None
        try:
            return Kind(value)
        except (ValueError, TypeError):
            raise self.wrong("kind", value, "one of " + ", ".join(Kind)) from None

    def options(self) -> tuple[str, ...] | None:
        """``options``: the texts of a choice, A first."""
        value = self.take("options")
        if value is None:
            return None
        strings = isinstance(value, list) and all(isinstance(option, str) for option in value)
        if not strings or not 2 <= len(value) <= MAX_OPTIONS:
            raise self.wrong("options", value, f"a list of 2 to {MAX_OPTIONS} strings")
        return tuple(value)

    def messages(self) -> tuple[Message, ...] | None:
        """``question`` (one user turn) or ``messages`` (a conversation); both is an error."""
        question, messages = self.text("question"), self.take("messages")
        if question is not None and messages is not None:
            raise InputError("question and messages are both there; keep one")
        if question is not None:
            if not question.strip():
                raise InputError("question is empty")
            return ({"role": "user", "content": question},)
        if messages is None:
            return None
        if not isinstance(messages, list) or not messages:
            raise self.wrong("messages", messages, "a non-empty list of messages")
        for index, message in enumerate(messages):
            if not _is_message(message):
                wanted = 'an object with "role" and "content" (a string, or a list of parts)'
                raise self.wrong(f"messages[{index}]", message, wanted)
        last = messages[-1]["content"]
        if isinstance(last, str) and not last.strip():
            raise InputError("the last of the messages is empty")
        return tuple(messages)


def _number(value: Any) -> float | None:
    """A finite float, or None where ``value`` is no such number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _is_message(message: Any) -> bool:
    if not isinstance(message, dict):
        return False
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        return False
    if isinstance(content, list):
        return bool(content) and all(isinstance(part, dict) for part in content)
    return isinstance(content, str)


def logprobs_record(logprobs: TokenLogprobs) -> dict[str, Any]:
    """The compact JSON form: ``{"tokens", "chosen", "top"?: [[[text, logprob], …], …]}``."""
    record: dict[str, Any] = {"tokens": list(logprobs.tokens), "chosen": list(logprobs.chosen)}
    if logprobs.top is not None:
        record["top"] = [[list(pair) for pair in pairs] for pairs in logprobs.top]
    return record


def read_logprobs(record: Any) -> TokenLogprobs:
    """Inverse of ``logprobs_record``: equal lengths, every log-probability finite and <= 0.

    Raises InputError, without a place, where it is anything else (unknown keys included).
    """
    if not isinstance(record, dict) or not {"tokens", "chosen"} <= set(record) <= {
        "tokens",
        "chosen",
        "top",
    }:
        raise InputError("logprobs should be an object of tokens, chosen and, if known, top")
    tokens, chosen, top = record["tokens"], record["chosen"], record.get("top")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise InputError("logprobs.tokens should be a list of strings")
    if not isinstance(chosen, list) or len(chosen) != len(tokens):
        raise InputError("logprobs.chosen should be a list with one number for each token")
    if top is not None and (not isinstance(top, list) or len(top) != len(tokens)):
        raise InputError("logprobs.top should be a list with one list for each token")
    return TokenLogprobs(
        tuple(tokens),
        tuple(_logprob(value, "chosen") for value in chosen),
        None if top is None else tuple(_alternatives(pairs) for pairs in top),
    )


def _logprob(value: Any, name: str) -> float:
    number = _number(value)
    if number is None or number > 0:
        raise InputError(f"logprobs.{name} holds {value!r:.40}; a log-probability is <= 0")
    return number


def _alternatives(pairs: Any) -> tuple[tuple[str, float], ...]:
    if not isinstance(pairs, list):
        raise InputError(
            "logprobs.top should hold a list of [text, log-probability] for each token"
        )
    found = []
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise InputError("logprobs.top should hold pairs of [text, log-probability]")
        found.append((pair[0], _logprob(pair[1], "top")))
    return tuple(found)
