"""The policies that are tried for a target, and what each did on some questions.

It does not know tests or splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from hashlib import blake2b
from typing import Any

import numpy as np

from poise.errors import InputError
from poise.policies import EXIT_RULES, STOP_RULES, Abstain, Answer, Fixed, Policy
from poise.profile import Profile
from poise.replay import Orders, follow
from poise.scoring import FloatArray
from poise.tune.tried import Tried
from poise.votes import Majority, Vote

__all__ = ["BARS", "abstaining", "named", "spelled", "tried"]

BARS = (0.0, *(step / 100 for step in range(5, 96, 5)), 0.97, 0.98, 0.99)
"""Probabilities below which a policy that may abstain does; 0 answers wherever there is one."""

TABLE = "table"
"""The parameter that holds what a rule has learnt, and is not for writing by hand."""


def abstaining(profile: Profile) -> tuple[Policy, ...]:
    """The profile's stop rule with every bar."""
    stop = profile.policy.stop
    return tuple(Policy(stop, Abstain(bar)) for bar in BARS)


def tried(
    orders: Orders,
    policies: Sequence[Policy],
    vote: Vote = Majority(),
    *,
    probability: FloatArray | None = None,
) -> tuple[Tried, ...]:
    """What each policy did on ``orders``, whose questions are graded or, one and all, not.

    Without grades an answer counts as right where the majority of all N samples gives it too.
    ``probability`` (q, o): what exit rules are told, nan for nothing. Raises InputError where some
    questions are graded and some not; UsageError as ``follow`` does.
    """
    if orders.gold and not orders.graded.all():
        lacking = int((~orders.graded).sum())
        raise InputError(
            f"{lacking} of {orders.graded.size} questions are not fully graded; leaving them out"
            " would certify other questions than those to come: grade them, or none"
        )
    n = orders.shape[2]
    everything = follow(orders, Policy(Fixed(n)))
    majority = everything.right == 1 if orders.gold else ~everything.abstained
    made = []
    for policy in policies:
        found = follow(orders, policy, vote, probability=probability)
        right = found.right == 1 if orders.gold else found.same_as_majority & majority
        made.append(
            Tried(
                policy=spelled(policy),
                right=right & ~found.abstained,
                answered=~found.abstained,
                samples=found.samples,
                majority=majority,
                max_samples=n,
            )
        )
    return tuple(made)


def spelled(policy: Policy) -> str:
    """The policy as ``parse_policy`` reads it, every parameter stated that can be written.

    A table that was learnt stands as its digest: it names the rule, which the profile holds.
    """
    stop = named(policy.stop, STOP_RULES)
    exit_rule = "" if policy.exit == Answer() else f" + {named(policy.exit, EXIT_RULES)}"
    return stop + exit_rule


def named(rule: Any, table: Mapping[str, Any]) -> str:
    """A rule or vote by its name in ``table``, every parameter stated; or its ``repr``."""
    name = next((name for name, kind in table.items() if kind is type(rule)), None)
    if name is None:
        return repr(rule)
    stated = ((each.name, getattr(rule, each.name)) for each in fields(rule))
    listed = ",".join(
        f"{parameter}={_written(parameter, value)}"
        for parameter, value in stated
        if value not in ("", ())
    )
    return f"{name}:{listed}" if listed else name


def _written(parameter: str, value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    if parameter == TABLE:
        return f"blake2b:{blake2b(str(value).encode(), digest_size=8).hexdigest()}"
    return str(value)
