"""Temperature for logits of several classes, as of a choice question's options.

It does not know which class is right beyond the labels, and never changes which one leads.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import logsumexp, softmax

from poise.calibrators.calibrator import Calibrator
from poise.calibrators.rows import FloatArray, Scale, read_rows, read_scores
from poise.calibrators.state import Fields
from poise.calibrators.temperature import COLDEST, HOTTEST, best_temperature
from poise.errors import RefusedError, UsageError

__all__ = ["ClassTemperature"]


class ClassTemperature(Calibrator):
    """softmax(logits / T) over K >= 2 classes, T in [0.05, 20] by least log loss.

    Unlike the others it takes ``X`` (m, K) logits, any finite numbers, and ``y`` (m,) whole numbers
    in 0..K-1, and ``predict_proba`` gives (m, K). ``temperature_``: T. Source: Guo et al. 2017,
    arXiv 1706.04599, section 4.2.
    """

    name: ClassVar[str] = "class_temperature"
    single_column: ClassVar[bool] = False

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Learns T from logits (m, K) and labels (m,); ``sample_weight`` (m,) >= 0.

        Raises UsageError for one class, labels that are not in 0..K-1, and as other calibrators do;
        RefusedError where all logits of each row are equal.
        """
        classes = read_scores(X, self._scales()).shape[1]
        if classes < 2:
            raise UsageError("X: one column; must be (m, K), one column a class, K >= 2")
        labels = np.asarray(y)
        known = np.isin(labels, np.arange(classes))
        if not known.all():
            wrong = f"{int((~known).sum())} of {labels.size} rows"
            raise UsageError(f"y: {wrong} are not a class, a whole number in 0..{classes - 1}")
        rows = read_rows(X, labels != 0, sample_weight, self._scales())
        if (np.ptp(rows.scores, axis=1) == 0).all():
            raise RefusedError("class_temperature: no row's logits differ between the classes")
        kept = labels[rows.kept].astype(np.int64)
        share = rows.weight / rows.weight.sum()
        own = rows.scores[np.arange(len(kept)), kept]

        def loss(temperature: float) -> float:
            norm = logsumexp(rows.scores / temperature, axis=1)
            return float(share @ (norm - own / temperature))

        self.temperature_ = best_temperature(loss)
        self._sized(len(kept), classes)
        return self

    def predict_proba(self, X: Any) -> FloatArray:  # noqa: N803
        """Probabilities (m, K) for logits (m, K). Raises UsageError."""
        chances: FloatArray = softmax(self._scores(X) / self.temperature_, axis=1)
        return chances

    def _scales(self) -> tuple[Scale, ...]:
        return ("real",)

    def _sized(self, n: int, columns: int) -> None:
        super()._sized(n, columns)
        self.classes_ = np.arange(columns)

    def _params(self) -> dict[str, Any]:
        return {"temperature": self.temperature_, "classes": self.n_features_in_}

    def _restore(self, params: Fields) -> int:
        self.temperature_ = params.number("temperature", COLDEST, HOTTEST)
        return params.count("classes", 2)
