"""Fields of JSON that a server sent, each with the shape it was promised to have.

Whatever has another shape raises MalformedReply, which names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poise.errors import MalformedReply

__all__ = ["integer", "object_in", "objects_in", "text_in"]


def object_in(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object under ``name``; an empty one where there is none."""
    value = holder.get(name) or {}
    if not isinstance(value, dict):
        raise MalformedReply(f"the reply's {name} is not an object")
    return value


def objects_in(holder: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The list of objects under ``name``; an empty one where there is none."""
    value = holder.get(name)
    if not value:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise MalformedReply(f"the reply's {name} is not a list of objects")
    return value


def text_in(holder: Mapping[str, Any], name: str) -> str | None:
    """The text under ``name``, None where there is none."""
    value = holder.get(name)
    if value is not None and not isinstance(value, str):
        raise MalformedReply(f"the reply's {name} is not text")
    return value


def integer(value: Any) -> int | None:
    """``value`` where it is a whole number and no truth value, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
