"""Labels from a sheet -> pools with grades, contradictions refused.

It does not know how the labelled answers were chosen or where the pools go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from poise.errors import InputError
from poise.grading import canonical_gold, grade
from poise.labelling.candidate import Key, given_by
from poise.labelling.sheet import Label, Labels
from poise.pools import Labelled, Pool, canonical

__all__ = ["LABELS", "LabelCount", "apply", "last_label"]

LABELS = "labels"
"""Where in ``Labelled.extra`` the labels are kept: a list, the oldest first."""

SOURCE = "label"


@dataclass(slots=True)
class LabelCount:
    """What became of the keys of a sheet's labels, counted as pools go by.

    ``used``: a pool was labelled. ``unmatched``: its pool is there and has no such answer.
    ``unknown``: no pool has this key (known when all pools are through). ``lines``: the sheet's
    lines of the unmatched and unknown, each once.
    """

    used: int = 0
    unmatched: int = 0
    unknown: int = 0
    lines: set[int] = field(default_factory=set)


def apply(
    labels: Labels,
    pools: Iterable[Labelled],
    *,
    override: bool = False,
    count: LabelCount | None = None,
) -> Iterator[Labelled]:
    """All pools in their order, those that a label is about with their grades.

    ``correct`` grades the samples of the label's arm that give the labelled answer, in whatever
    notation: those that vote together (an arm none of whose samples has the string itself was
    shown with another answer, and stays as it is); ``gold`` becomes the pool's gold answer and
    grades all of its samples, an unreadable one as wrong. The label itself, with weight, why and
    note, is kept in ``extra["labels"]``; applying a sheet twice changes nothing. Raises InputError,
    naming the sheet's line, where a grade or a gold answer that is there says otherwise, unless
    ``override``; where rows, or ``correct`` and ``gold`` of one row, disagree; where gold cannot be
    read; where ``extra["labels"]`` is something else.
    Raises UsageError where grading needs a package that is missing.
    """
    count = LabelCount() if count is None else count
    sheet = _Sheet(labels.path, override, count)
    by_key: dict[Key, list[Label]] = {}
    for label in labels.labels:
        for key in dict.fromkeys(label.keys):
            by_key.setdefault(key, []).append(label)
    met: set[Key] = set()
    for one in pools:
        keys = _keys(one.pool)
        found = [(key, label) for key in dict.fromkeys(keys) for label in by_key.get(key, ())]
        met.update(key for key, _ in found)
        yield sheet.graded(one, keys, found) if found else one
    for key in by_key.keys() - met:
        count.unknown += len(by_key[key])
        count.lines.update(label.line for label in by_key[key])


def last_label(one: Labelled) -> Mapping[str, Any] | None:
    """The newest label that ``apply`` put into the pool, as it is kept; None: there is none."""
    kept = one.extra.get(LABELS)
    records = kept if isinstance(kept, list) else []
    own = (each for each in reversed(records) if isinstance(each, Mapping))
    return next((each for each in own if each.get("source") == SOURCE), None)


def _keys(pool: Pool) -> list[Key]:
    """(n,) the key of each sample's arm: the pool's own, unless the sample names another."""
    if not pool.arms:
        return [pool.key] * len(pool.samples)
    dataset, model, decoding, run, question_id = pool.key
    return [
        (
            dataset,
            arm.model or model,
            decoding if arm.decoding is None else canonical(arm.decoding),
            run,
            question_id,
        )
        for arm in pool.arms
    ]


@dataclass(frozen=True, slots=True)
class _Sheet:
    """How the labels of the sheet at ``path`` are put on one pool after the other."""

    path: str
    override: bool
    count: LabelCount

    def graded(
        self, one: Labelled, keys: Sequence[Key], found: Sequence[tuple[Key, Label]]
    ) -> Labelled:
        """``one`` with the labels found for it."""
        gold, correct = one.gold, list(one.correct)
        by_row: dict[int, int] = {}
        kept: list[Label] = []
        for key, label in found:
            members = [i for i, of in enumerate(keys) if of == key]
            grades = self._grades(one.pool, members, label)
            if not grades:
                self.count.unmatched += 1
                self.count.lines.add(label.line)
                continue
            self.count.used += 1
            kept.append(label)
            gold = self._gold(one.pool, gold, label)
            for index, value in grades.items():
                if by_row.setdefault(index, value) != value:
                    raise self._contradiction(one.pool, index, label, "in another row; keep one")
                if correct[index] not in {None, value} and not self.override:
                    cure = "in the pool; correct one, or override the pool's"
                    raise self._contradiction(one.pool, index, label, cure)
                correct[index] = value
        if not kept:
            return one
        extra = {**one.extra, LABELS: self._kept(one, kept)}
        return replace(one, gold=gold, correct=tuple(correct), extra=extra)

    def _grades(self, pool: Pool, members: Sequence[int], label: Label) -> dict[int, int]:
        """The grade of each sample, by index, that the label speaks about."""
        said: dict[int, int] = {}
        if label.correct is not None:
            said = dict.fromkeys(given_by(pool, members, label.answer), label.correct)
        if label.gold is None:
            return said
        told = {
            sample.index: self._against(sample.answer, label.gold, pool, label)
            for sample in pool.samples
        }
        for index, value in said.items():
            if told[index] != value:
                cure = f"by gold {label.gold!r}; correct the row"
                raise self._contradiction(pool, index, label, cure)
        return told

    def _against(self, answer: str | None, gold: str, pool: Pool, label: Label) -> int:
        try:
            found = grade(answer, gold, pool.kind, pool.options).correct
        except InputError as error:
            raise InputError(error.problem, self.path, label.line) from None
        return found or 0  # unreadable: drawn, and not the right answer

    def _gold(self, pool: Pool, before: str | None, label: Label) -> str | None:
        """The pool's gold answer with this label: its own wording where the two agree."""
        if label.gold is None:
            return before
        if before is None or before == label.gold or self.override:
            return label.gold
        own = canonical_gold(before, pool.kind, pool.options)
        if self._against(own, label.gold, pool, label):
            return before
        raise InputError(
            f"gold is {label.gold!r} for question {pool.question_id!r}, whose pool has"
            f" {before!r}; correct one, or override the pool's",
            self.path,
            label.line,
        )

    def _contradiction(self, pool: Pool, index: int, label: Label, rest: str) -> InputError:
        answer, asked = pool.samples[index].answer, pool.question_id
        problem = f"the answer {answer!r} to question {asked!r} is graded otherwise {rest}"
        return InputError(problem, self.path, label.line)

    def _kept(self, one: Labelled, labels: Sequence[Label]) -> list[Any]:
        before = one.extra.get(LABELS, [])
        if not isinstance(before, list):
            raise InputError(
                f"the pool of question {one.pool.question_id!r} has a column {LABELS!r} of its"
                " own; rename it, labels are kept there",
                self.path,
            )
        records = [_record(label) for label in labels]
        return [*before, *(record for record in records if record not in before)]


def _record(label: Label) -> Mapping[str, Any]:
    record = {
        "source": SOURCE,
        "answer": label.answer,
        "correct": label.correct,
        "gold": label.gold,
        "weight": label.weight,
        "why": label.why,
        "note": label.note,
    }
    return {name: value for name, value in record.items() if value is not None}
