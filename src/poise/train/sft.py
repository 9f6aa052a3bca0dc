"""Confidence training: LoRA on a confidence loss and a generation loss, resumable step by step.

Loss of a batch = mean over its rows of [confidence loss + weight x generation loss], the second
only on rows that have a response to keep (those whose target is above the threshold). transformers'
own Trainer runs the loop, so checkpoints, schedules, several devices and reporting are its own; a
resumed run goes on with the same rows, optimizer and random state, and ends with the same weights.
It does not know pools, wordings or files beyond its own folder.

Source: Self-Calibration, Huang et al. 2025, arXiv 2503.00031.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from poise.errors import RefusedError, UsageError
from poise.train.batches import Item, collate, fill_token, last_logits, response_logits
from poise.train.loop import (
    Guard,
    Loop,
    Records,
    Told,
    Trained,
    Watch,
    arguments,
    ended,
    last_checkpoint,
    work,
)
from poise.train.losses import LOSSES, Levels, generation, shares
from poise.train.model import Loaded
from poise.train.order import Spanning

__all__ = [
    "Settings",
    "Trained",
    "Watch",
    "batch_loss",
    "last_checkpoint",
    "steps_of",
    "train",
]

WINDOW = 100
"""Steps that a collapse is judged on: a model finds its base rate before it tells rows apart, and
stayed there for 60 steps in a run that then learnt (docs/log.md)."""

FLAT = 0.15
"""Confidences have collapsed when they spread less than this share of their targets' spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Loop):
    """What is trained and how. Raises UsageError for values that make no sense.

    ``weight`` of the generation loss (omega), at least 0; the rest as in ``Loop``.
    """

    loss: str = "smooth"
    weight: float = 0.1

    def __post_init__(self) -> None:
        # No super(): a slotted dataclass is made anew, and the bare form would name the old class.
        Loop.__post_init__(self)
        if self.loss not in LOSSES:
            raise UsageError(f"loss {self.loss!r}: must be one of {', '.join(LOSSES)}")
        if not 0 <= self.weight < math.inf:
            raise UsageError(f"weight={self.weight}: must be a finite number of at least 0")


def batch_loss(
    model: Any, batch: Mapping[str, Tensor], levels: Levels, settings: Settings
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch made by ``collate``, and what it is made of.

    The parts, detached: ``p`` and ``mass`` (m,), ``confidence_loss`` (m,), ``generation_loss``
    (g,), g rows with a response (absent with none, or with ``weight`` 0).
    """
    target = batch["target"]
    mixed, weight = settings.mixed, settings.weight
    logits = last_logits(model, batch["ids"], batch["mask"], mixed=mixed)[:, -1]
    share, mass = shares(logits, levels.tokens)
    value = torch.tensor(levels.values, device=share.device)
    each = LOSSES[settings.loss](share, value, target)
    total = each.sum()
    parts = {"p": share @ value, "mass": mass, "confidence_loss": each, "target": target}
    if weight and "labels" in batch:
        labels = batch["labels"]
        ids, mask = batch["response_ids"], batch["response_mask"]
        said = generation(response_logits(model, ids, mask, labels, mixed=mixed), labels)
        total = total + weight * said.sum()
        parts["generation_loss"] = said
    return total / len(target), {name: part.detach().float() for name, part in parts.items()}


class _Rows(Dataset[Item]):
    def __init__(self, items: Sequence[Item]):
        self._items = items
        self.targets = [item.target for item in items]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: int) -> Item:
        return self._items[place]


class _Trainer(Trainer):
    """transformers' Trainer with this module's loss, its parts in the log of every step."""

    def __init__(self, levels: Levels, settings: Settings, **rest: Any):
        super().__init__(**rest)
        self._levels, self._settings = levels, settings
        # The loss is a mean over the batch: the Trainer divides it by the accumulated batches.
        self.model_accepts_loss_kwargs = False
        self._parts: list[dict[str, Tensor]] = []
        self._since = time.monotonic()

    def _get_train_sampler(self, *_: Any) -> Spanning:
        rows: Any = self.train_dataset
        return Spanning(rows.targets, self._settings.batch, self._settings.seed)

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        loss, parts = batch_loss(model, inputs, self._levels, self._settings)
        self._parts.append(parts)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._parts:
            logs |= _summed(self._parts)
            now = time.monotonic()
            logs["seconds"], self._since = now - self._since, now
            self._parts = []
        super().log(logs, start_time)


def _summed(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    joined: dict[str, list[float]] = {}
    for part in parts:
        for name, values in part.items():
            joined.setdefault(name, []).extend(values.tolist())
    found: dict[str, float] = {"rows": len(joined["p"])}
    for name in ("p", "target"):
        mean = math.fsum(joined[name]) / len(joined[name])
        found[name] = mean
        found[f"{name}_square"] = math.fsum(v * v for v in joined[name]) / len(joined[name])
    found["mass"] = math.fsum(joined["mass"]) / len(joined["mass"])
    found["confidence_loss"] = math.fsum(joined["confidence_loss"]) / len(joined["p"])
    said = joined.get("generation_loss", [])
    found["generation_rows"] = len(said)
    if said:
        found["generation_loss"] = math.fsum(said) / len(said)
    return found


def steps_of(history: Records) -> tuple[Mapping[str, Any], ...]:
    """The records of optimizer steps in a Trainer's log."""
    return tuple(record for record in history if "loss" in record and "p" in record)


def flat(steps: Records, window: int = WINDOW) -> bool:
    """Whether the confidences of the last ``window`` steps hardly differ, and their targets do."""
    if len(steps) < window:
        return False
    now, wanted = (spread(steps[-window:], name) for name in ("p", "target"))
    return wanted > 0.05 and now < FLAT * wanted


def spread(steps: Records, name: str) -> float:
    """Within steps: what moves all rows from step to step tells none apart."""
    rows = sum(step["rows"] for step in steps)
    within = (step["rows"] * (step[f"{name}_square"] - step[name] ** 2) for step in steps)
    return math.sqrt(max(0.0, math.fsum(within) / rows))


def train(
    loaded: Loaded,
    items: Sequence[Item],
    levels: Levels,
    settings: Settings,
    folder: str | Path,
    *,
    told: Told = lambda _record, _steps: None,
    watch: Watch | None = None,
    resume: bool = False,
) -> Trained:
    """Train the adapter of ``loaded`` in place; checkpoints go to ``folder``.

    ``told`` hears the record of each step and the number of steps. ``resume`` goes on from the last
    whole checkpoint, or starts where there is none: the rows, levels and settings must be the same.
    Raises RefusedError without rows or without trainable weights.
    """
    if not items or not any(part.requires_grad for part in loaded.model.parameters()):
        raise RefusedError("nothing to train: no rows, or no trainable weights")
    checkpoint = last_checkpoint(folder) if resume else None
    over = None if checkpoint is None else ended(loaded, checkpoint, steps_of)
    if over is not None:
        return over
    guard = Guard(
        told,
        steps_of,
        failed=partial(_failed, loss=settings.loss),
        watch=watch,
        check_every=settings.check_every,
    )
    fill = fill_token(loaded.tokenizer)
    trainer = _Trainer(
        levels,
        settings,
        model=loaded.model,
        args=TrainingArguments(
            **arguments(settings, loaded, folder), remove_unused_columns=False, label_names=[]
        ),
        train_dataset=_Rows(items),
        data_collator=lambda rows: collate(rows, fill),
        callbacks=[guard],
    )
    return work(trainer, guard, checkpoint)


def _failed(steps: Records, loss: str) -> str | None:
    if not flat(steps):
        return None
    reason = "the confidences became constant while their targets differ"
    if loss != "tokenised_brier":
        return reason
    # Linear in the shares: its constant is one digit, where no gradient is left.
    return f"{reason}; this loss is prone to end on one digit: --loss smooth"
