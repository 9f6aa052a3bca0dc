"""What answering costs: tokens of one call, sums over calls, prices, caps.

``Usage`` is what one call is known to have used; ``Spend`` a sum of them with the number of calls,
seconds and money; ``Limits`` the caps that a ``ledger.Ledger`` keeps. Absent numbers are None and
stay None when added. It does not know: models, requests, retries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from poise.errors import UsageError

__all__ = ["Limits", "Price", "Spend", "Usage", "priced", "prompt_bound"]

TEMPLATE_TOKENS = 64
"""Tokens a chat template may add around a conversation (default system text, markers)."""

MESSAGE_TOKENS = 8
"""Tokens a chat template may add around each message."""


def prompt_bound(messages: Iterable[Mapping[str, Any]]) -> int:
    """Upper bound on a conversation's prompt tokens.

    A byte-level tokenizer never makes more tokens than there are UTF-8 bytes; the template's own
    text is allowed for on top.
    """
    total = TEMPLATE_TOKENS
    for message in messages:
        total += MESSAGE_TOKENS + sum(len(str(part).encode()) for part in message.values())
    return total


def _plus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per token for one model, as published on ``date`` (ISO, e.g. 2026-11-01)."""

    date: str
    prompt: float
    completion: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "completion", "cached"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"price {name}={value}: must be a finite number >= 0 in USD/token")

    def usd(self, usage: Usage) -> float | None:
        """Cost of ``usage``; None where a token count is not known."""
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        cached = usage.cached_tokens or 0
        cached_price = self.prompt if self.cached is None else self.cached
        prompt = (usage.prompt_tokens - cached) * self.prompt + cached * cached_price
        return prompt + usage.completion_tokens * self.completion


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. ``completion_tokens`` covers every choice and includes reasoning.

    ``estimated``: at least one number is a bound or a count of what arrived, not a bill.
    """

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    cached_tokens: int | None = 0
    reasoning_tokens: int | None = 0
    estimated: bool = False

    @property
    def tokens(self) -> int | None:
        """Prompt and completion together."""
        return _plus(self.prompt_tokens, self.completion_tokens)


@dataclass(frozen=True, slots=True)
class Spend:
    """A sum over calls; adding is associative and an unknown count stays unknown.

    ``samples``: draws that were asked for and answered. ``cancelled_tokens``: the part of
    ``completion_tokens`` that belongs to calls cut short. ``held_samples``, ``held_tokens``: what
    calls of unknown fate may have taken beyond what is counted; only caps see it. ``seconds``:
    wall clock of the work this spend describes, set by whoever measures it, so a sum of parallel
    calls is not a sum of times.
    """

    calls: int = 0
    samples: int = 0
    prompt_tokens: int | None = 0
    cached_tokens: int | None = 0
    completion_tokens: int | None = 0
    reasoning_tokens: int | None = 0
    cancelled_tokens: int = 0
    held_samples: int = 0
    held_tokens: int = 0
    seconds: float = 0.0
    usd: float | None = None
    estimated: bool = False

    def __add__(self, other: Spend) -> Spend:
        # A spend without calls has no price to be unknown: it is the neutral element for usd.
        usd = other.usd if self.calls == 0 else self.usd
        if self.calls and other.calls:
            usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        return Spend(
            calls=self.calls + other.calls,
            samples=self.samples + other.samples,
            prompt_tokens=_plus(self.prompt_tokens, other.prompt_tokens),
            cached_tokens=_plus(self.cached_tokens, other.cached_tokens),
            completion_tokens=_plus(self.completion_tokens, other.completion_tokens),
            reasoning_tokens=_plus(self.reasoning_tokens, other.reasoning_tokens),
            cancelled_tokens=self.cancelled_tokens + other.cancelled_tokens,
            held_samples=self.held_samples + other.held_samples,
            held_tokens=self.held_tokens + other.held_tokens,
            seconds=self.seconds + other.seconds,
            usd=usd,
            estimated=self.estimated or other.estimated,
        )

    @property
    def tokens(self) -> int | None:
        """Prompt and completion tokens together, None where either is not known."""
        return _plus(self.prompt_tokens, self.completion_tokens)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as in the ``spend`` object of a result."""
        return {
            "calls": self.calls,
            "samples": self.samples,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "cancelled_tokens": self.cancelled_tokens,
            "held_samples": self.held_samples,
            "held_tokens": self.held_tokens,
            "seconds": round(self.seconds, 6),
            "usd": self.usd,
            "estimated": self.estimated,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Spend:
        """Inverse of ``to_dict``; unknown keys are ignored, so newer files can be read."""
        return cls(**{name: data[name] for name in cls.__slots__ if name in data})


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard caps; None means no cap. Seconds are wall clock from the start of the question."""

    max_samples: int | None = None
    max_tokens: int | None = None
    max_seconds: float | None = None
    max_usd: float | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name}={value}: a cap must be a finite number above 0")


def priced(spend: Spend, price: Price | None) -> Spend:
    """``spend`` with its cost in dollars, where there is a price and the tokens are known."""
    if price is None or not spend.calls:
        return spend
    usage = Usage(spend.prompt_tokens, spend.completion_tokens, spend.cached_tokens)
    return replace(spend, usd=price.usd(usage))
