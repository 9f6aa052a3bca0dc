"""The ranges that parameters of votes may have, and the refusal of anything else.

It does not know which vote asks.
"""

from __future__ import annotations

import numpy as np

from poise.errors import UsageError

__all__ = ["within"]


def within(name: str, value: object, least: float, most: float) -> float:
    """``value`` as a plain float from ``least`` to ``most``; raises UsageError, naming it."""
    number = isinstance(value, float | int | np.floating) and not isinstance(value, bool)
    if not number or not least <= value <= most:  # type: ignore[operator]
        raise UsageError(f"{name}={value!r}: must be a number from {least:g} to {most:g}")
    return float(value)  # type: ignore[arg-type]
