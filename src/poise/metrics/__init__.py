"""Metrics of a probability you can trust: arrays in, numbers out, intervals where they are honest.

==================  ==============================================================================
``proper``          Brier, log loss, Brier skill, and Corp's MCB - DSC + UNC
``calibration``     ECE: equal-width, equal-mass, debiased; cumulative errors (KS, Kuiper)
``floor``           ECE of pure noise for these probabilities, and the least ECE that can be found
``smooth``          smooth ECE: no bins
``ranking``         AUROC, average precision, Spearman, within-question discrimination
``selective``       risk-coverage curve, its area, accuracy at a coverage
``capability``      squared error to mu(x), the sampling error of its estimate removed
``statistic``       metrics prepared for resampling; the table ``METRICS``
``bootstrap``       intervals over questions: one metric, a difference, segments
``report``          all of it at once
==================  ==============================================================================

Labels ``y`` and probabilities ``p`` are (m,) in [0, 1]; weights and question ids are optional.
``rows`` checks them and says what a label between 0 and 1 means. It does not know files, models
or pictures.
"""

from __future__ import annotations

from poise.metrics.bootstrap import Segment, paired, segments, with_interval
from poise.metrics.calibration import (
    Cumulative,
    adaptive_ece,
    cumulative,
    debiased_ece,
    debiased_square,
    ece,
)
from poise.metrics.capability import mse_to_mu
from poise.metrics.estimate import Estimate
from poise.metrics.floor import Floor, noise_floor, smallest_detectable
from poise.metrics.proper import Corp, brier, brier_skill, corp, log_loss
from poise.metrics.ranking import WithinQuestion, auprc, auroc, spearman, within_question
from poise.metrics.report import Report, summary
from poise.metrics.selective import RiskCoverage, accuracy_at, aurc, risk_coverage
from poise.metrics.smooth import smooth_ece
from poise.metrics.statistic import METRICS, Metric, Statistic

__all__ = [
    "METRICS",
    "Corp",
    "Cumulative",
    "Estimate",
    "Floor",
    "Metric",
    "Report",
    "RiskCoverage",
    "Segment",
    "Statistic",
    "WithinQuestion",
    "accuracy_at",
    "adaptive_ece",
    "auprc",
    "aurc",
    "auroc",
    "brier",
    "brier_skill",
    "corp",
    "cumulative",
    "debiased_ece",
    "debiased_square",
    "ece",
    "log_loss",
    "mse_to_mu",
    "noise_floor",
    "paired",
    "risk_coverage",
    "segments",
    "smallest_detectable",
    "smooth_ece",
    "spearman",
    "summary",
    "with_interval",
    "within_question",
]
