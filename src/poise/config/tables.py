"""The tables of ``poise.toml`` that say what is asked and how: servers, aliases, segments, prices.

Pure data: nothing here opens a file or a connection. Unknown keys and wrong types are refused.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator

from poise.types import Kind, Prompt

__all__ = ["Alias", "Embedded", "PerMillion", "SegmentRule", "Table", "Upstream"]

Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
# Strict: the text "16" and true are no numbers.


class Table(BaseModel):
    """A TOML table: unknown keys and numbers that are no numbers are errors; it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Upstream(Table):
    """A server. ``per_second`` None: no bound on the rate of calls.

    ``engine``: what runs the model, where the server does not say so itself. ``stream`` False: ask
    for whole replies, which costs less and cannot be ended early everywhere. ``breaker``: failures
    in a row after which the gateway leaves the server alone for ``cool_down`` seconds.
    ``check_every``: seconds between the gateway's looks at its health; 0: never.
    """

    name: str
    base_url: str = Field(pattern=r"^https?://")
    key_env: str | None = None
    concurrency: Whole = Field(16, ge=1, le=10_000)
    per_second: Number | None = Field(None, gt=0)
    timeout: Number = Field(120.0, gt=0)
    engine: str | None = None
    stream: bool = True
    breaker: Whole = Field(5, ge=1)
    cool_down: Number = Field(10.0, gt=0)
    check_every: Number = Field(15.0, ge=0)


class Alias(Table):
    """A name for an arm and what goes with it. ``upstream`` None: a model in this process.

    ``model`` is then None for the embedded one, a .gguf file, or transformers:[MODEL][+ADAPTER].

    What only the gateway reads: ``fallback``, further upstreams with the same model, in order;
    ``mode`` shadow, which replies with a plain sample and records what would have been answered;
    ``tier``, where a request names none; ``audit_rate``, the share of questions drawn to the cap
    whatever the policy says; ``abstain_text``, said where the answer is withheld.
    """

    name: str
    upstream: str | None = None
    model: str | None = None
    policy: str | None = None
    profile: str | None = None
    kind: Kind | None = None
    system: str | None = None
    examples: tuple[tuple[str, str], ...] = ()
    decoding: dict[str, Any] = Field(default_factory=dict)
    fallback: tuple[str, ...] = ()
    mode: Literal["live", "shadow"] = "live"
    tier: str | None = None
    audit_rate: Number = Field(0.01, ge=0, le=1)
    abstain_text: str = Field("I don't know.", min_length=1)

    @field_validator("decoding")
    @classmethod
    def _is_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError("a value that cannot be sent as JSON (a date, nan or inf)") from error
        return value

    def prompt(self, default: Prompt) -> Prompt:
        """The prompt this alias states, or ``default`` where it states none."""
        if self.system is None and not self.examples:
            return default
        examples = {self.kind: self.examples} if self.kind and self.examples else {}
        return Prompt(self.system, examples)


class SegmentRule(Table):
    """Questions whose text ``pattern``, a regular expression, finds belong to the segment."""

    name: str = Field(min_length=1)
    pattern: str = Field(min_length=1)


class Embedded(Table):
    """How the embedded model runs; None and absent: the back-end's defaults."""

    threads: Whole | None = Field(None, ge=1, le=1024)
    slots: Whole = Field(16, ge=1, le=256)
    context: Whole = Field(1024, ge=64, le=1 << 20)


class PerMillion(Table):
    """A model's price in US dollars per million tokens, as published on ``date``."""

    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    prompt: Number = Field(ge=0)
    completion: Number = Field(ge=0)
    cached: Number | None = Field(None, ge=0)

    @field_validator("date")
    @classmethod
    def _on_the_calendar(cls, stated: str) -> str:
        dt.date.fromisoformat(stated)
        return stated
