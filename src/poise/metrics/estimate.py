"""A number with its interval, or the reason why there is none.

It does not know how either was computed.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Estimate"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric's value on some rows.

    ``value`` None: it does not exist here (AUROC of one class, say). ``interval`` (low, high), None
    where none was asked for or none can be given. ``reason`` says why either is absent; None where
    nothing is missing that was asked for.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    reason: str | None = None
