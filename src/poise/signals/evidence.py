"""What a signal may look at: the samples of one prefix, their answer clusters, and who leads.

Beside them what is known of the question itself: replies to follow-ups about it, numbers that a
pool file stores with it, its segment. It does not know gold answers, spend or deadlines, or which
vote elected the leader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from poise.errors import MissingEvidence, Unusable, UsageError
from poise.types import FollowUp, Sample, TokenLogprobs

__all__ = ["Evidence", "logprobs_of"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One prefix of one question's samples, in dispatch order.

    ``samples`` (n,); ``clusters`` (n,) the answer cluster of each sample, numbered by first
    appearance, None where the answer was unreadable; ``counts`` votes by cluster; ``leader`` the
    cluster that the vote elected, None where nothing could be read. Raises UsageError where these
    contradict one another.

    ``followups`` replies to further questions about the question, by the name of the signal that
    asked; ``values`` numbers that a pool file stores at the question, by name; ``segment`` the
    question's own, None where it has none.
    """

    samples: tuple[Sample, ...] = ()
    clusters: tuple[int | None, ...] = ()
    counts: tuple[int, ...] = ()
    leader: int | None = None
    followups: Mapping[str, FollowUp] = field(default_factory=dict)
    values: Mapping[str, float | None] = field(default_factory=dict)
    segment: str | None = None

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.clusters):
            raise UsageError(
                f"{len(self.clusters)} clusters for {len(self.samples)} samples: give one a sample"
            )
        counted = [0] * len(self.counts)
        for cluster in self.clusters:
            if cluster is not None:
                if not 0 <= cluster < len(counted):
                    raise UsageError(f"cluster {cluster} has no entry in counts {self.counts}")
                counted[cluster] += 1
        if tuple(counted) != self.counts or 0 in counted:
            raise UsageError(
                f"counts {self.counts} are not the votes in clusters {self.clusters}; count the "
                "samples of each cluster"
            )
        known = range(len(self.counts)) if self.counts else (None,)
        if self.leader not in known:
            raise UsageError(
                f"leader {self.leader} is none of the {len(self.counts)} clusters; pass the one "
                "that the vote elected, None only where there is none"
            )

    @classmethod
    def single(cls, sample: Sample) -> Evidence:
        """One sample by itself, as signals of the level ``sample`` read it."""
        if sample.answer is None:
            return cls((sample,), (None,))
        return cls((sample,), (0,), (1,), 0)

    @property
    def n(self) -> int:
        """Samples drawn, readable or not."""
        return len(self.samples)

    @property
    def only(self) -> Sample:
        """The sample of a prefix of one. Raises MissingEvidence for any other prefix."""
        if self.n != 1:
            raise MissingEvidence(
                f"a signal of one sample, read from {self.n}; take the one of the leader instead"
            )
        return self.samples[0]

    def elected(self) -> tuple[int, int]:
        """The leader of a pool and its votes.

        Raises MissingEvidence where fewer than two samples were drawn or none could be read.
        """
        if self.n == 0:
            raise MissingEvidence("no sample was drawn")
        if self.leader is None:
            raise MissingEvidence("no readable answer")
        if self.n == 1:
            raise MissingEvidence("one sample can only agree with itself")
        return self.leader, self.counts[self.leader]


def logprobs_of(sample: Sample) -> TokenLogprobs:
    """The sample's log-probabilities, T >= 1. Raises MissingEvidence where there are none."""
    if sample.logprobs is None:
        raise MissingEvidence("no log-probabilities came with the reply; ask the server for them")
    if not sample.logprobs.chosen:
        raise Unusable("the reply has no tokens")
    return sample.logprobs
