"""The spans that ``tracing`` promises, recorded with OpenTelemetry; imported only when wanted.

One span a request, ``chat {alias}``, after the GenAI semantic conventions, which describe the
client's side; ours is the server's, so its kind is SERVER (INTERNAL where an instrumentation of the
web framework has made the server span already). The probability is the event
``gen_ai.evaluation.result``: a log record in the span's context where a logger provider listens,
as the conventions want it, else an event on the span. Neither carries a prompt, an answer or an
exception's message, which may quote either.

It does not know: HTTP, exporters, metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import Self

from opentelemetry import _logs as otel_logs
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from poise.serve.logs import error_class
from poise.serve.refusals import Refusal
from poise.serve.tracing import Operation, Span, Tracer
from poise.types import Result, StopReason

__all__ = ["OpenSpan", "OpenTracer"]

SCOPE = "poise"
PROVIDER = "poise"
EVENT = "gen_ai.evaluation.result"
EVALUATION = "poise.probability"

# Only the trace's identity is taken from a client; baggage would travel on to the upstream.
INCOMING = TraceContextTextMapPropagator()


class OpenTracer(Tracer):
    """Makes recorded spans; ``Tracer.of`` gives it."""

    on = True

    def __init__(
        self,
        provider: trace.TracerProvider | None = None,
        events: otel_logs.LoggerProvider | None = None,
    ):
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=provider)
        self._events = otel_logs.get_logger(SCOPE, logger_provider=events)

    def span(
        self,
        alias: str,
        headers: Mapping[str, str],
        *,
        operation: Operation = "chat",
        choices: int = 1,
        stream: bool = False,
    ) -> OpenSpan:
        """A span that starts now and ends when it is left."""
        nested = trace.get_current_span().get_span_context().is_valid
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": alias,
        }
        if choices != 1:
            attributes["gen_ai.request.choice.count"] = choices
        if stream:
            attributes["gen_ai.request.stream"] = True
        span = self._tracer.start_span(
            f"{operation} {alias}",
            context=None if nested else INCOMING.extract(headers),
            kind=trace.SpanKind.INTERNAL if nested else trace.SpanKind.SERVER,
            attributes=attributes,
        )
        return OpenSpan(span, self._events)


class OpenSpan(Span):
    """One request being answered; see ``tracing.Span``."""

    __slots__ = ("_context", "_entered", "_events", "_span")

    def __init__(self, span: trace.Span, events: otel_logs.Logger):
        self._span, self._events = span, events
        self._context = trace.set_span_in_context(span)
        self._entered: Token[Context] | None = None

    def __enter__(self) -> Self:
        self._entered = otel_context.attach(self._context)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the span."""
        if self._entered is not None:
            otel_context.detach(self._entered)
            self._entered = None
        if error is not None:
            self.failed(error)
        self._span.end()

    def answered(self, result: Result, id: str, finish_reasons: Sequence[str | None]) -> None:
        """Usage, ids and how sampling ended on the span; the probability as an event."""
        if not self._span.is_recording():
            return
        spend = result.spend
        attributes: dict[str, AttributeValue | None] = {
            "gen_ai.response.id": id,
            "gen_ai.response.model": result.model,
            "gen_ai.response.finish_reasons": [reason or "unknown" for reason in finish_reasons],
            "gen_ai.usage.input_tokens": spend.prompt_tokens,
            "gen_ai.usage.output_tokens": spend.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": spend.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": spend.reasoning_tokens,
            "poise.samples": result.n_samples,
            "poise.stop": result.stop.value,
        }
        self._span.set_attributes(_stated(attributes))
        if result.stop is StopReason.ERROR and result.error is not None:
            self.failed(result.error)
        self._evaluated(result, id)

    def failed(self, error: BaseException) -> None:
        """The error's class; the span's status says error unless the client was at fault."""
        self._span.set_attribute("error.type", error_class(error))
        if isinstance(error, Refusal):
            self._span.set_attribute("http.response.status_code", error.status)
            fault = error.status >= 500
        else:
            fault = isinstance(error, Exception)  # cancelled: the client went away
        if fault:
            # No description: an exception's text may quote the prompt.
            self._span.set_status(trace.StatusCode.ERROR)

    def _evaluated(self, result: Result, id: str) -> None:
        n, stop = result.n_samples, result.stop.value
        attributes = _stated(
            {
                "gen_ai.evaluation.name": EVALUATION,
                "gen_ai.evaluation.score.value": result.probability,
                "gen_ai.evaluation.score.label": result.decision,
                # In our own words: the result's reason may quote what a server said.
                "gen_ai.evaluation.explanation": f"stop {stop} at {n} samples",
                "gen_ai.response.id": id,
            }
        )
        if self._events.enabled(context=self._context, event_name=EVENT):
            self._events.emit(context=self._context, event_name=EVENT, attributes=attributes)
        else:
            self._span.add_event(EVENT, attributes)


def _stated(attributes: Mapping[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    """Only what is known: absence is no value."""
    return {name: value for name, value in attributes.items() if value is not None}
