"""How well probabilities tell right from wrong, whatever their level.

================================  ===============================================================
``auroc``                         P(a right row is above a wrong one), ties half
``auprc``                         average precision: mean precision at each right row
``spearman``                      correlation of ranks, of label and probability
``within_question``               ``auroc`` over pairs of one question, pairs pooled
================================  ===============================================================

None changes under an increasing map of the probabilities. It does not know intervals.

Sources: Mann and Whitney 1947; within-question discrimination: Taubenfeld et al., Confidence
Improves Self-Consistency in LLMs, 2025 (arXiv 2502.06233), here with ties counted half.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from poise.metrics.estimate import Estimate
from poise.metrics.rows import Rows, read, summed, ties
from poise.scoring import FloatArray

__all__ = [
    "NO_PAIR",
    "ONE_CLASS",
    "WithinQuestion",
    "auprc",
    "auroc",
    "pairs_by_question",
    "spearman",
    "within_question",
]

ONE_CLASS = "all rows are right, or all are wrong: there is no pair to rank"
NO_PAIR = "no question has both a right and a wrong row"


def auroc(y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None) -> Estimate:
    """Area under the ROC curve, in [0, 1]: 0.5 for probabilities that say nothing.

    ``y``, ``p`` (m,) in [0, 1]; ``sample_weight`` (m,) >= 0. Value None where all rows are right
    or all are wrong. Raises UsageError.
    """
    tied = ties(read(y, p, sample_weight))
    wrong = tied.weight - tied.right
    pairs = tied.right.sum() * wrong.sum()
    if not pairs > 0:
        return Estimate(None, reason=ONE_CLASS)
    return Estimate(float(tied.right @ (np.cumsum(wrong) - wrong / 2) / pairs))


def auprc(y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None) -> Estimate:
    """Average precision, in [0, 1]: the base rate for probabilities that say nothing.

    Precision is read below each distinct probability and weighted by the right rows there; there
    is no interpolation. Value None where no row is right. Arguments and errors as in ``auroc``.
    """
    tied = ties(read(y, p, sample_weight))
    right = tied.right[::-1]
    if not right.sum() > 0:
        return Estimate(None, reason="no row is right, so nothing can be found")
    precision = np.cumsum(right) / np.cumsum(tied.weight[::-1])
    return Estimate(float(right @ precision / right.sum()))


def spearman(y: ArrayLike, p: ArrayLike, sample_weight: ArrayLike | None = None) -> Estimate:
    """Rank correlation of label and probability, in [-1, 1], tied values at their mean rank.

    Meant for graded labels, such as the share of right answers to each question. Value None where
    either is constant. Arguments and errors as in ``auroc``.
    """
    rows = read(y, p, sample_weight)
    first, second = _ranks(rows.y, rows.weight), _ranks(rows.p, rows.weight)
    spread = np.sqrt(np.average(first**2, weights=rows.weight))
    spread *= np.sqrt(np.average(second**2, weights=rows.weight))
    if not spread > 0:
        return Estimate(None, reason="labels or probabilities are all the same: nothing to rank")
    return Estimate(float(np.average(first * second, weights=rows.weight) / spread))


def _ranks(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Mean ranks of ``values`` (m,), centred on 0; a weight counts rows. Exactly 0 if all tie."""
    distinct, of = np.unique(values, return_inverse=True)
    mass = summed(weight, of, distinct.size)
    below = np.cumsum(mass) - mass
    above = mass.sum() - below - mass
    ranks: FloatArray = ((below - above) / 2)[of] if distinct.size > 1 else np.zeros(values.size)
    return ranks


@dataclass(frozen=True, slots=True)
class WithinQuestion:
    """Within-question discrimination, and on how much of the data it rests.

    ``estimate`` in [0, 1]; ``questions`` with a right and a wrong row; ``left_out`` without.
    """

    estimate: Estimate
    questions: int
    left_out: int


def within_question(
    y: ArrayLike,
    p: ArrayLike,
    question: Iterable[Hashable],
    sample_weight: ArrayLike | None = None,
) -> WithinQuestion:
    """P(right row above wrong row | same question), ties half, over all such pairs together.

    ``y``, ``p`` (m,) in [0, 1]; ``question`` (m,) ids; ``sample_weight`` (m,) >= 0. A question
    with many pairs counts for more. Questions without a right or without a wrong row are left out
    and counted; value None where none remain. Raises UsageError.
    """
    rows = read(y, p, sample_weight, question)
    concordant, pairs = pairs_by_question(rows)
    used = int(np.count_nonzero(pairs))
    if not used:
        return WithinQuestion(Estimate(None, reason=NO_PAIR), 0, rows.questions)
    found = Estimate(float(concordant.sum() / pairs.sum()))
    return WithinQuestion(found, used, rows.questions - used)


def pairs_by_question(rows: Rows) -> tuple[FloatArray, FloatArray]:
    """Weight of the pairs ranked rightly (ties half), and of all pairs, of each question (q,)."""
    order = np.lexsort((rows.p, rows.question))
    p, question = rows.p[order], rows.question[order]
    new_question = np.concatenate(([True], question[1:] != question[:-1]))
    tie = np.flatnonzero(new_question | np.concatenate(([True], p[1:] != p[:-1])))
    right = np.add.reduceat(rows.weight[order] * rows.y[order], tie)
    wrong = np.add.reduceat(rows.weight[order] * (1 - rows.y[order]), tie)
    of = question[tie]
    all_right = summed(right, of, rows.questions)
    all_wrong = summed(wrong, of, rows.questions)
    earlier = np.cumsum(all_wrong) - all_wrong
    below = np.cumsum(wrong) - earlier[of] - wrong / 2
    return summed(right * below, of, rows.questions), all_right * all_wrong
