"""After how many questions training pays for itself, read off a training run's report.

Cost: the samples trained on, the confidences asked for them, and training. What it saves a question
is what early stopping by the trained confidence draws less than another way at equal accuracy, less
the follow-ups that it asks more. Measuring a run is not counted, nor are prompts.

::

    unit      generation             scoring, training, follow-ups
    samples   as stored              what could have been drawn meanwhile, at the stored pace
    tokens    of replies, as stored  likewise
    seconds   of requests, as stored as measured in the run
    usd       by sample and token,   by the hour
              else by the hour

It does not know models, pools or how the numbers were measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poise.errors import InputError, UsageError
from poise.metrics import Estimate

__all__ = ["UNITS", "BreakEven", "Prices", "break_even", "of_training", "prices_of"]

UNITS = ("samples", "tokens", "seconds", "usd")

NO_SECONDS = "the pools do not state the seconds of their samples"
NO_TOKENS = "the pools do not state the tokens of their samples"
NO_PACE = "how long a confidence takes was not measured"
NO_PRICE = "no price of an hour, by which training is paid"


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for an ``hour`` of the machine, a ``sample`` and a completion ``token``.

    None: not stated. Each at least 0; raises UsageError.
    """

    hour: float | None = None
    sample: float | None = None
    token: float | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"price {name}={value}: must be a finite number of dollars >= 0")


def prices_of(text: str | None) -> Prices:
    """The prices in ``hour=1.2,token=4e-7``; raises UsageError, naming what there is."""
    stated: dict[str, float] = {}
    for part in (text or "").split(",") if text is not None else ():
        name, _, value = (each.strip() for each in part.partition("="))
        if name not in Prices.__slots__ or name in stated:
            raise UsageError(f"--price {part.strip()!r}: state hour, sample and token, once each")
        try:
            stated[name] = float(value)
        except ValueError:
            raise UsageError(f"--price {name}={value!r}: must be a number of dollars") from None
    return Prices(**stated)


@dataclass(frozen=True, slots=True)
class BreakEven:
    """After how many ``questions`` a cost has come back; None: never, or not known.

    ``interval``: at the ends of the interval of what is saved; its second end None: never.
    ``never``: at what was measured it does not come back. ``reason`` says why there is no number,
    or no interval.
    """

    questions: int | None
    interval: tuple[int, int | None] | None = None
    never: bool = False
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "questions": self.questions,
            "interval": None if self.interval is None else list(self.interval),
            "never": self.never,
            "reason": self.reason,
        }


def break_even(cost: float, saved: Estimate, accuracy: Estimate) -> BreakEven:
    """The fewest questions with questions x ``saved`` >= ``cost``, both in one unit.

    ``cost`` >= 0; ``accuracy``: of the trained way less that of the other, negative is worse. Never
    where nothing is saved, and where accuracy is lower beyond noise; lower with noise unknown has
    no number. A saving with higher accuracy
    counts as one; more spend for more accuracy is none to compare, and has no number. Raises
    UsageError for a cost below 0.
    """
    if not (math.isfinite(cost) and cost >= 0):
        raise UsageError(f"cost {cost}: must be a finite number >= 0")
    if saved.value is None or accuracy.value is None:
        return BreakEven(None, reason=saved.reason or accuracy.reason)
    if accuracy.interval is None and accuracy.value < 0:
        lost = f"it answers {-accuracy.value:.3f} less accurately, beyond noise or not"
        return BreakEven(None, reason=f"{lost} ({accuracy.reason})")
    low, high = accuracy.interval or (-math.inf, math.inf)
    if high < 0:
        lost = f"it answers {-accuracy.value:.3f} less accurately, beyond noise"
        return BreakEven(None, never=True, reason=lost)
    if saved.value <= 0:
        if low > 0:
            more = f"it answers {accuracy.value:.3f} more accurately for more spend: not comparable"
            return BreakEven(None, reason=more)
        return BreakEven(None, never=True, reason="it saves nothing")
    here = _questions(cost, saved.value)
    if here is None:
        return BreakEven(None, never=True, reason="it saves next to nothing")
    if saved.interval is None:
        return BreakEven(here, reason=saved.reason)
    least, most = saved.interval
    soonest = _questions(cost, max(most, saved.value))
    latest = _questions(cost, min(least, saved.value))
    return BreakEven(here, (here if soonest is None else soonest, latest))


def _questions(cost: float, saved: float) -> int | None:
    """The fewest whole questions; None: no number of them is enough.

    A quotient that is off by its last digits is not one question more.
    """
    exact = cost / saved if saved > 0 else math.inf
    return math.ceil(exact * (1 - 1e-12)) if math.isfinite(exact) else None


# -- a run's report -------------------------------------------------------------------------------


def of_training(report: Mapping[str, Any], prices: Prices = Prices()) -> dict[str, Any]:
    """What the report of ``poise train sft`` says about it, JSON-ready, schema 1.

    By held-out set and by what training is held against, in every unit. Raises InputError for a
    report without numbers in use, and for one that is none.
    """
    try:
        if "in_use" not in report:
            raise InputError(
                "the run measured no use: train it with poise train sft --in-use 16, in another"
                " folder"
            )
        inputs = _inputs(report, prices)
        cost = {unit: _cost(unit, inputs) for unit in UNITS}
        sets = {name: _set(told, cost, inputs) for name, told in report["in_use"]["sets"].items()}
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"it is no report of poise train sft ({error!r})") from None
    return {"schema": 1, "inputs": inputs, "cost": cost, "sets": sets}


def _inputs(report: Mapping[str, Any], prices: Prices) -> dict[str, Any]:
    """All that the numbers rest on."""
    made, seconds = report["cost"]["generation"], report["seconds"]
    steps = [step["seconds"] for step in report["steps"]]
    samples, drawing = made["samples"], made["seconds"] or None
    return {
        "samples": samples,
        "tokens": made["tokens"],
        "seconds": drawing,
        "confidences": report["cost"]["scoring"]["rows"],
        # A resumed run's clock ran in the last process alone; its steps are all on record.
        "training_seconds": (
            seconds["training"] if report["resumed_at_step"] is None else math.fsum(steps)
        ),
        "seconds_a_confidence": seconds["a_confidence"],
        "seconds_a_sample": None if drawing is None else drawing / samples,
        "tokens_a_second": (
            None if drawing is None or made["tokens"] is None else made["tokens"] / drawing
        ),
        "usd_an_hour": prices.hour,
        "usd_a_sample": prices.sample,
        "usd_a_token": prices.token,
    }


def _cost(unit: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Parts and total in one unit; None with the reason where one is not known."""
    why = _unknown(unit, inputs)
    if inputs["confidences"] and inputs["seconds_a_confidence"] is None:
        why = why or NO_PACE
    if why is not None:
        return {"total": None, "reason": why}
    a_second = _a_second(unit, inputs)
    scoring = inputs["confidences"] and inputs["confidences"] * inputs["seconds_a_confidence"]
    parts = {
        "generation": _drawn(unit, inputs, inputs["samples"], inputs["tokens"]),
        "scoring": scoring * a_second,
        "training": inputs["training_seconds"] * a_second,
    }
    return {**parts, "total": math.fsum(parts.values()), "reason": None}


def _unknown(unit: str, inputs: Mapping[str, Any]) -> str | None:
    """Why nothing can be counted in a unit; None where it can."""
    if unit == "usd":
        if inputs["usd_an_hour"] is None:
            return NO_PRICE
        by_hour = inputs["usd_a_sample"] is None and inputs["usd_a_token"] is None
        if by_hour and inputs["seconds"] is None:
            return NO_SECONDS
        return NO_TOKENS if inputs["usd_a_token"] and inputs["tokens"] is None else None
    if inputs["seconds"] is None:
        return NO_SECONDS
    return NO_TOKENS if unit == "tokens" and inputs["tokens"] is None else None


def _a_second(unit: str, inputs: Mapping[str, Any]) -> float:
    """What a second of the machine is in a unit."""
    if unit == "seconds":
        return 1.0
    if unit == "usd":
        return float(inputs["usd_an_hour"]) / 3600
    if unit == "tokens":
        return float(inputs["tokens_a_second"])
    return 1 / float(inputs["seconds_a_sample"])


def _drawn(unit: str, inputs: Mapping[str, Any], samples: float, tokens: float | None) -> float:
    """What some samples and their tokens are in a unit."""
    a_sample, a_token = _weights(unit, inputs)
    return samples * a_sample + (a_token and (tokens or 0.0) * a_token)


def _weights(unit: str, inputs: Mapping[str, Any]) -> tuple[float, float]:
    """What a sample and a token of a reply are in a unit."""
    if unit == "tokens":
        return 0.0, 1.0
    if unit == "samples":
        return 1.0, 0.0
    if unit == "seconds":
        return float(inputs["seconds_a_sample"]), 0.0
    a_sample, a_token = inputs["usd_a_sample"], inputs["usd_a_token"]
    if a_sample is None and a_token is None:
        return float(inputs["seconds_a_sample"]) * _a_second("usd", inputs), 0.0
    return a_sample or 0.0, a_token or 0.0


# -- one held-out set -----------------------------------------------------------------------------


def _set(
    told: Mapping[str, Any], cost: Mapping[str, Mapping[str, Any]], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    if "reason" in told:
        return {"reason": told["reason"]}
    cell = "both" if "both" in told["against"] else "selection"
    against = {other: _beside(each, cost, inputs) for other, each in told["against"][cell].items()}
    return {
        "cell": cell,
        "questions": told["questions"],
        "against": against,
        "verdict": _verdict(against),
    }


def _beside(
    each: Mapping[str, Any], cost: Mapping[str, Mapping[str, Any]], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    accuracy = _estimate(each["accuracy"])
    found: dict[str, Any] = {"accuracy": each["accuracy"], "samples_saved": each["samples"]}
    for unit in UNITS:
        saved = _saved(unit, each, inputs)
        total = cost[unit]["total"]
        made = (
            BreakEven(None, reason=cost[unit]["reason"])
            if total is None
            else break_even(total, saved, accuracy)
        )
        found[unit] = {
            "saved": saved.value,
            "saved_interval": None if saved.interval is None else list(saved.interval),
            **made.to_dict(),
        }
    return found


def _saved(unit: str, each: Mapping[str, Any], inputs: Mapping[str, Any]) -> Estimate:
    """What is saved a question in a unit: samples, their tokens, and follow-ups."""
    why = _unknown(unit, inputs)
    pace = inputs["seconds_a_confidence"]
    if why is not None or pace is None:
        return Estimate(None, reason=why or NO_PACE)
    a_sample, a_token = _weights(unit, inputs)
    parts = [
        (_estimate(each["samples"]), a_sample),
        (_estimate(each["tokens"]), a_token),
        (_estimate(each["followups"]), pace * _a_second(unit, inputs)),
    ]
    return _sum([(one, weight) for one, weight in parts if weight])


def _sum(parts: Sequence[tuple[Estimate, float]]) -> Estimate:
    """Of weighted estimates, weights >= 0. The interval joins the ends: wide rather than narrow."""
    missing = next((one for one, _ in parts if one.value is None), None)
    if missing is not None:
        return Estimate(None, reason=missing.reason)
    value = math.fsum(weight * (one.value or 0.0) for one, weight in parts)
    ends = [(one.interval, weight) for one, weight in parts]
    if any(interval is None for interval, _ in ends):
        return Estimate(value, reason=next(one.reason for one, _ in parts if not one.interval))
    low, high = (
        math.fsum(weight * (interval or (0.0, 0.0))[end] for interval, weight in ends)
        for end in (0, 1)
    )
    return Estimate(value, (low, high))


def _estimate(told: Mapping[str, Any]) -> Estimate:
    ends = told["interval"]
    return Estimate(told["value"], None if ends is None else (ends[0], ends[1]), told["reason"])


def _verdict(against: Mapping[str, Mapping[str, Any]]) -> str:
    """In words: training pays where it pays against everything that it can be compared with."""
    unit = next((u for u in ("usd", "seconds", "samples") if _any(against, u)), None)
    if unit is None:
        reasons = {str(each["samples"]["reason"]) for each in against.values()}
        return f"not known: {'; '.join(sorted(reasons))}"
    rows = {other: each[unit] for other, each in against.items()}
    never = [f"{other} ({row['reason']})" for other, row in rows.items() if row["never"]]
    if never:
        return f"it never pays for itself, against {', '.join(never)}"
    other, last = max(
        ((other, row) for other, row in rows.items() if row["questions"] is not None),
        key=lambda pair: pair[1]["questions"],
    )
    ends = last["interval"]
    spread = "" if ends is None else f" ({ends[0]:,} to {_end(ends[1])})"
    return f"it pays for itself after {last['questions']:,} questions{spread}, against {other}"


def _any(against: Mapping[str, Mapping[str, Any]], unit: str) -> bool:
    rows = [each[unit] for each in against.values()]
    return any(row["questions"] is not None or row["never"] for row in rows)


def _end(questions: int | None) -> str:
    return "never" if questions is None else f"{questions:,}"
