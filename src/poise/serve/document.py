"""What the OpenAPI document says of each route: bodies, replies, keys.

The bodies name what the gateway itself reads; chat requests may hold any further field, which goes
to the server as it is. It does not know how anything is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from poise.serve.exchange import Route
from poise.serve.options import MOST_WHOLE, Options
from poise.serve.wire import MOST_CHOICES, MOST_STOPS, MOST_TOP_LOGPROBS
from poise.store.records import LATEST, LONGEST

__all__ = ["CHAT", "COMPLETIONS", "DECISIONS", "NAMED", "OPEN", "OUTCOMES", "READ", "whole"]


def whole(routes: Iterable[Route]) -> dict[str, Any]:
    """The OpenAPI document of ``routes``."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        about = {"operationId": route.handler.__name__, "summary": route.summary}
        path = route.path.replace(":path}", "}")  # a name may hold slashes
        paths.setdefault(path, {})[route.method.lower()] = {**about, **route.document}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Poise",
            "version": version("poise"),
            "summary": "OpenAI's API, with a probability on every answer.",
        },
        "paths": paths,
        "components": {
            "schemas": SHARED,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def _reply(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _replies(good: dict[str, Any], *refused: int) -> dict[str, Any]:
    said = {
        400: "the request makes no sense",
        401: "a key is missing or wrong",
        403: "the key does not open this",
        404: "there is no such model",
        405: "not this way",
        413: "the body is too large",
        415: "the body is encoded",
        429: "too many requests, or a cap is reached",
        500: "a defect of the gateway",
        501: "not configured here",
        502: "the server failed",
        503: "no server is available",
        504: "the server was too slow",
    }
    return {"200": good} | {str(status): _reply(said[status], ERROR) for status in refused}


Schema = dict[str, Any]

OBJECT: Schema = {"type": "object"}
TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": ["boolean", "null"]}
KEYED: dict[str, Any] = {"security": [{"bearer": []}]}

OPTIONS = Options.model_json_schema(ref_template="#/components/schemas/{model}")
SHARED: Schema = OPTIONS.pop("$defs")
"""What ``OPTIONS`` refers to: references count from the document's root."""


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _whole(least: int, most: int) -> Schema:
    return {"type": ["integer", "null"], "minimum": least, "maximum": most}


def _number(least: float, most: float) -> Schema:
    return {"type": ["number", "null"], "minimum": least, "maximum": most}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


PART = {
    "anyOf": [
        _object(type={"const": "text"}, text=TEXT),
        _object(type={"type": "string", "not": {"const": "text"}}),
    ]
}
MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {"role": NAME, "content": {"anyOf": [TEXT, _list(PART), {"type": "null"}]}},
}
MESSAGES = {**_list(MESSAGE), "minItems": 1}

FIELDS: dict[str, Schema] = {
    "n": _whole(1, MOST_CHOICES),
    "seed": _whole(-(2**63), 2**63 - 1),
    "stream": FLAG,
    "stream_options": _or_null({"type": "object", "properties": {"include_usage": FLAG}}),
    "logprobs": FLAG,
    "top_logprobs": _whole(0, MOST_TOP_LOGPROBS),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "max_tokens": _whole(1, MOST_WHOLE),
    "max_completion_tokens": _whole(1, MOST_WHOLE),
    "stop": {"anyOf": [TEXT, {**_list(TEXT), "maxItems": MOST_STOPS}, {"type": "null"}]},
    "logit_bias": _or_null(OBJECT),
    "tools": _or_null(_list(OBJECT)),
    "tool_choice": {"type": ["string", "object", "null"]},
    "response_format": _or_null(
        {"type": "object", "required": ["type"], "properties": {"type": TEXT}}
    ),
    "poise": _or_null(OPTIONS),
}
"""Fields of a chat request that ``wire`` checks; a null is as good as nothing."""

EVENT = _object(data=TEXT)
"""One event of a stream: a chunk or an error as JSON, and at the end ``[DONE]``."""

USAGE = _object(
    prompt_tokens={"type": "integer"},
    completion_tokens={"type": "integer"},
    total_tokens={"type": "integer"},
)
TOLD = _object(
    id=NAME,
    decision={"enum": ["answer", "abstain"]},
    probability=_number(0, 1),
    calibrated={"type": "boolean"},
    n_samples={"type": "integer", "minimum": 0},
    recorded={"type": "boolean"},
)
COMPLETION = _object(
    id=NAME,
    object={"const": "chat.completion"},
    created={"type": "integer"},
    model=NAME,
    choices=_list(
        _object(
            index={"type": "integer"},
            message=_object(role=TEXT, content={"type": ["string", "null"]}),
            finish_reason=TEXT,
        )
    ),
)
COMPLETION["properties"] |= {"usage": USAGE, "poise": TOLD}
DECIDED = _object(
    id=NAME,
    object={"const": "decision"},
    created={"type": "integer"},
    model=NAME,
    type={"enum": ["predicate", "choice", "score"]},
    value={"type": ["boolean", "string", "number", "null"]},
    probability=_number(0, 1),
    usage=_or_null(USAGE),
    poise=TOLD,
)
MODEL = _object(id=NAME, object={"const": "model"}, created={"type": "integer"}, owned_by=TEXT)


def _body(required: list[str], properties: dict[str, Any], *, more: bool) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": more,
    }
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        **KEYED,
    }


REFUSED = (400, 401, 403, 404, 413, 415, 429, 500, 502, 503, 504)

CHAT = _body(["model", "messages"], {"model": NAME, "messages": MESSAGES, **FIELDS}, more=True) | {
    "responses": {
        **_replies(_reply("a chat.completion with a poise object", COMPLETION), *REFUSED),
        "200": {
            "description": "a chat.completion with a poise object, or its chunks",
            "content": {
                "application/json": {"schema": COMPLETION},
                "text/event-stream": {"schema": EVENT},
            },
        },
    }
}

COMPLETIONS = _body(
    ["model", "prompt"],
    {"model": NAME, "prompt": {"type": ["string", "array"]}, "stream": FLAG},
    more=True,
) | {
    "responses": {
        **_replies(_reply("a text_completion", OBJECT), *REFUSED, 501),
        "200": {
            "description": "a text_completion, or its chunks",
            "content": {
                "application/json": {"schema": OBJECT},
                "text/event-stream": {"schema": EVENT},
            },
        },
    }
}

MISPLACED = ("messages", "stream", "n", "response_format", "tools", "poise")
"""Fields of a chat that a decision has not, or says otherwise."""

DECISIONS = _body(
    ["model", "type", "input"],
    {
        "model": NAME,
        "type": {"enum": ["predicate", "choice", "score"]},
        "input": {"anyOf": [TEXT, MESSAGES]},
        "options": _or_null({**_list(NAME), "minItems": 2, "maxItems": 26}),
        "minimum": {"type": ["number", "null"]},
        "maximum": {"type": ["number", "null"]},
        **{name: schema for name, schema in FIELDS.items() if name not in MISPLACED},
        "poise": _or_null(OPTIONS),
    },
    more=True,
) | {"responses": _replies(_reply("a decision with its probability", DECIDED), *REFUSED)}

TEXT_KEPT = {"type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": "^[^\\x00]*$"}
"""A text that every database takes."""

OUTCOME = {
    "type": "object",
    "required": ["id", "value"],
    "additionalProperties": False,
    "properties": {
        "id": TEXT_KEPT,
        "value": {"type": ["number", "boolean"], "minimum": 0, "maximum": 1},
        "source": TEXT_KEPT,
        "time": _number(-LATEST, LATEST),
    },
}

OUTCOMES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        OUTCOME,
                        {
                            "type": "object",
                            "required": ["outcomes"],
                            "additionalProperties": False,
                            "properties": {
                                "outcomes": {
                                    "type": "array",
                                    "items": OUTCOME,
                                    "minItems": 1,
                                    "maxItems": 1000,
                                }
                            },
                        },
                    ]
                }
            }
        },
    },
    "responses": _replies(
        _reply(
            "what became of each",
            _object(
                object={"const": "list"},
                data=_list(
                    _object(
                        id=TEXT, status={"enum": ["stored", "unchanged", "replaced", "unknown"]}
                    )
                ),
            ),
        ),
        *(400, 401, 403, 413, 415, 500, 501, 503),
    ),
    **KEYED,
}

READ = {
    "responses": _replies({"description": "what is there"}, 401, 403, 500)
    | {"503": {"description": "not ready"}},
    **KEYED,
}

NAMED = {
    "parameters": [{"name": "name", "in": "path", "required": True, "schema": NAME}],
    "responses": _replies(_reply("the alias", MODEL), 401, 403, 404, 500),
    **KEYED,
}

OPEN = {"responses": {"200": _reply("it answers", OBJECT)}}
