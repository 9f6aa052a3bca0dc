"""The client's end of a request: its body, bounded, and whether it is still there.

It does not know what is asked or answered.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.requests import Request

from poise.serve.refusals import Refusal

__all__ = ["ClientGone", "read_body", "refuse_strangers", "unless_gone"]

Value = TypeVar("Value")

PATIENCE = 60.0
"""Seconds for a body to come; who sends it more slowly holds memory for nothing."""


class ClientGone(Exception):
    """The client closed its connection; nobody is there to be told anything."""


async def read_body(request: Request, most: int) -> bytes:
    """The whole body. Raises Refusal: 413 once it passes ``most`` bytes, 408; ClientGone."""
    stated = request.headers.get("content-length", "0")
    if stated.isdigit() and int(stated) > most:
        raise _too_large(most)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "send the body as plain JSON, without a content encoding")
    try:
        async with asyncio.timeout(PATIENCE):
            return await _received(request, most)
    except TimeoutError:
        raise Refusal(
            408, f"the body did not come in {PATIENCE:g} seconds; send it at once"
        ) from None


async def _received(request: Request, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def unless_gone(request: Request, work: Coroutine[Any, Any, Value]) -> Value:
    """The value of ``work``, which is cancelled when the client goes. Raises ClientGone then.

    To be called once the body was read: what comes next on the connection is its end.
    """
    own = asyncio.current_task()
    assert own is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        own.cancel()

    watcher = asyncio.get_running_loop().create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if not gone or own.uncancel():
            raise
        raise ClientGone from None
    finally:
        watcher.cancel()


def refuse_strangers(request: Request) -> None:
    """Where no key is asked for: refuse what a web page of somewhere else may have sent.

    Browsers say where a page comes from, and by which name they found this server; a name that is
    not this machine's own may have been pointed here for the purpose. Raises Refusal, 403.
    """
    origin = request.headers.get("origin")
    for stated in (request.headers.get("host", ""), origin and urlsplit(origin).netloc):
        if stated is not None and not _is_here(stated):
            raise Refusal(
                403,
                "without keys only this machine is served, by the name localhost; configure a"
                " [[key]] to be reached by others",
                "permission_error",
                "not_local",
            )


def _is_here(netloc: str) -> bool:
    name = urlsplit(f"//{netloc}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"the body is larger than the {most} bytes that this gateway takes")
