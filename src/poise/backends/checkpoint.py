"""A causal language model for PyTorch, read from a .gguf file or a Hugging Face folder.

What the back-end runs and what training trains is the same model read by the same code: weights,
tokenizer, the adapter on top and the digest that says which weights an adapter belongs to. It does
not know what is generated or trained, and it fetches nothing but the embedded model.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poise.backends.weights import find_weights
from poise.errors import InputError, ModelMissing, Rejected
from poise.files import whole
from poise.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "adapted",
    "attach",
    "digest",
    "find",
    "find_adapter",
    "load",
    "pieces",
    "prompt_ids",
    "quiet",
    "sign",
    "text_of",
]

BASE = "poise_base.json"
"""Beside an adapter: the name and SHA-256 of the weights that it was trained on."""

WEIGHTS = ("*.safetensors", "*.bin")

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer shows for the first bytes of a character whose others are still to come."""


def find(path: str | Path | None) -> Path:
    """The .gguf file or the folder with a config.json; None: the embedded model's file.

    Raises ModelMissing where there is none.
    """
    if path is None:
        return find_weights()
    found = Path(path)
    if found.is_dir() and not (found / "config.json").is_file():
        raise ModelMissing(f"{found}: no config.json in it; give a model's folder or a .gguf file")
    if not found.exists():
        raise ModelMissing(f"{found}: no such model; give a .gguf file or a model's folder")
    return found


def find_adapter(folder: str | Path) -> Path:
    """The folder of an adapter, given as it is or as the run of training that wrote it.

    Raises InputError where there is none.
    """
    given = Path(folder)
    for place in (given, given / "adapter"):
        if (place / "adapter_config.json").is_file():
            return place
    raise InputError("no adapter_config.json in it; give the folder of an adapter", given)


def digest(path: Path) -> str:
    """SHA-256 of the weights, hexadecimal: of the .gguf file, or over the folder's weight files."""
    if path.is_file():
        return _of_file(path)
    files = sorted({file for pattern in WEIGHTS for file in path.glob(pattern)})
    return hashlib.sha256("\n".join(map(_of_file, files)).encode()).hexdigest()


def adapted(name: str, folder: Path) -> str:
    """What the model ``name`` is called with the adapter of ``folder`` on it: an arm of its own.

    Behind a plus the folder's name, or that of the run of training where it is called "adapter",
    as in every run; then eight digits of its weights' digest, for a run may be done again.
    """
    whole_path = folder.resolve()
    run = whole_path.parent.name if whole_path.name == "adapter" else whole_path.name
    return f"{name}+{run}-{digest(folder)[:8]}"


def load(
    path: Path, dtype: str, device: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, ready to run (no dropout), and its tokenizer.

    ``dtype``: ``float32``, ``bfloat16`` or ``float16``; quantised weights are unpacked into it.
    ``device`` None: the first accelerator there is, else the processor. Raises ModelMissing where
    transformers is not installed or cannot read the model, and where the tokenizer has no chat
    template.
    """
    try:
        import torch  # noqa: PLC0415 - an optional extra, heavy to load
        import transformers  # noqa: PLC0415
    except ImportError as error:
        raise ModelMissing(
            f"PyTorch and transformers are not installed ({error}): pip install 'poise[train]'"
        ) from error
    place, given = str(path), dict[str, Any](local_files_only=True)
    weights = dict[str, Any](dtype=getattr(torch, dtype))
    if path.is_file():
        place, given["gguf_file"] = str(path.parent), path.name
        # Where kernels for packed weights are installed they would stay packed: not trainable.
        packing = getattr(transformers, "GgufConfig", None)
        if packing is not None:
            weights["quantization_config"] = packing(dequantize=True)
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, **given)
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                place, **given, **weights
            )
    except Exception as error:  # each format has exceptions of its own
        why = " ".join(str(error).split())[:200]
        raise ModelMissing(f"{path}: transformers cannot read it ({why})") from error
    if not tokenizer.chat_template:
        raise ModelMissing(f"{path}: its tokenizer has no chat template; take an instructed model")
    _unquantised(model)
    model.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    return model.eval(), tokenizer


def attach(model: Any, folder: str | Path, base: str, *, trainable: bool = False) -> Any:
    """``model`` with the adapter of ``folder`` on it (peft's model; the base is changed in place).

    ``folder`` as in ``find_adapter``; ``base``: the digest of the model's weights. Raises
    InputError where the folder holds no adapter, and where it was trained on other weights.
    """
    import peft  # noqa: PLC0415 - an optional extra, heavy to load

    folder = find_adapter(folder)
    signed = folder / BASE
    if signed.is_file():
        try:
            stated = json.loads(signed.read_text("utf-8"))
            name, sha256 = stated["model"], stated["sha256"]
        except (ValueError, LookupError, TypeError):
            raise InputError("not a JSON object with model and sha256", signed) from None
        if sha256 != base:
            raise InputError(
                f"the adapter was trained on {name} (SHA-256 {str(sha256)[:12]}…), and these"
                f" weights are others ({base[:12]}…); name its own base with --model",
                folder,
            )
    try:
        with quiet():
            return peft.PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        why = " ".join(str(error).split())[:200]
        raise InputError(f"the adapter does not fit this model ({why})", folder) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without bars that nobody asked for, and without what peft says of every adapter.

    It uses a name that transformers gave up, and misses the configuration that a .gguf file's
    folder does not have.
    """
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        warnings.filterwarnings("ignore", "Could not find a config file", UserWarning)
        yield


def sign(folder: Path, model: str, sha256: str) -> None:
    """Write beside an adapter which weights it belongs to."""
    with whole(folder / BASE) as stream:
        stream.write(json.dumps({"schema": 1, "model": model, "sha256": sha256}).encode())


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The conversation by the model's own template, up to where its reply begins.

    Raises Rejected for content that is not text and for what the template does not take.
    """
    for message in messages:
        if not isinstance(message.get("content"), str):
            raise Rejected("this back-end takes messages whose content is text, and this is other")
    try:
        ids = tokenizer.apply_chat_template(
            [dict(message) for message in messages], add_generation_prompt=True, return_dict=False
        )
    except Exception as error:  # a template is a program and raises what it likes
        why = " ".join(str(error).split())[:200]
        raise Rejected(f"the model's chat template does not take this conversation ({why})") from (
            error
        )
    return list(ids)


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """What the tokens say, as they stand."""
    text: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text


def pieces(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """Each token's part of the text; a character of several tokens is with its last."""
    found: list[str] = []
    # The last whole characters are read again with what follows, for how the two are joined.
    before, after = list[int](), list[int]()
    for place, one in enumerate(ids):
        after.append(one)
        text = text_of(tokenizer, before + after)
        if text.endswith(UNFINISHED) and place + 1 < len(ids):
            found.append("")
            continue
        found.append(text[len(text_of(tokenizer, before)) :])
        before, after = after, []
    return tuple(found)


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unquantised(model: Any) -> None:
    """Forget that the weights came packed: they no longer are, and may be trained and saved."""
    model.hf_quantizer = None
    for holder, name in ((model.config, "quantization_config"), (model, "quantization_method")):
        if name in vars(holder):
            delattr(holder, name)
