"""The ranges that parameters of policies may have, and the refusal of anything else.

It does not know which rule asks.
"""

from __future__ import annotations

import numpy as np

from poise.errors import UsageError

__all__ = ["MOST_SAMPLES", "count", "level"]

MOST_SAMPLES = 100_000
"""No rule draws more for one question: beyond it lies a slip of the keyboard, not a policy."""


def count(name: str, value: object, most: int = MOST_SAMPLES) -> int:
    """``value`` as a plain int in 1..``most``; raises UsageError, naming it ``name``."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise UsageError(f"{name}={value!r}: must be a whole number, 1 to {most}")
    if not 1 <= value <= most:
        raise UsageError(f"{name}={value}: must be from 1 to {most}")
    return int(value)


def level(value: object, least: float = 0, most: float = 1, *, short: bool = False) -> float:
    """A threshold as a plain float from ``least`` to ``most``, ``short`` of it if said so.

    Raises UsageError, which never lets a truth value pass for a number.
    """
    number = isinstance(value, float | int | np.floating) and not isinstance(value, bool)
    if number and least <= value <= most and not (short and value == most):  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    upper = "below" if short else "at most"
    raise UsageError(f"threshold={value!r}: must be at least {least:g} and {upper} {most:g}")
