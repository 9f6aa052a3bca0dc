"""``Answered`` -> the same reply as ``replies.completion``, as the chunks of a stream.

An official client that puts the chunks together gets what it would have got whole. It does not
know: sockets, server-sent events, or a reply that is still being generated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from poise.serve.replies import Answered, choices, poise_object, usage
from poise.serve.wire import Asked

__all__ = ["chunks", "ending"]


def chunks(answered: Answered, asked: Asked) -> Iterator[dict[str, Any]]:
    """Every ``chat.completion.chunk`` of the reply: of each choice its role, its words, its end.

    What Poise knows comes with the last end; the usage, where it is wanted, in a chunk after it.
    """
    made = choices(answered, asked)
    for place, choice in enumerate(made):
        opening, words, end = _parts(choice)
        yield _chunk(answered, asked, [opening])
        if words is not None:
            yield _chunk(answered, asked, [words])
        if place < len(made) - 1:
            yield _chunk(answered, asked, [end])
        else:
            yield from ending(answered, asked, [end])


def ending(
    answered: Answered, asked: Asked, last: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The end of a stream, whoever sent what came before; ``last``: the choices that close it."""
    final = _chunk(answered, asked, last)
    if not answered.plain:
        final["poise"] = poise_object(answered)
    yield final
    used = usage(answered.result.spend) if asked.include_usage else None
    if used is not None:
        yield _chunk(answered, asked, []) | {"usage": used}


def _chunk(answered: Answered, asked: Asked, listed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": answered.id,
        "object": "chat.completion.chunk",
        "created": answered.created,
        "model": answered.model,
        "choices": list(listed),
    }
    if asked.include_usage:
        out["usage"] = None  # as OpenAI has it in every chunk but the last
    return out


def _parts(
    choice: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]:
    """A choice in three: its role; all that is said (None: nothing); why it ended, and the rest."""
    index, message = choice["index"], choice["message"]
    silent = message["content"] is None
    role = {"role": message["role"], "content": None if silent else ""}
    delta = {
        name: _numbered(value) if name == "tool_calls" else value
        for name, value in message.items()
        if name != "role" and value not in (None, "", [])
    }
    words = None
    if delta or choice["logprobs"]:
        words = {
            "index": index,
            "delta": delta,
            "logprobs": choice["logprobs"],
            "finish_reason": None,
        }
    rest = {name: value for name, value in choice.items() if name not in {"message", "logprobs"}}
    return (
        {"index": index, "delta": role, "logprobs": None, "finish_reason": None},
        words,
        {"delta": {}, "logprobs": None, **rest},
    )


def _numbered(calls: Any) -> Any:
    """Tool calls with their place, by which clients put the pieces together."""
    return [{**call, "index": place} for place, call in enumerate(calls)]
