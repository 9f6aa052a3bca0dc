"""Attach a late truth to an answer: 1 right, 0 wrong, or a grade in between."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated

import typer

from poise.cli import options
from poise.config import load
from poise.errors import InputError, ModelMissing, UsageError


def outcome(
    id: Annotated[str, typer.Argument(help="Of the reply (chatcmpl-…) or of its poise object.")],
    value: Annotated[float, typer.Argument(help="1 right, 0 wrong, or between.")],
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Where decisions are kept; else [store] path of --config."),
    ] = None,
    source: Annotated[str, typer.Option("--source", help="Who says so.")] = "person",
    as_json: options.AsJson = False,  # noqa: FBT002 - a flag
    config: options.ConfigFile = None,
) -> None:
    """Attach one outcome. The same one again changes nothing; another value replaces it."""
    named = None if store is not None else load(config).store.path
    path = store or (None if named is None else Path(named))
    if path is None:
        raise UsageError("name the store: --store FILE, or --config with a [store] path")
    if not path.exists():
        raise InputError("there is no such store", path)
    status = asyncio.run(_attach(path, id, value, source))
    if status == "unknown":
        raise InputError(f"no decision {id!r} is kept there", path)
    print(json.dumps({"id": id, "status": status}) if as_json else status)  # noqa: T201


async def _attach(path: Path, id: str, value: float, source: str) -> str:
    try:
        from poise.store import Outcome, Store, decision_id  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        raise ModelMissing(
            f"the store is not installed ({error.name}): pip install 'poise[serve]'"
        ) from error
    given = Outcome(decision_id(id), value, source, time.time())
    opened = Store.open(path)
    try:
        return (await opened.attach([given]))[0]
    finally:
        await opened.aclose()
