"""Pools as arrays: every prefix of every question, its signals, and whether its leader is right.

It does not know what is fitted to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from poise.answers.clusters import Clusters
from poise.errors import InputError, RefusedError, UsageError
from poise.policies import IntArray
from poise.pools import Labelled
from poise.signals import Evidence, PrefixSignal, SegmentHistory, Signal, compute, signal
from poise.state_map import COUNTS
from poise.votes import Majority

__all__ = ["LOGPROB", "MOST_MISSING", "FloatArray", "Prefixes", "prefixes"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

LOGPROB = "leader_logprob"
"""What is read beside the votes wherever the samples have log-probabilities: it costs nothing."""

MOST_MISSING = 0.05
"""Share of prefixes that may lack a signal before it is left out."""


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Pools of one arm as arrays, m rows by N samples.

    A row is a question, or, for policies of one sample (N = 1), one sample of it. ``codes`` (m, N):
    answer clusters, -1 unreadable. ``signals``: (m, N) at every prefix length, nan where missing.
    ``right`` (m, N): whether the leader after that many samples is right, 0 where there is none.
    ``grades`` (m, N): whether the sample itself is. ``group`` (m,): the question's number, for
    splits. ``segments`` (m,) names, None where not stated. ``ranged``: signals in [0, 1].
    ``values`` (m, N): of each sample, what the stop rule reads.
    """

    codes: IntArray
    signals: dict[str, FloatArray]
    right: npt.NDArray[np.int64]
    grades: npt.NDArray[np.int64]
    group: npt.NDArray[np.int64]
    segments: tuple[str | None, ...]
    ranged: frozenset[str]
    values: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def n(self) -> IntArray:
        """(m, N): samples in each prefix."""
        shape = self.codes.shape
        return np.broadcast_to(np.arange(1, shape[1] + 1, dtype=np.int64), shape)

    def ready(self, names: Sequence[str]) -> BoolArray:
        """(m, N): prefixes at which every signal of ``names`` is there."""
        stacked = np.stack([self.signals[name] for name in names])
        present: BoolArray = np.all(np.isfinite(stacked), axis=0)
        return present

    def at(self, names: Sequence[str], chosen: BoolArray) -> dict[str, FloatArray]:
        """The signals ``names`` at the prefixes that ``chosen`` (m, N) marks, (k,) each."""
        return {name: self.signals[name][chosen] for name in names}


def prefixes(
    pools: Sequence[Labelled],
    further: Sequence[str] | None = None,
    *,
    single: bool = False,
    needs: Sequence[str] = (),
) -> Prefixes:
    """Arrays of fully graded pools with equally many samples.

    ``further``: signals beside the votes, each there for nearly every question; None: the leader's
    log-probability if nearly every sample has one. ``segment_history`` is left to the fit, as it
    depends on the labels. ``needs``: signals of single samples that the stop rule reads.
    ``single``: every sample is a row of its own, and there are no votes.
    Raises InputError for pools that differ in size or lack a signal; RefusedError where a sample
    has no grade; UsageError for an unknown signal.
    """
    arrays = _bare(pools)
    codes = arrays.codes
    found = {name: _known(signal(name)).over_prefixes(codes) for name in COUNTS}
    # Without a readable answer there is no leader to read anything about.
    led = (codes >= 0) if single else np.maximum.accumulate(codes >= 0, axis=1)
    ranged: set[str] = {COUNTS[0], SegmentHistory.name}
    for name in [LOGPROB] if further is None else further:
        if name in COUNTS or name == SegmentHistory.name:
            continue
        one = signal(name)
        values = _values(one, codes, pools, single=single)
        lacking = float(np.isnan(values[led]).mean())
        if lacking > MOST_MISSING:
            if further is None:
                continue
            raise InputError(
                f"{name} is missing at {lacking:.0%} of the prefixes; leave it out of --signals"
            )
        found[name] = values
        if one.range[0] >= 0 and one.range[1] <= 1:
            ranged.add(name)
    read = {name: _of_samples(signal(name), pools) for name in needs}
    arrays = replace(arrays, signals=found, ranged=frozenset(ranged), values=read)
    return _alone(arrays) if single else arrays


# -- inside -------------------------------------------------------------------------------------


def _bare(pools: Sequence[Labelled]) -> Prefixes:
    """The arrays without any signal; raises where pools do not belong together."""
    size = len(pools[0].pool.samples)
    for one in pools:
        if len(one.pool.samples) != size:
            raise InputError(
                f"question {one.pool.question_id!r} has {len(one.pool.samples)} samples and others"
                f" {size}; fit pools of one size"
            )
        if None in one.correct:
            raise RefusedError(f"question {one.pool.question_id!r} has samples without a grade")
    codes = np.array([_codes(one) for one in pools], np.int64)
    if (codes < 0).all():
        raise RefusedError("no sample holds a readable answer")
    numbers: dict[tuple[str, str], int] = {}
    group = [numbers.setdefault(one.pool.group, len(numbers)) for one in pools]
    grades = np.array([[int(c or 0) for c in one.correct] for one in pools], np.int64)
    return Prefixes(
        codes,
        {},
        _right(codes, grades),
        grades,
        np.array(group, np.int64),
        tuple(one.pool.segment for one in pools),
        frozenset(),
    )


def _known(one: Signal) -> PrefixSignal:
    assert isinstance(one, PrefixSignal)
    return one


def _alone(arrays: Prefixes) -> Prefixes:
    """Every sample as a row of its own: a draw is a draw, whichever came first."""
    n = arrays.codes.shape[1]
    read = arrays.codes.reshape(-1, 1) >= 0
    return Prefixes(
        codes=np.where(read, 0, -1).astype(np.int64),
        signals={
            name: values.reshape(-1, 1)
            for name, values in arrays.signals.items()
            if name not in COUNTS
        },
        right=arrays.grades.reshape(-1, 1),
        grades=arrays.grades.reshape(-1, 1),
        group=np.repeat(arrays.group, n),
        segments=tuple(segment for segment in arrays.segments for _ in range(n)),
        ranged=arrays.ranged,
        values={name: values.reshape(-1, 1) for name, values in arrays.values.items()},
    )


def _codes(one: Labelled) -> list[int]:
    clusters = Clusters(one.pool.kind)  # as when serving, or the votes would be others
    return [
        -1 if (cluster := clusters.add(sample.answer)) is None else cluster
        for sample in one.pool.samples
    ]


def _values(one: Signal, codes: IntArray, pools: Sequence[Labelled], *, single: bool) -> FloatArray:
    """(m, N) the signal at every prefix; of single samples where ``single``."""
    if one.level == "sample":
        raise UsageError(f"{one.name} reads one sample; name leader_{one.name}")
    if one.level == "question":
        return np.array([[_of_question(one, each)] * codes.shape[1] for each in pools], np.float64)
    if single:
        return _of_samples(one, pools)
    if not isinstance(one, PrefixSignal):
        raise UsageError(f"{one.name} has no array form, so nothing can be fitted on it")
    if one.reads is None:
        return one.over_prefixes(codes)
    return one.over_prefixes(codes, _of_samples(signal(one.reads), pools))


def _of_samples(one: Signal, pools: Sequence[Labelled]) -> FloatArray:
    """(m, N) the signal of every single sample."""
    return np.array([_of_singles(one, each) for each in pools], np.float64)


def _of_question(one: Signal, labelled: Labelled) -> float:
    pool = labelled.pool
    about = Evidence(followups=pool.followups, values=pool.signals, segment=pool.segment)
    return _value(one, about)


def _of_singles(one: Signal, labelled: Labelled) -> list[float]:
    return [_value(one, Evidence.single(sample)) for sample in labelled.pool.samples]


def _value(one: Signal, evidence: Evidence) -> float:
    value = compute([one], evidence)[0][one.name]
    return np.nan if value is None else value


def _right(codes: IntArray, grades: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Whether the leader is right after each sample; a cluster is as right as its first member."""
    m, n = codes.shape
    of_cluster = np.zeros((m, max(1, int(codes.max()) + 1)), np.int64)
    rows = np.arange(m)
    for column in range(n - 1, -1, -1):  # backwards, so that the first member has the last word
        read = codes[:, column] >= 0
        of_cluster[rows[read], codes[read, column]] = grades[read, column]
    right = np.zeros((m, n), np.int64)
    for column in range(n):
        leader = Majority().elect_all(codes, np.full(m, column + 1))
        right[:, column] = np.where(leader >= 0, of_cluster[rows, np.maximum(leader, 0)], 0)
    return right
