"""Constant, identity, isotonic and levels: closed forms, known truths, scikit-learn's own fits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from poise.calibrators import Constant, Identity, Isotonic, Levels, Platt, from_state, to_state
from poise.errors import InputError, RefusedError


def draw(rng, chance):
    return (rng.random(len(chance)) < chance).astype(float)


def right(calibrator, x):
    return calibrator.predict_proba(x)[:, 1]


def logits(rng, m, spread=1.5):
    return np.clip(rng.normal(0, spread, m), -6, 6)


def test_constant_is_the_weighted_share_of_right_answers():
    one = Constant().fit([5.0, -3.0, 0.0], [1, 0, 0.5], [1, 2, 1])
    assert right(one, [9.0, -9.0]).tolist() == [0.375, 0.375]
    assert (
        Constant().fit(np.ones((4, 3)), [0, 1, 1, 1]).predict_proba(np.ones((1, 3)))[0, 1] == 0.75
    )


def test_identity_gives_the_score_back_also_at_its_ends():
    x = np.array([0.0, 1e-9, 0.5, 1.0])
    assert (right(Identity().fit(x, [0, 0, 1, 1]), x) == x).all()


def test_isotonic_blocks_are_scikit_learns_when_nothing_is_shrunk():
    rng = np.random.default_rng(12)
    x, weight = rng.random(200).round(2), rng.integers(1, 4, 200)
    y = draw(rng, x)
    peer = IsotonicRegression().fit(x, y, weight)
    one = Isotonic(strength=1e-9).fit(x, y, weight)
    assert np.allclose(one.chances_, np.unique(peer.predict(x).round(12)), atol=1e-7)


def test_isotonic_shrinks_each_block_by_its_trials_and_joins_their_centres():
    one = Isotonic(strength=2.0).fit([0.1, 0.2, 0.6, 0.8], [0, 0, 1, 1])
    assert one.knots_ == pytest.approx([0.15, 0.7])
    assert one.chances_ == pytest.approx([0.25, 0.75])
    got = right(one, [0.0, 0.15, 0.425, 0.7, 1.0])
    assert got == pytest.approx([0.25, 0.25, 0.5, 0.75, 0.75])


def test_blocks_that_shrinking_puts_out_of_order_are_pooled():
    x = [0.9] + [0.5] * 60 + [0.1] * 100
    y = [1.0] + [0.9] * 60 + [0.0] * 100
    one = Isotonic(strength=10.0).fit(x, y)
    assert len(one.chances_) == 2
    assert (np.diff(one.chances_) > 0).all()


@pytest.mark.parametrize("key", ["knots", "chances"])
def test_a_stored_map_that_falls_is_refused(key):
    state = to_state(Isotonic().fit([0.1, 0.2, 0.6, 0.8], [0, 0, 1, 1]))
    state["params"][key].reverse()
    with pytest.raises(InputError, match=f"{key} must not fall"):
        from_state(state)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 5)),
        min_size=3,
        max_size=30,
    )
)
def test_isotonic_rises_and_never_claims_certainty(rows):
    x, y, weight = np.array(rows).T
    if set(y) in ({0.0}, {1.0}):
        with pytest.raises(RefusedError):
            Isotonic().fit(x, y, weight)
        return
    one = Isotonic().fit(x, y, weight)
    got = right(one, np.linspace(0, 1, 50))
    assert (np.diff(got) >= 0).all()
    assert ((got > 0) & (got < 1)).all()
    assert one.chances_.size == one.knots_.size <= len(set(x))


def test_isotonic_at_50_labels_has_a_log_loss_near_platts_on_new_data():
    """Without shrinking, blocks of 0 and 1 make it infinite on new labels."""
    rng = np.random.default_rng(13)
    losses = np.empty((30, 3))
    for row in losses:
        z, new = logits(rng, 50), logits(rng, 500)
        y, truth = draw(rng, expit(z)), draw(rng, expit(new))
        for place, kind in enumerate((Isotonic(), Platt(), Isotonic(strength=1e-9))):
            p = right(kind.fit(expit(z), y), expit(new))
            row[place] = -(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean()
    shrunk, platt, bare = losses.mean(axis=0)
    assert np.isfinite(losses).all()
    assert shrunk < platt + 0.06 < bare


def test_a_level_is_drawn_to_the_base_rate_when_all_levels_share_it():
    rng = np.random.default_rng(14)
    x = rng.integers(0, 11, 400) / 10
    one = Levels().fit(x, draw(rng, np.full(400, 0.7)))
    assert one.trend_ == "base"
    assert np.ptp(one.chances_) < 0.1


def test_levels_that_lie_on_a_line_are_drawn_to_it():
    rng = np.random.default_rng(15)
    x = rng.integers(0, 11, 1000) / 10
    truth = expit(4 * x - 2)
    one = Levels().fit(x, draw(rng, truth))
    assert one.trend_ == "linear"
    assert np.abs(right(one, x) - truth).max() < 0.08


def test_levels_that_follow_no_line_keep_their_own_rates():
    rng = np.random.default_rng(16)
    rates = np.array([0.9, 0.1, 0.8, 0.2, 0.95])
    place = rng.integers(0, 5, 2000)
    one = Levels().fit(place / 4, draw(rng, rates[place]))
    assert one.strength_ < 20
    assert one.chances_ == pytest.approx(rates, abs=0.05)


def test_a_rare_level_is_shrunk_more_than_a_common_one():
    x = [0.5] * 100 + [0.9] * 100 + [0.7] * 2
    y = [0] * 60 + [1] * 40 + [0] * 10 + [1] * 90 + [0, 0]
    one = Levels().fit(x, y)
    assert one.levels_.tolist() == [0.5, 0.7, 0.9]
    assert one.chances_[[0, 2]] == pytest.approx([0.4, 0.9], abs=0.1)
    assert one.chances_[1] > 0.2


def test_levels_beat_their_own_raw_rates_on_new_data():
    rng = np.random.default_rng(17)
    gains = []
    for _ in range(40):
        rates = expit(rng.normal(1, 0.7, 11))
        place, new = rng.integers(0, 11, 60), rng.integers(0, 11, 500)
        y = draw(rng, rates[place])
        shrunk = right(Levels().fit(place / 10, y), new / 10)
        raw = np.array(
            [
                y[place == level].mean() if (place == level).any() else y.mean()
                for level in range(11)
            ]
        )
        gains.append(((raw[new] - rates[new]) ** 2 - (shrunk - rates[new]) ** 2).mean())
    assert np.mean(gains) > 3 * np.std(gains) / 40**0.5


def test_a_score_between_levels_is_interpolated_and_one_outside_takes_the_nearest():
    one = Levels().fit([0.2] * 5 + [0.8] * 5, [0, 0, 1, 0, 0, 1, 1, 0, 1, 1])
    low, high = one.chances_
    assert right(one, [0.0, 0.5, 1.0]) == pytest.approx([low, (low + high) / 2, high])


def test_more_than_fifty_levels_are_refused():
    x = np.arange(51) / 51
    with pytest.raises(RefusedError, match="levels: 51 distinct scores, at most 50"):
        Levels().fit(x, x > 0.5)
    assert Levels().fit(x[:50], x[:50] > 0.5).levels_.size == 50
