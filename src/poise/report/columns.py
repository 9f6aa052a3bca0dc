"""The stated probability, the raw signal and the baselines, measured on the same rows and compared.

It does not judge what it measures.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np

from poise import metrics
from poise.metrics import Estimate, Report
from poise.metrics.rows import read
from poise.report.curves import Coverage, Density, Reliability, coverage, density, reliability
from poise.report.evaluation import BASE_RATE, STATED, Evaluation
from poise.scoring import FloatArray

__all__ = ["Column", "Difference", "columns", "differences"]


@dataclass(frozen=True, slots=True)
class Column:
    """One method's numbers; ``role`` is stated, raw or baseline.

    ``report``, ``reliability`` and ``density`` are None, with a ``reason``, for a signal that is no
    probability; ranking is always there. ``aurc`` in [0, 1], 0 best. ``distinct`` values;
    ``most_tied``: share of the rows that have the most common one.
    """

    name: str
    role: str
    report: Report | None
    reason: str | None
    auroc: Estimate
    aurc: float
    reliability: Reliability | None
    density: Density | None
    coverage: Coverage
    distinct: int
    most_tied: float


@dataclass(frozen=True, slots=True)
class Difference:
    """``metric`` of the stated probability minus that of ``against``: below 0 is better."""

    metric: str
    against: str
    estimate: Estimate


def columns(evaluation: Evaluation, seed: int) -> tuple[Column, ...]:
    """The stated probability first, then the raw signal, then the baselines."""
    right, group = evaluation.right, evaluation.group
    made = [_column(STATED, "stated", right, evaluation.stated, group, seed)]
    if evaluation.raw is not None:
        measure = _column if evaluation.raw_is_probability else _ranked
        made.append(measure(evaluation.raw_name, "raw", right, evaluation.raw, group, seed))
    for name, p in evaluation.baselines.items():
        made.append(_column(name, "baseline", right, p, group, seed))
    return tuple(made)


def differences(evaluation: Evaluation, seed: int) -> tuple[Difference, ...]:
    """Brier score and log loss of the stated probability less those of every other, in pairs."""
    right, stated = evaluation.right, evaluation.stated
    others = {BASE_RATE: np.full(right.size, right.mean())}
    if evaluation.raw is not None and evaluation.raw_is_probability:
        others[evaluation.raw_name] = evaluation.raw
    return tuple(
        Difference(
            metric,
            name,
            metrics.paired(metric, right, stated, other, evaluation.group, seed=seed),
        )
        for name, other in {**others, **evaluation.baselines}.items()
        for metric in ("brier", "log_loss")
    )


def _column(
    name: str,
    role: str,
    right: FloatArray,
    p: FloatArray,
    group: Iterable[Hashable] | None,
    seed: int,
) -> Column:
    report = metrics.summary(right, p, group, seed=seed)
    return Column(
        name=name,
        role=role,
        report=report,
        reason=None,
        auroc=report.auroc,
        aurc=report.aurc,
        reliability=reliability(read(right, p, None, group), seed=seed),
        density=density(p),
        coverage=coverage(right, p),
        distinct=np.unique(p).size,
        most_tied=_most_tied(p),
    )


def _ranked(
    name: str,
    role: str,
    right: FloatArray,
    values: FloatArray,
    group: Iterable[Hashable] | None,
    seed: int,
) -> Column:
    """A signal outside [0, 1]: only the order of its values means something."""
    found, place = np.unique(values, return_inverse=True)
    order = (place + 1) / found.size
    return Column(
        name=name,
        role=role,
        report=None,
        reason=f"{name} leaves [0, 1], so it is no probability; it is ranked only",
        auroc=metrics.with_interval("auroc", right, order, group, seed=seed),
        aurc=metrics.aurc(right, order),
        reliability=None,
        density=None,
        coverage=coverage(right, order),
        distinct=found.size,
        most_tied=_most_tied(values),
    )


def _most_tied(values: FloatArray) -> float:
    _, count = np.unique(values, return_counts=True)
    return float(count.max() / values.size)
