"""The order of training rows: at random, but so that every batch spans the targets.

In plain random batches the mean target varies, and what all rows have in common (the base rate)
takes most of every step. Here a batch has one row of each of its many equal slices of the targets,
so that steps are left for telling rows apart. It does not know what a row holds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch.utils.data import Sampler

__all__ = ["Spanning", "spanning"]


def spanning(targets: Sequence[float], batch: int, seed: str) -> list[int]:
    """Every place of ``targets`` once: consecutive ``batch`` places have a row of each slice.

    Slices are of consecutive ranks, as many in each as there are full batches. Rows that fill no
    batch come last, drawn evenly over the ranks. The same seed gives the same order.
    """
    rng = random.Random(seed)  # noqa: S311 - a seeded draw, not a secret
    ranked = sorted(range(len(targets)), key=lambda place: (targets[place], rng.random()))
    batches, odd = divmod(len(ranked), batch)
    edges = [number * len(ranked) // max(1, odd) for number in range(odd + 1)]
    apart = [rng.randrange(low, high) for low, high in pairwise(edges)]
    last = [ranked.pop(rank) for rank in reversed(apart)]
    slices = [ranked[number * batches : (number + 1) * batches] for number in range(batch)]
    for each in slices:
        rng.shuffle(each)
    return [each[number] for number in range(batches) for each in slices] + last


class Spanning(Sampler[int]):
    """``spanning`` of the targets, in another order each epoch."""

    def __init__(self, targets: Sequence[float], batch: int, seed: int):
        self._targets, self._batch, self._seed = list(targets), batch, seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._targets)

    def __iter__(self) -> Iterator[int]:
        return iter(spanning(self._targets, self._batch, f"{self._seed}:{self._epoch}"))

    def set_epoch(self, epoch: int) -> None:
        """Called by the loop before each epoch, also on resuming."""
        self._epoch = epoch
