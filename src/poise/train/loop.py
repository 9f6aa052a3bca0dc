"""What every training run has in common: its loop's settings, its checkpoints, when it gives up.

transformers' own Trainer runs the loop. It does not know losses, rows or what a step records.
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

from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from poise.errors import UsageError
from poise.train.model import Loaded

__all__ = [
    "Guard",
    "Loop",
    "Records",
    "Told",
    "Trained",
    "Watch",
    "arguments",
    "ended",
    "last_checkpoint",
    "work",
]

BETA2 = 0.95
"""Of AdamW: its usual .999 remembers the large first steps, towards the base rate, for the whole of
a short run, and takes small ones ever after."""

Records = Sequence[Mapping[str, Any]]
"""What a Trainer logged, in order."""

Told = Callable[[Mapping[str, Any], int], None]
"""Hears the record of each optimizer step, and how many steps there will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """How rows are gone through. Raises UsageError for values that make no sense.

    A step takes ``batch`` x ``accumulation`` rows. ``lr``: the peak, reached after the share
    ``warmup`` of the steps. ``check_every`` steps the watch is asked (0: never), ``save_every``
    steps a checkpoint is written. ``mixed``: products in bfloat16, weights as they are.
    ``report_to``: trackers by transformers' names, such as trackio, wandb or mlflow.
    """

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
        for name in ("batch", "accumulation", "save_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)}: must be at least 1")
        if not (0 < self.lr < math.inf and 0 < self.epochs < math.inf):
            raise UsageError(f"lr={self.lr}, epochs={self.epochs}: must be above 0")
        if not (0 <= self.warmup < 1 and self.check_every >= 0):
            raise UsageError(
                f"warmup={self.warmup}, check_every={self.check_every}: must be at least 0, and"
                " warmup below 1"
            )
        known = sorted(INTEGRATION_TO_CALLBACK)
        installed = get_available_reporting_integrations()  # type: ignore[no-untyped-call]
        for name in self.report_to:
            if name not in known:
                raise UsageError(f"there is no tracker {name!r}; choose from {', '.join(known)}")
            if name not in installed:
                raise UsageError(f"the tracker {name} is not installed: pip install {name}")

    def steps(self, rows: int) -> int:
        """Optimizer steps for so many rows."""
        an_epoch = math.ceil(math.ceil(rows / self.batch) / self.accumulation)
        return math.ceil(self.epochs * an_epoch)


def arguments(loop: Loop, loaded: Loaded, folder: str | Path) -> dict[str, Any]:
    """The loop in the words of transformers' TrainingArguments."""
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": loop.batch,
        "gradient_accumulation_steps": loop.accumulation,
        "num_train_epochs": loop.epochs,
        "learning_rate": loop.lr,
        "lr_scheduler_type": "cosine",
        "warmup_steps": loop.warmup,
        "optim": "adamw_torch",
        "adam_beta2": BETA2,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": loop.save_every,
        "save_total_limit": 2,
        "report_to": list(loop.report_to) or "none",
        "seed": loop.seed,
        "data_seed": loop.seed,
        "use_cpu": loaded.device.type == "cpu",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


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


class Guard(TrainerCallback):
    """Tells of every step, and stops a run that has gone wrong.

    ``steps`` picks the records of optimizer steps from a log; ``failed`` says of these what is
    wrong, None where nothing is. ``watch`` is asked every ``check_every`` steps.
    """

    def __init__(
        self,
        told: Told,
        steps: Callable[[Records], tuple[Mapping[str, Any], ...]],
        *,
        failed: Callable[[Records], str | None] = lambda _steps: None,
        watch: Watch | None = None,
        check_every: int = 0,
    ):
        self._told, self.steps, self._failed = told, steps, failed
        self._watch, self._every = watch, check_every
        self.stopped: str | None = None

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the Trainer's signature
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Looks at the record of a step, which stands last in the log."""
        record: dict[str, Any] = state.log_history[-1]
        if "loss" not in record:
            return
        if self._watch is not None and self._every and record["step"] % self._every == 0:
            now = self._watch.now()
            record["accuracy"] = math.fsum(now) / len(now) if now else None
            if self._watch.lost(now):
                self.stopped = "accuracy fell: more answers were lost than chance explains"
        if not math.isfinite(record["loss"]):
            self.stopped = "the loss is no longer a number; lower --lr"
        else:
            self.stopped = self._failed(self.steps(state.log_history)) or self.stopped
        self._told(record, state.max_steps)
        if self.stopped is not None:
            record["stopped"] = self.stopped  # kept in the checkpoint: a resumed run has ended too
            control.should_training_stop = True
            control.should_save = True


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


def ended(
    loaded: Loaded, checkpoint: Path, steps: Callable[[Records], tuple[Mapping[str, Any], ...]]
) -> Trained | None:
    """Training that had come to its end, its weights put back; None where steps are left."""
    state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    done = steps(state["log_history"])
    stopped = done[-1].get("stopped") if done else None
    if stopped is None and state["global_step"] < state["max_steps"]:
        return None
    import peft  # noqa: PLC0415 - needed here alone
    from safetensors.torch import load_file  # noqa: PLC0415

    kept = load_file(checkpoint / "adapter_model.safetensors", device=str(loaded.device))
    peft.set_peft_model_state_dict(loaded.model, kept)
    return Trained(done, stopped, 0.0, state["global_step"])


def work(trainer: Trainer, guard: Guard, checkpoint: Path | None) -> Trained:
    """Train to the end, from ``checkpoint`` if there is one; ``guard`` is among the callbacks."""
    trainer.remove_callback(PrinterCallback)
    started = time.monotonic()
    with warnings.catch_warnings():
        # peft looks for the base's configuration in a folder; that of a .gguf file has none.
        warnings.filterwarnings("ignore", "Could not find a config file", UserWarning)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    resumed = None if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
    steps = guard.steps(trainer.state.log_history)
    return Trained(steps, guard.stopped, time.monotonic() - started, resumed)
