"""The weighted votes against plain Python, scorio, and what they turn into at their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scorio.aggregate import (
    best_of_n,
    cges_vote,
    rank_weighted_vote,
    softmax_weighted_vote,
    weighted_majority_vote,
)

from poise.errors import UsageError
from poise.policies import Confident
from poise.types import Draw, State
from poise.votes import (
    BestOfN,
    Borda,
    CgesAnswer,
    FirstConfident,
    Majority,
    Softmax,
    Weighted,
    parse_vote,
)


def drawn(text, *shares, name="p_true"):
    """``"AAB-"``: one letter a sample, - for an unreadable one, and its confidences."""
    seen = list(dict.fromkeys(text.replace("-", "")))
    clusters = tuple(None if letter == "-" else seen.index(letter) for letter in text)
    counts = tuple(text.count(letter) for letter in seen)
    return State(clusters, counts, tuple(seen), columns={name: shares})


def elected(vote, text, *shares, name="p_true"):
    state = drawn(text, *shares, name=name)
    winner = vote.elect(state)
    return None if winner is None else state.answers[winner]


SCORIO = [
    (Weighted(), lambda a, s: weighted_majority_vote(a, s, aggregate="sum")),
    (Softmax(1.0), lambda a, s: softmax_weighted_vote(a, s, temperature=1.0)),
    (Softmax(0.05), lambda a, s: softmax_weighted_vote(a, s, temperature=0.05)),
    (Borda(0.5), lambda a, s: rank_weighted_vote(a, s, p=0.5)),
    (Borda(2.0), lambda a, s: rank_weighted_vote(a, s, p=2.0)),
    (BestOfN(), best_of_n),
    (CgesAnswer(), cges_vote),
]


@pytest.mark.parametrize(("vote", "theirs"), SCORIO, ids=lambda each: repr(each)[:24])
def test_scorio_elects_the_same(vote, theirs):
    rng = np.random.default_rng(2)
    unlike = 0
    for _ in range(400):
        n = int(rng.integers(1, 14))
        text = "".join(rng.choice(list("AAABBBCD-"), n))
        shares = rng.uniform(0.05, 0.95, n).tolist()
        expected = theirs([None if a == "-" else a for a in text], shares)
        assert elected(vote, text, *shares) == expected, (text, shares)
        unlike += expected != elected(Majority(), text, *shares)
    assert unlike > 10  # the cases tell the vote from the majority


ROWS = st.lists(
    st.tuples(st.sampled_from("ABC-"), st.none() | st.sampled_from([0, 0.125, 0.25, 0.5, 1])),
    min_size=1,
    max_size=9,
)


def weights_of(vote, weighed):
    """The definitions in plain Python, for the samples that have an answer and a confidence."""
    shares = [share for _, share in weighed]
    match vote:
        case Weighted():
            return shares
        case BestOfN():
            return [float(place == shares.index(max(shares))) for place in range(len(shares))]
        case Softmax(temperature):
            return [math.exp(share / temperature) for share in shares]
        case Borda(power):
            behind = sorted(range(len(shares)), key=lambda place: (-shares[place], place))
            return [(len(shares) - behind.index(p)) ** power for p in range(len(shares))]
        case FirstConfident(threshold):
            sure = [share >= threshold for share in shares]
            if any(sure):
                return [float(place == sure.index(True)) for place in range(len(shares))]
            return shares
    raise AssertionError


@pytest.mark.parametrize(
    "vote", [Weighted(), BestOfN(), Softmax(0.5), Borda(1.0), FirstConfident(0.5)], ids=repr
)
@settings(deadline=None)
@given(rows=ROWS)
def test_the_winner_has_the_greatest_weight_by_definition(vote, rows):
    weighed = [(letter, share) for letter, share in rows if letter != "-" and share is not None]
    readable = [letter for letter, _ in rows if letter != "-"]
    winner = elected(vote, "".join(a for a, _ in rows), *(share for _, share in rows))
    if not weighed:
        assert winner == (max(readable, key=readable.count) if readable else None)
        return
    sums: dict[str, float] = {}
    for (letter, _), weight in zip(weighed, weights_of(vote, weighed), strict=True):
        sums[letter] = sums.get(letter, 0) + weight
    best = max(sums.values())
    assert sums[winner] == pytest.approx(best)
    level = [letter for letter in dict.fromkeys(readable) if sums.get(letter) == best]
    if isinstance(vote, Weighted | BestOfN | Borda):  # sums without rounding
        assert winner == level[0]


def test_an_answer_without_a_confidence_cannot_win_by_weight():
    assert elected(Weighted(), "ABB", 0.0, None, None) == "A"
    assert elected(BestOfN(), "AAB", None, None, 0.0) == "B"
    assert elected(Softmax(), "AAB", None, None, 0.1) == "B"
    assert elected(CgesAnswer(), "AAB", None, None, 0.1) == "B"


def test_temperature_leads_from_the_surest_sample_to_the_majority():
    case = "BAAAB", 0.9, 0.5, 0.4, 0.45, 0.1
    assert elected(Softmax(1e-6), *case) == elected(BestOfN(), *case) == "B"
    assert elected(Softmax(1e6), *case) == elected(Majority(), *case) == "A"


def test_power_leads_from_the_majority_to_the_surest_sample():
    case = "BAAAB", 0.9, 0.5, 0.4, 0.45, 0.1
    assert elected(Borda(50), *case) == "B"
    assert elected(Borda(0), *case) == "A"


@given(n=st.integers(2, 400), power=st.sampled_from([0.0, 0.5, 50.0]))
def test_ranks_stay_finite_however_steep(n, power):
    shares = np.linspace(0, 1, n)[None]
    table = np.arange(n)[None]
    winner = Borda(power).elect_all(table, np.array([n]), {"p_true": shares})
    assert winner.tolist() == [0 if power == 0 else n - 1]


def test_of_many_equal_confidences_the_first_drawn_ranks_first():
    rng = np.random.default_rng(4)
    shares = rng.choice([0.25, 0.5, 0.75], (50, 200))
    codes, ends = np.tile(np.arange(200), (50, 1)), np.full(50, 200)
    got = Borda(1.0).elect_all(codes, ends, {"p_true": shares})
    assert got.tolist() == shares.argmax(axis=1).tolist()


def test_log_probabilities_weigh_through_exp_and_rank_as_they_are():
    deep = "ABB", -700.0, -701.0, -701.0  # exp of these is next to nothing, and all order is kept
    assert elected(BestOfN("logprob_sum"), *deep, name="logprob_sum") == "A"
    assert elected(BestOfN("logprob_sum"), "AB", -2000.0, -1000.0, name="logprob_sum") == "B"
    assert elected(Weighted("logprob"), "ABB", -0.1, -1.0, -1.0, name="logprob") == "A"
    assert elected(Weighted("logprob"), "ABB", -0.5, -1.0, -1.0, name="logprob") == "B"


def test_a_softmax_far_below_the_greatest_is_no_weight_and_no_warning():
    assert elected(Softmax(1e-6, "stored:x"), "AB", -1e305, 1e305, name="stored:x") == "B"


@settings(deadline=None)
@given(rows=ROWS, threshold=st.sampled_from([0.25, 0.5, 1.0]))
def test_where_the_confident_rule_stops_its_vote_gives_that_sample_s_answer(rows, threshold):
    rule, vote = Confident(threshold), FirstConfident(threshold)
    for n in range(1, len(rows) + 1):
        text = "".join(letter for letter, _ in rows[:n])
        shares = [share for _, share in rows[:n]]
        if not isinstance(rule.decide(drawn(text, *shares)), Draw):
            assert elected(vote, text, *shares) == text[-1]
            return
    assert elected(vote, text, *shares) == elected(Weighted(), text, *shares)


@pytest.mark.parametrize(
    ("text", "vote"),
    [
        ("majority", Majority()),
        ("weighted:confidence=logprob", Weighted("logprob")),
        ("softmax:temperature=0.5,confidence=p_true", Softmax(0.5)),
        (" borda: power = 1 ", Borda(1.0)),
        ("best_of_n:confidence=stored:reward", BestOfN("stored:reward")),
        ("confident:threshold=0.8", FirstConfident(0.8)),
        ("cges:confidence=stated", CgesAnswer("stated")),
    ],
)
def test_a_vote_is_read_from_its_text(text, vote):
    assert parse_vote(text) == vote


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plurality", "there is no vote 'plurality'; choose from best_of_n, borda"),
        ("majority:n=4", "'n=4' is not one of its parameters; it has none"),
        ("softmax:t=1", "write temperature=1.0, confidence=p_true"),
        ("softmax:temperature=0", "temperature=0.0: must be a number from 1e-06 to 1e+06"),
        ("softmax:temperature=warm", "temperature must be a number, not 'warm'"),
        ("borda:power=-1", "power=-1.0: must be a number from 0 to 50"),
        ("borda:power=nan", "power=nan"),
        ("confident:threshold=2", "threshold=2.0: must be a number from 0 to 1"),
        ("weighted:confidence=", "must be the name of a signal"),
        ("weighted:confidence=top_margin", "it has no bounds"),
    ],
)
def test_a_vote_that_does_not_exist_is_refused_naming_what_does(text, said):
    with pytest.raises(UsageError) as refused:
        parse_vote(text)
    assert str(refused.value).startswith(f"vote {text!r}: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
