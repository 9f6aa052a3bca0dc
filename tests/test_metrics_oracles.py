"""The same numbers as other packages, where they compute the same thing.

scikit-learn to rounding; uncertainty-calibration to rounding where its bins hold one probability
each, and to its resampling error for L1; relplot to the step of its search.
"""

from __future__ import annotations

import numpy as np
import pytest

from poise import metrics

RNG = np.random.default_rng(0)
P = np.round(RNG.beta(2, 1, 1500), 2).clip(0.01, 0.99)
Y = (RNG.random(1500) < P**1.5).astype(float)
W = RNG.random(1500) + 0.1


@pytest.mark.parametrize("weight", [None, W], ids=["plain", "weighed"])
def test_scikit_learn_agrees(weight) -> None:
    from sklearn import metrics as oracle

    given = {"sample_weight": weight}
    assert metrics.auroc(Y, P, weight).value == pytest.approx(oracle.roc_auc_score(Y, P, **given))
    assert metrics.auprc(Y, P, weight).value == pytest.approx(
        oracle.average_precision_score(Y, P, **given)
    )
    assert metrics.brier(Y, P, weight) == pytest.approx(oracle.brier_score_loss(Y, P, **given))
    assert metrics.log_loss(Y, P, weight) == pytest.approx(oracle.log_loss(Y, P, **given))


def test_scipy_agrees_on_spearman() -> None:
    from scipy.stats import spearmanr

    y = np.round(Y * 0.6 + RNG.random(1500) * 0.4, 1)
    assert metrics.spearman(y, P).value == pytest.approx(spearmanr(y, P).statistic)


@pytest.mark.parametrize("n", [50, 300, 1500])
@pytest.mark.filterwarnings("ignore")
def test_relplot_agrees_on_the_smooth_error(n) -> None:
    import relplot

    y, p = Y[:n], P[:n]
    assert metrics.smooth_ece(y, p) == pytest.approx(relplot.smECE(p, y), abs=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_uncertainty_calibration_agrees_on_the_debiased_errors() -> None:
    import calibration as oracle

    # Off every edge, which the two assign to different sides; one probability a bin.
    p = (np.floor(P * 10).clip(0, 9) + 0.5) / 10
    square = metrics.debiased_square(Y, p).value
    assert square is not None
    labels = Y.astype(int)
    shown = oracle.get_calibration_error(p, labels, p=2, debias=True, mode="marginal")
    assert np.sqrt(max(square, 0)) == pytest.approx(shown)
    plain = oracle.get_ece(p, labels, num_bins=10, mode="marginal")
    assert metrics.ece(Y, p) == pytest.approx(plain)
    np.random.seed(0)  # noqa: NPY002 - the package draws from the global generator
    less = oracle.get_ece(p, labels, debias=True, num_bins=10, mode="marginal")
    assert metrics.debiased_ece(Y, p).value == pytest.approx(less, abs=2e-3)


CONTINUOUS = np.random.default_rng(1).beta(2, 1, 1500)
LABELS = (np.random.default_rng(2).random(1500) < CONTINUOUS**1.5).astype(float)


@pytest.mark.parametrize("bins", [5, 10, 15])
@pytest.mark.filterwarnings("ignore")
def test_netcal_agrees_on_both_binned_errors(bins: int) -> None:
    from netcal.metrics import ECE

    labels = LABELS.astype(int)
    equal_width = ECE(bins).measure(CONTINUOUS, labels)
    assert metrics.ece(LABELS, CONTINUOUS, bins=bins) == pytest.approx(equal_width)
    equal_mass = ECE(bins, equal_intervals=False).measure(CONTINUOUS, labels)
    assert metrics.adaptive_ece(LABELS, CONTINUOUS, bins=bins) == pytest.approx(equal_mass)


@pytest.mark.filterwarnings("ignore")
def test_netcal_leaves_nothing_of_the_last_bin_out_either() -> None:
    from netcal.metrics import ECE

    p = np.where(CONTINUOUS > 0.7, 1.0, CONTINUOUS)
    assert metrics.ece(LABELS, p) == pytest.approx(ECE(10).measure(p, LABELS.astype(int)))


@pytest.mark.filterwarnings("ignore")
def test_probmetrics_agrees_on_scores_and_calibration_errors() -> None:
    import torch
    from probmetrics.metrics import (
        KolmogorovSmirnovCalibrationMetric,
        KuiperCalibrationMetric,
        Metrics,
    )

    labels = torch.as_tensor(LABELS.astype(int))
    both = torch.as_tensor(np.stack([1 - CONTINUOUS, CONTINUOUS], 1))
    named = Metrics.from_names(["ece-15", "smece", "brier", "logloss"])
    theirs = {
        name: float(value)
        for one in (named, KolmogorovSmirnovCalibrationMetric(), KuiperCalibrationMetric())
        for name, value in one.compute_all_from_labels_probs(labels, both).items()
    }
    # It sums the Brier score over both classes.
    assert 2 * metrics.brier(LABELS, CONTINUOUS) == pytest.approx(theirs["brier"])
    assert metrics.log_loss(LABELS, CONTINUOUS) == pytest.approx(theirs["logloss"])
    assert metrics.ece(LABELS, CONTINUOUS, bins=15) == pytest.approx(theirs["ece-15"], abs=1e-6)
    assert metrics.smooth_ece(LABELS, CONTINUOUS) == pytest.approx(theirs["smece"], abs=1e-3)
    summed = metrics.cumulative(LABELS, CONTINUOUS)
    assert summed.ks == pytest.approx(theirs["kolmogorov-smirnov"], abs=1e-6)
    assert summed.kuiper == pytest.approx(theirs["kuiper"], abs=1e-6)
