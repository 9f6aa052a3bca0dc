"""Stored pools scored again: signals, and a profile's probability at its policy's own stop.

Nothing is drawn or asked: what a pool does not hold is missing, with the reason. It does not see
labels, and does not know files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from poise.answers.clusters import Clusters
from poise.errors import MissingEvidence
from poise.pools import Pool
from poise.profile import Profile, Stated
from poise.signals import SIGNALS, Evidence, compute, signal
from poise.types import Kind, Sample, State, Stop, StopReason
from poise.types.result import beta_dict
from poise.votes import Majority

__all__ = ["Scored", "score"]


@dataclass(frozen=True, slots=True)
class Scored:
    """What is known of one stored pool. ``n``: samples looked at, of all that the pool holds.

    ``place``: the first of the samples that gave the answer, None where none could be read.
    ``each``: signals of single samples, one mapping a sample, where any were named. ``stop`` None:
    no policy was followed.
    """

    pool: Pool
    n: int
    place: int | None
    votes: Mapping[str, int]
    stop: StopReason | None
    segment: str | None
    stated: Stated
    profile: Mapping[str, Any] | None = None
    each: tuple[Mapping[str, float | None], ...] = field(default=())

    @property
    def answer(self) -> str | None:
        """The answer that the vote elected."""
        return None if self.place is None else self.pool.samples[self.place].answer

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the names of a result, and of a pool's key."""
        pool, stated = self.pool, self.stated
        record = {
            "schema": 1,
            "dataset": pool.dataset,
            "question_id": pool.question_id,
            "model": pool.model,
            "decoding": None if pool.decoding is None else dict(pool.decoding),
            "run": pool.run,
            "segment": self.segment,
            "answer": self.answer,
            "decision": "abstain" if self.place is None else "answer",
            "probability": stated.probability,
            "about": "response",
            "interval": None if stated.interval is None else list(stated.interval),
            "interval_kind": None if stated.interval is None else "bootstrap",
            "calibrated": stated.probability is not None,
            "reason": stated.reason,
            "capability": beta_dict(stated.capability),
            "profile": None if self.profile is None else dict(self.profile),
            "signals": dict(stated.signals),
            "missing": dict(stated.missing),
            "n_samples": self.n,
            "votes": dict(self.votes),
            "stop": None if self.stop is None else self.stop.value,
        }
        if self.each:
            record["samples"] = [{"signals": dict(values)} for values in self.each]
        return record


def score(
    pool: Pool, signals: Sequence[str] | None = None, profile: Profile | None = None
) -> Scored:
    """The ``signals`` of a pool and, with a ``profile``, the probability at its policy's stop.

    ``signals`` None: the profile's; without one, all of pools and questions that can be read here.
    Without a profile all samples are looked at. Those of single samples go into ``each``. Raises
    UsageError for an unknown signal.
    """
    codes = _codes(pool.samples, pool.kind)
    n, stop = len(pool.samples), None
    if profile is not None:
        n, stop = _stopped(pool.samples, codes, profile)
    evidence = _evidence(pool, codes[:n], profile)
    named = [signal(name) for name in signals or ()]
    stated = Stated(None, None, "no profile: the signals are not calibrated", {}, {})
    if profile is not None:
        stated = _stated(pool, profile, evidence, stop)
    elif signals is None:
        named = [one for one in SIGNALS.values() if one.level != "sample" and _there(one, evidence)]
    values, missing = compute([one for one in named if one.level != "sample"], evidence)
    alone = [one for one in named if one.level == "sample"]
    singles = (compute(alone, Evidence.single(sample))[0] for sample in evidence.samples)
    place = None if evidence.leader is None else codes.index(evidence.leader)
    stated = Stated(
        stated.probability,
        stated.interval,
        stated.reason,
        {**stated.signals, **values},
        {**stated.missing, **missing},
        stated.used,
        stated.capability,
    )
    calibrated = profile is not None and stated.probability is not None
    return Scored(
        pool=pool,
        n=n,
        place=place,
        votes=_votes(pool, codes[:n], evidence.counts),
        stop=stop,
        segment=evidence.segment,
        stated=stated,
        profile=profile.provenance(stated.used) if profile is not None and calibrated else None,
        each=tuple(singles) if alone else (),
    )


# -- inside -------------------------------------------------------------------------------------


def _codes(samples: Sequence[Sample], kind: Kind | None) -> list[int | None]:
    clusters = Clusters(kind)
    return [clusters.add(sample.answer) for sample in samples]


def _stopped(
    samples: Sequence[Sample], codes: Sequence[int | None], profile: Profile
) -> tuple[int, StopReason]:
    """Where the profile's policy stops on these draws; ``error`` where it wants more of them."""
    rule = profile.policy.stop
    alone = [compute(rule.needs, Evidence.single(sample))[0] for sample in samples]
    for n in range(len(codes) + 1):
        columns = {name: tuple(one[name] for one in alone[:n]) for name in rule.needs}
        decision = rule.decide(replace(_state(codes[:n]), columns=columns))
        if isinstance(decision, Stop):
            return n, decision.reason
    return len(codes), StopReason.ERROR


def _state(codes: Sequence[int | None]) -> State:
    counts = _counts(codes)
    return State(tuple(codes), counts, tuple(str(number) for number in range(len(counts))))


def _counts(codes: Sequence[int | None]) -> tuple[int, ...]:
    known = [code for code in codes if code is not None]
    return tuple(known.count(number) for number in range(max(known, default=-1) + 1))


def _evidence(pool: Pool, codes: Sequence[int | None], profile: Profile | None) -> Evidence:
    state = _state(codes)
    segment, question = pool.segment, pool.question
    if profile is not None and question is not None:
        segment = profile.segment(question)
    return Evidence(
        pool.samples[: len(codes)],
        state.clusters,
        state.counts,
        Majority().elect(state),
        followups=pool.followups,
        values=pool.signals,
        segment=segment,
    )


def _stated(pool: Pool, profile: Profile, evidence: Evidence, stop: StopReason | None) -> Stated:
    question = pool.question
    reason: str | None = "the pool leaves its question out, so its domain is not known"
    if question is not None:
        arm = {
            "engine": pool.engine,
            "model": pool.model,
            "decoding": None if pool.decoding is None else dict(pool.decoding),
            "prompt_hash": pool.prompt_hash,
        }
        reason = profile.applies(arm, profile.policy, Majority(), question)
    if reason is None and stop is StopReason.ERROR:
        reason = f"the policy wants more than the {len(pool.samples)} samples of the pool"
    if reason is not None or stop is None:
        return Stated(None, None, reason, {}, {})
    return profile.state(evidence, stop)


def _there(one: Any, evidence: Evidence) -> bool:
    try:
        one(evidence)
    except MissingEvidence:
        return False
    return True


def _votes(pool: Pool, codes: Sequence[int | None], counts: Sequence[int]) -> dict[str, int]:
    """Votes by answer, most first; each cluster under the name of its first member."""
    named = {code: pool.samples[codes.index(code)].answer for code in range(len(counts))}
    ranked = sorted(range(len(counts)), key=lambda code: -counts[code])
    return {str(named[code]): counts[code] for code in ranked}
