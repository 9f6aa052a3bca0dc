"""A signal of single samples, carried over to a pool: its mean over those that chose the leader.

It does not know what the signal measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from poise.errors import MissingEvidence, UsageError
from poise.signals.evidence import Evidence
from poise.signals.protocol import Signal
from poise.signals.running import FloatArray, IntArray, over_leaders

__all__ = ["Leader"]


@dataclass(frozen=True, slots=True)
class Leader:
    """The mean of ``of`` over the leader's samples; range as ``of``. One sample is enough.

    Raises MissingEvidence where nothing could be read, and where one of the leader's samples lacks
    the value: a mean over the others would favour the replies that are easy to read. The order of
    the samples does not matter, given the leader. Raises UsageError for a signal of another level.
    """

    level: ClassVar[Literal["pool"]] = "pool"
    of: Signal

    def __post_init__(self) -> None:
        if self.of.level != "sample":
            raise UsageError(
                f"{self.of.name} is a signal of a {self.of.level}; the leader's mean is taken of "
                "signals of one sample"
            )

    @property
    def name(self) -> str:
        """``leader_`` and the name of ``of``."""
        return f"leader_{self.of.name}"

    @property
    def needs(self) -> tuple[str, ...]:
        """``answers`` and what ``of`` needs."""
        return ("answers", *(need for need in self.of.needs if need != "answers"))

    @property
    def range(self) -> tuple[float, float]:
        """As of ``of``."""
        return self.of.range

    @property
    def reads(self) -> str:
        """The name of ``of``: what the values of the array form are."""
        return self.of.name

    def __call__(self, evidence: Evidence) -> float:
        """The mean in ``evidence``."""
        if evidence.leader is None:
            raise MissingEvidence("no readable answer" if evidence.n else "no sample was drawn")
        values = []
        for place, cluster in enumerate(evidence.clusters):
            if cluster == evidence.leader:
                sample = evidence.samples[place]
                try:
                    values.append(self.of(Evidence.single(sample)))
                except MissingEvidence as missing:
                    raise type(missing)(f"sample {sample.index}: {missing}") from None
        return sum(values) / len(values)

    def over_prefixes(self, codes: IntArray, values: FloatArray | None = None) -> FloatArray:
        """(m, N) as in ``PrefixSignal.over_prefixes``; ``values`` hold ``of`` for each sample."""
        if values is None:
            raise UsageError(f"{self.name}: give the values of {self.reads}, one a sample")
        return over_leaders(codes, np.asarray(values, np.float64))
