"""Majority vote: one sample, one vote.

It does not know how sure any sample is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poise.columns import FloatArray
from poise.types import State
from poise.votes.casting import IntArray, counted, winners

__all__ = ["Majority"]


@dataclass(frozen=True, slots=True)
class Majority:
    """Most votes win; a tie goes to the cluster seen first in dispatch order.

    Source: self-consistency, Wang et al. 2022, arXiv 2203.11171.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def elect(self, state: State) -> int | None:
        """The winning cluster, or None where no sample could be read."""
        # Clusters are numbered by first appearance and max() keeps the first of equals.
        return max(range(len(state.counts)), key=state.counts.__getitem__, default=None)

    def elect_all(
        self,
        prefixes: IntArray,
        n: IntArray,
        values: Mapping[str, FloatArray] | None = None,  # noqa: ARG002
    ) -> IntArray:
        """Winners (m,) of the first ``n`` samples, -1 for none; arrays as in ``Vote.elect_all``."""
        elected = np.full(len(prefixes), -1, np.int64)
        for rows, block, readable in counted(prefixes, n):
            elected[rows] = winners(block, readable)
        return elected
