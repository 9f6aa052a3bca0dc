"""Signals of single samples as columns beside the answers: what stop rules and votes weigh by.

A rule or vote that reads one names it in ``needs``; whoever calls it brings a number for each
sample, missing where the sample has none. Weighing wants confidences in [0, 1], and three kinds of
signal are told apart by name: those in [0, 1] are taken as they are; log-probabilities (``LOGS``)
through exp, so that ``logprob`` is the reply's probability by the token, in (0, 1]; ``UNBOUNDED``
ones have no such reading. A number that a pool file stores (``stored:NAME``) has a range that only
the file knows, so it is looked at when it comes.

It does not know how a signal is computed, or whether a confidence is calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from poise.errors import UsageError
from poise.types import State

__all__ = [
    "LOGS",
    "UNBOUNDED",
    "FloatArray",
    "column",
    "confidences",
    "log_odds",
    "named",
    "needed",
    "reading",
]

FloatArray = npt.NDArray[np.float64]
"""An array of floats; nan stands for a missing value inside array forms only."""

LOGS = frozenset(
    {"logprob", "logprob_sum", "answer_logprob", "answer_logprob_min", "answer_logprob_sum"}
)
"""Sample signals that are natural logarithms of a probability: (-inf, 0]."""

EDGE = 1e-6
"""How near to 0 and 1 a confidence is taken as evidence: certainty could never be outweighed."""

UNBOUNDED = frozenset({"top_margin"})
"""Sample signals that are no probability in any reading."""


def named(name: object, *, bounded: bool) -> str:
    """``name`` as the name of a sample signal; ``bounded``: one that reads as a confidence.

    Raises UsageError where it cannot be one.
    """
    if not isinstance(name, str) or not name.strip():
        raise UsageError(
            f"confidence={name!r}: must be the name of a signal of single samples, such as p_true"
        )
    if bounded and name in UNBOUNDED:
        raise UsageError(
            f"confidence={name}: it has no bounds; weigh by a signal in [0, 1], such as p_true, "
            "or by a log-probability, such as logprob"
        )
    return name


def column(state: State, name: str) -> FloatArray:
    """The values of ``name``, (n,) with nan where missing. Raises UsageError where not given."""
    if name not in state.columns:
        raise UsageError(_lacking(name, state.columns))
    values = state.columns[name]
    if len(values) != state.n:
        raise UsageError(f"{name} has {len(values)} values for {state.n} samples: give one each")
    return _finite(name, np.array([np.nan if v is None else v for v in values], np.float64))


def needed(
    name: str, values: Mapping[str, FloatArray] | None, shape: tuple[int, ...]
) -> FloatArray:
    """The array of ``name`` out of ``values``, (m, N) as ``shape``, nan where missing.

    Raises UsageError where it is not there, has another shape or holds an infinite number.
    """
    if values is None or name not in values:
        raise UsageError(_lacking(name, values or {}))
    found = np.asarray(values[name], np.float64)
    if found.shape != shape:
        raise UsageError(f"{name} has values of shape {found.shape} for prefixes of shape {shape}")
    return _finite(name, found)


def reading(name: str, values: FloatArray) -> FloatArray:
    """``values`` on the scale they are weighed on: exp of ``LOGS``, all others as they are."""
    # Contiguous, so that one sample gives the same bits alone and in the midst of a million.
    return np.exp(np.ascontiguousarray(values)) if name in LOGS else values


def confidences(name: str, values: FloatArray) -> FloatArray:
    """``values`` as confidences in [0, 1], nan where missing. Raises UsageError outside it."""
    found = reading(name, values)
    outside = (found < 0) | (found > 1)
    if outside.any():
        raise UsageError(
            f"{name} is {values[outside][0]:g} at a sample, which is no confidence in [0, 1]; "
            "name a signal that is one"
        )
    return found


def log_odds(name: str, values: FloatArray) -> FloatArray:
    """log(c / (1 - c)) of the confidences, nan where missing, each held ``EDGE`` off 0 and 1."""
    held = np.clip(confidences(name, values), EDGE, 1 - EDGE)
    odds: FloatArray = np.log(held) - np.log1p(-held)
    return odds


def _lacking(name: str, given: Mapping[str, object]) -> str:
    there = f"there is {', '.join(sorted(given))}" if given else "there are none"
    return f"{name} is needed for every sample, and {there}: give its values with the samples"


def _finite(name: str, values: FloatArray) -> FloatArray:
    if np.isinf(values).any():
        raise UsageError(f"{name} is infinite at a sample: leave out what is not known")
    return values
