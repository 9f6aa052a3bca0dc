"""What can go wrong upstream and what a client of the gateway gets then, as one table.

``test_serve_faults.py`` holds the gateway to it; run as a program it prints the table for people.
An outcome is a status with its error's code, or ``event`` with the code where the words of a stream
had gone out before the fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fault_server import Behaviour, UsageKind
from poise.backends.scripted import Fail, Fault, Hang, Miscount, NoLogprobs, Slow
from poise.errors import (
    Exhausted,
    MalformedReply,
    ModelMissing,
    RateLimited,
    Rejected,
    ServerFault,
    StreamCut,
    TimedOut,
    Unauthorized,
    Unavailable,
)

TEXT = "I think it is 12"

WAYS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "open chat": ("open", {}),
    "number": ("number", {}),
    "number, streamed": ("number", {"stream": True}),
    "open chat, streamed": ("open", {"stream": True}),
    "number, first streamed": ("number", {"stream": True, "poise": {"stream": "first"}}),
}
"""Ways to ask: the alias, and what the request adds."""

HEARD = ("open chat, streamed", "number, first streamed")
"""Where the words of a sample go out before it is known how the sample ends."""

OK = "200"
FAULT = "502 upstream_error"
BROKE = "event upstream_error"
BUSY = "429 upstream_rate_limited"
TOO_LONG = "event deadline"
LATE = "504 deadline"
SHORT: Mapping[str, Any] = {"poise": {"max_seconds": 0.15}}


@dataclass(frozen=True)
class Row:
    """One fault; ``once``: what it comes to where one call meets it, ``always``: where each does.

    ``heard``: the same, both times, where words went out before. ``spend``: how well what was
    spent can be known: exact, bounded (no less than stated, no more than stated and held), or
    unknown. ``patient``: what the server says about waiting is heeded, which takes time.
    """

    name: str
    fault: Behaviour | Fault
    once: str = OK
    always: str = OK
    heard: str | None = None
    spend: str = "bounded"
    ask: Mapping[str, Any] = field(default_factory=dict)
    patient: bool = False

    def outcome(self, way: str, *, always: bool) -> str:
        """What a client that asks in this way gets."""
        if self.heard is not None and way in HEARD:
            return self.heard
        return self.always if always else self.once


def _says(**how: Any) -> Behaviour:
    return Behaviour(texts=(TEXT,), **how)


_SOON = {"retry-after-ms": "20"}
_PAGE = {"content-type": "text/html"}

SERVER = (
    Row("HTTP 429", _says(status=429, headers=_SOON), OK, BUSY, spend="exact", patient=True),
    Row("HTTP 500", _says(status=500), OK, FAULT),
    Row("HTTP 503", _says(status=503), OK, FAULT),
    Row("HTTP 408", _says(status=408), OK, "504 upstream_timeout"),
    Row("HTTP 401", _says(status=401), *["502 upstream_unauthorized"] * 2, spend="exact"),
    Row("HTTP 403", _says(status=403), *["502 upstream_unauthorized"] * 2, spend="exact"),
    Row("HTTP 400", _says(status=400), *["400 upstream_rejected"] * 2, spend="exact"),
    Row("HTTP 404", _says(status=404), *["400 upstream_rejected"] * 2, spend="exact"),
    Row("cut before a word", _says(cut_after=0), OK, FAULT),
    Row("cut after two words", _says(cut_after=2), OK, FAULT, BROKE),
    Row("never replies", _says(latency=math.inf), LATE, LATE, ask=SHORT),
    Row("falls silent after two words", _says(hang_after=2), LATE, LATE, TOO_LONG, ask=SHORT),
    Row("half a JSON value after a word", _says(broken_after=1), OK, FAULT, BROKE),
    Row("a web page", _says(body="<html>busy</html>", headers=_PAGE), OK, FAULT),
    Row("bytes that are not HTTP", _says(garbage=True), OK, FAULT),
    Row("no usage", _says(usage=UsageKind.MISSING), spend="unknown"),
    Row("usage null", _says(usage=UsageKind.NULL), spend="unknown"),
    Row("no log-probabilities", _says(logprobs=False), spend="exact", ask={"logprobs": True}),
    Row("no choices", _says(choices=0), OK, FAULT),
    Row("one choice only", _says(choices=1), spend="exact"),
    Row("six choices", _says(choices=6), spend="exact"),
    Row("slow", _says(token_delay=0.004), spend="exact"),
    Row("never says why it ended", _says(finish=False, done=False), OK, FAULT, BROKE),
    Row("small packets", _says(packet=200), spend="exact"),
)  # fmt: skip
"""What a server on the wire can do."""

BACKEND = (
    Row("Unavailable", Fail(Unavailable), OK, "503 upstream_unavailable", spend="exact"),
    Row("RateLimited", Fail(RateLimited, retry_after=0.02), OK, BUSY, spend="exact", patient=True),
    Row("ServerFault", Fail(ServerFault), OK, FAULT),
    Row("TimedOut", Fail(TimedOut), OK, "504 upstream_timeout"),
    Row("StreamCut", Fail(StreamCut), OK, FAULT),
    Row("StreamCut after two words", Fail(StreamCut, 2), OK, FAULT, BROKE),
    Row("MalformedReply", Fail(MalformedReply), OK, FAULT),
    Row("Rejected", Fail(Rejected), *["400 upstream_rejected"] * 2, spend="exact"),
    Row("Unauthorized", Fail(Unauthorized), *["502 upstream_unauthorized"] * 2, spend="exact"),
    Row("ModelMissing", Fail(ModelMissing), *["503 model_missing"] * 2, spend="exact"),
    Row("Exhausted", Fail(Exhausted), *["500 internal_error"] * 2, spend="exact"),
    Row("Hang", Hang(), LATE, LATE, ask=SHORT),
    Row("Hang after two words", Hang(2), LATE, LATE, TOO_LONG, ask=SHORT),
    Row("Slow", Slow(0.05), spend="exact"),
    Row("NoLogprobs", NoLogprobs(), spend="exact", ask={"logprobs": True}),
    Row("Miscount(0)", Miscount(0), OK, FAULT, spend="exact"),
    Row("Miscount(1)", Miscount(1), spend="exact"),
    Row("Miscount(6)", Miscount(6), spend="exact"),
)  # fmt: skip
"""What the scripted back-end can be told to do."""


def table(rows: tuple[Row, ...]) -> str:
    """The rows in Markdown."""
    heads = ("fault", "hits one call", "hits every call", "words had gone out", "spend")
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    lines += [
        " | ".join((row.name, row.once, row.always, row.heard or "as left", row.spend))
        for row in rows
    ]
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    print(table(SERVER), table(BACKEND), sep="\n\n")  # noqa: T201
