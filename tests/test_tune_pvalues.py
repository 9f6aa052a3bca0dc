"""The p-values behind certificates: exact where theory is, elsewhere never too small."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.errors import UsageError
from poise.tune.pvalues import betting, binomial, hoeffding_bentkus

LEVELS = (0.01, 0.05, 0.1, 0.2, 0.5)
DRAWS = 2000


def under(p: np.ndarray) -> None:
    """That p is at most u no more often than u, up to three Monte-Carlo standard errors."""
    for level in LEVELS:
        slack = 3 * math.sqrt(level * (1 - level) / p.size)
        assert (p <= level).mean() <= level + slack, level


@pytest.mark.parametrize("bound", [0.01, 0.3, 0.5, 0.9])
def test_the_binomial_tail_is_what_counting_all_outcomes_gives(bound: float) -> None:
    n = 9
    for errors in range(n + 1):
        total = sum(
            math.prod(bound if wrong else 1 - bound for wrong in outcome)
            for outcome in itertools.product((0, 1), repeat=n)
            if sum(outcome) <= errors
        )
        assert binomial(errors, n, bound) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("bound", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("n", [1, 20, 300])
def test_the_binomial_p_is_exact_at_the_bound(n: int, bound: float) -> None:
    """P(p <= u) computed, not simulated: at most u, and equal to u at each value that p takes."""
    from scipy.stats import binom

    p = np.array([binomial(k, n, bound) for k in range(n + 1)])
    chance = binom.pmf(np.arange(n + 1), n, bound)
    for value in p[p < 1]:
        assert chance[p <= value].sum() == pytest.approx(value, abs=1e-12)


def test_no_row_certifies_nothing() -> None:
    assert binomial(0, 0, 0.1) == 1


WORST = {
    "0 or 1": lambda rng, shape, mean: rng.random(shape) < mean,
    "never varies": lambda rng, shape, mean: np.full(shape, mean),
    "rarely all, else nearly nothing": lambda rng, shape, mean: np.where(
        rng.random(shape) < mean / 2, 1, mean / 2 / (1 - mean / 2)
    ),
    "thirds": lambda rng, shape, mean: rng.binomial(3, mean, shape) / 3,
    "a question's own rate": lambda rng, shape, mean: (
        rng.binomial(10, np.clip(rng.beta(mean / 2, (1 - mean) / 2, shape), 0, 1)) / 10
    ),
}


@pytest.mark.parametrize("name", WORST)
@pytest.mark.parametrize(("n", "bound"), [(40, 0.1), (300, 0.02)])
def test_fractional_p_values_are_never_too_small_at_the_bound(
    name: str, n: int, bound: float
) -> None:
    rng = np.random.default_rng(len(name) + n)
    rows = np.asarray(WORST[name](rng, (DRAWS, n), bound), float)
    under(np.array([hoeffding_bentkus(row, bound) for row in rows]))
    under(np.array([betting(row - bound, 1 - bound, delta=0.1) for row in rows]))


@pytest.mark.parametrize("start", [[], [-0.02] * 50, [0.98] * 5])
def test_earlier_rows_move_the_bets_and_keep_p_valid(start: list[float]) -> None:
    rng = np.random.default_rng(1)
    rows = (rng.random((DRAWS, 200)) < 0.02) - 0.02
    under(np.array([betting(row, 0.98, delta=0.1, start=start) for row in rows]))


def test_net_loss_p_is_never_too_small_on_its_two_sides() -> None:
    """Losses and gains that cancel up to the bound, in [-1, 1]."""
    rng = np.random.default_rng(2)
    bound, gain = 0.01, 0.04
    draw = rng.random((DRAWS, 300))
    rows = np.where(draw < gain, -1.0, np.where(draw < 2 * gain + bound, 1.0, 0.0)) - bound
    under(np.array([betting(row, 1 - bound, delta=0.1) for row in rows]))


def test_selective_p_is_never_too_small_however_answering_and_error_hang_together() -> None:
    rng = np.random.default_rng(3)
    bound = 0.1
    for answered in (0.05, 0.9):
        given = rng.random((DRAWS, 150)) < answered
        wrong = rng.random((DRAWS, 150)) < bound
        rows = given * (wrong - bound)
        under(np.array([betting(row, 1 - bound, delta=0.1) for row in rows]))
        counted = zip((given & wrong).sum(1), given.sum(1), strict=True)
        under(np.array([binomial(int(k), int(n), bound) for k, n in counted]))


def test_spend_p_is_never_too_small_with_a_long_tail() -> None:
    rng = np.random.default_rng(4)
    rows = np.where(rng.random((DRAWS, 150)) < 0.05, 40, 1) - 2.95
    under(np.array([betting(row, 40 - 2.95, delta=0.1) for row in rows]))


def test_a_p_that_is_looked_at_again_and_again_is_caught_certifying_what_is_false() -> None:
    """A negative control: stop when it certifies. None of the p-values survives that."""
    rows = np.random.default_rng(5).random((400, 300)) < 0.05
    looks = range(30, 301, 5)
    exact = [min(binomial(int(row[:n].sum()), n, 0.05) for n in looks) for row in rows]
    assert np.mean(np.array(exact) <= 0.1) > 0.2
    bets = [min(betting(row[:n] - 0.05, 0.95, delta=0.1) for n in looks) for row in rows]
    with pytest.raises(AssertionError):
        under(np.array(bets))


def test_rows_that_answer_nothing_certify_nothing() -> None:
    assert betting(np.zeros(500), 0.9, delta=0.1) == 1


def test_without_an_error_each_p_certifies_from_nearly_as_few_questions() -> None:
    def least(p) -> int:
        return next(n for n in range(1, 2000) if p(n) <= 0.1)

    assert [least(lambda n, a=a: binomial(0, n, a)) for a in (0.02, 0.01, 0.005)] == [114, 230, 460]
    assert least(lambda n: hoeffding_bentkus(np.zeros(n), 0.02)) == 114
    assert least(lambda n: betting(np.full(n, -0.02), 0.98, delta=0.1, start=[-0.02] * 114)) < 130


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=40),
    st.floats(0.01, 0.9),
    st.floats(0.01, 0.9),
)
def test_p_lies_in_0_to_1_and_a_looser_bound_never_has_a_larger_one(
    rows: list[float], one: float, other: float
) -> None:
    tight, loose = sorted((one, other))
    found = [hoeffding_bentkus(rows, bound) for bound in (tight, loose)]
    assert 0 <= found[1] <= found[0] <= 1
    assert 0 <= betting(np.array(rows) - tight, 1 - tight, delta=0.1) <= 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: binomial(3, 2, 0.1), "errors=3 of n=2"),
        (lambda: binomial(0, 2, 1.0), "bound=1.0"),
        (lambda: hoeffding_bentkus([], 0.1), "at least one row"),
        (lambda: hoeffding_bentkus([1.5], 0.1), "from 0 to 1"),
        (lambda: betting([0.5], 0.4, delta=0.1), "most must bound it"),
        (lambda: betting([np.nan], 1, delta=0.1), "finite"),
        (lambda: betting([0.0], 1, delta=0), "delta=0"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(call, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()


@pytest.mark.filterwarnings("ignore")
def test_mapie_agrees() -> None:
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value as oracle

    for n, bound in ((50, 0.1), (400, 0.02)):
        means = np.array([0.25, 0.5, 1, 2]) * bound
        theirs = oracle(means, n, bound)[:, 0]
        ours = [hoeffding_bentkus(np.full(n, mean), bound) for mean in means]
        assert ours == pytest.approx(np.minimum(theirs, 1), rel=1e-9)
        errors = np.arange(6)
        exact = oracle(errors / n, n, bound, binary=True)[:, 0]
        for k, theirs_k in zip(errors, exact, strict=True):
            # Theirs takes Hoeffding's where that is smaller, which a binomial tail never is.
            assert binomial(int(k), n, bound) == pytest.approx(theirs_k, rel=1e-9)
