"""The same maps as other packages fit, where they fit the same model."""

from __future__ import annotations

import numpy as np
import pytest

from poise.calibrators import CALIBRATORS

RNG = np.random.default_rng(3)
P = RNG.beta(2, 1, 2000)
Y = (RNG.random(2000) < P**1.5).astype(int)
GRID = np.linspace(0.02, 0.98, 25)
BOTH = np.stack([1 - P, P], 1)


def ours(name: str) -> np.ndarray:
    chance: np.ndarray = CALIBRATORS[name]().fit(P, Y).predict_proba(GRID)[:, 1]
    return chance


@pytest.mark.parametrize(
    ("mine", "theirs"), [("temperature", "temp-scaling"), ("platt", "logistic")]
)
@pytest.mark.filterwarnings("ignore")
def test_probmetrics_fits_the_same_logistic_maps(mine: str, theirs: str) -> None:
    from probmetrics.calibrators import get_calibrator

    other = get_calibrator(theirs)
    other.fit(BOTH, Y)
    shown = other.predict_proba(np.stack([1 - GRID, GRID], 1))[:, 1]
    # Theirs stops its search earlier, and regularises in another way.
    assert np.abs(ours(mine) - shown).max() < 2e-3


@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_fits_the_same_isotonic_map_where_levels_are_well_filled() -> None:
    from sklearn.isotonic import IsotonicRegression

    other = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(P, Y)
    middle = (GRID > 0.3) & (GRID < 0.9)
    # Ours keeps its ends off 0 and 1, so that no log loss is infinite, and joins its levels.
    assert np.abs(ours("isotonic") - other.predict(GRID))[middle].max() < 0.06


@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_fits_the_same_slope() -> None:
    from sklearn.linear_model import LogisticRegression

    odds = np.log(P / (1 - P))[:, None]
    inside = (P > 1e-3) & (P < 1 - 1e-3)
    other = LogisticRegression(C=1e8).fit(odds[inside], Y[inside])
    mine = CALIBRATORS["platt"]().fit(P[inside], Y[inside])
    assert mine.slope_[0] == pytest.approx(other.coef_[0, 0], rel=1e-3)
    assert mine.intercept_ == pytest.approx(other.intercept_[0], abs=2e-3)
