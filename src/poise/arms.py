"""From the tables of a configuration to back-ends, decodings, prompts: what an alias stands for.

Nothing is opened or sent here. It does not know flags or requests, which override what it gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poise.backends import Http, LlamaCpp, Stored, Transformers
from poise.backends.drawing import Decoding
from poise.backends.llamacpp import DECODING, PROMPT
from poise.config import Alias, Config, Upstream, environment_key
from poise.errors import InputError, Rejected, UsageError
from poise.types import Backend, Prompt

__all__ = [
    "GGUF_DECODING",
    "HTTP_DECODING",
    "TRANSFORMERS",
    "check_decoding",
    "engine",
    "is_embedded",
    "merged",
    "server",
]

TRANSFORMERS = "transformers:"
"""Before a model that PyTorch runs: ``transformers:[MODEL][+ADAPTER]``, MODEL the embedded one."""

GGUF_DECODING: dict[str, Any] = {**DECODING, "max_tokens": 512}
"""Decoding of another model in this process, stated in full."""

HTTP_DECODING: dict[str, Any] = {"temperature": 0.8, "max_tokens": 512}
"""Decoding on a server; what is not stated there is the server's."""


def is_embedded(alias: Alias) -> bool:
    """Whether the alias means the model that comes with Poise."""
    return alias.upstream is None and alias.model is None


def server(upstream: Upstream, model: str | None) -> Http:
    """The back-end for ``model`` on ``upstream``. Raises UsageError for a key that is not set."""
    return Http(
        upstream.base_url,
        model,
        api_key=environment_key(upstream.key_env),
        engine=upstream.engine,
        concurrency=upstream.concurrency,
        per_second=upstream.per_second,
        timeout=upstream.timeout,
        stream=upstream.stream,
    )


def engine(model: str | None, config: Config) -> tuple[Backend, Mapping[str, Any], Prompt]:
    """A model in this process: None is the embedded one, run by llama.cpp.

    ``model``: a .gguf file, or ``transformers:[MODEL][+ADAPTER]`` for PyTorch, where MODEL is a
    .gguf file or a Hugging Face folder (absent: the embedded one) and ADAPTER a folder that
    ``train`` wrote. Returns the back-end with the decoding and the prompt that suit it. Raises
    ModelMissing, InputError for a folder without an adapter.
    """
    wanted = config.embedded
    slots, context = wanted.slots, wanted.context
    if model is not None and model.startswith(TRANSFORMERS):
        path, adapter = _parts(model.removeprefix(TRANSFORMERS))
        torch = Transformers(path, adapter=adapter, draws=slots, context=context)
        return (torch, DECODING, PROMPT) if path is None else (torch, GGUF_DECODING, Prompt())
    backend = LlamaCpp(model, slots=slots, context=context, threads=wanted.threads)
    return (backend, DECODING, PROMPT) if model is None else (backend, GGUF_DECODING, Prompt())


def _parts(named: str) -> tuple[str | None, Path | None]:
    """The model and the adapter in ``[MODEL][+ADAPTER]``; a model may have a plus in its name."""
    path, plus, folder = named.rpartition("+")
    if not plus or Path(named).exists():
        return named or None, None
    adapter = Path(folder)
    if not folder or not adapter.is_dir():
        raise InputError(f"behind its last plus, {named} names no folder of an adapter")
    return path or None, adapter


def merged(default: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """``default`` decoding with what is ``stated`` in its place.

    A temperature and a temperature by entropy (``edt``) stand for each other.
    """
    other = {"edt": "temperature", "temperature": "edt"}
    replaced = {other[name] for name in stated if name in other}
    return {**{k: v for k, v in default.items() if k not in replaced}, **stated}


def check_decoding(engine: str, decoding: Mapping[str, Any]) -> None:
    """Raise UsageError for ``edt`` on an engine without it, and what ``transformers`` refuses."""
    if engine == Transformers.engine:
        try:
            Decoding.read(decoding)
        except Rejected as error:
            raise UsageError(str(error)) from None
    elif "edt" in decoding and engine != Stored.engine:
        raise UsageError(
            f"edt is a decoding of the engine transformers, and this is {engine}; name the model"
            f" as {TRANSFORMERS}MODEL"
        )
