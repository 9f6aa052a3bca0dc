"""From flags and configuration to an arm and what goes with it; the same for every verb."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import stamina

from poise.arms import (
    HTTP_DECODING,
    TRANSFORMERS,
    check_decoding,
    engine,
    is_embedded,
    merged,
    server,
)
from poise.backends import Http, Stored
from poise.config import Alias, Config, environment_key, load
from poise.errors import UsageError
from poise.ledger import Ledger
from poise.policies import Policy, capped, parse_policy
from poise.profile import SHIPPED, Profile
from poise.profile import load as load_profile
from poise.spend import Limits
from poise.types import Arm, Backend, Kind, Prompt, Question

__all__ = ["ArmFlags", "Chosen", "budget", "choose", "limits"]

OPEN_CHAT_TOKENS = 256
"""Longest reply to open chat on the embedded model, whose own default suits short answers."""


@dataclass(frozen=True, slots=True)
class ArmFlags:
    """What the command line said about the arm; None where it said nothing."""

    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    policy: str | None = None
    kind: Kind | None = None
    temperature: float | None = None
    system: str | None = None
    reply_tokens: int | None = None
    max_samples: int | None = None
    config: Path | None = None
    concurrency: int = 8
    profile: str | None = None
    edt: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The arm, the policy and the answer kind (None: take the file's, or infer).

    ``length_stated``: flags, configuration or a stored pool say how long a reply may be.
    """

    arm: Arm
    policy: Policy
    kind: Kind | None
    length_stated: bool
    profile: Profile | None = None

    def arm_for(self, question: Question) -> Arm:
        """The arm for one question: an open one gets room to reply, unless a length was stated."""
        length = self.arm.decoding.get("max_tokens", OPEN_CHAT_TOKENS)
        if question.kind is not None or self.length_stated or length >= OPEN_CHAT_TOKENS:
            return self.arm
        return replace(self.arm, decoding={**self.arm.decoding, "max_tokens": OPEN_CHAT_TOKENS})


def choose(flags: ArmFlags) -> Chosen:
    """The arm that flags and configuration name: flags first, then the alias, then defaults.

    Raises UsageError for what makes no sense, ConfigError for the file, ModelMissing when the
    embedded model is wanted and absent. Nothing is opened or sent yet.
    """
    stamina.instrumentation.set_on_retry_hooks([])  # what fails for good is said in one line
    config = load(flags.config)
    alias = config.find_alias(flags.model) or Alias(name="", model=flags.model)
    if flags.api_key_env is not None and flags.base_url is None:
        raise UsageError("--api-key-env names the key of the server at --base-url; give both")
    if flags.base_url is not None and alias.upstream is not None:
        raise UsageError(f"--base-url and the alias {alias.name!r} name two servers; give one")
    # A wrong policy, cap or profile should be said before a model is looked for.
    profile = _profile(flags, alias)
    stated = flags.policy or alias.policy
    if profile is not None and stated is None:
        most = flags.max_samples
        policy = profile.policy if most is None else capped(profile.policy, most)
    else:
        policy = parse_policy(stated or "beta", flags.max_samples)
    backend, decoding, prompt = _backend(flags, alias, config)
    decoding = _decoding(flags, alias, decoding)
    check_decoding(backend.engine, decoding)
    prompt = alias.prompt(prompt)
    if flags.system is not None:
        prompt = Prompt(flags.system, prompt.examples)
    price = config.price(alias.model)
    return Chosen(
        Arm(backend, decoding, prompt, price),
        policy,
        flags.kind or alias.kind,
        length_stated=(
            flags.reply_tokens is not None
            or "max_tokens" in alias.decoding
            or backend.engine == "stored"
        ),
        profile=profile,
    )


def _decoding(flags: ArmFlags, alias: Alias, default: Mapping[str, Any]) -> dict[str, Any]:
    """Flags first, then the alias, then what suits the model. Raises UsageError."""
    if flags.edt is not None and flags.temperature is not None:
        raise UsageError("--edt sets the temperature of each token; leave --temperature out")
    said = {"temperature": flags.temperature, "edt": flags.edt, "max_tokens": flags.reply_tokens}
    stated = merged(alias.decoding, {name: v for name, v in said.items() if v is not None})
    made = merged(default, stated)
    heat = made.get("temperature")
    if isinstance(heat, float) and not math.isfinite(heat):
        raise UsageError(f"--temperature (temperature) is {heat}: it must be a finite number")
    length = made.get("max_tokens", 1)
    if not isinstance(length, int) or not 1 <= length <= 1_000_000:
        raise UsageError(f"--reply-tokens (max_tokens) is {length}: it must be 1 to 1000000")
    return made


def _profile(flags: ArmFlags, alias: Alias) -> Profile | None:
    """The profile that is named, or the one shipped for the embedded model."""
    named = flags.profile or alias.profile
    if named is not None:
        return None if named == "none" else load_profile(named)
    embedded = is_embedded(alias) and flags.base_url is None
    return load_profile(SHIPPED) if embedded else None


def _backend(
    flags: ArmFlags, alias: Alias, config: Config
) -> tuple[Backend, Mapping[str, Any], Prompt]:
    model = alias.model
    if flags.base_url is not None:
        key = environment_key(flags.api_key_env)
        named = Http(flags.base_url, model, api_key=key, concurrency=4 * flags.concurrency)
        return named, HTTP_DECODING, Prompt()
    if alias.upstream is not None:
        return server(config.find_upstream(alias.upstream), model), HTTP_DECODING, Prompt()
    if model is not None and model.startswith("stored:"):
        if any(said is not None for said in (flags.temperature, flags.edt, flags.system)):
            stated = "--temperature and --system" if flags.edt is None else "--edt"
            raise UsageError(f"-m {model}: its samples are drawn already; leave {stated} out")
        pool = Stored.open(model.removeprefix("stored:"))
        return pool, dict(pool.decoding or {}), Prompt()
    if model is None or model.endswith(".gguf") or model.startswith(TRANSFORMERS):
        return engine(model, config)
    raise UsageError(
        f"-m {model}: neither an alias of the configuration, a .gguf file, transformers:MODEL nor"
        " stored:FILE; a model on a server also needs --base-url"
    )


def limits(
    max_samples: int | None,
    max_tokens: int | None,
    max_seconds: float | None,
    max_usd: float | None,
) -> Limits:
    """Hard caps for each question. Raises UsageError for a cap that is not above 0."""
    return Limits(max_samples, max_tokens, max_seconds, max_usd)


def budget(text: str | None, arm: Arm) -> Ledger | None:
    """The ledger of a whole file from ``5000samples``, ``2e5tokens`` or ``3usd``.

    Raises UsageError for anything else, and for dollars where the model has no price.
    """
    if text is None:
        return None
    unit = next((unit for unit in _CAPS if text.endswith(unit)), "")
    try:
        caps = _CAPS[unit](float(text.removesuffix(unit)))
    except (KeyError, ValueError, OverflowError):
        raise UsageError(
            f"--budget {text}: write a number above 0 and its unit: 5000samples, 2e5tokens or 3usd"
        ) from None
    return Ledger(caps, arm.price)


_CAPS: Mapping[str, Callable[[float], Limits]] = {
    "samples": lambda amount: Limits(max_samples=int(amount)),
    "tokens": lambda amount: Limits(max_tokens=int(amount)),
    "usd": lambda amount: Limits(max_usd=amount),
}
