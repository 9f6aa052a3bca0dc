"""From the tables of a configuration to back-ends, decodings, prompts: what an alias stands for.

Nothing is opened or sent here. It does not know flags or requests, which override what it gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poise.backends import Http, LlamaCpp
from poise.backends.llamacpp import DECODING, PROMPT
from poise.config import Alias, Config, Upstream, environment_key
from poise.types import Prompt

__all__ = ["GGUF_DECODING", "HTTP_DECODING", "engine", "is_embedded", "server"]

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


def engine(model: str | None, config: Config) -> tuple[LlamaCpp, Mapping[str, Any], Prompt]:
    """A model in this process: ``model`` is a .gguf file, None the embedded one.

    Returns the back-end with the decoding and the prompt that suit it. Raises ModelMissing.
    """
    wanted = config.embedded
    backend = LlamaCpp(model, slots=wanted.slots, context=wanted.context, threads=wanted.threads)
    return (backend, DECODING, PROMPT) if model is None else (backend, GGUF_DECODING, Prompt())
