"""A pool, the samples of one question under one arm, and the same with its labels.

It does not know files; ``reading`` and ``writing`` do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from poise.types import FollowUp, Kind, Message, Question, Sample

__all__ = ["Labelled", "Pool", "SampleArm", "canonical"]


@dataclass(frozen=True, slots=True)
class SampleArm:
    """What makes one sample an arm of its own; None: as the pool says."""

    model: str | None = None
    decoding: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """The samples of one question under one arm, in dispatch order, without any label.

    ``samples`` (n,), n >= 1, ``samples[i].index == i``. ``messages`` None: the file leaves the
    question's text out. ``decoding`` None: not stated. ``arms`` (n,) or (): samples that name a
    model or decoding of their own; then ``Labelled.by_arm`` parts them. ``followups``: replies to
    further questions about the question itself, by name; those about a sample are with the sample.
    """

    dataset: str
    model: str
    question_id: str
    samples: tuple[Sample, ...]
    messages: tuple[Message, ...] | None = None
    kind: Kind | None = None
    options: tuple[str, ...] | None = None
    segment: str | None = None
    decoding: Mapping[str, Any] | None = None
    run: str | None = None
    engine: str | None = None
    prompt_hash: str | None = None
    signals: Mapping[str, float | None] = field(default_factory=dict)
    arms: tuple[SampleArm, ...] = ()
    followups: Mapping[str, FollowUp] = field(default_factory=dict)

    @property
    def question(self) -> Question | None:
        """The question, None where the file leaves its text out."""
        if self.messages is None:
            return None
        return Question(self.question_id, self.messages, self.kind, self.options, self.segment)

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """(dataset, model, decoding, run, question_id), unique in a file; "" where not stated."""
        decoding = "" if self.decoding is None else canonical(self.decoding)
        return self.dataset, self.model, decoding, self.run or "", self.question_id

    @property
    def group(self) -> tuple[str, str]:
        """(dataset, question_id): what splits and bootstraps keep together."""
        return self.dataset, self.question_id


@dataclass(frozen=True, slots=True)
class Labelled:
    """A pool with what the serving path must not see.

    ``correct`` (n,): 1 right, 0 wrong, None not graded. ``extra`` and ``sample_extra`` ((n,) or
    ()): columns without a meaning here, kept for writing.
    """

    pool: Pool
    gold: str | None
    correct: tuple[int | None, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)
    sample_extra: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        n = len(self.pool.samples)
        for column in (self.correct, self.sample_extra or None, self.pool.arms or None):
            if column is not None and len(column) != n:
                raise ValueError(f"a column of {len(column)} values for {n} samples")

    def by_arm(self) -> tuple[Labelled, ...]:
        """One pool for each arm, in order of first appearance, samples numbered anew.

        A pool whose samples name no arm of their own comes back as it is.
        """
        if not self.pool.arms:
            return (self,)
        members: dict[tuple[str, str], list[int]] = {}
        for index, arm in enumerate(self.pool.arms):
            decoding = self.pool.decoding if arm.decoding is None else arm.decoding
            name = (arm.model or self.pool.model, "" if decoding is None else canonical(decoding))
            members.setdefault(name, []).append(index)
        return tuple(self._only(indices) for indices in members.values())

    def _only(self, indices: list[int]) -> Labelled:
        pool, arm = self.pool, self.pool.arms[indices[0]]
        samples = (replace(pool.samples[old], index=new) for new, old in enumerate(indices))
        one = replace(
            pool,
            model=arm.model or pool.model,
            decoding=pool.decoding if arm.decoding is None else arm.decoding,
            samples=tuple(samples),
            arms=(),
        )
        extra = tuple(self.sample_extra[i] for i in indices) if self.sample_extra else ()
        correct = tuple(self.correct[i] for i in indices)
        return replace(self, pool=one, correct=correct, sample_extra=extra)


def canonical(decoding: Mapping[str, Any]) -> str:
    """One text for equal decodings: keys sorted, 1.0 written as 1."""
    return json.dumps(_plain(decoding), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
