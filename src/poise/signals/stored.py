"""Numbers that a pool file already holds, carried into calibration as signals.

It does not know what they measure, or their range; that higher means surer is the file's claim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from poise.errors import MissingEvidence, UsageError
from poise.signals.evidence import Evidence

__all__ = ["Stored"]


@dataclass(frozen=True, slots=True)
class Stored:
    """The number that the file stores under ``of``, at the sample or at the question: (-inf, inf).

    Raises MissingEvidence where there is none and where it is not finite; UsageError for an empty
    name and for any other level.
    """

    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    of: str
    level: Literal["sample", "question"] = "sample"

    def __post_init__(self) -> None:
        if not self.of or self.level not in ("sample", "question"):
            raise UsageError(
                f"of={self.of!r}, level={self.level!r}: must name a number at sample or question"
            )

    @property
    def name(self) -> str:
        """``stored:NAME``, or ``stored_question:NAME`` at the question."""
        return f"stored:{self.of}" if self.level == "sample" else f"stored_question:{self.of}"

    @property
    def needs(self) -> tuple[str, ...]:
        """The stored number."""
        return (self.of,)

    def __call__(self, evidence: Evidence) -> float:
        """The stored number."""
        values = evidence.only.signals if self.level == "sample" else evidence.values
        number = values.get(self.of)
        if number is None:
            raise MissingEvidence(f"the {self.level} carries no {self.of}")
        if not math.isfinite(number):
            raise MissingEvidence(f"{self.of} is {number}, not a finite number")
        return float(number)
