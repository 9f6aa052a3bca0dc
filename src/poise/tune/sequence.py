"""Learn then test: policies put in order on one set of questions, tested in it on another.

**Order**, on the tuning questions alone: the safest first, by how many standard errors it keeps
below the target there; one that another beats both in that and in price is dropped, so each is
cheaper than all before it. (By p instead, rules that gain by luck would come before rules that can
hardly lose, and one early failure ends it all.) **Test**, on certification questions used for
nothing else: each in turn at the full level delta, until the first that fails. The first false
hypothesis to be met is met at a fixed place, so the chance of passing any is at most delta, however
many policies were tried (fixed-sequence testing). The last to pass is the cheapest certified.

**Which p-value** is settled by numbers known before the certification labels are. ``loss`` and
``risk``: the exact binomial on one order of each question where there is only one, or fewer than
``FEW`` times the questions that would certify without a single error; betting on the mean over
orders from there on. In simulations of rare losses betting has more power from 1.5 times on, the
binomial below, where everything hangs on not one error. ``net`` and ``spend``: always betting.

It does not know pools, files or where the tried policies came from.

Sources: Angelopoulos et al. 2021, arXiv 2110.01052 (learn then test); Bauer 1991 (fixed sequence).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from poise.errors import UsageError
from poise.tune.pvalues import betting, binomial, hoeffding_bentkus
from poise.tune.target import Target
from poise.tune.tried import (
    Tried,
    counted_errors,
    estimate,
    excess,
    highest,
    price,
    safety,
    unit,
)

__all__ = ["Method", "Step", "certify", "order", "p_value", "settled", "shuffled", "smallest"]

Method = Literal["binomial", "betting", "hoeffding-bentkus"]
"""The p-values there are."""

FEW = 1.5
"""Times the questions that certify without an error: below, the binomial has more power."""


@dataclass(frozen=True, slots=True)
class Step:
    """One hypothesis, "this policy misses the target", and how its test went.

    ``p`` in [0, 1]; ``certified``: p <= delta, as for all before it. ``tuning``, ``found``: what
    the target bounds, as estimated on the tuning and the certification questions (None: nothing
    answered). ``samples`` a question and ``answered``, a share, on the certification questions.
    """

    policy: str
    method: Method
    p: float
    certified: bool
    tuning: float | None
    found: float | None
    samples: float
    answered: float


def certify(
    target: Target,
    tuning: Sequence[Tried],
    certification: Sequence[Tried],
    *,
    delta: float = 0.1,
    seed: int = 0,
    method: Method | None = None,
) -> tuple[Step, ...]:
    """The tests that were made, in order: every one but the last passed, or all did.

    ``tuning`` and ``certification``: the same policies in the same order, on questions that have
    none in common. ``seed``: puts the certification questions in random order. ``method`` None: as
    above. Raises UsageError for policies that differ, or a target that nothing could miss.
    """
    _check(target, tuning, certification, delta)
    made: list[Step] = []
    for place in order(target, tuning):
        learnt, held = tuning[place], shuffled(certification[place], seed)
        chosen = method or settled(target, learnt, held, delta)
        p = p_value(target, held, chosen, delta, start=learnt)
        made.append(
            Step(
                policy=held.policy,
                method=chosen,
                p=p,
                certified=p <= delta,
                tuning=estimate(target, learnt),
                found=estimate(target, held),
                samples=float(held.samples.mean()),
                answered=float(held.answered.mean()),
            )
        )
        if p > delta:
            break
    return tuple(made)


def order(target: Target, tuning: Sequence[Tried]) -> tuple[int, ...]:
    """Places in ``tuning`` of the policies to test, safest first; those never worth it left out.

    So are those that answered nothing there, unless all did.
    """
    safe = [safety(target, one) for one in tuning]
    cost = [price(target, one) for one in tuning]
    known = [place for place, one in enumerate(tuning) if estimate(target, one) is not None]
    dearest_first = sorted(known or range(len(tuning)), key=cost.__getitem__, reverse=True)
    kept: list[int] = []
    for place in sorted(dearest_first, key=safe.__getitem__, reverse=True):
        if not kept or cost[place] < cost[kept[-1]]:
            kept.append(place)
    return tuple(kept)


def shuffled(tried: Tried, seed: int) -> Tried:
    """The same questions in random order: bets then cannot know how a file was sorted."""
    return tried.take(np.random.default_rng(seed).permutation(tried.questions))


def settled(target: Target, learnt: Tried, held: Tried, delta: float) -> Method:
    """Which p-value, from the tuning questions and the number of the others; nothing they did."""
    if target.kind in {"net", "spend"}:
        return "betting"
    share = float(learnt.answered.mean()) if target.kind == "risk" else 1.0
    few = FEW * math.log(delta) / math.log1p(-target.at_most)
    return "binomial" if held.orders == 1 or held.questions * share < few else "betting"


def p_value(
    target: Target, tried: Tried, method: Method, delta: float, *, start: Tried | None = None
) -> float:
    """The p of "this policy misses the target"; rows in an order that does not depend on them.

    ``start``: the same policy on other questions, for betting. ``binomial`` reads the first order
    of each question. Raises UsageError where the target has no such p-value.
    """
    if method == "binomial":
        if target.kind not in {"loss", "risk"}:
            raise UsageError(f"{target}: the binomial p-value is for loss and risk")
        return binomial(*counted_errors(target, tried), target.at_most)
    if method == "hoeffding-bentkus":
        return hoeffding_bentkus(*unit(target, tried))
    most = highest(target, tried) - target.at_most
    before = () if start is None else excess(target, start)
    # The mean of equal numbers may come out above them by a rounding error.
    return betting(np.minimum(excess(target, tried), most), most, delta=delta, start=before)


def smallest(
    target: Target, tuning: Tried, held: Tried, *, delta: float, method: Method, steps: int = 200
) -> float | None:
    """The least bound that ``held`` would be certified for, on a grid; None: none on it.

    The grid goes from the loosest bound there is down to the target, and the first that fails ends
    it: a fixed sequence of its own, so with probability 1 - delta the bound is true. ``method``:
    settled before; ``held``: rows as in ``p_value``.
    """
    loosest = 0.999 * highest(target, held)
    space = np.geomspace if target.at_most > 0 else np.linspace
    found = None
    for at_most in space(loosest, target.at_most, steps):
        bound = Target(target.kind, float(at_most))
        if p_value(bound, held, method, delta, start=tuning) > delta:
            break
        found = bound.at_most
    return found


# -- inside -------------------------------------------------------------------------------------


def _check(
    target: Target, tuning: Sequence[Tried], certification: Sequence[Tried], delta: float
) -> None:
    if not 0 < delta < 1:
        raise UsageError(f"delta={delta!r}: must be above 0 and below 1")
    if not tuning or [one.policy for one in tuning] != [one.policy for one in certification]:
        raise UsageError("tuning and certification must hold the same policies, at least one")
    sizes = {(one.questions, one.orders) for one in certification}
    if len(sizes) > 1:
        raise UsageError(f"certification holds policies tried on different questions: {sizes}")
    most = min(highest(target, one) for one in certification)
    if target.at_most >= most:
        raise UsageError(f"{target}: cannot be missed by a policy of at most {most:g} samples")
