"""The pools of a training command: to train on, to measure on, and the prompt of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from poise.backends.llamacpp import PROMPT
from poise.cli.selection import read_arms
from poise.errors import InputError, UsageError
from poise.pools import Labelled
from poise.types import Prompt

__all__ = ["Given", "prompt_of", "read_all"]

Given = tuple[list[Labelled], dict[str, list[Labelled]], Prompt]
"""Pools to train on, pools to measure on by name, and the prompt that all were drawn with."""


def read_all(pools: Iterable[Path], others: Iterable[Path], system: str | None) -> Given:
    """The pools of the files; each of ``others`` is called by its name up to the first dot.

    Raises InputError for bad files and mixed prompts, UsageError for two of ``others`` of one name.
    """
    arms = list(read_arms(pools))
    found: dict[str, list[Labelled]] = {}
    for path in others:
        name = path.name.split(".")[0]
        if name in found:
            raise UsageError(f"--eval: two files are called {name}; rename one")
        found[name] = list(read_arms([path]))
    return arms, found, prompt_of([*arms, *chain.from_iterable(found.values())], system)


def prompt_of(pools: Sequence[Labelled], system: str | None) -> Prompt:
    """The prompt that the pools were drawn with, by its hash.

    With ``system`` or without, with the embedded model's worked examples or without any. Raises
    InputError where it is none of these.
    """
    for prompt in (Prompt(system), Prompt(system, PROMPT.examples)):
        if all(one.pool.prompt_hash in (None, prompt.hash(one.pool.kind)) for one in pools):
            return prompt
    raise InputError(
        "the pools were drawn with another prompt than a bare one or the embedded model's, or with"
        " several; name its system message with --system"
    )
