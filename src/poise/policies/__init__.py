"""Policies: when to stop drawing samples, and what to do with the question then.

A policy is a stop rule and an exit rule. Both are pure values: they look at a ``State`` and answer,
keep nothing between calls, and can be compared, pickled and printed.

==================  =======================================  =======================================
stop rule           stops when                               parameters (defaults)
==================  =======================================  =======================================
``fixed``           ``max_samples`` are drawn                max_samples 16
``beta``            the leader is probably ahead for good    threshold .95
``dirichlet``       it is probably the likeliest of five     threshold .95
``entropy``         the votes are spread over few answers    threshold .75
``ratio``           the leader has a share of the votes      threshold .8
``window``          one whole window of samples agrees       width 5
``confident``       one sample is sure enough                threshold .9, confidence p_true
``weighted_ratio``  an answer has a share of the confidence  threshold .8, confidence p_true
``cges``            a posterior by confidences is high       threshold .95, confidence p_true, other
``value``           more samples are not worth their price   price .002, round_price 0
==================  =======================================  =======================================

==================  =======================================  =======================================
exit rule           answers                                  parameters (defaults)
==================  =======================================  =======================================
``answer``          wherever there is an answer
``abstain``         where its probability reaches a bar      threshold .5
==================  =======================================  =======================================

Every stop rule ends at ``max_samples`` (40 where nothing is said) whatever the answers are. A
sample whose answer could not be read counts as drawn and is never a vote. ``confidence`` names a
signal of single samples; a sample without it weighs nothing. To add a rule: one file here, one
entry in ``STOP_RULES`` or ``EXIT_RULES``; the contract test then holds its two forms equal on every
prefix.

It does not know: gold answers, how samples are drawn, deadlines and spending caps (``solve`` keeps
those), or which cluster wins (``votes``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from poise.columns import FloatArray
from poise.errors import UsageError
from poise.policies.abstain import Abstain
from poise.policies.answer import Answer
from poise.policies.beta import Beta
from poise.policies.cges import Cges
from poise.policies.confident import Confident
from poise.policies.dirichlet import Dirichlet
from poise.policies.entropy import Entropy
from poise.policies.fixed import Fixed
from poise.policies.ratio import Ratio
from poise.policies.running import IntArray
from poise.policies.value import Value
from poise.policies.weighted_ratio import WeightedRatio
from poise.policies.window import Window
from poise.spelling import parse
from poise.types import Draw, State, Stop

__all__ = [
    "EXIT_RULES",
    "STOP_RULES",
    "Abstain",
    "Answer",
    "Beta",
    "Cges",
    "Confident",
    "Dirichlet",
    "Entropy",
    "ExitRule",
    "Fixed",
    "FloatArray",
    "IntArray",
    "Policy",
    "Ratio",
    "StopRule",
    "Value",
    "WeightedRatio",
    "Window",
    "capped",
    "parse_exit",
    "parse_policy",
]


class StopRule(Protocol):
    """Decides, from one prefix of the samples, whether to draw more."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Signals of single samples that the rule reads from ``State.columns``."""

    @property
    def max_samples(self) -> int:
        """The rule stops at this many samples at the latest."""

    def decide(self, state: State) -> Draw | Stop:
        """What to do after this prefix; a pure function of ``state``.

        ``Draw(n)`` asks for no more than the fewest samples after which the rule could stop at all,
        so none is drawn in vain; only a rule with a ``round_price`` above 0 may ask for more at
        once, and ``replay`` relies on that.
        """

    def stops(self, prefixes: IntArray, values: Mapping[str, FloatArray] | None = None) -> IntArray:
        """The array form: at how many samples ``decide`` stops, question by question.

        ``prefixes`` (m, N), N >= 1, signed integers: the cluster of each sample, numbered from 0 by
        first appearance, -1 where the answer was unreadable. ``values``: for each of ``needs`` an
        (m, N) array, nan where a sample has no value. Returns (m,) in 1..min(N, max_samples); N
        where the rule would have drawn more than N. Raises UsageError for any other arrays, and
        naming the signal for one of ``needs`` that is not in ``values``.
        """


class ExitRule(Protocol):
    """Decides, at the stop, what becomes of the question."""

    def decide(
        self, state: State, leader: int | None, probability: float | None = None
    ) -> Literal["answer", "abstain"]:
        """What to do with the cluster that the vote elected; ``leader`` None: it elected none.

        ``probability``: the calibrated one that the leader is right, None where none is claimed.
        """


@dataclass(frozen=True, slots=True)
class Policy:
    """A stop rule and an exit rule."""

    stop: StopRule
    exit: ExitRule = Answer()


STOP_RULES: dict[str, type[StopRule]] = {
    "fixed": Fixed,
    "beta": Beta,
    "dirichlet": Dirichlet,
    "entropy": Entropy,
    "ratio": Ratio,
    "window": Window,
    "confident": Confident,
    "weighted_ratio": WeightedRatio,
    "cges": Cges,
    "value": Value,
}
"""Stop rules by the name under which commands and configuration know them."""

EXIT_RULES: dict[str, type[ExitRule]] = {"answer": Answer, "abstain": Abstain}
"""Exit rules by the name under which commands and configuration know them."""


def capped(policy: Policy, most: int) -> Policy:
    """``policy``, ending at ``most`` samples at the latest; raises UsageError for fewer than 1."""
    stop: Any = policy.stop
    if most >= stop.max_samples:
        return policy
    own = getattr(stop, "capped", None)
    return replace(policy, stop=replace(stop, max_samples=most) if own is None else own(most))


def parse_policy(text: str, max_samples: int | None = None) -> Policy:
    """The policy that ``text`` names: a stop rule, and an exit rule behind a ``+``.

    As in ``beta``, ``fixed:n=16``, ``confident:confidence=logprob`` or
    ``beta:threshold=0.9 + abstain:threshold=0.8``; without an exit rule it answers. ``max_samples``
    takes the place of the rule's default and caps a number that ``text`` states. Raises UsageError,
    naming what there is, for a rule, parameter or value that does not exist.
    """
    stop, plus, leave = text.partition("+")
    try:
        rule = parse(stop, "stop rule", STOP_RULES, max_samples)
        return Policy(rule, parse(leave, "exit rule", EXIT_RULES)) if plus else Policy(rule)
    except UsageError as error:
        raise UsageError(f"policy {text!r}: {error}") from None


def parse_exit(text: str) -> ExitRule:
    """The exit rule that ``text`` names, as in ``abstain:threshold=0.8``; raises UsageError."""
    try:
        return parse(text, "exit rule", EXIT_RULES)
    except UsageError as error:
        raise UsageError(f"exit rule {text!r}: {error}") from None
