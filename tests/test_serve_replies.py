"""Replies in OpenAI's shapes, whole and streamed, held to the official package's types."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from poise.serve.chunks import chunks, ending
from poise.serve.replies import Answered, Choice, completion, headers
from poise.serve.wire import Asked, read_chat, write_json
from poise.types import Kind, Result, Sample, Spend, StopReason, TokenLogprobs

SPEND = Spend(
    calls=3,
    samples=3,
    prompt_tokens=60,
    cached_tokens=40,
    completion_tokens=25,
    reasoning_tokens=5,
    seconds=0.5,
)
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 3}'}}


def entry(token: str, logprob: float, top: int = 0) -> dict[str, Any]:
    """One token of OpenAI's list, with ``top`` alternatives."""
    listed = [{"token": f"t{i}", "logprob": -1.0 - i, "bytes": None} for i in range(top)]
    return {"token": token, "logprob": logprob, "bytes": [55], "top_logprobs": listed}


def raw_choice(content: str | None = "It is 7.", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more.pop("message", {})}
    return {"index": 4, "message": message, "finish_reason": "stop", "logprobs": None, **more}


def sample(raw: Mapping[str, Any] | None = None, **more: Any) -> Sample:
    return Sample(
        **{"index": 0, "text": "It is 7.", "answer": "7", "finish": "stop", **more, "raw": raw}
    )


def result(**more: Any) -> Result:
    fields: dict[str, Any] = {
        "id": "ab12",
        "question_id": "q",
        "answer": "7",
        "text": "It is 7.",
        "decision": "answer",
        "stop": StopReason.SURE,
        "model": "qwen",
        "decoding": {"temperature": 0.7},
        "spend": SPEND,
        "samples": (sample(), sample(), sample()),
        "votes": {"7": 3},
        "kind": Kind.NUMBER,
        "probability": 0.9375,
        "calibrated": True,
    }
    return Result(**{**fields, **more})


def answered(*choices: Choice, **more: Any) -> Answered:
    found = more.pop("result", result())
    given = choices or (Choice(sample(raw_choice()), 0.9375, "7"),)
    return Answered("chatcmpl-ab12", 1_800_000_000, "small", found, given, recorded=True, **more)


def asking(**fields: Any) -> Asked:
    return read_chat({"model": "small", "messages": [{"role": "user", "content": "?"}], **fields})


def whole(reply: Answered, asked: Asked | None = None) -> ChatCompletion:
    """The completion as an official client reads it off the wire."""
    return ChatCompletion.model_validate_json(write_json(completion(reply, asked or asking())))


def streamed(reply: Answered, asked: Asked | None = None) -> list[ChatCompletionChunk]:
    made = chunks(reply, asked or asking())
    return [ChatCompletionChunk.model_validate_json(write_json(chunk)) for chunk in made]


def put_together(parts: list[ChatCompletionChunk]) -> ChatCompletion:
    """What the official client's own accumulator makes of a stream."""
    state: Any = ChatCompletionStreamState()
    for part in parts:
        state.handle_chunk(part)
    made: ChatCompletion = state.current_completion_snapshot
    return made


# -- whole --------------------------------------------------------------------------------------


def test_a_completion_has_the_answer_its_usage_and_what_poise_knows() -> None:
    read = whole(answered())
    assert (read.id, read.object, read.created) == (
        "chatcmpl-ab12",
        "chat.completion",
        1_800_000_000,
    )
    assert read.model == "small"
    assert read.choices[0].index == 0
    assert read.choices[0].message.content == "It is 7."
    assert read.choices[0].finish_reason == "stop"
    assert read.model_extra is not None
    poise = read.model_extra["poise"]
    expected = json.loads(json.dumps(result().to_dict()))
    del expected["text"]
    assert poise == {**expected, "recorded": True, "mode": "live"}
    assert read.choices[0].model_extra == {}


def test_usage_is_the_sum_of_all_calls() -> None:
    used = whole(answered()).usage
    assert used is not None
    assert (used.prompt_tokens, used.completion_tokens, used.total_tokens) == (60, 25, 85)
    assert used.prompt_tokens_details is not None
    assert used.prompt_tokens_details.cached_tokens == 40
    assert used.completion_tokens_details is not None
    assert used.completion_tokens_details.reasoning_tokens == 5


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), min_size=1))
def test_usage_adds_up_over_calls(calls: list[tuple[int, int]]) -> None:
    spend = Spend()
    for prompt, words in calls:
        spend += Spend(calls=1, prompt_tokens=prompt, completion_tokens=words)
    used = whole(answered(result=result(spend=spend))).usage
    assert used is not None
    assert used.total_tokens == sum(map(sum, calls))
    assert used.total_tokens == used.prompt_tokens + used.completion_tokens


@pytest.mark.parametrize("unknown", ["prompt_tokens", "completion_tokens"])
def test_unknown_usage_is_left_out(unknown: str) -> None:
    reply = answered(result=result(spend=replace(SPEND, **{unknown: None})))
    assert "usage" not in completion(reply, asking())
    assert all("usage" not in chunk for chunk in chunks(reply, asking()))
    asked = asking(stream=True, stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in chunks(reply, asked))


def test_unknown_details_of_usage_are_left_out() -> None:
    spend = replace(SPEND, cached_tokens=None, reasoning_tokens=None)
    used = completion(answered(result=result(spend=spend)), asking())["usage"]
    assert used == {"prompt_tokens": 60, "completion_tokens": 25, "total_tokens": 85}


def test_tool_calls_and_the_servers_own_fields_are_kept() -> None:
    more = {"tool_calls": [CALL], "reasoning_content": "3 and 4"}
    raw = raw_choice(None, message=more, stop_reason=128, finish_reason="tool_calls")
    reply = answered(Choice(sample(raw, finish="tool_calls"), None, "[]"))
    (made,) = whole(reply).choices
    assert made.finish_reason == "tool_calls"
    assert made.message.content is None
    assert made.message.tool_calls is not None
    assert made.message.tool_calls[0].model_dump(exclude_none=True) == CALL
    assert made.message.model_extra == {"reasoning_content": "3 and 4"}
    assert made.model_extra == {"stop_reason": 128}


def test_a_refusal_of_the_model_is_kept() -> None:
    raw = raw_choice(None, message={"refusal": "I may not."})
    (made,) = whole(answered(Choice(sample(raw), None, None))).choices
    assert made.message.refusal == "I may not."


def test_without_the_servers_words_the_sample_speaks() -> None:
    (made,) = whole(answered(Choice(sample(finish="length"), 0.9, "7"))).choices
    assert (made.message.role, made.message.content) == ("assistant", "It is 7.")
    assert made.finish_reason == "length"
    (made,) = whole(answered(Choice(sample({"message": None}, finish=None), 0.9, "7"))).choices
    assert (made.message.content, made.finish_reason) == ("It is 7.", "stop")


def test_what_an_upstream_says_of_its_own_confidence_is_not_passed_on_as_ours() -> None:
    raw = raw_choice(poise={"probability": 1.0})
    assert (
        "poise" not in completion(answered(Choice(sample(raw), 0.5, "7")), asking())["choices"][0]
    )


def test_making_a_reply_leaves_the_sample_as_it_was() -> None:
    raw = raw_choice(
        logprobs={"content": [entry("7", -math.inf, 5)]}, message={"tool_calls": [CALL]}
    )
    before = repr(raw)
    reply, asked = answered(Choice(sample(raw), 0.5, "7")), asking(logprobs=True, n=2)
    completion(reply, asked)
    list(chunks(reply, asked))
    assert repr(raw) == before


# -- log-probabilities --------------------------------------------------------------------------

LOGPROBS = {"content": [entry("It", -0.5, 5), entry("7", -math.inf, 5)], "refusal": None}


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    ("fields", "top"),
    [({}, None), ({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 2}, 2)],
)
def test_log_probabilities_are_there_as_far_as_they_were_asked_for(
    fields: dict[str, Any], top: int | None, kept: bool
) -> None:
    listed = tuple((f"t{i}", -1.0 - i) for i in range(5))
    own = TokenLogprobs(("It", "7"), (-0.5, -9999.0), (listed, listed))
    raw = raw_choice(logprobs=LOGPROBS) if kept else None
    reply = answered(Choice(sample(raw, logprobs=own), 0.9, "7"))
    asked = asking(**fields)
    for made in (whole(reply, asked), put_together(streamed(reply, asked))):
        found = made.choices[0].logprobs
        if top is None:
            assert found is None
            continue
        assert found is not None
        assert found.content is not None
        assert [one.token for one in found.content] == ["It", "7"]
        assert [one.logprob for one in found.content] == [-0.5, -9999.0]
        alternatives = [("t0", -1.0), ("t1", -2.0)][:top]
        for one in found.content:
            assert [(other.token, other.logprob) for other in one.top_logprobs] == alternatives


def test_log_probabilities_that_a_server_does_not_give_are_null() -> None:
    asked = asking(logprobs=True, top_logprobs=2)
    assert completion(answered(), asked)["choices"][0]["logprobs"] is None
    own = TokenLogprobs(("7",), (-0.5,))
    reply = answered(Choice(sample(logprobs=own), 0.9, "7"))
    found = whole(reply, asked).choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert found.content[0].top_logprobs == []


# -- withheld answers, several choices, shadow --------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.NUMBER, Kind.CHOICE, Kind.TEXT, None])
def test_a_withheld_answer_is_said_in_words(kind: Kind | None) -> None:
    found = result(decision="abstain", answer=None, text=None, kind=kind, probability=0.25)
    reply = answered(Choice(None, None, None), result=found, abstain_text="Not sure.")
    read = whole(reply)
    assert read.choices[0].message.content == "Not sure."
    assert read.choices[0].message.refusal is None
    assert read.choices[0].finish_reason == "stop"
    assert headers(reply)["x-poise-decision"] == "abstain"


def test_where_json_is_parsed_a_withheld_answer_is_a_refusal() -> None:
    found = result(decision="abstain", answer=None, text=None, kind=Kind.JSON)
    reply = answered(Choice(None, None, None), result=found)
    for read in (whole(reply), put_together(streamed(reply))):
        assert read.choices[0].message.content is None
        assert read.choices[0].message.refusal == "I don't know."


def test_several_choices_have_a_probability_each() -> None:
    reply = answered(
        Choice(sample(raw_choice("It is 7.")), 0.9, "7"),
        Choice(sample(raw_choice("8"), finish="length"), None, "8", at_most=0.1),
        Choice(None, None, None),
    )
    asked = asking(n=3)
    expected = [
        {"probability": 0.9, "answer": "7"},
        {"probability": None, "answer": "8", "at_most": 0.1},
        {"probability": None, "answer": None},
    ]
    for read in (whole(reply, asked), put_together(streamed(reply, asked))):
        assert [one.index for one in read.choices] == [0, 1, 2]
        assert [one.message.content for one in read.choices] == ["It is 7.", "8", "I don't know."]
        assert [one.finish_reason for one in read.choices] == ["stop", "length", "stop"]
    assert [one["poise"] for one in completion(reply, asked)["choices"]] == expected
    closing = [
        choice
        for chunk in chunks(reply, asked)
        for choice in chunk["choices"]
        if choice["finish_reason"]
    ]
    assert [choice["poise"] for choice in closing] == expected


def test_a_plain_reply_says_nothing_of_poise_but_how_to_find_it_again() -> None:
    reply = answered(mode="shadow", plain=True)
    asked = asking(n=2, stream=True)
    assert "poise" not in json.dumps(completion(reply, asked))
    assert "poise" not in json.dumps(list(chunks(reply, asked)))
    assert headers(reply) == {"x-poise-id": "chatcmpl-ab12", "x-poise-recorded": "true"}


def test_reasons_do_not_say_where_the_upstream_is() -> None:
    why = "http://gpu-7.lab:8000/v1: HTTP 500: out of memory"
    found = result(
        probability=None,
        calibrated=False,
        reason=f"no sample arrived: {why}",
        missing={"samples": why},
    )
    reply = answered(result=found, record_problem="cannot connect to db.lab:5432")
    poise = completion(reply, asking())["poise"]
    assert poise["reason"] == "no sample arrived: the upstream: HTTP 500: out of memory"
    assert poise["missing"] == {"samples": "the upstream: HTTP 500: out of memory"}
    assert "db.lab" not in poise["record_problem"]
    assert "record_problem" not in completion(answered(), asking())["poise"]


# -- headers ------------------------------------------------------------------------------------


def test_headers_tell_the_decision() -> None:
    assert headers(answered()) == {
        "x-poise-id": "chatcmpl-ab12",
        "x-poise-recorded": "true",
        "x-poise-decision": "answer",
        "x-poise-samples": "3",
        "x-poise-stop": "sure",
        "x-poise-probability": "0.9375",
    }


def test_a_probability_is_claimed_in_a_header_only_where_it_is_calibrated() -> None:
    for more in ({"calibrated": False}, {"probability": None}):
        assert "x-poise-probability" not in headers(answered(result=result(**more)))


def test_what_is_not_durable_is_not_called_recorded() -> None:
    reply = replace(answered(), recorded=False)
    assert headers(reply)["x-poise-recorded"] == "false"
    assert completion(reply, asking())["poise"]["recorded"] is False


# -- streams ------------------------------------------------------------------------------------

TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
CALLS = st.lists(
    st.builds(
        lambda name, arguments: {**CALL, "function": {"name": name, "arguments": arguments}},
        st.text("abc", min_size=1),
        st.text("{}a1"),
    ),
    max_size=3,
)
CHOICES = st.builds(
    lambda text, calls, refusal, thought, finish: Choice(
        sample(
            raw_choice(
                text,
                message={
                    name: value
                    for name, value in (
                        ("tool_calls", calls),
                        ("refusal", refusal),
                        ("reasoning_content", thought),
                    )
                    if value
                },
            ),
            finish=finish,
        ),
        None,
        None,
    ),
    TEXTS,
    CALLS,
    TEXTS,
    TEXTS,
    st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
)


@given(st.lists(CHOICES, min_size=1, max_size=3))
def test_a_stream_put_together_is_the_completion(made: list[Choice]) -> None:
    reply = answered(*made)
    asked = asking(n=len(made), stream=True, stream_options={"include_usage": True})
    parts = streamed(reply, asked)
    together, at_once = put_together(parts), whole(reply, asked)
    assert [part.id for part in parts] == ["chatcmpl-ab12"] * len(parts)
    assert together.usage == at_once.usage
    for one, other in zip(together.choices, at_once.choices, strict=True):
        assert (one.index, one.finish_reason) == (other.index, other.finish_reason)
        for name in ("role", "content", "refusal", "reasoning_content"):
            assert getattr(one.message, name, None) == getattr(other.message, name, None)
        calls = [
            [
                (call.id, call.function.name, call.function.arguments)
                for call in seen.tool_calls or []
            ]  # type: ignore[union-attr]
            for seen in (one.message, other.message)
        ]
        assert calls[0] == calls[1]


def test_the_last_chunk_with_a_choice_carries_what_poise_knows() -> None:
    asked = asking(stream=True, stream_options={"include_usage": True})
    parts = streamed(answered(), asked)
    assert [bool(part.choices) for part in parts] == [True, True, True, False]
    with_poise = [place for place, part in enumerate(parts) if "poise" in (part.model_extra or {})]
    assert with_poise == [2]
    assert parts[2].model_extra == {"poise": completion(answered(), asked)["poise"]}
    assert [part.usage is not None for part in parts] == [False, False, False, True]
    assert [part.choices[0].finish_reason for part in parts[:3]] == [None, None, "stop"]
    assert parts[0].choices[0].delta.role == "assistant"


def test_usage_is_streamed_only_where_it_is_wanted() -> None:
    for chunk in chunks(answered(), asking(stream=True)):
        assert "usage" not in chunk
        assert chunk["choices"]


def test_tool_calls_of_a_stream_are_numbered() -> None:
    raw = raw_choice(None, message={"tool_calls": [CALL, {**CALL, "id": "c2"}]})
    parts = streamed(answered(Choice(sample(raw, finish="tool_calls"), None, "[]")))
    calls = parts[1].choices[0].delta.tool_calls
    assert calls is not None
    assert [(call.index, call.id) for call in calls] == [(0, "c1"), (1, "c2")]


def test_what_is_empty_is_not_streamed() -> None:
    raw = raw_choice("7", message={"tool_calls": [], "refusal": None})
    _, words, _ = chunks(answered(Choice(sample(raw), 0.9, "7")), asking())
    assert words["choices"][0]["delta"] == {"content": "7"}
    silent = raw_choice(None, message={"tool_calls": []})
    assert len(list(chunks(answered(Choice(sample(silent), None, None)), asking()))) == 2


def test_a_stream_that_others_began_ends_with_what_poise_knows() -> None:
    asked = asking(stream=True, stream_options={"include_usage": True})
    last, used = ending(answered(), asked, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
    assert last["poise"]["probability"] == 0.9375
    assert last["choices"][0]["finish_reason"] == "stop"
    assert used["choices"] == []
    assert used["usage"]["total_tokens"] == 85
    bare = list(ending(answered(), asking(stream=True), []))
    assert [chunk["choices"] for chunk in bare] == [[]]
