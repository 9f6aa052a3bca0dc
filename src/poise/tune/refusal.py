"""Why a target is not certified, and what could be, in one line.

It does not know pools or how the policies were tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from poise.errors import RefusedError
from poise.plan import certificate
from poise.tune.sequence import Step, settled, shuffled, smallest
from poise.tune.target import Target
from poise.tune.tried import Tried

__all__ = ["refusal", "without_error"]


def without_error(n: int, delta: float) -> float:
    """The least error rate that ``n`` >= 1 questions without a single error certify."""
    return -math.expm1(math.log(delta) / n)


def refusal(
    target: Target,
    tuning: Sequence[Tried],
    certification: Sequence[Tried],
    tested: Sequence[Step],
    *,
    delta: float,
    seed: int,
) -> RefusedError:
    """The error to raise where the first test failed; arguments as in ``certify``.

    Beside the first policy of the sequence it names the one whose bound on the tuning questions is
    least, with the bound that it would have passed: true with confidence 1 - delta, as the policy
    was picked elsewhere, but of that one policy alone, so no certificate for one that is tuned to
    it on the same questions.
    """
    first = tested[0]
    found = "nothing was answered" if first.found is None else f"found {first.found:.4g}"
    n = certification[0].questions
    said = (
        f"{target} cannot be certified at {1 - delta:.4g} confidence on {n} questions: the"
        f" safest policy, {first.policy}, fails its test (p {first.p:.3g}, {found})."
    )
    best, bound = _feasible(target, tuning, certification, delta=delta, seed=seed)
    if bound is None:
        said += " No policy would pass for any bound."
    else:
        said += (
            f" Best feasible: {target.kind}<={_up(bound)} with {best}, a bound on that one policy;"
            " to certify a policy tuned to it, draw new questions."
        )
    rows = round(n * first.answered) if target.kind == "risk" else n
    return RefusedError(said + _size(target, rows, delta))


def _feasible(
    target: Target,
    tuning: Sequence[Tried],
    certification: Sequence[Tried],
    *,
    delta: float,
    seed: int,
) -> tuple[str, float | None]:
    """The policy with the least bound on the tuning questions, and its bound on the others."""
    own = [smallest(target, one, one, delta=delta, method="betting", steps=40) for one in tuning]
    ends = [math.inf if bound is None else bound for bound in own]
    place = ends.index(min(ends))
    held = shuffled(certification[place], seed)
    method = settled(target, tuning[place], held, delta)
    return held.policy, smallest(target, tuning[place], held, delta=delta, method=method)


def _size(target: Target, rows: int, delta: float) -> str:
    """What so many rows could certify at best, and how many the target takes at least."""
    if target.kind not in {"loss", "risk"} or not rows:
        return ""
    counted = "answered questions" if target.kind == "risk" else "questions"
    needed = certificate(target.at_most, delta=delta).without_error
    return (
        f" Without a single error {rows} {counted} certify at best"
        f" {_up(without_error(rows, delta))}; {target} takes at least {needed}."
    )


def _up(share: float) -> str:
    """Four digits, rounded up: a bound rounded down would not have been passed."""
    digits = 3 - math.floor(math.log10(abs(share))) if share else 4
    return f"{math.ceil(share * 10**digits) / 10**digits:.6g}"
