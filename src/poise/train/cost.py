"""What the data of a training run had taken: samples, tokens and seconds, as the pools state them.

It does not know prices, or what was done with the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poise.pools import Labelled

__all__ = ["generation", "scoring"]


def generation(pools: Sequence[Labelled]) -> dict[str, Any]:
    """What drawing the pools had taken; JSON-ready.

    ``tokens`` of replies and ``seconds`` of requests, added up as if one followed another; None
    where a sample does not state its own. Samples of one question with one seed and equal seconds
    came from one request, whose seconds count once.
    """
    samples = [sample for one in pools for sample in one.pool.samples]
    tokens = [sample.tokens for sample in samples]
    requests: dict[tuple[object, ...], float | None] = {}
    for place, one in enumerate(pools):
        for sample in one.pool.samples:
            alone = sample.index if sample.seed is None else None
            requests[place, sample.seed, alone, sample.seconds] = sample.seconds
    seconds = list(requests.values())
    return {
        "questions": len({one.pool.group for one in pools}),
        "samples": len(samples),
        "tokens": None if None in tokens else sum(t for t in tokens if t is not None),
        "seconds": None if None in seconds else sum(s for s in seconds if s is not None),
    }


def scoring(pools: Sequence[Labelled], name: str) -> int:
    """How many samples carry the reply to a follow-up, or its number, under ``name``."""
    return sum(
        name in sample.followups or sample.signals.get(name) is not None
        for one in pools
        for sample in one.pool.samples
    )
