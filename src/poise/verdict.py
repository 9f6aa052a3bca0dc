"""From the prefix that was stopped at to the result that is reported.

Vote, exit rule, the profile's probability where it applies, the reasons in words, and what is
missing and why. It does not know how the prefix came about.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from poise.policies import Policy
from poise.prefix import Prefix
from poise.profile import Profile, Stated
from poise.signals import AskingSignal, Evidence, compute
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
    id: str | None = None

    def to_ask(
        self, prefix: Prefix, stop: StopReason, spend: Spend
    ) -> tuple[Sequence[AskingSignal], list[int]]:
        """The follow-ups that the profile wants, and the places of the samples they are about.

        None where no probability could come of it: a question is not asked for nothing.
        """
        if self.profile is None or not self.profile.asks:
            return (), []
        state = prefix.state(spend, None)
        leader = self.vote.elect(state)
        lost = prefix.settled - len(prefix.samples)
        refused = self._refused(state.n, leader, None)
        if refused or self.profile.unfit(stop, state.n, leader, lost):
            return (), []
        places = [place for place, member in enumerate(prefix.members) if member == leader]
        return self.profile.asks, places

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
        evidence = Evidence(
            tuple(prefix.samples),
            state.clusters,
            state.counts,
            leader,
            followups=prefix.followups,
            segment=None if self.profile is None else self.profile.segment(self.question),
        )
        stated = self._stated(evidence, stop, error, prefix)
        decision = self.policy.exit.decide(state, leader, stated.probability)
        chosen = leader if decision == "answer" else None
        text = _first_text(prefix, chosen)
        if self.question.kind is None and leader is None and prefix.samples:
            decision, text = "answer", prefix.samples[0].text  # open chat: the reply is the answer
        calibrated = stated.probability is not None
        signals, missing = self._signals(stated, evidence, error)
        ranked = sorted(range(len(state.counts)), key=lambda cluster: -state.counts[cluster])
        return Result(
            id=self.id or uuid.uuid4().hex,
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
            capability=stated.capability if calibrated else None,
            profile=self.profile.provenance(stated.used) if calibrated and self.profile else None,
            signals=signals,
            missing=missing,
            samples=tuple(prefix.samples),
            clusters=state.clusters,
            votes={state.answers[cluster]: state.counts[cluster] for cluster in ranked},
            model=self.arm.backend.model,
            decoding=self._decoding(),
            route=(self.arm.backend.model,),
            spend=spend,
            rounds=rounds,
            followups=prefix.followups,
            error=error,
        )

    def _signals(
        self, stated: Stated, evidence: Evidence, error: Exception | None
    ) -> tuple[dict[str, float | None], dict[str, str]]:
        """What is reported of signals: the profile's, agreement always, and what is missing."""
        signals, missing = dict(stated.signals), dict(stated.missing)
        if "agreement" not in signals:
            found, absent = compute(["agreement"], evidence)
            signals |= found
            missing |= absent
        if self.single is not None:
            missing["agreement"] = self.single
        if error is not None:
            missing["samples"] = str(error)
        return signals, missing

    def _stated(
        self, evidence: Evidence, stop: StopReason, error: Exception | None, prefix: Prefix
    ) -> Stated:
        """The probability that is claimed, or why none is."""
        reason = self._refused(evidence.n, evidence.leader, error)
        if reason is not None or self.profile is None:
            return Stated(None, None, reason, {}, {})
        lost = prefix.settled - len(prefix.samples)
        return self.profile.state(evidence, stop, lost, prefix.unanswered)

    def _refused(self, n: int, leader: int | None, error: Exception | None) -> str | None:
        """Why no profile may speak here, whatever the samples say."""
        reason = self._reason(n, leader, error)
        if reason is not None:
            return reason
        if self.profile is None:
            return "no profile: nothing was calibrated for this model and decoding"
        arm = {**self.arm.key(self.question.kind), "decoding": self._decoding()}
        return self.profile.applies(arm, self.policy, self.vote, self.question)

    def _decoding(self) -> dict[str, Any]:
        """The arm's, and the order of decisions where it is not the usual one."""
        order = {} if self.order == "dispatch" else {"order": self.order}
        return {**self.arm.decoding, **order}

    def _reason(self, n: int, leader: int | None, error: Exception | None) -> str | None:
        """Why there is nothing to put a probability on."""
        if n == 0 and error is not None:
            return f"no sample arrived: {error}"
        if self.single is not None:
            return self.single
        if n == 0:
            return "no sample was drawn: a cap or the deadline came first"
        if leader is None:
            return "no sample holds a readable answer"
        return None


def _first_text(prefix: Prefix, chosen: int | None) -> str | None:
    """The first reply that gave the chosen answer."""
    if chosen is None:
        return None
    return prefix.samples[prefix.members.index(chosen)].text
