"""The folder of a training run: what was asked for, and what it has measured so far.

A run goes on in its folder only where the same is asked of the same data. Files are written whole
or not at all, so that a kill leaves none half written. It does not know what is trained or
measured.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from poise.errors import UsageError
from poise.files import whole
from poise.pools import Labelled, pool_record

__all__ = [
    "enter",
    "fingerprint",
    "hashed",
    "plain",
    "read_record",
    "write_pools",
    "write_record",
]


def enter(folder: Path, asked: Mapping[str, Any], *, resume: bool) -> dict[str, Any]:
    """Start the folder of a run, or go back into it; ``asked`` as JSON has it.

    Raises UsageError where the folder holds another run, this run without ``resume``, or no run
    and is not empty.
    """
    made: dict[str, Any] = json.loads(json.dumps(asked))
    place = folder / "settings.json"
    if place.is_file():
        if not resume:
            raise UsageError(f"{folder} holds a run; pass --resume, or name another folder")
        other = _differing(read_record(place), made)
        if other:
            raise UsageError(f"{folder} is of another run: {', '.join(other)} differ")
        return made
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already and holds no run; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror})") from None
    write_record(place, made)
    return made


def _differing(earlier: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    found = []
    for name in sorted(earlier.keys() | asked.keys()):
        a, b = earlier.get(name), asked.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differing(a, b)
        elif a != b:
            found.append(name)
    return found


def fingerprint(pools: Sequence[Labelled]) -> str:
    """Names the pools by all that they hold."""
    return hashed([pool_record(one) for one in pools])


def hashed(values: Sequence[Any]) -> str:
    """Sixteen hexadecimal digits of JSON values."""
    made = hashlib.sha256()
    for value in values:
        made.update(json.dumps(value, sort_keys=True, default=str).encode() + b"\n")
    return made.hexdigest()[:16]


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A step's record for JSON, which has no word for a loss that is no number."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }


def read_record(place: Path) -> dict[str, Any]:
    """What ``write_record`` wrote."""
    found: dict[str, Any] = json.loads(place.read_text("utf-8"))
    return found


def write_record(place: Path, record: Mapping[str, Any]) -> None:
    """Write one JSON object."""
    with whole(place) as stream:
        stream.write((json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode())


def write_pools(place: Path, pools: Sequence[Labelled]) -> None:
    """Write a packed pool file, the same bytes whenever it is written."""
    with whole(place) as stream, gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:
        for one in pools:
            packed.write((json.dumps(pool_record(one), ensure_ascii=False) + "\n").encode())
