"""Early-stopping self-consistency (ESC): stop when one whole window of samples agrees.

It does not know how many votes the answers have outside the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poise.columns import FloatArray
from poise.errors import UsageError
from poise.policies.bounds import count
from poise.policies.running import IntArray, blocks, columns_of
from poise.types import Draw, State, Stop, StopReason

__all__ = ["Window"]


@dataclass(frozen=True, slots=True)
class Window:
    """Cuts the samples into windows of ``width`` and stops at the first unanimous one.

    Windows do not overlap: samples 1..width, width + 1..2 width, and so on. One unreadable sample
    breaks its window. ``budget`` at ``max_samples`` (1..100,000, at least ``width``); a rest too
    short for a window is drawn and cannot stop the rule. Source: Li et al. 2024, arXiv 2401.10480.
    Raises UsageError for parameters out of range.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    width: int = 5
    max_samples: int = 40

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", count("width", self.width))
        object.__setattr__(self, "max_samples", count("max_samples", self.max_samples))
        if self.width > self.max_samples:
            raise UsageError(
                f"width={self.width}: no window fits into max_samples={self.max_samples}; "
                "take a narrower window or more samples"
            )

    def decide(self, state: State) -> Draw | Stop:
        """Draws to the end of the first window that can still be unanimous."""
        for start in range(0, state.n - self.width + 1, self.width):
            if _unanimous(state.clusters[start : start + self.width]):
                return Stop(StopReason.CONSENSUS)
        left = self.max_samples - state.n
        if left <= 0:
            return Stop(StopReason.BUDGET)
        begun = state.n % self.width
        ahead = self.width - begun
        if begun and not _unanimous(state.clusters[-begun:]):
            ahead += self.width
        return Draw(min(ahead, left))

    def stops(
        self,
        prefixes: IntArray,
        values: Mapping[str, FloatArray] | None = None,  # noqa: ARG002
    ) -> IntArray:
        """Where ``decide`` stops, (m,), for (m, N) prefixes as in ``StopRule.stops``."""
        columns = columns_of(prefixes, self.max_samples)
        stops = np.full(len(prefixes), columns, np.int64)
        for rows, block in blocks(prefixes, self.max_samples):
            found = stops[rows]
            # From the last window to the first, so that an earlier one overwrites a later one.
            for start in reversed(range(0, columns - self.width + 1, self.width)):
                first = block[:, start].copy()
                same = first >= 0
                for column in range(start + 1, start + self.width):
                    same &= block[:, column] == first
                found[same] = start + self.width
        return stops


def _unanimous(window: tuple[int | None, ...]) -> bool:
    return window[0] is not None and all(cluster == window[0] for cluster in window)
