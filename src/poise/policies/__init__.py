"""Policies: when to stop drawing samples, and what to do with the question then.

A policy is a stop rule and an exit rule. Both are pure values: they look at a ``State`` and answer,
keep nothing between calls, and can be compared, pickled and printed.

==========  =======================================  =============================
name        stops when                               parameters (defaults)
==========  =======================================  =============================
``fixed``   ``max_samples`` are drawn                max_samples 16
``beta``    the leader is probably ahead for good    threshold .95, max_samples 40
``window``  one whole window of samples agrees       width 5, max_samples 40
==========  =======================================  =============================

Every stop rule ends at ``max_samples`` whatever the answers are. A sample whose answer could not be
read counts as drawn and is never a vote. To add a rule: one file here, one entry in ``STOP_RULES``
or ``EXIT_RULES``; the contract test then holds its two forms equal on every prefix.

It does not know: gold answers, how samples are drawn, deadlines and spending caps (``solve`` keeps
those), or which cluster wins (``votes``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from poise.policies.answer import Answer
from poise.policies.beta import Beta
from poise.policies.fixed import Fixed
from poise.policies.parse import parse_rule
from poise.policies.running import IntArray
from poise.policies.window import Window
from poise.types import Draw, State, Stop

__all__ = [
    "EXIT_RULES",
    "STOP_RULES",
    "Answer",
    "Beta",
    "ExitRule",
    "Fixed",
    "IntArray",
    "Policy",
    "StopRule",
    "Window",
    "parse_policy",
]


class StopRule(Protocol):
    """Decides, from one prefix of the samples, whether to draw more."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Signals that ``decide`` reads; ``solve`` gives none yet and refuses a rule with any."""

    @property
    def max_samples(self) -> int:
        """The rule stops at this many samples at the latest."""

    def decide(self, state: State) -> Draw | Stop:
        """What to do after this prefix; a pure function of ``state``.

        ``Draw(n)`` asks for no more than the fewest samples after which the rule could stop at all,
        so none of them is drawn in vain.
        """

    def stops(self, prefixes: IntArray) -> IntArray:
        """The array form: at how many samples ``decide`` stops, question by question.

        ``prefixes`` (m, N), N >= 1, signed integers: the cluster of each sample, numbered from 0 by
        first appearance, -1 where the answer was unreadable. Returns (m,) in
        1..min(N, max_samples); N where the rule would have drawn more than N. Raises UsageError for
        any other array.
        """


class ExitRule(Protocol):
    """Decides, at the stop, what becomes of the question."""

    def decide(self, state: State, leader: int | None) -> Literal["answer", "abstain"]:
        """What to do with the cluster that the vote elected; ``leader`` None: it elected none."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A stop rule and an exit rule."""

    stop: StopRule
    exit: ExitRule = Answer()


STOP_RULES: dict[str, type[StopRule]] = {"fixed": Fixed, "beta": Beta, "window": Window}
"""Stop rules by the name under which commands and configuration know them."""

EXIT_RULES: dict[str, type[ExitRule]] = {"answer": Answer}
"""Exit rules by the name under which commands and configuration know them."""


def parse_policy(text: str, max_samples: int | None = None) -> Policy:
    """The policy that ``text`` names, as in ``beta``, ``beta:threshold=0.9`` or ``fixed:n=16``.

    ``max_samples`` takes the place of the rule's default and caps a number that ``text`` states.
    Raises UsageError, naming what there is, for a rule, parameter or value that does not exist.
    """
    return Policy(parse_rule(text, STOP_RULES, max_samples))
