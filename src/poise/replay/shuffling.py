"""Seeded orders of a pool's samples, the same on every machine, and clusters numbered anew in each.

It does not know pools, labels or policies.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["permutations", "renumbered"]

IntArray = npt.NDArray[np.integer[Any]]


def permutations(
    seed: int, dataset: str, question_id: str, n: int, count: int
) -> npt.NDArray[np.int64]:
    """``count`` permutations of ``range(n)``, (count, n), that depend on nothing but the arguments.

    Philox 4x64-10 (Salmon et al. 2011) under the 128-bit BLAKE2b of (seed, dataset, question_id) as
    JSON gives one raw 64-bit number a place, row after row; a row's order is that of its numbers.
    The first rows are the same whatever ``count`` is.
    """
    name = json.dumps([seed, dataset, question_id]).encode()
    key = int.from_bytes(blake2b(name, digest_size=16).digest())
    raw = np.random.Philox(key=key).random_raw(count * n).reshape(count, n)
    return raw.argsort(axis=1, kind="stable").astype(np.int64)


def renumbered(
    labels: IntArray, grades: npt.NDArray[np.int8]
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int8]]:
    """Number each row's clusters by first appearance, and grade each by its first member.

    ``labels`` (m, N) the cluster of each sample under any numbers >= 0, -1 unreadable; ``grades``
    (m, N) 1, 0, or -1 where not known. Returns ids (m, N), -1 unreadable, and the grade of cluster
    k of row i at (i, k), -1 where it is not known or there is no such cluster.
    """
    m, columns = labels.shape
    # The last slot takes the unreadable: it maps to -1 and is never new.
    slots = int(labels.max(initial=-1)) + 2
    known = np.full(m * slots, -1, np.int16)
    place = np.where(labels < 0, slots - 1, labels) + (np.arange(m) * slots)[:, None]
    ids = np.empty((m, columns), np.int16)
    right = np.full((m, columns), -1, np.int8)
    found = np.zeros(m, np.int16)
    for column in range(columns):
        at = place[:, column]
        new = np.flatnonzero((labels[:, column] >= 0) & (known[at] < 0))
        known[at[new]] = found[new]
        right[new, found[new]] = grades[new, column]
        found[new] += 1
        ids[:, column] = known[at]
    return ids, right
