"""Outcomes: a history of who said what about which decision, of which the last word counts.

Nothing is ever changed or taken away, so that a fit can be repeated as of any day. It does not
know when anything is committed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select

from poise.store.records import Outcome
from poise.store.schema import decisions, outcomes

__all__ = ["attach", "of"]

MOST_NAMED = 500
"""Ids in one query: every database has a bound on parameters."""


def attach(connection: Connection, given: Sequence[Outcome]) -> list[str]:
    """Add each outcome that says something new, in order, and tell for each what it was.

    ``stored``: the source's first word on the decision; ``replaced``: another value than its last
    one; ``unchanged``: the same value, so nothing is added; ``unknown``: there is no such decision.
    """
    ids = sorted({outcome.id for outcome in given})
    known: set[str] = set()
    last: dict[tuple[str, str], float] = {}
    for some in _chunks(ids):
        # Locked where rows can be, so that two processes cannot both be the first.
        held = select(decisions.c.id).where(decisions.c.id.in_(some)).with_for_update()
        known |= set(connection.execute(held).scalars())
        said = select(outcomes.c.decision_id, outcomes.c.source, outcomes.c.value)
        said = said.where(outcomes.c.decision_id.in_(some)).order_by(outcomes.c.sequence)
        last |= {(row.decision_id, row.source): row.value for row in connection.execute(said)}
    told, new, received = [], [], time.time()
    for outcome in given:
        value, before = float(outcome.value), last.get((outcome.id, outcome.source))
        if outcome.id not in known:
            told.append("unknown")
        elif before == value:
            told.append("unchanged")
        else:
            told.append("stored" if before is None else "replaced")
            last[outcome.id, outcome.source] = value
            row = {"decision_id": outcome.id, "source": outcome.source, "value": value}
            new.append({**row, "time": outcome.time, "received": received})
    if new:
        connection.execute(insert(outcomes), new)
    return told


def of(connection: Connection, id: str) -> list[dict[str, Any]]:
    """All outcomes of a decision in the order they came; ``counts``: its source's last word."""
    columns = (outcomes.c.source, outcomes.c.value, outcomes.c.time, outcomes.c.received)
    query = select(*columns).where(outcomes.c.decision_id == id).order_by(outcomes.c.sequence)
    found = [dict(row._mapping) for row in connection.execute(query)]
    last = {outcome["source"]: place for place, outcome in enumerate(found)}
    return [
        {**outcome, "counts": last[outcome["source"]] == place}
        for place, outcome in enumerate(found)
    ]


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), MOST_NAMED):
        yield ids[start : start + MOST_NAMED]
