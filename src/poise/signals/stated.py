"""Confidences that a model states in words or numbers, before it answers, after, or in the reply.

What they take on is discrete: models state round numbers. It does not know how good a model is at
this (mostly poor and too sure), which is why a calibrator for levels suits it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from poise.errors import MissingEvidence
from poise.signals.asking import Ask, around, replied, said
from poise.signals.confidence_text import band_in, confidence_in, percentage_in
from poise.signals.evidence import Evidence
from poise.types import FollowUp, Message, Question, Sample

__all__ = ["BANDS", "StatedBand", "StatedConfidence", "StatedInline"]

BANDS = (
    "practically impossible",
    "very unlikely",
    "unlikely",
    "rather unlikely",
    "a little under even",
    "a little over even",
    "rather likely",
    "likely",
    "very likely",
    "practically certain",
)
"""Ten bands of probability in words, 0-10 % first."""

_LISTED = "\n".join(f"{10 * i}-{10 * i + 10}%: {label}" for i, label in enumerate(BANDS))
_HOW_LIKELY = "\n\nDo not answer it yet. How likely are you to answer it correctly?"
_AGAIN = f"{_HOW_LIKELY} Reply with one of the ten lines only."
_SURELY_RIGHT = (
    f"Question: Which city is the capital of France?{_HOW_LIKELY}\n{_LISTED}\n\n"
    "Reply with one of these ten lines only."
)
_SURELY_WRONG = f"Question: Which number from 1 to 1000 am I thinking of?{_AGAIN}"
# One example from each end: without any, small models answer the question instead.
_EXAMPLES: tuple[Message, ...] = (
    {"role": "user", "content": _SURELY_RIGHT},
    {"role": "assistant", "content": "90-100%: practically certain"},
    {"role": "user", "content": _SURELY_WRONG},
    {"role": "assistant", "content": "0-10%: practically impossible"},
)
_AFTER = (
    "\nProposed answer: {}\n\nHow confident are you that the proposed answer is correct? "
    "Reply with a percentage from 0% to 100% and nothing else."
)


@dataclass(frozen=True, slots=True)
class StatedBand:
    """How likely the model thinks it will be right, asked before it answers: a band's centre.

    Levels 0.05, 0.15, …, 0.95. Ten verbal bands are shown with their numbers, and one example from
    each end; the last band in the reply counts, named by words or numbers. It is about the
    question, so that it can speak of capability. Where no reply was kept, a number in [0, 1] that
    the file stores at the question under this name is taken. Raises MissingEvidence without either
    and where no band is named.
    Source: the verbalised baseline of Yang et al. 2026, arXiv 2602.13540, in other words.
    """

    name: ClassVar[str] = "stated_band"
    level: ClassVar[Literal["question"]] = "question"
    needs: ClassVar[tuple[str, ...]] = ("stated_band",)
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    version: ClassVar[int] = 1

    def ask(self, question: Question, sample: Sample | None) -> Ask | None:  # noqa: ARG002
        """One line of the list; ``sample`` is not looked at."""
        asked = around(question, "Question: ", _AGAIN)
        # Chat templates take a system message at the start only.
        opening = 1 if len(asked) > 1 and asked[0].get("role") == "system" else 0
        return Ask((*asked[:opening], *_EXAMPLES, *asked[opening:]), 16, None)

    def __call__(self, evidence: Evidence) -> float:
        """The centre of the band that the reply names."""
        found = replied(self.name, self.version, evidence.followups, evidence.values)
        if isinstance(found, FollowUp):
            return (band_in(said(found.text), BANDS) + 0.5) / len(BANDS)
        return found


@dataclass(frozen=True, slots=True)
class StatedConfidence:
    """How sure the model says it is of an answer that it is shown: [0, 1], in whole per cents.

    Question and answer are shown, not whose answer it is: samples that agree share one call. How
    the reply is read: ``confidence_text``. Where no reply was kept, a number in [0, 1] that the
    file stores under this name is taken. Raises MissingEvidence without either and where the reply
    holds no percentage or one out of range.
    """

    name: ClassVar[str] = "stated"
    level: ClassVar[Literal["sample"]] = "sample"
    needs: ClassVar[tuple[str, ...]] = ("stated",)
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    version: ClassVar[int] = 1

    def ask(self, question: Question, sample: Sample | None) -> Ask | None:
        """A percentage; None for no readable answer."""
        if sample is None or sample.answer is None:
            return None
        return Ask(around(question, "Question: ", _AFTER.format(sample.answer)), 16, None)

    def __call__(self, evidence: Evidence) -> float:
        """The percentage in the reply about the one sample."""
        sample = evidence.only
        found = replied(self.name, self.version, sample.followups, sample.signals)
        return percentage_in(said(found.text)) if isinstance(found, FollowUp) else found


@dataclass(frozen=True, slots=True)
class StatedInline:
    """The confidence that a sample's own text states, because the prompt asked for it: [0, 1].

    No follow-up: "Confidence: 85%", "85% sure", ``<confidence>0.85</confidence>``; the last one
    outside the thinking wins (how it is read: ``confidence_text``). Where the text was not kept, a
    number in [0, 1] that the file stores under this name is taken. Raises MissingEvidence without
    either, and where the text states none, a bare "1", or one out of range.
    """

    name: ClassVar[str] = "stated_inline"
    level: ClassVar[Literal["sample"]] = "sample"
    needs: ClassVar[tuple[str, ...]] = ("text",)
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(self, evidence: Evidence) -> float:
        """The confidence stated in the one sample."""
        sample = evidence.only
        if sample.text is not None:
            return confidence_in(said(sample.text))
        if sample.signals.get(self.name) is None:
            raise MissingEvidence("the reply's text was not kept")
        found = replied(self.name, None, {}, sample.signals)
        assert isinstance(found, float)
        return found
