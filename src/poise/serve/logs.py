"""Structured logs on stderr: one JSON object a line, and only fields that are known to be harmless.

``set_up`` puts the JSON formatter on the loggers of Poise, of the web server and of asyncio.
Poise's own lines go through ``event`` and ``access``, with an event's name and fields from
``FIELDS``; the formatter drops every other field. No prompt, answer, key, header or exception
message is written: an exception is its class and the lines it passed through.

It does not know: routes, metrics, traces. Writing is done by the thread that logs, so a stderr that
is not being read holds the gateway up.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from poise.errors import UsageError
from poise.serve.refusals import Refusal
from poise.types import Result

__all__ = [
    "ACCESS",
    "FIELDS",
    "SERVE",
    "JsonFormatter",
    "access",
    "error_class",
    "event",
    "request_id",
    "set_up",
]

SERVE = logging.getLogger("poise.serve")
"""What the gateway does: starts, reloads, drains, an upstream that went away."""

ACCESS = logging.getLogger("poise.serve.access")
"""One line a request, at INFO."""

LOGGERS = ("poise", "uvicorn.error", "asyncio")

FIELDS = frozenset(
    {
        *("request_id", "id", "alias", "route", "method", "status", "stream", "mode", "tier"),
        *("decision", "stop", "samples", "rounds", "kind", "calibrated", "recorded"),
        *("seconds", "queued_seconds", "calls", "prompt_tokens", "completion_tokens", "usd"),
        *("upstream", "error", "profile", "version", "worker", "host", "port", "count", "up"),
    }
)
"""Every field a line may have: numbers, flags, ids, names from the configuration, words of ours."""

LONGEST = 128
FRAMES = 20
EVENT_NAME = re.compile(r"[a-z][a-z0-9_.]{0,63}")
ENCODE = json.JSONEncoder(separators=(",", ":")).encode
Value = str | int | float | bool | None


def set_up(
    level: str = "INFO", stream: TextIO | None = None, loggers: Iterable[str] = LOGGERS
) -> logging.Handler:
    """Have ``loggers`` write JSON lines to ``stream`` (stderr) and nowhere else.

    Calling it again replaces what it did before. ``level``: DEBUG, INFO, WARNING or ERROR; above
    INFO there are no access lines. Raises UsageError for another level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise UsageError(f"log level {level!r}: use DEBUG, INFO, WARNING or ERROR")
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter())
    for name in loggers:
        logger = logging.getLogger(name)
        for old in [one for one in logger.handlers if isinstance(one.formatter, JsonFormatter)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.setLevel(number)
        logger.propagate = False
    return handler


def event(logger: logging.Logger, level: int, name: str, **fields: Value) -> None:
    """Write the event ``name`` (a constant word such as ``profile_reloaded``) with ``fields``."""
    if logger.isEnabledFor(level):
        logger.log(level, name, extra=_allowed(fields))


def access(
    request_id: str,
    alias: str,
    status: int,
    seconds: float,
    result: Result | None = None,
    *,
    error: BaseException | None = None,
    **fields: Value,
) -> None:
    """The line of one request; ``fields`` are further ones of ``FIELDS`` (route, stream, …)."""
    if not ACCESS.isEnabledFor(logging.INFO):
        return
    line: dict[str, Value] = {
        "request_id": request_id,
        "alias": alias,
        "status": status,
        "seconds": round(seconds, 6),
        **fields,
    }
    if result is not None:
        spend = result.spend
        line |= {
            "decision": result.decision,
            "stop": result.stop.value,
            "samples": result.n_samples,
            "calibrated": result.calibrated,
            "calls": spend.calls,
            "prompt_tokens": spend.prompt_tokens,
            "completion_tokens": spend.completion_tokens,
        }
        error = error or result.error
    if error is not None:
        line["error"] = error_class(error)
    ACCESS.info("request", extra=_allowed(line))


def request_id(given: str | None, id: str) -> str:
    """The client's ``x-request-id`` if it is 1 to 128 visible ASCII characters, else ``id``."""
    if given and len(given) <= LONGEST and given.isascii() and given.isprintable():
        return id if " " in given else given
    return id


def error_class(error: BaseException) -> str:
    """What went wrong in one word: an error's class; for a refusal its cause's, or its code.

    Never a text, which may quote a prompt, a reply or an address.
    """
    if isinstance(error, Refusal):
        return type(error.__cause__).__name__ if error.__cause__ else error.code or error.type
    return type(error).__name__


class JsonFormatter(logging.Formatter):
    """One line of JSON a record: time (UTC), level, event or message, then the allowed fields.

    Fields are what ``extra`` put on the record; texts are cut short, and what is no text, finite
    number or flag is left out. Where Poise's own message is no event's name, it stands as it is in
    the source, without its arguments; a foreign one keeps its first line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """``record`` as one line."""
        when = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "pid": record.process,
            **_said(record),
        }
        for name, value in _allowed(record.__dict__).items():
            kept = _harmless(value)
            if kept is not None:
                line[name] = kept
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = error_class(record.exc_info[1])
            line["at"] = _frames(record.exc_info[2])
        return ENCODE(line)


def _allowed(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in FIELDS}


def _said(record: logging.LogRecord) -> dict[str, str]:
    ours = record.name.partition(".")[0] == "poise"
    if ours and EVENT_NAME.fullmatch(str(record.msg)):
        return {"event": str(record.msg)}
    text = str(record.msg) if ours else record.getMessage()
    first = (text.strip().splitlines() or [""])[0]
    return {"logger": record.name, "message": first[:LONGEST]}


def _harmless(value: object) -> Value:
    """The value as JSON may have it, or None where it is not one to write."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}…"
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None


def _frames(trace: TracebackType | None) -> list[str]:
    """Where an exception passed through, innermost last: file, line and function, no source."""
    passed = [
        f"{Path(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(trace)
    ]
    return passed[-FRAMES:]
