"""Spans of requests for OpenTelemetry, or nothing at all where it is off or not installed.

``Tracer.of(enabled)`` gives the tracer. The classes here do nothing, and doing nothing is all they
cost; ``spans`` holds what records, and is only imported when it is wanted. Which SDK and exporter
receive the spans is the operator's choice (``opentelemetry-instrument poise serve …``).

It does not know: OpenTelemetry, HTTP, metrics, logs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from poise.types import Result

__all__ = ["Operation", "Span", "Tracer"]

Operation = Literal["chat", "text_completion"]
"""What is done, in the words of the GenAI conventions."""


class Span:
    """One request being answered; this one records nothing.

    Enter and leave it in one task: inside, it is the parent of whatever else makes spans (the
    client that calls upstream, say). A streamed reply enters it in the generator that streams.
    An exception that passes through is recorded by its class.
    """

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the span."""

    def answered(self, result: Result, id: str, finish_reasons: Sequence[str | None]) -> None:
        """The reply with this ``id`` is made of ``result``; one finish reason a choice."""

    def failed(self, error: BaseException) -> None:
        """The request ended in ``error``, for whoever does not let it pass through."""


class Tracer(ABC):
    """Makes spans; ``of`` gives the tracer of a gateway."""

    on = False
    """Whether spans are recorded, so that a start can say that they were asked for and are not."""

    @staticmethod
    def of(enabled: bool, *, provider: Any = None, events: Any = None) -> Tracer:  # noqa: FBT001
        """The tracer of a gateway; one that does nothing unless ``enabled`` and installed.

        ``provider`` and ``events``: an OpenTelemetry tracer provider and logger provider, where
        the process-wide ones are not meant.
        """
        if not enabled:
            return _Off()
        try:
            from poise.serve.spans import OpenTracer  # noqa: PLC0415 - needs the extra `trace`
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "opentelemetry":
                raise
            return _Off()
        return OpenTracer(provider, events)

    @abstractmethod
    def span(
        self,
        alias: str,
        headers: Mapping[str, str],
        *,
        operation: Operation = "chat",
        choices: int = 1,
        stream: bool = False,
    ) -> Span:
        """A span for one request to ``alias`` (a configured name, never what a client made up).

        ``headers``: the request's, looked up in lower case; a sane ``traceparent`` is honoured.
        """


class _Off(Tracer):
    def span(self, *_: object, **__: object) -> Span:
        return _SILENT


_SILENT = Span()
