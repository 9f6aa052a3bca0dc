"""Fitting capability: on the samples after each prefix, which had no part in what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from poise.capability import Capability, fit_precision
from poise.fit.maps import cross_fitted, fit_state_map
from poise.fit.prefixes import FloatArray, Prefixes
from poise.metrics import mse_to_mu, spearman
from poise.policies import IntArray

__all__ = ["fit_capability"]

FEWEST_AFTER = 2
"""Samples that a question must have after the prefix it is judged at."""


def fit_capability(
    arrays: Prefixes, names: Sequence[str], fold: IntArray
) -> tuple[Capability, dict[str, Any]]:
    """The posterior of mu from the signals ``names``, and its held-out numbers.

    The numbers are taken once a question, at the middle of its pool, against the samples after it.
    """
    m, size = arrays.codes.shape
    trials = size - arrays.n
    after = np.cumsum(arrays.grades[:, ::-1], axis=1)[:, ::-1]
    right = np.concatenate([after[:, 1:], np.zeros((m, 1), np.int64)], axis=1)
    share = right / np.maximum(trials, 1)
    some = trials > 0
    held = cross_fitted(arrays, names, np.where(some, share, 0.0), fold, where=some)
    fitted = fit_state_map(arrays, names, share, np.ones(m), some)
    usable = np.isfinite(held) & some
    weight = usable / np.maximum(usable.sum(axis=1, keepdims=True), 1)
    flat = (values[usable] for values in (arrays.n, held, right, trials, weight))
    precision = fit_precision(*(np.asarray(values, np.float64) for values in flat))
    middle = size // 2 - 1
    there = usable[:, middle]
    report = _report(
        held[there, middle],
        right[there, middle],
        trials[there, middle],
        arrays.signals["agreement"][there, middle],
    )
    return Capability(fitted, precision), {"after": middle + 1, **report}


def _report(
    mean: FloatArray, right: IntArray, trials: IntArray, agreement: FloatArray
) -> dict[str, Any]:
    """Squared error to mu, its sampling error taken off, beside two baselines."""
    base = np.full(len(mean), right.sum() / trials.sum())
    share = right / trials
    errors = {
        name: mse_to_mu(stated, right, trials).value
        for name, stated in (("mse", mean), ("base_mse", base), ("agreement_mse", agreement))
    }
    ranked = spearman(share, mean).value
    return {"questions": len(mean), **errors, "spearman": ranked}
