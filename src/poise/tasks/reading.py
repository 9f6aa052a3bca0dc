"""From a local file to labelled questions, with one function that reads a record.

Checks what every loader must hold: unique ids, at least one question, a gold answer in its kind's
spelling. Does not know any set's field names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from poise.errors import InputError
from poise.tasks.gold import bare_options, letter, number, yes_or_no
from poise.tasks.labelled import Labelled
from poise.tasks.records import Record, records
from poise.types import Kind, Question

__all__ = ["choice", "numeric", "offered", "questions", "yes_no"]


def questions(
    path: str | Path, read: Callable[[Record], Labelled | None], *, under: str | None = None
) -> Iterator[Labelled]:
    """What ``read`` makes of every record; None leaves a record of another set out.

    ``under``: the key that holds the records where the file is one object. Raises InputError with
    the line: an unusable record, an id that was there before, or nothing to ask.
    """
    seen: set[str] = set()
    for record in records(path, under=under):
        row = read(record)
        if row is None:
            continue
        if row.question.id in seen:
            raise record.error(f"the id {row.question.id!r} was used before; ids must be unique")
        seen.add(row.question.id)
        yield row
    if not seen:
        raise InputError("holds no question of this set", path)


def numeric(
    record: Record, text: str, gold: object, *, id: str, segment: str | None = None
) -> Labelled:
    """A question whose answer is a number. Raises InputError where ``gold`` is none."""
    canonical = number(gold)
    if canonical is None:
        raise record.error(f"the gold answer {gold!r} is not a plain number")
    return Labelled(Question.ask(text, Kind.NUMBER, id=id, segment=segment), canonical)


def yes_no(record: Record, text: str, gold: object, *, id: str) -> Labelled:
    """A yes-or-no question. Raises InputError where ``gold`` is neither."""
    canonical = yes_or_no(gold)
    if canonical is None:
        raise record.error(f"the gold answer {gold!r} is neither yes nor no, true nor false")
    return Labelled(Question.ask(text, Kind.YESNO, id=id), canonical)


def choice(record: Record, text: str, options: Sequence[str], gold: object, *, id: str) -> Labelled:
    """A question with options, whose gold is the letter of one. Raises InputError."""
    bare = offered(record, options)
    canonical = letter(gold, len(options))
    if canonical is None:
        raise record.error(f"the gold answer {gold!r} names none of the {len(options)} options")
    return Labelled(Question.ask(text, Kind.CHOICE, id=id, options=bare), canonical)


def offered(record: Record, options: Sequence[str]) -> tuple[str, ...]:
    """The 2 to 26 options of a choice, without their letters. Raises InputError."""
    if not 2 <= len(options) <= 26:
        raise record.error(
            f"a choice has 2 to 26 options, lettered from A; here are {len(options)}"
        )
    return bare_options(options)
