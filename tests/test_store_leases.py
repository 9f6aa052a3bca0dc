"""What is granted of a cap, to all processes together, is never more than the cap."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.store import Amounts, Store

FIELDS = ("samples", "tokens", "usd")

amounts = st.builds(
    Amounts,
    samples=st.integers(0, 20),
    tokens=st.integers(0, 2**40),
    usd=st.integers(0, 64).map(lambda eighths: eighths / 8),
)
steps = st.tuples(
    st.sampled_from(["lease", "give back"]), st.sampled_from("ab"), st.sampled_from("12"), amounts
)


@given(done=st.lists(steps, max_size=12), cap=amounts)
@settings(deadline=None, max_examples=30)
def test_a_lease_grants_what_is_left_of_each_amount_and_no_more(
    tmp_path_factory: pytest.TempPathFactory,
    done: list[tuple[str, str, str, Amounts]],
    cap: Amounts,
) -> None:
    path = tmp_path_factory.mktemp("any") / "s.db"

    async def run() -> None:
        store = Store.open(path)
        taken: dict[tuple[str, str, str], float] = defaultdict(float)
        for what, key, period, amount in done:
            if what == "give back":
                await store.give_back(key, period, amount)
                for name in FIELDS:
                    left = taken[key, period, name] - getattr(amount, name)
                    taken[key, period, name] = max(0, left)
                continue
            granted = await store.lease(key, period, amount, cap)
            for name in FIELDS:
                room = getattr(cap, name) - taken[key, period, name]
                assert getattr(granted, name) == max(0, min(getattr(amount, name), room))
                taken[key, period, name] += getattr(granted, name)
        await store.aclose()

    asyncio.run(run())


def test_a_cap_that_shrinks_grants_nothing_until_there_is_room_again(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db")
        assert await store.lease("k", "p", Amounts(10), Amounts(10)) == Amounts(10)
        assert await store.lease("k", "p", Amounts(10), Amounts(4)) == Amounts(0)
        await store.give_back("k", "p", Amounts(7))
        assert await store.lease("k", "p", Amounts(10), Amounts(4)) == Amounts(1)
        await store.aclose()

    asyncio.run(run())


def test_what_is_granted_outlives_the_process(tmp_path: Path) -> None:
    async def lease(want: int) -> Amounts:
        store = Store.open(tmp_path / "s.db")
        granted = await store.lease("k", "p", Amounts(want, want, want), Amounts(5, 5, 5))
        await store.aclose()
        return granted

    assert [asyncio.run(lease(4)) for _ in range(3)] == [
        Amounts(4, 4, 4),
        Amounts(1, 1, 1),
        Amounts(0, 0, 0),
    ]


WORKER = """
import asyncio, json, random, sys, time
from poise.store import Amounts, Store

async def run(path, start, seed, rounds):
    rng, store = random.Random(seed), Store.open(path, lock_seconds=30)
    cap, held = Amounts(400, 4000, 40.0), [0, 0, 0.0]
    time.sleep(max(0, start - time.time()))
    for turn in range(rounds):
        want = Amounts(rng.randint(0, 30), rng.randint(0, 300), rng.randint(0, 24) / 8)
        got = await store.lease("k", "p", want, cap)
        held = [a + b for a, b in zip(held, (got.samples, got.tokens, got.usd))]
        if turn % 3 == 0:
            back = Amounts(held[0] // 4, held[1] // 4, held[2] // 4)
            held = [held[0] - back.samples, held[1] - back.tokens, held[2] - back.usd]
            await store.give_back("k", "p", back)
    print(json.dumps(held))
    await store.aclose()

asyncio.run(run(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), 40))
"""


def test_several_processes_together_never_hold_more_than_the_cap(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    start = str(time.time() + 1.5)  # so that they all begin at once
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path), start, str(seed)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    ends = []
    for worker in workers:
        said, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        ends.append(json.loads(said))
    held = [sum(column) for column in zip(*ends, strict=True)]
    cap = (400, 4000, 40.0)
    assert all(amount <= most for amount, most in zip(held, cap, strict=True))

    async def rest() -> Amounts:
        store = Store.open(path)
        left = await store.lease("k", "p", Amounts(10**6, 10**6, 1e6), Amounts(*cap))
        await store.aclose()
        return left

    left = asyncio.run(rest())
    # Not one grant was lost or made twice: what is held and what is left make the cap.
    assert [a + b for a, b in zip(held, (left.samples, left.tokens, left.usd), strict=True)] == [
        *cap
    ]
