"""Every "no" of the gateway: a status and OpenAI's error object, in one sentence that helps.

``Refusal`` is what the serving code raises; ``refusal`` makes one of whatever else was raised. What
goes to a client names no upstream: its addresses are the operator's business, and the whole message
is for the log. It does not know: routes, requests, who asked.
"""

from __future__ import annotations

import math
import re
from typing import Any

from poise.errors import (
    CapReached,
    ConfigError,
    InputError,
    MalformedReply,
    ModelMissing,
    RateLimited,
    Rejected,
    ServerFault,
    StreamCut,
    TimedOut,
    Unauthorized,
    Unavailable,
    UsageError,
)

__all__ = ["Refusal", "invalid", "no_store", "refusal", "stopping", "without_addresses"]

_ADDRESS = re.compile(
    r"""
    (?P<url>\b[a-z][a-z0-9+.-]{1,15}://[^\s"'<>]*)    # credentials and all
    | \('[^'()]*',\ \d+(?:,\ \d+)*\)                  # ('10.0.0.5', 8000), as the sockets name it
    | (?<![\w.])\[[0-9a-f.]*:[0-9a-f:.]*\](?::\d+)?                # [::1]:8000
    | (?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)(?::\d+)?       # 10.0.0.5, 10.0.0.5:8000
    | (?<![\w.-])(?:localhost|[a-z0-9_-]+(?:\.[a-z0-9_-]+)+)(?::\d{2,5}\b)   # vllm.internal:8000
    | (?<![\w.-])localhost\b
    | (?<![\w@.-])[\w.+-]+:[^\s@]+@[\w.-]*\w                       # user:password@host
    """,
    re.IGNORECASE | re.VERBOSE,
)
_HINT = re.compile(r"[0-9@]|://|localhost", re.IGNORECASE)
"""What every address has some of: most texts are told to have none for a twentieth of the time."""


class Refusal(Exception):
    """A request that is not answered.

    ``status``: of HTTP, 400 to 599. ``message``: one line for the client: what is wrong, and what
    to do. ``type`` is OpenAI's (invalid_request_error, authentication_error, permission_error,
    rate_limit_error, insufficient_quota, server_error); ``code`` names the case for programs,
    ``param`` the field at fault. ``retry_after``: seconds, finite, to wait before asking again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.type = status, message, type
        self.code, self.param, self.retry_after = code, param, retry_after

    def body(self) -> dict[str, Any]:
        """The reply's JSON."""
        names = ("message", "type", "param", "code")
        return {"error": {name: getattr(self, name) for name in names}}

    def headers(self) -> dict[str, str]:
        """``Retry-After`` in whole seconds, rounded up; with 401 what a client has to send."""
        out = {}
        if self.retry_after is not None:
            out["Retry-After"] = str(max(0, math.ceil(self.retry_after)))
        if self.status == 401:
            out["WWW-Authenticate"] = "Bearer"
        return out


def invalid(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    """A request that could be mended by its sender: 400."""
    return Refusal(400, message, code=code, param=param)


def stopping(seconds: float) -> Refusal:
    """A gateway that takes no more, and will be gone in ``seconds``."""
    said = "the gateway is shutting down; ask again once it is back"
    return Refusal(503, said, "server_error", "draining", retry_after=max(1.0, seconds))


def no_store() -> Refusal:
    """What cannot be done without the store, while that cannot be reached."""
    said = "the gateway's own store cannot be reached; try again later, or tell its operator"
    return Refusal(503, said, "server_error", "store_unavailable")


def refusal(error: Exception) -> Refusal:
    """What the client is told about ``error``; a Refusal is told as it is.

    An error that Poise does not raise on purpose is told without a word of its own.
    """
    if isinstance(error, Refusal):
        return error
    for kinds, status, type_, code, said in _TOLD:
        if isinstance(error, kinds):
            own = error.problem if isinstance(error, InputError) else str(error)
            message = said.format(without_addresses(" ".join(own.split())))
            wait = getattr(error, "retry_after", None)
            return Refusal(status, message, type_, code, retry_after=wait)
    return Refusal(
        500,
        "the gateway failed; try again, and tell its operator if it goes on",
        "server_error",
        "internal_error",
    )


def without_addresses(text: str) -> str:
    """``text`` with "the upstream" in the place of every URL, host with port and IP address."""
    return _ADDRESS.sub(_upstream, text) if _HINT.search(text) else text


def _upstream(found: re.Match[str]) -> str:
    """The words for an address, and the punctuation that a URL does not end with."""
    url = found["url"] or ""
    return "the upstream" + url[len(url.rstrip(".,:;!?)]}")) :]


_TOLD: tuple[tuple[type[Exception] | tuple[type[Exception], ...], int, str, str, str], ...] = (
    (
        RateLimited,
        429,
        "rate_limit_error",
        "upstream_rate_limited",
        "the upstream takes no more requests for now; try again later",
    ),
    (
        Unavailable,
        503,
        "server_error",
        "upstream_unavailable",
        "the upstream cannot be reached; try again later",
    ),
    (
        TimedOut,
        504,
        "server_error",
        "upstream_timeout",
        "the upstream did not reply in time; try again, or ask for fewer tokens",
    ),
    ((ServerFault, StreamCut, MalformedReply), 502, "server_error", "upstream_error", "{}"),
    (
        Unauthorized,
        502,
        "server_error",
        "upstream_unauthorized",
        "the upstream refuses the gateway's own key; tell the gateway's operator",
    ),
    (Rejected, 400, "invalid_request_error", "upstream_rejected", "{}"),
    (
        ModelMissing,
        503,
        "server_error",
        "model_missing",
        "the model is not installed where the gateway runs; tell the gateway's operator",
    ),
    (
        ConfigError,
        500,
        "server_error",
        "misconfigured",
        "the gateway's configuration is at fault; tell the gateway's operator",
    ),
    ((UsageError, InputError), 400, "invalid_request_error", "invalid_value", "{}"),
    (CapReached, 429, "insufficient_quota", "insufficient_quota", "{}"),
)
"""Errors, the first that fits counting: status, type, code, and the sentence ({}: its own words).

Where its own words could only be about the upstream's whereabouts, they are not told at all.
"""
