"""What was drawn so far, and what a stop rule may decide on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from poise.spend import Spend
from poise.types.calls import TokenLogprobs

__all__ = ["Draw", "FollowUp", "Sample", "State", "Stop", "StopReason"]


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The reply to a further question, kept so that signals can be read from it again.

    ``extra``: what a pool file says beside it, kept for writing.
    """

    text: str | None
    logprobs: TokenLogprobs | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One draw: the reply's text and the answer read from it.

    ``index`` is its place in dispatch order. ``answer`` is canonical, or None with ``unread``
    saying why; such a sample counts as drawn and never as a vote. ``followups``: replies to
    further questions about it, by the name of the signal that asked. ``raw``: as in ``Reply``.
    """

    index: int
    text: str | None
    answer: str | None
    unread: str | None = None
    finish: str | None = None
    tokens: int | None = None
    seconds: float | None = None
    seed: int | None = None
    logprobs: TokenLogprobs | None = None
    signals: Mapping[str, float | None] = field(default_factory=dict)
    followups: Mapping[str, FollowUp] = field(default_factory=dict)
    raw: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class State:
    """What a stop rule may look at: one prefix of the samples in dispatch order.

    ``clusters`` (n,) the cluster of each sample, numbered by first appearance, None where the
    answer was unreadable; ``counts`` votes by cluster; ``answers`` each cluster's canonical form.
    ``seconds_left`` None: no deadline. ``columns``: for each sample signal that the stop rule or
    the vote needs, its value for each of the n samples, None where it is missing.
    """

    clusters: tuple[int | None, ...] = ()
    counts: tuple[int, ...] = ()
    answers: tuple[str, ...] = ()
    signals: Mapping[str, float | None] = field(default_factory=dict)
    spend: Spend = Spend()
    seconds_left: float | None = None
    columns: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Samples drawn, readable or not."""
        return len(self.clusters)

    @property
    def top_two(self) -> tuple[int, int]:
        """Votes of the leader and of the runner-up (0 where there is none)."""
        first, second, *_ = (*sorted(self.counts, reverse=True), 0, 0)
        return first, second


@dataclass(frozen=True, slots=True)
class Draw:
    """Have ``n`` more samples under way beyond the prefix that was looked at."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"Draw({self.n}): a rule that wants no more samples says Stop")


class StopReason(StrEnum):
    """Why sampling ended."""

    SURE = "sure"
    FUTILE = "futile"
    CONSENSUS = "consensus"
    BUDGET = "budget"
    DEADLINE = "deadline"
    FIXED = "fixed"
    SINGLE = "single"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Stop:
    """Draw no more."""

    reason: StopReason
