"""The gateway, asked by the official ``openai`` client: streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI, pydantic_function_tool

from fault_server import Behaviour, FaultServer
from gateway_server import Serving
from openai_gateway import (
    COUNT,
    EMOR,
    FORM,
    OSLO,
    ROME,
    Weather,
    client_of,
    everything,
    in_front_of,
    only,
    poise_of,
)
from told import say


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with everything(tmp_path_factory.mktemp("gateway")) as serving:
        yield serving


@pytest.fixture(scope="module")
def client(gateway: Serving) -> Iterator[OpenAI]:
    with client_of(gateway) as made_client:
        yield made_client


ASKS: list[dict[str, Any]] = [
    {"model": "chat", "messages": say("Good morning, all!")},
    {"model": "number", "messages": say("It is 12.", "13", "12 it is")},
    {"model": "number", "messages": say("12", "13"), "n": 3},
    {"model": "number", "messages": say("12"), "logprobs": True, "top_logprobs": 2},
    {"model": "chat", "messages": say("a b c"), "logprobs": True},
    {"model": "chat", "messages": say('{"a":  1}'), "response_format": FORM},
    {
        "model": "chat",
        "messages": say(OSLO, ROME, EMOR, ROME, EMOR),
        "tools": [pydantic_function_tool(Weather)],
    },
    {"model": "urn", "messages": say("0"), "extra_body": {"poise": {"abstain": 1.0}}},
    {"model": "shadow", "messages": say("7", "8")},
]
NAMES = ["open", "kind", "n", "logprobs", "open-logprobs", "json", "tools", "abstained", "shadow"]


@pytest.mark.parametrize("ask", ASKS, ids=NAMES)
def test_a_stream_put_together_is_the_whole_reply(client: OpenAI, ask: dict[str, Any]) -> None:
    whole = client.chat.completions.create(**ask)
    with client.chat.completions.stream(**ask, stream_options={"include_usage": True}) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion()
    assert streamed.usage == whole.usage
    assert len(streamed.choices) == len(whole.choices)
    for ours, theirs in zip(streamed.choices, whole.choices, strict=True):
        assert ours.finish_reason == theirs.finish_reason
        assert ours.message.content == theirs.message.content
        assert ours.message.refusal == theirs.message.refusal
        made_calls = [call.function.arguments for call in ours.message.tool_calls or []]
        assert made_calls == [call.function.arguments for call in theirs.message.tool_calls or []]
        assert _spoken(ours.logprobs) == _spoken(theirs.logprobs)


def _spoken(logprobs: Any) -> Any:
    if logprobs is None:
        return None
    return [
        (entry.token, entry.logprob, len(entry.top_logprobs)) for entry in logprobs.content or []
    ]


@pytest.mark.parametrize("ask", ASKS, ids=NAMES)
def test_every_chunk_is_of_one_completion_and_the_last_one_tells_the_decision(
    client: OpenAI, ask: dict[str, Any]
) -> None:
    raw = client.chat.completions.with_raw_response.create(**ask, stream=True)
    assert raw.headers["content-type"].startswith("text/event-stream")
    chunks = list(raw.parse())
    assert {chunk.id for chunk in chunks} == {raw.headers["x-poise-id"]}
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {ask["model"]}
    assert len({chunk.created for chunk in chunks}) == 1
    assert isinstance(chunks[0].created, int)
    assert all(chunk.usage is None for chunk in chunks)  # nobody asked for it
    assert all("poise" not in (chunk.model_extra or {}) for chunk in chunks[:-1])
    ended = [choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert ended == list(range(ask.get("n", 1)))
    if ask["model"] == "shadow":
        assert "poise" not in (chunks[-1].model_extra or {})
    else:
        assert poise_of(chunks[-1])["id"] == chunks[-1].id.removeprefix("chatcmpl-")


@pytest.mark.parametrize("ask", ASKS, ids=NAMES)
def test_usage_comes_last_in_a_chunk_of_its_own_where_it_is_wanted(
    client: OpenAI, ask: dict[str, Any]
) -> None:
    wanted = {"stream": True, "stream_options": {"include_usage": True}}
    *others, last = client.chat.completions.create(**ask, **wanted)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0
    assert all(chunk.usage is None and chunk.choices for chunk in others)


def test_headers_tell_the_decision_where_it_precedes_the_words(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="urn", messages=say("0"), stream=True
    )
    *_, last = raw.parse()
    assert raw.headers["x-poise-decision"] == "answer"
    assert float(raw.headers["x-poise-probability"]) == pytest.approx(
        poise_of(last)["probability"], 1e-5
    )


def test_the_first_sample_can_be_had_at_once_and_judged_at_the_end(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="number",
            messages=say("It is 13.", "12", "12", "12", "12", "12", "12", "12"),
            stream=True,
            extra_body={"poise": {"stream": "first"}},
        )
    )
    words = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert words == "It is 13."  # what was said cannot be taken back
    decided = poise_of(chunks[-1])
    assert decided["answer"] == "12"  # and the last chunk says so
    assert decided["votes"] == {"12": decided["n_samples"] - 1, "13": 1}


def test_a_first_sample_that_calls_a_tool_is_put_together_too(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="chat",
        messages=say(OSLO, *[ROME, EMOR] * 8),
        tools=[pydantic_function_tool(Weather)],
        extra_body={"poise": {"stream": "first"}},
    ) as stream:
        for _ in stream:
            pass
        (choice,) = stream.get_final_completion().choices
    (call,) = choice.message.tool_calls or []
    assert call.function.parsed_arguments == Weather(city="Oslo")
    assert choice.finish_reason == "tool_calls"


def test_a_first_sample_that_is_not_answered_for_is_told_so_at_the_end(client: OpenAI) -> None:
    *_, last = client.chat.completions.create(
        model="urn",
        messages=say("0"),
        stream=True,
        extra_body={"poise": {"stream": "first", "abstain": 1.0}},
    )
    assert last.choices[0].finish_reason == "stop"
    assert (poise_of(last)["decision"], poise_of(last)["answer"]) == ("abstain", None)


def test_words_arrive_while_the_server_is_still_speaking() -> None:
    slowly = Behaviour(texts=("one two three four five six",), token_delay=0.05)
    with FaultServer(only(slowly)) as server, in_front_of(server) as client:
        chunks = client.chat.completions.create(model="chat", messages=COUNT, stream=True)
        finished = [server.requests[-1].finished for chunk in chunks if chunk.choices]
    assert finished[0] is False
    assert len(finished) >= 6


def test_a_stream_that_is_left_stops_the_server() -> None:
    slowly = Behaviour(texts=("word " * 200,), token_delay=0.02)
    with FaultServer(only(slowly)) as server, in_front_of(server) as client:
        stream = client.chat.completions.create(model="chat", messages=COUNT, stream=True)
        next(iter(stream))
        stream.close()
        assert server.until(lambda: any(seen.aborted for seen in server.requests))


def test_a_stream_that_breaks_off_raises_where_it_is_read(quick_retries: None) -> None:
    broken = Behaviour(texts=("one two three four",), cut_after=2, token_delay=0.01)
    with FaultServer(only(broken)) as server, in_front_of(server) as client:
        stream = client.chat.completions.create(model="chat", messages=COUNT, stream=True)
        heard: list[str] = []
        with pytest.raises(openai.APIError) as raised:
            for chunk in stream:
                heard += [choice.delta.content or "" for choice in chunk.choices]
    assert "".join(heard) == "one two"  # and not over and over
    assert "127.0.0.1" not in str(raised.value)
