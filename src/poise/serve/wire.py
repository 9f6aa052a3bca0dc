"""A chat request off the wire: bytes -> JSON -> ``Asked``; and JSON back into bytes.

Fields are checked by hand, because a request's own cost is counted in microseconds here. What
OpenAI defines is held to OpenAI's types and ranges, and a null there is as good as nothing; what it
does not define goes upstream as it came. It does not know: aliases, callers, upstreams.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from poise.serve.options import MOST_WHOLE, NONE, Options, read_options
from poise.serve.refusals import Refusal, invalid
from poise.types import Kind, Message

__all__ = ["OTHER_NAMES", "STRUCTURED", "Asked", "read_chat", "read_json", "write_json"]

MOST_STOPS = 4
MOST_CHOICES = 128
MOST_TOP_LOGPROBS = 20

OTHER_NAMES = {
    **dict.fromkeys(("n_predict", "max_new_tokens", "num_predict"), "max_tokens"),
    **dict.fromkeys(("n_cmpl", "num_return_sequences", "best_of"), "n"),
}
"""What some servers also call a request's size: no cap would see it there."""

STRUCTURED = {"json_object", "json_schema"}
"""Types of ``response_format`` that make the answer JSON."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A chat request, checked.

    ``model``: the alias as the client names it. ``decoding``: every other field that the client
    states and that goes upstream, unknown ones too, ``max_completion_tokens`` as ``max_tokens``.
    ``kind``: of answer, where the request tells. ``n``: choices to reply with. ``logprobs`` None:
    not asked for; 0: of the tokens chosen; k: of the top k as well. ``include_usage``: of a stream.
    ``tools``: some are offered, so that a reply calls them or not.
    """

    model: str
    messages: tuple[Message, ...]
    decoding: Mapping[str, Any]
    kind: Kind | None = None
    n: int = 1
    seed: int | None = None
    logprobs: int | None = None
    stream: bool = False
    include_usage: bool = False
    tools: bool = False
    options: Options = NONE


def read_json(raw: bytes, max_depth: int) -> Any:
    """The JSON value in ``raw``, nested at most ``max_depth`` levels. Raises Refusal.

    What could not be sent on is no JSON here: NaN, numbers beyond a double, half a surrogate pair.
    Of a key that occurs twice the last counts.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise invalid(
            f"the body is not UTF-8 (byte {error.start + 1}); send JSON in UTF-8"
        ) from None
    try:
        value = _DECODER.decode(text)
        # As many brackets as levels cannot be too deep, which spares the usual body the walk.
        if raw.count(b"{") + raw.count(b"[") > max_depth:
            _check_depth(value, max_depth)
        # In UTF-8, half a pair can only have been written as an escape.
        if "\\ud" in text or "\\uD" in text:
            _ENCODER.encode(value).encode()
    except RecursionError:
        raise _too_deep(max_depth) from None
    except UnicodeEncodeError:
        raise invalid("the body holds half of a surrogate pair (\\ud800 to \\udfff)") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        what = error.msg if text.strip() else "it is empty"
        raise invalid(f"the body is not JSON: {what} ({place}); send a JSON object") from None
    except ValueError:  # of int(): it reads no more than some thousand digits
        raise invalid("the body is not JSON: a number has too many digits") from None
    return value


def write_json(value: Any) -> bytes:
    """``value`` as compact JSON in UTF-8, whatever an upstream has put into it.

    A number that JSON does not have becomes null, and half a surrogate pair U+FFFD.
    """
    try:
        return _ENCODER.encode(value).encode()
    except ValueError:
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    text = _ENCODER.encode(finite)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def read_chat(body: Any) -> Asked:
    """A chat-completion request. Raises Refusal naming the field at fault.

    ``stream_options`` holds for ``include_usage`` alone: the stream is the gateway's own.
    """
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object with model and messages")
    stated = {}
    for name, value in body.items():
        check = _CHECKS.get(name)
        if check is None:
            stated[name] = value
        elif value is not None:
            check(name, value)
            stated[name] = value
    take = stated.pop
    model, messages = take("model", None), take("messages", None)
    if model is None:
        raise invalid("model is missing; name one that /v1/models lists", "model")
    if messages is None:
        raise invalid("messages is missing; send a list of at least one message", "messages")
    options = read_options(take("poise", None))
    if options.options is not None and not messages[-1].get("content"):
        problem = "the last message has no content for poise.options to follow"
        raise invalid(problem, f"messages[{len(messages) - 1}].content")
    if "max_completion_tokens" in stated:
        _rename_max_tokens(stated)
    tools = bool(stated.get("tools")) and stated.get("tool_choice") != "none"
    return Asked(
        model,
        tuple(messages),
        stated,
        options.kind or _kind(stated, tools=tools),
        take("n", 1),
        take("seed", None),
        _logprobs(stated),
        take("stream", None) is True,
        take("stream_options", {}).get("include_usage") is True,
        tools,
        options,
    )


# -- JSON ---------------------------------------------------------------------------------------


def _constant(name: str) -> NoReturn:
    raise invalid(f"the body is not JSON: it has no {name}")


def _finite(written: str) -> float:
    value = float(written)
    if math.isinf(value):
        raise invalid("the body holds a number too large for a double")
    return value


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_constant)
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
)


def _check_depth(value: Any, max_depth: int) -> None:
    """Level by level, so that the caller's stack does not matter."""
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(max_depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in _CONTAINERS
        ]
        if not level:
            return
    raise _too_deep(max_depth)


_CONTAINERS = {dict, list}


def _too_deep(max_depth: int) -> Refusal:
    return invalid(f"the body is nested deeper than {max_depth} levels")


# -- fields -------------------------------------------------------------------------------------


def _rename_max_tokens(stated: dict[str, Any]) -> None:
    """Both names of one thing; the old one goes on, since every server knows it."""
    newer = stated.pop("max_completion_tokens")
    if stated.setdefault("max_tokens", newer) != newer:
        problem = "max_tokens and max_completion_tokens differ; send one of them"
        raise invalid(problem, "max_tokens")


def _kind(stated: Mapping[str, Any], *, tools: bool) -> Kind | None:
    """JSON where the request asks for a structure or offers tools; else it does not tell."""
    form = stated.get("response_format")
    return Kind.JSON if tools or (form and form["type"] in STRUCTURED) else None


def _logprobs(stated: dict[str, Any]) -> int | None:
    wanted, top = stated.pop("logprobs", None), stated.pop("top_logprobs", None)
    if top is not None and not wanted:
        raise invalid("top_logprobs needs logprobs: true beside it", "top_logprobs")
    return (top or 0) if wanted else None


_Check = Callable[[str, Any], None]
"""``check(name, value)``: nothing, or Refusal. The value is not None."""


def _whole(least: int, most: int) -> _Check:
    def check(name: str, value: Any) -> None:
        if type(value) is not int or not least <= value <= most:
            raise invalid(f"{name} must be a whole number from {least} to {most}", name)

    return check


def _number(least: float, most: float) -> _Check:
    def check(name: str, value: Any) -> None:
        if type(value) not in _NUMBERS or not least <= value <= most:
            raise invalid(f"{name} must be a number from {least:g} to {most:g}", name)

    return check


_NUMBERS = {int, float}


def _flag(name: str, value: Any) -> None:
    if type(value) is not bool:
        raise invalid(f"{name} must be true or false", name)


def _name(name: str, value: Any) -> None:
    if type(value) is not str or not value:
        raise invalid(f"{name} must be a text that is not empty", name)


def _object(name: str, value: Any) -> None:
    if type(value) is not dict:
        raise invalid(f"{name} must be an object", name)


def _anything(name: str, value: Any) -> None:
    """Who reads it checks it."""


def _messages(name: str, value: Any) -> None:
    if type(value) is not list or not value:
        raise invalid("messages must be a list of at least one message", name)
    for place, message in enumerate(value):
        if type(message) is not dict:
            raise invalid(f"messages[{place}] must be an object", f"messages[{place}]")
        role = message.get("role")
        if type(role) is not str or not role:
            where = f"messages[{place}].role"
            raise invalid(f"{where} must be a text: system, user, assistant or tool", where)
        content = message.get("content")
        if type(content) is not str and content is not None:
            _parts(f"messages[{place}].content", content)


def _parts(where: str, content: Any) -> None:
    if type(content) is not list:
        raise invalid(f"{where} must be a text, a list of parts or null", where)
    for place, part in enumerate(content):
        here = f"{where}[{place}]"
        if type(part) is not dict or type(part.get("type")) is not str:
            raise invalid(f"{here} must be an object with a type", here)
        if part["type"] == "text" and type(part.get("text")) is not str:
            raise invalid(f"{here}.text must be a text", f"{here}.text")


def _stop(name: str, value: Any) -> None:
    listed = [value] if type(value) is str else value
    fits = type(listed) is list and len(listed) <= MOST_STOPS
    if not fits or any(type(one) is not str for one in listed):
        raise invalid(f"stop must be a text or a list of up to {MOST_STOPS} texts", name)


def _tools(name: str, value: Any) -> None:
    if type(value) is not list or any(type(one) is not dict for one in value):
        raise invalid("tools must be a list of objects", name)


def _tool_choice(name: str, value: Any) -> None:
    if type(value) not in {str, dict}:
        raise invalid("tool_choice must be none, auto, required or an object", name)


def _response_format(name: str, value: Any) -> None:
    if type(value) is not dict or type(value.get("type")) is not str:
        raise invalid("response_format must be an object with a type", name)


def _other_name(name: str, value: Any) -> None:  # noqa: ARG001 - any is refused
    raise invalid(f"{name} is no field here; send {OTHER_NAMES[name]}", name)


def _stream_options(name: str, value: Any) -> None:
    _object(name, value)
    if value.get("include_usage") is not None:
        _flag("stream_options.include_usage", value["include_usage"])


_CHECKS: Mapping[str, _Check] = {
    "model": _name,
    "messages": _messages,
    "poise": _anything,
    "n": _whole(1, MOST_CHOICES),
    "seed": _whole(-(2**63), 2**63 - 1),
    "stream": _flag,
    "stream_options": _stream_options,
    "logprobs": _flag,
    "top_logprobs": _whole(0, MOST_TOP_LOGPROBS),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "max_tokens": _whole(1, MOST_WHOLE),
    "max_completion_tokens": _whole(1, MOST_WHOLE),
    "stop": _stop,
    "logit_bias": _object,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "response_format": _response_format,
    **dict.fromkeys(OTHER_NAMES, _other_name),
}
"""Fields of the request that are known, and what they have to be."""
