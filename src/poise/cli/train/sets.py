"""The pools of ``--eval``, each file a set to measure on under its own name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from poise.cli.selection import read_arms
from poise.errors import UsageError
from poise.pools import Labelled

__all__ = ["read_sets"]


def read_sets(paths: Iterable[Path]) -> dict[str, list[Labelled]]:
    """The pools of each file by its name up to the first dot.

    Raises UsageError for two files of one name, InputError for bad files.
    """
    found: dict[str, list[Labelled]] = {}
    for path in paths:
        name = path.name.split(".")[0]
        if name in found:
            raise UsageError(f"--eval: two files are called {name}; rename one")
        found[name] = list(read_arms([path]))
    return found
