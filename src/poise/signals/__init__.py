"""Signals: raw numbers that say how sure a sample or a pool looks. Higher is always surer.

A signal is a pure value: it looks at ``Evidence``, keeps nothing, and gives a finite float or
raises MissingEvidence with the reason. None of them is a probability that an answer is right;
calibrators make one of them. Signals of one ``sample`` read a prefix of one; those of a ``pool``
read all samples drawn, and ``leader_…`` is the mean of a sample's signal over the leader's samples;
those of the ``question`` read no sample. ``p_true…``, ``stated`` and ``stated_band`` read the reply
to a follow-up, which ``solve`` asks (``AskingSignal``).

===============================  ========  ==================================================
name                             level     is
===============================  ========  ==================================================
``agreement``                    pool      the leader's share of the samples drawn
``margin``                       pool      its lead over the runner-up, as such a share
``negentropy``                   pool      1 less the normalised entropy of the votes
``repetition``                   pool      the share of samples that repeat an earlier answer
``logprob``                      sample    mean log-probability of the reply's tokens
``logprob_sum``                  sample    log-probability of the whole reply
``answer_logprob``               sample    mean log-probability of the answer's tokens
``answer_logprob_min``           sample    the least of them
``answer_logprob_sum``           sample    their sum
``top_margin``                   sample    mean lead of the chosen token over the best other
``p_true``                       sample    P(true) of the answer, shown as the user's own
``p_true_proposed``              sample    the same, shown as one that was proposed
``p_true_own``                   sample    P(yes) when the model is asked about its own reply
``stated``                       sample    the percentage it states for the answer shown to it
``stated_inline``                sample    the confidence that the reply itself states
``stated_band``                  question  the band it states before it answers
``leader_logprob``               pool      means over the leader's samples, of the eleven above
``leader_logprob_sum``           pool
``leader_answer_logprob``        pool
``leader_answer_logprob_min``    pool
``leader_answer_logprob_sum``    pool
``leader_top_margin``            pool
``leader_p_true``                pool
``leader_p_true_proposed``       pool
``leader_p_true_own``            pool
``leader_stated``                pool
``leader_stated_inline``         pool
``logprob_share``                pool      the leader's share of exp(mean log-probability)
``soft_self_consistency``        pool      the leader's share of the samples' P(True)
===============================  ========  ==================================================

Numbers that a pool file already holds are signals too, by name: ``stored:NAME`` at a sample, its
leader's mean ``leader_stored:NAME``, ``stored_question:NAME`` at the question. ``SegmentHistory``
is fitted, so it is passed as an object.

To add a signal: one file here (or its place in a family's), one entry in ``SIGNALS``; the contract
test then holds it to what it declares. They do not know: gold answers, how samples were drawn and
whether they are independent (``solve`` does), or calibration.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

from poise.errors import MissingEvidence, Unusable, UsageError
from poise.signals.agreement import Agreement, Margin, Negentropy, Repetition
from poise.signals.answer_span import AnswerLogprob, answer_tokens
from poise.signals.asking import Ask, AskingSignal
from poise.signals.evidence import Evidence
from poise.signals.history import SegmentHistory
from poise.signals.leader import Leader
from poise.signals.logprob import Logprob, TopMargin
from poise.signals.p_true import PTrue
from poise.signals.protocol import PrefixSignal, Signal
from poise.signals.running import FloatArray, IntArray
from poise.signals.stated import StatedBand, StatedConfidence, StatedInline
from poise.signals.stored import Stored
from poise.signals.weighted import LogprobShare, SoftSelfConsistency

__all__ = [
    "SIGNALS",
    "Agreement",
    "AnswerLogprob",
    "Ask",
    "AskingSignal",
    "Evidence",
    "FloatArray",
    "IntArray",
    "Leader",
    "Logprob",
    "LogprobShare",
    "Margin",
    "Negentropy",
    "PTrue",
    "PrefixSignal",
    "Repetition",
    "SegmentHistory",
    "Signal",
    "SoftSelfConsistency",
    "StatedBand",
    "StatedConfidence",
    "StatedInline",
    "Stored",
    "TopMargin",
    "answer_tokens",
    "asking",
    "compute",
    "logprobs_for",
    "readings",
    "signal",
]


_OF_SAMPLES = (
    Logprob(),
    Logprob("sum"),
    AnswerLogprob(),
    AnswerLogprob("min"),
    AnswerLogprob("sum"),
    TopMargin(),
    PTrue(),
    PTrue("proposed"),
    PTrue("own"),
    StatedConfidence(),
    StatedInline(),
)
_ALL: tuple[Signal, ...] = (
    Agreement(),
    Margin(),
    Negentropy(),
    Repetition(),
    *_OF_SAMPLES,
    StatedBand(),
    *(Leader(each) for each in _OF_SAMPLES),
    LogprobShare(),
    SoftSelfConsistency(),
)

LEAST_TOP = 2
"""Alternatives a token, the chosen one among them, from which a margin can be read."""

SIGNALS: dict[str, Signal] = {each.name: each for each in _ALL}
"""Signals by the name under which commands, configuration and profiles know them."""


def signal(name: str) -> Signal:
    """The signal of this name: one of ``SIGNALS``, or a number that a pool file stores.

    ``stored:NAME`` is the number NAME at a sample, ``leader_stored:NAME`` its mean over the
    leader's samples, ``stored_question:NAME`` the number at the question. Raises UsageError, naming
    what there is, for any other name.
    """
    if name in SIGNALS:
        return SIGNALS[name]
    place, _, of = name.partition(":")
    if of and place == "stored":
        return Stored(of)
    if of and place == "leader_stored":
        return Leader(Stored(of))
    if of and place == "stored_question":
        return Stored(of, "question")
    raise UsageError(
        f"there is no signal {name!r}; choose from {', '.join(sorted(SIGNALS))}, or name a stored "
        "number: stored:NAME, leader_stored:NAME, stored_question:NAME"
    )


def asking(names: Iterable[str]) -> tuple[AskingSignal, ...]:
    """The signals whose follow-ups the named ones need, each once, in order.

    A signal of a pool needs those of the samples it is made of. Raises UsageError as ``signal``.
    """
    return _asking(tuple(names))


@functools.lru_cache
def _asking(names: tuple[str, ...]) -> tuple[AskingSignal, ...]:
    # Kept: it is asked for every question, and looking it up takes a tenth of a millisecond.
    needed = dict.fromkeys(need for name in names for need in signal(name).needs)
    known = (SIGNALS.get(need) for need in needed)
    return tuple(each for each in known if isinstance(each, AskingSignal))


def logprobs_for(names: Iterable[str]) -> int | None:
    """Alternatives a token that samples have to come with for the named signals.

    0: the chosen tokens' log-probabilities are enough; None: none are read.
    """
    needs = {need for name in names for need in signal(name).needs}
    if "top_logprobs" in needs:
        return LEAST_TOP
    return 0 if "logprobs" in needs else None


def compute(
    signals: Iterable[str | Signal], evidence: Evidence
) -> tuple[dict[str, float | None], dict[str, str]]:
    """The signals, themselves or their names, of ``evidence``: ``(values, missing)``.

    ``values`` has every name, with a finite float or None; ``missing`` says why for each None.
    Raises UsageError, naming what there is, for a name that ``signal`` does not know.
    """
    return readings(signals, evidence)[:2]


def readings(
    signals: Iterable[str | Signal], evidence: Evidence
) -> tuple[dict[str, float | None], dict[str, str], frozenset[str]]:
    """As ``compute``, and the names of those whose evidence came and could not be read."""
    values: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    unusable: set[str] = set()
    for each in signals:
        found = signal(each) if isinstance(each, str) else each
        name = found.name
        values[name] = None
        try:
            value = found(evidence)
        except MissingEvidence as absent:
            missing[name] = str(absent)
            if isinstance(absent, Unusable):
                unusable.add(name)
            continue
        if math.isfinite(value):
            values[name] = value
        else:
            missing[name] = f"the log-probabilities or confidences give {value}, not a number"
            unusable.add(name)
    return values, missing, frozenset(unusable)
