"""Calibrators as JSON: a few numbers under a name and a schema, read back with suspicion.

What is read is data from a file: every number is checked for kind, range and shape before it
becomes part of a calibrator. It does not know the calibrators; the table of names is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poise.calibrators.rows import FloatArray
from poise.errors import InputError

__all__ = ["SCHEMA", "Fields"]

SCHEMA = 1
"""Version of the layout; a higher one was written by a later Poise and is refused."""


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object, read key by key; every method raises InputError, saying where.

    ``where`` names the object in messages.
    """

    where: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, where: str, value: Any, keys: set[str] | None = None) -> Fields:
        """``value`` as an object, with exactly ``keys`` where they are given."""
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: {_shown(value)} is not an object")
        if keys is not None and (odd := keys ^ set(value)):
            named = ", ".join(sorted(map(str, odd)))
            raise InputError(f"{where}: missing or unknown keys: {named}")
        return cls(where, value)

    def get(self, key: str) -> Any:
        """The value as it stands."""
        if key not in self.values:
            raise InputError(f"{self.where}: {key} is missing")
        return self.values[key]

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number in [low, high]."""
        return self._number(key, self.get(key), low, high)

    def optional(self, key: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """The same, or None."""
        return None if self.get(key) is None else self.number(key, low, high)

    def count(self, key: str, low: int) -> int:
        """A whole number, at least ``low``."""
        value = self.number(key, low)
        if not value.is_integer():
            raise InputError(f"{self.where}: {key} is {value!r}, not a whole number")
        return int(value)

    def numbers(
        self,
        key: str,
        length: int | None = None,
        low: float = -math.inf,
        high: float = math.inf,
        *,
        rising: bool = False,
    ) -> FloatArray:
        """A list of finite numbers in [low, high], (length,) where given, else at least one.

        ``rising``: none may be below the one before it.
        """
        found = self.sequence(key)
        if len(found) != length if length is not None else not found:
            wanted = "at least one" if length is None else str(length)
            raise InputError(f"{self.where}: {key} holds {len(found)} numbers, not {wanted}")
        array = np.array([self._number(key, value, low, high) for value in found])
        if rising and (np.diff(array) < 0).any():
            raise InputError(f"{self.where}: {key} must not fall")
        return array

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise InputError(f"{self.where}: {key} is {_shown(value)}, not true or false")
        return value

    def word(self, key: str, known: Sequence[str] | None = None) -> str:
        """A text, one of ``known`` where they are given."""
        value = self.get(key)
        if not isinstance(value, str) or (known is not None and value not in known):
            wanted = "a text" if known is None else f"one of {', '.join(known)}"
            raise InputError(f"{self.where}: {key} is {_shown(value)}, not {wanted}")
        return value

    def sequence(self, key: str) -> Sequence[Any]:
        """A list."""
        value = self.get(key)
        if not isinstance(value, list | tuple):
            raise InputError(f"{self.where}: {key} is {_shown(value)}, not a list")
        return value

    def _number(self, key: str, value: Any, low: float, high: float) -> float:
        # JSON's true is Python's 1, and a whole number may be too long for a float.
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isfinite(number) and low <= number <= high:
                return number
        within = "" if math.isinf(low) and math.isinf(high) else f" in [{low:g}, {high:g}]"
        raise InputError(f"{self.where}: {key} is {_shown(value)}, not a finite number{within}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
