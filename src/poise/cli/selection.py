"""Pool files on the command line, and the one arm in them that a verb works on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from poise.errors import InputError, UsageError
from poise.pools import Labelled, SkipCount, read_pools

__all__ = ["Dataset", "Model", "Run", "read_arm", "read_arms"]

Model = Annotated[str | None, typer.Option("-m", "--model", help="Only the samples of this model.")]
Run = Annotated[str | None, typer.Option("--run", help="Only the pools of this run.")]
Dataset = Annotated[
    str | None, typer.Option("--dataset", help="Only the questions of this data set.")
]

SHOWN = 8
"""Names listed where one that was asked for is not there."""


def read_arms(paths: Iterable[Path], *, skip_bad: SkipCount | None = None) -> Iterator[Labelled]:
    """The pools of all files, parted by arm, file by file.

    Raises InputError where a pool is in an earlier file as well, which would count it twice; bad
    lines as ``read_pools``.
    """
    earlier: dict[tuple[str, ...], Path] = {}
    for path in paths:
        here: set[tuple[str, ...]] = set()
        for one in read_pools(path, skip_bad=skip_bad):
            for arm in one.by_arm():
                key = arm.pool.key
                if key in earlier:
                    named = json.dumps(key, ensure_ascii=False)
                    raise InputError(
                        f"the pool {named} is in {earlier[key]} as well; give each pool once", path
                    )
                here.add(key)
                yield arm
        earlier |= dict.fromkeys(here, path)


def read_arm(
    paths: Sequence[Path],
    model: str | None = None,
    run: str | None = None,
    dataset: str | None = None,
    *,
    skip_bad: SkipCount | None = None,
) -> list[Labelled]:
    """The pools of the files that were asked for, parted by arm.

    Raises UsageError, naming what there is, where a flag leaves none; InputError for empty files
    and, unless ``skip_bad`` counts them, bad lines.
    """
    every = list(read_arms(paths, skip_bad=skip_bad))
    wanted: list[tuple[str, str | None, Callable[[Labelled], str | None]]] = [
        ("--dataset", dataset, lambda one: one.pool.dataset),
        ("-m", model, lambda one: one.pool.model),
        ("--run", run, lambda one: one.pool.run),
    ]
    for flag, value, of in wanted:
        if value is None:
            continue
        there = sorted({of(one) or "(not stated)" for one in every})
        every = [one for one in every if of(one) == value]
        if not every:
            more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
            raise UsageError(f"{flag} {value}: the pools are of {', '.join(there[:SHOWN])}{more}")
    if not every:
        raise InputError("the files hold no pools")
    return every
