"""Intervals by resampling questions: of one score, of the difference of two, of each segment.

Rows of one question are not independent, so whole questions are drawn with replacement and every
row follows its question. Intervals are percentiles of the resampled values; they are honest for
means and areas. For ECE they are not centred where the truth is: resampling adds the noise of the
sample once more, so read ECE with ``floor`` instead. Equal seeds give equal intervals for equal
rows in equal order. It does not know any metric.

Source: Efron 1979; Field and Welsh, Bootstrapping clustered data, 2007.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from poise.errors import UsageError
from poise.metrics.estimate import Estimate
from poise.metrics.ranking import NO_PAIR, ONE_CLASS
from poise.metrics.rows import Rows, by_confidence, codes, read, whole
from poise.metrics.statistic import METRICS, Metric, Statistic
from poise.scoring import FloatArray

__all__ = ["Segment", "paired", "resample", "segments", "with_interval"]

LEAST_QUESTIONS = 10
"""With fewer, percentiles of resamples say little, and no interval is given."""

LEAST_DEFINED = 0.95
"""Share of resamples that must have a value for an interval to be given."""

ENTRIES = 1 << 20
"""Counts held at once; small enough to stay in the cache."""

ABSENT = {"auroc": ONE_CLASS, "brier_skill": ONE_CLASS, "within_question": NO_PAIR}


def with_interval(
    metric: str | Metric,
    y: ArrayLike,
    p: ArrayLike,
    question: Iterable[Hashable] | None = None,
    sample_weight: ArrayLike | None = None,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A metric with its percentile interval over resampled questions.

    ``metric``: a name in ``METRICS`` or a ``Metric`` of one's own. ``y``, ``p`` (m,) in [0, 1];
    ``question`` (m,) ids (None: a question each); ``sample_weight`` (m,) >= 0; ``level`` in (0, 1).
    Value None where the metric has none; interval None with fewer than ten questions, or where
    more than one resample in twenty has no value. Raises UsageError.
    """
    rows = by_confidence(read(y, p, sample_weight, question))
    chosen = {_name(metric): _metric(metric)(rows)}
    return resample(chosen, rows, replicates=replicates, level=level, seed=seed)[_name(metric)]


def paired(
    metric: str | Metric,
    y: ArrayLike,
    p: ArrayLike,
    other: ArrayLike,
    question: Iterable[Hashable] | None = None,
    sample_weight: ArrayLike | None = None,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Metric of ``p`` minus metric of ``other`` on the same rows, each resample seeing both.

    ``other`` (m,) in [0, 1]. An interval without 0 says that they differ. Arguments else, absences
    and errors as in ``with_interval``.
    """
    first = read(y, p, sample_weight, question)
    second = replace(first, p=read(y, other, sample_weight).p)
    ahead, behind = _metric(metric)(first), _metric(metric)(second)

    def difference(counts: FloatArray) -> FloatArray:
        return ahead(counts) - behind(counts)

    name = _name(metric)
    return resample({name: difference}, first, replicates=replicates, level=level, seed=seed)[name]


@dataclass(frozen=True, slots=True)
class Segment:
    """A metric on the rows of one segment."""

    name: Hashable
    rows: int
    questions: int
    estimate: Estimate


def segments(
    metric: str | Metric,
    y: ArrayLike,
    p: ArrayLike,
    segment: Iterable[Hashable],
    question: Iterable[Hashable] | None = None,
    sample_weight: ArrayLike | None = None,
    *,
    least: int = 20,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Segment, ...]:
    """The metric with its interval on each segment, in order of the segments' names as text.

    ``segment`` (m,) any hashable names. A segment of fewer than ``least`` questions has value None:
    the number would be noise. Its rows and questions are still counted. Arguments else, absences
    and errors as in ``with_interval``.
    """
    weight = np.ones(np.size(y)) if sample_weight is None else np.asarray(sample_weight)
    rows = read(y, p, weight, question)
    of, names = codes("segment", segment)
    if of.size != np.size(y):
        raise UsageError(f"segment has {of.size} rows and y has {np.size(y)}: give one for each")
    of = of[weight > 0]
    table = []
    for code in sorted(range(len(names)), key=lambda i: str(names[i])):
        inside = of == code
        if not inside.any():
            continue
        part = by_confidence(rows.take(inside))
        if part.questions < least:
            reason = f"{part.questions} questions; at least {least} are needed"
            found = Estimate(None, reason=reason)
        else:
            chosen = {_name(metric): _metric(metric)(part)}
            options = {"replicates": replicates, "seed": seed}
            found = resample(chosen, part, level=level, **options)[_name(metric)]
        table.append(Segment(names[code], part.y.size, part.questions, found))
    return tuple(table)


def resample(
    statistics: Mapping[str, Statistic],
    rows: Rows,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Values and intervals of several statistics of ``rows`` over the same resamples.

    ``replicates`` >= 0: none gives values without intervals. Raises UsageError.
    """
    if not 0 < level < 1:
        raise UsageError(f"level={level!r}: must lie between 0 and 1")
    whole("replicates", replicates, low=0)
    ones = np.ones((1, rows.questions))
    values = {name: float(statistic(ones)[0]) for name, statistic in statistics.items()}
    spread: dict[str, list[FloatArray]] = {name: [] for name in statistics}
    if rows.questions >= LEAST_QUESTIONS:
        for counts in _counts(rows, replicates, np.random.default_rng(seed)):
            for name, statistic in statistics.items():
                spread[name].append(statistic(counts))
    return {
        name: _estimate(name, values[name], spread[name], rows, replicates, level)
        for name in statistics
    }


def _counts(rows: Rows, replicates: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    """How often each question is drawn, (r, q) at a time, ``replicates`` in all."""
    q = rows.questions
    step = max(1, ENTRIES // rows.y.size)
    for begin in range(0, replicates, step):
        size = min(step, replicates - begin)
        drawn = rng.integers(0, q, (size, q), np.int32 if q < 2**31 else np.int64)
        if size > 1:
            drawn = drawn + (np.arange(size) * q)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * q)
        yield counts.reshape(size, q).astype(np.float64)


def _estimate(
    name: str, value: float, spread: list[FloatArray], rows: Rows, replicates: int, level: float
) -> Estimate:
    if np.isnan(value):
        return Estimate(None, reason=ABSENT.get(name, "the metric has no value on these rows"))
    if not replicates:
        return Estimate(value)
    if not spread:
        reason = f"{rows.questions} questions; an interval needs {LEAST_QUESTIONS}"
        return Estimate(value, reason=reason)
    values = np.concatenate(spread)
    values = values[~np.isnan(values)]
    if values.size < LEAST_DEFINED * replicates:
        return Estimate(value, reason="too many resamples have no value for an interval")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, (float(low), float(high)))


def _metric(metric: str | Metric) -> Metric:
    if not isinstance(metric, str):
        return metric
    if metric not in METRICS:
        raise UsageError(f"metric={metric!r}: there is {', '.join(METRICS)}")
    return METRICS[metric]


def _name(metric: str | Metric) -> str:
    return metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")
