"""Rewards from the model's own probabilities, which a trainer hands over as columns.

They sharpen a policy and say nothing of truth: a model trained on them is measured for
over-confidence. It does not know: models or tokens; whoever generates computes the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poise.errors import UsageError
from poise.rewards.judging import Prompts, Rewards, Rows, column
from poise.rewards.statement import Completion

__all__ = ["reference_probability", "self_certainty"]

SLACK = 1e-4
"""How far rounding in half precision may carry a log-probability or a divergence past zero."""


def self_certainty(
    prompts: Prompts,  # noqa: ARG001 - the trainer's signature
    completions: Sequence[Completion],
    *,
    mean_logprobs: Rows = None,
    vocabulary: int | Rows = None,
    **_columns: Any,
) -> Rewards:
    """The mean over tokens of KL(uniform || p), in nats, at least 0.

    Column ``mean_logprobs``: for each completion (T,) the mean over the *whole* vocabulary of the
    log-probabilities at each of its tokens, ``logits.log_softmax(-1).mean(-1)``; ``vocabulary``:
    how many tokens that are. The divergence is then -ln(vocabulary) - mean. None where a row is
    None or empty. Raises UsageError without the columns, and for numbers that no whole
    distribution gives (a mean over the top k, a masked vocabulary).

    Source: INTUITOR, 2505.19590, whose code leaves the constant -ln(vocabulary) out.
    """
    m = len(completions)
    if mean_logprobs is None or vocabulary is None:
        raise UsageError(
            "self-certainty needs the columns 'mean_logprobs' and 'vocabulary' from whoever "
            "generates (in TRL: a rollout function)"
        )
    found: Rewards = []
    rows = zip(
        column("mean_logprobs", mean_logprobs, m), column("vocabulary", vocabulary, m), strict=True
    )
    for values, size in rows:
        means = _numbers("mean_logprobs", values)
        if means is None:
            found.append(None)
            continue
        divergence = -np.log(size) - means
        if not np.isfinite(divergence).all() or divergence.min() < -SLACK:
            raise UsageError(
                f"mean_logprobs: no distribution over {size} tokens has these means; take them "
                "over the whole vocabulary, before any mask or top-k"
            )
        found.append(float(divergence.mean()))
    return found


def reference_probability(
    prompts: Prompts,  # noqa: ARG001 - the trainer's signature
    completions: Sequence[Completion],
    *,
    reference_logprobs: Rows = None,
    baseline_logprobs: Rows = None,
    **_columns: Any,
) -> Rewards:
    """How much the reasoning raises the reference answer's mean probability by token, in [0, 1].

    Column ``reference_logprobs``: for each completion (R,) the log-probabilities of the reference
    answer's tokens put after its reasoning; ``baseline_logprobs``: the same after the prompt alone
    (without the column: 0 is subtracted). What falls below 0 is 0. None where a row is None or
    empty. Raises UsageError without the column, and for log-probabilities above 0.

    Source: RLPR, 2506.18254, without its filter of questions by spread.
    """
    m = len(completions)
    if reference_logprobs is None:
        raise UsageError(
            "the probability of a reference answer needs the column 'reference_logprobs' from "
            "whoever generates (in TRL: a rollout function)"
        )
    found: Rewards = []
    rows = zip(
        column("reference_logprobs", reference_logprobs, m),
        column("baseline_logprobs", baseline_logprobs, m),
        strict=True,
    )
    for values, before in rows:
        after = _probability("reference_logprobs", values)
        without = _probability("baseline_logprobs", before)
        if baseline_logprobs is None:
            without = 0.0
        found.append(None if after is None or without is None else max(0.0, after - without))
    return found


def _probability(name: str, values: Any) -> float | None:
    logprobs = _numbers(name, values)
    if logprobs is None:
        return None
    # NaN fails this comparison too; minus infinity is a probability of 0.
    if not logprobs.max() <= SLACK:
        raise UsageError(f"{name}: log-probabilities must be numbers of at most 0")
    return float(np.exp(np.minimum(logprobs, 0)).mean())


def _numbers(name: str, values: Any) -> NDArray[np.float64] | None:
    """One row's numbers; None where there are none."""
    if values is None:
        return None
    row = np.asarray(values, np.float64)
    if row.ndim != 1:
        raise UsageError(f"{name}: a row has {row.ndim} dimensions; give one number a token")
    return row if row.size else None
