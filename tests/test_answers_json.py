"""Reading JSON and tool calls: one canonical form for what means the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.answers import read
from poise.types import Kind, Reply

JSON = Kind.JSON


def answer(text: str | None) -> str | None:
    return read(Reply(text, finish="stop"), JSON).answer


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(-1e9, 1e9)
    # Half a surrogate pair is refused; a test of its own says so.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abé"), inner, max_size=4),
    max_leaves=12,
)


@given(value=st.lists(VALUES, max_size=4) | st.dictionaries(st.text("abc"), VALUES, max_size=4))
@settings(deadline=None)
def test_json_has_one_canonical_form_whatever_its_layout(value):
    canonical = answer(json.dumps(value))
    assert canonical is not None
    assert json.loads(canonical) == value
    for written in (
        json.dumps(value, indent=2, ensure_ascii=False),
        json.dumps(value, sort_keys=True, separators=(" ,", " : ")),
        f"Here:\n```json\n{json.dumps(value)}\n```\nand [0]",
        f"so {json.dumps(value)} it is",
        canonical,
    ):
        assert answer(written) == canonical


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"b":1.0,"a":[1e2,0.10,-0.0]}', '{"a":[100,0.1,0],"b":1}'),
        ("{a} [1]", "[1]"),
        ("[1e22]", "[10000000000000000000000]"),
        ("[9007199254740993.5]", "[9007199254740994]"),
        ("[1e-400]", "[0]"),
        ("[" * 64 + "]" * 64, "[" * 64 + "]" * 64),
        ('["\\u00e9"]', '["é"]'),
    ],
)
def test_json_numbers_and_strings_are_written_one_way(text, expected):
    assert answer(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '[{"x":NaN}]',
        "[-Infinity]",
        "[1e400]",
        '["\\ud800"]',
        "[" + "9" * 5000 + "]",
        "[" * 65 + "]" * 65,
        "[" * 100000 + "]" * 100000,
        "42",
        '"a"',
        "{",
        '{"a":1',
        "nothing",
    ],
)
def test_json_with_an_open_meaning_is_refused(text):
    reading = read(Reply(text), JSON)
    assert reading.answer is None
    assert reading.reason


def call(name: str | None, arguments: object) -> dict[str, object]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_tool_calls_are_read_in_order_with_their_arguments_parsed():
    calls = (call("b", '{"y": 2.0, "x": "1"}'), call("a", ""), call("a", {"k": [1]}))
    reading = read(Reply(None, finish="tool_calls", tool_calls=calls), JSON)
    assert reading.answer == (
        '[{"arguments":{"x":"1","y":2},"name":"b"},{"arguments":{},"name":"a"},'
        '{"arguments":{"k":[1]},"name":"a"}]'
    )
    assert answer(reading.answer) == reading.answer


@pytest.mark.parametrize(
    "broken",
    [
        call("f", "{"),
        call("f", "[1]"),
        call("f", "{} {}"),
        call("f", '{"a":1,"a":2}'),
        {},
        call("f", {"a": object()}),
        call("f", {"a": float("nan")}),
        call(None, "{}"),
        call("f", "no"),
    ],
)
def test_a_tool_call_without_name_or_object_is_unreadable(broken):
    assert read(Reply('{"a": 1}', tool_calls=(broken,)), JSON).reason
