"""Progress on stderr: a live line on a terminal, plain lines elsewhere. Never on stdout."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from poise.spend import Spend

__all__ = ["Progress", "span"]

PLAIN_EVERY = 5.0
"""Seconds between plain lines."""

LIVE_EVERY = 0.1


def span(seconds: float) -> str:
    """A duration for people: 42 s, 3:07, 1:02:45."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"


def count(number: float) -> str:
    """A large number for people: 950, 12.3k, 4.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (size if unit != 'k' else 1e3):.1f}{unit}"
    return f"{number:g}"


class Progress:
    """Counts finished questions and their spend, and says so now and then.

    ``total`` None: not known (a stream); then there is no ETA. ``done`` starts above 0 when a run
    is resumed. ``quiet`` says nothing at all.
    """

    def __init__(
        self, total: int | None, *, done: int = 0, quiet: bool = False, out: TextIO | None = None
    ):
        self.total, self.done, self._first = total, done, done
        self._quiet, self._out = quiet, out if out is not None else sys.stderr
        self._live = self._out.isatty()
        self._started = time.monotonic()
        self._said = float("-inf") if self._live else self._started
        self._width = 0
        self._last = -1

    def finished(self, spend: Spend) -> None:
        """One more question is done; ``spend`` is the whole run's so far."""
        self.done += 1
        now = time.monotonic()
        if now - self._said >= (LIVE_EVERY if self._live else PLAIN_EVERY):
            self._said = now
            self._say(spend, now)

    def close(self, spend: Spend) -> None:
        """Say where it ended, unless that is the last thing said."""
        if self._live or self._last != self.done:
            self._say(spend, time.monotonic())
        if self._live and not self._quiet:
            self._out.write("\n")
            self._out.flush()

    def _say(self, spend: Spend, now: float) -> None:
        self._last = self.done
        if self._quiet:
            return
        line = self._line(spend, now - self._started)
        if self._live:
            self._out.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._out.write(line + "\n")
        self._out.flush()

    def _line(self, spend: Spend, seconds: float) -> str:
        of = "" if self.total is None else f"/{self.total}"
        tokens = "?" if spend.tokens is None else count(spend.tokens)
        parts = [
            f"{self.done}{of} questions",
            f"{count(spend.samples)} samples",
            f"{tokens} tokens",
        ]
        if spend.usd is not None:
            parts.append(f"${spend.usd:.4f}")
        rate = (self.done - self._first) / seconds if seconds > 0 else 0.0
        parts.append(span(seconds))
        if self.total is not None and rate > 0 and self.done < self.total:
            parts.append(f"ETA {span((self.total - self.done) / rate)}")
        return " · ".join(parts)
