"""Parting pools by question: one question falls into one part, whatever the model or run.

A part follows from a hash of (seed, dataset, question id) alone, so adding, dropping or reordering
questions moves no other. It does not know what the parts are for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import TypeVar

from poise.errors import UsageError
from poise.pools.pool import Labelled, Pool

__all__ = ["part_of", "split"]

T = TypeVar("T", Pool, Labelled, tuple[str, str])


def split(items: Iterable[T], fractions: Mapping[str, float], seed: int) -> dict[str, list[T]]:
    """Pools, labelled pools or (dataset, question id) pairs by part, in their order.

    ``fractions``: each part's expected share of the questions, > 0, together 1. Every part is in
    the result, be it empty. Raises UsageError for other fractions.
    """
    _check(fractions)
    parts: dict[str, list[T]] = {name: [] for name in fractions}
    for item in items:
        dataset, question_id = _group(item)
        parts[part_of(dataset, question_id, fractions, seed)].append(item)
    return parts


def part_of(dataset: str, question_id: str, fractions: Mapping[str, float], seed: int) -> str:
    """The part a question falls into. Raises UsageError as ``split`` does."""
    _check(fractions)
    name = json.dumps([seed, dataset, question_id]).encode()
    place = int.from_bytes(blake2b(name, digest_size=8).digest()) / 2**64
    edge = 0.0
    for part, fraction in fractions.items():
        edge += fraction
        if place < edge:
            return part
    return list(fractions)[-1]  # the fractions' sum may round to just below 1


def _check(fractions: Mapping[str, float]) -> None:
    total = sum(fractions.values())
    if not all(fraction > 0 for fraction in fractions.values()) or not math.isclose(total, 1):
        raise UsageError(f"fractions {dict(fractions)}: each must be above 0, together 1")


def _group(item: Pool | Labelled | tuple[str, str]) -> tuple[str, str]:
    if isinstance(item, Labelled):
        return item.pool.group
    return item.group if isinstance(item, Pool) else item
