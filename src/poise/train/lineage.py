"""Which questions an adapter has seen, kept beside it, so that none is measured on later.

A question is known by what was asked, not by its name, in whatever file it stands. It does not know
how the adapter was trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from poise.errors import InputError
from poise.files import whole
from poise.pools import Labelled

__all__ = ["FILE", "asked", "remember", "seen"]

FILE = "poise_questions.json"
"""Beside an adapter: a digest of each question that it was trained on."""


def asked(one: Labelled) -> str | None:
    """Sixteen hexadecimal digits of what the question asks; None where the pool leaves it out."""
    question = one.pool.question
    if question is None:
        return None
    said = json.dumps([question.messages, question.options], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def remember(folder: Path, pools: Sequence[Labelled], earlier: Iterable[str] = ()) -> None:
    """Write beside the adapter in ``folder`` that it was trained on these, and on ``earlier``."""
    found = sorted({*earlier, *(name for one in pools if (name := asked(one)) is not None)})
    with whole(folder / FILE) as stream:
        stream.write((json.dumps({"schema": 1, "questions": found}) + "\n").encode())


def seen(folder: Path) -> frozenset[str] | None:
    """What ``remember`` wrote; None where nothing is known. Raises InputError for a broken file."""
    place = folder / FILE
    if not place.is_file():
        return None
    try:
        return frozenset(json.loads(place.read_text("utf-8"))["questions"])
    except (ValueError, LookupError, TypeError):
        raise InputError("not a JSON object with questions", place) from None
