"""Draws put back into dispatch order, their answers read and clustered.

The prefix is what decisions are made on. Draws arrive in whatever order they finish; each enters
the prefix only after all that were sent before it. The signals that the stop rule or the vote
reads are computed on the way, once a sample. It does not know: stop rules, calls, spend.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from poise.answers import KINDS, Reading, read
from poise.answers.clusters import Clusters
from poise.dispatch import Arrival
from poise.errors import UsageError
from poise.signals import Evidence, Signal, compute, signal
from poise.spend import Spend
from poise.types import FollowUp, Question, Sample, State

__all__ = ["Prefix"]


class Prefix:
    """The samples of one question that a stop rule may see, growing one draw at a time.

    ``in_order`` False takes draws in the order of completion instead. ``settled`` counts draws
    that came to their end, sampled or failed; ``samples`` those with a reply, and ``members`` the
    answer cluster of each (None: unreadable). ``followups``: replies to further questions about the
    question; ``unanswered``: signals whose questions got no reply, and why. ``needs``: signals of
    single samples to show in ``State.columns``; raises UsageError for any other.
    """

    def __init__(self, question: Question, *, in_order: bool, needs: Sequence[str] = ()):
        self._question, self._in_order = question, in_order
        self._clusters = Clusters(question.kind)
        self._slow = question.kind is not None and KINDS[question.kind].slow
        self._waiting: dict[int, Arrival] = {}
        self.samples: list[Sample] = []
        self.members: list[int | None] = []
        self.settled = 0
        self.followups: dict[str, FollowUp] = {}
        self.unanswered: dict[str, str] = {}
        self._read = {name: _of_samples(name) for name in needs}
        self._columns: dict[str, list[float | None]] = {name: [] for name in needs}

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
        sample = Sample(
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
            raw=reply.raw,
        )
        self.samples.append(sample)
        for name, value in self._values(sample).items():
            self._columns[name].append(value)
        return True

    def note(
        self,
        places: Sequence[int],
        samples: Sequence[Sample],
        followups: Mapping[str, FollowUp],
        unanswered: Mapping[str, str],
    ) -> None:
        """Keep what follow-ups brought: ``samples`` go to ``places``, with the replies they got.

        What ``needs`` names is read from them again: the replies may be what it was missing.
        """
        for place, sample in zip(places, samples, strict=True):
            self.samples[place] = sample
            for name, value in self._values(sample).items():
                self._columns[name][place] = value
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
            columns={name: tuple(values) for name, values in self._columns.items()},
        )

    def _values(self, sample: Sample) -> dict[str, float | None]:
        """What ``needs`` names, of one sample."""
        if not self._read:
            return {}
        return compute(self._read.values(), Evidence.single(sample))[0]


def _of_samples(name: str) -> Signal:
    found = signal(name)
    if found.level != "sample":
        raise UsageError(
            f"{name} is a signal of the {found.level}; stop rules and votes read those of single "
            "samples"
        )
    return found
