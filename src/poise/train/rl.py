"""Reinforcement of stated confidences: GRPO on rewards that need gold answers, resumable by step.

TRL's trainer runs the loop; what differs is in a subclass. Advantages are a reward's distance from
its group's mean, divided by nothing, and may be split between the answer's tokens and the
statement's. On a processor a group's prompt is computed once. The loss sums over tokens and divides
by a constant (``dr_grpo``), so that neither a reply's length nor those of others change what a
token weighs. A reply that was cut by the token limit is masked, as TRL does it: no token of it
learns, and its reward stays in its group's mean. Dropout is off: what is drawn and what is trained
are the same policy. It does not know pools, prompts or reports.

Sources: RLCR, arXiv 2507.16806; Dr. GRPO, arXiv 2503.20783; DCPO, arXiv 2603.09117.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped]
from torch import Tensor
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from poise.errors import RefusedError, UsageError
from poise.rewards import REWARDS, check_weights
from poise.rewards.weights import CALIBRATION
from poise.train.advantages import by_token, statement_mask
from poise.train.batches import fill_token
from poise.train.episodes import collapsed, noted
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
from poise.train.model import Loaded
from poise.train.prefill import filled_cache, following
from poise.train.replies import ends_of
from poise.train.rows import padded
from poise.train.stating import READ

__all__ = ["WEIGHTS", "Settings", "rl_steps", "train"]

WEIGHTS = (("correctness", 1.0), ("brier", 1.0), ("formatted", 0.1))
"""Rewards where none are named: RLCR's two at equal weight, and a little for the form."""

WANTING = {
    "self_certainty": "log-probabilities as columns",
    "reference_probability": "log-probabilities as columns",
    "thresholded": "prompts that state a threshold",
}
"""Rewards that want what this loop does not make."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is rewarded and how it is trained. Raises UsageError for values that make no sense.

    ``weights``: rewards of ``poise.rewards`` by name; ``forced`` skips the judgement of their sum.
    ``split``: the confidence's rewards reach the statement's tokens alone. ``mix`` in [0, 1]: the
    target of ``capability`` between this answer (0) and the others (1). A step takes ``questions``
    x ``group`` replies of at most ``tokens`` tokens, ``batch`` at a time (None: all). ``kl``: the
    weight of the distance to the model that it started from. The rest as in ``Loop``.
    """

    weights: tuple[tuple[str, float], ...] = WEIGHTS
    split: bool = False
    mix: float | None = None
    forced: bool = False
    group: int = 8
    questions: int = 4
    batch: int | None = None
    tokens: int = 64
    steps: int = 100
    lr: float = 1e-5
    warmup: float = 0.05
    kl: float = 0.0
    temperature: float = 1.0
    save_every: int = 10
    check_every: int = 0
    seed: int = 0
    mixed: bool = False
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in {"group": 2, "questions": 1, "tokens": 1, "steps": 1}.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)}: must be at least {least}")
        if (self.batch is not None and self.batch < 1) or self.replies % self.per_batch:
            raise UsageError(
                f"batch={self.batch}: must be at least 1 and divide a step's {self.replies} replies"
                f" ({self.questions} questions x {self.group})"
            )
        if not (0 < self.temperature < math.inf and 0 <= self.kl < math.inf):
            raise UsageError(
                f"temperature={self.temperature}, kl={self.kl}: must be finite, the first above 0"
                " and the second at least 0"
            )
        self.loop  # noqa: B018 - checks the rest
        self._check_rewards()

    def _check_rewards(self) -> None:
        weights = dict(self.weights)
        if len(weights) < len(self.weights):
            raise UsageError("a reward is named twice; give each one weight")
        check_weights(weights, trained_answer=not self.split, forced=self.forced)
        for name, what in WANTING.items():
            if weights.get(name):
                raise UsageError(
                    f"{name} wants {what}, which this loop does not make; use it from a trainer of"
                    " your own"
                )
        if not self.names:
            raise UsageError("no reward has a weight above 0; nothing would be learnt")
        if self.mix is not None and not weights.get("capability"):
            raise UsageError("mix is the target of the reward capability: --reward capability=1")
        if self.mix is not None and not 0 <= self.mix <= 1:
            raise UsageError(f"mix={self.mix}: must be from 0 (this answer) to 1 (any answer)")
        if self.split and not {*self.names} & {*CALIBRATION}:
            raise UsageError(
                "split has nothing to part: no reward is for the confidence; name one, such as"
                " brier=1, or do not split"
            )

    @property
    def loop(self) -> Loop:
        """The settings that every training has. Raises UsageError as ``Loop``."""
        return Loop(
            lr=self.lr,
            batch=self.per_batch,
            accumulation=self.replies // self.per_batch,
            warmup=self.warmup,
            save_every=self.save_every,
            check_every=self.check_every,
            seed=self.seed,
            mixed=self.mixed,
            report_to=self.report_to,
        )

    @property
    def replies(self) -> int:
        """Replies of a step."""
        return self.questions * self.group

    @property
    def per_batch(self) -> int:
        """Replies whose loss is computed at once."""
        return self.batch or self.replies

    @property
    def names(self) -> tuple[str, ...]:
        """The rewards that count, in order."""
        return tuple(name for name, weight in self.weights if weight)

    def functions(self) -> list[Any]:
        """The rewards as TRL calls them."""
        fixed: dict[str, dict[str, Any]] = {}
        if self.mix is not None:
            fixed["capability"] = {"mix": self.mix}
        return [partial(REWARDS[name], read=READ, **fixed.get(name, {})) for name in self.names]


class _Trainer(GRPOTrainer):
    """TRL's trainer with advantages by token, shared prompts, and its replies in every record."""

    def __init__(self, settings: Settings, **rest: Any):
        self._settings = settings
        self._noted: list[dict[str, float]] = []
        self._since = time.monotonic()
        super().__init__(**rest)

    def _send_telemetry(self) -> None:
        """Nobody is told that something is trained."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The run's report says what a card would."""

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Tensor:
        found: Tensor = super()._calculate_rewards(
            inputs, prompts, completions, completion_ids_list
        )
        self._rewards, self._said = found, completion_ids_list
        texts = [completion[-1]["content"] for completion in completions]
        self._noted.append(noted(inputs, texts, completion_ids_list, self._settings.group))
        return found

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        made: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self._settings.split:
            made["advantages"] = self._split(made["completion_ids"])
        return made

    def _split(self, ids: Tensor) -> Tensor:
        """Advantages of this process's replies by token (m, T)."""
        settings, weights = self._settings, dict(self._settings.weights)
        here = self.accelerator.process_index * len(ids)
        states = statement_mask(self._tokenizer, self._said, ids.shape[1])
        # A group may lie on several processes: of others' replies it counts whether they state one.
        some = self.accelerator.gather(torch.from_numpy(states.any(axis=1)).to(ids.device))
        every = torch.zeros((len(self._rewards), ids.shape[1]), dtype=torch.bool)
        every[:, 0] = some.cpu()
        every[here : here + len(ids)] = torch.from_numpy(states)
        made = by_token(
            self._rewards.cpu().numpy(),
            settings.names,
            [weights[name] for name in settings.names],
            settings.group,
            every.numpy(),
        )
        return torch.from_numpy(made[here : here + len(ids)]).to(ids.device, torch.float32)

    def _generate_single_turn(self, prompt_ids: Any, *rest: Any, **more: Any) -> Any:
        model = self.accelerator.unwrap_model(self.model)
        with _drawn_by(model.get_base_model(), self.generation_config):
            if self.accelerator.device.type != "cpu":
                return super()._generate_single_turn(  # type: ignore[no-untyped-call]
                    prompt_ids, *rest, **more
                )
            return self._generate_sharing(model, prompt_ids), None

    def _generate_sharing(self, model: Any, prompt_ids: Any) -> list[list[int]]:
        """Replies to prompts of which equal ones are computed once."""
        filled = padded(prompt_ids, self._tokenizer.pad_token_id)
        ids, mask = torch.tensor(filled.ids), torch.tensor(filled.mask)
        with torch.no_grad():
            # The last token stays out of the cache: its logits are what the reply starts from.
            cache, _ = filled_cache(model, ids[:, :-1], mask[:, :-1])
            made = model.generate(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                generation_config=self.generation_config,
            )
        ends = set(self.eos_token_ids)
        return [_until(row, ends) for row in made[:, ids.shape[1] :].tolist()]

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        **more: Any,
    ) -> Any:
        device, mixed = input_ids.device.type, self._settings.mixed
        with torch.autocast(device, torch.bfloat16, enabled=mixed, cache_enabled=False):
            if device != "cpu":
                return super()._get_per_token_logps_and_entropies(
                    model, input_ids, attention_mask, logits_to_keep, **more
                )
            asked, said = (
                (input_ids[:, place], attention_mask[:, place])
                for place in (slice(None, -logits_to_keep), slice(-logits_to_keep, None))
            )
            logits = following(model, asked, said)
        logs = (logits.float() / self.temperature).log_softmax(dim=-1)
        chosen = logs.gather(-1, said[0][..., None])[..., 0]
        with torch.no_grad():
            entropy = -(logs.exp() * logs).sum(dim=-1)
        return chosen, entropy, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._noted:
            logs |= self._noted[-1]
            now = time.monotonic()
            logs["seconds"], self._since = now - self._since, now
            self._noted = []
        super().log(logs, start_time)


@contextmanager
def _drawn_by(base: Any, config: Any) -> Iterator[None]:
    """Drawn by ``config`` alone: a model's own (min_p, penalties) is not what is trained."""
    was, base.generation_config = base.generation_config, config
    try:
        yield
    finally:
        base.generation_config = was


def _until(ids: Sequence[int], ends: set[int]) -> list[int]:
    stop = next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:stop])


def rl_steps(history: Records) -> tuple[Mapping[str, Any], ...]:
    """The records of optimizer steps in a Trainer's log."""
    return tuple(record for record in history if "loss" in record and "replies" in record)


def train(
    loaded: Loaded,
    rows: Sequence[Mapping[str, Any]],
    settings: Settings,
    folder: str | Path,
    *,
    told: Told = lambda _record, _steps: None,
    watch: Watch | None = None,
    resume: bool = False,
) -> Trained:
    """Train the adapter of ``loaded`` in place; checkpoints go to ``folder``.

    ``rows``: ``prompt`` (messages) and the columns of the rewards, in the order in which they are
    asked, as many as ``settings`` take. ``told`` hears the record of each step and the number of
    steps. ``resume`` goes on from the last whole checkpoint, or starts where there is none: rows
    and settings must be the same. Raises RefusedError for too few rows or no trainable weights.
    """
    asked = settings.steps * settings.questions
    if len(rows) < asked or not any(part.requires_grad for part in loaded.model.parameters()):
        raise RefusedError(
            f"nothing to train: {len(rows)} rows for {asked} questions, or no trainable weights"
        )
    checkpoint = last_checkpoint(folder) if resume else None
    over = None if checkpoint is None else ended(loaded, checkpoint, rl_steps)
    if over is not None:
        return over
    guard = Guard(told, rl_steps, failed=collapsed, watch=watch, check_every=settings.check_every)
    with _trainer(loaded, rows, settings, folder, guard) as trainer:
        return work(trainer, guard, checkpoint)


@contextmanager
def _trainer(
    loaded: Loaded,
    rows: Sequence[Mapping[str, Any]],
    settings: Settings,
    folder: str | Path,
    guard: Guard,
) -> Iterator[_Trainer]:
    """The trainer; afterwards the model has other weights, no dropout, and nothing of TRL's."""
    tokenizer, base = loaded.tokenizer, loaded.model.get_base_model()
    tokenizer.pad_token_id = fill_token(tokenizer)
    base.generation_config.eos_token_id = ends_of(tokenizer)
    weights = dict(settings.weights)
    with warnings.catch_warnings():
        # TRL uses a name that transformers is giving up.
        warnings.filterwarnings("ignore", r"`(is_)?gradient_checkpointing`", FutureWarning)
        try:
            yield _Trainer(
                settings,
                model=loaded.model,
                reward_funcs=settings.functions(),
                args=GRPOConfig(
                    **arguments(settings.loop, loaded, folder)
                    | {"max_steps": settings.steps, "lr_scheduler_type": "constant_with_warmup"},
                    reward_weights=[weights[name] for name in settings.names],
                    scale_rewards="none",
                    multi_objective_aggregation="sum_then_normalize",
                    loss_type="dr_grpo",
                    mask_truncated_completions=True,
                    disable_dropout=True,
                    beta=settings.kl,
                    num_generations=settings.group,
                    max_completion_length=settings.tokens,
                    temperature=settings.temperature,
                    shuffle_dataset=False,
                    bf16=False,
                    gradient_checkpointing=False,
                ),
                train_dataset=Dataset.from_list([dict(row) for row in rows]),
                processing_class=tokenizer,
                callbacks=[guard],
            )
        finally:
            # TRL has put a head of its own over the model's, and a copy of the start beside it.
            vars(base).pop("forward", None)
            if "ref" in loaded.model.peft_config:
                loaded.model.delete_adapter("ref")
