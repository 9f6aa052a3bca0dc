"""Confidence training: LoRA on a confidence loss and a generation loss, resumable step by step.

Loss of a batch = mean over its rows of [confidence loss + weight x generation loss], the second
only on rows that have a response to keep (those whose target is above the threshold). transformers'
own Trainer runs the loop, so checkpoints, schedules, several devices and reporting are its own; a
resumed run goes on with the same rows, optimizer and random state, and ends with the same weights.
It does not know pools, wordings or files beyond its own folder.

Source: Self-Calibration, Huang et al. 2025, arXiv 2503.00031.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from poise.errors import RefusedError, UsageError
from poise.train.batches import Item, collate, fill_token, last_logits, response_logits
from poise.train.losses import LOSSES, Levels, generation, shares
from poise.train.model import Loaded

__all__ = ["Settings", "Trained", "Watch", "batch_loss", "last_checkpoint", "steps_of", "train"]

WINDOW = 10
"""Steps that a collapse of the confidences is judged on."""

FLAT = 0.15
"""Confidences have collapsed when they spread less than this share of their targets' spread."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is trained and how. Raises UsageError for values that make no sense.

    ``weight`` of the generation loss (omega), at least 0. A step takes ``batch`` x ``accumulation``
    rows. ``check_every`` steps the watch is asked (0: never), ``save_every`` steps a
    checkpoint is written. ``mixed``: products in bfloat16, weights as they are. ``report_to``:
    trackers by transformers' names, such as trackio, wandb or mlflow.
    """

    loss: str = "smooth"
    weight: float = 0.1
    lr: float = 5e-5
    epochs: float = 1.0
    batch: int = 16
    accumulation: int = 1
    warmup: float = 0.03
    save_every: int = 20
    check_every: int = 0
    seed: int = 0
    mixed: bool = False
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UsageError(f"loss {self.loss!r}: must be one of {', '.join(LOSSES)}")
        least_one = {
            "batch": self.batch,
            "accumulation": self.accumulation,
            "save_every": self.save_every,
        }
        for name, value in least_one.items():
            if value < 1:
                raise UsageError(f"{name}={value}: must be at least 1")
        if not (0 < self.lr < math.inf and 0 < self.epochs < math.inf):
            raise UsageError(f"lr={self.lr}, epochs={self.epochs}: must be above 0")
        if not (0 <= self.weight < math.inf and 0 <= self.warmup < 1 and self.check_every >= 0):
            raise UsageError(
                f"weight={self.weight}, warmup={self.warmup}, check_every={self.check_every}:"
                " must be at least 0, and warmup below 1"
            )

    def steps(self, rows: int) -> int:
        """Optimizer steps for so many rows."""
        an_epoch = math.ceil(math.ceil(rows / self.batch) / self.accumulation)
        return math.ceil(self.epochs * an_epoch)


@dataclass(frozen=True, slots=True)
class Trained:
    """What happened: a record of every step, and why it ended early (None: it did not).

    ``seconds`` of this process alone; ``resumed`` the step it went on from, None from the start.
    """

    steps: tuple[Mapping[str, Any], ...]
    stopped: str | None
    seconds: float
    resumed: int | None


@dataclass(frozen=True, slots=True)
class Watch:
    """A look at the replies during training: ``now`` gives each question's 0 or 1, greedily.

    ``before``: the same of the untrained model.
    """

    before: tuple[float, ...]
    now: Callable[[], tuple[float, ...]]

    def lost(self, now: Sequence[float]) -> bool:
        """Whether more answers were lost than chance explains (McNemar, two standard errors)."""
        worse = sum(a > b for a, b in zip(self.before, now, strict=True))
        better = sum(a < b for a, b in zip(self.before, now, strict=True))
        return worse - better > 2 * math.sqrt(worse + better)


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


class _Guard(TrainerCallback):
    """Tells of every step, and stops a run that has collapsed."""

    def __init__(
        self,
        told: Callable[[Mapping[str, Any], int], None],
        watch: Watch | None,
        check_every: int,
    ):
        self._told, self._watch, self._every = told, watch, check_every
        self.stopped: str | None = None

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the Trainer's signature
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        record: dict[str, Any] = state.log_history[-1]
        if "loss" not in record:
            return
        last = state.global_step >= state.max_steps
        if self._watch is not None and self._every and record["step"] % self._every == 0:
            now = self._watch.now()
            record["accuracy"] = math.fsum(now) / len(now) if now else None
            if self._watch.lost(now):
                self.stopped = "accuracy fell: more answers were lost than chance explains"
        if not math.isfinite(record["loss"]):
            self.stopped = "the loss is no longer a number; lower --lr"
        elif flat(steps_of(state.log_history)):
            self.stopped = "the confidences became constant while their targets differ"
        self._told(record, state.max_steps)
        if self.stopped is not None and not last:
            record["stopped"] = self.stopped  # kept in the checkpoint: a resumed run has ended too
            control.should_training_stop = True
            control.should_save = True


def steps_of(history: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """The records of optimizer steps in a Trainer's log."""
    return tuple(record for record in history if "loss" in record and "p" in record)


def flat(steps: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last ``WINDOW`` steps' confidences hardly differ, and their targets do.

    Also measured against the first ``WINDOW`` steps: many an untrained model starts out flat.
    """
    if len(steps) < 2 * WINDOW:
        return False
    start, now = _spread(steps[:WINDOW], "p"), _spread(steps[-WINDOW:], "p")
    wanted = _spread(steps[-WINDOW:], "target")
    return wanted > 0.05 and now < FLAT * wanted and now < 0.5 * start


def _spread(steps: Sequence[Mapping[str, Any]], name: str) -> float:
    rows = sum(step["rows"] for step in steps)
    mean = math.fsum(step[name] * step["rows"] for step in steps) / rows
    square = math.fsum(step[f"{name}_square"] * step["rows"] for step in steps) / rows
    return math.sqrt(max(0.0, square - mean * mean))


def last_checkpoint(folder: str | Path) -> Path | None:
    """The last checkpoint in a folder that was written whole, None where there is none."""
    whole: list[tuple[int, Path]] = []
    for place in Path(folder).glob("checkpoint-*"):
        try:
            step = json.loads((place / "trainer_state.json").read_text("utf-8"))["global_step"]
        except (OSError, ValueError, KeyError):
            continue  # killed while it was written: the state is its last file
        whole.append((step, place))
    return max(whole)[1] if whole else None


def train(
    loaded: Loaded,
    items: Sequence[Item],
    levels: Levels,
    settings: Settings,
    folder: str | Path,
    *,
    told: Callable[[Mapping[str, Any], int], None] = lambda _record, _steps: None,
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
    ended = None if checkpoint is None else _ended(loaded, checkpoint)
    if ended is not None:
        return ended
    guard = _Guard(told, watch, settings.check_every)
    fill = fill_token(loaded.tokenizer)
    trainer = _Trainer(
        levels,
        settings,
        model=loaded.model,
        args=_arguments(loaded, settings, folder),
        train_dataset=_Rows(items),
        data_collator=lambda rows: collate(rows, fill),
        callbacks=[guard],
    )
    trainer.remove_callback(PrinterCallback)
    started = time.monotonic()
    with warnings.catch_warnings():
        # peft looks for the base's configuration in a folder; that of a .gguf file has none.
        warnings.filterwarnings("ignore", "Could not find a config file", UserWarning)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    steps = steps_of(trainer.state.log_history)
    resumed = None if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
    return Trained(steps, guard.stopped, time.monotonic() - started, resumed)


def _ended(loaded: Loaded, checkpoint: Path) -> Trained | None:
    """Training that had come to its end, its weights put back; None where steps are left."""
    state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    steps = steps_of(state["log_history"])
    stopped = steps[-1].get("stopped") if steps else None
    if stopped is None and state["global_step"] < state["max_steps"]:
        return None
    import peft  # noqa: PLC0415 - needed here alone
    from safetensors.torch import load_file  # noqa: PLC0415

    kept = load_file(checkpoint / "adapter_model.safetensors", device=str(loaded.device))
    peft.set_peft_model_state_dict(loaded.model, kept)
    return Trained(steps, stopped, 0.0, state["global_step"])


def _arguments(loaded: Loaded, settings: Settings, folder: str | Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=settings.epochs,
        learning_rate=settings.lr,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup,
        optim="adamw_torch",
        max_grad_norm=1.0,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=2,
        report_to=list(settings.report_to) or "none",
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=loaded.device.type == "cpu",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        label_names=[],
    )
