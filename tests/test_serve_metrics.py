"""The gateway's metrics, read back with the parsers of the Prometheus client."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from poise.errors import CapReached, RateLimited, UsageError
from poise.serve.metrics import UNKNOWN, Metrics
from poise.types import Result, Sample, Spend, StopReason


def a_result(
    n: int = 1,
    stop: StopReason = StopReason.SINGLE,
    probability: float | None = None,
    spend: Spend | None = None,
    decision: str = "answer",
) -> Result:
    return Result(
        id="id-7",
        question_id="q-7",
        answer="a secret answer",
        text="a secret text",
        decision=decision,
        stop=stop,
        model="small",
        decoding={},
        spend=Spend(calls=1, samples=n, prompt_tokens=40, completion_tokens=9)
        if spend is None
        else spend,
        samples=tuple(Sample(i, "a secret text", "a secret answer") for i in range(n)),
        probability=probability,
        calibrated=probability is not None,
    )


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"poise_{name}", labels)


def series(metrics: Metrics) -> int:
    return sum(len(family.samples) for family in metrics.registry.collect())


def test_a_reply_counts_as_request_question_decision_and_spend() -> None:
    metrics = Metrics(["small"])
    spend = Spend(3, 8, 120, 30, 64, 5, cancelled_tokens=11, usd=0.25)
    metrics.of("small").answered(a_result(8, StopReason.SURE, 0.93, spend), 0.4)
    metrics.of("small").answered(a_result(decision="abstain"), 0.2)
    assert value(metrics, "requests_total", alias="small", status="200") == 2
    assert value(metrics, "request_seconds_sum", alias="small") == pytest.approx(0.6)
    assert value(metrics, "questions_total", alias="small", mode="live") == 2
    assert value(metrics, "samples_total", alias="small") == 9
    assert value(metrics, "samples_per_question_sum", alias="small") == 9
    assert value(metrics, "calls_total", alias="small") == 4
    assert value(metrics, "stops_total", alias="small", stop="sure") == 1
    assert value(metrics, "stops_total", alias="small", stop="single") == 1
    assert value(metrics, "decisions_total", alias="small", decision="abstain") == 1
    assert value(metrics, "calibrated_total", alias="small", calibrated="true") == 1
    assert value(metrics, "calibrated_total", alias="small", calibrated="false") == 1
    assert value(metrics, "spend_usd_total", alias="small") == 0.25
    tokens = {"prompt": 160, "completion": 73, "cached": 30, "reasoning": 5, "cancelled": 11}
    for kind, count in tokens.items():
        assert value(metrics, "spend_tokens_total", alias="small", kind=kind) == count, kind


def test_a_probability_is_counted_only_where_one_is_claimed() -> None:
    metrics = Metrics(["small"])
    metrics.of("small").answered(a_result(probability=0.93), 0.1)
    metrics.of("small").answered(a_result(), 0.1)
    assert value(metrics, "probability_count", alias="small") == 1
    assert value(metrics, "probability_bucket", alias="small", le="0.9") == 0
    assert value(metrics, "probability_bucket", alias="small", le="0.95") == 1


@given(probability=st.floats(0, 1))
def test_every_probability_has_a_bucket_below_infinity(probability: float) -> None:
    metrics = Metrics(["small"])
    metrics.of("small").answered(a_result(probability=probability), 0.1)
    assert value(metrics, "probability_bucket", alias="small", le="1.0") == 1


def test_an_unknown_token_count_is_no_zero_but_counted_as_left_out() -> None:
    metrics = Metrics(["small"])
    metrics.of("small").spent(Spend(1, 1, prompt_tokens=7, completion_tokens=None))
    metrics.of("small").spent(Spend(1, 1, prompt_tokens=7, completion_tokens=5))
    assert value(metrics, "spend_uncounted_total", alias="small") == 1
    assert value(metrics, "spend_tokens_total", alias="small", kind="completion") == 5


def test_a_plain_reply_counts_its_spend_and_its_shadow_what_was_decided() -> None:
    metrics = Metrics(["small"])
    small = metrics.of("small")
    small.answered(a_result(), 0.1, mode="shadow")
    assert value(metrics, "stops_total", alias="small", stop="single") == 0
    shadow = a_result(4, StopReason.SURE)
    small.behind("shadow", shadow.spend, shadow)
    assert value(metrics, "stops_total", alias="small", stop="sure") == 1
    assert value(metrics, "questions_total", alias="small", mode="shadow") == 1
    assert value(metrics, "questions_total", alias="small", mode="live") == 0
    assert value(metrics, "samples_total", alias="small") == 5
    assert value(metrics, "requests_total", alias="small", status="200") == 1


def test_an_audit_counts_its_spend_and_no_decision() -> None:
    metrics = Metrics(["small"])
    metrics.of("small").behind("audit", Spend(1, 12, 40, 0, 80))
    assert value(metrics, "samples_total", alias="small") == 12
    assert value(metrics, "questions_total", alias="small", mode="audit") == 1
    assert value(metrics, "decisions_total", alias="small", decision="answer") == 0


@given(names=st.lists(st.text(), max_size=30))
def test_names_that_the_configuration_lacks_make_no_series(names: list[str]) -> None:
    metrics = Metrics(["small"], ["lab"])
    for name in ["nobody", *names]:
        metrics.of(UNKNOWN if name in {"small", "lab"} else name).requested(404, 0.001)
        metrics.upstream(UNKNOWN if name in {"small", "lab"} else name).failed(RateLimited("no"))
    assert value(metrics, "requests_total", alias=UNKNOWN, status="404") == len(names) + 1
    other = Metrics(["small"], ["lab"])
    other.of("nobody").requested(404, 0.001)
    other.upstream("nobody").failed(RateLimited("no"))
    assert series(metrics) == series(other)


def test_no_answer_id_or_question_reaches_the_page() -> None:
    metrics = Metrics(["small"], ["lab"])
    metrics.of("small").answered(a_result(4, StopReason.SURE, 0.8), 0.4)
    metrics.upstream("lab").failed(ValueError("a secret prompt"))
    page, _ = metrics.exposition()
    assert b"secret" not in page
    assert b"id-7" not in page
    assert b"q-7" not in page


def test_an_upstream_has_times_errors_by_class_and_a_state() -> None:
    metrics = Metrics([], ["lab"])
    lab = metrics.upstream("lab")
    lab.called(0.03)
    lab.failed(RateLimited("slow down"))
    lab.failed(CapReached("usd", "no room"))
    lab.up(False)
    assert value(metrics, "upstream_seconds_count", upstream="lab") == 1
    assert value(metrics, "upstream_errors_total", upstream="lab", error="RateLimited") == 1
    assert value(metrics, "upstream_errors_total", upstream="lab", error="Other") == 1
    assert value(metrics, "upstream_up", upstream="lab") == 0
    lab.up(True)
    assert value(metrics, "upstream_up", upstream="lab") == 1


def test_a_replaced_profile_leaves_no_series_behind() -> None:
    metrics = Metrics(["small"])
    metrics.profile("small", "arithmetic", 3)
    metrics.profile("small", "arithmetic", 3)
    metrics.profile("small", "arithmetic", 4)
    new = {"alias": "small", "profile": "arithmetic", "version": "4"}
    assert value(metrics, "profile_info", **new) == 1
    assert value(metrics, "profile_info", **{**new, "version": "3"}) is None
    metrics.profile("small", None)
    assert value(metrics, "profile_info", **new) is None
    metrics.profile("nobody", "arithmetic", 4)
    assert b'alias="nobody"' not in metrics.exposition()[0]


def test_late_truths_records_and_the_queue_are_counted() -> None:
    metrics = Metrics(["small"], version="1.2.3")
    metrics.of("small").outcome("stored")
    metrics.recorded(True)
    metrics.recorded(False)
    metrics.in_flight.inc()
    metrics.queued.set(5)
    assert value(metrics, "outcomes_total", alias="small", status="stored") == 1
    assert value(metrics, "records_total", recorded="true") == 1
    assert value(metrics, "records_total", recorded="false") == 1
    assert value(metrics, "in_flight") == 1
    assert value(metrics, "queued") == 5
    assert b'version="1.2.3"' in metrics.exposition()[0]


def test_two_gateways_in_one_process_share_nothing() -> None:
    one, other = Metrics(["small"]), Metrics(["small"])
    one.of("small").requested(200, 0.1)
    assert value(other, "requests_total", alias="small", status="200") == 0


def test_both_formats_read_back_and_hold_the_same_numbers() -> None:
    metrics = Metrics(['an "alias"\n', "small"], ["lab"])
    metrics.of('an "alias"\n').answered(a_result(4, StopReason.SURE, 0.8), 0.4)
    metrics.profile("small", "arithmetic", 3)
    plain, plain_type = metrics.exposition()
    open_, open_type = metrics.exposition("application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert plain_type.startswith("text/plain; version=0.0.4")
    assert open_type.startswith("application/openmetrics-text; version=1.0.0")

    def numbers(families: object) -> set[tuple[object, ...]]:
        return {
            (sample.name, *sorted(sample.labels.items()), sample.value)
            for family in families  # type: ignore[attr-defined]
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    assert numbers(read_text(plain.decode())) == numbers(read_openmetrics(open_.decode()))


@given(accept=st.text() | st.sampled_from(["application/openmetrics-text;version=\r\nx: y", ";,="]))
def test_no_accept_header_breaks_the_page_or_is_echoed(accept: str) -> None:
    _, content_type = Metrics([]).exposition(accept)
    assert content_type in {Metrics([]).exposition(one)[1] for one in (None, OPEN)}


OPEN = "application/openmetrics-text"


def test_every_name_is_ours_and_in_base_units() -> None:
    for family in Metrics(["small"], ["lab"]).registry.collect():
        assert family.name.startswith("poise_")
        assert not family.name.endswith(("_ms", "_milliseconds", "_minutes", "_percent"))
        assert family.documentation.endswith(".")


def test_counting_a_request_costs_microseconds() -> None:
    small = Metrics(["small"]).of("small")
    result = a_result(8, StopReason.SURE, 0.93, Spend(3, 8, 120, 30, 64, 5, 11, usd=0.25))
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(200):
            small.answered(result, 0.1)
        best = min(best, (time.perf_counter() - began) / 200)
    # About 7 on an idle core; far above that something is looked up or made for each request.
    assert best < 60e-6


def test_a_shared_directory_that_came_too_late_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="PROMETHEUS_MULTIPROC_DIR"):
        Metrics(["small"], directory=tmp_path)


def test_workers_that_share_a_directory_answer_for_all(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys
        from poise.serve.metrics import Metrics
        metrics = Metrics(["small"], ["lab"], version="1", directory=sys.argv[1])
        for _ in range(int(sys.argv[2])):
            metrics.of("small").requested(200, 0.5)
        metrics.in_flight.inc(3)
        metrics.upstream("lab").up(sys.argv[2] == "2")
        metrics.profile("small", "p", 1)
        metrics.profile("small", "p", 2)
        if sys.argv[2] == "0":
            metrics.close()
        print(metrics.exposition()[0].decode())
    """)

    def page(requests: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), requests],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    page("2")
    assert 'poise_requests_total{alias="small",status="200"} 5.0' in page("3")
    last = page("0")
    found = {
        (sample.name, sample.labels.get("alias"), sample.labels.get("version")): sample.value
        for family in read_text(last)
        for sample in family.samples
    }
    assert found["poise_request_seconds_sum", "small", None] == 2.5
    assert found["poise_in_flight", None, None] == 6  # the third took its gauges along
    assert found["poise_upstream_up", None, None] == 0
    assert found["poise_profile_info", "small", "1"] == 0
    assert found["poise_profile_info", "small", "2"] == 1
