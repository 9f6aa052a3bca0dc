"""From what was asked and what the alias is to what will be done: question, arm, policy, caps.

The server's caps come before the request's wishes, those before the alias, the alias before
defaults. Nothing is sent here, and nothing is remembered.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, replace
from typing import Any

from poise.arms import merged
from poise.config import Caps
from poise.errors import UsageError
from poise.policies import Abstain, Fixed, Policy, parse_policy
from poise.profile import Profile
from poise.serve.aliases import Served
from poise.serve.listening import Listen, Overheard
from poise.serve.optional_calls import OptionalCalls
from poise.serve.options import Options
from poise.serve.refusals import Refusal
from poise.serve.wire import STRUCTURED, Asked
from poise.spend import Limits
from poise.types import Arm, Backend, Kind, Question

__all__ = ["Plan", "plan"]

LONG_REPLIES = {None, Kind.JSON, Kind.MATH}
"""Answers that a short reply has no room for; None is open chat."""

LONG_REPLY_TOKENS = 512
"""Longest such reply where nobody said how long one may be."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done for one request.

    ``whole`` is the policy that the alias stands for, also where ``policy``, which answers, is
    another one (shadow). ``optional_calls``: a reply may call tools or not. ``limits`` cap
    everything the request spends, further choices included.
    """

    served: Served
    question: Question
    arm: Arm
    policy: Policy
    whole: Policy
    profile: Profile | None
    limits: Limits
    seed: int
    logprobs: int | None
    n: int
    optional_calls: bool

    def afresh(self) -> Plan:
        """The same for work behind the reply: on a back-end of its own that nobody listens to."""
        backend = _backend(self.served, optional_calls=self.optional_calls)
        return replace(self, arm=replace(self.arm, backend=backend))

    @property
    def shadow(self) -> bool:
        """Whether the client gets a plain sample while the policy runs unseen."""
        return self.served.settings.mode == "shadow"


def plan(
    asked: Asked,
    served: Served,
    caps: Caps,
    listen: Listen | None = None,
    *,
    bounded: bool = False,
) -> Plan:
    """The plan for one request; ``listen`` hears the first sample as it is generated.

    ``bounded``: a cap beyond those of the request depends on how long a reply may be.

    Raises Refusal for options that contradict each other or the configuration.
    """
    options = asked.options
    kind = _kind(asked, served)
    style = served.style(options.tier)
    policy = _policy(style.policy, options)
    messages = tuple(asked.messages)
    question = Question(_name(messages), messages, kind, options.options)
    shadow = served.settings.mode == "shadow"
    limits = _limits(asked, served, caps, style.max_seconds)
    bounded = bounded or (limits.max_tokens or limits.max_usd) is not None
    decoding = _decoding(asked, served, kind, bounded=bounded)
    form = asked.decoding.get("response_format")
    optional_calls = asked.tools and (form is None or form["type"] not in STRUCTURED)
    backend = _backend(served, optional_calls=optional_calls)
    if listen is not None:
        backend = Overheard(backend, listen)
    arm = Arm(backend, decoding, served.prompt, served.price)
    return Plan(
        served=served,
        question=question,
        arm=arm,
        policy=Policy(Fixed(max_samples=1)) if shadow else policy,
        whole=policy,
        profile=style.profile,
        limits=limits,
        seed=random.getrandbits(31) if asked.seed is None else asked.seed,
        logprobs=asked.logprobs,
        n=asked.n,
        optional_calls=optional_calls,
    )


def _backend(served: Served, *, optional_calls: bool) -> Backend:
    view: Backend = served.upstreams.view()
    return OptionalCalls(view) if optional_calls else view


def _kind(asked: Asked, served: Served) -> Kind | None:
    options = asked.options
    kind = options.kind or asked.kind or served.kind
    if options.options is not None:
        if kind not in {None, Kind.CHOICE}:
            raise Refusal(
                400,
                f"options are for a choice, and the kind is {kind}; leave one out",
                param="poise.options",
            )
        return Kind.CHOICE
    if kind is Kind.CHOICE:
        raise Refusal(
            400, "a choice needs its options: poise.options, 2 to 26 texts", param="poise.options"
        )
    return kind


def _policy(policy: Policy, options: Options) -> Policy:
    try:
        if options.policy is not None:
            policy = parse_policy(options.policy)
        if options.abstain is not None:
            policy = replace(policy, exit=Abstain(threshold=options.abstain))
    except UsageError as error:
        raise Refusal(400, str(error), param="poise.policy") from None
    return policy


def _decoding(asked: Asked, served: Served, kind: Kind | None, *, bounded: bool) -> dict[str, Any]:
    """How it is decoded; open chat on a server is passed on, with nothing added but for caps."""
    passed_on = kind is None and served.settings.upstream is not None
    own = served.settings.decoding if passed_on else served.decoding
    decoding = merged(own, asked.decoding)
    stated = served.reply_tokens or "max_tokens" in asked.decoding
    if kind in LONG_REPLIES and not stated and (bounded or not passed_on):
        decoding["max_tokens"] = max(decoding.get("max_tokens", 0), LONG_REPLY_TOKENS)
    if kind is None and asked.seed is not None and asked.n == 1:
        decoding["seed"] = asked.seed  # passed on as it is: there is only one draw
    return decoding


def _limits(asked: Asked, served: Served, caps: Caps, max_seconds: float | None) -> Limits:
    options = asked.options
    if options.max_usd is not None and served.price is None:
        raise Refusal(
            400,
            f"max_usd needs a price, and none is configured for {served.name}",
            param="poise.max_usd",
        )
    if caps.max_samples is not None and asked.n > caps.max_samples:
        raise Refusal(
            400, f"n is {asked.n}; this gateway draws at most {caps.max_samples}", param="n"
        )
    return Limits(
        _least(options.max_samples, caps.max_samples),
        _least(options.max_tokens, caps.max_tokens),
        _least(options.max_seconds, max_seconds, caps.max_seconds),
        _least(options.max_usd, caps.max_usd),
    )


def _least(*bounds: Any) -> Any:
    return min((bound for bound in bounds if bound is not None), default=None)


def _name(messages: tuple[Any, ...]) -> str:
    """16 hexadecimal digits made of the conversation.

    Every gateway gives the same, so that a client's seed means the same draws in all of them. It is
    told to who asked and kept nowhere: a record has it hashed once more, under a key.
    """
    text = json.dumps(messages, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
