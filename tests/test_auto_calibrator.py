"""The choice of a calibrator: by unseen groups, behind its guards, with honest numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict

from poise.calibrators import Auto, Platt
from poise.calibrators.auto import CANDIDATES
from poise.errors import RefusedError, UsageError


def draw(rng, chance):
    return (rng.random(len(chance)) < chance).astype(float)


def logits(rng, m, spread=1.5):
    return np.clip(rng.normal(0, spread, m), -6, 6)


def entry(auto, name):
    return next(one for one in auto.considered_ if one.name == name)


@pytest.mark.parametrize("scale", ["probability", "real"])
def test_a_score_of_pure_noise_gets_the_constant(scale):
    picks = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        picks.append(Auto(scale).fit(rng.random(200), draw(rng, np.full(200, 0.7))).chosen_)
    assert picks.count("constant") >= 7


def test_a_score_that_is_calibrated_already_stays_raw():
    picks = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        p = expit(logits(rng, 1000))
        picks.append(Auto().fit(p, draw(rng, p)).chosen_)
    assert picks.count("identity") >= 5


def test_an_overconfident_score_gets_a_map_near_the_truth():
    regret, raw = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        z, new = logits(rng, 600), logits(rng, 2000)
        auto = Auto().fit(expit(2 * z), draw(rng, expit(z - 0.5)))
        truth = draw(rng, expit(new - 0.5))
        best = log_loss(truth, expit(new - 0.5))
        regret.append(log_loss(truth, auto.predict_proba(expit(2 * new))) - best)
        raw.append(log_loss(truth, expit(2 * new)) - best)
        assert auto.chosen_ not in {"identity", "constant"}
    assert np.mean(regret) < 0.01
    assert np.mean(raw) > 0.1


def test_a_raw_score_that_does_worse_than_the_constant_is_not_kept_for_want_of_proof():
    """One certain and wrong row makes the raw score's loss both high and uncertain."""
    picks = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        z = logits(rng, 100, spread=0.8)
        p, y = expit(z), draw(rng, expit(z))
        p[0], y[0] = 1e-6, 1.0
        auto = Auto().fit(p, y)
        raw, constant = entry(auto, "identity"), entry(auto, "constant")
        best = min(auto.considered_[:-1], key=lambda one: one.log_loss)
        if raw.log_loss > constant.log_loss and best.gain < best.gain_se:
            picks.append(auto.chosen_)
    assert len(picks) >= 2
    assert "identity" not in picks
    assert set(picks) - {"constant"}


def test_scores_of_few_levels_with_rates_of_their_own_get_levels():
    rng = np.random.default_rng(2)
    place = rng.integers(0, 5, 800)
    y = draw(rng, np.array([0.9, 0.1, 0.8, 0.2, 0.95])[place])
    assert Auto().fit(place / 4, y).chosen_ == "levels"


def test_rows_of_one_question_deceive_a_choice_by_row_and_not_one_by_group():
    """Negative control: each of 40 questions repeats a meaningless score and its one outcome."""
    deceived, fair, gain = [], [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        question = np.repeat(np.arange(40), 15)
        score, outcome = rng.random(40)[question], draw(rng, np.full(40, 0.5))[question]
        by_row = Auto().fit(score, outcome)
        by_group = Auto().fit(score, outcome, groups=question)
        deceived.append(by_row.chosen_)
        fair.append(by_group.chosen_)
        gain.append([entry(auto, "isotonic").log_loss for auto in (by_row, by_group)])
        assert by_row.held_out_.log_loss < 0.2
        assert by_group.held_out_.log_loss > 0.66
    assert deceived == ["levels"] * 6
    assert fair.count("constant") >= 5
    assert (np.diff(gain) > 0).all()


def test_standard_errors_are_over_groups_and_not_over_rows():
    rng = np.random.default_rng(3)
    z = logits(rng, 200)
    y = draw(rng, expit(z))
    once = Auto(candidates=("platt",)).fit(expit(z), y, groups=np.arange(200))
    question = np.repeat(np.arange(200), 9)
    often = Auto(candidates=("platt",)).fit(expit(z)[question], y[question], groups=question)
    for name in ("constant", "identity"):
        one, other = entry(once, name), entry(often, name)
        assert other.log_loss == pytest.approx(one.log_loss, rel=0.01)
        assert other.log_loss_se == pytest.approx(one.log_loss_se, rel=0.01)
        assert other.brier_se == pytest.approx(one.brier_se, rel=0.01)


def test_the_numbers_considered_are_those_of_plain_cross_validation():
    rng = np.random.default_rng(4)
    z = logits(rng, 300)
    p, y = expit(z), draw(rng, expit(z / 2))
    auto = Auto().fit(p, y)
    losses = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    raw = entry(auto, "identity")
    assert raw.log_loss == pytest.approx(losses.mean())
    assert raw.log_loss_se == pytest.approx(losses.std(ddof=1) / 300**0.5)
    assert raw.brier == pytest.approx(((p - y) ** 2).mean())
    assert (raw.gain, raw.gain_se) == (0, 0)
    peer = cross_val_predict(Platt(), p[:, None], y, cv=5, method="predict_proba")
    platt = entry(auto, "platt")
    assert platt.log_loss == pytest.approx(log_loss(y, peer), abs=0.01)
    assert platt.gain == pytest.approx(raw.log_loss - platt.log_loss)


def test_the_quoted_loss_is_that_of_a_choice_that_never_saw_the_rows():
    """On noise, the best of the candidates looks better than the whole procedure can do."""
    flattered = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        auto = Auto("real").fit(rng.normal(size=60), draw(rng, np.full(60, 0.5)))
        best = min(one.log_loss for one in auto.considered_ if one.log_loss is not None)
        flattered.append(auto.held_out_.log_loss - best)
    assert np.mean(flattered) > 0


def test_a_candidate_that_refuses_is_reported_with_its_reason_and_no_number():
    rng = np.random.default_rng(5)
    p = rng.random(200)
    auto = Auto().fit(p, draw(rng, p))
    refused = entry(auto, "levels")
    assert "at most 50" in refused.reason
    assert refused.log_loss is refused.brier is refused.gain is None
    assert [one.name for one in auto.considered_] == list(CANDIDATES)


def test_seed_decides_the_folds_and_nothing_else_does():
    rng = np.random.default_rng(6)
    p = rng.random(100)
    y = draw(rng, p)
    one, same, other = (Auto(seed=seed).fit(p, y) for seed in (1, 1, 2))
    assert one.considered_ == same.considered_
    assert one.held_out_ == same.held_out_
    assert entry(one, "platt") != entry(other, "platt")


def test_groups_may_be_named_by_texts_and_rows_of_weight_0_leave_with_theirs():
    rng = np.random.default_rng(7)
    p = rng.random(120)
    y, group = draw(rng, p), np.repeat(np.arange(40), 3)
    by_number = Auto().fit(p, y, groups=group)
    by_text = Auto().fit(p, y, groups=[f"{number:03}" for number in group])
    assert by_text.considered_ == by_number.considered_
    weight = (group >= 10).astype(float)
    without = Auto().fit(p[30:], y[30:], groups=group[30:])
    assert Auto().fit(p, y, weight, groups=group).considered_ == without.considered_


def test_several_columns_are_mapped_by_platt_or_by_the_constant():
    rng = np.random.default_rng(8)
    x = np.stack([rng.random(300), rng.integers(1, 9, 300)], axis=1)
    scales = ("probability", "real")
    auto = Auto(scales).fit(x, draw(rng, expit(x[:, 1] - 4)))
    assert [one.name for one in auto.considered_] == ["constant", "platt"]
    assert auto.chosen_ == "platt"
    assert (auto.predict_proba(x) == auto.calibrator_.predict_proba(x)).all()
    assert Auto(scales).fit(x, draw(rng, np.full(300, 0.5))).chosen_ == "constant"
    with pytest.raises(UsageError, match="candidates: isotonic: not for 2 columns"):
        Auto(scales, candidates=("isotonic",)).fit(x, x[:, 0] > 0.5)


@pytest.mark.parametrize(
    ("groups", "error", "said"),
    [
        (np.arange(60) % 19, RefusedError, "auto: 19 groups, and a choice wants at least 20"),
        (np.arange(59), UsageError, r"groups: shape \(59,\); X has 60 rows"),
    ],
)
def test_too_few_or_ill_fitting_groups_are_refused(groups, error, said):
    rng = np.random.default_rng(9)
    p = rng.random(60)
    with pytest.raises(error, match=said):
        Auto().fit(p, draw(rng, p), groups=groups)


@pytest.mark.parametrize("folds", [2, 10])
def test_twenty_groups_are_enough_for_any_number_of_folds(folds):
    x = np.arange(20) / 20
    auto = Auto(folds=folds).fit(x, x + 0.3 * (np.arange(20) % 3 - 1) > 0.5)
    assert auto.held_out_.log_loss > 0
