"""Targets, the order of testing, the record of a certificate, and why there may be none."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.errors import InputError, RefusedError, UsageError
from poise.tune.certificate import Certificate
from poise.tune.refusal import refusal, without_error
from poise.tune.sequence import Step, certify, order, p_value
from poise.tune.target import Target, parse_target
from poise.tune.tried import Tried, counted_errors, estimate, excess, price, unit

LOSS = Target("loss", 0.05)


def tried(
    policy: str,
    wrong: float,
    samples: int,
    *,
    q: int = 400,
    orders: int = 1,
    answered: float = 1.0,
    seed: int = 0,
) -> Tried:
    """A policy that is wrong where majority is right on a share of the questions, at this price."""
    rng = np.random.default_rng([seed, len(policy), samples])
    given = rng.random((q, orders)) < answered
    right = given & (rng.random((q, orders)) >= wrong)
    return Tried(
        policy, right, given, np.full((q, orders), samples), np.ones((q, orders), bool), 40
    )


# -- targets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("loss<=0.01", Target("loss", 0.01)),
        (" Risk <= 5e-2 ", Target("risk", 0.05)),
        ("net<=-0.005", Target("net", -0.005)),
        ("spend<=4samples", Target("spend", 4.0)),
        ("spend<=4.5", Target("spend", 4.5)),
    ],
)
def test_a_target_is_read_as_written_and_written_as_read(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loss", "write loss<=0.01"),
        ("loss<0.01", "write loss<=0.01"),
        ("gain<=0.01", "there is loss, net, risk, spend"),
        ("loss<=0", "at least 1e-06 and below 1"),
        ("risk<=1", "below 1"),
        ("net<=-1", "above -1"),
        ("spend<=0.5", "at least 1 sample"),
        ("spend<=4tokens", "counted in samples"),
        ("loss<=0.01samples", "all else is a share"),
        ("loss<=1.2.3", "not a number"),
        ("spend<=1e999", "at least 1 sample"),
    ],
)
def test_a_target_that_makes_no_sense_is_a_usage_error(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_target(text)


# -- what a target measures ---------------------------------------------------------------------


def test_each_target_measures_what_it_says() -> None:
    one = Tried(
        "p",
        right=np.array([[True, False], [False, False], [True, True]]),
        answered=np.array([[True, True], [True, False], [True, True]]),
        samples=np.array([[2, 4], [6, 8], [1, 3]]),
        majority=np.array([[True, True], [True, True], [False, False]]),
        max_samples=10,
    )
    assert estimate(Target("loss", 0.1), one) == pytest.approx(3 / 6)
    assert estimate(Target("net", 0.1), one) == pytest.approx((3 - 2) / 6)
    assert estimate(Target("risk", 0.1), one) == pytest.approx(2 / 5)
    assert estimate(Target("spend", 3), one) == pytest.approx(4)
    assert excess(Target("loss", 0.1), one) == pytest.approx([0.4, 0.9, -0.1])
    assert excess(Target("net", 0.1), one) == pytest.approx([0.4, 0.9, -1.1])
    assert excess(Target("risk", 0.1), one) == pytest.approx([0.4, 0.45, -0.1])
    assert excess(Target("spend", 3), one) == pytest.approx([0, 4, -1])
    assert counted_errors(Target("loss", 0.1), one) == (1, 3)
    assert counted_errors(Target("risk", 0.1), one) == (1, 3)
    assert price(LOSS, one) == (0, 4)
    assert price(Target("risk", 0.1), one) == pytest.approx((1 / 6, 4))
    assert price(Target("spend", 3), one) == pytest.approx((0.5, 4))
    rows, bound = unit(Target("net", 0.1), one)
    assert rows == pytest.approx([0.75, 1, 0])
    assert bound == pytest.approx(0.55)


def test_a_question_nobody_answered_has_no_risk_and_certifies_nothing() -> None:
    silent = tried("silent", 0, 1, answered=0)
    target = Target("risk", 0.1)
    assert estimate(target, silent) is None
    for method in ("binomial", "betting", "hoeffding-bentkus"):
        assert p_value(target, silent, method, 0.1) == 1


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    ones = np.ones((3, 2), bool)
    with pytest.raises(UsageError, match=r"must be \(q, o\) each"):
        Tried("p", ones, ones, np.ones((3, 1), int), ones, 4)
    with pytest.raises(UsageError, match="not given cannot be right"):
        Tried("p", ones, ~ones, np.ones((3, 2), int), ones, 4)


# -- order and tests ----------------------------------------------------------------------------


def test_the_safest_comes_first_and_what_another_beats_twice_is_left_out() -> None:
    tuning = [
        tried("cheap", 0.04, 2),
        tried("safe", 0.0, 9),
        tried("dear and worse", 0.03, 12),
        tried("middle", 0.02, 5),
        tried("as safe, cheaper", 0.0, 7),
    ]
    names = [tuning[place].policy for place in order(LOSS, tuning)]
    assert names == ["safe", "as safe, cheaper", "middle", "cheap"]


@given(st.lists(st.tuples(st.floats(0, 0.3), st.integers(1, 40)), min_size=1, max_size=8))
def test_prices_fall_along_the_order(made: list[tuple[float, int]]) -> None:
    tuning = [tried(f"p{i}", wrong, n, q=50) for i, (wrong, n) in enumerate(made)]
    for target in (LOSS, Target("risk", 0.1), Target("spend", 4)):
        prices = [price(target, tuning[place]) for place in order(target, tuning)]
        assert prices == sorted(set(prices), reverse=True)
        assert prices


def test_testing_ends_at_the_first_failure_and_the_last_to_pass_is_the_cheapest() -> None:
    made = [("a", 0.0, 9), ("bb", 0.02, 6), ("ccc", 0.12, 4), ("dddd", 0.0, 3)]
    tuning = [tried(*one) for one in made[:3]]
    held = [tried(*one, seed=1) for one in made[:3]]
    tested = certify(LOSS, tuning, held)
    assert [one.certified for one in tested] == [True, True, False]
    assert [one.policy for one in tested] == ["a", "bb", "ccc"]
    assert [one.samples for one in tested] == [9, 6, 4]
    # One that looked bad on the tuning questions is not reached, however well it does.
    tuning, held = [*tuning, tried("dddd", 0.3, 3)], [*held, tried("dddd", 0.0, 3)]
    assert certify(LOSS, tuning, held) == tested


@pytest.mark.parametrize(
    ("target", "q", "orders", "answered", "method"),
    [
        (Target("loss", 0.01), 1000, 1, 1.0, "binomial"),
        (Target("loss", 0.01), 300, 20, 1.0, "binomial"),
        (Target("loss", 0.01), 400, 20, 1.0, "betting"),
        (Target("risk", 0.01), 400, 20, 0.5, "binomial"),
        (Target("net", 0.01), 300, 1, 1.0, "betting"),
        (Target("spend", 4), 300, 1, 1.0, "betting"),
    ],
)
def test_the_kind_of_p_goes_by_numbers_that_are_known_beforehand(
    target: Target, q: int, orders: int, answered: float, method: str
) -> None:
    given = {"q": q, "orders": orders, "answered": answered}
    for wrong in (0.0, 0.5):
        held = tried("p", wrong, 3, seed=1, **given)
        assert certify(target, [tried("p", 0, 3, **given)], [held])[0].method == method


def test_the_order_of_the_questions_in_the_file_does_not_decide_a_bet() -> None:
    """Rows sorted by loss would let a gambler win early; shuffled, hardly any seed does."""
    wrong = np.arange(400)[:, None] >= 380
    ones = np.ones((400, 1), bool)
    held = Tried("p", ~wrong, ones, np.ones((400, 1), int), ones, 4)
    target = Target("net", 0.05)
    assert p_value(target, held, "betting", 0.1) < 1e-3
    passed = [certify(target, [held], [held], seed=seed)[0].certified for seed in range(50)]
    assert sum(passed) <= 15


def test_policies_that_differ_and_targets_that_cannot_be_missed_are_usage_errors() -> None:
    a, b = tried("a", 0, 3), tried("b", 0, 3)
    with pytest.raises(UsageError, match="same policies"):
        certify(LOSS, [a], [b])
    with pytest.raises(UsageError, match="same policies"):
        certify(LOSS, [], [])
    with pytest.raises(UsageError, match="different questions"):
        certify(LOSS, [a, b], [a, b.take(np.arange(7))])
    with pytest.raises(UsageError, match="at most 40 samples"):
        certify(Target("spend", 40), [a], [a])
    with pytest.raises(UsageError, match="delta=1"):
        certify(LOSS, [a], [a], delta=1)
    with pytest.raises(UsageError, match="binomial p-value is for"):
        certify(Target("net", 0.1), [a], [a], method="binomial")


# -- refusals -----------------------------------------------------------------------------------


def refused(target: Target, held: Tried) -> RefusedError:
    tested = certify(target, [held], [held])
    assert not tested[0].certified
    return refusal(target, [held], [held], tested, delta=0.1, seed=0)


def test_a_refusal_names_the_best_feasible_and_what_so_many_questions_can_certify() -> None:
    said = str(refused(Target("loss", 0.005), tried("beta:threshold=0.9", 0, 3, q=230)))
    assert "loss<=0.005 cannot be certified at 0.9 confidence on 230 questions" in said
    assert "Best feasible: loss<=0.00999 with" in said
    assert "with beta:threshold=0.9, a bound on that one policy" in said
    assert "Without a single error 230 questions certify at best 0.009962" in said
    assert "takes at least 460" in said
    assert "\n" not in said


@pytest.mark.parametrize(("share", "n"), [(0.02, 114), (0.01, 230), (0.005, 460)])
def test_so_many_questions_without_an_error_certify_so_much(share: float, n: int) -> None:
    assert without_error(n, 0.1) <= share < without_error(n - 1, 0.1)


@pytest.mark.parametrize("target", [Target("net", -0.2), Target("net", 0.01), Target("spend", 2)])
def test_other_targets_are_refused_with_a_bound_that_would_pass(target: Target) -> None:
    held = tried("p", 0.1, 3)
    said = str(refused(target, held))
    bound = float(said.split(f"{target.kind}<=")[2].split(maxsplit=1)[0])
    assert bound > target.at_most
    assert certify(Target(target.kind, bound), [held], [held])[0].certified


def test_all_questions_count_for_a_loss_and_the_answered_ones_for_a_risk() -> None:
    held = tried("p", 0.5, 3, q=200, answered=0.5)
    given = int(held.answered.sum())
    for kind, rows in (("loss", "200 questions"), ("risk", f"{given} answered questions")):
        assert f"Without a single error {rows}" in str(refused(Target(kind, 0.01), held))


def test_a_policy_that_never_answers_would_pass_for_nothing() -> None:
    said = str(refused(Target("risk", 0.05), tried("silent", 0, 3, answered=0)))
    assert "nothing was answered" in said
    assert "No policy would pass for any bound" in said


# -- the record ---------------------------------------------------------------------------------

RECORD = Certificate(
    target=Target("loss", 0.01),
    delta=0.1,
    policy="beta:threshold=0.9,max_samples=8",
    vote="majority",
    truth="gold",
    questions={"tuning": 300, "certification": 400},
    orders=20,
    max_samples=8,
    candidates=40,
    tested=(
        Step("beta:threshold=0.9,max_samples=8", "betting", 0.03, True, 0.001, 0.002, 3.4, 1.0),
        Step("beta:threshold=0.8,max_samples=8", "betting", 0.3, False, 0.01, None, 2.4, 1.0),
    ),
    seed=0,
    share=0.4,
    fingerprint="0" * 64,
    arm={"engine": None, "model": "m", "decoding": {"temperature": 0.8}, "prompt_hash": None},
    datasets=("d",),
    created="2026-11-22",
)


def test_a_certificate_survives_json() -> None:
    again = Certificate.from_dict(json.loads(json.dumps(RECORD.to_dict())))
    assert again == RECORD
    assert again.certified.p == 0.03


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "of schema 2"),
        ({"target": {"kind": "loss", "at_most": 2}}, "not a certificate"),
        ({"tested": [{"p": 1}]}, "not a certificate"),
        ({"policy": "beta:threshold=0.8,max_samples=8"}, "passed no test"),
        ({"delta": ...}, "delta"),
    ],
)
def test_what_is_no_certificate_is_bad_input(change: dict, said: str) -> None:
    data = RECORD.to_dict() | change
    data = {name: value for name, value in data.items() if value is not ...}
    with pytest.raises(InputError, match=said):
        Certificate.from_dict(data)


def test_the_least_bound_is_rounded_up_and_never_down() -> None:
    for q in (120, 177, 301):
        held = tried("p", 0, 3, q=q)
        said = str(refused(Target("loss", 0.001), held))
        bound = float(said.split("Best feasible: loss<=")[1].split(maxsplit=1)[0])
        assert bound >= without_error(q, 0.1)
        assert math.isclose(bound, without_error(q, 0.1), rel_tol=0.06)
