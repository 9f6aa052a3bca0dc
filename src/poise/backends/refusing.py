"""What went wrong with a call over HTTP, in Poise's errors: refusals by status, broken connections.

Messages are one line and name the server as they are told to; keys are taken out by the caller.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import math
import time
from collections.abc import Callable, Mapping

import httpcore2

from poise.errors import (
    BackendError,
    RateLimited,
    Rejected,
    ServerFault,
    StreamCut,
    TimedOut,
    Unauthorized,
    Unavailable,
)

__all__ = ["BROKEN", "refusal", "translate"]

BROKEN = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
    httpcore2.ProxyError,
    httpcore2.ConnectionNotAvailable,
)
"""All errors of the transport; they have no common root."""


def translate(error: Exception, where: str) -> BackendError:
    """The Poise error for one of ``BROKEN``, met at ``where``."""
    what = " ".join(str(error).split()) or type(error).__name__
    if isinstance(
        error,
        httpcore2.ConnectError
        | httpcore2.ConnectTimeout
        | httpcore2.PoolTimeout
        | httpcore2.ConnectionNotAvailable,
    ):
        return Unavailable(f"{where}: cannot be reached ({what}); is the server running?")
    if isinstance(error, httpcore2.ProxyError):
        return Unavailable(f"{where}: the proxy failed ({what})")
    if isinstance(error, httpcore2.TimeoutException):
        return TimedOut(f"{where}: no reply in time ({type(error).__name__})")
    if isinstance(error, httpcore2.UnsupportedProtocol | httpcore2.LocalProtocolError):
        return Rejected(f"{where}: the request cannot be sent ({what})")
    return StreamCut(f"{where}: the connection broke ({what})")


def refusal(
    where: str, status: int, content: str, header: Callable[[str], str | None]
) -> BackendError:
    """The error for a ``status`` other than 200, in the server's own words out of ``content``.

    ``header``: the value of a response header by its lower-case name, None where it is absent.
    """
    message = f"{where}: HTTP {status}: {_said(content)}"
    if status in {401, 403}:
        return Unauthorized(message + "; check the key named by --api-key-env")
    if status == 429:
        return RateLimited(message, retry_after=_retry_after(header))
    if status == 408:
        return TimedOut(message)
    # 501 says that the server has no such feature, and never will while it runs.
    if (status >= 500 and status != 501) or status in {409, 425}:
        return ServerFault(message, retry_after=_retry_after(header))
    if status == 404 and not where.endswith("/v1"):
        message += "; an OpenAI-compatible base URL usually ends in /v1"
    return Rejected(message)


def _said(content: str) -> str:
    """The server's own words about an error, on one line."""
    try:
        data = json.loads(content)
        error = data.get("error", data)
        text = error.get("message", error) if isinstance(error, Mapping) else error
    except (ValueError, AttributeError, RecursionError):
        text = content
    return " ".join(str(text).split())[:300] or "no explanation"


def _retry_after(header: Callable[[str], str | None]) -> float | None:
    """Seconds to wait by ``retry-after-ms`` or ``Retry-After`` (seconds, a date); None: unsaid."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = header(name)
        if value is None:
            continue
        with contextlib.suppress(ValueError):
            seconds = float(value) * unit
            if math.isfinite(seconds):
                return max(0.0, seconds)
        with contextlib.suppress(ValueError, TypeError):
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
