"""Where a policy stops on the pools; a ``value`` rule without a table is learnt on the way.

Learning sees labels, so the stops of each question come from a rule learnt without its fold: what
the final map is fitted on then looks like what the rule will do to questions to come. The rule that
is kept is learnt on all of them. It does not know maps or signals of the profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from poise.fit.prefixes import Prefixes
from poise.fit.value import learn
from poise.policies import IntArray, Policy, Value
from poise.pools import Labelled
from poise.replay import Orders, orders

__all__ = ["stops_of"]

SHUFFLES = 10
"""Orders of each pool that a rule is learnt on."""


def stops_of(
    policy: Policy, pools: Sequence[Labelled], arrays: Prefixes, fold: IntArray, seed: int
) -> tuple[Policy, IntArray]:
    """The policy to keep, and the place of the last sample it draws of each question, (m,) from 0.

    A ``Value`` without a table is learnt for its own price and most samples, to be right. Raises
    RefusedError where too little is there to learn from.
    """
    rule = policy.stop
    if not isinstance(rule, Value) or rule.table or rule.max_samples == 1:
        return policy, rule.stops(arrays.codes, arrays.values) - 1
    shuffled = orders(pools, SHUFFLES, seed, max_samples=rule.max_samples)
    found = np.empty(len(pools), np.int64)
    for number in np.unique(fold):
        test = np.flatnonzero(fold == number)
        unseen = _learnt(rule, shuffled.take(np.flatnonzero(fold != number)))
        found[test] = unseen.stops(arrays.codes[test])
    return replace(policy, stop=_learnt(rule, shuffled)), found - 1


def _learnt(rule: Value, shuffled: Orders) -> Value:
    known = learn(shuffled.codes, shuffled.right, objective="right")
    return known.rule(rule.price, rule.round_price)
