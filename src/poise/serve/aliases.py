"""What a model name means to the gateway, made from the configuration and kept up to date.

An alias is an arm without its request: servers, decoding, prompt, policy, profile, caps. Without a
configuration there are two, on the embedded model: one that answers numbers, whose probabilities
the shipped profile makes, and one for anything. Profiles that change on disk are read again; one
that cannot be read leaves the last good one in place. It does not know requests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from poise.arms import HTTP_DECODING, check_decoding, engine, is_embedded, merged, server
from poise.config import Alias, Config, Tier
from poise.policies import Policy, capped, parse_policy
from poise.profile import SHIPPED, Profile
from poise.profile import load as load_profile
from poise.serve.breaker import Breaker
from poise.serve.refusals import Refusal
from poise.serve.upstreams import Replica, Upstreams
from poise.spend import Price
from poise.types import Backend, Kind, Prompt

__all__ = ["EMBEDDED", "EMBEDDED_NAME", "Aliases", "Served", "Style", "listed"]

log = logging.getLogger("poise.serve")

EMBEDDED = (
    Alias(name="smollm2"),
    Alias(name="smollm2-number", kind=Kind.NUMBER),
)
"""What is served where the configuration names nothing."""

EMBEDDED_NAME = "embedded"
"""How the model in this process is called among upstreams."""


@dataclass(frozen=True, slots=True)
class Style:
    """How an alias answers in one tier: by which policy, calibrated by which profile, how long."""

    policy: Policy
    profile: Profile | None
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """An alias, ready to answer. ``styles`` by tier; None is the one without a tier.

    ``reply_tokens``: whether the configuration says how long a reply may be.
    """

    name: str
    model: str | None
    upstreams: Upstreams
    decoding: Mapping[str, Any]
    prompt: Prompt
    kind: Kind | None
    price: Price | None
    styles: Mapping[str | None, Style]
    settings: Alias
    reply_tokens: bool

    def style(self, tier: str | None) -> Style:
        """How to answer in ``tier``. Raises Refusal for one that there is not."""
        if tier not in self.styles:
            have = ", ".join(sorted(name for name in self.styles if name is not None))
            raise Refusal(400, f"no tier {tier!r}; there are: {have}", param="poise.tier")
        return self.styles[tier]


class Aliases:
    """Every alias by name. Raises UsageError, ConfigError, InputError or ModelMissing when made.

    ``connect`` makes the back-end of an alias on one of its upstreams (None: in this process), for
    tests and for servers that the configuration does not know how to reach.
    """

    def __init__(
        self,
        config: Config,
        connect: Callable[[Alias, str | None], Backend] | None = None,
        on_call: Callable[[str, float, Exception | None], None] | None = None,
    ):
        self._config, self._connect, self._on_call = config, connect, on_call
        self._replicas: dict[tuple[str, str | None], Replica] = {}
        self._groups: dict[tuple[int, ...], Upstreams] = {}
        self._seen: dict[str, tuple[int, int] | None] = {}
        self._profiles: dict[str, Profile] = {}
        self._by_name: dict[str, Served] = {}
        for alias in listed(config):
            self._by_name[alias.name] = self._serve(alias)

    def __iter__(self) -> Iterator[Served]:
        return iter(self._by_name.values())

    def find(self, name: str) -> Served:
        """The alias called ``name``. Raises Refusal, 404, where there is none."""
        served = self._by_name.get(name)
        if served is None:
            have = ", ".join(sorted(self._by_name)[:12])
            raise Refusal(
                404,
                f"no model {name[:80]!r}; this gateway serves: {have}",
                code="model_not_found",
                param="model",
            )
        return served

    @property
    def groups(self) -> list[Upstreams]:
        """Every group of servers once, to be watched and closed."""
        return list(self._groups.values())

    def reload(self) -> list[str]:
        """Read again the profiles whose files changed; the names of the aliases that got another.

        A file that is gone or broken is logged and changes nothing.
        """
        changed = {path for path, seen in self._seen.items() if _stamp(path) != seen}
        for path in sorted(changed):
            self._seen[path] = _stamp(path)
            try:
                self._profiles[path] = load_profile(path)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the last one stays
                kept = {"profile": Path(path).name, "error": type(error).__name__}
                log.warning("profile_kept", extra=kept)
                changed.discard(path)
        renewed = []
        for served in list(self._by_name.values()):
            if changed & self._named(served.settings):
                styles = self._styles(served.settings)
                self._by_name[served.name] = replace(served, styles=styles)
                renewed.append(served.name)
        return renewed

    # -- inside ---------------------------------------------------------------------------------

    def _serve(self, alias: Alias) -> Served:
        decoding: Mapping[str, Any] = HTTP_DECODING
        prompt, made = Prompt(), None
        if alias.upstream is None and self._connect is None:
            made, decoding, prompt = engine(alias.model, self._config)
        group = self._group(alias, [alias.upstream, *alias.fallback], made)
        decoding = merged(decoding, alias.decoding)
        check_decoding("a server" if made is None else made.engine, decoding)
        return Served(
            name=alias.name,
            model=alias.model,
            upstreams=group,
            decoding=decoding,
            prompt=alias.prompt(prompt),
            kind=alias.kind,
            price=self._config.price(alias.model),
            styles=self._styles(alias),
            settings=alias,
            reply_tokens="max_tokens" in alias.decoding,
        )

    def _group(self, alias: Alias, names: list[str | None], made: Backend | None) -> Upstreams:
        replicas = [self._replica(alias, name, made) for name in names]
        key = tuple(id(replica) for replica in replicas)
        if key not in self._groups:
            every = [self._config.find_upstream(n).check_every for n in names if n is not None]
            check_every = min((s for s in every if s), default=0.0)
            self._groups[key] = Upstreams(replicas, check_every, on_call=self._on_call)
        return self._groups[key]

    def _replica(self, alias: Alias, name: str | None, made: Backend | None) -> Replica:
        """The server of that name with the alias's model, shared by all aliases that mean it."""
        key = (name or EMBEDDED_NAME, alias.model)
        if key in self._replicas:
            return self._replicas[key]
        if self._connect is not None:
            backend = self._connect(alias, name)
        elif made is not None:
            backend = made
        else:
            assert name is not None
            backend = server(self._config.find_upstream(name), alias.model)
        failures, cool_down = 5, 10.0
        if name is not None:
            upstream = self._config.find_upstream(name)
            failures, cool_down = upstream.breaker, upstream.cool_down
        self._replicas[key] = Replica(key[0], backend, Breaker(failures, cool_down))
        return self._replicas[key]

    def _named(self, alias: Alias) -> set[str]:
        """The profile files that the alias and the tiers name."""
        tiers = (self._config.find_tier(name) for name in self._config.tiers)
        named = {alias.profile, *(tier.profile for tier in tiers if tier is not None)}
        if is_embedded(alias):
            named.add(str(SHIPPED))
        return {name for name in named if name is not None and name != "none"}

    def _styles(self, alias: Alias) -> dict[str | None, Style]:
        plain = Tier()
        styles: dict[str | None, Style] = {
            name: self._style(alias, self._config.find_tier(name) or plain)
            for name in self._config.tiers
        }
        own = styles[alias.tier] if alias.tier is not None else self._style(alias, plain)
        return {**styles, None: own}

    def _style(self, alias: Alias, tier: Tier) -> Style:
        profile = self._profile(tier.profile or alias.profile, alias)
        stated = tier.policy or (None if tier.profile else alias.policy)
        if stated is None and profile is not None:
            policy = profile.policy
        else:
            policy = parse_policy(stated or "beta")
        if tier.max_samples is not None:
            policy = capped(policy, tier.max_samples)
        return Style(policy, profile, tier.max_seconds)

    def _profile(self, named: str | None, alias: Alias) -> Profile | None:
        if named == "none":
            return None
        path = named or (str(SHIPPED) if is_embedded(alias) else None)
        if path is None:
            return None
        if path not in self._profiles:
            self._seen[path] = _stamp(path)
            self._profiles[path] = load_profile(path)
        return self._profiles[path]


def listed(config: Config) -> tuple[Alias, ...]:
    """The aliases of a configuration; without any, one for each server, or the embedded model."""
    servers = tuple(Alias(name=one.name, upstream=one.name) for one in config.upstream)
    return config.alias or servers or EMBEDDED


def _stamp(path: str) -> tuple[int, int] | None:
    """What changes when a file does; None where there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
