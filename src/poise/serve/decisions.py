"""``/v1/decisions``: a predicate, a choice or a score asked for as such, with its probability.

A facade over chat: the same loop, the same record, another shape. It does not know how an answer
comes about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from poise.serve.chat import answer
from poise.serve.connection import read_body, unless_gone
from poise.serve.exchange import Exchange
from poise.serve.refusals import invalid
from poise.serve.replies import Answered, headers, poise_object, usage
from poise.serve.wire import Asked, read_chat, read_json
from poise.types import Kind

__all__ = ["decisions"]

TYPES = {"predicate": Kind.YESNO, "choice": Kind.CHOICE, "score": Kind.NUMBER}
"""What may be decided, and the kind of answer that decides it."""

OWN = {"type", "input", "options", "minimum", "maximum"}


async def decisions(exchange: Exchange) -> Response:
    """Decide one question."""
    serve = exchange.gateway.config.serve
    body = read_json(await read_body(exchange.request, serve.max_body), serve.max_depth)
    asked = _asked(body)
    answered = await unless_gone(exchange.request, answer(exchange, asked))
    value, reason = _value(answered, body, asked)
    probability = answered.result.probability if value is not None else None
    decided: dict[str, Any] = {
        "id": answered.id,
        "object": "decision",
        "created": answered.created,
        "model": answered.model,
        "type": body["type"],
        "value": value,
        "probability": probability,
        "usage": usage(answered.result.spend),
        "poise": poise_object(answered),
    }
    if reason is not None:
        decided["reason"] = reason
    return JSONResponse(decided, headers=headers(answered))


def _asked(body: Any) -> Asked:
    """The chat request that asks it. Raises Refusal."""
    if not isinstance(body, dict):
        raise invalid("the body must be an object", None)
    wanted = body.get("type")
    if not isinstance(wanted, str) or wanted not in TYPES:
        raise invalid(f"type must be one of {', '.join(TYPES)}", "type")
    for bound in ("minimum", "maximum"):
        value = body.get(bound)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and wanted == "score"):
            raise invalid(f"{bound} must be a number, and belongs to a score", bound)
    for misplaced in ("messages", "stream", "n", "response_format", "tools"):
        if misplaced in body:
            raise invalid(f"a decision has no {misplaced}; put the question into input", misplaced)
    given, poise = body.get("input"), body.get("poise") or {}
    if not isinstance(poise, dict):
        raise invalid("poise must be an object of options", "poise")
    options = body.get("options")
    if (wanted == "choice") != (options is not None):
        raise invalid("a choice has options, and nothing else has", "options")
    chat = {name: value for name, value in body.items() if name not in OWN}
    chat["messages"] = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if chat["messages"] is None:
        raise invalid("input must be a text, or a list of messages", "input")
    chat["poise"] = {**poise, "kind": TYPES[wanted].value}
    if options is not None:
        chat["poise"]["options"] = options
    return read_chat(chat)


def _value(
    answered: Answered, body: Mapping[str, Any], asked: Asked
) -> tuple[bool | float | str | None, str | None]:
    """What was decided, or None and the reason."""
    answer = answered.result.answer
    if answer is None:
        return None, answered.result.reason or "the answer is withheld"
    if body["type"] == "predicate":
        return answer == "yes", None
    if body["type"] == "choice":
        assert asked.options.options is not None
        return asked.options.options[ord(answer) - ord("A")], None
    return _score(answer, body)


def _score(answer: str, body: Mapping[str, Any]) -> tuple[float | None, str | None]:
    try:
        over, slash, under = answer.partition("/")
        score = float(over) / float(under) if slash else float(answer)
    except (ValueError, ZeroDivisionError, OverflowError):
        score = math.nan
    low, high = body.get("minimum"), body.get("maximum")
    if not math.isfinite(score):
        return None, "the answer is no number that JSON can hold"
    if (low is not None and score < low) or (high is not None and score > high):
        return None, f"the answer, {score:g}, is outside the bounds that were given"
    return score, None
