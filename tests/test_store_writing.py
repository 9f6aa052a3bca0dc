"""What is said to be recorded is on the disk, and nothing that goes wrong there stops a reply."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import event

from poise.errors import Unavailable
from poise.spend import Spend
from poise.store import Amounts, Decision, Outcome, Store
from poise.store.decisions import Inserts
from poise.store.opening import open_engine
from poise.store.writing import Writer

T = TypeVar("T")

ROW = Decision("0", 1.0, "small", "m", "e", "answer", "single", Spend(), content={"prompt": "hush"})


def row(place: int) -> Decision:
    return replace(ROW, id=str(place))


def ids(path: Path) -> set[str]:
    """What another program finds in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return {found for (found,) in connection.execute("SELECT id FROM decisions")}


def within(work: Coroutine[Any, Any, T], seconds: float = 20.0) -> T:
    """Run it; what hangs fails."""
    return asyncio.run(asyncio.wait_for(work, seconds))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process's transaction that does not end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No file grows beyond what the store's files are long now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = max(file.stat().st_size for file in path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- before the reply ---------------------------------------------------------------------------


def test_a_recorded_decision_is_in_the_file_before_anything_is_closed(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db")
        for place in range(3):
            assert await store.record(row(place)) is True
            assert str(place) in ids(tmp_path / "s.db")
        await store.aclose()

    within(run())


def test_what_waits_is_written_together(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "s.db", 5.0)
    commits: list[object] = []
    event.listen(engine, "commit", commits.append)

    async def run() -> None:
        insert = Inserts(engine.dialect, keeps_content=False)
        writer: Writer[Decision] = Writer(engine, tmp_path / "s.db", insert, 1000)
        assert all(await asyncio.gather(*(writer.write(row(place)) for place in range(600))))
        await asyncio.to_thread(writer.close)

    within(run())
    engine.dispose()
    assert len(ids(tmp_path / "s.db")) == 600
    assert len(commits) < 60


WRITER = """
import asyncio, sys
from dataclasses import replace
from poise.spend import Spend
from poise.store import Decision, Store

ROW = Decision("", 1.0, "small", "m", "e", "answer", "single", Spend())

async def run():
    store = Store.open(sys.argv[1])
    async def worker(name):
        for place in range(10**6):
            id = f"{sys.argv[2]}-{name}-{place}"
            if await store.record(replace(ROW, id=id)):
                print(id, flush=True)
    await asyncio.gather(*map(worker, range(16)))

asyncio.run(run())
"""


def test_a_kill_at_any_moment_loses_nothing_that_was_said_to_be_recorded(tmp_path: Path) -> None:
    path, rng, said = tmp_path / "s.db", random.Random(5), set[str]()
    for turn in range(3):
        command = [sys.executable, "-c", WRITER, str(path), str(turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said.add(process.stdout.readline().strip())
            time.sleep(rng.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
            # The last line may be half of one.
            said |= {line.strip() for line in process.stdout if line.endswith("\n")}
        assert process.returncode == -signal.SIGKILL
        assert said <= ids(path)
    assert len(said) > 30

    async def run() -> None:
        store = Store.open(path)
        assert await store.record(row(0))
        assert await store.find(min(said)) is not None
        await store.aclose()

    within(run())


# -- behind the reply ---------------------------------------------------------------------------


def test_behind_says_false_at_once_and_closing_writes_all(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db", writes="behind")
        with locked(tmp_path / "s.db"):
            told = [await store.record(row(place)) for place in range(700)]
            assert ids(tmp_path / "s.db") == set()
        await store.aclose()
        assert told == [False] * 700

    within(run())
    assert len(ids(tmp_path / "s.db")) == 700


@pytest.mark.parametrize("writes", ["before", "behind"])
def test_a_full_queue_makes_wait_and_loses_nothing(tmp_path: Path, writes: Any) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db", writes=writes, queue=2)
        await asyncio.gather(*(store.record(row(place)) for place in range(300)))
        await store.aclose()
        assert (store.problem, store.lost) == (None, 0)

    within(run())
    assert len(ids(tmp_path / "s.db")) == 300


def test_a_full_queue_holds_up_whoever_comes(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db", writes="behind", queue=1)
        with locked(tmp_path / "s.db"):
            waiting = [asyncio.ensure_future(store.record(row(place))) for place in range(9)]
            done, _ = await asyncio.wait(waiting, timeout=0.2)
            assert 1 <= len(done) <= 3
            waiting[-1].cancel()
        await asyncio.wait(waiting)
        await store.aclose()

    within(run())
    assert ids(tmp_path / "s.db") == {str(place) for place in range(8)}


def test_closing_lets_go_of_who_waits_for_room(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db", queue=1)
        with locked(tmp_path / "s.db"):
            waiting = [asyncio.ensure_future(store.record(row(place))) for place in range(9)]
            await asyncio.wait(waiting, timeout=0.1)
            closing = asyncio.ensure_future(store.aclose())
            await asyncio.sleep(0.1)
        told = await asyncio.gather(*waiting)
        await closing
        assert {place for place, was in enumerate(told) if was} == set(
            map(int, ids(tmp_path / "s.db"))
        )
        assert store.lost == told.count(False) > 0

    within(run())


# -- who waits ----------------------------------------------------------------------------------


def test_who_is_cancelled_harms_nobody_and_leaves_the_row(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db")
        with locked(tmp_path / "s.db"):
            waiting = [asyncio.ensure_future(store.record(row(place))) for place in range(40)]
            lease = asyncio.ensure_future(store.lease("k", "p", Amounts(1), Amounts(1)))
            await asyncio.sleep(0.05)
            for task in (*waiting[::2], lease):
                task.cancel()
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert told[1::2] == [True] * 20
        assert all(isinstance(one, asyncio.CancelledError) for one in told[::2])
        await store.aclose()

    within(run())
    assert len(ids(tmp_path / "s.db")) == 40


def test_several_event_loops_share_a_store(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s.db", queue=5)
    told: list[bool] = []

    def work(first: int) -> None:
        async def run() -> list[bool]:
            return await asyncio.gather(*(store.record(row(first + n)) for n in range(50)))

        told.extend(within(run()))

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    within(store.aclose())
    assert told == [True] * 150
    assert len(ids(tmp_path / "s.db")) == 150


def test_a_loop_that_is_gone_is_not_missed(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s.db")

    async def leave() -> None:
        task = asyncio.ensure_future(store.record(row(0)))
        await asyncio.sleep(0.05)
        assert not task.done()

    async def come() -> None:
        assert await store.record(row(1))
        await store.aclose()

    with locked(tmp_path / "s.db"):
        within(leave())
    within(come())
    assert ids(tmp_path / "s.db") == {"0", "1"}


# -- when it goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"id": "1"}, "UNIQUE"),
        ({"probability": float("nan")}, "not finite"),
        ({"signals": {"agreement": float("inf")}}, "JSON"),
        ({"alias": "\ud800"}, "surrogates"),
        ({"n_samples": 2**63}, "too large"),
        ({"decoding": {"stop": object()}}, "not iterable"),
    ],
)
def test_a_row_that_cannot_be_kept_takes_no_other_with_it(
    tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db", content=True)
        with locked(tmp_path / "s.db"):
            rows = [row(1), *map(row, range(2, 30)), replace(row(0), **wrong), *map(row, (30, 31))]
            waiting = [asyncio.ensure_future(store.record(one)) for one in rows]
            outcome = asyncio.ensure_future(store.attach([Outcome("31", 1, "exam")]))
            await asyncio.sleep(0.05)
        told = await asyncio.gather(*waiting)
        assert [place for place, was in enumerate(told) if not was] == [29]
        assert await outcome == ["stored"]
        assert store.lost == 1
        assert store.problem is not None
        assert said in store.problem
        assert "hush" not in store.problem
        assert "\n" not in store.problem
        assert await store.record(row(99))
        assert store.problem is None
        await store.aclose()

    within(run())
    assert len(ids(tmp_path / "s.db")) == 32


def test_a_full_disk_is_said_and_got_over(tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    async def run() -> None:
        store = Store.open(path)
        for place in range(20):
            assert await store.record(row(place))
        with full_disk(path):
            told = await asyncio.gather(*(store.record(row(place)) for place in range(20, 60)))
            assert told == [False] * 40
            assert store.problem is not None
            assert "the store cannot be written (disk" in store.problem
            with pytest.raises(Unavailable, match="cannot be written"):
                await store.attach([Outcome("1", 1, "exam")])
            found = await store.find("1")
            assert found is not None
            assert found["outcomes"] == []
        assert await store.record(row(60)) is True
        assert (store.problem, store.lost) == (None, 40)
        await store.aclose()

    within(run())
    assert ids(path) == {*map(str, range(20)), "60"}


def test_a_lock_that_is_not_given_back_is_said_and_got_over(tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    async def run() -> None:
        store = Store.open(path, lock_seconds=0.05)
        with locked(path):
            assert await store.record(row(0)) is False
            assert store.problem == "the store cannot be written (database is locked)"
            for asked in (
                store.attach([Outcome("0", 1, "exam")]),
                store.lease("k", "p", Amounts(1), Amounts(1)),
                store.give_back("k", "p", Amounts(1)),
            ):
                with pytest.raises(Unavailable, match="database is locked"):
                    await asked
            assert await store.find("0") is None
        assert await store.record(row(1)) is True
        assert store.problem is None
        await store.aclose()

    within(run())
    assert ids(path) == {"1"}


def test_a_lock_that_is_given_back_in_time_is_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db", lock_seconds=10)
        with locked(tmp_path / "s.db"):
            waiting = asyncio.ensure_future(store.record(row(0)))
            await asyncio.sleep(0.2)
            assert not waiting.done()
        assert await waiting is True
        await store.aclose()

    within(run())


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_gone_keeps_nothing_and_is_said(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "s.db"

    async def run() -> None:
        store = Store.open(path)
        assert await store.record(row(0))
        path.rename(tmp_path / "away.db")
        if replaced:
            path.write_bytes((tmp_path / "away.db").read_bytes())
        for place in (1, 2):
            assert await store.record(row(place)) is False
            assert store.problem is not None
            assert "gone" in store.problem
        with pytest.raises(Unavailable, match="gone"):
            await store.lease("k", "p", Amounts(1), Amounts(1))
        await store.aclose()

    within(run())
