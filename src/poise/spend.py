"""What answering costs: counted, bounded beforehand, and never above a cap.

``Usage`` is what one call is known to have used; ``Spend`` is a sum of them with the number of
calls, seconds and money. A ``Ledger`` guards ``Limits``: *reserve* an upper bound before a call is
sent, then *settle* it with what the call really used, *release* it if nothing was generated, or
*forfeit* it if that is not known. A ledger may have a parent (a whole file's budget, a key's cap):
a reservation must fit in both.

Two columns are kept apart. Against the **caps** a call counts in full whenever its true use is not
known (it was cut, cancelled, or the server reported none). The **spend** that is reported counts
what was seen of such a call, and carries ``estimated``. So a cap holds whatever the server did
after the connection closed, and a report does not charge 2,048 tokens for a reply cut after 30.

It does not know: models, requests, retries. Absent numbers are None and stay None when added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from poise.errors import CapReached, UsageError

__all__ = ["Ledger", "Limits", "Price", "Reservation", "Spend", "Usage", "priced", "prompt_bound"]

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
    ``completion_tokens`` that belongs to calls cut short. ``seconds``: wall clock of the work this
    spend describes, set by whoever measures it, so a sum of parallel calls is not a sum of times.
    """

    calls: int = 0
    samples: int = 0
    prompt_tokens: int | None = 0
    cached_tokens: int | None = 0
    completion_tokens: int | None = 0
    reasoning_tokens: int | None = 0
    cancelled_tokens: int = 0
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


@dataclass(slots=True)
class Reservation:
    """Room kept in a ledger for one call of ``samples`` draws; closed exactly once."""

    samples: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    open: bool = True

    @property
    def tokens(self) -> int:
        """Upper bound on prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


def priced(spend: Spend, price: Price | None) -> Spend:
    """``spend`` with its cost in dollars, where there is a price and the tokens are known."""
    if price is None or not spend.calls:
        return spend
    usage = Usage(spend.prompt_tokens, spend.completion_tokens, spend.cached_tokens)
    return replace(spend, usd=price.usd(usage))


class Ledger:
    """Keeps spending under caps. Not thread-safe: one event loop owns a ledger.

    ``spend`` is what has been spent so far, for reports; ``held`` what open reservations and calls
    of unknown fate take up beyond it, which only the caps see.
    """

    def __init__(
        self, limits: Limits = Limits(), price: Price | None = None, parent: Ledger | None = None
    ):
        if limits.max_usd is not None and price is None:
            raise UsageError("max_usd: a cap in dollars needs a dated price for the model")
        self.limits, self.price, self.parent = limits, price, parent
        self.spend = Spend()
        self._charged = {"samples": 0.0, "tokens": 0.0, "usd": 0.0}

    @property
    def caps_tokens(self) -> bool:
        """Whether any cap, here or above, depends on the number of tokens."""
        here = self.limits.max_tokens is not None or self.limits.max_usd is not None
        return here or (self.parent is not None and self.parent.caps_tokens)

    def room(self, samples: int, prompt_tokens: int, completion_tokens: int) -> int:
        """The most draws, up to ``samples``, that one call may still ask for under every cap.

        ``prompt_tokens`` and ``completion_tokens`` are bounds for one draw. A server may bill the
        prompt once for each draw, so the bound does too.
        """
        usd = self._usd(prompt_tokens, completion_tokens)
        for cap, each in (
            ("samples", 1.0),
            ("tokens", float(prompt_tokens + completion_tokens)),
            ("usd", usd),
        ):
            left = self._left(cap)
            if left is not None and each:
                samples = min(samples, math.floor(left / each + 1e-9))
        if self.parent is not None:
            samples = self.parent.room(samples, prompt_tokens, completion_tokens)
        return max(samples, 0)

    def reserve(self, samples: int, prompt_tokens: int, completion_tokens: int) -> Reservation:
        """Keep room for one call of ``samples`` draws with these bounds for one draw.

        Raises CapReached, naming the cap, when it does not fit; then nothing is kept.
        """
        if self.room(samples, prompt_tokens, completion_tokens) < samples:
            cap = self._tightest(samples, prompt_tokens, completion_tokens)
            raise CapReached(cap, f"the cap on {cap} leaves no room for {samples} more sample(s)")
        reservation = Reservation(
            samples,
            samples * prompt_tokens,
            samples * completion_tokens,
            None if self.price is None else samples * self._usd(prompt_tokens, completion_tokens),
        )
        self._charge(reservation, +1)
        return reservation

    def settle(self, reservation: Reservation, usage: Usage, samples: int) -> None:
        """Close a reservation: the call gave ``samples`` draws and used ``usage``.

        Counts the server did not report are charged to the caps in full.
        """
        seen = Reservation(
            reservation.samples,
            reservation.prompt_tokens if usage.prompt_tokens is None else usage.prompt_tokens,
            reservation.completion_tokens
            if usage.completion_tokens is None
            else usage.completion_tokens,
            reservation.usd,
        )
        if self.price is not None:
            seen.usd = self._cost(seen, usage)
        self._close(reservation)
        self._charge(reservation, -1)
        self._charge(seen, +1)
        self._record(self._priced(usage), samples=samples, cancelled=0)

    def release(self, reservation: Reservation, *, sent: bool = True) -> None:
        """Close a reservation: nothing was generated. A call that was sent counts as a call."""
        self._close(reservation)
        self._charge(reservation, -1)
        if sent:
            self._record(Spend(calls=1, usd=0.0 if self.price else None), samples=0, cancelled=0)

    def forfeit(self, reservation: Reservation, received_tokens: int = 0) -> None:
        """Close a reservation: cut or cancelled after ``received_tokens``; the rest is unknown.

        The caps are charged in full. The reported spend counts the prompt's bound and what
        arrived, and is marked ``estimated``.
        """
        self._close(reservation)
        usage = Usage(reservation.prompt_tokens, received_tokens, 0, 0, estimated=True)
        self._record(self._priced(usage), samples=0, cancelled=received_tokens)

    def absorb(self, spend: Spend, held_tokens: int = 0, held_samples: int = 0) -> None:
        """Count spend made elsewhere (an earlier part of a resumed run) against the caps."""
        self.spend = self.spend + spend
        self._charged["samples"] += spend.samples + held_samples
        self._charged["tokens"] += (spend.tokens or 0) + held_tokens
        self._charged["usd"] += spend.usd or 0.0
        if self.price is not None and held_tokens:
            self._charged["usd"] += held_tokens * max(self.price.prompt, self.price.completion)

    # -- inside ---------------------------------------------------------------------------------

    def _usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        price = self.price
        if price is None:
            return 0.0
        return prompt_tokens * price.prompt + completion_tokens * price.completion

    def _cost(self, seen: Reservation, usage: Usage) -> float:
        known = replace(
            usage, prompt_tokens=seen.prompt_tokens, completion_tokens=seen.completion_tokens
        )
        assert self.price is not None
        return self.price.usd(known) or 0.0

    def _priced(self, usage: Usage) -> Spend:
        return Spend(
            calls=1,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            usd=None if self.price is None else self.price.usd(usage),
            estimated=usage.estimated,
        )

    def _record(self, spend: Spend, *, samples: int, cancelled: int) -> None:
        ledger: Ledger | None = self
        spend = replace(spend, samples=samples, cancelled_tokens=cancelled)
        while ledger is not None:
            ledger.spend = ledger.spend + spend
            ledger = ledger.parent

    def _charge(self, reservation: Reservation, sign: int) -> None:
        ledger: Ledger | None = self
        while ledger is not None:
            ledger._charged["samples"] += sign * reservation.samples
            ledger._charged["tokens"] += sign * reservation.tokens
            ledger._charged["usd"] += sign * (reservation.usd or 0.0)
            ledger = ledger.parent

    @staticmethod
    def _close(reservation: Reservation) -> None:
        if not reservation.open:
            raise RuntimeError("a reservation is settled, released or forfeited once")
        reservation.open = False

    def _left(self, cap: str) -> float | None:
        limit: float | None = getattr(self.limits, f"max_{cap}")
        return None if limit is None else limit - self._charged[cap]

    def _tightest(self, samples: int, prompt_tokens: int, completion_tokens: int) -> str:
        each = {
            "samples": 1.0,
            "tokens": float(prompt_tokens + completion_tokens),
            "usd": self._usd(prompt_tokens, completion_tokens),
        }
        for cap, amount in each.items():
            left = self._left(cap)
            if left is not None and left + 1e-9 < samples * amount:
                return cap
        assert self.parent is not None, "room() and reserve() disagree"
        return self.parent._tightest(samples, prompt_tokens, completion_tokens)
