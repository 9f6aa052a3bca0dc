"""Vote shares in which a sample counts as much as it is sure.

It does not know where a confidence came from, or whether it is calibrated: a share of weights is a
signal, not a probability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from poise.errors import MissingEvidence
from poise.signals.evidence import Evidence
from poise.signals.logprob import Logprob

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

    ``confidence`` names a value in ``Sample.signals``, each in [0, 1]. As published, unreadable
    samples are left out of both sums, so at least two readable ones are needed. Raises
    MissingEvidence below that, where one lacks the value or has it out of range, and where all are
    0. The order of the samples does not matter, given the leader. Source: the soft target of
    Self-Calibration, Huang et al. 2025, arXiv 2503.00031.
    """

    name: ClassVar[str] = "soft_self_consistency"
    level: ClassVar[Literal["pool"]] = "pool"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    confidence: str = "p_true"

    @property
    def needs(self) -> tuple[str, ...]:
        """``answers`` and the samples' value that weighs them."""
        return ("answers", self.confidence)

    def __call__(self, evidence: Evidence) -> float:
        """The share in ``evidence``."""
        leader, _ = evidence.elected()
        if sum(evidence.counts) == 1:
            raise MissingEvidence("one readable sample can only agree with itself")
        weights, clusters = [], []
        for sample, cluster in zip(evidence.samples, evidence.clusters, strict=True):
            if cluster is None:
                continue
            weight = sample.signals.get(self.confidence)
            if weight is None:
                raise MissingEvidence(f"sample {sample.index}: it carries no {self.confidence}")
            if not 0 <= weight <= 1:
                raise MissingEvidence(
                    f"sample {sample.index}: {self.confidence} is {weight}, not in [0, 1]"
                )
            weights.append(weight)
            clusters.append(cluster)
        if not any(weights):
            raise MissingEvidence(f"every sample's {self.confidence} is 0: there is no share")
        return _share(weights, tuple(clusters), leader)


def _share(weights: list[float], clusters: tuple[int | None, ...], leader: int) -> float:
    # fsum makes the share independent of the samples' order, and 1 where the leader has all.
    own = math.fsum(
        weight for weight, cluster in zip(weights, clusters, strict=True) if cluster == leader
    )
    return own / math.fsum(weights)
