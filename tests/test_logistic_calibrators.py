"""Temperature, Platt and quadratic against known truths and scikit-learn's own fits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score

from poise.calibrators import (
    ClassTemperature,
    Platt,
    Quadratic,
    Temperature,
    from_state,
    to_state,
)
from poise.calibrators.logistic import fit_logistic
from poise.calibrators.temperature import best_temperature
from poise.errors import InputError, RefusedError, UsageError


def draw(rng, chance):
    return (rng.random(len(chance)) < chance).astype(float)


def right(calibrator, x):
    return calibrator.predict_proba(x)[:, 1]


def logits(rng, m, spread=1.5):
    return np.clip(rng.normal(0, spread, m), -6, 6)


@pytest.mark.parametrize("truth", [0.4, 1.0, 2.5])
def test_temperature_finds_the_temperature_that_made_the_labels(truth):
    rng = np.random.default_rng(0)
    z = logits(rng, 4000)
    one = Temperature().fit(expit(z), draw(rng, expit(z / truth)))
    assert one.temperature_ == pytest.approx(truth, rel=0.1)


def test_temperature_is_scikit_learns_own():
    rng = np.random.default_rng(1)
    z = logits(rng, 400)
    y = draw(rng, expit(z / 2))
    unit = LogisticRegression().fit([[-1.0], [1.0]], [0, 1])
    unit.coef_, unit.intercept_ = np.ones((1, 1)), np.zeros(1)
    peer = CalibratedClassifierCV(FrozenEstimator(unit), method="temperature", cv=3)
    expected = peer.fit(z[:, None], y).predict_proba(z[:, None])[:, 1]
    got = right(Temperature("real").fit(z, y), z)
    assert np.allclose(got, expected, atol=1e-4)
    assert log_loss(y, got) <= log_loss(y, expected) + 1e-9


def test_temperature_is_where_no_neighbour_is_better():
    rng = np.random.default_rng(2)
    z = logits(rng, 200)
    y = draw(rng, expit(z / 1.7))
    best = Temperature("real").fit(z, y).temperature_
    losses = [log_loss(y, expit(z / (best * factor))) for factor in (0.99, 1, 1.01)]
    assert losses[1] == min(losses)


def test_temperature_stays_within_its_bounds():
    z = np.array([-2.0, -1, 1, 2])
    assert Temperature("real").fit(z, [0, 0, 1, 1]).temperature_ == pytest.approx(0.05)
    assert Temperature("real").fit(z, [1, 1, 0, 0]).temperature_ == pytest.approx(20)


def test_a_search_that_does_not_converge_raises():
    with pytest.raises(RefusedError, match="temperature: not converged"):
        best_temperature(lambda _: float("nan"))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5))
def test_class_temperature_never_changes_which_class_leads(seed, classes):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 3, (30, classes))
    one = ClassTemperature().fit(x, rng.integers(0, classes, 30))
    chances = one.predict_proba(x)
    assert (chances.argmax(axis=1) == x.argmax(axis=1)).all()
    assert np.allclose(chances.sum(axis=1), 1)
    assert one.classes_.tolist() == list(range(classes))
    assert (one.predict(x) == x.argmax(axis=1)).all()


def test_class_temperature_finds_the_temperature_that_made_the_labels():
    rng = np.random.default_rng(3)
    x = rng.normal(0, 2, (4000, 4))
    cumulated = softmax(x / 2, axis=1).cumsum(axis=1)
    y = (rng.random((4000, 1)) > cumulated).sum(axis=1)
    one = ClassTemperature().fit(x, y)
    assert one.temperature_ == pytest.approx(2, rel=0.1)
    weight = rng.integers(0, 3, 4000)
    doubled = ClassTemperature().fit(np.repeat(x, weight, axis=0), np.repeat(y, weight))
    assert ClassTemperature().fit(x, y, weight).temperature_ == pytest.approx(doubled.temperature_)
    again = from_state(json.loads(json.dumps(to_state(one))))
    assert (again.predict_proba(x) == one.predict_proba(x)).all()
    assert again.classes_.tolist() == [0, 1, 2, 3]


def test_class_temperature_over_two_classes_is_the_scalar_one():
    rng = np.random.default_rng(4)
    z = logits(rng, 300)
    y = draw(rng, expit(z / 2))
    pair = np.stack([np.zeros(300), z], axis=1)
    scalar = Temperature("real").fit(z, y)
    assert np.allclose(ClassTemperature().fit(pair, y).predict_proba(pair), scalar.predict_proba(z))


@pytest.mark.parametrize(
    ("x", "y", "error", "said"),
    [
        (np.eye(3), [0, 1, 3], UsageError, "y: 1 of 3 rows are not a class"),
        (np.eye(3), [0, 1, 0.5], UsageError, "y: 1 of 3 rows are not a class"),
        (np.eye(3), ["a", "b", "c"], UsageError, "y: 3 of 3 rows are not a class"),
        (np.eye(3), [0, 1], UsageError, r"y: shape \(2,\)"),
        (np.ones(3), [0, 0, 0], UsageError, "X: one column"),
        (np.ones((3, 2)), [0, 1, 0], RefusedError, "no row's logits differ"),
        (np.array([[0, np.nan]] * 3), [0, 1, 0], UsageError, "X: 3 of 3 rows are not finite"),
    ],
)
def test_class_temperature_refuses_what_it_cannot_use(x, y, error, said):
    with pytest.raises(error, match=said):
        ClassTemperature().fit(x, y)


def test_platt_finds_the_line_that_made_the_labels():
    rng = np.random.default_rng(5)
    z = logits(rng, 4000)
    one = Platt().fit(expit(z), draw(rng, expit(0.6 * z - 0.8)))
    assert one.slope_[0] == pytest.approx(0.6, abs=0.1)
    assert one.intercept_ == pytest.approx(-0.8, abs=0.12)


def test_on_calibrated_scores_platt_is_the_score_itself_within_its_errors():
    rng = np.random.default_rng(6)
    z = logits(rng, 1000)
    p = expit(z)
    design = np.stack([np.ones(1000), z], axis=1)
    errors = np.sqrt(np.diag(np.linalg.inv((design.T * (p * (1 - p))) @ design)))
    fits = [Platt().fit(p, draw(rng, p)) for _ in range(40)]
    off = np.array([[one.intercept_, one.slope_[0] - 1] for one in fits]) / errors
    assert (np.abs(off).max(axis=0) < 3.5).all()
    assert np.allclose((off**2).mean(axis=0), 1, atol=0.6)


@pytest.mark.parametrize("weighted", [False, True])
def test_platt_on_real_columns_is_scikit_learns_logistic_regression(weighted):
    rng = np.random.default_rng(7)
    x = rng.normal([3, -100, 0.01], [1, 20, 0.005], (300, 3))
    y = draw(rng, expit(x[:, 0] - 3 + (x[:, 1] + 100) / 20))
    weight = rng.integers(1, 4, 300) if weighted else None
    share = np.ones(300) if weight is None else weight
    z = (x - np.average(x, axis=0, weights=share)) / np.sqrt(
        np.average((x - np.average(x, axis=0, weights=share)) ** 2, axis=0, weights=share)
    )
    peer = LogisticRegression(C=1 / 0.01, tol=1e-10, max_iter=1000).fit(z, y, weight)
    one = Platt("real").fit(x, y, weight)
    assert np.allclose(one.predict_proba(x), peer.predict_proba(z), atol=1e-6)
    free = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(z, y, weight)
    tiny = Platt("real", ridge=1e-9).fit(x, y, weight)
    assert np.allclose(tiny.predict_proba(x), free.predict_proba(z), atol=1e-6)


def test_platt_reads_each_column_on_its_own_scale():
    rng = np.random.default_rng(8)
    p, n = expit(logits(rng, 500)), rng.integers(1, 9, 500).astype(float)
    y = draw(rng, expit(0.5 * logit(p) + 0.3 * n - 1))
    mixed = Platt(("probability", "real")).fit(np.stack([p, n], axis=1), y)
    linked = np.stack([logit(np.clip(p, 1e-3, 1 - 1e-3)), n], axis=1)
    assert np.allclose(
        right(mixed, np.stack([p, n], 1)), right(Platt("real").fit(linked, y), linked)
    )
    again = from_state(json.loads(json.dumps(to_state(mixed))))
    assert again.get_params() == mixed.get_params()
    assert (again.predict_proba([[0.2, 3.0]]) == mixed.predict_proba([[0.2, 3.0]])).all()
    with pytest.raises(UsageError, match="outside"):
        mixed.predict_proba([[3.0, 0.2]])
    state = to_state(mixed)
    state["params"]["slope"] = [1.0]
    with pytest.raises(InputError, match="slope holds 1 numbers, not 2"):
        from_state(state)


@pytest.mark.parametrize("kind", [Platt, Quadratic])
@pytest.mark.parametrize("scale", ["probability", "real"])
def test_classes_that_a_threshold_separates_give_a_finite_fit(kind, scale):
    x = np.linspace(0.05, 0.95, 10)
    got = right(kind(scale).fit(x, x > 0.5), x)
    assert ((got > 0) & (got < 1)).all()
    assert ((got > 0.5) == (x > 0.5)).all()
    assert (np.diff(got) > 0).all()


def test_scores_of_exactly_0_and_1_do_not_flatten_the_rest():
    shares = np.repeat([1.0, 0.75, 0.5], 200)
    y = np.concatenate([np.arange(200) < 200 * rate for rate in (0.95, 0.75, 0.5)])
    assert right(Platt().fit(shares, y), [0.5]) < 0.65 < right(Platt().fit(shares, y), [0.75])
    curve = right(Quadratic().fit(shares, y), [0.5, 0.75, 1.0])
    assert curve == pytest.approx([0.5, 0.75, 0.95], abs=0.05)


def test_the_logistic_fit_says_so_when_it_cannot_be_made():
    one = np.ones(3)
    with pytest.raises(RefusedError, match="logistic fit"):
        fit_logistic(np.eye(3), one, one, 1e-300, np.zeros(3))


def test_quadratic_finds_the_curve_that_made_the_labels():
    rng = np.random.default_rng(9)
    z = np.abs(logits(rng, 6000))
    one = Quadratic().fit(expit(z), draw(rng, expit(-0.5 + 0.3 * z + 0.2 * z**2)))
    b, w1, w2 = one.coef_
    bend = w2 / one.spread_**2
    slope = w1 / one.spread_ - 2 * bend * one.centre_
    level = b - w1 * one.centre_ / one.spread_ + bend * one.centre_**2
    chance = expit(-0.5 + 0.3 * z + 0.2 * z**2)
    design = np.stack([np.ones(6000), z, z**2], axis=1)
    errors = np.sqrt(np.diag(np.linalg.inv((design.T * (chance * (1 - chance))) @ design)))
    assert not one.held_
    assert (np.abs([level + 0.5, slope - 0.3, bend - 0.2]) < 3 * errors).all()
    assert np.abs(right(one, expit(z)) - chance).mean() < 0.03


@pytest.mark.parametrize("bend", [-1.0, -0.3, 0.3, 1.0])
@pytest.mark.parametrize("slope", [-0.5, 0.5])
def test_a_parabola_that_would_turn_among_the_scores_is_held_to_turn_at_their_end(bend, slope):
    rng = np.random.default_rng(10)
    z = logits(rng, 2000)
    y = draw(rng, expit(slope * z + bend * z**2))
    one, line = (kind("real", ridge=1e-6).fit(z, y) for kind in (Quadratic, Platt))
    assert one.held_
    assert to_state(one)["params"]["held"] is True
    rises = np.diff(right(one, np.linspace(z.min(), z.max(), 200)))
    assert (rises > 0).all() or (rises < 0).all()
    assert log_loss(y, right(one, z)) < log_loss(y, right(line, z))
    _, w1, w2 = one.coef_
    assert min(abs(w1 + 2 * w2 * one.range_)) == pytest.approx(0, abs=1e-9)
    x = (z - one.centre_) / one.spread_
    for low, high in (one.range_, one.range_[::-1]):
        # The best of each family that turns at an end, found by brute force.
        away = (x - low) ** 2 / (high - low) ** 2
        best = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(away[:, None], y)
        assert log_loss(y, right(one, z)) <= log_loss(y, best.predict_proba(away[:, None])) + 1e-7


def test_quadratic_keeps_rising_beyond_the_scores_it_was_fitted_on():
    rng = np.random.default_rng(11)
    z = rng.uniform(0, 2, 4000)
    one = Quadratic("real").fit(z, draw(rng, expit(2 * z - 0.4 * z**2)))
    assert one.coef_[2] < 0
    assert not one.held_
    assert (np.diff(right(one, np.linspace(-8, 10, 200))) > 0).all()


def test_a_calibrator_serves_scikit_learns_own_tools():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    y = (rng.random(300) < expit(2 * x)).astype(int)
    one = Platt(scale="real")
    scores = cross_val_score(one, x[:, None], y, scoring="neg_log_loss", cv=3)
    assert -scores.mean() == pytest.approx(log_loss(y, expit(2 * x)), abs=0.05)
    assert one.fit(x, y).score(x, y) == ((right(one, x) > 0.5) == y).mean()
