"""The tables: decisions, their content where it is kept, outcomes, leases, and what the store is.

Portable SQL only: the one statement that dialects spell differently is ``insert_missing``. Times
are unix seconds. What is searched for has a column of its own; what only travels along is JSON text
in ``clusters``, ``signals``, ``missing``, ``decoding`` and ``content.body``. The tables do not know
how rows get into them.

``outcomes`` is a history: rows are only added, ``sequence`` says in which order, and of each
(decision, source) the last row counts. ``leases`` holds what is granted of each key's cap in each
period. ``meta`` holds the schema's number and the store's secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.dialects import postgresql, sqlite

from poise.errors import UsageError

__all__ = ["SCHEMA", "SPEND", "content", "decisions", "insert_missing", "leases", "meta", "tables"]

SCHEMA = 1
"""Number of this layout; a store with a higher one was made by a newer Poise."""

COUNTS = (
    *("calls", "samples", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("reasoning_tokens", "cancelled_tokens", "held_samples", "held_tokens"),
)
SPEND = (*COUNTS, "seconds", "usd", "estimated")
"""The fields of a ``Spend``; their columns are called ``spend_…``."""

tables = MetaData()

meta = Table(
    "meta",
    tables,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

decisions = Table(
    "decisions",
    tables,
    Column("id", Text, primary_key=True),
    Column("created", Double, nullable=False),
    Column("alias", Text, nullable=False),
    Column("key", Text),
    Column("model", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("kind", Text),
    Column("mode", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("stop", Text, nullable=False),
    Column("probability", Double),
    Column("calibrated", Boolean, nullable=False),
    Column("reason", Text),
    Column("profile_id", Text),
    Column("profile_version", Integer),
    Column("n_samples", Integer, nullable=False),
    Column("rounds", Integer, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("propensity", Double),
    # No foreign key: an audit is worth keeping where its parent could not be written.
    Column("parent", Text),
    Column("prompt_hmac", Text),
    Column("answer_hmac", Text),
    *(Column(f"spend_{name}", BigInteger) for name in COUNTS),
    Column("spend_seconds", Double, nullable=False),
    Column("spend_usd", Double),
    Column("spend_estimated", Boolean, nullable=False),
    Column("clusters", Text, nullable=False),
    Column("signals", Text, nullable=False),
    Column("missing", Text, nullable=False),
    Column("decoding", Text, nullable=False),
    Index("decisions_created", "created"),
    Index("decisions_alias_created", "alias", "created"),
)

content = Table(
    "content",
    tables,
    Column("decision_id", Text, ForeignKey("decisions.id"), primary_key=True),
    Column("body", Text, nullable=False),
)

outcomes = Table(
    "outcomes",
    tables,
    # SQLite numbers rows by itself only where the column is called INTEGER.
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("decision_id", Text, ForeignKey("decisions.id"), nullable=False),
    Column("source", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("time", Double),
    Column("received", Double, nullable=False),
    Index("outcomes_decision_id", "decision_id"),
)

leases = Table(
    "leases",
    tables,
    Column("key", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("samples", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("usd", Double, nullable=False),
)


def insert_missing(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Add ``row`` unless there is one with its primary key, also where another adds it just now.

    Raises UsageError for a database that this has no statement for.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite":
        connection.execute(sqlite.insert(table).values(**row).on_conflict_do_nothing())
    elif dialect == "postgresql":
        connection.execute(postgresql.insert(table).values(**row).on_conflict_do_nothing())
    else:
        raise UsageError(f"a store cannot be kept in {dialect}; name an SQLite file")
