"""A trained adapter -> merged weights in a folder, and a .gguf file that llama.cpp serves.

::

    FOLDER/merged/       weights and tokenizer, for transformers, vLLM and others
    FOLDER/NAME.gguf     the base's own file with the trained matrices as F16 in it
    FOLDER/export.json   what was done, with the digests, and how far the engines are apart

The .gguf file keeps the base's packing for what was not trained, so that it is as fast and as exact
as the base was. It does not know how the adapter was trained, or whether it is any good.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise.backends.checkpoint import digest, quiet
from poise.errors import ModelMissing, RefusedError, UsageError
from poise.files import whole
from poise.train import parity
from poise.train.gguf_file import FloatArray, rewrite
from poise.train.model import Loaded, without_adapter
from poise.train.parity import CONVERSATIONS, Parity
from poise.types import Message

__all__ = ["Exported", "export"]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. ``gguf`` None: none could be, for the ``reason``.

    ``changed``: matrices. ``merging``: the adapter on its base against the merged weights;
    ``before`` and ``after``: transformers against llama.cpp, for the base and for what was
    exported; None without a .gguf file or without the engine.
    """

    merged: Path
    gguf: Path | None
    reason: str | None
    changed: int
    merging: Parity
    before: Parity | None
    after: Parity | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; paths by name, as they lie in the folder."""
        return {
            "schema": 1,
            "merged": self.merged.name,
            "gguf": None if self.gguf is None else self.gguf.name,
            "gguf_sha256": None if self.gguf is None else digest(self.gguf),
            "merged_sha256": digest(self.merged),
            "reason": self.reason,
            "changed": self.changed,
            "merging": self.merging.to_dict(),
            "before": None if self.before is None else self.before.to_dict(),
            "after": None if self.after is None else self.after.to_dict(),
        }


def export(
    loaded: Loaded,
    folder: str | Path,
    *,
    conversations: Sequence[Sequence[Message]] = CONVERSATIONS,
) -> Exported:
    """Write the model with its adapter merged into it; ``folder`` must not hold anything yet.

    The adapter in ``loaded`` is merged into its weights on the way: afterwards it has none. A .gguf
    file needs a base that came from one. Runs an event loop of its own. Raises UsageError without
    an adapter and for a folder in use; InputError where the base's file is not what was trained.
    """
    folder = Path(folder)
    if not hasattr(loaded.model, "peft_config"):
        raise UsageError("the model has no adapter to merge; open one with open_adapter")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder; name another output")
    loaded.model.eval()
    layers = _adapted(loaded.model)
    old = _matrices(loaded.model.get_base_model(), (f"{name}.base_layer" for name in layers))
    with without_adapter(loaded) as base:
        plain = parity.transformers(base.model, base.tokenizer, conversations)
    adapted = parity.transformers(loaded.model, loaded.tokenizer, conversations)
    with quiet():
        model = loaded.model.merge_and_unload(safe_merge=True)
    together = parity.transformers(model, loaded.tokenizer, conversations)
    folder.mkdir(parents=True, exist_ok=True)
    gguf = before = after = reason = None
    if loaded.path.suffix == ".gguf":
        gguf = folder / f"{folder.resolve().name}.gguf"
        config = model.config
        new = _matrices(model, layers)
        replaced = {name: (old[f"{name}.base_layer"], new[name]) for name in layers}
        heads = (config.num_attention_heads, config.num_key_value_heads)
        rewrite(loaded.path, gguf, replaced, heads)
        try:
            before, after = (
                parity.compare(parity.llama_cpp(path, loaded.tokenizer, conversations), known)
                for path, known in ((loaded.path, plain), (gguf, together))
            )
        except (ModelMissing, RefusedError) as error:
            reason = f"the engines were not compared: {error}"
    else:
        reason = (
            "the base is a folder, and a .gguf file is only made from the base's own; convert"
            " merged/ with llama.cpp's convert_hf_to_gguf.py"
        )
    merged = folder / "merged"
    with quiet():
        model.save_pretrained(str(merged))
    loaded.tokenizer.save_pretrained(str(merged))
    merging = parity.compare(adapted, together)
    exported = Exported(merged, gguf, reason, len(layers), merging, before, after)
    with whole(folder / "export.json") as stream:
        stream.write(json.dumps(exported.to_dict(), indent=2).encode() + b"\n")
    return exported


def _matrices(model: Any, layers: Iterable[str]) -> dict[str, FloatArray]:
    """The matrices of the layers, (rows, columns) each."""
    return {
        name: model.get_submodule(name).weight.detach().float().cpu().numpy().copy()
        for name in layers
    }


def _adapted(model: Any) -> list[str]:
    """Names of the layers that an adapter is on, as the base calls them.

    Raises UsageError where the adapter changes anything else than linear layers.
    """
    import torch  # noqa: PLC0415 - an optional extra, heavy to load
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415

    for config in model.peft_config.values():
        if config.modules_to_save or getattr(config, "bias", "none") != "none":
            raise UsageError(
                "the adapter keeps whole layers or biases; only adapters on linear layers can be"
                " exported"
            )
    found = []
    for name, layer in model.get_base_model().named_modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        if not isinstance(layer.get_base_layer(), torch.nn.Linear):
            raise UsageError(f"{name}: only adapters on linear layers can be exported")
        found.append(name)
    return found
