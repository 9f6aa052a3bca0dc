"""Spans and the evaluation event, as an OpenTelemetry SDK in memory receives them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from poise.errors import RateLimited, ServerFault
from poise.serve.refusals import Refusal, refusal
from poise.serve.tracing import Tracer
from poise.types import Result, Sample, Spend, StopReason

PRIVATE = "my secret words"
RESULT = Result(
    id="r1",
    question_id=PRIVATE,
    answer=PRIVATE,
    text=PRIVATE,
    decision="answer",
    stop=StopReason.SURE,
    model="qwen",
    decoding={"temperature": 0.8},
    spend=Spend(2, 4, 120, 30, 64, None),
    samples=tuple(Sample(i, PRIVATE, PRIVATE) for i in range(4)),
    votes={PRIVATE: 4},
    probability=0.93,
    calibrated=True,
    missing={"p_true": PRIVATE},
)
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Recorded:
    """A tracer and what it recorded."""

    tracer: Tracer
    provider: TracerProvider
    exporter: InMemorySpanExporter

    def only(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        return span


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Recorded(Tracer.of(True, provider=provider), provider, exporter)
    provider.shutdown()


def test_a_reply_is_one_server_span_in_the_words_of_the_conventions(recorded: Recorded) -> None:
    with recorded.tracer.span("small", {}, choices=2, stream=True) as span:
        span.answered(RESULT, "chatcmpl-r1", ["stop", None])
    seen = recorded.only()
    assert (seen.name, seen.kind, seen.parent) == ("chat small", SpanKind.SERVER, None)
    assert seen.status.status_code is StatusCode.UNSET
    assert dict(seen.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "poise",
        "gen_ai.request.model": "small",
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "chatcmpl-r1",
        "gen_ai.response.model": "qwen",
        "gen_ai.response.finish_reasons": ("stop", "unknown"),
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 64,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "poise.samples": 4,
        "poise.stop": "sure",
    }


def test_the_probability_is_an_event_on_the_span(recorded: Recorded) -> None:
    with recorded.tracer.span("small", {}) as span:
        span.answered(RESULT, "chatcmpl-r1", ["stop"])
    (event,) = recorded.only().events
    assert event.name == "gen_ai.evaluation.result"
    assert dict(event.attributes or {}) == {
        "gen_ai.evaluation.name": "poise.probability",
        "gen_ai.evaluation.score.value": 0.93,
        "gen_ai.evaluation.score.label": "answer",
        "gen_ai.evaluation.explanation": "stop sure at 4 samples",
        "gen_ai.response.id": "chatcmpl-r1",
    }


def test_where_nothing_is_claimed_the_event_has_a_label_and_no_score(recorded: Recorded) -> None:
    plain = replace(RESULT, probability=None, calibrated=False, decision="abstain", reason=PRIVATE)
    with recorded.tracer.span("small", {}) as span:
        span.answered(plain, "chatcmpl-r1", ["stop"])
    (event,) = recorded.only().events
    assert "gen_ai.evaluation.score.value" not in (event.attributes or {})
    assert (event.attributes or {})["gen_ai.evaluation.score.label"] == "abstain"


def test_the_event_is_a_log_record_where_a_logger_provider_listens(recorded: Recorded) -> None:
    exporter, events = InMemoryLogRecordExporter(), LoggerProvider()
    events.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    tracer = Tracer.of(True, provider=recorded.provider, events=events)
    with tracer.span("small", {}) as span:
        span.answered(RESULT, "chatcmpl-r1", ["stop"])
    (log,) = exporter.get_finished_logs()
    seen = recorded.only()
    assert seen.events == ()
    assert seen.context is not None
    assert log.log_record.event_name == "gen_ai.evaluation.result"
    assert log.log_record.span_id == seen.context.span_id
    assert (log.log_record.attributes or {})["gen_ai.evaluation.score.value"] == 0.93
    events.shutdown()


def test_nothing_of_the_prompt_or_the_answer_is_in_a_span(recorded: Recorded) -> None:
    failed = replace(RESULT, stop=StopReason.ERROR, error=ServerFault(PRIVATE), reason=PRIVATE)
    with recorded.tracer.span("small", {}) as span:
        span.answered(failed, "chatcmpl-r1", ["stop"])
        span.failed(refusal(RateLimited(PRIVATE)))
    with pytest.raises(ValueError, match=PRIVATE), recorded.tracer.span("small", {}):
        raise ValueError(PRIVATE)
    spans = recorded.exporter.get_finished_spans()
    assert len(spans) == 2
    assert all(PRIVATE not in span.to_json() for span in spans)


def test_a_caller_s_trace_goes_on(recorded: Recorded) -> None:
    with recorded.tracer.span("small", {"traceparent": CALLER, "baggage": "user=secret"}):
        pass
    seen = recorded.only()
    assert seen.parent is not None
    assert seen.context is not None
    assert f"{seen.context.trace_id:032x}" == CALLER.split("-")[1]
    assert f"{seen.parent.span_id:016x}" == CALLER.split("-")[2]


@given(header=st.text() | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{0,33}-[0-9a-f]{0,17}-[0-9a-f]{0,3}"))
def test_a_broken_traceparent_starts_a_trace_of_its_own(header: str) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with Tracer.of(True, provider=provider).span("small", {"traceparent": header}):
        pass
    (seen,) = exporter.get_finished_spans()
    assert seen.context is not None
    assert seen.context.is_valid


def test_spans_made_inside_are_children_and_none_leaks_out(recorded: Recorded) -> None:
    client = recorded.provider.get_tracer("client")
    with recorded.tracer.span("small", {}):
        client.start_span("POST").end()
    assert not trace.get_current_span().get_span_context().is_valid
    inner, outer = recorded.exporter.get_finished_spans()
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id


def test_inside_a_web_framework_s_span_ours_is_internal(recorded: Recorded) -> None:
    web = recorded.provider.get_tracer("web")
    with (
        web.start_as_current_span("POST /v1/chat/completions", kind=SpanKind.SERVER),
        recorded.tracer.span("small", {"traceparent": CALLER}),
    ):
        pass
    ours, theirs = recorded.exporter.get_finished_spans()
    assert ours.kind is SpanKind.INTERNAL
    assert ours.parent is not None
    assert theirs.context is not None
    assert ours.parent.span_id == theirs.context.span_id


@pytest.mark.parametrize(
    ("error", "named", "status", "http"),
    [
        (ServerFault("no"), "ServerFault", StatusCode.ERROR, None),
        (Refusal(400, "n: too many", code="bad_n"), "bad_n", StatusCode.UNSET, 400),
        (Refusal(503, "full", "server_error"), "server_error", StatusCode.ERROR, 503),
        (asyncio.CancelledError(), "CancelledError", StatusCode.UNSET, None),
        (GeneratorExit(), "GeneratorExit", StatusCode.UNSET, None),
    ],
)
def test_a_failure_is_its_class_and_ours_only_if_it_is_our_fault(
    recorded: Recorded, error: BaseException, named: str, status: StatusCode, http: int | None
) -> None:
    with pytest.raises(type(error)), recorded.tracer.span("small", {}):
        raise error
    seen = recorded.only()
    assert (seen.attributes or {})["error.type"] == named
    assert (seen.attributes or {}).get("http.response.status_code") == http
    assert seen.status.status_code is status
    assert seen.status.description is None
    assert seen.events == ()


def test_a_refusal_is_known_by_what_caused_it(recorded: Recorded) -> None:
    cause = RateLimited("no")
    with pytest.raises(Refusal), recorded.tracer.span("small", {}):
        raise refusal(cause) from cause
    assert (recorded.only().attributes or {})["error.type"] == "RateLimited"


def test_requests_side_by_side_keep_their_spans_apart(recorded: Recorded) -> None:
    client = recorded.provider.get_tracer("client")

    async def one(alias: str) -> None:
        with recorded.tracer.span(alias, {}):
            await asyncio.sleep(0)
            client.start_span(f"call {alias}").end()
            await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(one("a"), one("b"))

    asyncio.run(both())
    spans = {span.name: span for span in recorded.exporter.get_finished_spans()}
    for alias in ("a", "b"):
        parent, context = spans[f"call {alias}"].parent, spans[f"chat {alias}"].context
        assert parent is not None
        assert context is not None
        assert parent.span_id == context.span_id


def test_off_it_is_one_span_that_does_nothing(recorded: Recorded) -> None:
    tracer = Tracer.of(False, provider=recorded.provider)
    assert not tracer.on
    with tracer.span("small", {"traceparent": CALLER}) as span:
        span.answered(RESULT, "chatcmpl-r1", ["stop"])
        span.failed(ValueError("no"))
    assert tracer.span("other", {}) is span
    assert recorded.exporter.get_finished_spans() == ()


def test_without_opentelemetry_it_is_off_and_says_so() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from poise.serve.tracing import Tracer\n"
        "tracer = Tracer.of(True)\n"
        "with tracer.span('small', {}): pass\n"
        "print(tracer.on)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_off_loads_nothing_of_opentelemetry() -> None:
    code = (
        "import sys\nfrom poise.serve.tracing import Tracer\nTracer.of(False)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
