"""Caps of keys, kept over all workers: each worker spends only what the store has leased to it.

::

    store (the cap) --- lease, in chunks ---> this worker's account of a key and period
                    <--- what is not needed --      |
                                                    +-- share: one request's ledger
                                                    +-- share ...

The account's ledger holds the cap: nothing is reserved beyond what is leased. Beside it the bounds
of the requests under way are summed up, so that enough is leased for all of them. A worker that
dies keeps its lease, so that a cap errs on the safe side. It does not know: what is asked, HTTP,
how the store makes a lease atomic.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from poise.config import Key
from poise.errors import Unavailable
from poise.ledger import Ledger
from poise.serve.refusals import Refusal, no_store
from poise.spend import Limits, Price
from poise.store import Amounts

__all__ = ["Budgets", "Leases", "Share"]

CAPS = ("samples", "tokens", "usd")

CHUNK = 0.01
"""Share of a cap that is leased at once, where one request may not need more."""

ASK_AGAIN = 1.0
"""Seconds for which a store that had less than was wanted is not asked again."""

TIDY_EVERY = 1.0
"""Seconds between looks at what a busy worker holds and does not need."""

LONGEST_WAIT = 3600.0
"""Most seconds that Retry-After asks for."""

NOISE = 1e-9
"""Share of a sample's bound that may be lacking: the ledger rounds so when it divides by it."""

DUST = 1e-12
"""US dollars that are nothing but the rounding of sums."""

log = logging.getLogger("poise.serve")


class Leases(Protocol):
    """What is needed of the store: parts of a cap, handed out atomically over processes."""

    async def lease(self, key: str, period: str, want: Amounts, cap: Amounts) -> Amounts:
        """Grant what is left of ``cap``, at most ``want``, of each amount by itself."""
        ...

    async def give_back(self, key: str, period: str, unused: Amounts) -> None:
        """Free what was granted and not spent."""
        ...


class Budgets:
    """The caps of all keys in this worker; one event loop owns it. ``now``: unix seconds."""

    def __init__(self, store: Leases, now: Callable[[], float] = time.time):
        self._store, self._now = store, now
        self._accounts: dict[str, _Account] = {}
        self._past: list[_Account] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def ledger(
        self, key: Key, one: Amounts, bound: Amounts, price: Price | None
    ) -> Share | None:
        """A parent for one request's ledger; None where the key has no cap.

        ``one`` and ``bound``: the most that one sample and that the whole request may take.
        ``price`` None is refused (403) under a cap in dollars. The request is over when the
        share is ended, or dropped: hold it for no longer. There may be less room than ``bound``
        where the cap nears its end. Raises Refusal: 429 without room for one sample.
        """
        if key.samples is None and key.tokens is None and key.usd is None:
            return None
        if key.usd is not None and price is None:
            raise Refusal(
                403,
                f"key {key.name!r} has a cap in dollars, and this model has no price; use another"
                " model, or ask the operator to state its price",
                "permission_error",
                "no_price",
            )
        account = self._account(key)
        share = account.share(bound, price)
        try:
            while account.wanted(one, self._now()):
                await self._lease(account, one)
        except BaseException:
            share.end()
            raise
        refused = account.refusal(one, self._now())
        if refused is not None:
            share.end()
            raise refused
        self._watch()
        return share

    def refusal(self, key: Key, one: Amounts) -> Refusal | None:
        """Why not even one sample has room now, from what is leased already; None: it has."""
        account = self._accounts.get(key.name)
        return None if account is None else account.refusal(one, self._now())

    async def tidy(self) -> None:
        """Give back what is held beyond a chunk, and all that is left of periods gone by."""
        for account in tuple(self._accounts.values()):
            await self._give_back(account, account.take_spare(keep_chunk=True))
        for account in tuple(self._past):
            await self._give_back(account, account.take_spare(keep_chunk=False))
        self._past = [account for account in self._past if account.busy()]

    async def aclose(self) -> None:
        """Give back all that is not spent; requests still under way count as if in full."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for account in (*self._accounts.values(), *self._past):
            await self._give_back(account, account.take_spare(keep_chunk=False))

    # -- inside ---------------------------------------------------------------------------------

    def _account(self, key: Key) -> _Account:
        """The key's account in the period that is running, under the caps it has now."""
        now = self._now()
        account = self._accounts.get(key.name)
        if account is not None:
            if (account.ends is None or now < account.ends) and account.key == key:
                return account
            self._past.append(account)
        account = self._accounts[key.name] = _Account(key, *_period(key.period, now))
        return account

    async def _lease(self, account: _Account, one: Amounts) -> None:
        """Have the store asked, once for all who wait; a caller that is cancelled loses nothing."""
        if account.leasing is None:
            account.leasing = self._spawn(self._ask(account, one))
        try:
            await asyncio.shield(account.leasing)
        except Unavailable as error:  # a cap that nobody keeps would be none
            raise no_store() from error

    async def _ask(self, account: _Account, one: Amounts) -> None:
        try:
            want = account.wanted(one, self._now())
            if want:
                granted = await self._store.lease(
                    account.key.name, account.period, _amounts(want), _amounts(account.caps)
                )
                account.add(want, granted, self._now())
        finally:
            account.leasing = None

    async def _give_back(self, account: _Account, unused: Mapping[str, float]) -> None:
        """Hand ``unused``, which the account has no more, to the store.

        Where the store fails it is lost to the period: whether it was booked is not known, and
        holding it here as well could pass the cap.
        """
        if not unused:
            return
        try:
            await self._store.give_back(account.key.name, account.period, _amounts(unused))
        except Exception as error:  # noqa: BLE001 - no request depends on it
            log.warning(
                "lease_not_given_back",
                extra={"key": account.key.name, "error": type(error).__name__},
            )

    def _watch(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(TIDY_EVERY, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._spawn(self.tidy())
        if any(account.busy() for account in (*self._accounts.values(), *self._past)):
            self._watch()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a failed lease is told to those who wait for it, if any still do


class _Account:
    """What this worker may spend of one key's caps in one period.

    For each cap: ``leased`` from the store; ``charged``, spent or reserved, as the ledger counts;
    ``promised``, the bounds of requests under way; ``closed``, what requests that are over spent.
    """

    def __init__(self, key: Key, period: str, ends: float | None):
        self.key, self.period, self.ends = key, period, ends
        self.caps: dict[str, float] = {
            cap: most for cap in CAPS if (most := getattr(key, cap)) is not None
        }
        self.leased = dict.fromkeys(CAPS, 0.0)
        self.charged = dict.fromkeys(CAPS, 0.0)
        self.open = dict.fromkeys(CAPS, 0.0)
        self.leasing: asyncio.Task[None] | None = None
        self._promised = dict.fromkeys(CAPS, 0.0)
        self._closed = dict.fromkeys(CAPS, 0.0)
        self._chunk = dict.fromkeys(CAPS, 0.0)
        self._dry: dict[str, float] = {}
        self._ledgers: dict[Price | None, _Capped] = {}
        self._under_way = 0
        # Shares end where they are dropped, which the collector may do in any thread.
        self.over: deque[tuple[Amounts, dict[str, float]]] = deque()

    def busy(self) -> bool:
        """Whether requests are under way, or the store is being asked."""
        self._count_over()
        return self._under_way > 0 or self.leasing is not None

    def share(self, bound: Amounts, price: Price | None) -> Share:
        """A ledger for one request, its bound being promised from now on."""
        ledger = self._ledgers.get(price)
        if ledger is None:
            ledger = self._ledgers[price] = _Capped(self, price)
        self._under_way += 1
        for cap, most in self.caps.items():
            takes = getattr(bound, cap)
            self._promised[cap] += takes
            least = CHUNK * most
            self._chunk[cap] = max(takes, least if cap == "usd" else math.ceil(least))
        return Share(self, bound, ledger)

    def wanted(self, one: Amounts, now: float) -> dict[str, float]:
        """What to ask the store for, so that there is room for all under way; {}: nothing."""
        self._count_over()
        want = {}
        for cap in self.caps:
            # Follow-ups may have taken more than was promised; one sample has to fit all the same.
            takes = getattr(one, cap)
            used = max(self._closed[cap] + self._promised[cap], self.charged[cap] + takes)
            short = used - self.leased[cap]
            dry = 0.0 <= now - self._dry.get(cap, -math.inf) < ASK_AGAIN
            if short > NOISE * takes + DUST and not dry:
                want[cap] = max(short, self._chunk[cap])
        return want

    def add(self, want: Mapping[str, float], granted: Amounts, now: float) -> None:
        """Book a lease, and remember where the store had no more."""
        for cap, wanted in want.items():
            got = getattr(granted, cap)
            self.leased[cap] += got
            if got < wanted * (1 - NOISE):
                self._dry[cap] = now

    def take_spare(self, *, keep_chunk: bool) -> dict[str, float]:
        """Take out what nobody under way was promised, or what of it is beyond a chunk.

        A busy account gets to keep up to two: it would soon have to ask again.
        """
        self._count_over()
        spare = {}
        for cap in self.caps:
            used = max(self._closed[cap] + self._promised[cap], self.charged[cap])
            keep = self._chunk[cap] if keep_chunk else 0.0
            beyond = self.leased[cap] - used - keep
            if beyond > DUST and (beyond >= keep or not self._under_way):
                self.leased[cap] -= beyond
                self._dry.pop(cap, None)  # the store will have that much
                spare[cap] = beyond
        return spare

    def refusal(self, one: Amounts, now: float) -> Refusal | None:
        """Why there is no room for one sample; None: there is."""
        held = False
        for cap in self.caps:
            takes = getattr(one, cap)
            left = self.leased[cap] - self.charged[cap] + NOISE * takes + DUST
            if left + self.open[cap] < takes:
                return self._used_up(cap, takes, now)
            held = held or left < takes
        if not held:
            return None
        return Refusal(
            429,
            f"requests under way hold what is left of the caps of key {self.key.name!r}; ask again"
            " when one has ended",
            "rate_limit_error",
            "quota_in_use",
            retry_after=1.0,
        )

    def _used_up(self, cap: str, takes: float, now: float) -> Refusal:
        unit = "USD" if cap == "usd" else cap
        said = f"key {self.key.name!r}: the cap of {self.caps[cap]:,} {unit}"
        said += "" if self.ends is None else f" a {self.key.period}"
        said += " leaves no room for one more sample"
        if cap != "samples":
            said += f" of up to {takes:,.6g} {unit}; lower max_tokens"
        if self.ends is None:
            said += (";" if cap == "samples" else " or") + " ask the operator for a higher cap"
        else:
            until = dt.datetime.fromtimestamp(self.ends, dt.UTC)
            said += (
                ";" if cap == "samples" else " or"
            ) + f" ask again from {until:%Y-%m-%d} UTC on"
        wait = None if self.ends is None else min(LONGEST_WAIT, max(1.0, self.ends - now))
        code = "insufficient_quota"
        return Refusal(429, said, code, code, retry_after=wait)

    def _count_over(self) -> None:
        while self.over:
            bound, charged = self.over.popleft()
            self._under_way -= 1
            for cap in self.caps:
                self._promised[cap] -= getattr(bound, cap)
                self._closed[cap] += charged[cap]


class _Capped(Ledger):
    """The account as models of one price see it: all prices share what is charged and leased."""

    def __init__(self, account: _Account, price: Price | None):
        key = account.key
        super().__init__(Limits(key.samples, key.tokens, None, key.usd), price)
        self._charged, self._open, self._leased = account.charged, account.open, account.leased

    def _left(self, cap: str) -> float | None:
        return None if super()._left(cap) is None else self._leased[cap] - self._charged[cap]


class Share(Ledger):
    """The part of one request; it is over when nobody holds it any more."""

    def __init__(self, account: _Account, bound: Amounts, parent: _Capped):
        super().__init__(price=parent.price, parent=parent)
        self._over, self._bound, self._ended = account.over, bound, False

    def end(self) -> None:
        """What was promised and is not charged is free again."""
        if not self._ended:
            self._ended = True
            self._over.append((self._bound, self._charged))

    def __del__(self) -> None:
        self.end()


def _period(kind: str, now: float) -> tuple[str, float | None]:
    """Name of the period that ``now`` lies in, and the unix second of its end; UTC."""
    at = dt.datetime.fromtimestamp(now, dt.UTC)
    if kind == "ever":
        return "ever", None
    start = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "day":
        return f"{at:%Y-%m-%d}", (start + dt.timedelta(days=1)).timestamp()
    following = (start.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
    return f"{at:%Y-%m}", following.timestamp()


def _amounts(of: Mapping[str, float]) -> Amounts:
    return Amounts(int(of.get("samples", 0)), int(of.get("tokens", 0)), of.get("usd", 0.0))
