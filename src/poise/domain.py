"""Is this question like those a profile was fitted on?

Three checks: the same answer kind and the same arm (``profile`` does those), and then this
one: the share of the question's character four-grams that occurred in the questions of the fit,
with digits alike and white space folded. The threshold is set on questions that lent no four-grams,
so that at most one in twenty of the domain is turned away (split conformal: exchangeable
questions).

It reads the wording only. A harder question in familiar words passes, and is the signals' business.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poise.errors import InputError, RefusedError

__all__ = ["FEWEST", "QuestionTest"]

GRAM = 4
REJECTED = 0.05
FEWEST = 40
"""Questions without which no threshold can be set: half lend four-grams, half set it."""


@dataclass(frozen=True, slots=True)
class QuestionTest:
    """``grams`` seen in the fit; a question below ``threshold`` in [0, 1] is out of the domain."""

    grams: frozenset[str]
    threshold: float

    @classmethod
    def fit(cls, questions: Sequence[str], seed: int = 0) -> QuestionTest:
        """From the texts of the domain's questions. Raises RefusedError below ``FEWEST``."""
        if len(questions) < FEWEST:
            raise RefusedError(
                f"a domain of {len(questions)} questions cannot be told from others; it takes"
                f" {FEWEST}"
            )
        dealt = sorted(questions)
        random.Random(seed).shuffle(dealt)  # noqa: S311
        half = len(dealt) // 2
        grams = frozenset(gram for text in dealt[:half] for gram in _grams(text))
        scores = sorted(_share(text, grams) for text in dealt[half:])
        rank = math.floor(REJECTED * (len(scores) + 1))
        return cls(grams, scores[rank - 1] if rank else 0.0)

    def score(self, question: str) -> float:
        """Share of the question's four-grams that are known, in [0, 1]."""
        return _share(question, self.grams)

    def accepts(self, question: str) -> bool:
        """Whether the question's wording is the domain's."""
        return self.score(question) >= self.threshold

    def detected(self, others: Iterable[str]) -> float:
        """Share of questions of another task that are turned away."""
        verdicts = [not self.accepts(text) for text in others]
        return sum(verdicts) / len(verdicts)

    def state(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"grams": sorted(self.grams), "threshold": self.threshold}

    @classmethod
    def from_state(cls, state: Any) -> QuestionTest:
        """Inverse of ``state``. Raises InputError for anything else."""
        if not isinstance(state, Mapping) or state.keys() != {"grams", "threshold"}:
            raise InputError("question test: not an object of grams and threshold")
        grams, threshold = state["grams"], state["threshold"]
        if not isinstance(grams, list) or not all(isinstance(gram, str) for gram in grams):
            raise InputError("question test: grams are not a list of strings")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise InputError(f"question test: threshold {threshold!r} is not a number")
        return cls(frozenset(grams), float(threshold))


def _grams(text: str) -> set[str]:
    plain = re.sub(r"\s+", " ", re.sub(r"[0-9]", "0", text.casefold())).strip()
    padded = f"^{plain}$"
    return {padded[i : i + GRAM] for i in range(max(1, len(padded) - GRAM + 1))}


def _share(text: str, grams: frozenset[str]) -> float:
    own = _grams(text)
    return len(own & grams) / len(own)
