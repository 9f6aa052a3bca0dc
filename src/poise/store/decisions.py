"""Decisions as rows: from the noun into the tables and back.

Rows are made by hand and given to the driver, because this is done for every reply: the statement
is compiled once, and its parameters are plain tuples. It does not know when anything is committed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Row, Table, insert, select

from poise.spend import Spend
from poise.store import outcomes
from poise.store.records import Decision
from poise.store.schema import SPEND, content, decisions

__all__ = ["Inserts", "find", "recent"]

JSON = ("clusters", "signals", "missing", "decoding")
WORDS = ("kind", "stop")
"""Fields that may be members of an enumeration, which not every driver takes as text."""
NUMBERS = ("created", "probability", "seconds", "propensity", "spend_seconds", "spend_usd")
"""Fields that hold a finite number or nothing: a database keeps nan as something else."""

_text_of = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=dict
).encode


class Inserts:
    """The statements that add decisions, compiled once for a dialect with positional parameters.

    ``keeps_content``: whether what decisions carry as content is kept or dropped.
    """

    def __init__(self, dialect: Dialect, *, keeps_content: bool):
        self._decision, columns = _compiled(decisions, dialect)
        self._content, _ = _compiled(content, dialect)
        self._keeps_content = keeps_content
        self._fields = attrgetter(*(name.replace("spend_", "spend.") for name in columns))
        self._json = tuple(map(columns.index, JSON))
        self._words = tuple(map(columns.index, WORDS))
        self._numbers = tuple(map(columns.index, NUMBERS))

    def __call__(self, connection: Connection, rows: Sequence[Decision]) -> None:
        """Add ``rows``, at least one. Raises ValueError or TypeError for one that is no row."""
        connection.exec_driver_sql(self._decision, [self._values(row) for row in rows])
        if self._keeps_content:
            bodies = [(row.id, _text_of(row.content)) for row in rows if row.content is not None]
            if bodies:
                connection.exec_driver_sql(self._content, bodies)

    def _values(self, row: Decision) -> tuple[Any, ...]:
        values = list(self._fields(row))
        for place in self._numbers:
            if values[place] is not None and not math.isfinite(values[place]):
                raise ValueError(f"decision {row.id} holds a number that is not finite")
        for place in self._words:
            if values[place] is not None:
                values[place] = str(values[place])
        for place in self._json:
            values[place] = _text_of(values[place])
        return tuple(values)


def find(connection: Connection, id: str) -> dict[str, Any] | None:
    """The decision with its content (None where it is not kept) and outcomes; None: not known."""
    row = connection.execute(select(decisions).where(decisions.c.id == id)).one_or_none()
    if row is None:
        return None
    kept = select(content.c.body).where(content.c.decision_id == id)
    body = connection.execute(kept).scalar_one_or_none()
    return {
        **_read(row),
        "content": None if body is None else json.loads(body),
        "outcomes": outcomes.of(connection, id),
    }


def recent(connection: Connection, limit: int, alias: str | None) -> Sequence[dict[str, Any]]:
    """The last ``limit`` decisions (of one alias), newest first, without content and outcomes."""
    query = select(decisions).order_by(decisions.c.created.desc(), decisions.c.id).limit(limit)
    if alias is not None:
        query = query.where(decisions.c.alias == alias)
    return [_read(row) for row in connection.execute(query)]


def _compiled(table: Table, dialect: Dialect) -> tuple[str, list[str]]:
    """The text of an insert of whole rows, and the order of its parameters."""
    statement = insert(table).compile(dialect=dialect)
    return str(statement), list(statement.positiontup or ())


def _read(row: Row[Any]) -> dict[str, Any]:
    found = dict(row._mapping)
    spend = Spend(**{name: found.pop(f"spend_{name}") for name in SPEND})
    return {**found, **{name: json.loads(found[name]) for name in JSON}, "spend": spend.to_dict()}
