"""Confidence-guided early stopping (CGES): a posterior over the answers seen, and one over none.

Taking each confidence c as the probability that its sample is right, and a wrong sample as equally
likely to give any of the other answers, the score of an answer a, with K answers seen, is

    A(a) = product over samples of (c if it answered a, else (1 - c) / K)

and that of OTHER, an answer nobody gave, has no first factor. Divided by what a score has in common
with OTHER's, this is a sum of log-odds: log A(a) / A(OTHER) = sum over a's samples of
log(c / (1 - c)) + log K.

Its answer is the vote ``cges``. The posterior is a signal that steers sampling; it is the
probability that the answer is correct only as far as the confidences are, and the samples
independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from poise.columns import FloatArray, column, log_odds, named, needed
from poise.errors import UsageError
from poise.policies.bounds import count, level
from poise.policies.running import BoolArray, IntArray, blocks, columns_of, mark
from poise.types import Draw, State, Stop, StopReason

__all__ = ["Cges"]


@dataclass(frozen=True, slots=True)
class Cges:
    """Stops when the greatest posterior reaches ``threshold``, from the first sample on.

    As ``sure`` where that is an answer's; with ``other`` (the published algorithm), as ``futile``
    where it is OTHER's: the confidences say that every answer so far is wrong. ``threshold`` in
    [0.5, 1). ``confidence``: a signal of single samples, read as ``poise.columns.log_odds`` says,
    which keeps it off 0 and 1. A sample without one, or without a readable answer, is left out as
    if it had not been drawn. ``budget`` at ``max_samples`` (1..100,000). Source: Aghazadeh et al.
    2025, arXiv 2511.02603, algorithm 1. Raises UsageError for parameters out of range, and in
    ``decide`` and ``stops`` where a confidence is.
    """

    threshold: float = 0.95
    confidence: str = "p_true"
    other: bool = True
    max_samples: int = 40

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", level(self.threshold, 0.5, short=True))
        named(self.confidence, bounded=True)
        if not isinstance(self.other, bool):
            raise UsageError(f"other={self.other!r}: must be True or False")
        object.__setattr__(self, "max_samples", count("max_samples", self.max_samples))

    @property
    def needs(self) -> tuple[str, ...]:
        """The confidence."""
        return (self.confidence,)

    def decide(self, state: State) -> Draw | Stop:
        """Draws one: the evidence of any next sample may be enough."""
        left = self.max_samples - state.n
        if left < 0:
            return Stop(StopReason.BUDGET)
        odds = [[0.0] * len(state.counts)]
        votes = [[0] * len(state.counts)]
        found = log_odds(self.confidence, column(state, self.confidence)).tolist()
        for cluster, each in zip(state.clusters, found, strict=True):
            if cluster is not None and not math.isnan(each):
                odds[0][cluster] += each
                votes[0][cluster] += 1
        sure, futile = self._reached(np.array(odds), np.array(votes, np.int64))
        if sure[0]:
            return Stop(StopReason.SURE)
        if futile[0]:
            return Stop(StopReason.FUTILE)
        return Draw(1) if left else Stop(StopReason.BUDGET)

    def stops(self, prefixes: IntArray, values: Mapping[str, FloatArray] | None = None) -> IntArray:
        """Where ``decide`` stops, (m,), for prefixes and values as in ``StopRule.stops``."""
        columns = columns_of(prefixes, self.max_samples)
        stops = np.full(len(prefixes), columns, np.int64)
        given = needed(self.confidence, values, prefixes.shape)
        for rows, block in blocks(prefixes, self.max_samples):
            mark(
                stops[rows], self._verdicts(block, log_odds(self.confidence, given[rows, :columns]))
            )
        return stops

    def _verdicts(self, block: IntArray, evidence: FloatArray) -> Iterator[BoolArray]:
        size, columns = block.shape
        odds = np.zeros((size, max(1, int(block.max()) + 1)))
        votes = np.zeros(odds.shape, np.int64)
        for place in range(columns):
            rows = np.flatnonzero((block[:, place] >= 0) & ~np.isnan(evidence[:, place]))
            cells = (rows, block[rows, place])
            odds[cells] += evidence[rows, place]
            votes[cells] += 1
            sure, futile = self._reached(odds, votes)
            yield sure | futile

    def _reached(self, odds: FloatArray, votes: IntArray) -> tuple[BoolArray, BoolArray]:
        """Whether an answer's posterior is high enough, and whether OTHER's is, (r,) each.

        ``odds``, ``votes`` (r, K') log-odds and samples by answer; without samples it is not there.
        """
        answers = (votes > 0).sum(axis=1)
        counted = votes * np.log(np.maximum(answers, 1))[:, None]
        scores = np.zeros((len(odds), odds.shape[1] + 1))  # the last is OTHER's, 0
        scores[:, :-1] = np.where(votes > 0, odds + counted, -np.inf)
        rows, first = np.arange(len(scores)), scores.argmax(axis=1)
        best = scores[rows, first]
        scores[rows, first] = -np.inf
        # Measured from the second best, so that one sample's odds are its own to the last bit.
        second = np.where(answers > 0, scores.max(axis=1), 0.0)
        rest = np.zeros(len(scores))
        # One answer after the other: the sum must not depend on how wide the table is.
        for score in scores.T:
            rest += np.exp(score - second)
        ahead = best - second - np.log(np.where(answers > 0, rest, 1.0))
        enough = (answers > 0) & (ahead >= self._bar)
        observed = first < odds.shape[1]
        return enough & observed, enough & ~observed & self.other

    @property
    def _bar(self) -> float:
        """The threshold as log-odds, to the bits that a sample of that confidence has."""
        at = np.array([self.threshold])
        return float((np.log(at) - np.log1p(-at))[0])
