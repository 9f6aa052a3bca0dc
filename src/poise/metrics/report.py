"""All numbers about one column of probabilities at once, beside the constant base rate.

It does not know where the probabilities come from, nor how to draw them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from poise.metrics import calibration, proper, ranking, selective, statistic
from poise.metrics.bootstrap import resample
from poise.metrics.calibration import BINS, Cumulative
from poise.metrics.estimate import Estimate
from poise.metrics.floor import Floor, noise_floor, smallest_detectable
from poise.metrics.proper import Corp
from poise.metrics.ranking import WithinQuestion
from poise.metrics.rows import Rows, by_confidence, read
from poise.metrics.smooth import smooth_ece

__all__ = ["Report", "summary"]


@dataclass(frozen=True, slots=True)
class Report:
    """What ``summary`` found. Absent values are None with a reason, never a number.

    ``rows`` and ``questions`` counted; ``base_rate`` share of right rows; ``base_brier`` and
    ``base_log_loss``: scores of that constant. ``log_loss`` and ``corp_log_loss`` in nats, with p
    moved into [``log_floor``, 1 - ``log_floor``]; ``log_infinite`` rows would cost infinity
    without. ``ece`` over ``bins`` equal-width bins is to be read with ``ece_debiased``,
    ``square_debiased`` (unbiased mean squared gap), ``ece_floor`` and ``ece_detectable``: it has no
    interval. ``within_question`` None: no question ids were given. ``level`` of all intervals.
    """

    rows: int
    questions: int
    base_rate: float
    brier: Estimate
    base_brier: float
    brier_skill: Estimate
    log_loss: Estimate
    base_log_loss: float
    log_floor: float
    log_infinite: int
    corp_brier: Corp
    corp_log_loss: Corp
    bins: int
    ece: float
    ece_debiased: Estimate
    square_debiased: Estimate
    ece_floor: Floor
    ece_detectable: Estimate
    ece_adaptive: float
    smooth_ece: float
    cumulative: Cumulative
    auroc: Estimate
    auprc: Estimate
    spearman: Estimate
    within_question: WithinQuestion | None
    aurc: float
    level: float

    @property
    def beats_base_rate(self) -> bool:
        """Whether the Brier score is below the constant base rate's; without it no ECE counts."""
        return self.brier.value is not None and self.brier.value < self.base_brier

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: nested plain values, every number finite."""
        return asdict(self)


def summary(
    y: ArrayLike,
    p: ArrayLike,
    question: Iterable[Hashable] | None = None,
    sample_weight: ArrayLike | None = None,
    *,
    bins: int = BINS,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Report:
    """Everything this package measures about probabilities ``p`` of labels ``y``.

    ``y``, ``p`` (m,) in [0, 1]; ``question`` (m,) ids: intervals, debiasing and the noise floor
    then count questions, not rows; ``sample_weight`` (m,) >= 0; ``replicates`` of the bootstrap
    (0: no intervals). Equal seeds give equal reports. Raises UsageError.
    """
    rows = by_confidence(read(y, p, sample_weight, question))
    known = (rows.y, rows.p, rows.weight)
    shown = (*known, None if rows.single else rows.question)
    names = ("brier", "brier_skill", "log_loss", "auroc")
    asked = names if question is None else (*names, "within_question")
    statistics = {name: statistic.METRICS[name](rows) for name in asked}
    intervals = resample(statistics, rows, replicates=replicates, level=level, seed=seed)
    corp = proper.corp(*known)
    floor = statistic.LOG_FLOOR
    corp_log = proper.corp(*known, rule="log_loss", floor=floor)
    return Report(
        rows=rows.y.size,
        questions=rows.questions,
        base_rate=float(np.average(rows.y, weights=rows.weight)),
        base_brier=corp.unc,
        base_log_loss=corp_log.unc,
        **{name: intervals[name] for name in names},
        log_floor=floor,
        log_infinite=_infinite(rows),
        corp_brier=corp,
        corp_log_loss=corp_log,
        bins=bins,
        ece=calibration.ece(*known, bins=bins),
        ece_debiased=calibration.debiased_ece(*shown, bins=bins),
        square_debiased=calibration.debiased_square(*shown, bins=bins),
        ece_floor=noise_floor(*shown[1:], bins=bins, seed=seed),
        ece_detectable=smallest_detectable(*shown[1:], bins=bins, seed=seed),
        ece_adaptive=calibration.adaptive_ece(*known, bins=bins),
        smooth_ece=smooth_ece(*known),
        cumulative=calibration.cumulative(*known),
        auprc=ranking.auprc(*known),
        spearman=ranking.spearman(*known),
        within_question=None if question is None else _within(rows, intervals["within_question"]),
        aurc=selective.aurc(*known),
        level=level,
    )


def _infinite(rows: Rows) -> int:
    wrong = ((rows.p == 0) & (rows.y > 0)) | ((rows.p == 1) & (rows.y < 1))
    return int(np.count_nonzero(wrong))


def _within(rows: Rows, estimate: Estimate) -> WithinQuestion:
    used = int(np.count_nonzero(ranking.pairs_by_question(rows)[1]))
    return WithinQuestion(estimate, used, rows.questions - used)
