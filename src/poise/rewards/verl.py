"""Poise's rewards behind verl's custom reward function, one response at a time.

Point ``custom_reward_function.path`` at this file; its ``reward_kwargs`` are ``weights`` and
``read``. It knows verl's signature and imports nothing of verl. It does not know the other
responses to a question, so the rewards that compare them are not to be had here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from poise.errors import UsageError
from poise.rewards.accuracy import correctness, formatted, reference_accuracy, thresholded
from poise.rewards.judging import Rewards
from poise.rewards.likelihood import reference_probability, self_certainty
from poise.rewards.proper import bounded_log, brier, spherical
from poise.rewards.statement import READERS

__all__ = ["compute_score"]

ALONE: dict[str, Callable[..., Rewards]] = {
    each.__name__: each
    for each in (
        *(correctness, formatted, reference_accuracy, thresholded),
        *(brier, spherical, bounded_log, self_certainty, reference_probability),
    )
}
"""The rewards of a response by itself."""

_CALL = {"prompts", "completions", "floor"}
"""What ``extra_info`` must not take from the call."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    weights: Mapping[str, float] | None = None,
    read: str = "line",
    **_others: Any,
) -> dict[str, float]:
    """``score``, the weighted sum, and each reward in it by name.

    ``ground_truth``: the gold answer. ``extra_info``: ``kind``, and what else the rewards read as
    columns (``options``, ``threshold``, ``reference_accuracy``, …), for this one response.
    ``weights``: by name, correctness and brier at 1 each where not given; check them once with
    ``check_weights``. ``read``: a name in ``READERS``. Raises UsageError for another reward or
    reader, and where a reward has nothing to say about the response, since verl cannot leave one
    out; otherwise as the rewards.
    """
    chosen = {"correctness": 1.0, "brier": 1.0} if weights is None else weights
    if read not in READERS:
        raise UsageError(f"there is no reader {read!r}; choose from {', '.join(READERS)}")
    columns: dict[str, Any] = {
        name: [value] for name, value in (extra_info or {}).items() if name not in _CALL
    }
    columns.update(gold=[ground_truth], read=READERS[read])
    found: dict[str, float] = {}
    for name in chosen:
        if name not in ALONE:
            raise UsageError(
                f"there is no reward {name!r} of a response by itself; choose from "
                f"{', '.join(sorted(ALONE))}"
            )
        (value,) = ALONE[name](prompts=[""], completions=[solution_str], **columns)
        if value is None:
            raise UsageError(
                f"{name} has nothing to say about a response of {data_source!r}: leave rows "
                "without gold or without its columns out"
            )
        found[name] = value
    return {"score": sum(chosen[name] * value for name, value in found.items()), **found}
