"""From pools to a certified policy: split by question, try, order, test, and record.

Tuning and certification have no question in common, so neither the order of the tests nor anything
fitted on the tuning questions has seen the others. It does not know commands or files.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from poise.errors import InputError, RefusedError, UsageError
from poise.fit import fit
from poise.fit.pools import fingerprint
from poise.policies import Policy, Value
from poise.pools import Labelled, split
from poise.profile import Profile
from poise.replay import Orders, orders, sweep
from poise.score import score
from poise.scoring import FloatArray
from poise.state_map import COUNTS
from poise.tune.candidates import abstaining, named, spelled, tried
from poise.tune.certificate import Certificate
from poise.tune.refusal import refusal
from poise.tune.sequence import certify
from poise.tune.target import Target
from poise.votes import VOTES, Majority, Vote

__all__ = ["SHARE", "SHUFFLES", "Tuned", "fitted", "tune", "tune_exit"]

SHARE = 0.4
"""Of the questions that tuning is given by default: certification gains more from numbers."""

SHUFFLES = 20
"""Random orders of each question's samples by default."""

TUNING, CERTIFICATION = "tuning", "certification"


@dataclass(frozen=True, slots=True)
class Tuned:
    """The cheapest policy that was certified, with its record.

    ``tuning``: the pools that a profile for it may be fitted on. ``base``: the profile whose stop
    rule and maps it is built on, which therefore stay as they are; None where there is none.
    """

    policy: Policy
    certificate: Certificate
    tuning: tuple[Labelled, ...]
    base: Profile | None = None


def tune(
    pools: Sequence[Labelled],
    target: Target,
    policy: str = "beta",
    *,
    delta: float = 0.1,
    shuffles: int = SHUFFLES,
    share: float = SHARE,
    max_samples: int | None = None,
    vote: Vote = Majority(),
    seed: int = 0,
) -> Tuned:
    """The cheapest setting of ``policy`` that keeps to ``target``, certified, or refused.

    ``policy``: a name, whose threshold is swept, or one policy with its parameters; ``pools`` of
    one arm, a question once; ``delta`` in (0, 1): risk of a wrong certificate; ``share`` of the
    questions for tuning. Without any grades right means as the majority of all samples, and a
    ``loss`` is an upper bound on the loss of right answers. Raises RefusedError with the best
    feasible target where none is certified; InputError, UsageError.
    """
    arm, parts = _arm(pools), _split(pools, share, seed)
    most = max_samples or max(len(one.pool.samples) for one in pools)
    policies = sweep(policy, most).policies
    needs = sorted({*policies[0].stop.needs, *vote.needs})
    held = _parted(orders(pools, shuffles, seed, needs, max_samples=max_samples), parts)
    return _certified(
        target, policies, parts, held, {}, delta=delta, vote=vote, seed=seed, share=share, arm=arm
    )


def tune_exit(
    pools: Sequence[Labelled],
    target: Target,
    profile: Profile,
    *,
    delta: float = 0.1,
    share: float = SHARE,
    seed: int = 0,
) -> Tuned:
    """The bar on the probability below which ``profile`` has to abstain to keep to ``target``.

    The profile's stop rule and maps stay as they are, so ``pools`` must be questions it was not
    fitted on: it is refused the same file, and cannot know more. Each pool is followed in its own
    order. Errors as in ``tune``.
    """
    if fingerprint(pools) == profile.data.get("fingerprint"):
        raise RefusedError("the profile was fitted on these pools; its bar takes other questions")
    arm, parts = _arm(pools), _split(pools, share, seed)
    least = min(len(one.pool.samples) for one in pools)
    if least < profile.policy.stop.max_samples:
        raise InputError(
            f"the pools hold {least} samples and the profile's policy draws up to"
            f" {profile.policy.stop.max_samples}"
        )
    held = _parted(orders(pools, 0, seed, max_samples=least, own_order=True), parts)
    told = _told(parts, profile)
    policies = abstaining(profile)
    found = _certified(
        target,
        policies,
        parts,
        held,
        told,
        delta=delta,
        vote=Majority(),
        seed=seed,
        share=share,
        arm=arm,
    )
    return replace(found, base=profile)


def fitted(tuned: Tuned, like: Profile | None = None) -> Profile:
    """A profile for the certified policy, with its certificate.

    Fitted on the tuning questions, or the ``base`` with another exit rule, for that changes no stop
    and no map. ``like``: a profile to read the same signals as, which becomes the parent. Errors as
    in ``fit``; UsageError for a vote that profiles do not speak for.
    """
    if tuned.certificate.vote != "majority":
        raise UsageError(f"profiles are for majority votes, not {tuned.certificate.vote}")
    if tuned.base is not None:
        return _renewed(tuned.base, tuned, tuned.base)
    further = None
    if like is not None:
        further = [name for name in like.signals if name not in COUNTS]
    stop = tuned.policy.stop
    # Without a table of its own a value rule would be learnt anew, and stop elsewhere.
    kept = replace(tuned.policy, stop=stop.written()) if isinstance(stop, Value) else tuned.policy
    made = fit(tuned.tuning, kept, signals=further, seed=tuned.certificate.seed)
    return _renewed(made, replace(tuned, policy=kept), like)


# -- inside -------------------------------------------------------------------------------------


def _certified(
    target: Target,
    policies: Sequence[Policy],
    parts: dict[str, list[Labelled]],
    held: dict[str, Orders],
    told: dict[str, FloatArray],
    *,
    delta: float,
    vote: Vote,
    seed: int,
    share: float,
    arm: dict[str, Any],
) -> Tuned:
    if not any(one.read for one in held.values()):
        raise InputError("no sample holds a readable answer: there is nothing to certify")
    gold = held[TUNING].gold or held[CERTIFICATION].gold
    if gold and not all(one.graded.all() for one in held.values()):
        raise InputError(
            "some questions are not fully graded; leaving them out would certify other questions"
            " than those to come: grade them, or none"
        )
    if target.kind == "risk" and not gold:
        raise InputError(f"{target}: wrong answers take grades, and the pools have none")
    tuning, certification = (
        tried(held[name], policies, vote, probability=told.get(name))
        for name in (TUNING, CERTIFICATION)
    )
    tested = certify(target, tuning, certification, delta=delta, seed=seed)
    passed = [one.policy for one in tested if one.certified]
    if not passed:
        raise refusal(target, tuning, certification, tested, delta=delta, seed=seed)
    listed = [one for part in parts.values() for one in part]
    q, o, n = held[CERTIFICATION].shape
    certificate = Certificate(
        target=target,
        delta=delta,
        policy=passed[-1],
        vote=named(vote, VOTES),
        truth="gold" if gold else "majority",
        questions={TUNING: held[TUNING].shape[0], CERTIFICATION: q},
        orders=o,
        max_samples=n,
        candidates=len(policies),
        tested=tested,
        seed=seed,
        share=share,
        fingerprint=fingerprint(listed),
        arm=arm,
        datasets=tuple(sorted({one.pool.dataset for one in listed})),
        created=dt.datetime.now(dt.UTC).date().isoformat(),
    )
    chosen = next(one for one in policies if spelled(one) == passed[-1])
    return Tuned(chosen, certificate, tuple(parts[TUNING]))


def _split(pools: Sequence[Labelled], share: float, seed: int) -> dict[str, list[Labelled]]:
    parts = split(pools, {TUNING: share, CERTIFICATION: 1 - share}, seed)
    for name, part in parts.items():
        if not part:
            raise RefusedError(f"{len(pools)} questions leave none for {name}; more are needed")
    return parts


def _parted(made: Orders, parts: dict[str, list[Labelled]]) -> dict[str, Orders]:
    """The orders of each part: made together, so that parts cannot differ in arm or size."""
    row = {group: place for place, group in enumerate(made.group)}
    return {
        name: made.take(np.array([row[one.pool.group] for one in part]))
        for name, part in parts.items()
    }


def _arm(pools: Sequence[Labelled]) -> dict[str, Any]:
    """What the pools state of their arm. Raises InputError where they differ or there are none."""
    if not pools:
        raise InputError("there are no pools to tune on")
    first = pools[0].pool
    for one in pools:
        pool = one.pool
        if (pool.engine, pool.prompt_hash) != (first.engine, first.prompt_hash):
            raise InputError(
                f"question {pool.question_id!r} is of another engine or prompt than"
                f" {first.question_id!r}; a certificate speaks for one arm"
            )
    decoding = first.decoding
    return {
        "engine": first.engine,
        "model": first.model,
        "decoding": None if decoding is None else dict(decoding),
        "prompt_hash": first.prompt_hash,
    }


def _told(parts: dict[str, list[Labelled]], profile: Profile) -> dict[str, FloatArray]:
    """(q, 1) the probability that the profile states at its own stop, nan where it claims none.

    Raises InputError, with a reason, where it claims none anywhere.
    """
    stated = {
        name: [score(one.pool, (), profile).stated for one in part] for name, part in parts.items()
    }
    every = [one for part in stated.values() for one in part]
    if all(one.probability is None for one in every):
        raise InputError(f"the profile claims no probability on these pools: {every[0].reason}")
    return {
        name: np.array(
            [[np.nan if one.probability is None else one.probability] for one in part], np.float64
        )
        for name, part in stated.items()
    }


def _renewed(profile: Profile, tuned: Tuned, parent: Profile | None) -> Profile:
    made = replace(
        profile,
        id="",
        parent=None if parent is None else parent.id,
        version=1 if parent is None else parent.version + 1,
        policy=tuned.policy,
        certificate=tuned.certificate.to_dict(),
    )
    return replace(made, id=made.to_dict()["sha256"][:12])
