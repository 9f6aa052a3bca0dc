"""The published stop rules against exact arithmetic, their authors' code, and their known flaws."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from adaptive_consistency import (
    DirichletStoppingCriteria,
    EntropyStoppingCriteria,
    MajorityStoppingCriteria,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scorio.aggregate import adaptive_consistency_dirichlet_stop, cges_stop

from poise.errors import UsageError
from poise.policies import (
    Abstain,
    Beta,
    Cges,
    Confident,
    Dirichlet,
    Entropy,
    Ratio,
    WeightedRatio,
)
from poise.policies.dirichlet import leads
from poise.types import Draw, State, Stop, StopReason

SURE, FUTILE = Stop(StopReason.SURE), Stop(StopReason.FUTILE)
CONSENSUS, BUDGET = Stop(StopReason.CONSENSUS), Stop(StopReason.BUDGET)


def counted(*counts):
    clusters = (cluster for cluster, votes in enumerate(counts) for _ in range(votes))
    return State(tuple(clusters), counts, tuple(map(str, range(len(counts)))))


def drawn(text, *shares, name="p_true"):
    """``"AAB-"``: one letter a sample, - for an unreadable one, and its confidences."""
    seen = list(dict.fromkeys(text.replace("-", "")))
    clusters = tuple(None if letter == "-" else seen.index(letter) for letter in text)
    counts = tuple(text.count(letter) for letter in seen)
    return State(clusters, counts, tuple(seen), columns={name: shares})


def answers(counts):
    return [letter for letter, votes in zip("abcdefgh", counts, strict=False) for _ in range(votes)]


def partitions(votes, parts, most=None):
    """Every way to part so many votes among at most so many answers, most first."""
    if votes == 0:
        yield ()
    elif parts:
        for first in range(min(votes, most or votes), 0, -1):
            for rest in partitions(votes - first, parts - 1, first):
                yield (first, *rest)


def exactly_leads(counts):
    """P that the first of Dirichlet(counts + 1) shares is greatest, as a fraction.

    The distribution functions of Gamma(c + 1), whole c, are 1 - exp(-x) (1 + x + ... + x^c / c!):
    multiplied out, the integral is a sum of factorials.
    """
    first, *others = counts
    terms = {(0, 0): Fraction(1)}  # (times exp(-x), power of x) -> coefficient
    for votes in others:
        grown: dict[tuple[int, int], Fraction] = {}
        for (decays, power), coefficient in terms.items():
            key = decays, power
            grown[key] = grown.get(key, Fraction(0)) + coefficient
            for more in range(votes + 1):
                key = decays + 1, power + more
                taken = coefficient / math.factorial(more)
                grown[key] = grown.get(key, Fraction(0)) - taken
        terms = grown
    return sum(
        coefficient
        * Fraction(
            math.factorial(first + power),
            math.factorial(first) * (decays + 1) ** (first + power + 1),
        )
        for (decays, power), coefficient in terms.items()
    )


def lead_of(counts, max_samples=40):
    return float(leads(np.array([[*counts, *[0] * (5 - len(counts))]]), max_samples)[0])


# -- dirichlet ------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_samples", [40, 1_000])
def test_the_integral_is_the_exact_fraction_to_twelve_places(max_samples):
    cases = [c for votes in range(3, 11) for c in partitions(votes, 5) if len(c) >= 3]
    cases += [(13, 13, 13), (12, 7, 7, 7, 7), (30, 4, 3, 2, 1), (38, 1, 1)]
    for counts in cases:
        exact = float(exactly_leads(counts))
        assert abs(lead_of(counts, max_samples) - exact) < 1e-12, counts


def test_the_integral_holds_for_many_votes():
    for counts in [(300, 290, 200), (350, 340, 20), (600, 1, 1)]:
        assert abs(lead_of(counts, 1_000) - float(exactly_leads(counts))) < 1e-12
    assert lead_of((333, 333, 333), 1_000) == pytest.approx(1 / 3, abs=1e-12)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_below_three_answers_dirichlet_is_beta(threshold):
    for a in range(21):
        for b in range(min(a, 20 - a) + 1):
            state = counted(*(votes for votes in (a, b) if votes))
            assert Dirichlet(threshold, 20).decide(state) == Beta(threshold, 20).decide(state)


def test_dirichlet_stops_where_scorio_stops_on_up_to_five_answers():
    compared = 0
    for votes in (3, 7, 11, 14):
        for counts in partitions(votes, 5):
            _, p = adaptive_consistency_dirichlet_stop(answers(counts), return_prob=True)
            for threshold in (0.6, 0.8, 0.95):
                if abs(p - threshold) > 1e-9:
                    compared += 1
                    stops = Dirichlet(threshold).decide(counted(*counts)) == SURE
                    assert stops == (p >= threshold), (counts, p)
    assert compared > 300


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
def test_the_authors_own_quadrature_finds_the_same():
    """Their default draws random points, and fails with NumPy 2 (P -1: it never stops)."""
    theirs = DirichletStoppingCriteria(use_markov=False)
    for counts in [(5, 2, 1), (4, 3, 3), (8, 1, 1), (7, 5, 2), (6, 1, 1, 1)]:
        found = theirs.should_stop(answers(counts))["prob"]
        assert found == pytest.approx(lead_of(counts), abs=5e-4)


def test_dirichlet_does_not_see_the_sixth_answer():
    rule = Dirichlet(0.5)
    crowd = counted(6, 3, 3, 2, 2, 2, 2, 2)
    assert lead_of((6, 3, 3, 2, 2)) == pytest.approx(float(exactly_leads((6, 3, 3, 2, 2))))
    assert rule.decide(crowd) == rule.decide(counted(6, 3, 3, 2, 2))
    assert Dirichlet(lead_of((6, 3, 3, 2, 2))).decide(crowd) == SURE


def test_dirichlet_asks_for_the_votes_that_the_leader_lacks():
    rule = Dirichlet()
    assert rule.decide(State()) == Draw(4)
    lacking = next(more for more in range(1, 40) if exactly_leads((2 + more, 2, 1)) >= 0.95)
    assert rule.decide(counted(2, 2, 1)) == Draw(lacking)


# -- entropy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.4, 0.7501, 0.875, 0.97])
def test_entropy_and_ratio_stop_where_the_authors_code_stops(threshold):
    entropy, ratio = EntropyStoppingCriteria(threshold), MajorityStoppingCriteria(threshold)
    for votes in range(1, 15):
        for counts in partitions(votes, 6):
            state = counted(*counts)
            theirs = entropy.should_stop(answers(counts))
            if abs(theirs["prob"] - threshold) > 1e-9:
                stopped = Entropy(threshold).decide(state) == CONSENSUS
                assert stopped == bool(theirs["stop"]), counts
            theirs = ratio.should_stop(answers(counts))
            assert (Ratio(threshold).decide(state) == CONSENSUS) == bool(theirs["stop"]), counts


def test_entropy_is_exact_where_it_is_a_matter_of_powers_of_two():
    state = counted(4, 2, 1, 1)  # 1.75 bits of 2
    assert Entropy(0.875).decide(state) == CONSENSUS
    assert isinstance(Entropy(float(np.nextafter(0.875, 0))).decide(state), Draw)


def test_one_answer_counts_as_if_one_vote_were_against_it():
    assert Entropy().decide(counted(3)) == Draw(1)  # 3 to 1 has .811
    assert Entropy().decide(counted(4)) == CONSENSUS  # 4 to 1 has .722
    assert Entropy().decide(counted(3, 1)) == Draw(1)


def test_a_stray_answer_lets_entropy_end_a_dead_heat():
    """A flaw of the published definition: the number of answers seen is in the denominator."""
    rule = Entropy(max_samples=100)
    assert rule.decide(counted(20, 20)) == Draw(1)
    assert rule.decide(counted(20, 20, 1)) == CONSENSUS
    assert EntropyStoppingCriteria().should_stop(answers((20, 20, 1)))["stop"]


def test_entropy_looks_no_further_ahead_than_it_says():
    assert Entropy(0.0, max_samples=100).decide(counted(3, 2)) == Draw(17)
    assert Entropy(0.0, max_samples=10).decide(counted(3, 2)) == Draw(5)


# -- ratio ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.01, 0.8, 0.99, 1.0])
def test_two_first_samples_that_agree_stop_the_ratio_rules_whatever_the_threshold(threshold):
    assert Ratio(threshold).decide(counted(2)) == CONSENSUS
    unsure = drawn("AA", 0.01, 0.01)
    assert WeightedRatio(threshold).decide(unsure) == CONSENSUS
    assert isinstance(Beta().decide(counted(2)), Draw)


def test_a_single_vote_has_no_ratio():
    assert Ratio(0.1).decide(counted(1)) == Draw(1)
    assert Ratio(0.1).decide(drawn("A-")) == Draw(1)
    assert Ratio(0.1, max_samples=2).decide(drawn("A-")) == BUDGET


def test_four_of_five_reach_a_ratio_of_eight_tenths():
    assert Ratio(0.8).decide(counted(4, 1)) == CONSENSUS
    assert Ratio(0.8).decide(counted(3, 1)) == Draw(1)
    assert Ratio(0.8).decide(counted(5, 2)) == Draw(3)
    assert Ratio(1.0).decide(counted(5, 2)) == Draw(33)


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    share=st.fractions(0, 1, max_denominator=60),
)
def test_a_ratio_is_compared_as_the_number_that_was_written(counts, share):
    if sum(counts) >= 2:
        stopped = Ratio(float(share), max_samples=99).decide(counted(*counts)) == CONSENSUS
        assert stopped == (Fraction(max(counts), sum(counts)) >= share)


# -- confident ------------------------------------------------------------------------------------


def test_the_first_confident_sample_ends_sampling():
    rule = Confident(0.9)
    assert rule.decide(drawn("AB", 0.2, 0.89)) == Draw(1)
    assert rule.decide(drawn("ABA", 0.2, 0.89, 0.9)) == SURE
    assert rule.decide(drawn("-A", 0.99, None)) == Draw(1)
    assert Confident(0.9, max_samples=2).decide(drawn("AB", 0.2, 0.89)) == BUDGET
    assert Confident(0.9, max_samples=2).decide(drawn("AB", 0.2, 0.95)) == SURE


def test_a_missing_confidence_is_not_a_low_one():
    assert Confident(0.0).decide(drawn("A", None)) == Draw(1)
    assert Confident(0.0).decide(drawn("A", 0.0)) == SURE


def test_a_log_probability_is_read_as_a_probability():
    rule = Confident(0.5, "logprob")
    assert rule.decide(drawn("A", -0.7, name="logprob")) == Draw(1)  # .497
    assert rule.decide(drawn("A", -0.69, name="logprob")) == SURE  # .502


# -- weighted ratio -------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ABC-"), st.none() | st.integers(0, 8)), min_size=1, max_size=12
    ),
    threshold=st.sampled_from([0.25, 0.5, 0.625, 0.75, 1.0]),
)
def test_the_weighted_ratio_is_that_of_the_sums(rows, threshold):
    """Eighths add up exactly, so fractions say where the rule stops."""
    text = "".join(letter for letter, _ in rows)
    shares = [None if eighths is None else eighths / 8 for _, eighths in rows]
    mass: dict[str, Fraction] = {}
    weighed = [(a, Fraction(e, 8)) for a, e in rows if a != "-" and e is not None]
    for letter, share in weighed:
        mass[letter] = mass.get(letter, Fraction(0)) + share
    total = sum(mass.values())
    reached = len(weighed) >= 2 and total > 0 and max(mass.values()) / total >= threshold
    decision = WeightedRatio(threshold).decide(drawn(text, *shares))
    assert (decision == CONSENSUS) == reached


def test_the_weighted_ratio_asks_for_what_certain_samples_would_bring():
    rule = WeightedRatio(0.8)
    assert rule.decide(State(columns={"p_true": ()})) == Draw(2)
    assert rule.decide(drawn("AB", 0.5, 0.5)) == Draw(2)  # 2.5 of 3
    assert rule.decide(drawn("AB", 0.0, 0.0)) == Draw(1)
    assert rule.decide(drawn("A-", 0.5, 0.9)) == Draw(1)


# -- cges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [True, False])
def test_cges_stops_where_scorio_stops(other):
    rng = np.random.default_rng(11)
    stopped = 0
    for _ in range(600):
        n = int(rng.integers(1, 12))
        text = "".join(rng.choice(list("AAAABCD"), n))
        shares = rng.beta(*rng.choice([[2, 2], [6, 2], [1, 5]]), n).clip(0.01, 0.99).tolist()
        threshold = float(rng.choice([0.5, 0.8, 0.95]))
        stop, p = cges_stop(
            list(text), shares, threshold=threshold, include_other=other, return_prob=True
        )
        if abs(p - threshold) > 1e-9:
            stopped += stop
            found = Cges(threshold, other=other).decide(drawn(text, *shares))
            assert isinstance(found, Stop) == stop, (text, shares, p)
    assert 100 < stopped < 500


def test_cges_by_hand():
    assert Cges(0.9).decide(drawn("A", 0.9)) == SURE
    assert Cges(0.95).decide(drawn("A", 0.9)) == Draw(1)
    assert Cges(0.98).decide(drawn("AA", 0.9, 0.9)) == SURE  # .81 / (.81 + .01)
    assert Cges(0.99).decide(drawn("AA", 0.9, 0.9)) == Draw(1)
    # Two answers: .9 x .05, .05 x .9, .05 x .05 for OTHER.
    assert Cges(0.5).decide(drawn("AB", 0.9, 0.9)) == Draw(1)


def test_confidences_that_say_all_answers_are_wrong_are_futile():
    low = drawn("AA", 0.1, 0.2)
    assert Cges(0.95).decide(low) == FUTILE
    assert Cges(0.95, other=False).decide(low) == Draw(1)


def test_certainty_can_be_outweighed():
    assert Cges().decide(drawn("A", 1.0)) == SURE
    assert Cges().decide(drawn("AB", 1.0, 1.0)) == Draw(1)
    assert Cges().decide(drawn("ABB", 1.0, 1.0, 0.99)) == SURE
    assert Cges(other=False).decide(drawn("A", 0.0)) == Draw(1)


def test_a_sample_without_a_confidence_is_as_if_it_had_not_been_drawn():
    for rule in (Cges(0.9), WeightedRatio()):
        assert rule.decide(drawn("CA", None, 0.9)) == rule.decide(drawn("-A", None, 0.9))


# -- abstain --------------------------------------------------------------------------------------


def test_abstain_gives_no_answer_below_its_bar_or_without_a_number():
    state = counted(3)
    assert Abstain(0.8).decide(state, 0, 0.8) == "answer"
    assert Abstain(0.8).decide(state, 0, float(np.nextafter(0.8, 0))) == "abstain"
    assert Abstain(0.0).decide(state, 0, None) == "abstain"
    assert Abstain(0.0).decide(state, 0) == "abstain"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dirichlet(0.49),
        lambda: Dirichlet(1.0),
        lambda: Dirichlet(max_samples=1_001),
        lambda: Entropy(1.0),
        lambda: Entropy(-0.1),
        lambda: Entropy(float("nan")),
        lambda: Ratio(1.1),
        lambda: Ratio("0.8"),
        lambda: Ratio(True),
        lambda: Ratio(max_samples=0),
        lambda: Confident(1.1),
        lambda: Confident(confidence=""),
        lambda: Confident(confidence=0.9),
        lambda: Confident(confidence="top_margin"),
        lambda: WeightedRatio(float("nan")),
        lambda: WeightedRatio(confidence="top_margin"),
        lambda: Cges(0.4),
        lambda: Cges(other=1),
        lambda: Cges(confidence="top_margin"),
        lambda: Abstain(1.5),
        lambda: Abstain(None),
    ],
)
def test_absurd_parameters_are_refused_with_their_name(make):
    with pytest.raises(UsageError, match=r"^(max_samples|threshold|confidence|other)="):
        make()


def test_numbers_from_a_sweep_are_plain_numbers_afterwards():
    assert repr(Ratio(np.float64(0.5), np.int64(8))) == "Ratio(threshold=0.5, max_samples=8)"
    assert repr(Confident(1)) == "Confident(threshold=1.0, confidence='p_true', max_samples=40)"
    assert repr(Abstain(np.float32(0.5))) == "Abstain(threshold=0.5)"


def test_every_order_of_the_same_votes_stops_the_count_rules_alike():
    for rule in (Dirichlet(0.8), Entropy(), Ratio()):
        verdicts = {
            isinstance(rule.decide(drawn("".join(order))), Stop)
            for order in itertools.permutations("AAABBC")
        }
        assert len(verdicts) == 1
