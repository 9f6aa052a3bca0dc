"""From the prefix that was stopped at to the result that is reported.

Vote, exit rule, the profile's probability where it applies, the reasons in words, and what is
missing and why. It does not know how the prefix came about.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from poise.policies import Policy
from poise.prefix import Prefix
from poise.profile import Profile, Stated
from poise.signals import Evidence, compute
from poise.spend import Spend
from poise.types import Arm, Question, Result, StopReason
from poise.votes import Vote

__all__ = ["Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything about a result that is settled before the first draw.

    ``single``: why only one sample was allowed, None where the policy had a free hand.
    """

    question: Question
    arm: Arm
    policy: Policy
    vote: Vote
    order: str
    single: str | None
    profile: Profile | None = None

    def result(
        self,
        prefix: Prefix,
        stop: StopReason,
        spend: Spend,
        rounds: int = 0,
        error: Exception | None = None,
    ) -> Result:
        """The result at the prefix where sampling stopped."""
        state = prefix.state(spend, None)
        leader = self.vote.elect(state)
        decision = self.policy.exit.decide(state, leader)
        chosen = leader if decision == "answer" else None
        text = _first_text(prefix, chosen)
        if self.question.kind is None and chosen is None and prefix.samples:
            decision, text = "answer", prefix.samples[0].text  # open chat: the reply is the answer
        decoding = dict(self.arm.decoding)
        if self.order != "dispatch":
            decoding["order"] = self.order
        evidence = Evidence(tuple(prefix.samples), state.clusters, state.counts, leader)
        lost = prefix.settled - len(prefix.samples)
        stated = self._stated(evidence, stop, decoding, error, lost)
        calibrated = stated.probability is not None and decision == "answer"
        signals, missing = dict(stated.signals), dict(stated.missing)
        if "agreement" not in signals:
            found, absent = compute(["agreement"], evidence)
            signals |= found
            missing |= absent
        if self.single is not None:
            missing["agreement"] = self.single
        if error is not None:
            missing["samples"] = str(error)
        ranked = sorted(range(len(state.counts)), key=lambda cluster: -state.counts[cluster])
        return Result(
            id=uuid.uuid4().hex,
            question_id=self.question.id,
            kind=self.question.kind,
            answer=None if chosen is None else state.answers[chosen],
            text=text,
            decision=decision,
            stop=stop,
            probability=stated.probability if calibrated else None,
            interval=stated.interval if calibrated else None,
            interval_kind="bootstrap" if calibrated and stated.interval else None,
            calibrated=calibrated,
            reason=None if calibrated else stated.reason,
            profile=self.profile.provenance() if calibrated and self.profile else None,
            signals=signals,
            missing=missing,
            samples=tuple(prefix.samples),
            votes={state.answers[cluster]: state.counts[cluster] for cluster in ranked},
            model=self.arm.backend.model,
            decoding=decoding,
            route=(self.arm.backend.model,),
            spend=spend,
            rounds=rounds,
            error=error,
        )

    def _stated(
        self,
        evidence: Evidence,
        stop: StopReason,
        decoding: Mapping[str, Any],
        error: Exception | None,
        lost: int,
    ) -> Stated:
        """The probability that is claimed, or why none is."""
        reason = self._reason(evidence, error)
        if reason is None and self.profile is None:
            reason = "no profile: nothing was calibrated for this model and decoding"
        if reason is None and self.profile is not None:
            arm = {**self.arm.key(self.question.kind), "decoding": dict(decoding)}
            reason = self.profile.applies(arm, self.policy, self.vote, self.question)
            if reason is None:
                return self.profile.state(evidence, stop, lost)
        return Stated(None, None, reason, {}, {})

    def _reason(self, evidence: Evidence, error: Exception | None) -> str | None:
        """Why there is nothing to put a probability on."""
        if evidence.n == 0 and error is not None:
            return f"no sample arrived: {error}"
        if self.single is not None:
            return self.single
        if evidence.n == 0:
            return "no sample was drawn: a cap or the deadline came first"
        if evidence.leader is None:
            return "no sample holds a readable answer"
        return None


def _first_text(prefix: Prefix, chosen: int | None) -> str | None:
    """The first reply that gave the chosen answer."""
    if chosen is None:
        return None
    return prefix.samples[prefix.members.index(chosen)].text
