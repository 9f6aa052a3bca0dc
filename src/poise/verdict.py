"""From the prefix that was stopped at to the result that is reported.

Vote, exit rule, the reasons in words, and what is missing and why. It does not know how the prefix
came about.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from poise.policies import Policy
from poise.prefix import Prefix
from poise.spend import Spend
from poise.types import Arm, Question, Result, State, StopReason
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
        text = next(
            (
                sample.text
                for sample, cluster in zip(prefix.samples, prefix.members, strict=True)
                if chosen is not None and cluster == chosen
            ),
            None,
        )
        if self.question.kind is None and chosen is None and prefix.samples:
            decision, text = "answer", prefix.samples[0].text  # open chat: the reply is the answer
        agreement, no_agreement = self._agreement(state, leader)
        missing = {} if no_agreement is None else {"agreement": no_agreement}
        if error is not None:
            missing["samples"] = str(error)
        decoding = dict(self.arm.decoding)
        if self.order != "dispatch":
            decoding["order"] = self.order
        ranked = sorted(range(len(state.counts)), key=lambda cluster: -state.counts[cluster])
        return Result(
            id=uuid.uuid4().hex,
            question_id=self.question.id,
            kind=self.question.kind,
            answer=None if chosen is None else state.answers[chosen],
            text=text,
            decision=decision,
            stop=stop,
            reason=self._reason(state, leader, error),
            signals={"agreement": agreement},
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

    def _agreement(self, state: State, leader: int | None) -> tuple[float | None, str | None]:
        """The leader's share of all samples drawn, or None and why there is no such number."""
        if self.single is not None:
            return None, self.single
        if leader is None:
            return None, "no readable answer"
        if state.n == 1:
            return None, "one sample can only agree with itself"
        return state.counts[leader] / state.n, None

    def _reason(self, state: State, leader: int | None, error: Exception | None) -> str:
        """Why no probability is claimed."""
        if state.n == 0 and error is not None:
            return f"no sample arrived: {error}"
        if self.single is not None:
            return self.single
        if state.n == 0:
            return "no sample was drawn: a cap or the deadline came first"
        if leader is None:
            return "no sample holds a readable answer"
        return "no profile: nothing was calibrated for this model and decoding"
