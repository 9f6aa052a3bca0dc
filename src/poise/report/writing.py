"""A card to a file: the page (.html), one picture (.png) or the numbers (.json).

It does not know what is in them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from poise.errors import UsageError
from poise.files import refuse_existing, whole
from poise.report.card import Card
from poise.report.page import page
from poise.report.pictures import png

__all__ = ["FORMATS", "write_card"]


def _html(card: Card) -> bytes:
    return page(card).encode()


def _json(card: Card) -> bytes:
    text = json.dumps(card.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)
    return f"{text}\n".encode()


FORMATS: Mapping[str, Callable[[Card], bytes]] = {".html": _html, ".png": png, ".json": _json}
"""What a file's suffix asks for."""


def write_card(card: Card, path: str | Path, *, overwrite: bool = False) -> None:
    """Write the file that its suffix asks for, whole or not at all.

    Raises UsageError for another suffix, where the file exists and ``overwrite`` is not set, where
    it cannot be written, and, for a page or a picture, where matplotlib is not installed.
    """
    target = Path(path)
    form = FORMATS.get(target.suffix.lower())
    if form is None:
        raise UsageError(f"{target}: a card is written as {', '.join(FORMATS)}; name one of these")
    refuse_existing(target, overwrite=overwrite)
    content = form(card)
    with whole(target) as stream:
        stream.write(content)
