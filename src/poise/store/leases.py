"""Leases: parts of a key's cap, granted to one process at a time, never more than the cap in all.

A row holds what is granted of each amount in one period. A process that dies keeps what it was
granted, so that a cap errs on the safe side. It does not know what periods are or who asks.
"""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, and_, select, update

from poise.store.records import Amounts
from poise.store.schema import insert_missing, leases

__all__ = ["give_back", "lease"]

Number = TypeVar("Number", int, float)


def lease(connection: Connection, key: str, period: str, want: Amounts, cap: Amounts) -> Amounts:
    """Grant what is left of ``cap``, at most ``want``, of each amount by itself."""
    row = {"key": key, "period": period, "samples": 0, "tokens": 0, "usd": 0.0}
    insert_missing(connection, leases, row)
    taken = _taken(connection, key, period)
    assert taken is not None
    granted = Amounts(
        _left(want.samples, cap.samples - taken.samples),
        _left(want.tokens, cap.tokens - taken.tokens),
        _left(want.usd, cap.usd - taken.usd),
    )
    _put(
        connection,
        key,
        period,
        Amounts(
            taken.samples + granted.samples,
            taken.tokens + granted.tokens,
            taken.usd + granted.usd,
        ),
    )
    return granted


def give_back(connection: Connection, key: str, period: str, unused: Amounts) -> None:
    """Free what was granted and not spent."""
    taken = _taken(connection, key, period)
    if taken is not None:
        left = Amounts(
            max(0, taken.samples - unused.samples),
            max(0, taken.tokens - unused.tokens),
            max(0.0, taken.usd - unused.usd),
        )
        _put(connection, key, period, left)


def _left(want: Number, left: Number) -> Number:
    return max(0, min(want, left))


def _which(key: str, period: str) -> ColumnElement[bool]:
    return and_(leases.c.key == key, leases.c.period == period)


def _taken(connection: Connection, key: str, period: str) -> Amounts | None:
    """What is granted so far, locked until the transaction ends; None: nothing ever was."""
    query = select(leases.c.samples, leases.c.tokens, leases.c.usd).where(_which(key, period))
    row = connection.execute(query.with_for_update()).one_or_none()
    return None if row is None else Amounts(*row)


def _put(connection: Connection, key: str, period: str, taken: Amounts) -> None:
    values = {"samples": taken.samples, "tokens": taken.tokens, "usd": taken.usd}
    connection.execute(update(leases).where(_which(key, period)).values(values))
