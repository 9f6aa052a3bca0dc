"""Votes: which cluster of equal answers wins.

==============  ==========================================  ======================================
name            elects the cluster with                     parameters (defaults)
==============  ==========================================  ======================================
``majority``    most samples
``weighted``    the greatest sum of confidences             confidence p_true
``softmax``     the greatest sum of exp(confidence / T)     temperature 1, confidence p_true
``borda``       the greatest sum of powers of places        power .5, confidence p_true
``best_of_n``   the surest sample                           confidence p_true
``confident``   the first sample that is sure enough        threshold .9, confidence p_true
``cges``        the greatest posterior by confidences       confidence p_true
==============  ==========================================  ======================================

Ties go to the cluster seen first. ``confidence`` names a signal of single samples. A sample without
it does not vote, and its cluster cannot win by it; where no readable sample has it, there is
nothing to weigh by and the majority wins. To add a vote: one file here and one entry in ``VOTES``;
the contract test then holds its two forms equal. It does not know: when sampling stops, what
becomes of the winner, or which answer is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from poise.columns import FloatArray
from poise.errors import UsageError
from poise.spelling import parse
from poise.types import State
from poise.votes.best_of_n import BestOfN
from poise.votes.borda import Borda
from poise.votes.casting import IntArray
from poise.votes.cges import CgesAnswer
from poise.votes.first_confident import FirstConfident
from poise.votes.majority import Majority
from poise.votes.softmax import Softmax
from poise.votes.weighted import Weighted

__all__ = [
    "VOTES",
    "BestOfN",
    "Borda",
    "CgesAnswer",
    "FirstConfident",
    "FloatArray",
    "IntArray",
    "Majority",
    "Softmax",
    "Vote",
    "Weighted",
    "parse_vote",
]


class Vote(Protocol):
    """Elects one cluster of a prefix."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Signals of single samples that the vote reads from ``State.columns``."""

    def elect(self, state: State) -> int | None:
        """The winning cluster, or None where no sample could be read; pure in ``state``."""

    def elect_all(
        self,
        prefixes: IntArray,
        n: IntArray,
        values: Mapping[str, FloatArray] | None = None,
    ) -> IntArray:
        """The array form: the winner of the first ``n[i]`` samples of question i.

        ``prefixes`` (m, N) signed integers: the cluster of each sample, numbered from 0 by first
        appearance, -1 where the answer was unreadable. ``n`` (m,) in 0..N. ``values``: for each of
        ``needs`` an (m, N) array, nan where a sample has no value. Returns (m,) cluster ids, -1
        where ``elect`` gives None. Raises UsageError for any other arrays, and naming the signal
        for one of ``needs`` that is not in ``values``.
        """


VOTES: dict[str, type[Vote]] = {
    "majority": Majority,
    "weighted": Weighted,
    "softmax": Softmax,
    "borda": Borda,
    "best_of_n": BestOfN,
    "confident": FirstConfident,
    "cges": CgesAnswer,
}
"""Votes by the name under which commands and configuration know them."""


def parse_vote(text: str) -> Vote:
    """The vote that ``text`` names, as in ``majority`` or ``softmax:temperature=0.5``.

    Raises UsageError, naming what there is, for a vote, parameter or value that does not exist.
    """
    try:
        return parse(text, "vote", VOTES)
    except UsageError as error:
        raise UsageError(f"vote {text!r}: {error}") from None
