"""``poise.toml`` and the environment, turned into objects; the only reader of either.

::

    [[upstream]]                      # a server
    name = "lab"
    base_url = "http://localhost:8000/v1"
    key_env = "LAB_KEY"               # the environment variable that holds the key
    concurrency = 32
    per_second = 20.0
    timeout = 120.0

    [[alias]]                         # what -m NAME means
    name = "small"
    upstream = "lab"                  # absent: the embedded model
    model = "qwen2.5-7b-instruct"     # absent: the only one the server offers
    policy = "beta:threshold=0.95"
    profile = "small-number.json"     # what makes its probabilities
    kind = "number"
    system = "Answer with a number."
    examples = [["What is 3 + 4?", "3 + 4 = 7"]]   # worked examples, shown for `kind`
    [alias.decoding]
    temperature = 0.7
    max_tokens = 512

    [[segment]]                       # for `fit`: questions that the pattern finds, first match
    name = "division"
    pattern = "[0-9]+ */ *[0-9]+"

    [prices."qwen2.5-7b-instruct"]    # US dollars per million tokens, as published on a date
    date = "2026-11-01"
    prompt = 0.10
    cached = 0.05
    completion = 0.30

    [embedded]                        # the model that runs in this process
    threads = 1                       # absent: llama.cpp's choice
    slots = 16
    context = 1024

It is data: reading it opens no connection and writes nothing. An unknown key is an error.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, field_validator

from poise.errors import ConfigError, UsageError
from poise.segmenter import Rules
from poise.spend import Price
from poise.types import Kind, Prompt

__all__ = ["Alias", "Config", "Embedded", "SegmentRule", "Upstream", "environment_key", "load"]


_Whole = Annotated[int, Strict()]
_Number = Annotated[float, Strict()]
# Strict: the text "16" and true are no numbers.


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Upstream(_Table):
    """A server. ``per_second`` None: no bound on the rate of calls."""

    name: str
    base_url: str = Field(pattern=r"^https?://")
    key_env: str | None = None
    concurrency: _Whole = Field(16, ge=1, le=10_000)
    per_second: _Number | None = Field(None, gt=0)
    timeout: _Number = Field(120.0, gt=0)


class Alias(_Table):
    """A name for an arm and what goes with it. ``upstream`` None: the embedded model."""

    name: str
    upstream: str | None = None
    model: str | None = None
    policy: str | None = None
    profile: str | None = None
    kind: Kind | None = None
    system: str | None = None
    examples: tuple[tuple[str, str], ...] = ()
    decoding: dict[str, Any] = Field(default_factory=dict)

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


class SegmentRule(_Table):
    """Questions whose text ``pattern``, a regular expression, finds belong to the segment."""

    name: str = Field(min_length=1)
    pattern: str = Field(min_length=1)


class Embedded(_Table):
    """How the embedded model runs; None and absent: the back-end's defaults."""

    threads: _Whole | None = Field(None, ge=1, le=1024)
    slots: _Whole = Field(16, ge=1, le=256)
    context: _Whole = Field(1024, ge=64, le=1 << 20)


class _PerMillion(_Table):
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    prompt: _Number = Field(ge=0)
    completion: _Number = Field(ge=0)
    cached: _Number | None = Field(None, ge=0)

    @field_validator("date")
    @classmethod
    def _on_the_calendar(cls, stated: str) -> str:
        dt.date.fromisoformat(stated)
        return stated


class Config(_Table):
    """All tables. Empty by default: the embedded model, no prices."""

    upstream: tuple[Upstream, ...] = ()
    alias: tuple[Alias, ...] = ()
    segment: tuple[SegmentRule, ...] = ()
    embedded: Embedded = Embedded()
    prices: dict[str, _PerMillion] = Field(default_factory=dict)

    def find_alias(self, name: str | None) -> Alias | None:
        """The alias called ``name``, or None."""
        return next((alias for alias in self.alias if alias.name == name), None)

    def find_upstream(self, name: str) -> Upstream:
        """The upstream called ``name``. Raises UsageError when there is none."""
        for upstream in self.upstream:
            if upstream.name == name:
                return upstream
        have = ", ".join(u.name for u in self.upstream) or "none"
        raise UsageError(f"no [[upstream]] is named {name!r}; the configuration has: {have}")

    def rules(self) -> Rules:
        """How questions find their segment, the first match counting. Raises InputError."""
        return Rules(tuple((rule.name, rule.pattern) for rule in self.segment))

    def price(self, model: str | None) -> Price | None:
        """Price per token of ``model``, or None: dollars are never guessed."""
        stated = self.prices.get(model or "")
        if stated is None:
            return None
        cached = None if stated.cached is None else stated.cached / 1e6
        return Price(stated.date, stated.prompt / 1e6, stated.completion / 1e6, cached)


def load(path: str | Path | None) -> Config:
    """Read a configuration file; None gives the defaults. Raises ConfigError."""
    if path is None:
        return Config()
    try:
        data = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({_first_line(error)})", path) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}", path) from error
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        unknown = first["type"] == "extra_forbidden"
        problem = "there is no such key" if unknown else first["msg"].lower()
        raise ConfigError(f"{where}: {problem}{more}", path) from error
    _check_names(config, path)
    return config


def _check_names(config: Config, path: str | Path) -> None:
    names = [upstream.name for upstream in config.upstream]
    for kind, listed in (("upstream", names), ("alias", [alias.name for alias in config.alias])):
        for name in listed:
            if listed.count(name) > 1:
                raise ConfigError(f"two [[{kind}]] tables are named {name!r}", path)
    for alias in config.alias:
        if alias.upstream is not None and alias.upstream not in names:
            raise ConfigError(f"alias {alias.name!r}: no upstream {alias.upstream!r}", path)
        if alias.examples and alias.kind is None:
            raise ConfigError(f"alias {alias.name!r}: examples need a kind to be shown for", path)


def environment_key(variable: str | None) -> str | None:
    """The key held by an environment variable. Raises UsageError when it is named and empty."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"the environment variable {variable} is not set; it should hold the key")
    return key


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).splitlines()[0]
