"""Progress: a line that rewrites itself on a terminal, plain lines elsewhere, nothing if quiet."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.cli import progress
from poise.cli.progress import Progress, count, span
from poise.spend import Spend

SPEND = Spend(calls=3, samples=12_000, prompt_tokens=40_000, completion_tokens=5_600_000)


class Terminal(StringIO):
    """What a terminal would get."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every finished question is told of."""
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.0)
    monkeypatch.setattr(progress, "LIVE_EVERY", 0.0)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (0.4, "0 s"), (42, "42 s"), (59.6, "1:00"), (187, "3:07"), (3765, "1:02:45")],
)
def test_a_duration_reads_like_a_clock(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


@given(st.integers(0, 10**7))
def test_a_duration_can_be_read_back(seconds: int) -> None:
    back = 0
    for part in span(seconds).removesuffix(" s").split(":"):
        back = back * 60 + int(part)
    assert back == seconds


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (950, "950"), (9999, "9999"), (12_345, "12.3k"), (4.5e6, "4.5M"), (2e9, "2.0G")],
)
def test_a_large_number_is_short(number: float, shown: str) -> None:
    assert count(number) == shown


def test_a_line_says_how_far_it_is_and_what_it_cost() -> None:
    out = StringIO()
    Progress(5, done=5, out=out).close(SPEND)
    assert out.getvalue() == "5/5 questions · 12.0k samples · 5.6M tokens · 0 s\n"


def test_dollars_are_shown_where_they_are_known_and_unknown_tokens_as_such() -> None:
    out = StringIO()
    Progress(None, done=2, out=out).close(Spend(1, 4, None, 0, 9, usd=0.01234))
    assert out.getvalue() == "2 questions · 4 samples · ? tokens · $0.0123 · 0 s\n"


@pytest.mark.usefixtures("at_once")
def test_away_from_a_terminal_each_line_stands_for_itself() -> None:
    out = StringIO()
    shown = Progress(2, out=out)
    shown.finished(SPEND)
    shown.finished(SPEND)
    shown.close(SPEND)
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["1/2", "2/2"]
    assert "\r" not in out.getvalue()
    assert out.getvalue().endswith("\n")


def test_away_from_a_terminal_lines_are_seconds_apart() -> None:
    out = StringIO()
    shown = Progress(1000, out=out)
    for _ in range(1000):
        shown.finished(SPEND)
    assert out.getvalue() == ""
    shown.close(SPEND)
    assert out.getvalue().count("\n") == 1


@pytest.mark.usefixtures("at_once")
def test_on_a_terminal_one_line_is_written_over() -> None:
    out = Terminal()
    shown = Progress(2, out=out)
    shown.finished(Spend(samples=12_345, prompt_tokens=10**8))
    shown.finished(Spend(samples=4))
    shown.close(Spend(samples=4))
    text = out.getvalue()
    first, second, third = text.removesuffix("\n").removeprefix("\r").split("\r")
    assert text.count("\n") == 1
    assert (first.split()[0], second.split()[0], third.split()[0]) == ("1/2", "2/2", "2/2")
    assert len(second) >= len(first), "nothing of a longer line may show behind a shorter one"
    assert second.rstrip() != second


def test_on_a_terminal_the_first_question_shows_at_once_and_the_next_a_moment_later() -> None:
    out = Terminal()
    shown = Progress(100, out=out)
    for _ in range(100):
        shown.finished(SPEND)
    assert out.getvalue().count("\r") < 100
    assert out.getvalue().startswith("\r1/100")


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("out", [StringIO(), Terminal()])
def test_quiet_says_nothing_at_all(out: StringIO) -> None:
    shown = Progress(2, quiet=True, out=out)
    shown.finished(SPEND)
    shown.close(SPEND)
    assert out.getvalue() == ""


def eta(line: str) -> str | None:
    found = re.search(r"ETA (.*)$", line)
    return None if found is None else found[1]


class Clock:
    """Time as the test tells it; stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    told = Clock()
    monkeypatch.setattr(progress, "time", told)
    return told


def line_after(clock: Clock, seconds: float, questions: int, **more: Any) -> str:
    """The line shown when ``questions`` were finished in ``seconds``."""
    out = StringIO()
    shown = Progress(out=out, **more)
    clock.now += seconds
    for _ in range(questions):
        shown.finished(SPEND)
    return out.getvalue().splitlines()[0] if out.getvalue() else ""


@pytest.mark.usefixtures("at_once")
def test_the_time_left_follows_from_the_rate_so_far(clock: Clock) -> None:
    assert eta(line_after(clock, 60.0, 1, total=3)) == "2:00"


@pytest.mark.usefixtures("at_once")
def test_a_resumed_run_counts_on_and_its_rate_is_its_own(clock: Clock) -> None:
    line = line_after(clock, 10.0, 1, total=104, done=100)
    assert line.startswith("101/104 questions")
    assert eta(line) == "30 s", "what an earlier run did says nothing about the pace of this one"


@pytest.mark.usefixtures("at_once")
def test_there_is_no_time_left_for_a_stream_or_at_the_end(clock: Clock) -> None:
    assert eta(line_after(clock, 10.0, 1, total=None)) is None
    assert eta(line_after(clock, 10.0, 1, total=1)) is None
    assert eta(line_after(clock, 0.0, 1, total=2)) is None
