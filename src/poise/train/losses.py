"""The losses of confidence training, as formulas over tensors.

=======================  =======================================================================
``shares``               probability of each level among the tokens that name a level, and the
                         probability of all those tokens together
``smooth``               SmoothL1(sum_k s_k level_k, target), beta 0.25
``mse``                  (sum_k s_k level_k - target)^2
``log``                  -[target ln c + (1 - target) ln(1 - c)], c = sum_k s_k level_k
``tokenised_brier``      sum_k s_k (level_k - target)^2 (ConfTuner)
``generation``           cross-entropy of the response's tokens, mean over each row's own
=======================  =======================================================================

P(True) is the case of two levels, yes = 1 and no = 0. Losses come back one a row. It does not know
where logits come from, nor which rows there are.

Sources: Self-Calibration, Huang et al. 2025, arXiv 2503.00031 (there the probability of one token,
here of every spelling of both words, as P(True) is read in use); ConfTuner, Li et al. 2025, arXiv
2508.18847.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "BETA",
    "LOSSES",
    "Levels",
    "generation",
    "log",
    "mse",
    "shares",
    "smooth",
    "tokenised_brier",
]

LEAST = 1e-30
"""The smallest confidence, and doubt, of which a logarithm is taken."""

BETA = 0.25
"""Where SmoothL1 turns from a square into a line."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The confidences that a model can state with one token: K ``values`` in [0, 1].

    ``tokens``: for each value the ids of every token that states it.
    """

    tokens: tuple[tuple[int, ...], ...]
    values: tuple[float, ...]


def shares(logits: Tensor, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """``logits`` (m, V) of the next token -> shares (m, K) that sum to 1, and their mass (m,).

    ``tokens`` K groups of token ids, each with one or more, that name the K levels.
    """
    everything = torch.log_softmax(logits.float(), dim=-1)
    levels = torch.stack(
        [torch.logsumexp(everything[:, list(group)], dim=-1) for group in tokens], dim=-1
    )
    return torch.softmax(levels, dim=-1), torch.logsumexp(levels, dim=-1).exp()


def smooth(share: Tensor, level: Tensor, target: Tensor) -> Tensor:
    """``share`` (m, K), ``level`` (K,), ``target`` (m,), all in [0, 1] -> loss (m,).

    Not proper: of labels that are right with chance q < 1/2 its least expected value is at
    beta q / (1 - q), and the same from above. For soft targets, not for labels.
    """
    return functional.smooth_l1_loss(share @ level, target, beta=BETA, reduction="none")


def mse(share: Tensor, level: Tensor, target: Tensor) -> Tensor:
    """As ``smooth``, squared error; proper: least at the mean of the targets, labels or not."""
    return (share @ level - target) ** 2


def log(share: Tensor, level: Tensor, target: Tensor) -> Tensor:
    """As ``smooth``, cross-entropy in nats; proper.

    The squares lose their gradient where a confidence is near 0 or 1, right or wrong; this keeps it
    where it is wrong.
    """
    sure = (share @ level).clamp(min=LEAST)
    doubtful = (share @ (1 - level)).clamp(min=LEAST)
    return -(target * sure.log() + (1 - target) * doubtful.log())


def tokenised_brier(share: Tensor, level: Tensor, target: Tensor) -> Tensor:
    """As ``smooth``: the squared error expected of a level drawn by its share.

    Linear in the shares: while rows cannot be told apart it moves all of them to one level, and
    where a level has all of the probability no gradient is left.
    """
    return (share * (level[None, :] - target[:, None]) ** 2).sum(dim=-1)


def generation(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy in nats of each row's own response tokens (m,).

    ``logits`` (m, T, V), where place t predicts ``labels`` (m, T) at place t; a label of -100 is
    no response token and has no gradient. Every row has a response token.
    """
    each = functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=-100, reduction="none"
    )
    said = labels != -100
    return (each * said).sum(dim=-1) / said.sum(dim=-1)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "smooth": smooth,
    "mse": mse,
    "log": log,
    "tokenised_brier": tokenised_brier,
}
"""Confidence losses by the name under which commands know them."""
