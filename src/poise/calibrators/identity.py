"""The score itself, for scores that are probabilities already.

It learns nothing, and does not know whether the probabilities are true.
"""

from __future__ import annotations

from typing import Any, ClassVar

from poise.calibrators.calibrator import Calibrator
from poise.calibrators.rows import FloatArray, Rows, Scale
from poise.calibrators.state import Fields

__all__ = ["Identity"]


class Identity(Calibrator):
    """P(right) = the score, one column in [0, 1], unclipped."""

    name: ClassVar[str] = "identity"
    both_classes: ClassVar[bool] = False

    def _scales(self) -> tuple[Scale, ...]:
        return ("probability",)

    def _learn(self, rows: Rows) -> None:
        """Nothing to learn."""

    def _chance(self, scores: FloatArray) -> FloatArray:
        return scores[:, 0]

    def _params(self) -> dict[str, Any]:
        return {}

    def _restore(self, params: Fields) -> int:  # noqa: ARG002 - nothing was learned
        return 1
