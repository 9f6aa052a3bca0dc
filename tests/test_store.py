"""A store keeps decisions and outcomes as they were given, and opens nothing that is no store."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
import threading
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_mock_engine, insert
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from poise.errors import InputError, Unavailable, UsageError
from poise.spend import Spend
from poise.store import Amounts, Decision, Outcome, Store
from poise.store.decisions import Inserts
from poise.store.opening import open_engine, read_secret
from poise.store.outcomes import attach
from poise.store.schema import insert_missing, meta, tables
from poise.types import Kind, StopReason

FULL = Decision(
    id="d1",
    created=1_790_000_000.25,
    alias="small",
    key="team",
    model="qwen2.5-7b",
    engine="vllm",
    kind=Kind.NUMBER,
    mode="live",
    decision="answer",
    stop=StopReason.SURE,
    probability=0.93,
    calibrated=True,
    reason="why it is so",
    profile_id="p",
    profile_version=3,
    n_samples=4,
    clusters=(0, 0, None, 1),
    signals=MappingProxyType({"agreement": 0.8, "p_true": None}),
    missing={"p_true": "no log-probabilities"},
    prompt_hmac="ab",
    answer_hmac="cd",
    decoding={"temperature": 0.8, "stop": ["\n"]},
    spend=Spend(4, 4, 212, 96, 160, 0, 31, 1, 2, 2.1, None, estimated=True),
    rounds=2,
    seconds=2.5,
    propensity=0.99,
    parent="d0",
    content={"prompt": "What is 3 + 4?", "replies": ["7", "é\n"]},
)
PLAIN = Decision("d1", 1.0, "small", "m", "e", "answer", "single", Spend())


def as_found(row: Decision) -> dict[str, Any]:
    """What ``find`` says of a decision that has no outcomes and no content."""
    plain = {field.name: getattr(row, field.name) for field in fields(row)}
    return {
        **plain,
        "clusters": list(row.clusters),
        "signals": dict(row.signals),
        "missing": dict(row.missing),
        "decoding": dict(row.decoding),
        "spend": row.spend.to_dict(),
        "content": None,
        "outcomes": [],
    }


def kept(path: Path, *rows: Decision, **options: Any) -> list[Mapping[str, Any] | None]:
    """Open, record, find and close."""

    async def run() -> list[Mapping[str, Any] | None]:
        store = Store.open(path, **options)
        assert [await store.record(row) for row in rows] == [True] * len(rows)
        found = [await store.find(row.id) for row in rows]
        await store.aclose()
        return found

    return asyncio.run(run())


def told(path: Path, *batches: list[Outcome]) -> list[list[str]]:
    async def run() -> list[list[str]]:
        store = Store.open(path)
        await store.record(PLAIN)
        await store.record(replace(PLAIN, id="d2"))
        said = [await store.attach(batch) for batch in batches]
        await store.aclose()
        return said

    return asyncio.run(run())


def found(path: Path, id: str) -> Mapping[str, Any]:
    async def run() -> Mapping[str, Any]:
        store = Store.open(path)
        row = await store.find(id)
        await store.aclose()
        assert row is not None
        return row

    return asyncio.run(run())


def modes(folder: Path) -> list[int]:
    return [stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()]


def side_files(path: Path) -> list[str]:
    return sorted(other.name for other in path.parent.iterdir())


# -- decisions ----------------------------------------------------------------------------------


def test_a_decision_comes_back_with_every_field_as_it_went(tmp_path: Path) -> None:
    (row,) = kept(tmp_path / "s.db", FULL)
    assert row == as_found(FULL)
    assert json.loads(json.dumps(row)) == row


numbers = st.floats(-1e300, 1e300)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
counts = st.none() | st.integers(0, 2**63 - 1)


@given(
    rows=st.lists(
        st.builds(
            Decision,
            id=st.uuids().map(str),
            created=numbers,
            alias=texts,
            model=texts,
            engine=texts,
            decision=texts,
            stop=texts,
            spend=st.builds(Spend, prompt_tokens=counts, usd=st.none() | numbers),
            key=st.none() | texts,
            kind=st.none() | st.sampled_from(Kind),
            probability=st.none() | numbers,
            calibrated=st.booleans(),
            n_samples=st.integers(0, 1000),
            clusters=st.lists(st.none() | st.integers(0, 9)).map(tuple),
            signals=st.dictionaries(texts, st.none() | numbers, max_size=3),
            missing=st.dictionaries(texts, texts, max_size=3),
        ),
        unique_by=lambda row: row.id,
        max_size=4,
    )
)
@settings(deadline=None, max_examples=25)
def test_no_field_is_bent_on_its_way(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Decision]
) -> None:
    path = tmp_path_factory.mktemp("any") / "s.db"
    assert kept(path, *rows) == [as_found(row) for row in rows]


def test_an_unknown_id_is_found_as_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db")
        assert await store.find("nobody") is None
        await store.aclose()

    asyncio.run(run())


def test_the_most_recent_come_first_and_by_alias(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db")
        for place, alias in enumerate("abab"):
            await store.record(replace(PLAIN, id=str(place), created=float(place), alias=alias))
        assert [row["id"] for row in await store.recent(3)] == ["3", "2", "1"]
        assert [row["id"] for row in await store.recent(9, "a")] == ["2", "0"]
        await store.aclose()

    asyncio.run(run())


WORDS = "the moon over Samarkand"


@pytest.mark.parametrize("kept_open", [True, False])
def test_no_byte_of_content_reaches_the_disk_unless_it_is_asked_for(
    tmp_path: Path, kept_open: bool
) -> None:
    row = replace(FULL, content={"prompt": WORDS, "replies": [WORDS]})

    async def run(path: Path, *, content: bool) -> bytes:
        store = Store.open(path, content=content)
        assert await store.record(row)
        await store.attach([Outcome("d1", 1, "exam")])
        if not kept_open:
            await store.aclose()
        files = b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))
        await store.aclose()
        return files

    for folder in ("without", "with"):
        (tmp_path / folder).mkdir()
    assert WORDS.encode() not in asyncio.run(run(tmp_path / "without" / "s.db", content=False))
    assert WORDS.encode() in asyncio.run(run(tmp_path / "with" / "s.db", content=True))


def test_content_comes_back_where_it_is_kept(tmp_path: Path) -> None:
    bare = replace(FULL, id="d2", content=None)
    first, second = kept(tmp_path / "s.db", FULL, bare, content=True)
    assert first == {**as_found(FULL), "content": FULL.content}
    assert second == as_found(bare)


def test_a_decision_is_shown_without_its_content() -> None:
    assert "3 + 4" not in repr(FULL)


# -- outcomes -----------------------------------------------------------------------------------


def test_each_outcome_is_told_what_it_was_and_the_history_stays(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    said = told(
        path,
        [Outcome("d1", 1, "exam", 5.0), Outcome("d1", 0.5, "user")],
        [Outcome("d1", 1.0, "exam", 6.0), Outcome("d1", 0, "exam"), Outcome("d3", 1, "exam")],
        [],
    )
    assert said == [["stored", "stored"], ["unchanged", "replaced", "unknown"], []]
    history = found(path, "d1")["outcomes"]
    assert [(one["source"], one["value"], one["time"], one["counts"]) for one in history] == [
        ("exam", 1.0, 5.0, False),
        ("user", 0.5, None, True),
        ("exam", 0.0, None, True),
    ]
    assert found(path, "d2")["outcomes"] == []


@given(
    batches=st.lists(
        st.lists(
            st.builds(
                Outcome,
                id=st.sampled_from(["d1", "d2", "d3"]),
                value=st.sampled_from([0, 0.5, 1]),
                source=st.sampled_from("ab"),
            )
        ),
        max_size=4,
    )
)
@settings(deadline=None, max_examples=25)
def test_outcomes_follow_the_last_word_whatever_the_batches(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Outcome]]
) -> None:
    path = tmp_path_factory.mktemp("any") / "s.db"
    last: dict[tuple[str, str], float] = {}
    expected = []
    for batch in batches:
        expected.append([])
        for one in batch:
            before = last.get((one.id, one.source))
            known = "unchanged" if before == one.value else "replaced"
            word = "stored" if before is None else known
            expected[-1].append("unknown" if one.id == "d3" else word)
            last[one.id, one.source] = one.value
    assert told(path, *batches) == expected
    for known in ("d1", "d2"):
        counting = [one for one in found(path, known)["outcomes"] if one["counts"]]
        words = {source: value for (of, source), value in last.items() if of == known}
        assert len(counting) == len(words)
        assert {one["source"]: one["value"] for one in counting} == words


def test_more_outcomes_than_a_statement_has_parameters(tmp_path: Path) -> None:
    kept(tmp_path / "s.db", PLAIN)
    engine = open_engine(tmp_path / "s.db", 3.0)
    many = [Outcome(f"x{place}", 1, "exam") for place in range(1500)]
    with engine.begin() as connection:
        driver: Any = connection.connection.driver_connection
        driver.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)  # as older builds have it
        said = attach(connection, [*many, Outcome("d1", 1, "exam")])
    engine.dispose()
    assert said == ["unknown"] * 1500 + ["stored"]


def test_an_outcome_may_come_before_its_decision_is_written(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db", writes="behind")
        for place in range(600):
            await store.record(replace(PLAIN, id=str(place)))
        assert await store.attach([Outcome("599", 1, "exam")]) == ["stored"]
        await store.record(replace(PLAIN, id="600"))
        assert await store.find("600") is not None
        await store.aclose()

    asyncio.run(run())


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"value": value}
            for value in (-0.1, 1.1, float("nan"), float("inf"), 10**400, "1", None)
        ),
        *({"time": time} for time in (float("nan"), float("inf"), 10**400, "now", 1.79e12)),
        *({"source": source} for source in ("", None, "a\0", "\ud800", "a" * 201)),
        *({"id": given} for given in ("", None, 7, "\ud800")),
    ],
)
def test_an_outcome_out_of_range_is_refused_in_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        Outcome(**{"id": "d1", "value": 1.0, "source": "exam", **wrong})
    assert "\n" not in str(refused.value)


# -- opening ------------------------------------------------------------------------------------


def test_the_secret_is_made_once_and_can_be_overridden(tmp_path: Path) -> None:
    async def secret(path: Path, **options: Any) -> bytes:
        store = Store.open(path, **options)
        await store.aclose()
        return store.secret

    first = asyncio.run(secret(tmp_path / "s.db"))
    assert len(first) == 32
    assert asyncio.run(secret(tmp_path / "s.db")) == first
    assert asyncio.run(secret(tmp_path / "s.db", secret=b"mine")) == b"mine"
    assert asyncio.run(secret(tmp_path / "other.db")) != first


def test_nobody_else_may_read_a_new_store(tmp_path: Path) -> None:
    async def run() -> list[int]:
        store = Store.open(tmp_path / "s.db")
        await store.record(PLAIN)
        found = modes(tmp_path)
        await store.aclose()
        return found

    assert asyncio.run(run()) == [0o600] * 3


def test_each_commit_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "s.db", 3.0)
    asked = ("synchronous", "journal_mode", "foreign_keys", "busy_timeout")
    with engine.connect() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked]
    engine.dispose()
    assert settings == [2, "wal", 1, 3000]


def test_an_error_of_the_database_holds_nothing_of_the_row(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "s.db", 3.0)
    twice = [replace(PLAIN, alias=WORDS)] * 2
    with pytest.raises(IntegrityError) as refused, engine.begin() as connection:
        Inserts(engine.dialect, keeps_content=False)(connection, twice)
    engine.dispose()
    assert WORDS not in str(refused.value)


def test_a_new_store_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    def opened(path: Path, begin: threading.Barrier, secrets: list[bytes]) -> None:
        begin.wait()
        engine = open_engine(path, 10.0)
        secrets.append(read_secret(engine))
        engine.dispose()

    for turn in range(10):
        begin, secrets = threading.Barrier(6), list[bytes]()
        together = (tmp_path / f"{turn}.db", begin, secrets)
        threads = [threading.Thread(target=opened, args=together) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(secrets) == 6
        assert len(set(secrets)) == 1


def test_a_url_and_a_path_name_the_same_file(tmp_path: Path) -> None:
    kept(tmp_path / "s.db", FULL)

    async def run() -> Mapping[str, Any] | None:
        store = Store.open(f"sqlite:///{tmp_path / 's.db'}")
        row = await store.find("d1")
        await store.aclose()
        return row

    assert asyncio.run(run()) == as_found(FULL)


@pytest.mark.parametrize(
    "name", ["", ":memory:", "sqlite://", "sqlite:///:memory:", "sqlite:///a.db?mode=ro"]
)
def test_a_store_that_would_not_last_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"name .*file"):
        Store.open(name)


@pytest.mark.parametrize("url", ["postgresql://me:hush@host/db", "nonsense://hush", "://hush"])
def test_another_database_is_refused_without_repeating_the_url(url: str) -> None:
    with pytest.raises(UsageError, match="SQLite file") as refused:
        Store.open(url)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "options", [{"writes": "later"}, {"queue": 0}, {"lock_seconds": -1}, {"lock_seconds": 1e999}]
)
def test_an_option_out_of_range_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Store.open(tmp_path / "s.db", **options)
    assert side_files(tmp_path / "s.db") == []


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_an_unrelated_database_is_refused_and_not_touched(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE meta (name TEXT, value TEXT)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="no store of Poise"):
        Store.open(path)
    assert path.read_bytes() == before
    assert side_files(path) == ["other.db"]


def test_what_is_no_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "poise.toml"
    path.write_text("[store]\n")
    with pytest.raises(InputError, match="no SQLite file"):
        Store.open(path)
    assert path.read_text() == "[store]\n"
    with pytest.raises(InputError, match="a folder"):
        Store.open(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        Store.open(tmp_path / "nowhere" / "s.db")
    assert side_files(path) == ["poise.toml"]


def test_a_store_that_cannot_be_opened_says_so_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    kept(path, PLAIN)
    path.write_bytes(path.read_bytes()[:100] + b"\0" * 5000)
    with pytest.raises(InputError, match=r"s.db: the store cannot be opened \(") as refused:
        Store.open(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("number", ["2", "soon"])
def test_a_newer_layout_asks_for_an_update(tmp_path: Path, number: str) -> None:
    path = tmp_path / "s.db"
    kept(path, PLAIN)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema'", [number])
        connection.execute("DROP TABLE leases")
    connection.close()
    with pytest.raises(InputError, match=rf"layout {number} is newer .* update Poise"):
        Store.open(path)
    with sqlite3.connect(path) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert "leases" not in names


def test_an_empty_file_and_one_whose_making_was_cut_short_become_stores(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    kept(tmp_path / "empty.db", PLAIN)
    connection = sqlite3.connect(tmp_path / "cut.db")
    connection.execute(f"PRAGMA application_id = {int.from_bytes(b'pois')}")
    connection.close()
    kept(tmp_path / "cut.db", PLAIN)


def test_a_closed_store_answers_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(tmp_path / "s.db")
        await store.aclose()
        await store.aclose()
        assert await store.record(PLAIN) is False
        assert store.problem == "the store is closed"
        for asked in (store.find("d1"), store.recent(1), store.attach([Outcome("d1", 1, "exam")])):
            with pytest.raises(Unavailable, match="closed"):
                await asked

    asyncio.run(run())
    assert side_files(tmp_path / "s.db") == ["s.db"]


# -- for another database -----------------------------------------------------------------------


def test_the_tables_can_be_made_in_postgresql() -> None:
    said: list[str] = []

    def listen(statement: Any, *_: object) -> None:
        said.append(str(statement.compile(dialect=postgresql.dialect())))

    tables.create_all(create_mock_engine("postgresql://", listen), checkfirst=False)
    text = "\n".join(said)
    assert len([line for line in said if "CREATE TABLE" in line]) == len(tables.tables)
    assert "sequence BIGSERIAL" in text
    assert "CREATE INDEX decisions_alias_created ON decisions (alias, created)" in text


def test_inserts_by_hand_take_the_same_tuples_in_postgresql() -> None:
    here = Inserts(sqlite.dialect(), keeps_content=True)
    there = Inserts(postgresql.dialect(paramstyle="format"), keeps_content=True)
    assert there._values(FULL) == here._values(FULL)
    assert there._decision.count("%s") == here._decision.count("?") == len(here._values(FULL))


class Listening:
    """A connection that only notes what it is told."""

    def __init__(self, dialect: Any):
        self.dialect, self.said = dialect, ""

    def execute(self, statement: Any) -> None:
        self.said = str(statement.compile(dialect=self.dialect))


@pytest.mark.parametrize("module", [sqlite, postgresql])
def test_one_place_spells_the_insert_of_what_may_be_there(module: Any) -> None:
    connection: Any = Listening(module.dialect())
    insert_missing(connection, meta, {"name": "a", "value": "b"})
    plain = str(insert(meta).compile(dialect=module.dialect()))
    assert connection.said == f"{plain} ON CONFLICT DO NOTHING"


def test_a_database_without_that_statement_is_refused() -> None:
    connection: Any = Listening(mysql.dialect())
    with pytest.raises(UsageError, match="mysql"):
        insert_missing(connection, meta, {"name": "a", "value": "b"})


@pytest.mark.parametrize("wrong", [{"samples": -1}, {"tokens": float("nan")}, {"usd": 1e999}])
def test_an_amount_is_a_number_of_nought_or_more(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="0 or more"):
        Amounts(**wrong)
