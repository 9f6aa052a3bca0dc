"""Picks -> a CSV sheet for a person -> labels, through whatever a spreadsheet does on the way.

Cells that a spreadsheet would run as a formula, and names and answers that it would rewrite (007,
1/2, 0.50), go out behind an apostrophe, which comes off again on reading. Read are commas,
semicolons or tabs, with or without a byte-order mark, in any order of columns. It does not know
pools or grading.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from poise.errors import InputError
from poise.files import whole
from poise.labelling.candidate import Key
from poise.labelling.choosing import Pick

__all__ = ["COLUMNS", "Label", "Labels", "read_csv", "write_csv"]

NAMES = ("dataset", "model", "decoding", "run", "question_id", "segment", "answer")
"""Columns that must come back exactly as they went out."""

COLUMNS = (
    *("dataset", "model", "decoding", "run", "question_id", "segment", "question", "answer"),
    *("probability", "signal", "decision", "why", "weight", "duplicates"),
    *("correct", "gold", "note"),
)

NEEDED = ("dataset", "model", "decoding", "run", "question_id", "answer", "correct", "gold")
"""Columns without which a sheet cannot be read; the others may be deleted, and more added."""

CELL = 32_767
"""Characters that a spreadsheet's cell holds; it cuts the rest off without a word."""

SHOWN = 30_000
"""Characters of a question that are shown."""

GRADES = {
    **dict.fromkeys(("1", "yes", "true", "right"), 1),
    **dict.fromkeys(("0", "no", "false", "wrong"), 0),
}

_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_REWRITTEN = re.compile(r"'*(?!(?:0|[1-9]\d{0,14})\Z)(?:[.,]?\d|(?i:true|false)\Z)")


@dataclass(frozen=True, slots=True)
class Label:
    """One filled row: ``correct`` (1, 0), ``gold`` or both; ``line`` is where it stands, from 1.

    ``keys``: the pool it is about, then those it serves as well. ``weight`` None: not stated.
    """

    keys: tuple[Key, ...]
    answer: str | None
    correct: int | None
    gold: str | None
    weight: float | None
    why: str | None
    note: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Labels:
    """The filled rows of the sheet at ``path``, and how many were left unfilled."""

    path: str
    labels: tuple[Label, ...]
    unlabelled: int


def write_csv(picks: Iterable[Pick], target: str | Path | TextIO) -> None:
    """The picks as a sheet with empty columns ``correct``, ``gold`` and ``note``.

    ``probability`` is calibrated or empty; a raw signal is in ``signal``, as ``agreement=0.25``.
    A file is written whole or not at all, replaces an existing one, and starts with a byte-order
    mark, without which spreadsheets take UTF-8 for something else; a text stream gets none. Only
    the first 30,000 characters of a question are shown. Raises UsageError where the file cannot
    be written, InputError for half a surrogate pair and for an answer, or a list of duplicates,
    that no cell holds.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for pick in picks:
        row = _row(pick)
        _check_cells(pick.candidate.question_id, row)
        writer.writerow(row)
    if isinstance(target, str | Path):
        with whole(target) as stream:
            stream.write(buffer.getvalue().encode("utf-8-sig"))
    else:
        target.write(buffer.getvalue())


def _check_cells(asked: str, row: Sequence[str]) -> None:
    for name, cell in zip(COLUMNS, row, strict=True):
        problem = f"{name} has {len(cell)} characters; a cell holds {CELL}"
        try:
            cell.encode()
        except UnicodeEncodeError:
            problem = f"{name} holds half of a surrogate pair, which is not text"
        else:
            if len(cell) <= CELL:
                continue
        raise InputError(f"question {asked!r}: {problem}; leave it out of the sheet")


def _row(pick: Pick) -> list[str]:
    one = pick.candidate
    value = None if one.probability is None else repr(float(one.probability))
    cells = {
        "dataset": one.dataset,
        "model": one.model,
        "decoding": one.decoding,
        "run": one.run,
        "question_id": one.question_id,
        "segment": one.segment,
        "question": None if one.question is None else _cut(one.question),
        "answer": one.answer,
        "probability": value if one.calibrated else None,
        "signal": None if one.calibrated or value is None else f"{one.stand_in}={value}",
        "decision": one.decision,
        "why": pick.why,
        "weight": None if pick.weight is None else repr(float(pick.weight)),
        "duplicates": json.dumps(pick.duplicates, ensure_ascii=False) if pick.duplicates else None,
    }
    return [_guarded(name, cells.get(name) or "") for name in COLUMNS]


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + " […]"


def _at_risk(name: str, cell: str) -> bool:
    return bool(_FORMULA.match(cell) or (name in NAMES and _REWRITTEN.match(cell)))


def _guarded(name: str, cell: str) -> str:
    return f"'{cell}" if _at_risk(name, cell) else cell


def _unguarded(name: str, cell: str) -> str:
    # Apostrophes in front do not change what is at risk, so this undoes _guarded exactly.
    return cell[1:] if cell.startswith("'") and _at_risk(name, cell[1:]) else cell


# -- reading ------------------------------------------------------------------------------------


def read_csv(path: str | Path) -> Labels:
    """The labels that were filled in.

    ``correct`` takes 1/0, yes/no, true/false or right/wrong in any case, ``gold`` the right
    answer; a row with neither is counted as unlabelled. Raises InputError with file, line and what
    to do for a cell that cannot be read, and naming both lines where two rows contradict.
    """
    rows = list(_rows(path))
    filled = [row for line, cells in rows if (row := _label(path, line, cells)) is not None]
    _check(path, filled)
    return Labels(str(path), tuple(filled), len(rows) - len(filled))


def _rows(path: str | Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row's first line and its cells by column; rows of empty cells are none."""
    text = _text(path)
    head = re.split(r"[\r\n]", text, maxsplit=1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        begins = reader.line_num + 1
        for cells in reader:
            line, begins = begins, reader.line_num + 1
            if any(cell.strip() for cell in cells[len(header) :]):
                problem = f"{len(cells)} cells where the header has {len(header)}"
                raise InputError(f"{problem}; quote cells that hold a separator", path, line)
            if any(cell.strip() for cell in cells):
                # Spreadsheets leave trailing empty cells out; the rest of the row is then empty.
                padded = cells + [""] * (len(header) - len(cells))
                named = zip(header, padded, strict=False)
                yield line, {name: _unguarded(name, cell) for name, cell in named}
    except csv.Error as error:
        raise InputError(f"broken CSV: {error}", path, reader.line_num) from None


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("not UTF-8; save the sheet as CSV UTF-8", path) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path) from None


def _check_header(path: str | Path, header: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in header]
    if missing:
        problem = f"the header lacks {', '.join(missing)}; keep the sheet's first line"
        raise InputError(problem, path, 1)
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if twice:
        raise InputError(f"the header names {twice[0]} twice; delete one", path, 1)


def _label(path: str | Path, line: int, cells: dict[str, str]) -> Label | None:
    said, gold = cells["correct"].strip(), cells["gold"].strip()
    if not said and not gold:
        return None
    grade = GRADES.get(said.casefold())
    if said and grade is None:
        problem = f"correct is {said[:40]!r}; write 1 or 0, yes or no, or leave it empty"
        raise InputError(problem, path, line)
    if grade == 1 and not cells["answer"]:
        problem = "correct is 1 where there is no answer; write 0, or the right answer under gold"
        raise InputError(problem, path, line)
    dataset, model, decoding, run, question_id = (cells[name] for name in NEEDED[:5])
    for name in ("dataset", "model", "question_id"):
        if not cells[name]:
            raise InputError(
                f"{name} is empty; restore it from the sheet you were given", path, line
            )
    own: Key = (dataset, model, decoding, run, question_id)
    return Label(
        keys=(own, *_duplicates(path, line, cells.get("duplicates", ""))),
        answer=cells["answer"] or None,
        correct=grade,
        gold=gold or None,
        weight=_weight(path, line, cells.get("weight", "")),
        why=cells.get("why", "").strip() or None,
        note=cells.get("note", "").strip() or None,
        line=line,
    )


def _weight(path: str | Path, line: int, cell: str) -> float | None:
    if not cell.strip():
        return None
    try:
        weight = float(cell.replace(",", "."))  # as some languages write it
    except ValueError:
        weight = 0.0
    if not 1 <= weight < float("inf"):
        problem = f"weight is {cell[:40]!r}; restore the number, 1 or more, of the sheet given"
        raise InputError(problem, path, line)
    return weight


def _duplicates(path: str | Path, line: int, cell: str) -> tuple[Key, ...]:
    try:
        listed = json.loads(cell) if cell.strip() else []
        if all(isinstance(part, str) for key in listed for part in key):
            return tuple((d, m, decoding, run, q) for d, m, decoding, run, q in listed)
    except (ValueError, TypeError, RecursionError):
        pass
    problem = "duplicates is no list of keys; restore the cell of the sheet given, or empty it"
    raise InputError(problem, path, line)


def _check(path: str | Path, labels: Sequence[Label]) -> None:
    """Raise InputError where two labels say different things about one answer or question."""
    seen: dict[tuple[Key, str, str | None], Label] = {}
    for label in labels:
        for key in label.keys:
            for name, value, of in (
                ("correct", label.correct, label.answer),
                ("gold", label.gold, None),
            ):
                if value is None:
                    continue
                first = seen.setdefault((key, name, of), label)
                if getattr(first, name) != value:
                    raise InputError(
                        f"{name} is {value!r} for question {key[-1]!r} and was"
                        f" {getattr(first, name)!r} in line {first.line}; keep one",
                        path,
                        label.line,
                    )
