"""Every route of the gateway, in one table: path, scope of the key, handler, document."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from poise.serve import document
from poise.serve.chat import chat
from poise.serve.completions import completions
from poise.serve.decisions import decisions
from poise.serve.exchange import Exchange, Route
from poise.serve.outcomes import outcomes
from poise.serve.status import health, metrics, model, models, ready

__all__ = ["ROUTES"]


async def openapi(exchange: Exchange) -> Response:  # noqa: ARG001 - the same for everybody
    """The OpenAPI document."""
    return JSONResponse(document.whole(ROUTES))


ROUTES = (
    Route(
        "POST",
        "/v1/chat/completions",
        "chat",
        chat,
        "Answer, with as many samples as the question needs",
        document.CHAT,
    ),
    Route(
        "POST",
        "/v1/completions",
        "chat",
        completions,
        "Complete a text: passed on as it is",
        document.COMPLETIONS,
    ),
    Route(
        "POST",
        "/v1/decisions",
        "chat",
        decisions,
        "Decide a predicate, a choice or a score",
        document.DECISIONS,
    ),
    Route(
        "POST",
        "/v1/outcomes",
        "outcomes",
        outcomes,
        "Attach later truths to answers",
        document.OUTCOMES,
    ),
    Route("GET", "/v1/models", "chat", models, "List the aliases", document.READ),
    Route("GET", "/v1/models/{name:path}", "chat", model, "Show one alias", document.NAMED),
    Route("GET", "/health", None, health, "Whether the process answers", document.OPEN),
    Route("GET", "/ready", "metrics", ready, "Whether every alias can be answered", document.READ),
    Route("GET", "/metrics", "metrics", metrics, "Counters for Prometheus", document.READ),
    Route("GET", "/openapi.json", "chat", openapi, "This document", document.READ),
)
"""In the order in which they are tried."""
