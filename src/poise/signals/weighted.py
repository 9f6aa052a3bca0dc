"""Vote shares in which a sample counts as much as it is sure.

It does not know where a confidence came from, or whether it is calibrated: a share of weights is a
signal, not a probability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from poise.errors import MissingEvidence, UsageError
from poise.signals.evidence import Evidence
from poise.signals.logprob import Logprob
from poise.signals.p_true import PTrue
from poise.signals.protocol import Signal

__all__ = ["LogprobShare", "SoftSelfConsistency"]


@dataclass(frozen=True, slots=True)
class LogprobShare:
    """The leader's share of exp(mean token log-probability), summed over all samples: [0, 1].

    An unreadable sample weighs in the total and in no cluster. Raises MissingEvidence below two
    samples, where none could be read, and unless every sample has log-probabilities. The order of
    the samples does not matter, given the leader.
    """

    name: ClassVar[str] = "logprob_share"
    level: ClassVar[Literal["pool"]] = "pool"
    needs: ClassVar[tuple[str, ...]] = ("answers", "logprobs")
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(self, evidence: Evidence) -> float:
        """The share in ``evidence``."""
        leader, _ = evidence.elected()
        means = []
        for sample in evidence.samples:
            try:
                means.append(Logprob()(Evidence.single(sample)))
            except MissingEvidence as missing:
                raise MissingEvidence(f"sample {sample.index}: {missing}") from None
        # Only ratios matter: measured from the greatest mean, the total cannot vanish.
        weights = [math.exp(mean - max(means)) for mean in means]
        return _share(weights, evidence.clusters, leader)


@dataclass(frozen=True, slots=True)
class SoftSelfConsistency:
    """The leader's share of the confidences that the readable samples carry: [0, 1].

    ``confidence`` is a signal of single samples, with values in [0, 1]. As published, unreadable
    samples are left out of both sums, so at least two readable ones are needed. Raises
    MissingEvidence below that, where one lacks the value or has it out of range, and where all are
    0; UsageError for a signal of another level. The order of the samples does not matter, given the
    leader. Source: the soft target of Self-Calibration, Huang et al. 2025, arXiv 2503.00031.
    """

    name: ClassVar[str] = "soft_self_consistency"
    level: ClassVar[Literal["pool"]] = "pool"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    confidence: Signal = PTrue()

    def __post_init__(self) -> None:
        if self.confidence.level != "sample":
            raise UsageError(
                f"{self.confidence.name} is a signal of a {self.confidence.level}; samples are "
                "weighed by signals of one sample"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """``answers`` and what the confidence needs."""
        return ("answers", *(need for need in self.confidence.needs if need != "answers"))

    def __call__(self, evidence: Evidence) -> float:
        """The share in ``evidence``."""
        leader, _ = evidence.elected()
        if sum(evidence.counts) == 1:
            raise MissingEvidence("one readable sample can only agree with itself")
        weights, clusters = [], []
        for sample, cluster in zip(evidence.samples, evidence.clusters, strict=True):
            if cluster is None:
                continue
            try:
                weight = self.confidence(Evidence.single(sample))
            except MissingEvidence as missing:
                raise MissingEvidence(f"sample {sample.index}: {missing}") from None
            if not 0 <= weight <= 1:
                raise MissingEvidence(
                    f"sample {sample.index}: {self.confidence.name} is {weight}, not in [0, 1]"
                )
            weights.append(weight)
            clusters.append(cluster)
        if not any(weights):
            raise MissingEvidence(f"every sample's {self.confidence.name} is 0: there is no share")
        return _share(weights, tuple(clusters), leader)


def _share(weights: list[float], clusters: tuple[int | None, ...], leader: int) -> float:
    # fsum makes the share independent of the samples' order, and 1 where the leader has all.
    own = math.fsum(
        weight for weight, cluster in zip(weights, clusters, strict=True) if cluster == leader
    )
    return own / math.fsum(weights)
