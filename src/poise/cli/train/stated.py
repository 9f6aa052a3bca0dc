"""The lines of a table about confidences that replies state themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["STATED", "within"]

Row = tuple[str, Callable[[Mapping[str, Any]], float | None]]

STATED: tuple[Row, ...] = (
    ("accuracy, sampled", lambda at: at["accuracy"]["accuracy"]),
    ("states a confidence", lambda at: at["in_form"]["share"]),
    ("stated ECE", lambda at: at["confidence"]["ece"]),
    ("stated ECE by chance alone", lambda at: at["confidence"]["ece_floor"]["mean"]),
    ("stated Brier", lambda at: at["confidence"]["brier"]["value"]),
    ("Brier of the base rate", lambda at: at["confidence"]["base_brier"]),
    ("stated AUROC", lambda at: at["confidence"]["auroc"]["value"]),
    ("stated within-question", lambda at: at["confidence"]["within_question"]["estimate"]["value"]),
    ("stated when right", lambda at: at["right"]["mean"]),
    ("stated when wrong", lambda at: at["wrong"]["mean"]),
    ("right answers withheld", lambda at: at["over_abstention"]["share"]),
    ("wrong answers given", lambda at: at["under_abstention"]["share"]),
)


def within(name: str) -> tuple[Row, ...]:
    """The lines, of the section ``name`` of what was measured."""

    def of(read: Callable[[Mapping[str, Any]], float | None]) -> Callable[..., float | None]:
        return lambda at: read(at[name])

    return tuple((label, of(read)) for label, read in STATED)
