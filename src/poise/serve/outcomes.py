"""``/v1/outcomes``: later truths about answers, one or many at once, as often as they are sent.

The id is that of the reply (``chatcmpl-…``) or of its ``poise`` object. It does not know how
outcomes are kept.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from poise.errors import InputError, Unavailable
from poise.serve.connection import read_body
from poise.serve.exchange import Exchange
from poise.serve.metrics import UNKNOWN
from poise.serve.refusals import Refusal, invalid, no_store
from poise.serve.wire import read_json
from poise.store import Outcome, decision_id

__all__ = ["outcomes"]

MOST = 1000
"""Outcomes in one request."""

KEYS = {"id", "value", "source", "time"}


async def outcomes(exchange: Exchange) -> Response:
    """Attach outcomes; says of each: stored, unchanged, replaced, unknown."""
    gateway, serve = exchange.gateway, exchange.gateway.config.serve
    body = read_json(await read_body(exchange.request, serve.max_body), serve.max_depth)
    if gateway.store is None:
        raise Refusal(
            501,
            "this gateway keeps no decisions, so that outcomes have nothing to be attached to;"
            " configure [store] path",
            code="no_store",
        )
    read = _outcomes(body, exchange.caller.name or "client")
    try:
        stored = await gateway.store.attach(read)
    except Unavailable as error:
        raise no_store() from error
    counted = gateway.metrics.of(UNKNOWN)
    for one in stored:
        counted.outcome(one)
    listed = [{"id": one.id, "status": said} for one, said in zip(read, stored, strict=True)]
    return JSONResponse({"object": "list", "data": listed})


def _outcomes(body: Any, source: str) -> list[Outcome]:
    """One outcome, or those under ``outcomes``. Raises Refusal naming the place."""
    if not isinstance(body, dict):
        raise invalid("the body must be an outcome, or an object with a list of outcomes", None)
    if "outcomes" not in body:
        return [_outcome(body, "", source)]
    listed = body["outcomes"]
    if len(body) > 1 or not isinstance(listed, list) or not 1 <= len(listed) <= MOST:
        raise invalid(f"outcomes must be a list of 1 to {MOST}, and stand alone", "outcomes")
    return [_outcome(one, f"outcomes.{place}.", source) for place, one in enumerate(listed)]


def _outcome(one: Any, where: str, source: str) -> Outcome:
    if not isinstance(one, dict):
        raise invalid("an outcome is an object with id and value", where.rstrip("."))
    unknown = one.keys() - KEYS
    if unknown:
        named = min(unknown)[:60]
        raise invalid(
            f"an outcome has no {named!r}; it has {', '.join(sorted(KEYS))}", where + named
        )
    named, value, time = one.get("id"), one.get("value"), one.get("time")
    if not isinstance(named, str) or not named:
        raise invalid("id must be that of a reply", f"{where}id")
    if isinstance(value, bool):
        value = float(value)
    if not isinstance(value, int | float):
        raise invalid("value must be a number from 0 (wrong) to 1 (right)", f"{where}value")
    if time is not None and (isinstance(time, bool) or not isinstance(time, int | float)):
        raise invalid("time must be in unix seconds", f"{where}time")
    stated = one.get("source", source)
    if not isinstance(stated, str):
        raise invalid("source must be a text", f"{where}source")
    try:
        return Outcome(decision_id(named), value, stated, time)
    except InputError as error:
        raise invalid(str(error), where.rstrip(".") or None) from None
