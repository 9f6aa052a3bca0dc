"""What a training run would take: rows, steps, memory, and time from a step that was tried.

It does not know pools or reports.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from poise.train.batches import Item, collate, fill_token
from poise.train.losses import Levels
from poise.train.model import Loaded, count, free_bytes, training_bytes
from poise.train.sft import Settings, batch_loss

__all__ = ["Estimate", "estimate"]

TRIED = 2
"""Batches that are timed, after a small one that warms up."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """``steps`` of so many ``seconds`` each, measured; ``bytes`` needed and ``free``."""

    rows: int
    tokens: int
    steps: int
    seconds_per_step: float
    seconds: float
    trained_parameters: int
    bytes: int
    free: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def estimate(loaded: Loaded, items: Sequence[Item], levels: Levels, settings: Settings) -> Estimate:
    """Try batches spread over the rows, forward and backward; no weight is changed.

    ``loaded`` has its adapter, ``items`` at least one row.
    """
    fill = fill_token(loaded.tokenizer)
    stride = max(1, len(items) // (TRIED * settings.batch))
    spread = items[::stride]
    batches = [spread[: settings.batch][:2]]
    batches += [
        part
        for place in range(TRIED)
        if (part := spread[place * settings.batch : (place + 1) * settings.batch])
    ]
    taken = []
    loaded.model.train()
    for part in batches:
        made = {name: value.to(loaded.device) for name, value in collate(part, fill).items()}
        started = time.perf_counter()
        loss, _ = batch_loss(loaded.model, made, levels, settings)
        loss.backward()  # type: ignore[no-untyped-call]
        loaded.model.zero_grad()
        taken.append((time.perf_counter() - started) / len(part))
    per_step = statistics.fmean(taken[1:]) * settings.batch * settings.accumulation
    steps = settings.steps(len(items))
    rows = [len(item.confidence) for item in items]
    rows += [len(item.response.ids) for item in items if item.response is not None]
    return Estimate(
        rows=len(items),
        tokens=sum(rows),
        steps=steps,
        seconds_per_step=per_step,
        seconds=per_step * steps,
        trained_parameters=count(loaded).trainable,
        bytes=training_bytes(loaded, settings.batch, max(rows)),
        free=free_bytes(loaded.device),
    )
