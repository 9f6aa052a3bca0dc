"""Spending under caps: bounded before a call is sent, and never above a cap.

A ``Ledger`` guards ``Limits``: *reserve* an upper bound before a call is
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
from dataclasses import dataclass, replace

from poise.errors import CapReached, UsageError
from poise.spend import Limits, Price, Spend, Usage

__all__ = ["Ledger", "Reservation"]


@dataclass(slots=True)
class Reservation:
    """Room kept in a ledger for one call of ``samples`` draws (a follow-up: 0); closed once."""

    samples: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    open: bool = True

    @property
    def tokens(self) -> int:
        """Upper bound on prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


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
        self._open = {"samples": 0.0, "tokens": 0.0, "usd": 0.0}

    @property
    def caps_tokens(self) -> bool:
        """Whether any cap, here or above, depends on the number of tokens."""
        here = self.limits.max_tokens is not None or self.limits.max_usd is not None
        return here or (self.parent is not None and self.parent.caps_tokens)

    @property
    def caps_usd(self) -> bool:
        """Whether any cap, here or above, is in dollars."""
        here = self.limits.max_usd is not None
        return here or (self.parent is not None and self.parent.caps_usd)

    def room(
        self,
        samples: int,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        once_settled: bool = False,
        follow_up: bool = False,
    ) -> int:
        """The most draws, up to ``samples``, that one call may still ask for under every cap.

        ``prompt_tokens`` and ``completion_tokens`` are bounds for one draw. A server may bill the
        prompt once for each draw, so the bound does too. ``once_settled``: as if what open
        reservations hold were free again, which says whether waiting for them may help.
        ``follow_up``: the call is a further question, which no cap on samples counts.
        """
        usd = self._usd(prompt_tokens, completion_tokens)
        for cap, each in (
            ("samples", 0.0 if follow_up else 1.0),
            ("tokens", float(prompt_tokens + completion_tokens)),
            ("usd", usd),
        ):
            left = self._left(cap)
            if left is not None and once_settled:
                left += self._open[cap]
            if left is not None and each:
                samples = min(samples, math.floor(left / each + 1e-9))
        if self.parent is not None:
            samples = self.parent.room(
                samples,
                prompt_tokens,
                completion_tokens,
                once_settled=once_settled,
                follow_up=follow_up,
            )
        return max(samples, 0)

    def reserve(
        self, samples: int, prompt_tokens: int, completion_tokens: int, *, follow_up: bool = False
    ) -> Reservation:
        """Keep room for one call of ``samples`` draws with these bounds for one draw.

        ``follow_up``: of one further question instead, with ``samples`` 1. Raises CapReached,
        naming the cap, when it does not fit; then nothing is kept.
        """
        if self.room(samples, prompt_tokens, completion_tokens, follow_up=follow_up) < samples:
            cap = self._tightest(samples, prompt_tokens, completion_tokens, follow_up=follow_up)
            raise CapReached(cap, f"the cap on {cap} leaves no room for {samples} more sample(s)")
        reservation = Reservation(
            0 if follow_up else samples,
            samples * prompt_tokens,
            samples * completion_tokens,
            None if self.price is None else samples * self._usd(prompt_tokens, completion_tokens),
        )
        self._charge(reservation, +1)
        self._hold(reservation, +1)
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
        held = seen.tokens - (usage.prompt_tokens or 0) - (usage.completion_tokens or 0)
        lost = reservation.samples - samples
        self._record(self._seen(usage, samples=samples, held_samples=lost, held_tokens=held))

    def release(self, reservation: Reservation, *, sent: bool = True) -> None:
        """Close a reservation: nothing was generated. A call that was sent counts as a call."""
        self._close(reservation)
        self._charge(reservation, -1)
        if sent:
            self._record(Spend(calls=1, usd=0.0 if self.price else None))

    def forfeit(self, reservation: Reservation, received_tokens: int = 0) -> None:
        """Close a reservation: cut or cancelled after ``received_tokens``; the rest is unknown.

        The caps are charged in full. The reported spend counts the prompt's bound and what
        arrived, and is marked ``estimated``.
        """
        self._close(reservation)
        usage = Usage(reservation.prompt_tokens, received_tokens, 0, 0, estimated=True)
        self._record(
            self._seen(
                usage,
                cancelled_tokens=received_tokens,
                held_samples=reservation.samples,
                held_tokens=max(0, reservation.completion_tokens - received_tokens),
            )
        )

    def absorb(self, spend: Spend, held_tokens: int = 0, held_samples: int = 0) -> None:
        """Count spend made elsewhere (an earlier part of a resumed run) against the caps."""
        self.spend = self.spend + spend
        held_tokens += spend.held_tokens
        self._charged["samples"] += spend.samples + spend.held_samples + held_samples
        self._charged["tokens"] += (spend.tokens or 0) + held_tokens
        self._charged["usd"] += spend.usd or 0.0
        if self.price is not None:
            unpriced = held_tokens + ((spend.tokens or 0) if spend.usd is None else 0)
            self._charged["usd"] += unpriced * max(self.price.prompt, self.price.completion)

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

    def _seen(
        self,
        usage: Usage,
        *,
        samples: int = 0,
        cancelled_tokens: int = 0,
        held_samples: int = 0,
        held_tokens: int = 0,
    ) -> Spend:
        """One call as it is reported."""
        return Spend(
            calls=1,
            samples=samples,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cancelled_tokens=cancelled_tokens,
            held_samples=held_samples,
            held_tokens=held_tokens,
            usd=None if self.price is None else self.price.usd(usage),
            estimated=usage.estimated,
        )

    def _record(self, spend: Spend) -> None:
        ledger: Ledger | None = self
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

    def _hold(self, reservation: Reservation, sign: int) -> None:
        ledger: Ledger | None = self
        while ledger is not None:
            ledger._open["samples"] += sign * reservation.samples
            ledger._open["tokens"] += sign * reservation.tokens
            ledger._open["usd"] += sign * (reservation.usd or 0.0)
            ledger = ledger.parent

    def _close(self, reservation: Reservation) -> None:
        if not reservation.open:
            raise RuntimeError("a reservation is settled, released or forfeited once")
        reservation.open = False
        self._hold(reservation, -1)

    def _left(self, cap: str) -> float | None:
        limit: float | None = getattr(self.limits, f"max_{cap}")
        return None if limit is None else limit - self._charged[cap]

    def _tightest(
        self, samples: int, prompt_tokens: int, completion_tokens: int, *, follow_up: bool
    ) -> str:
        each = {
            "samples": 0.0 if follow_up else 1.0,
            "tokens": float(prompt_tokens + completion_tokens),
            "usd": self._usd(prompt_tokens, completion_tokens),
        }
        for cap, amount in each.items():
            left = self._left(cap)
            if left is not None and amount and math.floor(left / amount + 1e-9) < samples:
                return cap
        assert self.parent is not None, "room() and reserve() disagree"
        return self.parent._tightest(samples, prompt_tokens, completion_tokens, follow_up=follow_up)
