"""Replies in the server's own words: what nobody here reads is kept, streamed or whole."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.backends.assembling import StreamReader
from poise.backends.wire import read_batch, spoken, whole_chunk
from poise.types import Reply, TokenLogprobs

Json = dict[str, Any]


def whole(reply: Json) -> tuple[Reply, ...]:
    return read_batch(reply, usage_per_choice=False, top=5).replies


def streamed(*choices: Json) -> tuple[Reply, ...]:
    reader = StreamReader(5)
    for choice in choices:
        before = copy.deepcopy(choice)
        reader.feed({"choices": [choice]})
        assert choice == before, "a chunk is left as it was: it may have been passed on"
    return reader.finish().replies


def message(*deltas: Json) -> Json:
    (reply,) = streamed(*({"index": 0, "delta": delta} for delta in deltas))
    assert reply.raw is not None
    return reply.raw["message"]


def test_a_whole_choice_is_kept_as_it_came() -> None:
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "stop_reason": 7,
        "logprobs": None,
        "message": {
            "role": "assistant",
            "content": "7",
            "refusal": None,
            "annotations": [{"a": 1}],
        },
    }
    (reply,) = whole({"choices": [choice]})
    assert reply.raw == choice


def test_texts_are_joined_whatever_they_are_called() -> None:
    deltas = [
        {"role": "assistant", "content": "", "reasoning_content": None},
        *({"reasoning_content": word} for word in ("Three ", "and four")),
        *({"content": word, "something_new": word} for word in ("se", "ven")),
    ]
    assert message(*deltas) == {
        "role": "assistant",
        "content": "seven",
        "reasoning_content": "Three and four",
        "something_new": "seven",
    }


def test_a_role_said_with_every_piece_is_said_once() -> None:
    deltas = [{"role": role, "content": "a"} for role in ("assistant", "assistant", None, "")]
    assert message(*deltas) == {"role": "assistant", "content": "aaaa"}
    assert message({"content": "a"})["role"] == "assistant"


def test_a_refusal_leaves_the_content_empty_as_a_whole_reply_does() -> None:
    said = message({"role": "assistant", "content": None}, {"refusal": "I'd "}, {"refusal": "not"})
    assert said == {"role": "assistant", "content": None, "refusal": "I'd not"}
    (reply,) = streamed({"delta": {"refusal": "no"}, "finish_reason": "stop"})
    assert reply.text is None


def test_reasoning_alone_is_an_empty_answer() -> None:
    said = message({"role": "assistant", "content": None}, {"reasoning_content": "Hm"})
    assert said == {"role": "assistant", "content": "", "reasoning_content": "Hm"}


def test_of_other_values_the_last_stands_and_null_takes_nothing_back() -> None:
    deltas = [
        {"annotations": [1], "score": 1, "nothing": None},
        {"annotations": [2, 3], "score": 2, "nothing": None},
        {"annotations": None, "score": None},
    ]
    said = message(*deltas)
    assert (said["annotations"], said["score"], said["nothing"]) == ([2, 3], 2, None)


def test_objects_are_put_together_field_by_field() -> None:
    deltas = [
        {"function_call": {"name": "add", "arguments": ""}, "audio": {"id": "a"}},
        {"function_call": {"arguments": '{"a": '}, "audio": {"data": "AA"}},
        {"function_call": {"arguments": "3}"}, "audio": {"data": "BB", "expires_at": 7}},
    ]
    said = message(*deltas)
    assert said["function_call"] == {"name": "add", "arguments": '{"a": 3}'}
    assert said["audio"] == {"id": "a", "data": "AABB", "expires_at": 7}


def test_fields_beside_the_message_are_kept() -> None:
    (reply,) = streamed(
        {"index": 0, "delta": {"content": "a"}, "stop_reason": None, "finish_reason": None},
        {"index": 0, "delta": {}, "stop_reason": 128009, "finish_reason": "stop"},
        {"index": 0, "delta": {}, "stop_reason": None},
    )
    assert reply.raw is not None
    assert (reply.raw["stop_reason"], reply.raw["finish_reason"]) == (128009, "stop")


def test_tool_calls_keep_what_a_server_adds_to_them() -> None:
    first = {"index": 1, "id": "c1", "function": {"name": "f", "arguments": "{", "strict": True}}
    deltas = [
        {"tool_calls": [first | {"extra_content": {"signature": "s"}}]},
        {"tool_calls": [{"index": 0, "id": "c0", "type": "custom", "function": {"name": "g"}}]},
        {"tool_calls": [{"index": 1, "id": None, "type": "", "function": {"arguments": "}"}}]},
    ]
    assert message(*deltas)["tool_calls"] == [
        {"id": "c0", "type": "custom", "function": {"name": "g", "arguments": ""}},
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "f", "arguments": "{}", "strict": True},
            "extra_content": {"signature": "s"},
        },
    ]


def test_log_probabilities_are_collected_those_of_a_refusal_too() -> None:
    entries = [{"token": t, "logprob": -1.0, "bytes": [55], "top_logprobs": []} for t in "ab"]
    (reply,) = streamed(
        {"delta": {"content": "a"}, "logprobs": {"content": entries[:1], "refusal": None}},
        {"delta": {"content": "b"}, "logprobs": {"content": entries[1:], "refusal": entries[:1]}},
        {"delta": {"refusal": "b"}, "logprobs": {"content": None, "refusal": entries[1:]}},
        {"delta": {}, "logprobs": None},
    )
    assert reply.raw is not None
    assert reply.raw["logprobs"] == {"content": entries, "refusal": entries}
    assert reply.tokens == 2


names = st.sampled_from(["refusal", "reasoning_content", "reasoning", "x"])
values = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)


@given(
    st.dictionaries(names, values),
    st.text(max_size=8),
    st.lists(
        st.dictionaries(st.sampled_from(["id", "x"]), st.text(min_size=1, max_size=2)), max_size=2
    ),
)
def test_the_chunk_made_of_a_whole_reply_says_the_same(
    fields: Json, content: str, called: list[Json]
) -> None:
    call = {"type": "function", "id": "c", "function": {"name": "f", "arguments": "{}"}}
    calls = [call | own for own in called]
    said: Json = {"role": "assistant", "content": content, **fields}
    said |= {"tool_calls": calls} if calls else {}
    reply = {
        "id": "c",
        "created": 7,
        "usage": {"prompt_tokens": 1},
        "choices": [{"index": 0, "message": said, "finish_reason": "stop", "seen": 1}],
    }
    before = json.dumps(reply)
    chunk = whole_chunk(reply)
    assert json.dumps(reply) == before
    assert chunk.keys() == {"id", "created", "choices", "object"}
    reader = StreamReader(None)
    reader.feed(chunk)
    (found,) = reader.finish().replies
    assert found == whole(reply)[0]
    assert found.raw == reply["choices"][0]


@pytest.mark.parametrize("top", [None, ((("7", -0.5), ("8", -1.5)),)])
def test_a_reply_of_ours_reads_back_as_it_was(top: Any) -> None:
    calls = ({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},)
    reply = Reply("7", "stop", 1, TokenLogprobs(("7",), (-0.5,), top), calls)
    choice = spoken(reply, 3)
    assert choice["index"] == 3
    assert read_batch({"choices": [choice]}, usage_per_choice=False, top=2).replies == (
        (reply,) if top else (Reply("7", "stop", 1, TokenLogprobs(("7",), (-0.5,), ((),)), calls),)
    )
