"""The exit rule that says "I don't know" below a bar.

It does not know how the probability was calibrated, or what share of answers the bar lets through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from poise.policies.bounds import level
from poise.types import State

__all__ = ["Abstain"]


@dataclass(frozen=True, slots=True)
class Abstain:
    """Gives the leader where its calibrated probability is at least ``threshold``, in [0, 1].

    It abstains as well where no probability is claimed, whatever the threshold is: a bar that
    cannot be checked was not passed. For a rule that answers then, take ``answer``. Source: the
    reject option, Chow 1970. Raises UsageError for a threshold out of range.
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", level(self.threshold))

    def decide(
        self,
        state: State,  # noqa: ARG002
        leader: int | None,
        probability: float | None = None,
    ) -> Literal["answer", "abstain"]:
        """``"answer"`` above the bar; ``"abstain"`` too where ``leader`` is None."""
        if leader is None or probability is None:
            return "abstain"
        return "answer" if probability >= self.threshold else "abstain"
