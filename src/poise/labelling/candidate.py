"""A stored answer that a person might label, and which of them are one and the same task.

It does not know how picks are drawn, files, or grading.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from poise.answers.clusters import Clusters
from poise.errors import UsageError
from poise.pools import Labelled, Pool, canonical

__all__ = ["BANDS", "Candidate", "Key", "Twins", "band_of", "distinct", "given_by"]

Key = tuple[str, str, str, str, str]
"""(dataset, model, decoding, run, question_id), "" where not stated: ``Pool.key``."""

BANDS = 5
"""Bands of equal width on [0, 1]; answers without a probability are a band of their own."""

ABSTAIN = "abstain"
DECISIONS = ("answer", ABSTAIN)


@dataclass(frozen=True, slots=True)
class Candidate:
    """The answer reported for one question under one arm, and what is known about it.

    ``decoding``: its canonical JSON, as in ``Pool.key``. ``question``: all that was asked, the
    options of a choice included: equal texts count as one question. ``probability`` in [0, 1]:
    ``calibrated``, or that of the raw signal ``stand_in`` taken for one. ``decision``: answer |
    abstain, with the ``reason``. ``labelled``: nobody has to be asked; ``correct`` (1, 0) is then
    the label, None where it is not known here. Raises UsageError where these contradict each other.
    """

    dataset: str
    question_id: str
    model: str
    run: str | None = None
    decoding: str | None = None
    question: str | None = None
    segment: str | None = None
    answer: str | None = None
    probability: float | None = None
    calibrated: bool = False
    stand_in: str = "signal"
    decision: str = "answer"
    reason: str | None = None
    labelled: bool = False
    correct: int | None = None

    def __post_init__(self) -> None:
        problem = None
        if self.decision not in DECISIONS:
            problem = f"decision={self.decision!r}: must be answer or abstain"
        elif self.probability is not None and not 0 <= self.probability <= 1:
            problem = f"probability={self.probability!r}: must be from 0 to 1"
        elif self.calibrated and self.probability is None:
            problem = "calibrated without a probability"
        elif self.correct not in {None, 0, 1} or (self.correct is not None and not self.labelled):
            problem = f"correct={self.correct!r}: must be 1, 0 or None, and None if not labelled"
        if problem:
            raise UsageError(f"question {self.question_id!r}: {problem}")

    @classmethod
    def of(
        cls,
        labelled: Labelled,
        answer: str | None,
        *,
        segment: str | None = None,
        probability: float | None = None,
        calibrated: bool = False,
        stand_in: str = "signal",
        decision: str = "answer",
        reason: str | None = None,
    ) -> Candidate:
        """The candidate of a pool of one arm (``Labelled.by_arm``) whose reported answer is given.

        ``segment`` None: the one that the pool states. It counts as labelled where the gold answer
        is there or a sample that gives this answer, in any notation, is graded. Raises UsageError.
        """
        pool = labelled.pool
        same = given_by(pool, range(len(pool.samples)), answer)
        grades = [g for i in same if (g := labelled.correct[i]) is not None]
        return cls(
            dataset=pool.dataset,
            question_id=pool.question_id,
            model=pool.model,
            run=pool.run,
            decoding=None if pool.decoding is None else canonical(pool.decoding),
            question=_asked(pool),
            segment=pool.segment if segment is None else segment,
            answer=answer,
            probability=probability,
            calibrated=calibrated,
            stand_in=stand_in,
            decision=decision,
            reason=reason,
            labelled=labelled.gold is not None or bool(grades),
            correct=grades[0] if grades else None,
        )

    @property
    def key(self) -> Key:
        """The key of the pool that this answer was reported for."""
        return self.dataset, self.model, self.decoding or "", self.run or "", self.question_id

    @property
    def abstained(self) -> bool:
        """Whether no answer was given to the one who asked."""
        return self.decision == ABSTAIN


def given_by(pool: Pool, members: Iterable[int], answer: str | None) -> list[int]:
    """Those of ``members``, samples of one arm in dispatch order, whose answer is the same.

    The same as votes have it: of one cluster with the answer, which one of them gives literally
    (else none). None: those whose answer could not be read.
    """
    listed = list(members)
    answers = [pool.samples[i].answer for i in listed]
    if answer not in answers:
        return []
    clusters = Clusters(pool.kind)
    of = [clusters.add(one) for one in answers]
    wanted = of[answers.index(answer)]
    return [i for i, cluster in zip(listed, of, strict=True) if cluster == wanted]


def _asked(pool: Pool) -> str | None:
    """Everything that distinguishes one question from another, as a person reads it."""
    if pool.messages is None:
        return None
    if len(pool.messages) == 1:
        said = [_content(pool.messages[0])]
    else:
        said = [f"{message.get('role')}: {_content(message)}" for message in pool.messages]
    listed = [f"{chr(65 + i)}) {option}" for i, option in enumerate(pool.options or ())]
    return "\n".join([*said, *listed])


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Twins:
    """Candidates that one label serves: same question, same answer.

    ``speaker``: the least sure of them, which stands for all. ``others``: the keys of the rest,
    sorted.
    """

    speaker: Candidate
    others: tuple[Key, ...]


def distinct(candidates: Iterable[Candidate]) -> list[Twins]:
    """The different tasks among ``candidates``, the most urgent first whatever the order given.

    Urgent: abstained, then without a probability, then the lowest probability.
    """
    groups: dict[tuple[str, ...], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((*_identity(candidate), repr(candidate.answer)), []).append(candidate)
    found = []
    for members in groups.values():
        speaker = min(members, key=_urgency)
        keys = {member.key for member in members} - {speaker.key}
        found.append(Twins(speaker, tuple(sorted(keys))))
    return sorted(found, key=lambda twins: _urgency(twins.speaker))


def _urgency(candidate: Candidate) -> tuple[Any, ...]:
    p = candidate.probability
    known = (1, p) if p is not None else (0, 0.0)
    return not candidate.abstained, *known, candidate.key, candidate.answer or ""


def _identity(candidate: Candidate) -> tuple[str, ...]:
    if candidate.question is None:
        return "id", candidate.dataset, candidate.question_id
    return "text", _folded(_folded(candidate.question).casefold())


def _folded(text: str) -> str:
    """NFKC and single spaces, except that 3² stays apart from 32."""
    if not text.isascii():
        parts = (part if _raised(part) else unicodedata.normalize("NFKD", part) for part in text)
        text = unicodedata.normalize("NFC", "".join(parts))
    return " ".join(text.split())


def _raised(character: str) -> bool:
    return unicodedata.decomposition(character).startswith(("<super>", "<sub>", "<fraction>"))


def band_of(candidate: Candidate) -> int | None:
    """0..BANDS - 1 by probability; None where there is none."""
    p = candidate.probability
    return None if p is None else min(int(p * BANDS), BANDS - 1)
