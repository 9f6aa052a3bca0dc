"""A model as training sees it: weights, tokenizer, the tokens that say yes and no, its adapter.

Yes and no are all the tokens of the vocabulary that the signal in ``signals.p_true`` counts, so
that what is trained is what is read later. It does not know: rows, losses, optimisers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poise.backends import checkpoint
from poise.errors import InputError, RefusedError, UsageError
from poise.signals.p_true import side

if TYPE_CHECKING:
    import torch

__all__ = [
    "LAYERS",
    "Counts",
    "Loaded",
    "count",
    "free_bytes",
    "load",
    "open_adapter",
    "require_memory",
    "save_adapter",
    "sides",
    "training_bytes",
    "with_adapter",
    "without_adapter",
]

DTYPES = ("float32", "bfloat16", "float16")
LAYERS: dict[str, tuple[str, ...] | str] = {"qv": ("q_proj", "v_proj"), "all": "all-linear"}
"""Which layers get an adapter: queries and values (Self-Calibration, arXiv 2503.00031), or every
linear layer but the head."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory. ``path``: its .gguf file or folder; ``sha256`` of the weights there.

    ``yes`` and ``no``: ids of all tokens that say so, ascending, at least one each.
    """

    model: Any
    tokenizer: Any
    path: Path
    sha256: str
    yes: tuple[int, ...]
    no: tuple[int, ...]

    @property
    def name(self) -> str:
        """The file's or folder's name, without the ending of a .gguf file."""
        return self.path.stem if self.path.suffix == ".gguf" else self.path.name

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device


@dataclass(frozen=True, slots=True)
class Counts:
    """Parameters in all and of those the ones that training changes; ``bytes`` that all take."""

    total: int
    trainable: int
    bytes: int


def load(
    path: str | Path | None = None, *, dtype: str = "float32", device: str | None = None
) -> Loaded:
    """The model of a .gguf file or a Hugging Face folder; None: the embedded one.

    ``dtype``: ``float32``, ``bfloat16`` or ``float16``. ``device`` None: the first accelerator,
    else the processor. Raises ModelMissing where it cannot be had or read, UsageError for another
    dtype, InputError for a tokenizer without single tokens for yes and no.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype={dtype!r}: must be {', '.join(DTYPES)}")
    found = checkpoint.find(path)
    model, tokenizer = checkpoint.load(found, dtype, device)
    yes, no = sides(tokenizer, found)
    return Loaded(model, tokenizer, found, checkpoint.digest(found), yes, no)


def sides(tokenizer: Any, path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of all tokens that say yes, and of all that say no. Raises InputError without either."""
    special = set(tokenizer.all_special_ids)
    ids = [number for number in range(len(tokenizer)) if number not in special]
    texts = tokenizer.batch_decode([[number] for number in ids])
    said = list(zip(ids, map(side, texts), strict=True))
    yes = tuple(number for number, word in said if word == "yes")
    no = tuple(number for number, word in said if word == "no")
    if not (yes and no):
        absent = " or ".join(word for word, found in (("Yes", yes), ("No", no)) if not found)
        raise InputError(
            f"the tokenizer has no single token for {absent}, so that P(True) cannot be read from"
            " one token; take a model with another tokenizer",
            path,
        )
    return yes, no


# -- adapters -------------------------------------------------------------------------------------


def with_adapter(
    loaded: Loaded,
    *,
    rank: int = 32,
    alpha: float = 16,
    dropout: float = 0.05,
    targets: Sequence[str] | str = LAYERS["qv"],
    seed: int = 0,
) -> Loaded:
    """A new LoRA adapter on it, which changes nothing yet, alone is trainable and drops out.

    The same seed gives the same adapter. The base's layers are wrapped in place: use the model
    that is returned. Raises UsageError for sizes and layers that make no sense, and where there is
    an adapter already.
    """
    import peft  # noqa: PLC0415 - an optional extra, heavy to load
    import torch  # noqa: PLC0415

    if isinstance(loaded.model, peft.PeftModel):
        raise UsageError("the model has an adapter already; load the base anew")
    if rank < 1 or not alpha > 0 or not 0 <= dropout < 1:
        raise UsageError(
            f"rank={rank}, alpha={alpha}, dropout={dropout}: must be >= 1, > 0 and in [0, 1)"
        )
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # only ever divided by the rank
        lora_dropout=dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            with checkpoint.quiet():
                model = peft.get_peft_model(loaded.model, config)
        except ValueError as error:
            named = targets if isinstance(targets, str) else ", ".join(targets)
            raise UsageError(
                f"no adapter can be put on {named} ({' '.join(str(error).split())})"
            ) from error
    return replace(loaded, model=model.train())


def open_adapter(loaded: Loaded, folder: str | Path, *, trainable: bool = False) -> Loaded:
    """With the adapter that ``save_adapter`` wrote. Raises InputError for one of other weights."""
    model = checkpoint.attach(loaded.model, folder, loaded.sha256, trainable=trainable)
    return replace(loaded, model=model)


def save_adapter(loaded: Loaded, folder: str | Path) -> None:
    """Write the adapter, and which weights it belongs to. Raises UsageError without an adapter."""
    if not hasattr(loaded.model, "peft_config"):
        raise UsageError("the model has no adapter to save")
    with checkpoint.quiet():
        loaded.model.save_pretrained(str(folder))
    checkpoint.sign(Path(folder), loaded.name, loaded.sha256)


@contextlib.contextmanager
def without_adapter(loaded: Loaded) -> Iterator[Loaded]:
    """The same model with its adapter switched off meanwhile; as it is where it has none."""
    off: AbstractContextManager[Any] = contextlib.nullcontext()
    if hasattr(loaded.model, "peft_config"):
        off = loaded.model.disable_adapter()
    with off:
        yield loaded


# -- sizes ----------------------------------------------------------------------------------------


def count(loaded: Loaded) -> Counts:
    """How large the model is."""
    every = list(loaded.model.parameters())
    return Counts(
        total=sum(weight.numel() for weight in every),
        trainable=sum(weight.numel() for weight in every if weight.requires_grad),
        bytes=sum(weight.numel() * weight.element_size() for weight in every),
    )


def training_bytes(loaded: Loaded, batch: int, tokens: int) -> int:
    """About what a training step of ``batch`` rows of ``tokens`` tokens takes in memory.

    Weights; gradient and two moments of AdamW (float32) for what is trainable; what the backward
    pass keeps of each layer (12 times its width and four times its inner width a token, counted
    from a decoder of the Llama kind); four copies of the logits in float32. On the embedded model,
    8 rows of 128 tokens: 2.4 GB beside the weights, and 2.3 GB were taken.
    """
    size, config = count(loaded), loaded.model.config
    element = next(loaded.model.parameters()).element_size()
    kept = config.num_hidden_layers * (12 * config.hidden_size + 4 * config.intermediate_size)
    a_token = kept * element + 4 * 4 * config.vocab_size
    return int(size.bytes + size.trainable * (element + 8) + batch * tokens * a_token)


def free_bytes(device: torch.device) -> int:
    """Memory that is free where the model runs."""
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with peft
    import torch  # noqa: PLC0415 - an optional extra, heavy to load

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def require_memory(loaded: Loaded, batch: int, tokens: int, free: int | None = None) -> int:
    """The bytes that a training step takes beside the loaded weights.

    ``free`` None: what is free where the model runs. Raises RefusedError where there are fewer.
    """
    need = training_bytes(loaded, batch, tokens) - count(loaded).bytes
    there = free_bytes(loaded.device) if free is None else free
    if need > there:
        raise RefusedError(
            f"a step of {batch} rows of {tokens} tokens takes about {need / 1e9:.2f} GB beside the"
            f" model, and {there / 1e9:.2f} GB are free; lower --batch or shorten the rows"
        )
    return need
