"""What a policy did on some questions, and how far that is from a target.

A question's samples are put into several random orders; the policy stops once in each. Questions
are independent, the orders of one question are not, so what is tested is a question's mean, or one
order of it. It does not know p-values, nor where the numbers come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poise.errors import UsageError
from poise.scoring import FloatArray
from poise.tune.target import Target

__all__ = ["Tried", "counted_errors", "estimate", "excess", "highest", "price", "safety", "unit"]

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """One policy on q questions in o random orders each, arrays (q, o), q and o >= 1.

    ``policy``: as ``parse_policy`` reads it. ``right``: the answer was given and is right;
    ``answered``: one was given; ``samples`` in 1..``max_samples``; ``majority``: the vote over all
    samples is right. Raises UsageError where shapes differ or a right answer was not given.
    """

    policy: str
    right: BoolArray
    answered: BoolArray
    samples: npt.NDArray[np.int64]
    majority: BoolArray
    max_samples: int

    def __post_init__(self) -> None:
        shape = self.right.shape
        others = (self.answered.shape, self.samples.shape, self.majority.shape)
        if self.right.ndim != 2 or not self.right.size or any(other != shape for other in others):
            raise UsageError(f"{self.policy}: arrays of {shape} and {others}: must be (q, o) each")
        if (self.right & ~self.answered).any():
            raise UsageError(f"{self.policy}: an answer that was not given cannot be right")

    @property
    def questions(self) -> int:
        """How many."""
        return int(self.right.shape[0])

    @property
    def orders(self) -> int:
        """Random orders of each question."""
        return int(self.right.shape[1])

    def take(self, questions: npt.NDArray[np.int64]) -> Tried:
        """The same policy on these questions, in this order; a question may come twice."""
        return Tried(
            self.policy,
            self.right[questions],
            self.answered[questions],
            self.samples[questions],
            self.majority[questions],
            self.max_samples,
        )


def excess(target: Target, tried: Tried) -> FloatArray:
    """(q,) by how much each question exceeds the target, mean over its orders.

    Its expectation is at most 0 exactly where the target holds: for ``risk`` an answer counts by
    wrong or not less the target, and a question that was not answered counts 0.
    """
    if target.kind == "risk":
        rows = tried.answered * (~tried.right - target.at_most)
    else:
        rows = _values(target, tried) - target.at_most
    return np.asarray(rows.mean(1), np.float64)


def safety(target: Target, tried: Tried) -> float:
    """By how many standard errors the mean of ``excess`` lies below 0; more is safer.

    One imagined question, as bad as half of the worst, keeps rules apart that never went wrong but
    on few questions, or with little room.
    """
    rows = excess(target, tried)
    worst = highest(target, tried) - target.at_most
    variance = (worst**2 / 4 + ((rows - rows.mean()) ** 2).sum()) / (rows.size + 1)
    return -float(rows.mean()) / math.sqrt(variance / rows.size)


def unit(target: Target, tried: Tried) -> tuple[FloatArray, float]:
    """The rows (q,) stretched to [0, 1], and the bound that goes with them."""
    low = {"net": -1.0, "spend": 1.0}.get(target.kind, 0.0)
    width = highest(target, tried) - low
    bound = (target.at_most - low) / width
    return np.clip(excess(target, tried) / width + bound, 0, 1), bound


def highest(target: Target, tried: Tried) -> float:
    """The most that what the target bounds can be on one question."""
    return float(tried.max_samples) if target.kind == "spend" else 1.0


def counted_errors(target: Target, tried: Tried) -> tuple[int, int]:
    """(errors, rows) in the first order of each question, for ``loss`` and ``risk``.

    The orders of a question are equally likely, so the first is one at random. For ``risk`` only
    answered questions are rows: given which those are, errors among them are binomial.
    """
    if target.kind == "risk":
        given = tried.answered[:, 0]
        return int((given & ~tried.right[:, 0]).sum()), int(given.sum())
    return int(_values(target, tried)[:, 0].sum()), tried.questions


def estimate(target: Target, tried: Tried) -> float | None:
    """What the target bounds, as found on these questions; None where none was answered."""
    if target.kind == "risk":
        given = int(tried.answered.sum())
        return float((tried.answered & ~tried.right).sum()) / given if given else None
    return float(_values(target, tried).mean())


def price(target: Target, tried: Tried) -> tuple[float, float]:
    """What is to be small among the policies that keep to the target; the first number first.

    Samples a question; for ``risk`` the share not answered before it; for ``spend`` the loss.
    """
    samples = float(tried.samples.mean())
    if target.kind == "spend":
        return float((tried.majority & ~tried.right).mean()), samples
    return (1 - float(tried.answered.mean()) if target.kind == "risk" else 0.0), samples


def _values(target: Target, tried: Tried) -> FloatArray:
    """(q, o) what ``loss``, ``net`` or ``spend`` is, question by question."""
    if target.kind == "spend":
        return np.asarray(tried.samples, np.float64)
    if target.kind == "net":
        return tried.majority.astype(np.float64) - tried.right
    return np.asarray(tried.majority & ~tried.right, np.float64)
