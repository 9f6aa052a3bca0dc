"""What is handed out: the answer to one question, with what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from poise.spend import Spend
from poise.types.questions import Kind
from poise.types.samples import FollowUp, Sample, StopReason

__all__ = ["Result", "beta_dict"]


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one question, with what is known about it; ``to_dict`` is the wire form.

    ``probability`` is None unless ``calibrated``; ``reason`` then says why. ``capability``: (a, b)
    of the Beta posterior of the chance that one more sample is right, which is another thing.
    ``missing`` names absent evidence and why. ``samples``: the prefix decided on, ``clusters`` (n,)
    the answer cluster of each, None where it was unreadable. ``followups``: replies to further
    questions about the question. ``error``: the last call's failure.
    """

    id: str
    question_id: str
    answer: str | None
    text: str | None
    decision: str
    stop: StopReason
    model: str
    decoding: Mapping[str, Any]
    spend: Spend
    samples: tuple[Sample, ...] = ()
    clusters: tuple[int | None, ...] = ()
    votes: Mapping[str, int] = field(default_factory=dict)
    kind: Kind | None = None
    probability: float | None = None
    interval: tuple[float, float] | None = None
    interval_kind: str | None = None
    calibrated: bool = False
    reason: str | None = None
    capability: tuple[float, float] | None = None
    profile: Mapping[str, Any] | None = None
    signals: Mapping[str, float | None] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    route: tuple[str, ...] = ()
    rounds: int = 0
    followups: Mapping[str, FollowUp] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def n_samples(self) -> int:
        """Samples in the prefix that was decided on."""
        return len(self.samples)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, schema 1 of the design's section 5 (samples are left to pool files)."""
        plain = "id question_id answer text decision probability interval_kind calibrated reason"
        return {
            "schema": 1,
            **{name: getattr(self, name) for name in (plain + " n_samples rounds model").split()},
            "kind": None if self.kind is None else self.kind.value,
            "about": "response",
            "interval": None if self.interval is None else list(self.interval),
            "capability": beta_dict(self.capability),
            "profile": None if self.profile is None else dict(self.profile),
            "signals": dict(self.signals),
            "missing": dict(self.missing),
            "votes": dict(self.votes),
            "stop": self.stop.value,
            "decoding": dict(self.decoding),
            "route": list(self.route),
            "spend": self.spend.to_dict(),
        }


def beta_dict(parameters: tuple[float, float] | None) -> dict[str, float] | None:
    """Beta(a, b) as JSON has it: its mean, a and b; None where there is none."""
    if parameters is None:
        return None
    a, b = parameters
    return {"mean": a / (a + b), "a": a, "b": b}
