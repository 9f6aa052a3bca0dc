"""The ASGI application of one worker: routes, keys, errors, and what is noted of each request.

Every route but ``/health`` wants a key, where keys are configured. What a handler raises becomes
OpenAI's error object. It does not know what any route does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import stamina
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from poise import config
from poise.config import Config
from poise.serve import logs
from poise.serve.connection import ClientGone, refuse_strangers
from poise.serve.exchange import GONE, Exchange, Route
from poise.serve.gateway import Connect, running
from poise.serve.keys import Caller
from poise.serve.refusals import Refusal, refusal, stopping
from poise.serve.routes import ROUTES
from poise.serve.streaming import EventStream

__all__ = ["create_app", "served"]


def create_app(wanted: Config, connect: Connect | None = None) -> Starlette:
    """The application. ``connect`` stands in for the servers that ``wanted`` names, for tests.

    Starting it raises UsageError, ConfigError, InputError or ModelMissing for what cannot work.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with running(wanted, connect) as gateway:
            app.state.gateway = gateway
            yield

    app = Starlette(lifespan=lifespan)
    app.add_exception_handler(HTTPException, _no_route)  # type: ignore[arg-type]
    for route in ROUTES:
        app.add_route(route.path, _endpoint(app, route), methods=[route.method])
    return app


def served() -> Starlette:
    """The application of a worker that ``poise serve`` started."""
    wanted = config.served()
    logs.set_up(wanted.serve.log_level)
    stamina.instrumentation.set_on_retry_hooks([])  # its lines may quote a server
    return create_app(wanted)


def _endpoint(app: Starlette, route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        exchange = Exchange(app.state.gateway, request, Caller(None, None))
        try:
            if route.scope is not None and exchange.gateway.keyring.is_empty:
                refuse_strangers(request)
            if route.scope is not None:
                header = request.headers.get("authorization")
                exchange.caller = exchange.gateway.keyring.caller(header, route.scope)
            response = await route.handler(exchange)
        except ClientGone:
            exchange.ended(GONE)
            return Response(status_code=GONE)
        except asyncio.CancelledError:  # by the server, whose time to finish is over
            return _refused(exchange, stopping(0.0))
        except Exception as error:  # noqa: BLE001 - every error is told in the client's shape
            return _refused(exchange, error)
        if not isinstance(response, EventStream):  # which notes its own end
            exchange.ended(response.status_code)
        return response

    return endpoint


def _refused(exchange: Exchange, error: Exception) -> Response:
    said = refusal(error)
    exchange.ended(said.status, error)
    return JSONResponse(said.body(), said.status, said.headers())


async def _no_route(request: Request, error: HTTPException) -> Response:
    """A path or a method that there is not, in OpenAI's shape."""
    said = Refusal(
        error.status_code,
        f"there is no {request.method} {request.url.path[:80]} here; GET /openapi.json lists what"
        " there is",
        code="unknown_url",
    )
    return JSONResponse(said.body(), said.status, dict(error.headers or {}))
