"""The extra ``train``, and what is said where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from poise.errors import ModelMissing

__all__ = ["needed"]


@contextmanager
def needed() -> Iterator[None]:
    """Imports inside need the extra. Raises ModelMissing where a part of it is absent."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "poise":
            raise
        raise ModelMissing(
            f"training is not installed ({error.name}): pip install 'poise[train]'"
        ) from error
