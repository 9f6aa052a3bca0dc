"""Advantages of a group of replies, whole or split between an answer and its statement.

A reply's reward counts from the mean of its group and is not divided by the group's spread, which
makes models over-confident. Split, the tokens that state a confidence learn from the confidence's
rewards alone and all others from the rest. It does not know models or losses.

Sources: Dr. GRPO, Liu et al. 2025, arXiv 2503.20783 (no division); DCPO, arXiv 2603.09117 (the
split; that the form counts for both and that the confidence's mean is over the replies that state
one is ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poise.rewards import split_advantages
from poise.rewards.weights import CALIBRATION
from poise.train.stating import READ

__all__ = ["FORM", "by_token", "centred", "statement_mask"]

FORM = "formatted"
"""The reward that both parts of a reply learn from: together they make the form."""


def centred(
    rewards: ArrayLike, weights: ArrayLike, group: int, counts: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Weighted sums of rewards, less the mean of each ``group`` consecutive replies (m,).

    ``rewards`` (m, F), NaN where a reward has nothing to say; ``weights`` (F,); m a multiple of
    ``group``. A reply about which none has something to say, or that does not count (``counts``
    (m,) false), is in no mean and has advantage 0.
    """
    table = np.asarray(rewards, np.float64)
    total = np.nansum(table * np.asarray(weights, np.float64), axis=1)
    out = np.isnan(table).all(axis=1)
    if counts is not None:
        out |= ~np.asarray(counts, bool)
    groups = np.where(out, np.nan, total).reshape(-1, group)
    some = ~np.isnan(groups).all(axis=1)
    mean = np.zeros((len(groups), 1))
    mean[some, 0] = np.nanmean(groups[some], axis=1)
    return np.nan_to_num(groups - mean).reshape(-1)


def by_token(
    rewards: ArrayLike,
    names: Sequence[str],
    weights: Sequence[float],
    group: int,
    states: ArrayLike,
) -> NDArray[np.float64]:
    """The advantage of each token (m, T); ``states`` (m, T) is true on a statement's tokens.

    ``names`` (F,) of the rewards. Only replies with a statement count for the confidence's part.
    """
    mask = np.asarray(states, bool)
    confidence = [name in {*CALIBRATION, FORM} for name in names]
    answer = [name not in CALIBRATION for name in names]
    return split_advantages(
        centred(rewards, np.where(answer, weights, 0.0), group),
        centred(rewards, np.where(confidence, weights, 0.0), group, mask.any(axis=1)),
        mask,
    )


def statement_mask(
    tokenizer: Any, replies: Sequence[Sequence[int]], width: int
) -> NDArray[np.bool_]:
    """Which of ``width`` places are a statement's: from its first token to the reply's end (m, T).

    ``replies``: token ids as generated, the end of turn included. A token that holds the end of the
    answer and the start of the statement is the statement's.
    """
    mask = np.zeros((len(replies), width), np.bool_)
    for row, ids in enumerate(replies):
        start = READ(_text(tokenizer, ids)).start
        if start is not None:
            mask[row, _token_at(tokenizer, ids, start) : len(ids)] = True
    return mask


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


def _token_at(tokenizer: Any, ids: Sequence[int], start: int) -> int:
    """The token that says the character at ``start``; searched from the end, where it stands."""
    place = len(ids)
    while place and len(_text(tokenizer, ids[:place])) > start:
        place -= 1
    return place
