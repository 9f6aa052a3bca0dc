"""What there is and how it is: models, health, readiness, metrics."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from poise.serve.exchange import Exchange
from poise.serve.keys import may_use

__all__ = ["health", "metrics", "model", "models", "ready"]


async def health(exchange: Exchange) -> Response:  # noqa: ARG001 - it is there: that is all
    """Whether the process answers; says nothing else to anybody."""
    return JSONResponse({"status": "ok"})


async def ready(exchange: Exchange) -> Response:
    """Whether every alias can be answered, with the state of each of its servers."""
    gateway = exchange.gateway
    aliases = {served.name: served.upstreams.status() for served in gateway.aliases}
    draining = gateway.admission.draining
    body = {
        "ready": gateway.ready and not draining,
        "draining": draining,
        "aliases": aliases,
        "store": None if gateway.store is None else gateway.store.problem or "ok",
    }
    return JSONResponse(body, 200 if body["ready"] else 503)


async def models(exchange: Exchange) -> Response:
    """The aliases that the caller's key may name, as OpenAI lists models."""
    gateway = exchange.gateway
    listed = [
        _model(gateway.started, served.name)
        for served in gateway.aliases
        if may_use(exchange.caller, served.name) is None
    ]
    return JSONResponse({"object": "list", "data": listed})


async def model(exchange: Exchange) -> Response:
    """One alias, as OpenAI shows a model. Raises Refusal, 404."""
    gateway = exchange.gateway
    served = gateway.aliases.find(exchange.request.path_params["name"])
    refused = may_use(exchange.caller, served.name)
    if refused is not None:
        raise refused
    return JSONResponse(_model(gateway.started, served.name))


async def metrics(exchange: Exchange) -> Response:
    """The counters, for Prometheus."""
    gateway = exchange.gateway
    for served in gateway.aliases:
        profile = served.styles[None].profile
        gateway.metrics.profile(
            served.name, None if profile is None else profile.id, profile.version if profile else ""
        )
        for one in served.upstreams.status():
            gateway.metrics.upstream(one["name"]).up(one["state"] != "open")
    gateway.metrics.in_flight.set(gateway.admission.under_way)
    gateway.metrics.queued.set(gateway.admission.waiting)
    text, kind = gateway.metrics.exposition(exchange.request.headers.get("accept"))
    return Response(text, headers={"content-type": kind})


def _model(created: float, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(created), "owned_by": "poise"}
