"""How many questions each group gives, in proportion to its weight and within what it has.

Knows nothing about questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from poise.errors import RefusedError, UsageError

__all__ = ["shares"]


def shares(count: int, weights: Sequence[int], available: Sequence[int]) -> list[int]:
    """Split ``count`` over groups by largest remainder; what a group lacks, the others give.

    ``weights`` (g,) > 0; ``available`` (g,) >= 0. Returns (g,) counts that sum to ``count``, each
    at most what is available. Raises UsageError for ``count`` < 1, and RefusedError where there
    are fewer than ``count`` in all.
    """
    if count < 1:
        raise UsageError(f"asked for {count} questions; ask for at least 1")
    if count > sum(available):
        raise RefusedError(f"asked for {count} questions, and there are only {sum(available)}")
    given = [0] * len(weights)
    left, growing = count, list(range(len(weights)))
    while True:
        total = sum(weights[g] for g in growing)
        quotas = {g: Fraction(left * weights[g], total) for g in growing}
        full = [g for g in growing if quotas[g] >= available[g]]
        if not full:
            break
        for group in full:
            given[group] = available[group]
        left = count - sum(given)
        growing = [g for g in growing if g not in full]
    for group in growing:
        given[group] = int(quotas[group])
    by_remainder = sorted(growing, key=lambda g: int(quotas[g]) - quotas[g])
    for group in by_remainder[: count - sum(given)]:
        given[group] += 1
    return given
