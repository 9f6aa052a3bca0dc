"""The stop rule of plain self-consistency: always the same number of samples.

It does not look at the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poise.columns import FloatArray
from poise.policies.bounds import count
from poise.policies.running import IntArray, columns_of
from poise.types import Draw, State, Stop, StopReason

__all__ = ["Fixed"]


@dataclass(frozen=True, slots=True)
class Fixed:
    """Draws ``max_samples`` (1..100,000) at once and stops when all are there.

    Source: self-consistency, Wang et al. 2022, arXiv 2203.11171. Raises UsageError for a number of
    samples out of range.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    max_samples: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_samples", count("max_samples", self.max_samples))

    def decide(self, state: State) -> Draw | Stop:
        """All that is still missing, then ``fixed`` (``single`` where one sample was the plan)."""
        missing = self.max_samples - state.n
        if missing > 0:
            return Draw(missing)
        return Stop(StopReason.SINGLE if self.max_samples == 1 else StopReason.FIXED)

    def stops(
        self,
        prefixes: IntArray,
        values: Mapping[str, FloatArray] | None = None,  # noqa: ARG002
    ) -> IntArray:
        """``min(N, max_samples)`` for each of the (m, N) prefixes, as (m,)."""
        return np.full(len(prefixes), columns_of(prefixes, self.max_samples), np.int64)
