"""An output of JSON lines that survives a kill at any point: nothing lost, nothing doubled.

The **output** gets one whole line for each finished question. Beside it, while a run is under way,
lies ``<output>.journal``: a first line that says what produces the output, then one line for each
reservation made for a question, written before its call is sent. A clean finish removes it.

After a kill, ``Journal.resume`` drops the half line at the end, knows which questions are done, and
adds up the reservations of those that are not: ``lost``, an upper bound on the spend that was in
flight. An output without a journal had finished; resuming it skips its questions and appends the
rest, and nothing is left to compare the header with.

What the kernel was given survives the death of the process, not that of the machine. It does not
know what a record holds beyond its question's id, which the caller's ``key`` reads.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

from poise.errors import InputError, UsageError

if sys.platform != "win32":
    import fcntl

__all__ = ["Journal", "Lost"]

Record = Mapping[str, Any]
Key = Callable[[Record], str]

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND
_UNRESUMABLE = {".gz", ".parquet", ".csv"}


def _question_id(record: Record) -> str:
    return str(record["question_id"])


@dataclass(frozen=True, slots=True)
class Lost:
    """Upper bound on the spend that kills have cost; ``usd`` None: not all of it had a price.

    ``questions``: how often a question was cut short, a question cut twice counted twice.
    """

    questions: int = 0
    samples: int = 0
    tokens: int = 0
    usd: float | None = 0.0


class Journal:
    """One output being written. Made by ``create`` or ``resume``; not thread-safe.

    As a context manager it closes cleanly, unless an exception passes through. While it is open no
    other process can write the same output (where the file system has locks). Memory: 16 bytes for
    each finished question. ``-`` (stdout) and what is no regular file (a pipe, /dev/null) is
    written without a journal and cannot be resumed.

    ``lost``: what earlier, killed parts of this run had in flight.
    """

    def __init__(self, path: str | Path, key: Key):
        self.path, self.lost = path, Lost()
        self._key = key
        self._done: set[bytes] = set()
        self._output: int | None = None
        self._journal: int | None = None

    @classmethod
    def create(
        cls,
        path: str | Path,
        header: Mapping[str, Any],
        *,
        overwrite: bool = False,
        key: Key = _question_id,
    ) -> Self:
        """Start an output. ``header``: a JSON mapping of what must be the same to resume it.

        Raises UsageError where there is an output or a journal already (unless ``overwrite``),
        where another process writes it, and where it cannot be written or resumed (gzip).
        """
        journal = cls(path, key)
        if not _is_resumable(path):
            journal._output = None if str(path) == "-" else _opened(path, os.O_WRONLY)
            return journal
        first = _line({"header": header})
        journal._lock()
        try:
            if not overwrite:
                journal._refuse_existing()
            # In this order a kill in between leaves no old line under a new header.
            journal._output = _opened(path, _APPEND)
            os.ftruncate(journal._output, 0)
            journal._start(first)
        except BaseException:
            journal._abandon()
            raise
        return journal

    @classmethod
    def resume(
        cls,
        path: str | Path,
        header: Mapping[str, Any],
        *,
        key: Key = _question_id,
        on_record: Callable[[Record], None] | None = None,
    ) -> Self:
        """Go on with an output, or start it. ``on_record`` sees every record already there.

        A half line at the end is cut off; a whole one that lacks its newline is completed. Raises
        UsageError where ``header`` differs from the one the output was started with, and as
        ``create`` does; InputError at a line that is no record or comes twice. Then the output is
        as it was.
        """
        if not _is_resumable(path):
            raise UsageError(f"{path}: only a file can be resumed; leave --resume out")
        journal = cls(path, key)
        journal._lock()
        try:
            journal._continue(header, on_record)
        except BaseException:
            journal._abandon()
            raise
        return journal

    @property
    def finished(self) -> int:
        """How many questions have their line."""
        return len(self._done)

    def is_finished(self, id: str) -> bool:
        """Whether this question has its line."""
        return _digest(id) in self._done

    def reserve(self, id: str, samples: int, tokens: int, usd: float | None) -> None:
        """Note, before a call is sent, the most it can spend on this question (a ledger's bound).

        Raises InputError where the disk does not take the note.
        """
        if self._journal is not None:
            note = {"id": id, "samples": samples, "tokens": tokens, "usd": usd}
            _append(self._journal, _line(note), _sidecar(self.path))

    def write(self, record: Record) -> None:
        """Append one record; from then on its question is finished.

        Raises InputError where the disk does not take the line (the output then ends with the line
        before), RuntimeError where the question has its line already.
        """
        digest = _digest(self._key(record))
        if digest in self._done:
            raise RuntimeError(f"question {self._key(record)!r} has its line already")
        if self._output is None:
            sys.stdout.buffer.write(_line(record))
            sys.stdout.buffer.flush()
        else:
            _append(self._output, _line(record), self.path)
        self._done.add(digest)

    def close(self, *, clean: bool) -> None:
        """End the run. ``clean``: nothing is in flight, so the journal is not needed any more.

        Closing twice does no harm.
        """
        if clean and self._output is not None and self._journal is not None:
            os.fsync(self._output)
            _sidecar(self.path).unlink(missing_ok=True)
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(clean=kind is None)

    # -- inside ---------------------------------------------------------------------------------

    def _lock(self) -> None:
        sidecar = _sidecar(self.path)
        while True:
            self._journal = _opened(sidecar, _APPEND)
            if not _locked(self._journal):
                self._release()
                raise UsageError(f"{self.path}: another process is writing it; wait for its end")
            # Its last owner may have removed the file after we opened it: then lock the next one.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._journal), sidecar.stat()):
                    return
            self._release()

    def _release(self) -> None:
        for descriptor in (self._output, self._journal):
            if descriptor is not None:
                os.close(descriptor)
        self._output = self._journal = None

    def _abandon(self) -> None:
        """Release, and leave no journal behind that says nothing."""
        if self._journal is not None and os.fstat(self._journal).st_size == 0:
            _sidecar(self.path).unlink()
        self._release()

    def _refuse_existing(self) -> None:
        assert self._journal is not None
        written = os.fstat(self._journal).st_size > 0
        for path, there in ((self.path, Path(self.path).exists()), (_sidecar(self.path), written)):
            if there:
                raise UsageError(
                    f"{path} exists: --resume to continue it or --overwrite to replace it"
                )

    def _start(self, first: bytes) -> None:
        assert self._journal is not None
        os.ftruncate(self._journal, 0)
        _append(self._journal, first, _sidecar(self.path))

    def _continue(
        self, header: Mapping[str, Any], on_record: Callable[[Record], None] | None
    ) -> None:
        assert self._journal is not None
        sidecar = _sidecar(self.path)
        notes = _notes(sidecar)
        first = next(notes, None)
        if first is not None:
            _refuse_other(header, first[1], self.path)
        end, newline = self._read_output(on_record)
        if first is None:
            self._start(_line({"header": header}))
        else:
            self.lost = _lost(notes, self._done, sidecar)
            # Questions lost so far may finish from now on, and would then no longer show as lost.
            os.ftruncate(self._journal, _whole(sidecar))
            _append(self._journal, _line({"lost": asdict(self.lost)}), sidecar)
        self._output = _opened(self.path, _APPEND)
        os.ftruncate(self._output, end)
        _append(self._output, newline, self.path)

    def _read_output(self, on_record: Callable[[Record], None] | None) -> tuple[int, bytes]:
        """Learn what is finished: where whole records end, and the newline the last one lacks."""
        end, newline = 0, b""
        for number, line in _lines(Path(self.path)):
            try:
                record = _parsed(line)
                digest = _digest(self._key(record))
            except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
                if line.startswith(b"{") and not line.endswith(b"\n"):
                    break
                problem = "no record of this run; --overwrite to replace the file"
                raise InputError(problem, self.path, number) from None
            if digest in self._done:
                raise InputError("the second record of its question", self.path, number)
            self._done.add(digest)
            if on_record is not None:
                on_record(record)
            end += len(line)
            newline = b"" if line.endswith(b"\n") else b"\n"
        return end, newline


def _is_resumable(path: str | Path) -> bool:
    if str(path) == "-":
        return False
    file = Path(path)
    if file.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    if file.suffix.lower() in _UNRESUMABLE:
        raise UsageError(f"{path}: the output is written as plain JSON lines; name it .jsonl")
    return file.is_file() or not file.exists()


def _sidecar(path: str | Path) -> Path:
    return Path(f"{path}.journal")


def _opened(path: str | Path, flags: int) -> int:
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no folder {Path(path).parent}; make it first") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None


def _locked(descriptor: int) -> bool:
    """Whether the lock is ours (or the system has none to give)."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return not isinstance(error, BlockingIOError)
    return True


def _line(record: Record) -> bytes:
    # Half a surrogate pair in a model's text is no reason to lose the line it is in.
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode(errors="replace") + b"\n"


def _digest(id: str) -> bytes:
    return blake2b(id.encode(errors="replace"), digest_size=16).digest()


def _append(descriptor: int, data: bytes, path: str | Path) -> None:
    """All of ``data`` at the end of the file, or nothing of it and InputError."""
    before = os.fstat(descriptor).st_size
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        with suppress(OSError):  # a pipe takes nothing back
            os.ftruncate(descriptor, before)
        raise InputError(f"cannot be written: {error.strerror}", path) from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines with their newline, which the last may lack; none where there is no file."""
    try:
        with path.open("rb") as file:
            yield from enumerate(file, start=1)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path) from None


def _whole(path: Path) -> int:
    """Bytes up to and with the last newline."""
    return sum(len(line) for _, line in _lines(path) if line.endswith(b"\n"))


def _parsed(line: bytes) -> dict[str, Any]:
    value = json.loads(line.decode())
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _notes(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The whole lines of a journal; a half one at the end was never relied on."""
    for number, line in _lines(path):
        if not line.endswith(b"\n"):
            return
        try:
            yield number, _parsed(line)
        except (TypeError, ValueError, RecursionError):
            raise _no_note(path, number) from None


def _no_note(path: Path, number: int) -> InputError:
    return InputError("no line of a journal; --overwrite to start again", path, number)


def _refuse_other(header: Mapping[str, Any], first: Record, path: str | Path) -> None:
    was = first.get("header")
    if not isinstance(was, dict):
        raise _no_note(_sidecar(path), 1)
    now = json.loads(_line(header))
    missing = object()
    names = was.keys() | now.keys()
    other = [name for name in names if was.get(name, missing) != now.get(name, missing)]
    if other:
        raise UsageError(
            f"{path} was started with other settings ({', '.join(sorted(other))}); "
            "give the same ones to --resume it, or --overwrite to replace it"
        )


def _lost(notes: Iterable[tuple[int, Record]], done: set[bytes], path: Path) -> Lost:
    """What earlier resumptions found lost, and every reservation since for a question not done."""
    lost, cut = Lost(), set[bytes]()
    for number, note in notes:
        try:
            if "lost" in note:
                lost, cut = Lost(**note["lost"]), set()
                continue
            digest = _digest(note["id"])
            if digest not in done:
                usd = note["usd"]
                lost = Lost(
                    lost.questions + (digest not in cut),
                    lost.samples + note["samples"],
                    lost.tokens + note["tokens"],
                    None if lost.usd is None or usd is None else lost.usd + usd,
                )
                cut.add(digest)
        except (AttributeError, LookupError, TypeError):
            raise _no_note(path, number) from None
    return lost
