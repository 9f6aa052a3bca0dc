"""Rows of a file, whatever its format: JSON lines (plain or gzipped), CSV, Parquet.

Streams: one line, or one batch of a Parquet row group, is in memory at a time, and 16 bytes for
each key seen. Damage to the file as a whole (cut gzip, broken Parquet, no such file) always raises
InputError; a single bad line raises it too, or is counted when a ``SkipCount`` is given.

It does not know which columns there are or what they mean; ``nested`` names those that CSV and
Parquet carry as JSON text.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import math
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

from poise.errors import InputError, UsageError

MAX_LINE = 64 * 2**20
"""Longest line that is read, in bytes; a longer one is no line of a question or pool file."""

MAX_DEPTH = 64
"""Deepest nesting of JSON that is read, so that whoever writes it again cannot run out of stack."""

REST = "extra"
"""Parquet column, marked by ``MARK``, that holds all further columns as one JSON object."""

MARK = {b"poise": b"rest"}

_BATCH = 256
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

Row = dict[str, Any]
Decode = Callable[[], Row]
Stream = BinaryIO | BufferedIOBase
T = TypeVar("T")


@dataclass(slots=True)
class SkipCount:
    """Bad lines left out of a reading: how many, and the errors of the first ``keep``."""

    count: int = 0
    first: list[InputError] = field(default_factory=list)
    keep: int = 10

    def add(self, error: InputError) -> None:
        """Count one bad line."""
        self.count += 1
        if len(self.first) < self.keep:
            self.first.append(error)


def read(
    path: str | Path,
    parse: Callable[[Row, int], tuple[str, T]],
    *,
    noun: str,
    nested: frozenset[str],
    skip_bad: SkipCount | None,
) -> Iterator[T]:
    """Every row of ``path`` through ``parse``, which gives the row's unique name and its value.

    ``parse`` raises InputError without a place; path and line are added here. ``noun`` (plural) is
    what the file should hold at least one of. Raises InputError, UsageError (no pyarrow).
    """
    shown = "stdin" if str(path) == "-" else path
    seen: set[bytes] = set()
    for number, decode in _rows(path, nested):
        try:
            name, value = parse(decode(), number)
            digest = _fresh(name, seen)
        except InputError as error:
            placed = InputError(error.problem, shown, number)
            if skip_bad is None:
                raise placed from None
            skip_bad.add(placed)
            continue
        seen.add(digest)
        yield value
    if not seen:
        left_out = skip_bad.count if skip_bad else 0
        raise InputError(f"no {noun}" + (f": {left_out} bad lines" if left_out else ""), shown)


def _fresh(name: str, seen: set[bytes]) -> bytes:
    digest = blake2b(name.encode(), digest_size=16).digest()
    if digest in seen:
        raise InputError(f"{name} appeared before; it must be unique in a file")
    return digest


def loads(text: str) -> Any:
    """Strict JSON: no NaN, no infinity, no half surrogate pairs, at most ``MAX_DEPTH`` levels.

    Raises InputError without a place.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except InputError:
        raise
    except json.JSONDecodeError as error:
        raise InputError(f"broken JSON: {error.msg} at column {error.colno}") from None
    except UnicodeEncodeError:
        raise InputError("half of a surrogate pair (\\ud8.. to \\udf..) is not text") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise InputError("a whole number has too many digits") from None
    if _is_deep(value):
        raise _too_deep()
    return value


def _too_deep() -> InputError:
    return InputError(f"the JSON is nested more than {MAX_DEPTH} levels deep")


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [
            part
            for parent in level
            for part in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(part, (dict, list))
        ]
    return bool(level)


def _refuse_constant(name: str) -> NoReturn:
    raise InputError(f"{name} is not a JSON number; write null where a number is absent")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise InputError(f"the number {digits[:30]} is too large")
    return value


def _rows(path: str | Path, nested: frozenset[str]) -> Iterator[tuple[int, Decode]]:
    if str(path) == "-":
        yield from _jsonl("stdin", sys.stdin.buffer)
        return
    with _open(path) as file:
        suffixes = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
        if suffixes[-1:] == [".parquet"]:
            yield from _parquet(path, file, nested)
            return
        # A name lies about compression where a browser unpacked on the way; the first bytes do not.
        packed = file.peek(2)[:2] == _GZIP
        stream: Stream = gzip.GzipFile(fileobj=file) if packed else file
        if suffixes[-1:] == [".csv"] or suffixes == [".csv", ".gz"]:
            yield from _csv(path, stream, nested)
        else:
            yield from _jsonl(path, stream)


def _open(path: str | Path) -> BufferedReader:
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise InputError("no such file", path) from None
    except IsADirectoryError:
        raise InputError("is a directory, not a file", path) from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be opened: {_cause(error)}", path) from None


def _cause(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return words.splitlines()[0].rstrip(". ") if words else type(error).__name__


def _lines(path: str | Path, stream: Stream) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, without a byte-order mark."""
    number = 0
    try:
        while line := stream.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise InputError(f"the line is longer than {MAX_LINE >> 20} MiB", path, number)
            yield number, line.removeprefix(_BOM) if number == 1 else line
    except EOFError:
        raise InputError("the gzip stream breaks off; fetch it again", path, number + 1) from None
    except (OSError, zlib.error) as error:
        raise InputError(f"cannot be read: {_cause(error)}", path, number + 1) from None


def _text(line: bytes) -> str:
    if b"\0" in line:
        raise InputError("the line holds a null byte; is this a text file?")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 at byte {error.start + 1} of the line") from None


def _jsonl(path: str | Path, stream: Stream) -> Iterator[tuple[int, Decode]]:
    for number, line in _lines(path, stream):
        if line.strip():
            yield number, partial(_object, line)


def _object(line: bytes) -> Row:
    value = loads(_text(line))
    if not isinstance(value, dict):
        raise InputError("not a JSON object; the format is one object a line")
    return value


def _csv(path: str | Path, stream: Stream, nested: frozenset[str]) -> Iterator[tuple[int, Decode]]:
    def text() -> Iterator[str]:
        # A bad byte may sit inside a quoted cell of several lines: there is no next row to go to.
        for number, line in _lines(path, stream):
            try:
                yield _text(line)
            except InputError as error:
                raise InputError(error.problem, path, number) from None

    reader = csv.reader(text(), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) != len(header) or "" in header:
            raise InputError("the header has an empty or a repeated column name", path, 1)
        begins = reader.line_num + 1
        for cells in reader:
            number, begins = begins, reader.line_num + 1
            if cells:
                yield number, partial(_cells, header, cells, nested)
    except csv.Error as error:
        raise InputError(f"broken CSV: {error}", path, reader.line_num) from None


def _cells(header: list[str], cells: list[str], nested: frozenset[str]) -> Row:
    """A CSV row; an empty cell is an absent value."""
    if len(cells) != len(header):
        raise InputError(f"{len(cells)} cells where the header has {len(header)}")
    present = ((name, cell) for name, cell in zip(header, cells, strict=True) if cell)
    return {name: _nested(name, cell) if name in nested else cell for name, cell in present}


def _nested(name: str, text: str) -> Any:
    try:
        return loads(text)
    except InputError as error:
        raise InputError(f"column {name!r} should hold JSON text: {error.problem}") from None


def parquet_modules() -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``. Raises UsageError where they are not installed."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError("Parquet needs pyarrow: pip install 'poise[parquet]'") from None


def _parquet(
    path: str | Path, file: BufferedReader, nested: frozenset[str]
) -> Iterator[tuple[int, Decode]]:
    pyarrow, parquet = parquet_modules()
    number = 0
    try:
        with parquet.ParquetFile(file) as table:
            schema = table.schema_arrow
            _check_columns(path, schema, pyarrow.types)
            rest = REST in schema.names and schema.field(REST).metadata == MARK
            names = nested | {REST} if rest else nested
            for batch in table.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, partial(_columns, row, names, rest=rest)
    except InputError:
        raise
    except (OSError, ValueError, MemoryError, RecursionError, pyarrow.ArrowException) as error:
        raise InputError(f"damaged Parquet: {_cause(error)}", path) from None


def _check_columns(path: str | Path, schema: Any, types: Any) -> None:
    for column in schema:
        if not _is_plain(types, column.type):
            problem = f"column {column.name!r} holds {column.type}; cast it to text"
            raise InputError(problem, path)


def _is_plain(types: Any, kind: Any) -> bool:
    """Whether a column of this Arrow type has a JSON form."""
    if types.is_list(kind) or types.is_large_list(kind) or types.is_dictionary(kind):
        return _is_plain(types, kind.value_type)
    if types.is_struct(kind):
        return all(_is_plain(types, part.type) for part in kind)
    tests = ("is_null", "is_boolean", "is_integer", "is_floating", "is_string", "is_large_string")
    return any(getattr(types, test)(kind) for test in tests)


def _columns(row: Mapping[str, Any], nested: frozenset[str], *, rest: bool) -> Row:
    """A Parquet row; null is an absent value."""
    values = {
        name: _nested(name, value) if name in nested and isinstance(value, str) else value
        for name, value in row.items()
        if value is not None
    }
    for name, value in values.items():
        _refuse_unnumbers(name, value)
    further = values.pop(REST, {}) if rest else {}
    if not isinstance(further, dict):
        raise InputError(f"column {REST!r} should hold a JSON object")
    return {**further, **values}


def _refuse_unnumbers(name: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"column {name!r} holds {value}; null is the word for an absent number")
    if isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            _refuse_unnumbers(name, part)
