"""How often questions of the same segment were answered right before.

What was learned before is all it knows: not the question's wording, its samples or its gold answer.

As a feature of a fit it must not have seen the fit's own labels. ``__call__`` on the questions it
was fitted on has: a segment of one question would give away its label. Taking each question's own
label out leaks it in reverse: inside a segment, a right question has exactly one right answer fewer
among the others than a wrong one. ``out_of_fold`` is the one to use, with the folds of the fit that
follows: all questions of a segment in one fold share one value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, digamma, expit, logit

from poise.errors import InputError, MissingEvidence, RefusedError, UsageError
from poise.signals.evidence import Evidence
from poise.signals.running import FloatArray

__all__ = ["SegmentHistory"]

LEAST_STRENGTH, MOST_STRENGTH = 0.1, 1e4


@dataclass(frozen=True, slots=True)
class SegmentHistory:
    """The segment's rate of right answers, drawn to the base rate where it is little known: (0, 1).

    ``rates``: (questions, right) by segment, both may be fractions where questions have weights or
    were answered several times; ``base`` in (0, 1); ``strength`` > 0, how many questions the base
    is worth. The value is (right + strength base) / (questions + strength). Raises MissingEvidence
    for a question without a segment and for a segment that was not seen; UsageError for numbers
    that make no sense.
    """

    name: ClassVar[str] = "segment_history"
    level: ClassVar[Literal["question"]] = "question"
    needs: ClassVar[tuple[str, ...]] = ("segment",)
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    rates: Mapping[str, tuple[float, float]] = field(hash=False)
    base: float
    strength: float

    def __post_init__(self) -> None:
        if not (0 < self.base < 1 and 0 < self.strength < math.inf):
            raise UsageError(
                f"base={self.base}, strength={self.strength}: must be in (0, 1) and above 0"
            )
        for segment, (questions, right) in self.rates.items():
            if not (0 < questions < math.inf and 0 <= right <= questions * (1 + 1e-9)):
                raise UsageError(
                    f"segment {segment!r}: {right} right of {questions} questions makes no sense"
                )

    def __call__(self, evidence: Evidence) -> float:
        """The rate of the question's segment."""
        if evidence.segment is None:
            raise MissingEvidence("the question has no segment")
        if evidence.segment not in self.rates:
            raise MissingEvidence(f"the segment {evidence.segment!r} has no history")
        return self._shrunk(*self.rates[evidence.segment])

    @classmethod
    def fit(
        cls, segments: Sequence[str | None], share_right: Any, weight: Any = None
    ) -> SegmentHistory:
        """From the segment of each question (m,), None where it has none, and its outcomes.

        ``share_right`` (m,) in [0, 1]: right or not, or the share of its answers that are right;
        ``weight`` (m,) >= 0: how much a question counts, 1 where not given. Base and strength
        maximise the beta-binomial likelihood of the segments' counts (empirical Bayes), plus half a
        right and half a wrong question for the base so that it stays inside (0, 1); the strength
        stays in [0.1, 10,000]. Shares count as that part of a question right: they vary less than
        single answers do, and the strength comes out a little high. Raises UsageError for arrays
        that do not fit together, RefusedError where no question has a segment.
        """
        right, weights = _checked(segments, share_right, weight)
        rates = _rates(segments, right, weights)
        if not rates:
            raise RefusedError("no question has a segment: there is no history to learn")
        return cls(rates, *_base_and_strength(rates))

    @classmethod
    def out_of_fold(
        cls, segments: Sequence[str | None], share_right: Any, fold: Any, weight: Any = None
    ) -> FloatArray:
        """(m,) each question's history as fitted on the other folds, base and strength included.

        ``fold`` (m,) names each question's fold. nan where the other folds do not have its segment.
        Raises as ``fit``, and UsageError for a single fold.
        """
        right, weights = _checked(segments, share_right, weight)
        folds = np.asarray(fold)
        if folds.shape != right.shape or len(np.unique(folds)) < 2:
            raise UsageError(
                f"fold of shape {folds.shape} with {len(np.unique(folds))} folds for {len(right)} "
                "questions: give each question one of two or more"
            )
        found = np.full(len(right), np.nan)
        for number in np.unique(folds):
            rates = _rates(segments, right, np.where(folds == number, 0.0, weights))
            if not rates:
                continue
            history = cls(rates, *_base_and_strength(rates))
            for place, segment in enumerate(segments):
                if folds[place] == number and segment is not None and segment in rates:
                    found[place] = history._shrunk(*rates[segment])
        return found

    def state(self) -> dict[str, Any]:
        """JSON-ready."""
        rates = {segment: list(counts) for segment, counts in sorted(self.rates.items())}
        return {"rates": rates, "base": self.base, "strength": self.strength}

    @classmethod
    def from_state(cls, state: Any) -> Self:
        """Inverse of ``state``. Raises InputError for anything else."""
        if not isinstance(state, Mapping) or state.keys() != {"rates", "base", "strength"}:
            raise InputError("segment history: not an object of rates, base and strength")
        rates = state["rates"]
        if not isinstance(rates, Mapping):
            raise InputError("segment history: rates are not an object")
        read = {}
        for segment, counts in rates.items():
            if not isinstance(segment, str) or not isinstance(counts, list | tuple):
                raise InputError(f"segment history: {segment!r} is not a pair of counts")
            if len(counts) != 2:
                raise InputError(f"segment history: {segment!r} is not a pair of counts")
            read[segment] = (_number(counts[0]), _number(counts[1]))
        try:
            return cls(read, _number(state["base"]), _number(state["strength"]))
        except UsageError as error:
            raise InputError(f"segment history: {error}") from None

    def _shrunk(self, questions: float, right: float) -> float:
        return float((right + self.strength * self.base) / (questions + self.strength))


def _checked(
    segments: Sequence[str | None], share_right: Any, weight: Any
) -> tuple[FloatArray, FloatArray]:
    """Outcomes and weights, (m,) each."""
    right = np.asarray(share_right, np.float64)
    weights = np.ones(right.shape) if weight is None else np.asarray(weight, np.float64)
    if right.shape != (len(segments),) or weights.shape != right.shape:
        raise UsageError(
            f"share_right of shape {right.shape} and weight of shape {weights.shape} for "
            f"{len(segments)} segments: give one a question"
        )
    # A nan fails both comparisons.
    if not ((right >= 0) & (right <= 1)).all():
        raise UsageError("share_right has to be in [0, 1]; leave out questions that are not graded")
    if not ((weights >= 0) & (weights < math.inf)).all():
        raise UsageError("weight has to be finite and at least 0")
    return right, weights


def _rates(
    segments: Sequence[str | None], right: FloatArray, weights: FloatArray
) -> dict[str, tuple[float, float]]:
    """Questions and right ones by segment, segments without any weight left out."""
    found: dict[str, tuple[float, float]] = {}
    counted = zip(segments, weights.tolist(), (weights * right).tolist(), strict=True)
    for segment, questions, rights in counted:
        if segment is not None and questions > 0:
            before = found.get(segment, (0.0, 0.0))
            found[segment] = (before[0] + questions, before[1] + rights)
    return found


def _base_and_strength(rates: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """What maximises the beta-binomial likelihood of the segments' counts."""
    # Small segments come in few kinds: each is looked at once.
    kinds, times = np.unique(np.array(list(rates.values())), axis=0, return_counts=True)
    questions, right = kinds.T
    wrong = np.maximum(questions - right, 0.0)

    def loss(point: FloatArray) -> tuple[float, FloatArray]:
        base, strength = float(expit(point[0])), math.exp(point[1])
        a, b = strength * base, strength * (1 - base)
        gained = times @ (betaln(a + right, b + wrong) - betaln(a, b))
        more = times.sum() * digamma(strength) - times @ digamma(strength + questions)
        by_a = times @ digamma(a + right) - times.sum() * digamma(a) + more
        by_b = times @ digamma(b + wrong) - times.sum() * digamma(b) + more
        slope = np.array([(by_a - by_b) * a * (1 - base) + 0.5 - base, by_a * a + by_b * b])
        return -float(gained + 0.5 * math.log(base) + 0.5 * math.log1p(-base)), -slope

    pooled = (times @ right + 0.5) / (times @ questions + 1)
    bounds = [(-12.0, 12.0), (math.log(LEAST_STRENGTH), math.log(MOST_STRENGTH))]
    # The likelihood is flat where segments hardly differ: several starts keep the best of it.
    runs = [
        minimize(loss, (logit(pooled), start), jac=True, method="L-BFGS-B", bounds=bounds)
        for start in (0.0, 3.0, 6.0)
    ]
    base, strength = min(runs, key=lambda run: float(run.fun)).x
    return float(expit(base)), math.exp(strength)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"segment history: {value!r} is not a finite number")
    return float(value)
