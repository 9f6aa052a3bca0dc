"""``/v1/completions``: passed on as it is, one call, accounted for and recorded.

There is no probability: nothing is known of what a completed text should be. It does not know what
is in the text.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from starlette.responses import Response

from poise.config import Caps
from poise.errors import BackendError, Unavailable
from poise.ledger import Ledger
from poise.serve.connection import read_body, unless_gone
from poise.serve.exchange import Exchange
from poise.serve.keys import may_use
from poise.serve.refusals import Refusal, invalid, refusal
from poise.serve.replica import Replica
from poise.serve.streaming import HEARTBEAT, Events, EventStream, event
from poise.serve.wire import OTHER_NAMES, read_json, write_json
from poise.spend import Limits, Spend, Usage
from poise.store import Amounts, Decision

__all__ = ["completions"]

PREFIX = "cmpl-"

MOST_TOKENS = 16
"""What servers generate where the request does not say; OpenAI's number."""

Say = Callable[[Mapping[str, Any]], None]


async def completions(exchange: Exchange) -> Response:
    """Complete a text."""
    serve = exchange.gateway.config.serve
    exchange.counted = True
    body = read_json(await read_body(exchange.request, serve.max_body), serve.max_depth)
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise invalid("model must be a text", "model")
    if "prompt" not in body:
        raise invalid("prompt is missing", "prompt")
    if not isinstance(body["prompt"], str | list) or not body["prompt"]:
        raise invalid("prompt must be a text, or a list of texts or tokens", "prompt")
    if "poise" in body:
        raise invalid("completions are passed on as they are, and take no options", "poise")
    for name in (OTHER_NAMES.keys() - {"best_of"}) & body.keys():
        raise invalid(f"{name} is no field here; send {OTHER_NAMES[name]}", name)
    if not body.get("stream"):
        reply = await unless_gone(exchange.request, _complete(exchange, body, None))
        return Response(write_json(reply), media_type="application/json")
    events: Events[Mapping[str, Any]] = Events(serve.heartbeat)
    events.start(_complete(exchange, body, events.say))
    await unless_gone(exchange.request, events.first())

    async def ended(status: int, error: Exception | None) -> None:
        await events.close()
        exchange.ended(status, error)

    return EventStream(_parts(exchange, events), {"x-poise-id": PREFIX + exchange.id}, ended)


async def _parts(exchange: Exchange, events: Events[Mapping[str, Any]]) -> AsyncGenerator[bytes]:
    words = events.all()
    try:
        async for word in words:
            if word is None:
                yield HEARTBEAT
            elif "choices" in word:
                yield event({**word, "id": PREFIX + exchange.id, "model": exchange.alias})
    finally:
        await words.aclose()


async def _complete(exchange: Exchange, body: dict[str, Any], say: Say | None) -> Mapping[str, Any]:
    """One call on the first server that may be asked, under every cap. Raises Refusal."""
    gateway, caller = exchange.gateway, exchange.caller
    served = gateway.aliases.find(body["model"])
    exchange.alias = served.name
    refused = may_use(caller, served.name)
    if refused is not None:
        raise refused
    # Null means "the server's own", which may be no bound at all.
    body = {name: value for name, value in body.items() if value is not None}
    body.setdefault("max_tokens", MOST_TOKENS)
    draws, prompt, length = _bounds(body)
    price = served.price
    usd = 0.0 if price is None else draws * (prompt * price.prompt + length * price.completion)
    whole = Amounts(draws, draws * (prompt + length), usd)
    caps = gateway.config.serve.caps
    _check(whole, caps)
    async with gateway.admission.admit(caller):
        budgets = gateway.answering.budgets
        share = None
        if budgets is not None and caller.key is not None:
            share = await budgets.ledger(caller.key, whole, whole, price)
        limits = Limits(caps.max_samples, caps.max_tokens, None, caps.max_usd)
        ledger = Ledger(limits, price, share)
        started, failed = time.time(), True
        try:
            async with asyncio.timeout(caps.max_seconds):
                reply = await _called(
                    served.upstreams.replicas, body, ledger, (draws, prompt, length), say
                )
            failed = False
        except TimeoutError:
            said = "the text was not complete before the deadline"
            raise Refusal(504, said, "server_error", "deadline") from None
        except Exception as error:
            raise refusal(error) from error
        finally:
            if share is not None:
                share.end()
            gateway.metrics.of(served.name).spent(ledger.spend)
            if ledger.spend.calls:
                await _record(exchange, ledger.spend, started, failed=failed)
    gateway.metrics.of(served.name).requested(200, exchange.seconds)
    return {**(reply or {}), "id": PREFIX + exchange.id, "model": served.name}


def _bounds(body: Mapping[str, Any]) -> tuple[int, int, int]:
    """How many texts are generated, and upper bounds on each one's tokens: prompt, completion.

    Raises Refusal for counts that are none.
    """
    counts = []
    for name in ("max_tokens", "n", "best_of"):
        value = body.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1 << 24:
            raise invalid(f"{name} must be a whole number above 0", name)
        counts.append(value)
    length, n, best_of = counts
    prompt = body["prompt"]
    several = isinstance(prompt, list) and any(isinstance(one, str | list) for one in prompt)
    prompts = len(prompt) if several else 1
    bytes_ = len(json.dumps(prompt, ensure_ascii=False).encode())
    return prompts * max(n, best_of), bytes_ + 8, length


def _check(whole: Amounts, caps: Caps) -> None:
    """Raise Refusal where the caps of one request leave no room for the call."""
    for cap, takes in (("samples", whole.samples), ("tokens", whole.tokens), ("usd", whole.usd)):
        most = getattr(caps, f"max_{cap}")
        if most is not None and takes > most:
            raise Refusal(
                400,
                f"the request may take {takes:g} {cap}, and this gateway allows {most:g}; ask for"
                " less",
                code="cap_reached",
            )


async def _called(
    replicas: tuple[Replica, ...],
    body: Mapping[str, Any],
    ledger: Ledger,
    bound: tuple[int, int, int],
    say: Say | None,
) -> Mapping[str, Any] | None:
    for replica in replicas:
        complete = getattr(replica.backend, "complete", None)
        ticket = None if complete is None else replica.breaker.admit()
        if complete is None or ticket is None:
            continue
        reservation = ledger.reserve(*bound)
        try:
            done = await complete(body, say)
        except BaseException as error:
            replica.breaker.hear(ticket, error)
            if isinstance(error, BackendError) and error.fate_known:
                ledger.release(reservation)
            else:
                ledger.forfeit(reservation)
            raise
        replica.breaker.hear(ticket, None)
        ledger.settle(reservation, done.usage or Usage(None, None, estimated=True), bound[0])
        reply: Mapping[str, Any] | None = done.reply
        return reply
    if not any(hasattr(replica.backend, "complete") for replica in replicas):
        raise Refusal(
            501,
            "this model's server completes no texts; use chat completions",
            code="no_completions",
        )
    raise Unavailable("no server of this model may be asked now; try again soon", retry_after=1.0)


async def _record(exchange: Exchange, spend: Spend, started: float, *, failed: bool) -> None:
    gateway = exchange.gateway
    if gateway.store is None or exchange.alias is None:
        return
    served = gateway.aliases.find(exchange.alias)
    view = served.upstreams.view()
    row = Decision(
        id=exchange.id,
        created=started,
        alias=served.name,
        model=view.model,
        engine=view.engine,
        decision="abstain" if failed else "answer",
        stop="error" if failed else "single",
        spend=spend,
        key=exchange.caller.name,
        mode="plain",
        reason="a text completion, passed on as it is",
        n_samples=spend.samples,
        seconds=time.time() - started,
    )
    gateway.metrics.recorded(await gateway.store.record(row))
