"""OpenAI's shapes without a socket: requests written, and whatever a server may send read."""

from __future__ import annotations

import contextlib
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.backends.assembling import StreamReader
from poise.backends.wire import body, read_batch
from poise.errors import MalformedReply, ServerFault
from poise.types import Batch, Request, Usage

Json = dict[str, Any]

MESSAGES = ({"role": "user", "content": "What is 3 + 4?"},)


def whole(reply: Any, *, per_choice: bool = False, top: int | None = 5) -> Batch:
    return read_batch(reply, usage_per_choice=per_choice, top=top)


def streamed(chunks: list[Any], *, per_choice: bool = False, top: int | None = 5) -> Batch:
    reader = StreamReader(top, usage_per_choice=per_choice)
    for chunk in chunks:
        reader.feed(chunk)
    assert reader.complete
    return reader.finish()


def piece(index: int = 0, finish: str | None = None, entries: Any = None, **delta: Any) -> Json:
    """A chunk with one choice."""
    logprobs = None if entries is None else {"content": entries}
    choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def closing(completion: int, prompt: int = 9, **details: Any) -> Json:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, **details}
    return {"choices": [], "usage": usage}


def message(**content: Any) -> Json:
    """A whole reply with one choice."""
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": content}]}


# -- requests -----------------------------------------------------------------------------------

OWN = {"model", "messages", "n", "seed", "logprobs", "top_logprobs", "stream", "stream_options"}
decodings = st.dictionaries(
    st.text(min_size=1).filter(lambda name: name not in OWN | {"max_tokens"}),
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers()),
)


@given(decodings, st.booleans())
def test_every_decoding_field_travels_as_it_stands(decoding: Json, stream: bool) -> None:
    sent = body(Request(MESSAGES, decoding), "m", stream=stream, max_tokens_field="max_tokens")
    assert {name: sent[name] for name in decoding} == decoding
    assert set(sent) - set(decoding) <= {"model", "messages", "stream", "stream_options"}


def test_what_was_not_asked_for_is_not_sent() -> None:
    sent = body(Request(MESSAGES, {}), "m", stream=False, max_tokens_field="max_tokens")
    assert sent == {"model": "m", "messages": [dict(m) for m in MESSAGES]}


def test_draws_seed_and_logprobs_are_asked_for_in_openais_words() -> None:
    request = Request(MESSAGES, {"max_tokens": 7}, n=3, seed=11, logprobs=5)
    sent = body(request, "m", stream=True, max_tokens_field="max_tokens")
    assert (sent["n"], sent["seed"], sent["logprobs"], sent["top_logprobs"]) == (3, 11, True, 5)
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})
    assert sent["max_tokens"] == 7


def test_the_chosen_tokens_logprob_alone_needs_no_top_logprobs() -> None:
    request = Request(MESSAGES, {}, logprobs=0)
    sent = body(request, "m", stream=False, max_tokens_field="max_tokens")
    assert sent["logprobs"] is True
    assert "top_logprobs" not in sent


def test_the_token_limit_goes_under_the_name_the_server_knows() -> None:
    decoding = {"max_tokens": 7}
    request = Request(MESSAGES, decoding)
    sent = body(request, "m", stream=False, max_tokens_field="max_completion_tokens")
    assert sent["max_completion_tokens"] == 7
    assert "max_tokens" not in sent
    assert decoding == {"max_tokens": 7}


# -- streamed and whole -------------------------------------------------------------------------


@st.composite
def replies(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    """The same reply twice: whole, and as chunks whose choices take turns at random."""
    with_logprobs, with_usage = draw(st.booleans()), draw(st.booleans())
    choices, turns = [], []
    for index in range(draw(st.integers(1, 4))):
        tokens = draw(st.lists(st.text(max_size=4), min_size=1, max_size=5))
        finish = draw(st.sampled_from(["stop", "length"]))
        entries = [
            {
                "token": token,
                "logprob": -float(place),
                "top_logprobs": [{"token": token, "logprob": -float(place)}],
            }
            for place, token in enumerate(tokens)
        ]
        logprobs = {"content": entries} if with_logprobs else None
        choices.append(
            {
                "index": index,
                "finish_reason": finish,
                "logprobs": logprobs,
                "message": {"role": "assistant", "content": "".join(tokens)},
            }
        )
        turns.append(
            [
                piece(index, role="assistant", content=""),
                *(
                    piece(index, content=token, entries=[entry] if with_logprobs else None)
                    for token, entry in zip(tokens, entries, strict=True)
                ),
                piece(index, finish),
            ]
        )
    chunks = []
    shuffle = random.Random(draw(st.integers(0, 99)))
    while any(turns):
        chunks.append(shuffle.choice([turn for turn in turns if turn]).pop(0))
    usage = closing(40, prompt_tokens_details={"cached_tokens": 4})
    if with_usage:
        chunks.append(usage)
    whole_reply = {"choices": shuffle.sample(choices, len(choices))}
    return whole_reply | ({"usage": usage["usage"]} if with_usage else {}), chunks


@given(replies())
def test_a_reply_is_the_same_whole_and_streamed(both: tuple[Json, list[Json]]) -> None:
    reply, chunks = both
    assert whole(reply) == streamed(chunks)


@given(replies())
def test_the_counts_of_arriving_tokens_add_up_to_the_logprobs(
    both: tuple[Json, list[Json]],
) -> None:
    reader = StreamReader(5)
    arrived = sum(reader.feed(chunk) for chunk in both[1])
    counts = [reply.tokens for reply in reader.finish().replies]
    if None not in counts and len(counts) > 1:
        assert arrived == sum(count or 0 for count in counts)


def test_choices_come_in_index_order_whatever_order_they_arrive_in() -> None:
    batch = streamed([piece(1, "stop", content="b"), piece(0, "stop", content="a")])
    assert [reply.text for reply in batch.replies] == ["a", "b"]


def test_a_stream_is_complete_once_every_choice_has_said_why_it_ended() -> None:
    reader = StreamReader(None)
    assert not reader.complete
    reader.feed(piece(0, content="a"))
    reader.feed(piece(1, "stop", content="b"))
    assert not reader.complete
    reader.feed(piece(0, "length"))
    assert reader.complete


# -- tools and reasoning ------------------------------------------------------------------------


def test_tool_calls_are_put_together_from_their_pieces_as_a_whole_reply_has_them() -> None:
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "add"}}
    second = {"index": 1, "id": "c2", "type": "function", "function": {"name": "now"}}
    chunks = [
        piece(role="assistant", content=None, tool_calls=[first]),
        piece(tool_calls=[{"index": 0, "function": {"arguments": '{"a": '}}]),
        piece(tool_calls=[second | {"function": {"name": "now", "arguments": "{}"}}]),
        piece(tool_calls=[{"index": 0, "function": {"arguments": "3}"}}]),
        piece(finish="tool_calls"),
    ]
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 3}'}},
        {"id": "c2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]
    reply = message(role="assistant", content=None, tool_calls=calls)
    reply["choices"][0]["finish_reason"] = "tool_calls"
    assert streamed(chunks) == whole(reply)
    (got,) = streamed(chunks).replies
    assert got.tool_calls == tuple(calls)
    assert got.text is None


def test_text_beside_a_tool_call_is_kept() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}
    (got,) = streamed([piece(content="Well, "), piece(finish="stop", tool_calls=[call])]).replies
    assert got.text == "Well, "


def test_no_tool_calls_may_be_said_as_null_and_count_no_token() -> None:
    reader = StreamReader(None)
    assert reader.feed(piece(role="assistant", content="", tool_calls=None)) == 0
    assert reader.feed(piece(content="7", tool_calls=None)) == 1
    assert reader.feed(piece(finish="stop", content=None, tool_calls=None)) == 0
    (got,) = reader.finish().replies
    assert (got.text, got.tool_calls) == ("7", None)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_counted_as_it_arrives_and_is_no_part_of_the_answer(field: str) -> None:
    reader = StreamReader(None)
    assert reader.feed(piece(**{field: "Three and four"})) == 1
    assert reader.feed(piece(content="7")) == 1
    reader.feed(piece(finish="stop"))
    details = {"completion_tokens_details": {"reasoning_tokens": 31}}
    reader.feed(closing(33, **details))
    batch = reader.finish()
    assert batch.replies[0].text == "7"
    assert (batch.usage.completion_tokens, batch.usage.reasoning_tokens) == (33, 31)


# -- usage --------------------------------------------------------------------------------------

TWO = [piece(0, "stop", content="a"), piece(1, "stop", content="b")]


def test_one_total_covers_all_choices() -> None:
    usage = streamed([*TWO, closing(12)]).usage
    assert usage == Usage(9, 12, 0, 0)


def test_a_usage_for_each_choice_is_summed_and_the_prompt_counted_once() -> None:
    each = {"completion_tokens_details": {"reasoning_tokens": 2}}
    usage = streamed([*TWO, closing(5, **each), closing(7, **each)]).usage
    assert usage == Usage(9, 12, 0, 4)


def test_of_running_totals_the_last_counts() -> None:
    chunks = [
        piece(content="a") | {"usage": closing(1)["usage"]},
        piece(content="b") | {"usage": closing(2)["usage"]},
        piece(finish="stop") | {"usage": closing(3)["usage"]},
    ]
    assert streamed(chunks).usage == Usage(9, 3, 0, 0)


def test_running_totals_in_chunks_without_choices_are_not_added_up() -> None:
    chunks = [piece(content="a"), closing(1), piece(finish="stop", content="b"), closing(2)]
    assert streamed(chunks).usage.completion_tokens == 2


def test_a_closing_total_beats_the_running_ones() -> None:
    running = piece(content="a", finish="stop") | {"usage": closing(1)["usage"]}
    assert streamed([running, closing(3)]).usage.completion_tokens == 3


@pytest.mark.parametrize("usage", [{}, {"usage": None}])
def test_a_usage_that_is_not_told_is_unknown_and_never_zero(usage: Json) -> None:
    chunks = [chunk | usage for chunk in TWO]
    reply = message(content="a") | usage
    for batch in (streamed(chunks), whole(reply)):
        assert batch.usage == Usage(None, None, None, None, estimated=True)
        assert all(reply.tokens is None for reply in batch.replies)


def test_token_logprobs_count_the_tokens_where_no_usage_does() -> None:
    entries = [{"token": "7", "logprob": -0.1}]
    batch = streamed([piece(0, "stop", entries, content="7"), piece(1, "stop", entries * 2)])
    assert batch.usage == Usage(None, 3, None, None, estimated=True)
    assert [reply.tokens for reply in batch.replies] == [1, 2]


@pytest.mark.parametrize("count", [None, "12", 12.5, -3, True, [12]])
def test_a_count_that_is_no_count_is_unknown(count: Any) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": count}
    assert whole(message(content="a") | {"usage": usage}).usage == Usage(9, None, 0, 0, True)


def test_a_usage_of_one_choice_says_nothing_of_several() -> None:
    reply = {"choices": [chunk["choices"][0] | {"message": {"content": "a"}} for chunk in TWO]}
    usage = {"usage": {"prompt_tokens": 9, "completion_tokens": 6}}
    batches = (
        whole(reply | usage, per_choice=True),
        streamed([*TWO, {"choices": [], **usage}], per_choice=True),
        streamed([TWO[0], TWO[1] | usage], per_choice=True),
    )
    assert [batch.usage for batch in batches] == [Usage(9, None, 0, 0, estimated=True)] * 3
    one = whole(message(content="a") | usage, per_choice=True)
    assert one.usage == Usage(9, 6, 0, 0)
    assert one.replies[0].tokens == 6


# -- log-probabilities --------------------------------------------------------------------------


def logprobs(value: Any, top: int | None = 2) -> Batch:
    listed = [{"token": "7", "logprob": value}, {"token": "8", "logprob": -3.0}]
    entry = {"token": "7", "logprob": value, "top_logprobs": listed}
    return streamed([piece(0, "stop", [entry], content="7")], top=top)


@pytest.mark.parametrize("zero", [-math.inf, -3.4e38, -(10**400)], ids=["inf", "float", "int"])
def test_a_probability_of_zero_stays_a_finite_logprob(zero: float) -> None:
    (got,) = logprobs(json.loads(json.dumps(zero))).replies
    assert got.logprobs is not None
    assert got.logprobs.chosen == (-1e4,)
    assert got.logprobs.top == ((("7", -1e4), ("8", -3.0)),)


def test_a_certain_token_may_round_to_just_above_zero() -> None:
    (got,) = logprobs(1e-9).replies
    assert got.logprobs is not None
    assert got.logprobs.chosen == (0.0,)


@pytest.mark.parametrize(
    "value",
    [math.nan, None, "-1", True, 0.5, 10**400, math.inf, [-1.0], "long\n" * 99],
    ids=["nan", "null", "text", "true", "above", "huge", "inf", "list", "long"],
)
def test_what_is_no_logprob_is_refused_in_one_short_line(value: Any) -> None:
    with pytest.raises(MalformedReply) as caught:
        logprobs(value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("top", "kept"), [(None, None), (0, None), (1, 1), (2, 2), (5, 2)])
def test_no_more_alternatives_are_kept_than_were_asked_for(top: int, kept: int | None) -> None:
    (got,) = logprobs(-0.5, top).replies
    assert got.logprobs is not None
    assert (None if got.logprobs.top is None else len(got.logprobs.top[0])) == kept


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("choices", [None, [], TWO[0]["choices"]])
@pytest.mark.parametrize("error", [{"message": "out of\nmemory", "code": 500}, "out of memory"])
def test_an_error_told_inside_a_reply_is_the_servers_fault_in_its_words(
    error: Any, choices: Any
) -> None:
    reply = {"error": error, "choices": choices}
    for read in (whole, StreamReader(None).feed):
        with pytest.raises(ServerFault, match="out of memory"):
            read(reply)


def test_an_error_of_null_is_none() -> None:
    chunks = [chunk | {"error": None} for chunk in (*TWO, closing(2))]
    assert streamed(chunks).usage.completion_tokens == 2
    assert whole(message(content="a") | {"error": None}).replies[0].text == "a"


def test_a_reply_without_choices_is_malformed_however_it_comes() -> None:
    for reply in ({}, {"choices": []}, {"choices": None}):
        with pytest.raises(MalformedReply, match="no choices"):
            whole(reply)
    with pytest.raises(MalformedReply, match="without a single choice"):
        StreamReader(None).finish()


NAMES = [
    "arguments", "choices", "completion_tokens", "completion_tokens_details", "content", "delta",
    "error", "finish_reason", "function", "id", "index", "logprob", "logprobs", "message", "name",
    "prompt_tokens", "prompt_tokens_details", "reasoning_tokens", "token", "tool_calls",
    "top_logprobs", "usage",
]  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
        | inner.map(lambda value: {"choices": [value]})
        | inner.map(lambda value: {"choices": [{"delta": value, "message": value}]})
        | inner.map(lambda value: {"choices": [{"logprobs": {"content": [value]}}]})
    ),
    max_leaves=12,
)


@settings(max_examples=400)
@given(anything)
def test_any_json_is_read_or_refused_and_never_breaks_the_reader(reply: Any) -> None:
    reader = StreamReader(5)
    for read in (whole, lambda chunk: (reader.feed(chunk), reader.finish())):
        with contextlib.suppress(MalformedReply, ServerFault):
            read(reply)
