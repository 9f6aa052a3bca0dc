"""Log lines as an operator's collector reads them, and what must never be in one."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.errors import RateLimited, ServerFault, UsageError
from poise.serve import logs
from poise.serve.logs import ACCESS, FIELDS, SERVE
from poise.serve.refusals import Refusal, refusal
from poise.types import Result, Sample, Spend, StopReason

PRIVATE = "my secret words"
NAMES = (*logs.LOGGERS, "poise.serve.access")


class Page(io.StringIO):
    """A stderr to read."""

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def page() -> Iterator[Page]:
    before = {
        name: (list(log.handlers), log.level, log.propagate)
        for name in NAMES
        if (log := logging.getLogger(name))
    }
    page = Page()
    logs.set_up("INFO", page)
    yield page
    for name, (handlers, level, propagate) in before.items():
        log = logging.getLogger(name)
        log.handlers, log.propagate = handlers, propagate
        log.setLevel(level)


def a_result(**changes: Any) -> Result:
    stated: dict[str, Any] = {
        "id": "r1",
        "question_id": PRIVATE,
        "answer": PRIVATE,
        "text": PRIVATE,
        "decision": "answer",
        "stop": StopReason.SURE,
        "model": "qwen",
        "decoding": {"stop": PRIVATE},
        "spend": Spend(2, 4, 120, 30, 64, None),
        "samples": tuple(Sample(i, PRIVATE, PRIVATE) for i in range(4)),
        "probability": 0.93,
        "calibrated": True,
    }
    return Result(**{**stated, **changes})


def test_a_request_is_one_line_with_what_it_took(page: Page) -> None:
    logs.access("req-1", "small", 200, 0.25, a_result(), route="/v1/chat/completions", stream=True)
    (line,) = page.lines()
    time, pid = line.pop("time"), line.pop("pid")
    assert time.endswith("+00:00")
    assert pid > 0
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "req-1",
        "alias": "small",
        "status": 200,
        "seconds": 0.25,
        "route": "/v1/chat/completions",
        "stream": True,
        "decision": "answer",
        "stop": "sure",
        "samples": 4,
        "calibrated": True,
        "calls": 2,
        "prompt_tokens": 120,
        "completion_tokens": 64,
    }


def test_an_unknown_count_is_left_out_and_not_zero(page: Page) -> None:
    logs.access("req-1", "small", 200, 0.25, a_result(spend=Spend(1, 1, None, None, None, None)))
    (line,) = page.lines()
    assert "prompt_tokens" not in line


RESERVED = logging.makeLogRecord({}).__dict__.keys()


@given(
    fields=st.dictionaries(
        st.sampled_from(["prompt", "messages", "text", "authorization", "key", "api_key"])
        | st.text().filter(lambda name: name not in FIELDS and name not in RESERVED),
        st.text(min_size=1) | st.integers(),
    )
)
def test_a_field_that_is_not_allowed_is_dropped(fields: dict[str, Any]) -> None:
    stated = {"name": "poise.serve", "msg": "reloaded", "upstream": "lab"}
    record = logging.makeLogRecord({**fields, **stated})
    line = json.loads(logs.JsonFormatter().format(record))
    assert line.keys() == {"time", "level", "pid", "event", "upstream"}


def test_an_event_keeps_its_allowed_fields_only(page: Page) -> None:
    fields: dict[str, Any] = {"upstream": "lab", "prompt": PRIVATE, "message": PRIVATE, "args": 1}
    logs.event(SERVE, logging.WARNING, "upstream_down", **fields, error="Unavailable")
    (line,) = page.lines()
    assert (line["event"], line["upstream"], line["error"]) == (
        "upstream_down",
        "lab",
        "Unavailable",
    )
    assert line.keys() == {"time", "level", "pid", "event", "upstream", "error"}


@pytest.mark.parametrize(
    "value", [[PRIVATE], {"a": PRIVATE}, object(), PRIVATE.encode(), float("nan")]
)
def test_a_value_that_is_no_plain_one_is_dropped(page: Page, value: Any) -> None:
    logs.event(SERVE, logging.INFO, "odd", count=value)
    (line,) = page.lines()
    assert "count" not in line


def test_a_long_text_is_cut(page: Page) -> None:
    logs.event(SERVE, logging.INFO, "odd", alias="a" * 5000)
    (line,) = page.lines()
    assert len(line["alias"]) <= 128


@given(name=st.text(), status=st.integers())
def test_whatever_a_name_holds_a_line_stays_one_line(name: str, status: int) -> None:
    record = logging.makeLogRecord(
        {"name": "poise.serve", "msg": "request", "alias": name, "status": status}
    )
    text = logs.JsonFormatter().format(record)
    assert len(text.splitlines()) == 1
    assert text.isascii()
    if len(name) <= 128:
        assert json.loads(text)["alias"] == name


def test_an_exception_is_its_class_and_where_it_passed(page: Page) -> None:
    def fails() -> None:
        raise ValueError(PRIVATE)

    try:
        fails()
    except ValueError:
        SERVE.exception("failed")
    (line,) = page.lines()
    assert line["error"] == "ValueError"
    assert line["at"][-1].endswith(" fails")
    assert PRIVATE not in page.getvalue()


def test_a_message_of_ours_is_written_without_its_arguments(page: Page) -> None:
    logging.getLogger("poise.backends.http").warning("The server said %s.", PRIVATE)
    (line,) = page.lines()
    assert line["message"] == "The server said %s."


def test_the_web_server_s_lines_are_json_too(page: Page) -> None:
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    (line,) = page.lines()
    assert line["message"] == "Started server process [7]"
    assert line["logger"] == "uvicorn.error"


def test_a_task_that_failed_unseen_says_no_content(page: Page) -> None:
    async def main() -> None:
        loop, error = asyncio.get_running_loop(), ValueError(PRIVATE)
        future = loop.create_future()
        future.set_exception(error)
        assert PRIVATE in repr(future)  # which asyncio puts into its message
        said = "Task exception was never retrieved"
        loop.call_exception_handler({"message": said, "exception": error, "future": future})
        assert future.exception() is error

    asyncio.run(main())
    (line,) = page.lines()
    assert line["message"] == "Task exception was never retrieved"
    assert line["error"] == "ValueError"
    assert PRIVATE not in page.getvalue()


def test_a_failed_request_names_the_error_by_its_cause(page: Page) -> None:
    cause = RateLimited(f"busy: {PRIVATE}")
    told = refusal(cause)
    told.__cause__ = cause
    logs.access("1", "small", 429, 0.1, error=told)
    logs.access("2", "small", 400, 0.1, error=Refusal(400, PRIVATE, code="bad_n"))
    logs.access("3", "small", 502, 0.1, a_result(stop=StopReason.ERROR, error=ServerFault(PRIVATE)))
    assert [line["error"] for line in page.lines()] == ["RateLimited", "bad_n", "ServerFault"]
    assert PRIVATE not in page.getvalue()


def test_above_info_there_are_no_access_lines() -> None:
    page = Page()
    log = logging.getLogger("poise")
    before = (list(log.handlers), log.level, log.propagate)
    try:
        logs.set_up("warning", page, ["poise"])
        logs.access("1", "small", 200, 0.1)
        logs.event(SERVE, logging.WARNING, "draining", count=3)
        assert [line["event"] for line in page.lines()] == ["draining"]
    finally:
        log.handlers, log.propagate = before[0], before[2]
        log.setLevel(before[1])


def test_setting_up_again_replaces_and_does_not_double(page: Page) -> None:
    later = Page()
    logs.set_up("INFO", later)
    logs.access("1", "small", 200, 0.1)
    assert page.lines() == []
    assert len(later.lines()) == 1
    assert ACCESS.handlers == []


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="'loud'"):
        logs.set_up("loud")


@pytest.mark.parametrize("given", ["a", "x" * 128, "6f1c-90:ab/+=", "~!"])
def test_a_sane_request_id_is_kept(given: str) -> None:
    assert logs.request_id(given, "chatcmpl-1") == given


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a\nb", "\x00", "é", "\x7f"])
def test_any_other_request_id_is_the_reply_s_own(given: str | None) -> None:
    assert logs.request_id(given, "chatcmpl-1") == "chatcmpl-1"


@given(given=st.text(max_size=140))
def test_a_request_id_is_always_visible_ascii(given: str) -> None:
    kept = logs.request_id(given, "own")
    assert 1 <= len(kept) <= 128
    assert all(33 <= ord(letter) <= 126 for letter in kept)
