"""The base rate for every answer: what any signal has to beat.

It does not look at the scores.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from poise.calibrators.calibrator import Calibrator
from poise.calibrators.rows import FloatArray, Rows
from poise.calibrators.state import Fields

__all__ = ["Constant"]


class Constant(Calibrator):
    """P(right) = the weighted share of right answers, not shrunk: 0 or 1 where all agree.

    ``base_rate_``: that share. Takes any number of columns, of any finite numbers.
    """

    name: ClassVar[str] = "constant"
    single_column: ClassVar[bool] = False
    both_classes: ClassVar[bool] = False

    def _scales(self) -> None:
        return None

    def _learn(self, rows: Rows) -> None:
        self.base_rate_ = rows.base_rate

    def _chance(self, scores: FloatArray) -> FloatArray:
        return np.full(len(scores), self.base_rate_)

    def _params(self) -> dict[str, Any]:
        return {"base_rate": self.base_rate_, "columns": self.n_features_in_}

    def _restore(self, params: Fields) -> int:
        self.base_rate_ = params.number("base_rate", 0, 1)
        return params.count("columns", 1)
