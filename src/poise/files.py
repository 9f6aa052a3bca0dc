"""Files to write: whole or not at all, and never in the place of something that is no file.

A new file is made beside its place and put there at the end, so that a kill or a full disk leaves
what was there before. A pipe, a terminal, /dev/null or this process's own output is written
straight into instead. It does not know what is in a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from poise.errors import PoiseError, UsageError

__all__ = ["refuse_existing", "whole"]

STREAMS = (1, 2)
"""Descriptors of this process's own output: a file behind them is a stream all the same."""


def refuse_existing(path: str | Path, *, overwrite: bool) -> None:
    """Raise UsageError where the file is there already, is a folder, or lies in none."""
    place = Path(path)
    if place.is_dir():
        raise UsageError(f"{place} is a folder; name a file in it")
    if place.is_file() and not _is_stream(place) and not overwrite:
        raise UsageError(f"{place} exists; name another output or pass --overwrite")
    if not place.parent.is_dir():
        raise UsageError(f"{place.parent}: no such folder")


@contextmanager
def whole(path: str | Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file ``path`` when the block ends without an error.

    An existing file is replaced, the one that a link names and not the link; what is no regular
    file gets the bytes as they come. Raises UsageError where it cannot be written, and for text
    that holds half of a surrogate pair; errors of ``PoiseError`` pass through.
    """
    place = Path(path)
    try:
        if _is_stream(place):
            with place.open("ab") as stream:  # not "wb": our own output may be appended to a file
                yield stream
            return
        final = place.resolve() if place.is_symlink() else place
        partial = final.with_name(final.name + ".partial")
        try:
            with partial.open("wb") as stream:
                yield stream
            partial.replace(final)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
    except PoiseError:
        raise
    except UnicodeEncodeError:
        problem = "half of a surrogate pair in it is not text"
        raise UsageError(f"{place}: cannot be written ({problem})") from None
    except OSError as error:
        raise UsageError(f"{place}: cannot be written ({error.strerror or error})") from None


def _is_stream(place: Path) -> bool:
    """Whether there is something else than a file of its own."""
    try:
        found = place.stat()
    except OSError:
        return False
    if not place.is_file():
        return True
    for descriptor in STREAMS:
        with suppress(OSError):
            if os.path.samestat(found, os.fstat(descriptor)):
                return True
    return False
