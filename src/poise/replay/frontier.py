"""What replay finds, as numbers: frontiers, baselines, comparisons, and their JSON form.

It does not know how they came about.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from poise.metrics import Estimate

__all__ = ["Comparison", "Frontier", "Point", "Replay"]


@dataclass(frozen=True, slots=True)
class Point:
    """One policy: mean samples and completion tokens a question, and how good its answers are.

    ``samples`` and ``tokens`` are of all that was drawn, also beyond the prefix decided on.
    ``setting``: the value of the parameter that is swept, None where none is. ``accuracy``: share
    of questions answered rightly (no answer is not right). ``agreement``: share of questions with
    the answer that majority voting over all N samples of the same order gives, or with none where
    that gives none.
    ``score_to_majority``: accuracy, or agreement where nothing is graded, less that of this voting,
    paired by question.
    """

    policy: str
    setting: float | int | None
    samples: Estimate
    accuracy: Estimate
    agreement: Estimate
    score_to_majority: Estimate
    tokens: Estimate

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return _plain(self)


@dataclass(frozen=True, slots=True)
class Frontier:
    """One sweep: its points, and which was chosen on the tuning questions (None: none), and why."""

    policy: str
    parameter: str | None
    points: tuple[Point, ...]
    chosen: int | None
    why: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**_plain(self), "points": [point.to_dict() for point in self.points]}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One policy with all its spend, and its differences, paired by question.

    Score is accuracy, or agreement where nothing is graded. ``score_to_majority``: against majority
    voting over all N; ``score_to_fixed``: against majority voting at the same mean number of
    samples, mixing the two whole numbers around it; ``samples_to_majority``: the samples drawn as
    a share of N. ``answered``: share of questions not abstained from. ``rounds``: requests one
    after another. ``prompt_tokens``: estimated, one prompt a round. ``followups``: calls beside the
    samples. ``latency_p50``, ``latency_p99``: seconds, over questions and orders.
    """

    policy: str
    samples: Estimate
    accuracy: Estimate
    agreement: Estimate
    answered: Estimate
    score_to_majority: Estimate
    score_to_fixed: Estimate
    samples_to_majority: Estimate
    tokens: Estimate
    prompt_tokens: Estimate
    rounds: Estimate
    followups: Estimate
    latency_p50: Estimate
    latency_p99: Estimate

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return _plain(self)


@dataclass(frozen=True, slots=True)
class Replay:
    """Frontiers and comparisons on the evaluated questions, beside the baselines.

    ``fixed``: majority voting over the first 1..N samples; the last is the majority of all.
    ``oracle``: stopping at the first sample after which the leader never changes, which no rule
    can know. ``left_out``: questions without grades among graded ones. ``net``: what a chosen
    threshold was allowed to lose.
    """

    questions: int
    tuning_questions: int
    left_out: int
    orders: int
    max_samples: int
    gold: bool
    net: float
    fixed: tuple[Point, ...]
    oracle: Point
    frontiers: tuple[Frontier, ...]
    comparisons: tuple[Comparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, schema 1."""
        return {
            "schema": 1,
            **_plain(self),
            "score": "accuracy" if self.gold else "agreement",
            "fixed": [point.to_dict() for point in self.fixed],
            "oracle": self.oracle.to_dict(),
            "frontiers": [one.to_dict() for one in self.frontiers],
            "comparisons": [one.to_dict() for one in self.comparisons],
        }


def _plain(value: Any) -> dict[str, Any]:
    named = ((field.name, getattr(value, field.name)) for field in fields(value))
    return {name: _estimate(one) if isinstance(one, Estimate) else one for name, one in named}


def _estimate(one: Estimate) -> dict[str, Any]:
    return {
        "value": None if one.value is None else round(one.value, 6),
        "interval": None if one.interval is None else [round(end, 6) for end in one.interval],
        "reason": one.reason,
    }
