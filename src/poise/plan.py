"""How many labels are needed: for which calibration error to show, for which certificate to hold.

All numbers count labelled questions, one row each; several samples of one question are worth less
than as many questions. Calibration needs labels of any answers of the traffic in question; a
certificate those of questions that would be *answered*, so divide by the share that is. It does
not know pools, nor whether the probabilities are true: it plans as if.

Sources: Clopper and Pearson 1934 (exact binomial tails); Brier's sampling variance, Bradley,
Schwartz and Hashino 2008.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, nbinom, norm

from poise.errors import RefusedError, UsageError
from poise.metrics import noise_floor, smallest_detectable
from poise.metrics.rows import IntArray, column, whole
from poise.scoring import FloatArray

__all__ = [
    "Certificate",
    "Floor",
    "Plan",
    "Size",
    "certificate",
    "labels_for_floor",
    "plan",
]

SIZES = (100, 200, 400, 800, 1600, 3200)
FLOORS = (0.05, 0.03, 0.02)
RISKS = (0.005, 0.01, 0.02, 0.05, 0.1)

ASSUMED = "none given; Beta(2, 1) is assumed, with a mean of 2/3"
"""What a plan without probabilities of one's own rests on."""

LEVEL = 0.95
"""Of the intervals whose half-widths are planned."""

POWER = 0.8
"""How often a certificate is to be had with the labels that a plan names."""

MOST_LABELS = 10_000_000
"""A certificate that needs more is not planned."""

FLOOR_RANGE = (10, 1_000_000)
"""Numbers of questions among which ``labels_for_floor`` looks."""

STEP = 1.02
"""Between the numbers looked at: finer than the simulation is exact would say nothing."""

DRAWS = {"p95": 4000, "detectable": 500}
"""Simulated data sets a number looked at."""

LEAST_RISK = 1e-9


@dataclass(frozen=True, slots=True)
class Size:
    """What ``questions`` labelled questions can tell.

    ``floor_mean``, ``floor_p95``: ECE of perfectly true probabilities by chance alone.
    ``detectable``: the smallest ECE found with power 0.8, None with the reason in
    ``undetectable``. ``accuracy_half``, ``brier_half``: half-widths of 95 % intervals (normal
    approximation). ``profile``: whether a profile can be fitted on so many.
    """

    questions: int
    floor_mean: float
    floor_p95: float
    detectable: float | None
    undetectable: str | None
    accuracy_half: float
    brier_half: float
    profile: bool


@dataclass(frozen=True, slots=True)
class Certificate:
    """Labels for "at most ``risk`` of the answers are wrong", with confidence 1 - delta.

    ``without_error``: the least that certify if none of them is wrong; ``chance`` is how often
    that happens when the true error rate is ``expected``. ``labels``: the least with which the
    certificate is to be had in 8 of 10 cases at that error rate, by allowing up to ``errors``
    wrong ones; both None, with the ``reason``, where no number does.
    """

    risk: float
    expected: float
    without_error: int
    chance: float
    labels: int | None
    errors: int | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Floor:
    """The least ``labels`` with which ECE by chance alone stays at most ``target``, 19 times in 20.

    None: more than a million.
    """

    target: float
    labels: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What labels buy, by number and by target. ``source``: whose probabilities it rests on."""

    source: str
    delta: float
    fewest: int
    sizes: tuple[Size, ...]
    floors: tuple[Floor, ...]
    certificates: tuple[Certificate, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"unit": "labelled questions, one row each", **asdict(self)}


def plan(
    probabilities: ArrayLike | None = None,
    *,
    fewest: int,
    delta: float = 0.1,
    sizes: Sequence[int] = SIZES,
    risks: Sequence[float] = RISKS,
    expected_error: float | None = None,
    seed: int = 0,
) -> Plan:
    """What each number of labels would show, and what each target would take.

    ``probabilities`` (m,) in [0, 1]: those that a map gives on traffic like that to be labelled,
    one a question; their quantiles stand for any number of questions. None: Beta(2, 1) is assumed
    and said. ``fewest``: questions that a profile takes (``fit.FEWEST_QUESTIONS``). ``delta`` in
    (0, 1): risk of a wrong certificate. ``sizes`` >= 1; ``risks`` in [1e-9, 1).
    ``expected_error`` in [0, 1): true error rate among the answers, None: half of each target.
    Raises UsageError.
    """
    stated = _stated(probabilities)
    source = ASSUMED if stated is None else f"{stated.size} probabilities"
    return Plan(
        source=source,
        delta=_inside("delta", delta),
        fewest=whole("fewest", fewest),
        sizes=tuple(_size(stated, whole("sizes", n), fewest, seed) for n in sizes),
        floors=tuple(_floor(target, stated, seed) for target in FLOORS),
        certificates=tuple(
            certificate(risk, delta=delta, expected_error=expected_error) for risk in risks
        ),
    )


def _floor(target: float, stated: FloatArray | None, seed: int) -> Floor:
    try:
        return Floor(target, labels_for_floor(target, stated, seed=seed))
    except RefusedError:
        return Floor(target, None)


def _size(stated: FloatArray | None, n: int, fewest: int, seed: int) -> Size:
    p = _at(stated, n)
    floor = noise_floor(p, seed=seed)
    found = smallest_detectable(p, seed=seed)
    mean = float(p.mean())
    # Of one label's Brier (y - p)^2, over the draw of the question and then of its label.
    brier = p * (1 - p)
    square = brier * ((1 - p) ** 3 + p**3)
    variance = max(0.0, float(square.mean() - brier.mean() ** 2))
    z = float(norm.ppf((1 + LEVEL) / 2)) / math.sqrt(n)
    return Size(
        questions=n,
        floor_mean=floor.mean,
        floor_p95=floor.p95,
        detectable=found.value,
        undetectable=found.reason,
        accuracy_half=z * math.sqrt(mean * (1 - mean)),
        brier_half=z * math.sqrt(variance),
        profile=n >= fewest,
    )


def _stated(probabilities: ArrayLike | None) -> FloatArray | None:
    return None if probabilities is None else column("probabilities", probabilities, high=1)


def _at(stated: FloatArray | None, n: int) -> FloatArray:
    """``n`` probabilities that stand for the distribution: its quantiles, evenly spaced.

    Quantiles, not draws: what is planned then depends on n and not on the luck of a draw.
    """
    level = (np.arange(n) + 0.5) / n
    if stated is None:
        return np.asarray(np.sqrt(level), np.float64)  # the quantiles of Beta(2, 1)
    return np.asarray(np.quantile(stated, level, method="inverted_cdf"), np.float64)


def _inside(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise UsageError(f"{name}={value!r}: must be above 0 and below 1")
    return float(value)


# -- certificates -------------------------------------------------------------------------------


def certificate(
    risk: float, *, delta: float = 0.1, expected_error: float | None = None
) -> Certificate:
    """Labels needed to certify an error rate of at most ``risk`` with confidence 1 - ``delta``.

    ``risk`` in [1e-9, 1); ``delta`` in (0, 1); ``expected_error`` in [0, 1): the true error rate,
    None: half of ``risk``. Exact binomial tails: with k of n wrong the certificate holds where
    P(Binomial(n, risk) <= k) <= delta. Raises UsageError.
    """
    _inside("delta", delta)
    if not LEAST_RISK <= risk < 1:
        raise UsageError(f"risk={risk!r}: must be at least {LEAST_RISK:g} and below 1")
    expected = risk / 2 if expected_error is None else expected_error
    if not 0 <= expected < 1:
        raise UsageError(f"expected_error={expected!r}: must be at least 0 and below 1")
    least = int(_certifying(np.zeros(1, np.int64), risk, delta)[0])
    found, reason = _powered(risk, delta, expected)
    return Certificate(
        risk=risk,
        expected=expected,
        without_error=least,
        chance=float((1 - expected) ** least),
        labels=None if found is None else found[0],
        errors=None if found is None else found[1],
        reason=reason,
    )


def _certifying(errors: IntArray, risk: float, delta: float) -> IntArray:
    """(c,) the least labels that certify ``risk`` in spite of so many ``errors`` (c,)."""
    # The label on which one error more comes follows the negative binomial distribution.
    return np.asarray(errors + 1 + nbinom.isf(delta, errors + 1, risk), np.int64)


def _powered(
    risk: float, delta: float, expected: float
) -> tuple[tuple[int, int] | None, str | None]:
    """The least labels, and errors allowed, with power at the ``expected`` rate; or why none."""
    if expected >= risk:
        return None, f"an error rate of {expected:g} cannot be certified as at most {risk:g}"
    start, chunk = 0, 64
    while True:
        errors = np.arange(start, start + chunk)
        # For so many errors, more labels than the least only make them likelier.
        n = _certifying(errors, risk, delta)
        enough = np.flatnonzero(binom.cdf(errors, n, expected) >= POWER)
        first = int(enough[0]) if enough.size else -1
        if n[first] > MOST_LABELS:
            return None, f"more than {MOST_LABELS:,} labels at an error rate of {expected:g}"
        if enough.size:
            return (int(n[first]), int(errors[first])), None
        start, chunk = start + chunk, chunk * 2


# -- the floor ----------------------------------------------------------------------------------


def labels_for_floor(
    target: float,
    probabilities: ArrayLike | None = None,
    *,
    measure: Literal["p95", "detectable"] = "p95",
    seed: int = 0,
) -> int:
    """The least questions at which the noise floor of ECE is at most ``target``.

    ``target`` in (0, 1); ``probabilities`` as in ``plan``; ``measure``: the floor's 95th
    percentile, or the smallest detectable ECE. Simulated, so exact to some 2 %; a larger target
    never takes more. Raises RefusedError where a million questions are too few, UsageError.
    """
    _inside("target", target)
    if measure not in {"p95", "detectable"}:
        raise UsageError(f"measure={measure!r}: must be p95 or detectable")
    stated = _stated(probabilities)

    def reached(n: int) -> bool:
        p = _at(stated, n)
        if measure == "p95":
            return noise_floor(p, draws=DRAWS[measure], seed=seed).p95 <= target
        value = smallest_detectable(p, draws=DRAWS[measure], seed=seed).value
        return value is not None and value <= target

    fewest, most = FLOOR_RANGE
    # The same grid for every target, so that answers keep the order of the targets.
    low, high = -1, math.ceil(math.log(most / fewest, STEP))
    while high - low > 1:
        middle = (low + high) // 2
        if reached(_on_grid(middle)):
            high = middle
        else:
            low = middle
    if _on_grid(high) == most and not reached(most):
        raise RefusedError(f"{most:,} questions do not bring {measure} down to {target:g}")
    return _on_grid(high)


def _on_grid(step: int) -> int:
    fewest, most = FLOOR_RANGE
    return min(most, math.ceil(fewest * STEP**step))
