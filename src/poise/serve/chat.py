"""``/v1/chat/completions``: whole and streamed.

A stream opens once there is something to say or a heartbeat's time has passed, so that what fails
at once is an HTTP error and not an event. It does not know how an answer comes about.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from poise.serve.answering import PREFIX
from poise.serve.chunks import chunks, ending
from poise.serve.connection import read_body, unless_gone
from poise.serve.exchange import Exchange
from poise.serve.keys import may_use
from poise.serve.listening import Listen
from poise.serve.replies import Answered, beside, completion, headers, trimmed
from poise.serve.streaming import HEARTBEAT, Events, EventStream, event
from poise.serve.wire import Asked, read_chat, read_json, write_json

__all__ = ["answer", "chat"]


async def chat(exchange: Exchange) -> Response:
    """Answer one chat request."""
    serve = exchange.gateway.config.serve
    exchange.counted = True
    asked = read_chat(read_json(await read_body(exchange.request, serve.max_body), serve.max_depth))
    if asked.stream:
        return await _streamed(exchange, asked)
    answered = await unless_gone(exchange.request, answer(exchange, asked))
    body = write_json(completion(answered, asked))
    return Response(body, media_type="application/json", headers=headers(answered))


async def answer(exchange: Exchange, asked: Asked, listen: Listen | None = None) -> Answered:
    """Admit, answer, count. Raises Refusal."""
    gateway, caller = exchange.gateway, exchange.caller
    served = gateway.aliases.find(asked.model)
    exchange.alias = served.name
    refused = may_use(caller, served.name)
    if refused is not None:
        raise refused
    headers = exchange.request.headers
    async with gateway.admission.admit(caller):
        with gateway.tracer.span(
            served.name, headers, choices=asked.n, stream=asked.stream
        ) as span:
            answered = await gateway.answering.answer(asked, caller, exchange.id, listen)
            reasons = [one.sample.finish if one.sample else None for one in answered.choices]
            span.answered(answered.result, answered.id, reasons)
    exchange.result = answered.result
    gateway.metrics.of(served.name).answered(
        answered.result, exchange.seconds, mode="shadow" if answered.plain else "live"
    )
    return answered


async def _streamed(exchange: Exchange, asked: Asked) -> Response:
    events: Events[Answered] = Events(exchange.gateway.config.serve.heartbeat)
    relayed = _relayed(exchange, asked)
    events.start(answer(exchange, asked, events.say if relayed else None))
    await unless_gone(exchange.request, events.first())
    decided = events.value
    said = headers(decided) if decided is not None else {"x-poise-id": PREFIX + exchange.id}

    async def ended(status: int, error: Exception | None) -> None:
        await events.close()
        exchange.ended(status, error)

    return EventStream(_parts(exchange, asked, events), said, ended)


def _relayed(exchange: Exchange, asked: Asked) -> bool:
    """Whether the first sample is the answer, or is wanted before it is known to be."""
    served = exchange.gateway.aliases.find(asked.model)
    if asked.n > 1:
        return False
    open_chat = asked.options.options is None and (
        (asked.options.kind or asked.kind or served.kind) is None
    )
    return open_chat or asked.options.stream == "first" or served.settings.mode == "shadow"


async def _parts(
    exchange: Exchange, asked: Asked, events: Events[Answered]
) -> AsyncGenerator[bytes]:
    created, heard = int(time.time()), False
    words = events.all()
    try:
        async for word in words:
            if word is None:
                yield HEARTBEAT
            elif isinstance(word, Answered):
                whole = replace(word, created=created)
                last = ending(whole, asked, [_closing(word)]) if heard else chunks(word, asked)
                yield b"".join(event(chunk) for chunk in last)
            else:
                chunk = _ours(exchange, asked, word)
                heard = True
                yield event({**chunk, "created": created})
    finally:
        await words.aclose()


def _closing(answered: Answered) -> dict[str, Any]:
    """The choice that ends a stream whose words have gone out."""
    choice = answered.choices[0]
    finish = (choice.sample.finish if choice.sample else None) or "stop"
    end: dict[str, Any] = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish}
    if not answered.plain:  # of what was streamed, which need not be what the vote came to
        end["poise"] = beside(choice)
    return end


def _ours(exchange: Exchange, asked: Asked, chunk: Mapping[str, Any]) -> dict[str, Any]:
    """A chunk of the server's under our id; why it ended is told in the last one, by us."""
    choices = []
    for choice in chunk["choices"]:
        own = {**choice, "index": 0, "finish_reason": None}
        own["logprobs"] = trimmed(choice.get("logprobs"), asked.logprobs)
        choices.append(own)
    ours = {**chunk, "id": PREFIX + exchange.id, "model": exchange.alias, "choices": choices}
    for name in ("usage", "poise"):  # these are told at the end, and of all samples
        ours.pop(name, None)
    if asked.include_usage:
        ours["usage"] = None  # as in every chunk of ours but the last
    return {**ours, "object": "chat.completion.chunk"}
