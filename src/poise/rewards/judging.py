"""The rows of one reward call: each completion read, and held against its gold answer.

A trainer passes lists, one value a completion; what is the same for all (a ``kind``, a threshold)
may be passed once. It does not know: what a right answer is worth.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from poise.answers import KINDS
from poise.errors import InputError, UsageError
from poise.rewards.statement import Completion, Reader, abstains, text_of
from poise.types import Kind, Reply

__all__ = ["Given", "Judged", "Prompts", "Rewards", "Rows", "column", "given", "groups", "judged"]

Prompts = Sequence[Completion]
"""What was asked, a text or a conversation each."""

Rewards = list[float | None]
"""One reward a completion; None: this reward has nothing to say about it."""

Rows = Sequence[Any] | None
"""A column of the data set: one value a completion, or None where there is no such column."""


@dataclass(frozen=True, slots=True)
class Given:
    """What one completion gives: a canonical ``answer`` of ``kind``, or None, and a confidence.

    ``abstained``: it says that it does not know, which is no answer. ``confidence``: as stated, in
    [0, 1], or None.
    """

    kind: Kind
    options: tuple[str, ...] | None
    answer: str | None
    confidence: float | None
    abstained: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """One completion against its gold: ``correct`` 1 or 0, None where there is no answer."""

    correct: int | None
    confidence: float | None
    abstained: bool


def given(
    prompts: Prompts,
    completions: Sequence[Completion],
    kind: str | Rows,
    options: Rows,
    read: Reader,
) -> list[Given]:
    """Each completion read. Raises UsageError without a kind, or for lists of different lengths."""
    m = len(completions)
    if len(prompts) != m:
        raise UsageError(f"{len(prompts)} prompts for {m} completions: give one prompt each")
    offered = (
        None if texts is None else tuple(map(str, texts)) for texts in column("options", options, m)
    )
    return [
        _read(text_of(completion), each, choices, read)
        for completion, each, choices in zip(completions, _kinds(kind, m), offered, strict=True)
    ]


def judged(
    prompts: Prompts,
    completions: Sequence[Completion],
    gold: Rows,
    kind: str | Rows,
    options: Rows,
    read: Reader,
) -> list[Judged | None]:
    """Each completion against its gold answer; None where the gold is None.

    ``gold`` as a data set has it ("#### 18", "(B)", True). Raises UsageError without a gold column
    and as ``given``, InputError for a gold answer that its kind cannot read. May take seconds for
    maths.
    """
    if gold is None:
        raise UsageError(
            "this reward compares with gold answers: give the data set a column 'gold'"
        )
    rows = given(prompts, completions, kind, options, read)
    return [
        None if expected is None else _judge(row, expected)
        for row, expected in zip(rows, column("gold", gold, len(rows)), strict=True)
    ]


def groups(prompts: Prompts, question_id: Rows) -> list[Hashable]:
    """Which completions belong together: those of one question, else of one prompt."""
    if question_id is not None:
        return column("question_id", question_id, len(prompts))
    return [json.dumps(prompt, default=repr) for prompt in prompts]


def column(name: str, value: Any, m: int) -> list[Any]:
    """``value`` as a list of m: a number, a text or None is for all. Raises UsageError."""
    if value is None or isinstance(value, str | int | float):
        return [value] * m
    rows = list(value)
    if len(rows) != m:
        raise UsageError(f"column {name!r} has {len(rows)} rows for {m} completions: give one each")
    return rows


def _kinds(kind: str | Rows, m: int) -> list[Kind]:
    found = []
    for name in column("kind", kind, m):
        if name not in set(Kind):
            raise UsageError(
                f"answer kind {name!r}: give the data set a column 'kind', or the reward one kind "
                f"(functools.partial(reward, kind='number')), out of {', '.join(Kind)}"
            )
        found.append(Kind(name))
    return found


def _read(text: str | None, kind: Kind, options: tuple[str, ...] | None, read: Reader) -> Given:
    if text is None:
        return Given(kind, options, None, None, abstained=False)
    stated = read(text)
    if abstains(stated.answer):
        return Given(kind, options, None, stated.confidence, abstained=True)
    answer = KINDS[kind].read(Reply(stated.answer), options).answer
    return Given(kind, options, answer, stated.confidence, abstained=False)


def _judge(row: Given, gold: Any) -> Judged:
    if not isinstance(gold, str | Real):
        raise InputError(f"gold answer {gold!r:.80} is no single answer: give a text or a number")
    reading = KINDS[row.kind].read(Reply(str(gold)), row.options)
    if reading.answer is None:
        raise InputError(
            f"gold answer {str(gold)[:80]!r} is no {row.kind.value} answer ({reading.reason}): "
            "correct it, or state another kind"
        )
    correct = None if row.answer is None else int(_same(row.kind, reading.answer, row.answer))
    return Judged(correct, row.confidence, row.abstained)


@functools.lru_cache(maxsize=4096)
def _same(kind: Kind, gold: str, answer: str) -> bool:
    # Kept: several rewards judge the same completions, and maths is compared by computer algebra.
    return KINDS[kind].same(gold, answer)
