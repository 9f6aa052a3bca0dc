"""The records of a local JSON file, in whichever way it is laid out, each with its line.

Reads JSONL (one object a line), a JSON array of objects, or an object that holds such an array
under a named key; plain or gzipped, told apart by content. Does not know what the fields mean.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from poise.errors import InputError

__all__ = ["Record", "records"]


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON object of a file. ``line`` counts from 1; ``number`` stands in for a missing id.

    ``number`` is the line in a JSONL file, and the place from 1 in an array.
    """

    path: Path
    line: int
    number: int
    fields: Mapping[str, Any]

    def error(self, problem: str) -> InputError:
        """What to raise when this record cannot be used."""
        return InputError(problem, self.path, self.line)

    def value(self, key: str) -> Any:
        """The field; raises InputError where it is missing or null."""
        if self.fields.get(key) is None:
            raise self.error(f"no {key!r}")
        return self.fields[key]

    def text(self, key: str) -> str:
        """A field that must be text with something in it, trimmed. Raises InputError."""
        return self.clean(self.value(key), repr(key))

    def clean(self, value: object, what: str) -> str:
        """``value`` as text that can be written again, trimmed. Raises InputError."""
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{what} must be text that is not blank, not {_shown(value)}")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise self.error(f"{what} holds half a character ({error.reason})") from error
        return value.strip()

    def texts(self, key: str) -> tuple[str, ...]:
        """A field that must be a list of texts. Raises InputError."""
        values = self.value(key)
        if not isinstance(values, list):
            raise self.error(f"{key!r} must be a list, not {_shown(values)}")
        return tuple(self.clean(value, f"an item of {key!r}") for value in values)

    def id(self, *keys: str) -> str:
        """The first of ``keys`` that is there, text or a whole number; else ``number``."""
        for key in keys:
            value = self.fields.get(key)
            if value is None:
                continue
            if isinstance(value, int) and not isinstance(value, bool):
                return str(value)
            return self.text(key)
        return str(self.number)


def records(path: str | Path, *, under: str | None = None) -> Iterator[Record]:
    """The records of ``path`` in file order; blank lines are passed over.

    JSONL is read as a stream, other layouts whole. ``under``: the key that holds the array where
    the file is one object. Raises InputError, with the line where there is one, for a file that
    cannot be read, is broken or cut short, or holds no record.
    """
    path = Path(path)
    seen = False
    line = 0
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            with gzip.open(raw) if packed else raw as lines:
                for record in _laid_out(path, lines, under):
                    seen, line = True, record.line
                    yield record
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        problem = f"the gzip data is broken or cut short ({error}); fetch the file again"
        raise InputError(problem, path, line + 1) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path) from error
    if not seen:
        raise InputError("holds no questions", path, 1)


def _laid_out(path: Path, lines: Iterator[bytes], under: str | None) -> Iterator[Record]:
    """Decide by the first line that is not blank: an array, one object with an array, or JSONL."""
    before = ""
    for number, raw in enumerate(lines, 1):
        text = _decoded(raw, path, number)
        if not text.strip():
            before += text
            continue
        document = text.lstrip().startswith("[") or (under is not None and not _whole(text, under))
        if document:
            rest = _decoded_rest(lines, path, number)
            yield from _Document(path, before + text + rest).records(under)
            return
        yield _of_line(text, path, number)
        for later, each in enumerate(lines, number + 1):
            if each.strip():
                yield _of_line(_decoded(each, path, later), path, later)
        return


def _whole(text: str, under: str) -> bool:
    """Whether a line is a record by itself rather than the start of an object with an array."""
    try:
        value = _DECODER.decode(text.strip())
    except (ValueError, RecursionError):
        return False
    return not (isinstance(value, dict) and under in value)


def _decoded(raw: bytes, path: Path, line: int) -> str:
    try:
        return raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text; is this a JSON file?", path, line) from error


def _decoded_rest(lines: Iterator[bytes], path: Path, line: int) -> str:
    return "".join(_decoded(raw, path, later) for later, raw in enumerate(lines, line + 1))


def _of_line(text: str, path: Path, line: int) -> Record:
    try:
        value = _DECODER.decode(text.strip())
    except json.JSONDecodeError as error:
        problem = f"is not JSON: {error.msg} at column {error.colno}"
        raise InputError(problem, path, line) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not usable JSON: {error}", path, line) from error
    return _record(value, path, line, line)


def _record(value: object, path: Path, line: int, number: int) -> Record:
    if not isinstance(value, dict):
        raise InputError(f"expected a JSON object, not {_shown(value)}", path, line)
    return Record(path, line, number, value)


class _Document:
    """A reader over one JSON text that knows the line it is at."""

    def __init__(self, path: Path, text: str):
        self.path, self.text = path, text
        self.at, self.line, self.counted = 0, 1, 0

    def records(self, under: str | None) -> Iterator[Record]:
        if self.peek() == "[":
            yield from self.array()
        else:
            yield from self.member(under)
        if self.peek():
            self.fail("expected the end of the file")

    def array(self) -> Iterator[Record]:
        self.take("[")
        number = 0
        more = self.peek() != "]"
        while more:
            self.peek()
            number, line = number + 1, self.line
            yield _record(self.value(), self.path, line, number)
            more = self.peek() == ","
            self.at += more
        self.take("]")

    def member(self, under: str | None) -> Iterator[Record]:
        """The array under the key; what else the object holds is checked and passed over."""
        self.take("{")
        more = self.peek() != "}"
        while more:
            key = self.value()
            self.take(":")
            if key == under and self.peek() == "[":
                yield from self.array()
            else:
                self.value()
            more = self.peek() == ","
            self.at += more
        self.take("}")

    def peek(self) -> str:
        """The next character that is not white space, or "" at the end."""
        while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
            self.at += 1
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.text[self.at : self.at + 1]

    def take(self, wanted: str) -> None:
        if self.peek() != wanted:
            self.fail(f"expected {wanted!r}")
        self.at += 1

    def value(self) -> Any:
        self.peek()
        try:
            value, self.at = _DECODER.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            problem = f"is not JSON: {error.msg} at column {error.colno}"
            raise InputError(problem, self.path, error.lineno) from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"is not usable JSON: {error}", self.path, self.line) from error
        return value

    def fail(self, problem: str) -> NoReturn:
        found = self.peek()
        there = f"found {found!r}" if found else "the file ends here; is it cut short?"
        raise InputError(f"is not JSON: {problem}, {there}", self.path, self.line)


def _not_a_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_not_a_number)


def _shown(value: object) -> str:
    """A short picture of a wrong value for a message."""
    return {dict: "an object", list: "a list", type(None): "null"}.get(
        type(value), ascii(value)[:40]
    )
