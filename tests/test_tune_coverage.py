"""Certificates hold as often as they say, and ways of cheating are caught not holding.

A finite set of questions with all their orders is the whole population, so the true risk of each
policy is a mean that can be computed. Tuning and certification questions are drawn from it with
replacement. A violation is a certified policy whose true risk exceeds the target; violations may
come up to delta and three Monte-Carlo standard errors. ``benchmarks/certificates.py`` does the same
with 1,000 draws on real pools.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from poise.policies import Abstain, Policy, parse_policy
from poise.replay import Orders, follow, orders, sweep
from poise.tune.candidates import tried
from poise.tune.sequence import Method, certify
from poise.tune.target import Target
from poise.tune.tried import Tried, estimate
from two_worlds import pools

DELTA, DRAWS = 0.1, 300
ALLOWED = DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / DRAWS)


@cache
def _orders() -> Orders:
    return orders(pools(500, 12, 7, logprobs=False), 10, 0)


@cache
def stopping() -> tuple[Tried, ...]:
    """Beta rules of all thresholds on urns with known contents."""
    return tried(_orders(), sweep("beta", 12).policies[::2])


@cache
def declining() -> tuple[Tried, ...]:
    """Bars on the leader's share of five votes; one order each, so p is binomial."""
    five = parse_policy("fixed:n=5").stop
    found = follow(_orders(), Policy(five))
    share = np.array(
        [
            [np.mean(code[:5] == leader) for code, leader in zip(*both, strict=True)]
            for both in zip(_orders().codes, found.leader, strict=True)
        ]
    )
    bars = [Policy(five, Abstain(bar)) for bar in (0.3, 0.5, 0.7, 0.9)]
    return tried(_orders(), bars, probability=share)


@cache
def unrelated() -> tuple[Tried, ...]:
    """Forty rules that err each on other questions, all a little too often for a target of .05."""
    rng = np.random.default_rng(8)
    ones = np.ones((2000, 1), bool)
    wrong = np.stack([rng.permutation(2000) < 108 for _ in range(40)])
    return tuple(
        Tried(f"rule {i}", ~row[:, None], ones, np.full((2000, 1), 40 - i), ones, 40)
        for i, row in enumerate(wrong)
    )


def draw(population: tuple[Tried, ...], n: int, rng: np.random.Generator) -> list[Tried]:
    """The same questions, and the same random order of their orders, for every policy."""
    q, o = population[0].right.shape
    rows = rng.integers(0, q, n)[:, None]
    at = rows, rng.permuted(np.tile(np.arange(o), (n, 1)), axis=1)
    return [
        Tried(p.policy, p.right[at], p.answered[at], p.samples[at], p.majority[at], p.max_samples)
        for p in population
    ]


def violated(population: tuple[Tried, ...], target: Target, certified: str | None) -> bool:
    if certified is None:
        return False
    true = estimate(target, next(one for one in population if one.policy == certified))
    return true is not None and true > target.at_most


def chosen(
    target: Target, tuning: list[Tried], held: list[Tried], method: Method | None = None
) -> str | None:
    tested = certify(target, tuning, held, delta=DELTA, method=method)
    return next((one.policy for one in reversed(tested) if one.certified), None)


def between(population: tuple[Tried, ...], kind: str, share: float) -> Target:
    """A target just below what the policy at ``share`` of the range does: one that tempts."""
    values = sorted(
        v
        for one in population
        if (v := estimate(Target(kind, 1.0 if kind == "spend" else 0.5), one))
    )
    return Target(kind, values[int(share * (len(values) - 1))] * (0.999 if kind != "net" else 0.98))


@pytest.mark.parametrize(
    ("kind", "share", "n", "method"),
    [
        ("loss", 0.5, 150, "binomial"),
        ("loss", 0.5, 150, "betting"),
        ("loss", 0.5, 150, "hoeffding-bentkus"),
        ("loss", 0.7, 400, None),
        ("net", 0.9, 250, None),
        ("spend", 0.5, 100, None),
        ("spend", 0.5, 100, "hoeffding-bentkus"),
        ("risk", 0.5, 150, None),
        ("risk", 0.5, 150, "binomial"),
    ],
)
def test_certificates_are_wrong_no_more_often_than_they_say(
    kind: str, share: float, n: int, method: Method | None
) -> None:
    population = declining() if kind == "risk" else stopping()
    target = between(population, kind, share)
    rng = np.random.default_rng([n, len(kind)])
    made = [
        chosen(target, draw(population, 100, rng), draw(population, n, rng), method)
        for _ in range(DRAWS)
    ]
    wrong = np.mean([violated(population, target, one) for one in made])
    assert wrong <= ALLOWED
    assert sum(one is not None for one in made) > DRAWS / 20  # it does not hold by refusing all


def test_tuning_and_certifying_on_the_same_questions_is_caught() -> None:
    population, target = unrelated(), Target("loss", 0.05)
    rng = np.random.default_rng(1)
    honest = cheating = 0
    for _ in range(DRAWS):
        tuning, held = draw(population, 250, rng), draw(population, 250, rng)
        honest += violated(population, target, chosen(target, tuning, held))
        cheating += violated(population, target, chosen(target, held, held))
    assert honest / DRAWS <= ALLOWED
    assert cheating / DRAWS > 2 * ALLOWED


@pytest.mark.parametrize("method", ["binomial", "betting"])
def test_a_bound_that_is_looked_at_until_it_certifies_is_caught(method: Method) -> None:
    population, target = unrelated()[:1], Target("loss", 0.05)
    rng = np.random.default_rng(2)
    looked = 0
    for _ in range(DRAWS):
        tuning, (held,) = draw(population, 100, rng), draw(population, 1000, rng)
        looks = (held.take(np.arange(n)) for n in range(50, 1001, 50))
        looked += any(chosen(target, tuning, [one], method) for one in looks)
    assert looked / DRAWS > ALLOWED


@pytest.mark.filterwarnings("ignore")
def test_mapie_finds_the_same_policies_in_the_same_order() -> None:
    """Its fixed sequence on the same risks: as many of the first policies are valid."""
    from mapie.risk_control.fwer_control import control_fwer
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value as p_values

    rng = np.random.default_rng(3)
    population = stopping()
    target = between(population, "loss", 0.6)
    for method in ("binomial", "hoeffding-bentkus"):
        for _ in range(20):
            tuning, held = draw(population, 100, rng), draw(population, 300, rng)
            tested = certify(target, tuning, held, delta=DELTA, method=method)
            place = {one.policy: one for one in held}
            rows = [place[one.policy] for one in tested]
            lost = [
                (one.majority & ~one.right)[:, : 1 if method == "binomial" else None]
                for one in rows
            ]
            theirs = p_values(
                np.array([one.mean() for one in lost]), 300, target.at_most, method == "binomial"
            )[:, 0]
            assert [one.p for one in tested] == pytest.approx(np.minimum(theirs, 1), rel=1e-6)
            valid = control_fwer(theirs, DELTA, "fixed_sequence")
            assert len(valid) == sum(one.certified for one in tested)
