"""Draws put back into dispatch order, their answers read and clustered.

The prefix is what decisions are made on. Draws arrive in whatever order they finish; each enters
the prefix only after all that were sent before it. It does not know: stop rules, calls, spend.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from poise.answers import KINDS, Reading, read
from poise.answers.clusters import Clusters
from poise.dispatch import Arrival
from poise.spend import Spend
from poise.types import FollowUp, Question, Sample, State

__all__ = ["Prefix"]


class Prefix:
    """The samples of one question that a stop rule may see, growing one draw at a time.

    ``in_order`` False takes draws in the order of completion instead. ``settled`` counts draws
    that came to their end, sampled or failed; ``samples`` those with a reply, and ``members`` the
    answer cluster of each (None: unreadable). ``followups``: replies to further questions about the
    question; ``unanswered``: signals whose questions got no reply, and why.
    """

    def __init__(self, question: Question, *, in_order: bool):
        self._question, self._in_order = question, in_order
        self._clusters = Clusters(question.kind)
        self._slow = question.kind is not None and KINDS[question.kind].slow
        self._waiting: dict[int, Arrival] = {}
        self.samples: list[Sample] = []
        self.members: list[int | None] = []
        self.settled = 0
        self.followups: dict[str, FollowUp] = {}
        self.unanswered: dict[str, str] = {}

    def arrive(self, arrivals: list[Arrival]) -> None:
        """Note draws that came to their end, in whatever order."""
        for arrival in arrivals:
            place = arrival.index if self._in_order else self.settled + len(self._waiting)
            self._waiting[place] = arrival

    async def advance(self) -> bool:
        """Take the next draw into the prefix; False when it has not arrived yet.

        A draw that failed for good leaves no sample: the prefix goes on past it.
        """
        arrival = self._waiting.pop(self.settled, None)
        if arrival is None:
            return False
        self.settled += 1
        if arrival.reply is None:
            return True
        reply, question = arrival.reply, self._question
        if question.kind is not None:
            reading = read(reply, question.kind, question.options)
        elif reply.answered:
            reading = Reading(reply.answer, None if reply.answer else "stored as unreadable")
        else:
            reading = Reading(None, "the answer kind is not known")
        if self._slow:
            # Comparing mathematics may take seconds in another process; the event loop goes on.
            self.members.append(await asyncio.to_thread(self._clusters.add, reading.answer))
        else:
            self.members.append(self._clusters.add(reading.answer))
        self.samples.append(
            Sample(
                index=arrival.index,
                text=reply.text,
                answer=reading.answer,
                unread=reading.reason,
                finish=reply.finish,
                tokens=reply.tokens,
                seconds=arrival.seconds,
                seed=arrival.seed,
                logprobs=reply.logprobs,
                signals=reply.signals,
            )
        )
        return True

    def note(
        self,
        places: Sequence[int],
        samples: Sequence[Sample],
        followups: Mapping[str, FollowUp],
        unanswered: Mapping[str, str],
    ) -> None:
        """Keep what follow-ups brought: ``samples`` go to ``places``, with the replies they got."""
        for place, sample in zip(places, samples, strict=True):
            self.samples[place] = sample
        self.followups |= followups
        self.unanswered |= unanswered

    def state(self, spend: Spend, seconds_left: float | None) -> State:
        """What a stop rule may look at."""
        return State(
            clusters=tuple(self.members),
            counts=self._clusters.counts,
            answers=self._clusters.answers,
            spend=spend,
            seconds_left=seconds_left,
        )
