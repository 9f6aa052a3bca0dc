"""The range that counts in policies may have, and the refusal of anything else.

It does not know which rule asks.
"""

from __future__ import annotations

import numpy as np

from poise.errors import UsageError

__all__ = ["MOST_SAMPLES", "count"]

MOST_SAMPLES = 100_000
"""No rule draws more for one question: beyond it lies a slip of the keyboard, not a policy."""


def count(name: str, value: object) -> int:
    """``value`` as a plain int in 1..``MOST_SAMPLES``; raises UsageError, naming it ``name``."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise UsageError(f"{name}={value!r}: must be a whole number, 1 to {MOST_SAMPLES}")
    if not 1 <= value <= MOST_SAMPLES:
        raise UsageError(f"{name}={value}: must be from 1 to {MOST_SAMPLES}")
    return int(value)
