"""The exit rule that answers whenever there is something to answer with.

It does not know how the leader was elected, nor how probable it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from poise.types import State

__all__ = ["Answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Gives the leader; abstains only where no sample could be read."""

    def decide(
        self,
        state: State,  # noqa: ARG002
        leader: int | None,
        probability: float | None = None,  # noqa: ARG002
    ) -> Literal["answer", "abstain"]:
        """``"answer"``, or ``"abstain"`` where ``leader`` is None."""
        return "abstain" if leader is None else "answer"
