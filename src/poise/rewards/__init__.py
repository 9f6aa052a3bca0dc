"""Rewards for training calibrated confidence, in TRL's signature, without any training code.

Each is a pure function ``reward(prompts=…, completions=…, **columns)`` to one number a completion,
None where it has nothing to say. Columns are those of the data set; parameters that are the same
for all rows (``kind``, ``read``, ``threshold``, ``mix``) are set with ``functools.partial``.

======================  ============  ===========================================  ================
name                    range         is large for                                 columns
======================  ============  ===========================================  ================
correctness             0 or 1        a right answer                               gold, kind
thresholded             to 1          answering exactly above a stated threshold   … threshold
reference_accuracy      -1, 0, 1      being right where a reference was not        … reference_…
formatted               0 or 1        an answer and a confidence in the form       kind
brier                   [0, 1]        a true confidence in this answer (RLCR)      gold, kind
spherical               [0, 1]        the same                                     gold, kind
bounded_log             [0, 1]        the same; for confidence tokens alone        gold, kind
capability              [0, 1]        a true confidence in any answer (DCPO)       gold, kind
majority                0 or 1        the question's most frequent answer (TTRL)   kind
semantic_frequency      [0, 1]        a frequent answer (EMPO)                     kind
self_certainty          from 0        peaked distributions (INTUITOR)              mean_logprobs, …
reference_probability   [0, 1]        reasoning that makes gold likely (RLPR)      reference_…
======================  ============  ===========================================  ================

::

    statement.py  a completion taken apart    judging.py     rows held against gold
    accuracy.py   being right                 proper.py      being right about being right
    agreement.py  agreeing with the others    likelihood.py  the model's own probabilities
    targets.py    targets, split advantages   weights.py     which sums can be gamed
    verl.py       verl's signature

It does not know: models, trainers, or which tokens learn from a reward.
"""

from __future__ import annotations

from collections.abc import Callable

from poise.rewards.accuracy import correctness, formatted, reference_accuracy, thresholded
from poise.rewards.agreement import majority, semantic_frequency
from poise.rewards.judging import Rewards
from poise.rewards.likelihood import reference_probability, self_certainty
from poise.rewards.proper import bounded_log, brier, capability, spherical
from poise.rewards.statement import READERS, Reader, Stated
from poise.rewards.targets import leave_one_out, mixed_targets, split_advantages
from poise.rewards.weights import check_weights

__all__ = [
    "READERS",
    "REWARDS",
    "Reader",
    "Reward",
    "Rewards",
    "Stated",
    "bounded_log",
    "brier",
    "capability",
    "check_weights",
    "correctness",
    "formatted",
    "leave_one_out",
    "majority",
    "mixed_targets",
    "reference_accuracy",
    "reference_probability",
    "self_certainty",
    "semantic_frequency",
    "spherical",
    "split_advantages",
    "thresholded",
]

Reward = Callable[..., Rewards]
"""A reward function as TRL calls one: keywords in, one number or None a completion out."""

REWARDS: dict[str, Reward] = {
    each.__name__: each
    for each in (
        *(correctness, thresholded, reference_accuracy, formatted),
        *(brier, spherical, bounded_log, capability),
        *(majority, semantic_frequency, self_certainty, reference_probability),
    )
}
"""Rewards by the name under which commands, configuration and weights know them."""
