"""A scripted model that replies what the question tells it to, so that a test reads in one place.

::

    connect = lambda alias, upstream: told()
    messages = say("12", "13", "12")    # the first draw says 12, the second 13, …, and round again
    messages = say(calls("weather", '{"city": "Rome"}'), "I cannot know.")
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from poise.backends import Scripted
from poise.types import Reply, Request

__all__ = ["calls", "say", "told"]

Draw = str | Mapping[str, str]


def say(*draws: Draw) -> list[dict[str, Any]]:
    """A question whose samples are ``draws``, one after the other."""
    return [{"role": "user", "content": json.dumps(draws)}]


def calls(name: str, arguments: str) -> dict[str, str]:
    """A draw that calls a tool; ``arguments``: its JSON, as it is to arrive."""
    return {"name": name, "arguments": arguments}


def told(**more: Any) -> Scripted:
    """The model; ``more`` goes to ``Scripted``."""
    return Scripted(_reply, **more)


def _reply(request: Request, index: int) -> str | Reply:
    asked = request.messages[-1]["content"]
    text = asked if isinstance(asked, str) else asked[0]["text"]
    draws = json.loads(text.splitlines()[0])  # the options of a choice follow in further lines
    draw = draws[index % len(draws)]
    if isinstance(draw, str):
        return draw
    call = {"id": f"call_{index}", "type": "function", "function": draw}
    return Reply(None, finish="tool_calls", tokens=len(draw["arguments"]), tool_calls=(call,))
