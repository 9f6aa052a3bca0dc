"""The tables of ``poise.toml`` that only the gateway reads: who may ask, what for, what is kept.

Pure data, as ``tables``. Keys stand here as SHA-256 or as the name of an environment variable,
never as themselves.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from poise.config.tables import Number, Table, Whole

__all__ = ["Caps", "Key", "Serve", "Store", "Tier"]

Scope = Literal["chat", "outcomes", "metrics"]
"""What a key opens: asking and being answered; sending outcomes; reading /metrics."""


class Caps(Table):
    """Hard caps of one request; None: no cap. A request may ask for less, never for more."""

    max_samples: Whole = Field(128, ge=1)
    max_tokens: Whole | None = Field(None, ge=1)
    max_seconds: Number = Field(600.0, gt=0)
    max_usd: Number | None = Field(None, gt=0)


class Key(Table):
    """Who may ask. ``sha256`` of the key, in hexadecimal, or ``env``, the variable that holds it.

    ``samples``, ``tokens`` and ``usd`` cap what all its requests together spend in one ``period``
    (UTC), over all workers. ``concurrency``: its requests under way at once, in each worker.
    ``aliases``: the models it may name; empty: all.
    """

    name: str = Field(min_length=1, max_length=64)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    env: str | None = None
    scopes: tuple[Scope, ...] = ("chat", "outcomes")
    aliases: tuple[str, ...] = ()
    concurrency: Whole | None = Field(None, ge=1)
    samples: Whole | None = Field(None, ge=1)
    tokens: Whole | None = Field(None, ge=1)
    usd: Number | None = Field(None, gt=0)
    period: Literal["day", "month", "ever"] = "day"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.sha256 is None) == (self.env is None):
            raise ValueError("give sha256 or env, one of the two")
        return self


class Tier(Table):
    """What a request gets that names this tier: whatever is None is as the alias has it."""

    policy: str | None = None
    profile: str | None = None
    max_samples: Whole | None = Field(None, ge=1)
    max_seconds: Number | None = Field(None, gt=0)


class Store(Table):
    """Where decisions are kept. ``path`` None: nowhere, and no reply says ``recorded``.

    ``writes``: before the reply is sent, or behind it (a crash loses up to ``queue`` records).
    ``content``: keep prompts, answers and replies as well. ``hmac_env``: the variable that holds
    the key under which prompts and answers are hashed; None: a random one made with the store.
    """

    path: str | None = None
    writes: Literal["before", "behind"] = "before"
    queue: Whole = Field(10_000, ge=1)
    content: bool = False
    hmac_env: str | None = None


class Serve(Table):
    """The gateway's own bounds, for each worker.

    ``in_flight`` requests are worked on at once, ``queue`` more wait up to ``queue_seconds``;
    beyond that the answer is 429. ``max_body`` in bytes, ``max_depth`` of nested JSON.
    ``heartbeat``: seconds between signs of life on a stream. ``drain_seconds``: how long SIGTERM
    waits for what is under way. ``reload_every``: seconds between looks at changed profiles.
    ``trace``: a span for OpenTelemetry of each request, where that is installed.
    ``log_level`` INFO: a line for each request, without a word of its content.
    """

    in_flight: Whole = Field(256, ge=1)
    queue: Whole = Field(1024, ge=0)
    queue_seconds: Number = Field(30.0, gt=0)
    max_body: Whole = Field(4 * 1024 * 1024, ge=1024)
    max_depth: Whole = Field(64, ge=4)
    heartbeat: Number = Field(10.0, gt=0)
    drain_seconds: Number = Field(30.0, ge=0)
    reload_every: Number = Field(2.0, ge=0)
    trace: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    caps: Caps = Caps()
