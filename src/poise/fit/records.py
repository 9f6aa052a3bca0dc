"""What a profile keeps about how good it is: held-out numbers and rows, and what was considered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from poise.calibrators import Auto, Platt
from poise.calibrators.rows import Scale
from poise.errors import RefusedError
from poise.fit.maps import FOLDS, Fitted, cross_stated
from poise.fit.prefixes import LOGPROB, FloatArray, Prefixes
from poise.metrics import summary
from poise.policies import IntArray, Policy

__all__ = ["check_classes", "check_signal", "considered", "kept_rows", "report", "sizes"]

REPORTED = (
    *("rows", "base_rate", "brier", "base_brier", "log_loss", "base_log_loss", "bins", "ece"),
    *("ece_debiased", "ece_floor", "ece_detectable", "smooth_ece", "auroc", "aurc", "level"),
)
"""What of ``metrics.summary`` a profile keeps about itself."""

FEWEST_OF_CLASS = 10
"""Right answers, and wrong ones, without which folds and bootstrap draws have one class only."""

LEAST = 1e-6
"""A probability below counts as this one: a certainty that is wrong costs 13.8 nats, no more."""

MOST_KEPT = 5000
"""Held-out rows kept in the file for its card; of more, a seeded draw."""


def check_classes(arrays: Prefixes, policy: Policy) -> None:
    """Raise RefusedError where too few answers at the stops are right, or too few wrong."""
    stops = policy.stop.stops(arrays.codes, arrays.values) - 1
    right = arrays.right[np.arange(len(stops)), stops]
    for what, count in (("right", int(right.sum())), ("wrong", int((1 - right).sum()))):
        if count < FEWEST_OF_CLASS:
            raise RefusedError(
                f"{count} of {len(right)} answers are {what}; a fit takes at least"
                f" {FEWEST_OF_CLASS} of each"
            )


def check_signal(first: Fitted) -> None:
    """Raise RefusedError where what would be stated does not beat the base rate beyond noise.

    Judged by log loss on questions that had no part in any choice: the gain has to exceed its
    standard error over questions.
    """
    base = float(first.right.mean())
    said = np.clip(np.where(first.right == 1, first.stated, 1 - first.stated), LEAST, 1)
    loss = -np.log(said)
    entropy = np.where(first.right == 1, -np.log(base), -np.log(1 - base))
    _, member = np.unique(first.group, return_inverse=True)
    gain = np.bincount(member, entropy - loss) / len(loss)
    error = float(np.sqrt(len(gain)) * gain.std(ddof=1))
    if gain.sum() <= error:
        raise RefusedError(
            f"no signal ranks the answers beyond noise: held out, the probabilities gain"
            f" {gain.sum():.4f} nats (standard error {error:.4f}) over the base rate, {base:.3f},"
            " which is then the honest thing to say"
        )


def sizes(arrays: Prefixes, first: Fitted, stops: IntArray) -> dict[str, Any]:
    """How much there was to fit on, and how much of it got a probability."""
    return {
        "questions": len(np.unique(arrays.group)),
        "samples": int(arrays.grades.size),
        "without_probability": int((~first.usable).sum()),
        "mean_samples_at_stop": round(float((stops + 1).mean()), 4),
        "folds": FOLDS,
    }


def report(first: Fitted, seed: int) -> dict[str, Any]:
    """Held-out metrics of what would be reported."""
    found = summary(first.right, first.stated, first.group, seed=seed).to_dict()
    kept: dict[str, Any] = json.loads(json.dumps({name: found[name] for name in REPORTED}))
    return kept  # as it will be read back from the file


def kept_rows(arrays: Prefixes, first: Fitted, stops: IntArray, seed: int) -> dict[str, Any]:
    """Columns for the card, one entry a row: question, segment, raw signal, stated, right."""
    rows = np.arange(len(first.right))
    if len(rows) > MOST_KEPT:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:MOST_KEPT])
    places = np.flatnonzero(first.usable)[rows]
    raw = next((name for name in arrays.signals if name in arrays.ranged), None)
    segments = [arrays.segments[place] for place in places]
    return {
        "rows": len(first.right),
        "question": first.group[rows].tolist(),
        "segment": segments if any(segments) else None,
        "raw": None
        if raw is None
        else {"name": raw, "values": _rounded(arrays.signals[raw][places, stops[places]])},
        "stated": _rounded(first.stated[rows]),
        "baselines": {
            what: _rounded(values[rows])
            for what, values in _baselines(arrays, first, stops, seed).items()
        },
        "right": first.right[rows].tolist(),
    }


def considered(
    arrays: Prefixes, fitted: Sequence[Fitted], stops: IntArray, seed: int
) -> tuple[dict[str, Any], ...]:
    """Every candidate's held-out numbers, each on the rows where its own signals are there."""
    first = fitted[0]
    rows = [{"what": f"state map + {one.name}", **asdict(one)} for one in first.final.considered_]
    for one in fitted[1:]:
        absent = ", ".join(name for name in first.maps.signals if name not in one.maps.signals)
        what = f"without {absent}: state map + {one.final.chosen_}"
        rows.append({"what": what, **asdict(one.final.held_out_)})
    for what, (name, places) in _raw(arrays, stops).items():
        rows += _alone(arrays, what, name, first, stops, places, seed)
    what = f"chosen: state map + {first.final.chosen_}, choice included"
    return (*rows, {"what": what, **asdict(first.final.held_out_)})


# -- inside ---------------------------------------------------------------------------------------


def _baselines(
    arrays: Prefixes, first: Fitted, stops: IntArray, seed: int
) -> dict[str, FloatArray]:
    """Platt's maps of single raw signals, cross-fitted, (k,) each; where a row lacks one, none."""
    found = {}
    for what, (name, places) in _raw(arrays, stops).items():
        values = arrays.signals[name][np.arange(len(stops)), places][first.usable]
        if np.isfinite(values).all():
            platt = Platt(scale=_scale(arrays, name)).fit(values, first.right)
            stated = cross_stated(platt, values, first.right, first.group, seed)
            found[f"{what} + platt"] = stated
    return found


def _raw(arrays: Prefixes, stops: IntArray) -> dict[str, tuple[str, IntArray]]:
    """Baselines in words: the signal and the places (m,) where it is read."""
    raw: dict[str, tuple[str, IntArray]] = {}
    if "agreement" in arrays.signals:
        raw["agreement"] = ("agreement", stops)
    if LOGPROB in arrays.signals:  # of the first sample that could be read
        first = np.isfinite(arrays.signals[LOGPROB]).argmax(axis=1)
        raw["one sample's log-probability"] = (LOGPROB, np.minimum(first, stops))
    return raw


def _scale(arrays: Prefixes, name: str) -> Scale:
    return "probability" if name in arrays.ranged else "real"


def _rounded(values: FloatArray) -> list[float]:
    return [round(float(value), 5) for value in values]


def _alone(
    arrays: Prefixes,
    what: str,
    name: str,
    first: Fitted,
    stops: IntArray,
    places: IntArray,
    seed: int,
) -> list[dict[str, Any]]:
    """A raw signal and Platt's map of it, at ``places`` (m,), as baselines."""
    every = np.arange(len(stops))
    values = arrays.signals[name][every, places]
    right = arrays.right[every, stops]
    there = first.usable & np.isfinite(values)
    held = Auto(scale=_scale(arrays, name), candidates=("platt",), seed=seed)
    held.fit(values[there], right[there], groups=arrays.group[there])
    return [
        {"what": f"{what} + {one.name}", **asdict(one)}
        for one in held.considered_
        if one.name != "constant"
    ]
