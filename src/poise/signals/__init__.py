"""Signals: raw numbers that say how sure a sample or a pool looks. Higher is always surer.

A signal is a pure value: it looks at ``Evidence``, keeps nothing, and gives a finite float or
raises MissingEvidence with the reason. None of them is a probability that an answer is right;
calibrators make one of them. Signals of one ``sample`` read a prefix of one; those of a ``pool``
read all samples drawn, and ``leader_…`` is the mean of a sample's signal over the leader's samples.

===============================  ======  ==================================================
name                             level   is
===============================  ======  ==================================================
``agreement``                    pool    the leader's share of the samples drawn
``margin``                       pool    its lead over the runner-up, as such a share
``negentropy``                   pool    1 less the normalised entropy of the votes
``repetition``                   pool    the share of samples that repeat an earlier answer
``logprob``                      sample  mean log-probability of the reply's tokens
``logprob_sum``                  sample  log-probability of the whole reply
``answer_logprob``               sample  mean log-probability of the answer's tokens
``answer_logprob_min``           sample  the least of them
``answer_logprob_sum``           sample  their sum
``top_margin``                   sample  mean lead of the chosen token over the best other
``leader_logprob``               pool    means over the leader's samples, of the six above
``leader_logprob_sum``           pool
``leader_answer_logprob``        pool
``leader_answer_logprob_min``    pool
``leader_answer_logprob_sum``    pool
``leader_top_margin``            pool
``logprob_share``                pool    the leader's share of exp(mean log-probability)
``soft_self_consistency``        pool    the leader's share of the samples' P(True)
===============================  ======  ==================================================

To add a signal: one file here (or its place in a family's), one entry in ``SIGNALS``; the contract
test then holds it to what it declares. They do not know: gold answers, how samples were drawn and
whether they are independent (``solve`` does), or calibration.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from poise.errors import MissingEvidence, UsageError
from poise.signals.agreement import Agreement, Margin, Negentropy, Repetition
from poise.signals.answer_span import AnswerLogprob, answer_tokens
from poise.signals.evidence import Evidence
from poise.signals.leader import Leader
from poise.signals.logprob import Logprob, TopMargin
from poise.signals.running import FloatArray, IntArray
from poise.signals.signal import PrefixSignal, Signal
from poise.signals.weighted import LogprobShare, SoftSelfConsistency

__all__ = [
    "SIGNALS",
    "Agreement",
    "AnswerLogprob",
    "Evidence",
    "FloatArray",
    "IntArray",
    "Leader",
    "Logprob",
    "LogprobShare",
    "Margin",
    "Negentropy",
    "PrefixSignal",
    "Repetition",
    "Signal",
    "SoftSelfConsistency",
    "TopMargin",
    "answer_tokens",
    "compute",
]


_OF_SAMPLES = (
    Logprob(),
    Logprob("sum"),
    AnswerLogprob(),
    AnswerLogprob("min"),
    AnswerLogprob("sum"),
    TopMargin(),
)
_ALL: tuple[Signal, ...] = (
    Agreement(),
    Margin(),
    Negentropy(),
    Repetition(),
    *_OF_SAMPLES,
    *(Leader(signal) for signal in _OF_SAMPLES),
    LogprobShare(),
    SoftSelfConsistency(),
)

SIGNALS: dict[str, Signal] = {signal.name: signal for signal in _ALL}
"""Signals by the name under which commands, configuration and profiles know them."""


def compute(
    names: Iterable[str], evidence: Evidence
) -> tuple[dict[str, float | None], dict[str, str]]:
    """The named signals of ``evidence``: ``(values, missing)``.

    ``values`` has every name, with a finite float or None; ``missing`` says why for each None.
    Raises UsageError, naming what there is, for a name that ``SIGNALS`` does not have.
    """
    values: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    for name in names:
        if name not in SIGNALS:
            raise UsageError(
                f"there is no signal {name!r}; choose from {', '.join(sorted(SIGNALS))}"
            )
        values[name] = None
        try:
            value = SIGNALS[name](evidence)
        except MissingEvidence as absent:
            missing[name] = str(absent)
            continue
        if math.isfinite(value):
            values[name] = value
        else:
            missing[name] = f"the log-probabilities or confidences give {value}, not a number"
    return values, missing
