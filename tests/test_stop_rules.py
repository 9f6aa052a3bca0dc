"""The stop rules against exact arithmetic and published numbers, and the policies people write."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc

from poise.errors import UsageError
from poise.policies import (
    Abstain,
    Answer,
    Beta,
    Cges,
    Confident,
    Dirichlet,
    Entropy,
    Fixed,
    Policy,
    Ratio,
    WeightedRatio,
    Window,
    parse_exit,
    parse_policy,
)
from poise.types import Draw, State, Stop, StopReason


def counted(*counts):
    clusters = (cluster for cluster, votes in enumerate(counts) for _ in range(votes))
    return State(tuple(clusters), counts, tuple(map(str, range(len(counts)))))


def drawn(text):
    """``"AAB-"``: one letter a sample, in order, - for an unreadable one."""
    seen = list(dict.fromkeys(text.replace("-", "")))
    clusters = tuple(None if letter == "-" else seen.index(letter) for letter in text)
    return State(clusters, tuple(text.count(letter) for letter in seen), tuple(seen))


def lead(a, b):
    """P(leader's share > 1/2) for a and b votes, as a fraction."""
    return 1 - Fraction(sum(comb(a + b + 1, j) for j in range(b + 1)), 2 ** (a + b + 1))


ON_A_BOUNDARY = sorted({float(lead(a, b)) for a in range(1, 9) for b in range(a)} - {1.0})
GRID = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99, 0.999, 0.99999, *ON_A_BOUNDARY]


def test_the_binomial_form_is_the_beta_tail():
    for a in range(61):
        for b in range(min(a, 60 - a) + 1):
            assert float(lead(a, b)) == pytest.approx(1 - betainc(a + 1, b + 1, 0.5), abs=1e-12)


@pytest.mark.parametrize("threshold", GRID)
def test_beta_is_sure_exactly_where_exact_arithmetic_says_so(threshold):
    rule = Beta(threshold, max_samples=60)
    for a in range(1, 61):
        for b in range(min(a, 60 - a) + 1):
            decision = rule.decide(counted(a, b))
            assert (decision == Stop(StopReason.SURE)) == (lead(a, b) >= Fraction(threshold)), (
                f"{a} votes against {b}"
            )


@pytest.mark.parametrize("threshold", [np.nextafter(0.9375, 0), 0.9375, np.nextafter(0.9375, 1)])
def test_beta_tells_neighbouring_floats_apart(threshold):
    sure = Beta(float(threshold)).decide(counted(3)) == Stop(StopReason.SURE)
    assert sure == (threshold <= 0.9375)


def test_beta_stays_exact_over_many_samples():
    rule = Beta(0.95, max_samples=20_000)
    for b in (100, 1_000, 9_000):
        needed = b + next(
            gap for gap in range(1, 2_000) if betainc(b + gap + 1, b + 1, 0.5) <= 1 - 0.95
        )
        assert rule.decide(counted(needed, b)) == Stop(StopReason.SURE)
        assert rule.decide(counted(needed - 1, b)) == Draw(1)


def test_beta_reaches_the_published_stops():
    rule = Beta()
    assert rule.decide(drawn("AAA")) == Draw(1)
    assert rule.decide(drawn("AAAA")) == Stop(StopReason.SURE)
    assert rule.decide(drawn("AAABAA")) == Draw(1)
    assert rule.decide(drawn("AAABAAA")) == Stop(StopReason.SURE)


def test_beta_draws_what_the_leader_lacks():
    rule = Beta()
    assert rule.decide(State()) == Draw(4)
    assert rule.decide(drawn("A")) == Draw(3)
    assert rule.decide(drawn("AB")) == Draw(5)
    assert rule.decide(drawn("ABC")) == Draw(5)
    assert rule.decide(counted(13, 13, 13)) == Draw(1)


def test_beta_without_a_single_readable_answer_is_never_sure():
    assert Beta(0.5).decide(drawn("---")) == Draw(1)
    assert Beta(0.5, max_samples=3).decide(drawn("---")) == Stop(StopReason.BUDGET)


def test_a_sure_last_sample_is_sure_and_not_out_of_budget():
    assert Beta(max_samples=4).decide(drawn("AAAA")) == Stop(StopReason.SURE)
    assert Beta(max_samples=4).decide(drawn("AABA")) == Stop(StopReason.BUDGET)
    assert Beta(max_samples=4).decide(drawn("ABABABAB")) == Stop(StopReason.BUDGET)


def test_unreadable_samples_count_as_drawn_and_not_as_votes():
    assert Beta().decide(drawn("A-A-A-")) == Draw(1)
    assert Beta().decide(drawn("-A-AA-A")) == Stop(StopReason.SURE)
    assert Window(2).decide(drawn("A-")) == Draw(2)
    assert Window(2).decide(drawn("--")) == Draw(2)
    assert Fixed(2).decide(drawn("--")) == Stop(StopReason.FIXED)


def test_fixed_draws_all_at_once():
    assert Fixed(16).decide(State()) == Draw(16)
    assert Fixed(16).decide(drawn("AAAA")) == Draw(12)
    assert Fixed(4).decide(drawn("AAAA")) == Stop(StopReason.FIXED)
    assert Fixed(1).decide(drawn("A")) == Stop(StopReason.SINGLE)


def test_windows_do_not_overlap():
    rule = Window(3, max_samples=9)
    assert rule.decide(drawn("BAA")) == Draw(3)
    assert rule.decide(drawn("BAAABC")) == Draw(3)
    assert rule.decide(drawn("BAACCC")) == Stop(StopReason.CONSENSUS)
    assert rule.stops(np.array([[0, 1, 1, 1, 0, 2, 0, 0, 0]])).tolist() == [9]


def test_a_broken_window_is_drawn_through_to_the_end_of_the_next():
    rule = Window(5)
    assert rule.decide(State()) == Draw(5)
    assert rule.decide(drawn("AA")) == Draw(3)
    assert rule.decide(drawn("AB")) == Draw(8)
    assert rule.decide(drawn("A-")) == Draw(8)
    assert Window(5, max_samples=7).decide(drawn("AB")) == Draw(5)


def test_a_rest_too_short_for_a_window_is_drawn_and_cannot_agree():
    rule = Window(3, max_samples=5)
    assert rule.decide(drawn("ABC")) == Draw(2)
    assert rule.decide(drawn("ABCCC")) == Stop(StopReason.BUDGET)
    assert rule.stops(np.array([[0, 1, 2, 2, 2, 2]])).tolist() == [5]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fixed(0),
        lambda: Fixed(-1),
        lambda: Fixed(10**9),
        lambda: Fixed(2.5),
        lambda: Fixed(True),
        lambda: Fixed("16"),
        lambda: Beta(0.49),
        lambda: Beta(1.0),
        lambda: Beta(float("nan")),
        lambda: Beta(float("inf")),
        lambda: Beta("0.9"),
        lambda: Beta(max_samples=100_001),
        lambda: Window(0),
        lambda: Window(5, max_samples=4),
        lambda: Window(100_001, max_samples=100_001),
    ],
)
def test_absurd_parameters_are_refused_with_their_name(make):
    with pytest.raises(UsageError, match=r"^(max_samples|threshold|width)="):
        make()


def test_numbers_from_a_sweep_with_numpy_are_plain_numbers_afterwards():
    assert (
        repr(Beta(np.float64(0.9), max_samples=np.int64(8))) == "Beta(threshold=0.9, max_samples=8)"
    )
    assert repr(Window(np.int32(3), np.int16(9))) == "Window(width=3, max_samples=9)"


@pytest.mark.parametrize("rule", [Beta(), Window()], ids=repr)
@pytest.mark.parametrize("ids", [[0, 4, 0, 0], [0, -2, 0, 0]])
def test_ids_that_are_not_numbered_by_first_appearance_are_refused(rule, ids):
    with pytest.raises(UsageError, match="by first appearance"):
        rule.stops(np.array([ids]))


@pytest.mark.parametrize("rule", [Fixed(), Beta(), Window(), Entropy(), Ratio()], ids=repr)
def test_memory_beyond_the_prefixes_stays_bounded(rule):
    table = np.zeros((400_000, 12), np.int8)
    table[:, 1::2] = 1
    tracemalloc.start()
    stops = rule.stops(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - stops.nbytes < 4_000_000


# -- policies as people write them ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("beta", Beta()),
        ("fixed", Fixed()),
        ("window", Window()),
        (" beta:threshold=0.9 ", Beta(0.9)),
        ("beta: threshold = 0.9 , max_samples = 12", Beta(0.9, 12)),
        ("window:width=4,max_samples=20", Window(4, 20)),
        ("fixed:n=16", Fixed(16)),
        ("dirichlet:threshold=0.9", Dirichlet(0.9)),
        ("entropy:n=8", Entropy(max_samples=8)),
        ("ratio:threshold=1", Ratio(1.0)),
        ("confident", Confident(0.9, "p_true")),
        ("confident:confidence=logprob", Confident(confidence="logprob")),
        ("confident:threshold=0.8,confidence=stored:sure", Confident(0.8, "stored:sure")),
        ("weighted_ratio:confidence=stated,n=9", WeightedRatio(0.8, "stated", 9)),
        ("cges:other=no", Cges(other=False)),
        ("cges:other=YES,threshold=0.9", Cges(0.9)),
    ],
)
def test_a_policy_is_read_from_its_text(text, rule):
    assert parse_policy(text) == Policy(rule)


@given(
    st.one_of(
        st.builds(Fixed, st.integers(1, 99)),
        st.builds(Beta, st.floats(0.5, 0.999999), st.integers(1, 99)),
        st.builds(Window, st.integers(1, 9), st.integers(9, 99)),
    )
)
def test_every_rule_can_be_written_and_read_back(rule):
    name, inside = repr(rule)[:-1].split("(")
    assert parse_policy(f"{name.lower()}:{inside}").stop == rule


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("beta + answer", Policy(Beta(), Answer())),
        ("beta+abstain", Policy(Beta(), Abstain())),
        ("fixed:n=4 + abstain:threshold=0.8", Policy(Fixed(4), Abstain(0.8))),
    ],
)
def test_an_exit_rule_stands_behind_a_plus(text, policy):
    assert parse_policy(text) == policy


def test_an_exit_rule_is_read_from_its_text():
    assert parse_exit("answer") == Answer()
    assert parse_exit("abstain:threshold=0.8") == Abstain(0.8)
    for text, said in [
        ("abstein", "there is no exit rule 'abstein'; choose from abstain, answer"),
        ("abstain:bar=0.8", "write threshold=0.5"),
        ("abstain:threshold=80", "threshold=80.0: must be at least 0 and at most 1"),
        ("answer:threshold=0.8", "it has none"),
    ]:
        with pytest.raises(UsageError) as refused:
            parse_exit(text)
        assert str(refused.value).startswith(f"exit rule {text!r}: ")
        assert said in str(refused.value)


def test_max_samples_from_outside_replaces_the_default_and_only_lowers_what_is_stated():
    assert parse_policy("beta", 64).stop == Beta(max_samples=64)
    assert parse_policy("beta:max_samples=40", 64).stop == Beta(max_samples=40)
    assert parse_policy("beta:max_samples=40", 10).stop == Beta(max_samples=10)
    with pytest.raises(UsageError, match="max_samples=0"):
        parse_policy("fixed:n=16", 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "choose from beta, cges, confident"),
        ("bata", "no stop rule 'bata'; choose from beta, cges, confident"),
        ("Beta", "choose from beta, cges, confident"),
        ("beta:", "write threshold=0.95, max_samples=40"),
        ("beta:thresh=0.9", "'thresh=0.9' is not one of its parameters; write threshold=0.95"),
        ("beta:threshold", "write threshold=0.95"),
        ("beta:threshold=high", "threshold must be a number, not 'high'"),
        ("beta:threshold=", "threshold must be a number, not ''"),
        ("fixed:n=2.5", "max_samples must be a whole number, not '2.5'"),
        ("fixed:n=3,max_samples=4", "max_samples is given twice"),
        ("fixed:n=0", "max_samples=0: must be from 1 to 100000"),
        ("beta:threshold=nan", "at least 0.5 and below 1"),
        ("window:width=9,n=4", "no window fits into max_samples=4"),
        ("dirichlet:n=2000", "max_samples=2000: must be from 1 to 1000"),
        ("entropy:threshold=1", "threshold=1.0: must be at least 0 and below 1"),
        ("confident:confidence=", "must be the name of a signal of single samples"),
        ("cges:other=maybe", "other must be yes or no, not 'maybe'"),
        ("cges:foo=1", "write threshold=0.95, confidence=p_true, other=yes, max_samples=40"),
        ("beta + nothing", "there is no exit rule 'nothing'; choose from abstain, answer"),
        ("beta +", "there is no exit rule ''"),
    ],
)
def test_a_policy_that_does_not_exist_is_refused_naming_what_does(text, said):
    with pytest.raises(UsageError) as refused:
        parse_policy(text)
    assert str(refused.value).startswith(f"policy {text!r}: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
