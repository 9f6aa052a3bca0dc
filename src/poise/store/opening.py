"""Opening a store's file: is it ours, is it of a layout we know, and if it is not there, make it.

A file that is no store is refused from its first hundred bytes, before SQLite has opened it. A new
store is marked as one (``application_id``) by the very first write, so that a kill at any point
leaves an empty file or a marked one. It does not know what the tables are for.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    event,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from poise.errors import InputError, UsageError
from poise.store.schema import SCHEMA, insert_missing, meta, tables

__all__ = ["open_engine", "place_of", "read_secret", "reading"]

MAGIC = b"SQLite format 3\0"
OURS = b"pois"
"""The mark of a store, in the four bytes from 68 of an SQLite header (``application_id``)."""

READS = "poise_reads"
"""Execution option of transactions that only read."""


def place_of(path_or_url: str | Path) -> Path:
    """The file that is meant: a path, or an ``sqlite:///`` URL. Raises UsageError."""
    text = str(path_or_url)
    if "://" not in text:
        if not text or text == ":memory:":
            raise UsageError("a store outlives its process; name a file, such as poise.db")
        return Path(text)
    scheme = text.partition("://")[0]
    try:
        url = make_url(text)
    except ArgumentError:
        url = URL.create("unknown")
    # The URL may hold a password, so only its scheme is repeated.
    if url.get_backend_name() != "sqlite":
        raise UsageError(f"{scheme}://… is no store that Poise can open; name an SQLite file")
    if not url.database or url.database == ":memory:" or url.query:
        raise UsageError("name the store's file alone, such as sqlite:///poise.db")
    return Path(url.database)


def open_engine(place: Path, lock_seconds: float) -> Engine:
    """A pool of connections to the store in ``place``, which is made where it is not there.

    Each commit is on the disk when it returns. ``lock_seconds``: how long a write waits for those
    of other processes. Raises InputError where the file is no store, of a newer layout, or cannot
    be opened.
    """
    try:
        _refuse_strange(place)
        _claim(place, lock_seconds)
    except sqlite3.Error as error:
        raise InputError(f"the store cannot be opened ({error})", place) from None
    except OSError as error:
        raise InputError(f"the store cannot be opened ({error.strerror})", place) from None
    engine = create_engine(
        URL.create("sqlite", database=str(place)),
        connect_args={"isolation_level": None, "timeout": lock_seconds},
        hide_parameters=True,  # no row of ours belongs in a log
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    try:
        with engine.begin() as connection:
            _create(connection, place)
    except SQLAlchemyError as error:
        engine.dispose()
        reason = getattr(error, "orig", error)
        raise InputError(f"the store cannot be opened ({reason})", place) from None
    except BaseException:
        engine.dispose()
        raise
    return engine


def reading(engine: Engine) -> Engine:
    """The same connections, for transactions that wait for no writer and may not write."""
    return engine.execution_options(**{READS: True})


def read_secret(engine: Engine) -> bytes:
    """The 32 random bytes that were made with the store."""
    with reading(engine).begin() as connection:
        kept = connection.execute(select(meta.c.value).where(meta.c.name == "secret")).scalar_one()
    return bytes.fromhex(kept)


def _refuse_strange(place: Path) -> None:
    """Raise InputError for a file that has something in it and is no store."""
    if place.is_dir():
        raise InputError("a folder; name a file in it", place)
    if not place.parent.is_dir():
        raise InputError(f"{place.parent}: no such folder", place)
    if not place.exists():
        return
    with place.open("rb") as stream:
        header = stream.read(100)
    if header and not header.startswith(MAGIC):
        raise InputError("not a store and no SQLite file; name another file", place)
    if header and header[68:72] != OURS:
        raise InputError("an SQLite file, but no store of Poise; name another file", place)


def _claim(place: Path, lock_seconds: float) -> None:
    """Mark an empty file as a store and have it written ahead (WAL), or do nothing."""
    # The secret is in it: nobody else may read it. SQLite's own files beside it follow suit.
    os.close(os.open(place, os.O_RDWR | os.O_CREAT, 0o600))
    deadline = time.monotonic() + lock_seconds
    with closing(sqlite3.connect(place, timeout=lock_seconds, isolation_level=None)) as connection:
        if place.stat().st_size == 0:
            connection.execute(f"PRAGMA application_id = {int.from_bytes(OURS)}")
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.OperationalError:
                # SQLite does not wait its turn here when several processes open a new file.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
    if mode != "wal":
        problem = "this disk has no memory shared by processes (SQLite's WAL); use a local disk"
        raise InputError(problem, place)


def _prepare(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    # A transaction that reads before it writes must hold the lock from its start: SQLite gives no
    # lock later where another process has written in between.
    reads = connection.get_execution_options().get(READS)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _create(connection: Connection, place: Path) -> None:
    """Make what is not there. Raises InputError for the layout of a newer Poise."""
    if inspect(connection).has_table(meta.name):
        found = connection.execute(select(meta.c.name, meta.c.value)).all()
        schema = dict(found).get("schema", "")
        if not schema.isdecimal() or int(schema) > SCHEMA:
            problem = f"layout {schema or '?'} is newer than the {SCHEMA} known here; update Poise"
            raise InputError(problem, place)
    tables.create_all(connection)
    insert_missing(connection, meta, {"name": "schema", "value": str(SCHEMA)})
    insert_missing(connection, meta, {"name": "secret", "value": secrets.token_hex(32)})
