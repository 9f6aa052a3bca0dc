"""Requests off the wire: whatever is sent, it is read or refused with the field at fault."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.serve.options import Options
from poise.serve.refusals import Refusal
from poise.serve.wire import Asked, read_chat, read_json, write_json
from poise.types import Kind, Limits

TEXTS = st.text(max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)

SAID = [{"role": "user", "content": "What is 3 + 4?"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}

KNOWN: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 1,
    "frequency_penalty": -2,
    "presence_penalty": 2.0,
    "max_tokens": 16,
    "stop": ["\n", "END"],
    "logit_bias": {"50256": -100},
    "tools": [TOOL],
    "tool_choice": "auto",
    "response_format": {"type": "text"},
}
"""Fields that go upstream, each with a value that is allowed."""

TAKEN: dict[str, Any] = {
    "n": 2,
    "seed": 7,
    "stream": True,
    "stream_options": {"include_usage": True},
    "logprobs": True,
    "top_logprobs": 3,
    "poise": {"tier": "fast"},
}
"""Fields that are the gateway's own matter."""

OURS = {"model", "messages", "max_completion_tokens", *KNOWN, *TAKEN}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "small", "messages": SAID, **fields}


def refused(body: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read_chat(body)
    assert caught.value.status == 400
    assert caught.value.type == "invalid_request_error"
    assert "\n" not in caught.value.message
    return caught.value


def read_or_refused(body: Any) -> Asked | None:
    try:
        return read_chat(body)
    except Refusal as refusal:
        if refusal.status != 400 or not refusal.message:
            raise AssertionError from refusal
        return None


# -- chat requests ------------------------------------------------------------------------------


@given(VALUES)
def test_any_json_is_read_or_refused(body: Any) -> None:
    read_or_refused(body)


@given(st.dictionaries(st.sampled_from(sorted(OURS)), VALUES, max_size=4))
def test_any_values_of_the_known_fields_are_read_or_refused(fields: dict[str, Any]) -> None:
    read_or_refused(chat(**fields))


@given(st.dictionaries(st.sampled_from(sorted(Options.model_fields)) | TEXTS, VALUES, max_size=4))
def test_any_options_are_read_or_refused(options: dict[str, Any]) -> None:
    read_or_refused(chat(poise=options))


MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "", None, 1])},
    optional={
        "content": VALUES
        | st.lists(st.dictionaries(st.sampled_from(["type", "text"]), VALUES), max_size=2)
    },
)


@given(st.lists(MESSAGES | VALUES, max_size=3), st.booleans())
def test_any_messages_are_read_or_refused(messages: list[Any], choice: bool) -> None:
    options = {"options": ["a", "b"]} if choice else {}
    asked = read_or_refused(chat(messages=messages, poise=options))
    if asked is not None:
        assert list(asked.messages) == messages
        assert not choice or asked.messages[-1]["content"]


@given(st.dictionaries(TEXTS.filter(lambda name: name not in OURS), VALUES, max_size=4))
def test_unknown_fields_go_upstream_untouched(fields: dict[str, Any]) -> None:
    asked = read_chat(chat(**fields))
    assert asked.decoding == fields


def test_reading_leaves_the_body_as_it_was() -> None:
    body = chat(**KNOWN, **TAKEN, max_completion_tokens=16)
    before = json.dumps(body)
    read_chat(body)
    assert json.dumps(body) == before


def test_a_plain_request_has_nothing_but_its_messages() -> None:
    assert read_chat(chat()) == Asked("small", tuple(SAID), {})


def test_what_is_the_gateways_matter_does_not_go_upstream() -> None:
    asked = read_chat(chat(**TAKEN, **KNOWN))
    assert asked.decoding == KNOWN
    assert (asked.n, asked.seed, asked.logprobs) == (2, 7, 3)
    assert (asked.stream, asked.include_usage, asked.tools) == (True, True, True)
    assert asked.options == Options(tier="fast")


@pytest.mark.parametrize("name", sorted({*KNOWN, *TAKEN, "max_completion_tokens"}))
def test_null_is_as_good_as_nothing(name: str) -> None:
    assert read_chat(chat(**{name: None})) == read_chat(chat())


def test_the_deprecated_functions_pass_through() -> None:
    asked = read_chat(chat(functions=[{"name": "f"}], function_call="auto"))
    assert asked.decoding == {"functions": [{"name": "f"}], "function_call": "auto"}
    assert asked.kind is None


def test_the_newer_name_of_max_tokens_is_the_older_one_upstream() -> None:
    assert read_chat(chat(max_completion_tokens=9)).decoding == {"max_tokens": 9}
    both = chat(max_completion_tokens=9, max_tokens=9)
    assert read_chat(both).decoding == {"max_tokens": 9}
    assert refused({**both, "max_tokens": 8}).param == "max_tokens"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("model", [None, "", 3, ["small"]]),
        ("messages", [None, [], "hello", {"role": "user"}]),
        ("n", [0, 129, 1.0, True, "2", 10**400]),
        ("seed", [0.5, True, "7", 2**63, -(2**63) - 1]),
        ("stream", [1, "true", {}]),
        ("stream_options", [True, []]),
        ("logprobs", [1, "yes"]),
        ("top_logprobs", [-1, 21, 3]),
        ("temperature", [-0.1, 2.1, True, "1", 10**400]),
        ("top_p", [-1, 1.5, False]),
        ("frequency_penalty", [-2.5, True]),
        ("presence_penalty", [2.5, "0"]),
        ("max_tokens", [0, -1, 16.0, True, 10**400]),
        ("max_completion_tokens", [0, "9"]),
        ("stop", [1, ["a", 1], ["a"] * 5, {}]),
        ("logit_bias", [[], 1]),
        ("tools", [{}, ["add"], "add"]),
        ("tool_choice", [1, [], True]),
        ("response_format", ["json", {}, {"type": None}]),
        ("poise", [[], "fast", 1, True]),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, values: list[Any]) -> None:
    for value in values:
        told = refused(chat(**{name: value}))
        assert told.param == name, value
        assert name in told.message


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("n", [1, 128]),
        ("seed", [0, -1, 2**63 - 1]),
        ("temperature", [0, 2, 0.0, 1]),
        ("top_p", [0, 1.0]),
        ("max_tokens", [1, 2**31 - 1]),
        ("stop", ["", "x", [], ["a"] * 4]),
        ("tools", [[]]),
        ("tool_choice", ["none", {"type": "function", "function": {"name": "add"}}]),
        ("response_format", [{"type": "structural_tag", "structures": []}]),
        ("stream_options", [{}, {"include_usage": False}, {"include_obfuscation": True}]),
    ],
)
def test_values_at_the_bounds_are_taken(name: str, values: list[Any]) -> None:
    for value in values:
        read_chat(chat(**{name: value}))


@pytest.mark.parametrize(
    ("messages", "where"),
    [
        (["hello"], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([*SAID, {"role": 3, "content": "x"}], "messages[1].role"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "content": {"type": "text"}}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0]"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text"}]}],
            "messages[0].content[1].text",
        ),
    ],
)
def test_a_wrong_message_is_refused_by_its_place(messages: Any, where: str) -> None:
    told = refused(chat(messages=messages))
    assert told.param == where
    assert where in told.message


def test_messages_of_every_kind_pass_untouched() -> None:
    messages = [
        {"role": "developer", "content": "Be brief.", "name": "op"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "tool_calls": [{"id": "2"}]},
        {"role": "tool", "tool_call_id": "1", "content": "7", "novel": [1]},
    ]
    assert list(read_chat(chat(messages=messages)).messages) == messages


@pytest.mark.parametrize(
    ("fields", "logprobs"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 0}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_log_probabilities_are_asked_for_in_two_fields(
    fields: dict[str, Any], logprobs: int | None
) -> None:
    assert read_chat(chat(**fields)).logprobs == logprobs


def test_top_logprobs_need_logprobs() -> None:
    for fields in ({}, {"logprobs": False}, {"logprobs": None}):
        told = refused(chat(top_logprobs=0, **fields))
        assert told.param == "top_logprobs"


@pytest.mark.parametrize(
    ("fields", "kind", "tools"),
    [
        ({}, None, False),
        ({"response_format": {"type": "text"}}, None, False),
        ({"response_format": {"type": "json_object"}}, Kind.JSON, False),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, Kind.JSON, False),
        ({"tools": [TOOL]}, Kind.JSON, True),
        ({"tools": [TOOL], "tool_choice": "required"}, Kind.JSON, True),
        ({"tools": [TOOL], "tool_choice": "none"}, None, False),
        ({"tools": []}, None, False),
        ({"tools": [TOOL], "poise": {"kind": "number"}}, Kind.NUMBER, True),
        ({"poise": {"kind": "math"}}, Kind.MATH, False),
        ({"poise": {"options": ["yes", "no"]}}, Kind.CHOICE, False),
    ],
)
def test_the_kind_comes_from_what_the_request_tells(
    fields: dict[str, Any], kind: Kind | None, tools: bool
) -> None:
    asked = read_chat(chat(**fields))
    assert (asked.kind, asked.tools) == (kind, tools)


# -- the poise object ---------------------------------------------------------------------------


def test_all_options_are_read() -> None:
    stated = {
        "kind": "choice",
        "options": ["red", "green"],
        "tier": "fast",
        "policy": "beta",
        "abstain": 0.9,
        "max_samples": 8,
        "max_tokens": 100,
        "max_seconds": 3,
        "max_usd": 0.01,
        "stream": "first",
    }
    options = read_chat(chat(poise=stated)).options
    assert set(stated) == set(Options.model_fields)
    assert options.model_dump(mode="json") == {**stated, "options": ["red", "green"]}
    assert options.options == ("red", "green")


def test_an_unknown_option_is_named_beside_those_that_exist() -> None:
    told = refused(chat(poise={"max_sample": 3}))
    assert told.param == "poise.max_sample"
    assert "max_sample'" in told.message
    for name in Options.model_fields:
        assert name in told.message
    assert len(refused(chat(poise={"x\n" * 10_000: 3})).message) < 400


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("kind", ["numbr", 3, []]),
        ("options", [["one"], ["x"] * 27, "ab", [1, 2], ["", "b"], {"a": 1, "b": 2}]),
        ("tier", ["", 3]),
        ("policy", [{}, ""]),
        ("abstain", [-0.1, 1.1, "0.5", True]),
        ("max_samples", [0, 1.5, True, "3", 10**400]),
        ("max_tokens", [0, 2**31]),
        ("max_seconds", [0, -1, True, "1", math.inf, math.nan]),
        ("max_usd", [0.0, [1]]),
        ("stream", ["last", True]),
    ],
)
def test_a_wrong_option_is_refused_by_name(name: str, values: list[Any]) -> None:
    for value in values:
        told = refused(chat(poise={name: value}))
        assert (told.param or "").startswith(f"poise.{name}"), value
        assert f"poise.{name}" in told.message


def test_options_of_a_choice_go_with_no_other_kind() -> None:
    assert "choice" in refused(chat(poise={"options": ["a", "b"], "kind": "number"})).message


@pytest.mark.parametrize("last", [{}, {"content": None}, {"content": []}])
def test_options_of_a_choice_want_a_message_to_follow(last: dict[str, Any]) -> None:
    body = chat(messages=[*SAID, {"role": "user", **last}], poise={"options": ["a", "b"]})
    assert refused(body).param == "messages[1].content"


@given(st.integers(1) | st.floats(0, exclude_min=True, allow_infinity=False))
def test_caps_that_are_read_can_be_kept(cap: float) -> None:
    for name in ("max_samples", "max_tokens", "max_seconds", "max_usd"):
        asked = read_or_refused(chat(poise={name: cap}))
        if asked is not None:
            Limits(**{name: getattr(asked.options, name)})


# -- JSON ---------------------------------------------------------------------------------------


def json_refused(raw: bytes, max_depth: int = 8) -> str:
    with pytest.raises(Refusal) as caught:
        read_json(raw, max_depth)
    assert caught.value.status == 400
    return caught.value.message


@given(VALUES, st.booleans())
def test_json_is_read_as_it_was_written(value: Any, escaped: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=escaped).encode(), 64) == value


@given(st.binary() | st.text(alphabet='[]{}",:\\ud8aE+-.019 NaIfnity').map(str.encode))
def test_any_bytes_are_read_or_refused_and_what_is_read_can_be_sent_on(raw: bytes) -> None:
    try:
        value = read_json(raw, 8)
    except Refusal:
        return
    assert json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False).encode()) == value


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth_is_bounded_exactly(opening: str, closing: str) -> None:
    levels = opening.count("[") + opening.count("{")
    for times in (1, 2, 4):
        raw = (opening * times + "1" + closing * times).encode()
        read_json(raw, levels * times)
        assert "levels" in json_refused(raw, levels * times - 1)


def test_wide_is_not_deep_and_brackets_in_texts_are_not_levels() -> None:
    wide = {"a": [[{}]] * 100, "b": "[[[[{{{{" * 20}
    assert read_json(json.dumps(wide).encode(), 4) == wide


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_million_levels_do_no_harm(opening: bytes) -> None:
    assert "deeper than 64 levels" in json_refused(opening * 1_000_000, 64)
    assert "deeper than" in json_refused(opening * 1_000_000, 100_000)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "line 1, column 2"),
        (b"{}{}", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"\xff\xfe{}", "UTF-8"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        ("{}".encode("utf-16"), "UTF-8"),
        (b"[NaN]", "NaN"),
        (b"-Infinity", "Infinity"),
        (b"[1e999]", "too large"),
        (b"[-1e999]", "too large"),
        (b"1" * 5000, "digits"),
        (rb'"\ud800"', "surrogate"),
        (rb'{"\uDFFF": 1}', "surrogate"),
        (rb'[["\ude00\ud83d"]]', "surrogate"),
        (b'"a\nb"', "control"),
    ],
)
def test_what_is_no_json_is_refused_with_its_reason(raw: bytes, said: str) -> None:
    assert said in json_refused(raw)


def test_escaped_pairs_are_whole_characters() -> None:
    assert read_json(rb'"\ud83d\ude00 \\ud800"', 8) == "😀 \\ud800"


def test_of_a_doubled_key_the_last_counts() -> None:
    assert read_json(b'{"n": 1, "n": 2}', 8) == {"n": 2}


@given(VALUES)
def test_json_that_is_written_reads_the_same(value: Any) -> None:
    assert json.loads(write_json(value)) == value


@given(
    st.recursive(
        st.floats() | st.text(st.characters(exclude_categories=())), st.lists, max_leaves=8
    )
)
def test_whatever_an_upstream_sent_is_written_as_json(value: Any) -> None:
    def constant(name: str) -> None:
        raise AssertionError(name)

    written = write_json({"from": value})
    json.loads(written.decode(), parse_constant=constant)


def test_what_json_cannot_hold_is_mended() -> None:
    assert write_json([math.inf, math.nan, 1.5]) == b"[null,null,1.5]"
    assert json.loads(write_json("a\ud800b")) == "a\ufffdb"
    assert json.loads(write_json(["\ud83d" + "\ude00"])) == ["😀"]
