"""Calibrators weighed on unseen groups, behind guards, with honest numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict

from poise.calibrators import Auto, Constant, Platt
from poise.calibrators.mixture import MEMBERS
from poise.errors import RefusedError, UsageError


def draw(rng, chance):
    return (rng.random(len(chance)) < chance).astype(float)


def logits(rng, m, spread=1.5):
    return np.clip(rng.normal(0, spread, m), -6, 6)


def entry(auto, name):
    return next(one for one in auto.considered_ if one.name == name)


def excess(auto, x, chance):
    """Expected log loss over that of the true ``chance``, in nats."""
    told = np.clip(auto.predict_proba(x)[:, 1], 1e-12, 1 - 1e-12)
    return np.mean(
        chance * np.log(chance / told) + (1 - chance) * np.log((1 - chance) / (1 - told))
    )


@pytest.mark.parametrize("scale", ["probability", "real"])
def test_a_score_of_pure_noise_gets_the_constant_or_next_to_it(scale):
    picks, lost = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x, y = rng.random(200), draw(rng, np.full(200, 0.7))
        auto, x = Auto(scale).fit(x, y), rng.random(500)
        picks.append(auto.chosen_)
        true = np.full(500, 0.7)
        lost.append(excess(auto, x, true) - excess(Constant().fit(np.zeros(200), y), x, true))
    assert picks.count("constant") >= 6
    assert np.mean(lost) < 0.002


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


def test_a_certainty_that_the_data_cannot_bear_out_is_not_kept_though_it_was_right():
    kept = {1e-6: 0, 0.05: 0}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        p = np.clip(expit(logits(rng, 100, spread=0.8)), 0.05, 0.95)
        y = draw(rng, p)
        for lowest in kept:
            p[0], y[0] = lowest, 0.0
            kept[lowest] += Auto().fit(p, y).chosen_ == "identity"
    assert kept[1e-6] == 0
    assert kept[0.05] >= 4


def test_levels_with_rates_of_their_own_that_no_rising_map_can_follow():
    rng = np.random.default_rng(2)
    rate = np.array([0.9, 0.1, 0.8, 0.2, 0.95])
    place = rng.integers(0, 5, 800)
    auto = Auto().fit(place / 4, draw(rng, rate[place]))
    told = auto.predict_proba(np.arange(5) / 4)[:, 1]
    assert np.abs(told - rate).max() < 0.1
    assert max(zip(auto.calibrator_.weights, auto.calibrator_.members, strict=True))[1] == "levels"


def family(rng, kind, m):
    """Scores and true chances: over-confident, bent, and the vote shares of a strong model."""
    z = logits(rng, m)
    if kind == "sure":
        return expit(2 * z), expit(z - 0.3)
    if kind == "bent":
        return (u := rng.random(m)), 0.3 + 0.6 * (u > 0.75)
    return np.round(8 * (u := rng.beta(4, 0.5, m))) / 8, 0.25 + 0.7 * np.round(8 * u) / 8


def test_on_small_data_it_does_as_well_as_the_best_single_one_and_better_than_a_pick():
    """On three unlike families of 100 rows no single calibrator is good at all three."""
    lost = {name: [] for name in ("auto", "pick", *(set(MEMBERS) - {"identity"}))}
    for seed in range(7):
        for kind in ("sure", "bent", "votes"):
            rng = np.random.default_rng([seed, len(kind)])
            (x, true), (new, chance) = family(rng, kind, 100), family(rng, kind, 2000)
            y = draw(rng, true)
            auto = Auto().fit(x, y)
            ran = [one for one in auto.considered_[:-1] if one.log_loss is not None]
            pick = min(ran, key=lambda one: one.log_loss).name
            for name, losses in lost.items():
                kind_ = MEMBERS.get(pick if name == "pick" else name)
                if name == "auto":
                    losses.append(excess(auto, new, chance))
                elif name in {one.name for one in ran} | {"pick"}:
                    losses.append(excess(kind_().fit(x, y), new, chance))
    means = {name: np.mean(losses) for name, losses in lost.items() if len(losses) == 21}
    assert min(means, key=means.get) == "auto", means
    assert {"pick", "platt", "isotonic", "quadratic"} < set(means)


def test_rows_of_one_question_deceive_a_choice_by_row_and_not_one_by_group():
    """Negative control: each of 40 questions repeats a meaningless score and its one outcome."""
    fair, gain = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        question = np.repeat(np.arange(40), 15)
        score, outcome = rng.random(40)[question], draw(rng, np.full(40, 0.5))[question]
        by_row = Auto().fit(score, outcome)
        by_group = Auto().fit(score, outcome, groups=question)
        fair.append(np.ptp(by_group.predict_proba(score)[:, 1]))
        gain.append([entry(auto, "isotonic").log_loss for auto in (by_row, by_group)])
        assert np.ptp(by_row.predict_proba(score)[:, 1]) > 0.8
        assert by_row.held_out_.log_loss < 0.2
        assert by_group.held_out_.log_loss > 0.66
    assert np.median(fair) < 0.4
    assert (np.diff(gain) > 0).all()


def test_standard_errors_are_over_groups_and_not_over_rows():
    rng = np.random.default_rng(3)
    z = logits(rng, 200)
    y = draw(rng, expit(z))
    once = Auto(candidates=("platt",)).fit(expit(3 * z), y, groups=np.arange(200))
    question = np.repeat(np.arange(200), 9)
    often = Auto(candidates=("platt",)).fit(expit(3 * z)[question], y[question], groups=question)
    for name in ("constant", "identity"):
        one, other = entry(once, name), entry(often, name)
        assert other.log_loss == pytest.approx(one.log_loss, rel=0.01)
        assert other.log_loss_se == pytest.approx(one.log_loss_se, rel=0.01)
        assert other.brier_se == pytest.approx(one.brier_se, rel=0.01)
    assert often.calibrator_.weights == pytest.approx(once.calibrator_.weights, abs=0.05)


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
    assert [one.name for one in auto.considered_] == [*MEMBERS, "mixture"]


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
    assert [one.name for one in auto.considered_] == ["constant", "platt", "mixture"]
    assert auto.calibrator_.members == ("constant", "platt")
    assert auto.calibrator_.weights[1] > 0.9
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
