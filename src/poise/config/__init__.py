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
    upstream = "lab"                  # absent: a model in this process
    model = "qwen2.5-7b-instruct"     # absent: the only one the server offers, or the embedded one
    policy = "beta:threshold=0.95"
    profile = "small-number.json"     # what makes its probabilities
    kind = "number"
    system = "Answer with a number."
    examples = [["What is 3 + 4?", "3 + 4 = 7"]]   # worked examples, shown for `kind`
    [alias.decoding]
    temperature = 0.7
    max_tokens = 512

    [[alias]]                         # a model in this process, run by PyTorch
    name = "honest"
    model = "transformers:+runs/prefs"      # transformers:[MODEL][+ADAPTER], as after -m
    [alias.decoding]
    edt = {t0 = 0.8, m = 0.8, gamma = 1.0}  # in place of a temperature; this engine's alone

    [[segment]]                       # for `fit`: questions that the pattern finds, first match
    name = "division"
    pattern = "[0-9]+ */ *[0-9]+"

    [prices."qwen2.5-7b-instruct"]    # US dollars per million tokens, as published on a date
    date = "2026-11-01"
    prompt = 0.10
    cached = 0.05
    completion = 0.30

    [embedded]                        # the model that runs in this process
    threads = 1                       # of llama.cpp; absent: its choice
    slots = 16
    context = 1024

What only ``poise serve`` reads::

    [[key]]                           # who may ask; without any, only this machine is served
    name = "team"
    sha256 = "…"                      # of the key; or env = "TEAM_KEY", a variable that holds it
    tokens = 2_000_000                # in a period, over all workers; also samples, usd
    period = "day"
    concurrency = 32

    [tier.fast]                       # "tier": "fast" in a request
    max_samples = 4
    max_seconds = 5.0

    [store]
    path = "poise.db"                 # where decisions and outcomes are kept

    [serve]
    in_flight = 256                   # beyond it requests queue, beyond the queue they get 429
    [serve.caps]                      # no request may spend more
    max_samples = 32

It is data: reading it opens no connection and writes nothing. An unknown key is an error.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from pydantic import Field, ValidationError

from poise.config.serving import Caps, Key, Serve, Store, Tier
from poise.config.tables import Alias, Embedded, PerMillion, SegmentRule, Table, Upstream
from poise.errors import ConfigError, UsageError
from poise.segmenter import Rules
from poise.spend import Price

__all__ = [
    "METRICS_ENV",
    "SERVED_ENV",
    "TIERS",
    "Alias",
    "Caps",
    "Config",
    "Embedded",
    "Key",
    "SegmentRule",
    "Serve",
    "Store",
    "Tier",
    "Upstream",
    "environment_key",
    "load",
    "metrics_directory",
    "served",
]

METRICS_ENV = "PROMETHEUS_MULTIPROC_DIR"
"""The variable in which prometheus_client looks for that directory."""

SERVED_ENV = "POISE_SERVED"
"""The variable in which ``poise serve`` hands its configuration to its workers."""


TIERS: dict[str, Tier] = {
    "fast": Tier(max_samples=4),
    "balanced": Tier(),
    "best": Tier(policy="fixed:max_samples=16"),
}
"""The tiers that are there without being written down."""


class Config(Table):
    """All tables. Empty by default: the embedded model, no prices."""

    upstream: tuple[Upstream, ...] = ()
    alias: tuple[Alias, ...] = ()
    segment: tuple[SegmentRule, ...] = ()
    embedded: Embedded = Embedded()
    prices: dict[str, PerMillion] = Field(default_factory=dict)
    key: tuple[Key, ...] = ()
    tier: dict[str, Tier] = Field(default_factory=dict)
    store: Store = Store()
    serve: Serve = Serve()

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

    @property
    def tiers(self) -> tuple[str, ...]:
        """The names of all tiers, written down or there by themselves."""
        return tuple(dict.fromkeys((*TIERS, *self.tier)))

    def find_tier(self, name: str) -> Tier | None:
        """The tier called ``name``, as configured or as it is there by itself; or None."""
        return self.tier.get(name) or TIERS.get(name)

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
    upstreams = [upstream.name for upstream in config.upstream]
    aliases = [alias.name for alias in config.alias]
    keys = [key.name for key in config.key]
    for kind, listed in (("upstream", upstreams), ("alias", aliases), ("key", keys)):
        for name in listed:
            if listed.count(name) > 1:
                raise ConfigError(f"two [[{kind}]] tables are named {name!r}", path)
    for alias in config.alias:
        _check_alias(alias, upstreams, config, path)
    for key in config.key:
        for name in key.aliases:
            if name not in aliases:
                raise ConfigError(f"key {key.name!r}: no alias {name!r}", path)


def _check_alias(alias: Alias, upstreams: list[str], config: Config, path: str | Path) -> None:
    for name in (*((alias.upstream,) if alias.upstream else ()), *alias.fallback):
        if name not in upstreams:
            raise ConfigError(f"alias {alias.name!r}: no upstream {name!r}", path)
    if alias.fallback and alias.upstream is None:
        raise ConfigError(f"alias {alias.name!r}: a fallback needs an upstream before it", path)
    if alias.examples and alias.kind is None:
        raise ConfigError(f"alias {alias.name!r}: examples need a kind to be shown for", path)
    if alias.tier is not None and alias.tier not in config.tiers:
        raise ConfigError(f"alias {alias.name!r}: no [tier.{alias.tier}]", path)


def environment_key(variable: str | None) -> str | None:
    """The key held by an environment variable. Raises UsageError when it is named and empty."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"the environment variable {variable} is not set; it should hold the key")
    return key


def served() -> Config:
    """The configuration that ``poise serve`` handed to this worker. Raises UsageError without."""
    text = os.environ.get(SERVED_ENV)
    if text is None:
        raise UsageError("this worker was handed no configuration; start it by poise serve")
    return Config.model_validate_json(text)


def metrics_directory() -> str | None:
    """Where the workers of one gateway share their counters; None: each has its own."""
    return os.environ.get(METRICS_ENV)


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).splitlines()[0]
