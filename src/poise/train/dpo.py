"""Preference training: LoRA by direct preference optimisation, resumable step by step.

Loss of a pair = -log sigmoid(beta (d_chosen - d_rejected)), d = log-probability of the response
under the adapter less that under the base. TRL's DPOTrainer computes it, on rows that are made
here: TRL would tokenise prompt and response in one piece, which is not how they were drawn. It does
not know pools, confidences or reports.

Source: Rafailov et al. 2023, arXiv 2305.18290.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from poise.errors import RefusedError, UsageError
from poise.train.estimate import TRIED, Estimate
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
from poise.train.model import Loaded, count, free_bytes, training_bytes
from poise.train.pairs import PairRow

__all__ = ["Settings", "estimate", "train"]

NAMES = {
    "rewards/accuracies": "pairs_ranked",
    "rewards/margins": "margin",
    "rewards/chosen": "chosen_gain",
    "rewards/rejected": "rejected_gain",
    "logps/chosen": "chosen_logprob",
    "logps/rejected": "rejected_logprob",
    "entropy": "entropy",
}
"""What TRL records of a step, and what it is called here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Loop):
    """What is trained and how. Raises UsageError for values that make no sense.

    ``beta`` > 0: how strongly the model is held to the one it came from. A step takes ``batch`` x
    ``accumulation`` pairs; the rest as in ``Loop``.
    """

    batch: int = 8
    beta: float = 0.1

    def __post_init__(self) -> None:
        # No super(): a slotted dataclass is made anew, and the bare form would name the old class.
        Loop.__post_init__(self)
        if not 0 < self.beta < float("inf"):
            raise UsageError(f"beta={self.beta}: must be a finite number above 0")


class _Trainer(DPOTrainer):
    """TRL's trainer on rows of tokens; it tells nobody of the run, and every step by our names."""

    def __init__(self, model: Any, **rest: Any):
        self._since = time.monotonic()
        super().__init__(model=model, **rest)
        # A copy of a new adapter would be run to change nothing: without it, TRL takes the base.
        model.delete_adapter("ref")

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _send_telemetry(self) -> None:
        """Nothing is sent: a run is its owner's."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Checkpoints are to go on from, not to publish."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            now = time.monotonic()
            logs["seconds"], self._since = now - self._since, now
        super().log(logs, start_time)


def _steps_of(history: Records) -> tuple[Mapping[str, Any], ...]:
    """The records of optimizer steps in a Trainer's log, by our names."""
    return tuple(_named(record) for record in history if "loss" in record)


def _named(record: Mapping[str, Any]) -> dict[str, Any]:
    other = {"mean_token_accuracy", "num_tokens", "logits/chosen", "logits/rejected"}
    return {NAMES.get(name, name): value for name, value in record.items() if name not in other}


def train(
    loaded: Loaded,
    rows: Sequence[PairRow],
    settings: Settings,
    folder: str | Path,
    *,
    told: Told = lambda _record, _steps: None,
    watch: Watch | None = None,
    resume: bool = False,
) -> Trained:
    """Train the new adapter of ``loaded`` in place; checkpoints go to ``folder``.

    ``told`` hears the record of each step and the number of steps. ``resume`` goes on from the last
    whole checkpoint, or starts where there is none: the rows and settings must be the same. Raises
    RefusedError without rows or without trainable weights.
    """
    if not rows or not any(part.requires_grad for part in loaded.model.parameters()):
        raise RefusedError("nothing to train: no pairs, or no trainable weights")
    checkpoint = last_checkpoint(folder) if resume else None
    over = None if checkpoint is None else ended(loaded, checkpoint, _steps_of)
    if over is not None:
        return over
    guard = Guard(
        lambda record, steps: told(_named(record), steps),
        _steps_of,
        watch=watch,
        check_every=settings.check_every,
    )
    with _trainer(loaded, rows, settings, folder, [guard]) as trainer:
        return work(trainer, guard, checkpoint)


@contextlib.contextmanager
def _trainer(
    loaded: Loaded,
    rows: Sequence[PairRow],
    settings: Settings,
    folder: str | Path,
    callbacks: Sequence[Any] = (),
) -> Iterator[_Trainer]:
    """The trainer; afterwards the model computes its logits as it did before."""
    columns = {
        f"{name}_ids": [list(getattr(row, name)) for row in rows]
        for name in ("prompt", "chosen", "rejected")
    }
    base = loaded.model.get_base_model()
    with warnings.catch_warnings():
        # TRL uses a name that transformers is giving up.
        warnings.filterwarnings("ignore", r"`(is_)?gradient_checkpointing`", FutureWarning)
        try:
            yield _Trainer(
                model=loaded.model,
                args=DPOConfig(
                    **arguments(settings, loaded, folder),
                    beta=settings.beta,
                    max_length=None,
                    bf16=settings.mixed,
                    gradient_checkpointing=False,
                ),
                train_dataset=datasets.Dataset.from_dict(columns),
                processing_class=loaded.tokenizer,
                callbacks=list(callbacks),
            )
        finally:
            # TRL has put a head of its own over the model's, and accelerate its products in
            # bfloat16: what is measured is computed in full.
            for each in (base, loaded.model):
                vars(each).pop("forward", None)
                vars(each).pop("_original_forward", None)


def estimate(loaded: Loaded, rows: Sequence[PairRow], settings: Settings) -> Estimate:
    """What the run would take, from batches that are tried; no weight is changed.

    ``loaded`` has its new adapter, ``rows`` at least one row.
    """
    stride = max(1, len(rows) // (TRIED * settings.batch))
    spread = rows[::stride]
    taken = []
    with tempfile.TemporaryDirectory() as none, _trainer(loaded, rows, settings, none) as trainer:
        batches = [spread[: settings.batch][:2]]
        batches += [
            part
            for place in range(TRIED)
            if (part := spread[place * settings.batch : (place + 1) * settings.batch])
        ]
        loaded.model.train()
        for part in batches:
            given = [
                {
                    "prompt_ids": list(row.prompt),
                    "chosen_ids": list(row.chosen),
                    "rejected_ids": list(row.rejected),
                }
                for row in part
            ]
            made = {k: v.to(loaded.device) for k, v in trainer.data_collator(given).items()}
            started = time.perf_counter()
            trainer.compute_loss(loaded.model, made).backward()  # type: ignore[no-untyped-call]
            loaded.model.zero_grad()
            taken.append((time.perf_counter() - started) / len(part))
    per_step = sum(taken[1:]) / len(taken[1:]) * settings.batch * settings.accumulation
    steps = settings.steps(len(rows))
    return Estimate(
        rows=len(rows),
        tokens=sum(2 * len(row.prompt) + len(row.chosen) + len(row.rejected) for row in rows),
        steps=steps,
        seconds_per_step=per_step,
        seconds=per_step * steps,
        trained_parameters=count(loaded).trainable,
        bytes=training_bytes(loaded, 2 * settings.batch, max(row.longest for row in rows)),
        free=free_bytes(loaded.device),
    )
