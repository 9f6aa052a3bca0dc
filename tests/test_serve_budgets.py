"""Caps of keys: whatever many workers do, no cap is passed, and little of it is left unused."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.config import Key
from poise.ledger import Ledger, Reservation
from poise.serve import budgets as module
from poise.serve.budgets import CHUNK, Budgets, Leases
from poise.serve.refusals import Refusal
from poise.spend import Limits, Price, Usage
from poise.store import Amounts, Store

CHEAP = Price("2026-11-01", prompt=1e-6, completion=2e-6)
DEAR = Price("2026-11-01", prompt=5e-5, completion=1e-4)
NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC).timestamp()
DAY = 86_400.0
CAPS = ("samples", "tokens", "usd")


class Memory:
    """Leases in a dictionary, atomic because nothing is awaited between reading and writing."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, str], dict[str, float]] = {}
        self.asked = 0
        self.returned = 0

    async def lease(self, key: str, period: str, want: Amounts, cap: Amounts) -> Amounts:
        await asyncio.sleep(0)
        self.asked += 1
        taken = self.taken.setdefault((key, period), dict.fromkeys(CAPS, 0.0))
        granted = {
            name: max(0, min(getattr(want, name), getattr(cap, name) - taken[name]))
            for name in CAPS
        }
        for name in CAPS:
            taken[name] += granted[name]
        await asyncio.sleep(0)
        return Amounts(**granted)

    async def give_back(self, key: str, period: str, unused: Amounts) -> None:
        self.returned += 1
        taken = self.taken[key, period]
        for name in CAPS:
            taken[name] -= getattr(unused, name)
            assert taken[name] > -1e-9
        await asyncio.sleep(0)


class Clock:
    """Seconds since 1970, as the test wants them."""

    def __init__(self, at: float = NOON) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def key(**caps: Any) -> Key:
    return Key(name="team", env="TEAM", **caps)


def bounds(
    samples: int, prompt: int = 100, reply: int = 400, price: Price = CHEAP
) -> tuple[Amounts, Amounts]:
    """What one sample takes at most, and what so many take."""
    usd = prompt * price.prompt + reply * price.completion
    one = Amounts(1, prompt + reply, usd)
    return one, Amounts(samples, samples * one.tokens, samples * usd)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(whole())


async def spend(
    budgets: Budgets, of: Key, samples: int, price: Price = CHEAP, reply: int = 400
) -> None:
    """A request that asks for so many samples, one after another, and uses the whole bound."""
    parent = await budgets.ledger(of, *bounds(samples, 100, reply, price), price)
    ledger = Ledger(Limits(), price, parent)
    for _ in range(samples):
        held = ledger.reserve(1, 100, reply)
        ledger.settle(held, Usage(100, reply), 1)


async def refused(budgets: Budgets, of: Key, samples: int = 1) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await budgets.ledger(of, *bounds(samples), CHEAP)
    return caught.value


@asynccontextmanager
async def real_store(folder: Path) -> AsyncIterator[Store]:
    store = Store.open(folder / "poise.db")
    try:
        yield store
    finally:
        await store.aclose()


class Truth:
    """What was really spent of a key in one period."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(CAPS, 0.0)

    def add(self, prompt: int, reply: int, price: Price) -> None:
        self.spent["samples"] += 1
        self.spent["tokens"] += prompt + reply
        self.spent["usd"] += prompt * price.prompt + reply * price.completion


async def request(
    rng: random.Random, budgets: Budgets, of: Key, truth: Truth, *, steps: int
) -> None:
    """One request that spends, loses and cancels calls as it likes within its bound."""
    price, samples = rng.choice((CHEAP, DEAR)), rng.randint(1, 6)
    prompt, reply = rng.randint(10, 80), rng.randint(10, 300)
    parent = await budgets.ledger(of, *bounds(samples, prompt, reply, price), price)
    ledger = Ledger(Limits(max_samples=samples), price, parent)
    held: list[Reservation] = []
    for _ in range(samples):
        if ledger.room(1, prompt, reply) < 1:
            break
        held.append(ledger.reserve(1, prompt, reply))
        for _ in range(rng.randrange(steps)):
            await asyncio.sleep(0)
    for call in held:
        end = rng.random()
        if end < 0.1:
            ledger.release(call)
            continue
        used = rng.randint(1, reply)
        truth.add(prompt, used, price)
        if end < 0.25:
            ledger.forfeit(call, rng.randint(0, used))
        else:
            ledger.settle(call, Usage(prompt, used), 1)


def within(truth: Truth, of: Key) -> bool:
    caps = {cap: getattr(of, cap) for cap in CAPS}
    return all(most is None or truth.spent[cap] <= most * (1 + 1e-9) for cap, most in caps.items())


some_caps = st.fixed_dictionaries(
    {},
    optional={
        "samples": st.integers(1, 120),
        "tokens": st.integers(1, 30_000),
        "usd": st.floats(1e-4, 1.0),
    },
)


@settings(max_examples=60, deadline=None)
@given(caps=some_caps, seed=st.integers(0, 2**32), workers=st.integers(1, 4))
def test_no_cap_is_passed_whatever_workers_do_crash_or_cancel(
    caps: dict[str, Any], seed: int, workers: int
) -> None:
    rng = random.Random(seed)
    of, truths, clock, store = key(**caps), {}, Clock(), Memory()

    async def scenario() -> None:
        alive = [Budgets(store, clock) for _ in range(workers)]
        tasks: list[asyncio.Task[None]] = []
        for _ in range(40):
            truth = truths.setdefault(clock.at // DAY, Truth())
            place = rng.randrange(workers)
            work = request(rng, alive[place], of, truth, steps=4)
            tasks.append(asyncio.create_task(work))
            chance = rng.random()
            if chance < 0.1:
                rng.choice(tasks).cancel()
            elif chance < 0.15:
                alive[place] = Budgets(store, clock)  # the old one crashed: nothing is given back
            elif chance < 0.2:
                await alive[place].tidy()
            elif chance < 0.25:
                await asyncio.gather(*tasks, return_exceptions=True)
                await alive[place].aclose()
            elif chance < 0.3:  # requests belong to the period in which they began
                await asyncio.gather(*tasks, return_exceptions=True)
                clock.at += rng.choice((0.5, 2.0, DAY / 2))
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        fine = (asyncio.CancelledError, Refusal, type(None))
        assert all(isinstance(one, fine) for one in done), done
        assert all(within(truth, of) for truth in truths.values())

    run(scenario)


@settings(max_examples=60, deadline=None)
@given(
    cap=st.sampled_from(CAPS),
    share=st.floats(0.001, 0.6),
    samples=st.integers(1, 6),
    workers=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_when_a_request_is_refused_no_worker_holds_more_than_a_chunk_unused(
    cap: str, share: float, samples: int, workers: int, seed: int
) -> None:
    rng = random.Random(seed)
    one, bound = bounds(samples)
    most = getattr(bound, cap) / share
    most = most if cap == "usd" else max(1, round(most))
    of, clock, truth = key(**{cap: most}), Clock(), Truth()

    async def scenario() -> None:
        store = Memory()
        alive = [Budgets(store, clock) for _ in range(workers)]
        for _ in range(20_000):
            clock.at += 0.1
            try:
                ledger = await rng.choice(alive).ledger(of, one, bound, CHEAP)
            except Refusal as refusal:
                said = refusal.type
                break
            used = rng.randint(200, 400)
            assert ledger is not None
            for _ in range(ledger.room(samples, 100, 400)):
                ledger.settle(ledger.reserve(1, 100, 400), Usage(100, used), 1)
                truth.add(100, used, CHEAP)
            del ledger
            for budgets in alive:
                await budgets.tidy()
        else:
            raise AssertionError("never refused")
        assert said == "insufficient_quota"
        chunk = max(getattr(bound, cap), CHUNK * most + (cap != "usd"))
        unused = most - truth.spent[cap]
        assert unused >= -1e-9 * most
        # Each other worker may hold a chunk; this one had less than it takes for one sample.
        assert unused < (workers - 1) * chunk + getattr(one, cap) + 1e-6 * most

    run(scenario)


def test_a_key_without_caps_needs_no_lease() -> None:
    async def scenario() -> None:
        store = Memory()
        assert await Budgets(store).ledger(key(), *bounds(4), None) is None
        assert store.asked == 0

    run(scenario)


def test_the_store_is_asked_a_hundred_times_for_a_cap_of_thousands_of_requests() -> None:
    async def scenario() -> None:
        store = Memory()
        budgets, of = Budgets(store, Clock()), key(tokens=2_000_000)
        for _ in range(4000):
            await spend(budgets, of, 1)
        assert store.asked <= 101
        assert (await refused(budgets, of)).type == "insufficient_quota"
        assert store.taken["team", "2026-11-22"]["tokens"] == 2_000_000

    run(scenario)


def test_requests_that_come_together_each_get_their_whole_bound() -> None:
    async def scenario() -> None:
        store = Memory()
        budgets, of = Budgets(store, Clock()), key(samples=1000)
        got = await asyncio.gather(*(budgets.ledger(of, *bounds(8), None) for _ in range(50)))
        # None has reserved anything yet, and there is room for all: the store was asked once.
        assert store.asked == 1
        for ledger in got:
            assert ledger is not None
            ledger.reserve(8, 100, 400)

    run(scenario)


def test_what_a_burst_did_not_need_is_given_back_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIDY_EVERY", 0.01)

    async def scenario() -> None:
        store = Memory()
        budgets, of = Budgets(store, Clock()), key(tokens=1_000_000)
        got = await asyncio.gather(*(budgets.ledger(of, *bounds(8), None) for _ in range(50)))
        taken = store.taken["team", "2026-11-22"]
        assert taken["tokens"] == 50 * 8 * 500
        await asyncio.sleep(0.03)
        assert taken["tokens"] == 50 * 8 * 500  # promised to requests under way
        del got
        await asyncio.sleep(0.05)
        assert taken["tokens"] == CHUNK * 1_000_000
        await spend(budgets, of, 2)
        await budgets.aclose()
        assert taken["tokens"] == 1000

    run(scenario)


def test_a_request_is_over_when_its_ledger_is_dropped_and_not_before() -> None:
    async def scenario() -> None:
        store = Memory()
        budgets, of = Budgets(store, Clock()), key(samples=100)
        held = Ledger(Limits(), None, await budgets.ledger(of, *bounds(60), None))
        await spend(budgets, of, 40)
        await budgets.tidy()
        assert store.taken["team", "2026-11-22"]["samples"] == 100
        held.reserve(60, 100, 400)
        del held
        gc.collect()
        await budgets.tidy()
        assert store.taken["team", "2026-11-22"]["samples"] == 100  # reserved, so it may be spent

    run(scenario)


@pytest.mark.parametrize(
    ("period", "name", "until", "wait"),
    [
        ("day", "2026-12-31", "2027-01-01", 60.0),
        ("month", "2026-12", "2027-01-01", 60.0),
        ("ever", "ever", None, None),
    ],
)
def test_a_period_ends_at_midnight_in_utc_and_a_new_one_begins_with_the_whole_cap(
    period: str, name: str, until: str | None, wait: float | None
) -> None:
    async def scenario() -> None:
        midnight = dt.datetime(2027, 1, 1, tzinfo=dt.UTC).timestamp()
        clock, store = Clock(midnight - 60), Memory()
        budgets, of = Budgets(store, clock), key(samples=10, period=period)
        await spend(budgets, of, 10)
        assert set(store.taken) == {("team", name)}
        refusal = await refused(budgets, of)
        assert (refusal.status, refusal.type) == (429, "insufficient_quota")
        assert refusal.retry_after == wait
        assert "10 samples" in refusal.message
        assert until is None or until in refusal.message
        clock.at = midnight
        if until is None:
            await refused(budgets, of)
        else:
            await spend(budgets, of, 10)

    run(scenario)


def test_the_wait_until_a_far_end_of_a_period_is_capped() -> None:
    async def scenario() -> None:
        budgets, of = Budgets(Memory(), Clock()), key(samples=1, period="month")
        await spend(budgets, of, 1)
        assert (await refused(budgets, of)).retry_after == 3600

    run(scenario)


def test_what_is_left_of_a_period_is_given_back_when_it_is_over_and_what_runs_belongs_to_it() -> (
    None
):
    async def scenario() -> None:
        clock, store = Clock(), Memory()
        budgets, of = Budgets(store, clock), key(tokens=100_000)
        late = Ledger(Limits(), None, await budgets.ledger(of, *bounds(4), None))
        await spend(budgets, of, 3)
        clock.at += DAY
        await spend(budgets, of, 1)
        await budgets.tidy()
        old = store.taken["team", "2026-11-22"]
        assert old["tokens"] == (4 + 3) * 500
        late.settle(late.reserve(2, 100, 400), Usage(200, 100), 2)
        del late
        await budgets.tidy()
        assert old["tokens"] == 300 + 3 * 500
        assert store.taken["team", "2026-11-23"]["tokens"] == CHUNK * 100_000

    run(scenario)


def test_caps_that_were_changed_hold_from_the_next_request_on() -> None:
    async def scenario() -> None:
        store = Memory()
        budgets = Budgets(store, Clock())
        await spend(budgets, key(samples=10), 10)
        await refused(budgets, key(samples=10))
        await spend(budgets, key(samples=15), 5)
        await refused(budgets, key(samples=15))
        await refused(budgets, key(samples=12))

    run(scenario)


@pytest.mark.parametrize(
    ("caps", "said"),
    [
        ({"samples": 3, "tokens": 10_000}, "3 samples a day"),
        ({"samples": 90, "tokens": 1_600}, "1,600 tokens a day"),
        ({"usd": 0.003, "tokens": 10_000}, "0.003 USD a day"),
    ],
)
def test_the_refusal_names_the_cap_that_is_used_up(caps: dict[str, Any], said: str) -> None:
    async def scenario() -> None:
        budgets, of = Budgets(Memory(), Clock()), key(**caps)
        await spend(budgets, of, 3)
        assert said in (await refused(budgets, of)).message

    run(scenario)


def test_near_the_end_a_request_gets_what_is_left() -> None:
    async def scenario() -> None:
        budgets, of = Budgets(Memory(), Clock()), key(samples=10)
        await spend(budgets, of, 7)
        ledger = await budgets.ledger(of, *bounds(8), None)
        assert ledger is not None
        assert ledger.room(8, 100, 400) == 3

    run(scenario)


def test_room_that_is_only_held_by_others_is_no_used_up_cap() -> None:
    async def scenario() -> None:
        budgets, of = Budgets(Memory(), Clock()), key(tokens=4_000)
        first = Ledger(Limits(), None, await budgets.ledger(of, *bounds(8), None))
        held = first.reserve(8, 100, 400)
        refusal = await refused(budgets, of)
        assert (refusal.status, refusal.type) == (429, "rate_limit_error")
        assert refusal.code == "quota_in_use"
        assert budgets.refusal(of, bounds(1)[0]) is not None
        first.settle(held, Usage(100, 100), 8)
        assert budgets.refusal(of, bounds(1)[0]) is None
        await spend(budgets, of, 7)

    run(scenario)


def test_models_of_different_prices_share_the_cap_in_dollars_each_at_its_own_price() -> None:
    async def scenario() -> None:
        budgets, of = Budgets(Memory(), Clock()), key(usd=1.0)
        await spend(budgets, of, 22, DEAR)  # 0.045 each, 0.99 in all
        with pytest.raises(Refusal, match="USD"):
            await budgets.ledger(of, *bounds(1, price=DEAR), DEAR)
        await spend(budgets, of, 11, CHEAP)  # 0.0009 each, 0.0099 in all
        with pytest.raises(Refusal, match="USD"):
            await budgets.ledger(of, *bounds(1), CHEAP)

    run(scenario)


def test_a_busy_worker_keeps_what_it_would_soon_ask_for_again() -> None:
    async def scenario() -> None:
        store = Memory()
        budgets, of = Budgets(store, Clock()), key(samples=100)
        first = await budgets.ledger(of, *bounds(12), None)
        second = await budgets.ledger(of, *bounds(8), None)
        assert first is not None
        assert second is not None
        second.reserve(8, 100, 400)
        del first
        await budgets.tidy()
        assert store.taken["team", "2026-11-22"]["samples"] == 20
        del second
        await budgets.tidy()
        assert store.taken["team", "2026-11-22"]["samples"] == 8 + 8  # spent, and a chunk

    run(scenario)


def test_follow_ups_beyond_a_promise_leave_others_the_room_that_the_store_still_has() -> None:
    async def scenario() -> None:
        budgets, of = Budgets(Memory(), Clock()), key(tokens=500_000)
        first = Ledger(Limits(), None, await budgets.ledger(of, *bounds(1), None))
        first.reserve(1, 100, 400)
        for _ in range(9):
            first.reserve(1, 100, 400, follow_up=True)
        assert first.room(1, 100, 400) == 0  # the chunk is used up, and 500 were promised
        second = await budgets.ledger(of, *bounds(1), None)
        assert second is not None
        assert second.room(1, 100, 400) == 1

    run(scenario)


def test_a_refused_request_holds_nothing_even_while_its_refusal_is_kept() -> None:
    async def scenario() -> None:
        store = Memory()
        budgets, of = Budgets(store, Clock()), key(tokens=400)
        kept = await refused(budgets, of)
        assert "up to 500 tokens; lower max_tokens" in kept.message
        await budgets.aclose()
        assert store.taken["team", "2026-11-22"]["tokens"] == 0

    run(scenario)


def test_a_cap_in_dollars_refuses_a_model_without_a_price() -> None:
    async def scenario() -> None:
        with pytest.raises(Refusal, match="no price") as caught:
            await Budgets(Memory()).ledger(key(usd=1.0), *bounds(1), None)
        assert caught.value.status == 403

    run(scenario)


def test_a_dry_store_is_not_asked_again_for_each_request_but_a_second_later_it_is() -> None:
    async def scenario() -> None:
        clock, store = Clock(), Memory()
        one, other = Budgets(store, clock), Budgets(store, clock)
        of = key(samples=10)
        await spend(one, of, 4)
        held = await other.ledger(of, *bounds(6), None)
        for _ in range(20):
            await refused(one, of)
        assert store.asked == 3
        del held
        await other.aclose()
        clock.at += 1
        await spend(one, of, 6)

    run(scenario)


def test_a_request_that_is_cancelled_while_the_store_is_asked_loses_nothing() -> None:
    async def scenario() -> None:
        store = Memory()
        budgets, of = Budgets(store, Clock()), key(samples=10)
        for turns in range(5):
            task = asyncio.create_task(budgets.ledger(of, *bounds(10), None))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del task
        await spend(budgets, of, 10)
        await refused(budgets, of)

    run(scenario)


class Failing(Memory):
    """A store that fails as long as it is told to."""

    broken = True

    async def lease(self, key: str, period: str, want: Amounts, cap: Amounts) -> Amounts:
        if self.broken:
            raise ConnectionError("the store is gone")
        return await super().lease(key, period, want, cap)

    async def give_back(self, key: str, period: str, unused: Amounts) -> None:
        await super().give_back(key, period, unused)
        raise ConnectionError("the store is gone, or only its reply")


def test_a_store_that_fails_lets_nothing_through_and_works_again_once_it_is_back() -> None:
    async def scenario() -> None:
        store = Failing()
        budgets, of = Budgets(store, Clock()), key(samples=10)
        got = await asyncio.gather(
            *(budgets.ledger(of, *bounds(2), None) for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(one, ConnectionError) for one in got)
        store.broken = False
        await spend(budgets, of, 1)
        assert store.taken["team", "2026-11-22"]["samples"] == 1  # none for those that failed
        await spend(budgets, of, 3)
        await budgets.aclose()  # a return that fails is nobody's error, and is not held twice
        await spend(budgets, of, 6)
        await refused(budgets, of)

    run(scenario)


def test_two_workers_on_one_real_store_share_a_cap_and_give_back_what_they_do_not_need(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        of, clock = key(samples=40, tokens=20_000, usd=0.036), Clock()
        async with real_store(tmp_path) as here, real_store(tmp_path) as there:
            workers = Budgets(here, clock), Budgets(there, clock)
            await asyncio.gather(*(spend(workers[i % 2], of, 1) for i in range(10)))
            for worker in workers:
                await worker.aclose()
            third = Budgets(here, clock)
            for _ in range(30):
                await spend(third, of, 1)
            assert (await refused(third, of)).type == "insufficient_quota"

    run(scenario)


def test_the_store_is_what_budgets_need(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with real_store(tmp_path) as store:
            leases: Leases = store
            cap = Amounts(samples=5)
            assert await leases.lease("a", "ever", Amounts(samples=9), cap) == Amounts(samples=5)

    run(scenario)


def test_a_request_costs_microseconds_while_the_lease_lasts() -> None:
    async def scenario() -> None:
        budgets, of = Budgets(Memory(), time.time), key(samples=10**9, tokens=10**12)
        one, bound = bounds(1)
        best = float("inf")
        for _ in range(20):
            started = time.perf_counter()
            for _ in range(200):
                await budgets.ledger(of, one, bound, None)
            best = min(best, (time.perf_counter() - started) / 200)
        assert best < 100e-6  # measured: about 10; the rest is for slow machines
        await budgets.aclose()

    run(scenario)
