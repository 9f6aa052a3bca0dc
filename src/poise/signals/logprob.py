"""How probable the model found what it wrote: the whole reply of one sample.

All token log-probabilities that came with the reply count, those of a hidden train of thought too.

It does not know which tokens are the answer (``answer_span`` does) or how they were decoded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from poise.errors import MissingEvidence, UsageError
from poise.signals.evidence import Evidence, logprobs_of

__all__ = ["Logprob", "TopMargin"]


@dataclass(frozen=True, slots=True)
class Logprob:
    """Mean or sum of the chosen tokens' natural-log probabilities: (-inf, 0].

    ``logprob`` is the mean, free of the reply's length; ``logprob_sum`` is the log-probability of
    the reply as a whole. Raises MissingEvidence for anything but one sample with log-probabilities,
    UsageError for any other ``how``.
    """

    level: ClassVar[Literal["sample"]] = "sample"
    needs: ClassVar[tuple[str, ...]] = ("logprobs",)
    range: ClassVar[tuple[float, float]] = (-math.inf, 0.0)
    how: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        if self.how not in ("mean", "sum"):
            raise UsageError(f"how={self.how!r}: must be mean or sum")

    @property
    def name(self) -> str:
        """``logprob`` or ``logprob_sum``."""
        return "logprob" if self.how == "mean" else "logprob_sum"

    def __call__(self, evidence: Evidence) -> float:
        """The mean or the sum over the tokens of the one sample."""
        chosen = logprobs_of(evidence.only).chosen
        return sum(chosen) / (len(chosen) if self.how == "mean" else 1)


@dataclass(frozen=True, slots=True)
class TopMargin:
    """Mean over the tokens of the chosen log-probability less that of the best other: (-inf, inf).

    In nats; below 0 where the draw mostly went against the model's first choice. Raises
    MissingEvidence for anything but one sample, and unless every token came with an alternative
    other than itself.
    """

    name: ClassVar[str] = "top_margin"
    level: ClassVar[Literal["sample"]] = "sample"
    needs: ClassVar[tuple[str, ...]] = ("logprobs", "top_logprobs")
    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    def __call__(self, evidence: Evidence) -> float:
        """The mean margin over the tokens of the one sample."""
        logprobs = logprobs_of(evidence.only)
        if logprobs.top is None:
            raise MissingEvidence(
                "only the chosen tokens' log-probabilities came with the reply; "
                "ask for the top 2 or more"
            )
        total = 0.0
        for place, (token, chosen, top) in enumerate(
            zip(logprobs.tokens, logprobs.chosen, logprobs.top, strict=True)
        ):
            others = [logprob for text, logprob in top if text != token]
            if not others:
                raise MissingEvidence(
                    f"token {place} came without an alternative; ask for the top 2 or more"
                )
            total += chosen - max(others)
        return total / len(logprobs.tokens)
