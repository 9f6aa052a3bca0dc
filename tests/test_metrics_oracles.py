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
