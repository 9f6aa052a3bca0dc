"""The gateway, asked by the official ``openai`` client: whole replies, options, outcomes, async."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI, pydantic_function_tool
from pydantic import BaseModel

from fault_server import Behaviour, FaultServer
from gateway_server import Serving
from openai_gateway import (
    COUNT,
    EMOR,
    FORM,
    KEY,
    OSLO,
    ROME,
    Weather,
    client_of,
    everything,
    in_front_of,
    only,
    poise_of,
)
from poise.config import Alias, Config, Store, Upstream
from test_profile import made
from told import calls, say, told

SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "sum", "schema": {"type": "object"}, "strict": True},
}


class Sum(BaseModel):
    """What a sum comes to."""

    total: int


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with everything(tmp_path_factory.mktemp("gateway")) as serving:
        yield serving


@pytest.fixture(scope="module")
def client(gateway: Serving) -> Iterator[OpenAI]:
    with client_of(gateway) as made_client:
        yield made_client


# -- whole replies --------------------------------------------------------------------------------


def test_open_chat_gets_one_sample_and_says_why_there_is_no_probability(client: OpenAI) -> None:
    reply = client.chat.completions.create(model="chat", messages=say("Good morning!"))
    assert reply.id.startswith("chatcmpl-")
    assert (reply.object, reply.model) == ("chat.completion", "chat")
    (choice,) = reply.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Good morning!")
    assert choice.finish_reason == "stop"
    assert choice.logprobs is None
    told_us = poise_of(reply)
    assert (told_us["n_samples"], told_us["calibrated"], told_us["probability"]) == (1, False, None)
    assert "open chat" in told_us["reason"]
    assert reply.id == f"chatcmpl-{told_us['id']}"


def test_a_known_kind_is_sampled_until_it_is_decided_and_the_usage_sums_all(client: OpenAI) -> None:
    replies = say("It is 12.", "Perhaps 13.", *["12"] * 14)
    raw = client.chat.completions.with_raw_response.create(model="number", messages=replies)
    reply = raw.parse()
    decided = poise_of(reply)
    assert decided["answer"] == "12"
    assert decided["votes"]["13"] == 1
    assert 16 > decided["n_samples"] == sum(decided["votes"].values()) > 4
    assert reply.choices[0].message.content == "It is 12."  # the first that gave the answer
    assert reply.usage is not None
    assert reply.usage.completion_tokens == decided["spend"]["completion_tokens"] > 3
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert raw.headers["x-poise-id"] == reply.id
    assert raw.headers["x-poise-decision"] == "answer"
    assert raw.headers["x-poise-samples"] == str(decided["n_samples"])
    assert raw.headers["x-poise-stop"] == decided["stop"] == "sure"
    assert raw.headers["x-poise-recorded"] == "true"
    assert decided["recorded"] is True
    assert "x-poise-probability" not in raw.headers


def test_a_profile_that_applies_gives_the_probability_in_the_body_and_the_header(
    client: OpenAI,
) -> None:
    raw = client.chat.completions.with_raw_response.create(model="urn", messages=say("0"))
    decided = poise_of(raw.parse())
    assert decided["calibrated"] is True
    assert float(raw.headers["x-poise-probability"]) == pytest.approx(decided["probability"], 1e-5)
    assert decided["interval"][0] <= decided["probability"] <= decided["interval"][1]
    assert decided["profile"]["id"] == made().id


def test_an_answer_below_the_bar_is_withheld_in_words(client: OpenAI) -> None:
    ask = {"model": "urn", "messages": say("0")}
    bold = client.chat.completions.create(**ask, extra_body={"poise": {"abstain": 0.1}})
    assert bold.choices[0].message.content == "0"
    raw = client.chat.completions.with_raw_response.create(
        **ask, extra_body={"poise": {"abstain": 1.0}}
    )
    assert raw.headers["x-poise-decision"] == "abstain"
    (choice,) = raw.parse().choices
    assert choice.message.content == "I don't know."
    assert choice.finish_reason == "stop"
    assert poise_of(raw.parse())["answer"] is None


def test_a_shadow_alias_replies_as_the_plain_server_would(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="shadow", messages=say("7", "8"))
    reply = raw.parse()
    assert reply.choices[0].message.content == "7"
    assert "poise" not in (reply.model_extra or {})
    assert {name for name in raw.headers if name.startswith("x-poise")} == {
        "x-poise-id",
        "x-poise-recorded",
    }


# -- the shape of the answer ----------------------------------------------------------------------


@pytest.mark.parametrize("form", [FORM, SCHEMA], ids=["json_object", "json_schema"])
def test_a_response_format_is_voted_on_by_value(client: OpenAI, form: Any) -> None:
    same = ('{"a": 1, "b": 2}', '{"b": 2.0, "a": 1}', '{"a": 2}')
    reply = client.chat.completions.create(model="chat", messages=say(*same), response_format=form)
    decided = poise_of(reply)
    assert decided["kind"] == "json"
    assert decided["answer"] == '{"a":1,"b":2}'
    assert reply.choices[0].message.content == same[0]
    assert decided["votes"]['{"a":1,"b":2}'] > decided["votes"]['{"a":2}']


def test_a_response_format_of_text_leaves_the_chat_open(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="chat", messages=say("Hi"), response_format={"type": "text"}
    )
    assert poise_of(reply)["kind"] is None


def test_parse_gives_the_pydantic_object_or_the_refusal(client: OpenAI) -> None:
    replies = say('{"total": 12}', '{ "total":12 }', '{"total": 13}')
    reply = client.chat.completions.parse(model="chat", messages=replies, response_format=Sum)
    assert reply.choices[0].message.parsed == Sum(total=12)
    withheld = client.chat.completions.parse(
        model="chat", messages=replies, response_format=Sum, extra_body={"poise": {"abstain": 0.9}}
    )
    message = withheld.choices[0].message
    assert (message.parsed, message.content, message.refusal) == (None, None, "I don't know.")


def test_tool_calls_are_voted_on_by_their_arguments_whatever_their_order(client: OpenAI) -> None:
    reply = client.chat.completions.parse(
        model="chat",
        messages=say(OSLO, *[ROME, EMOR] * 8),
        tools=[pydantic_function_tool(Weather)],
    )
    decided = poise_of(reply)
    assert sorted(decided["votes"].values()) == [1, decided["n_samples"] - 1]
    assert decided["stop"] == "sure"
    (choice,) = reply.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls or []
    assert (call.id, call.type) == ("call_1", "function")  # of the sample that won, in its words
    assert call.function.arguments == ROME["arguments"]
    assert call.function.parsed_arguments == Weather(city="Rome", days=2)


def test_not_calling_a_tool_is_an_answer_that_can_win(client: OpenAI) -> None:
    tools = [pydantic_function_tool(Weather)]
    words = "Which city do you mean?"
    reply = client.chat.completions.create(
        model="chat", messages=say(ROME, words, words, words, words, words), tools=tools
    )
    decided = poise_of(reply)
    assert decided["votes"]["[]"] > 1
    (choice,) = reply.choices
    assert (choice.finish_reason, choice.message.content) == ("stop", words)
    assert choice.message.tool_calls is None


def test_not_calling_a_tool_is_an_answer_whatever_form_of_text_was_asked_for(
    client: OpenAI,
) -> None:
    tools = [pydantic_function_tool(Weather)]
    ask = {"model": "chat", "tools": tools}
    reply = client.chat.completions.create(
        **ask, messages=say("Where?"), response_format={"type": "text"}
    )
    assert reply.choices[0].message.content == "Where?"
    reply = client.chat.completions.create(
        **ask, messages=say('{"city":  "Rome"}', "Where?", '{"city":"Rome"}'), response_format=FORM
    )
    assert poise_of(reply)["answer"] == '{"city":"Rome"}'
    assert reply.choices[0].message.content == '{"city":  "Rome"}'


def test_what_cannot_be_read_is_withheld(client: OpenAI) -> None:
    garbled = calls("Weather", "{city")
    reply = client.chat.completions.create(
        model="chat", messages=say(garbled), tools=[pydantic_function_tool(Weather)]
    )
    (choice,) = reply.choices
    assert (choice.message.tool_calls, choice.message.refusal) == (None, "I don't know.")
    reply = client.chat.completions.create(model="number", messages=say("no idea"))
    assert reply.choices[0].message.content == "I don't know."
    assert poise_of(reply)["reason"] == "no sample holds a readable answer"


def test_content_in_parts_goes_through(client: OpenAI) -> None:
    parts = [
        {"type": "text", "text": json.dumps(["12"])},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    reply = client.chat.completions.create(
        model="number", messages=[{"role": "user", "content": parts}]
    )
    assert reply.choices[0].message.content == "12"


def test_tools_that_may_not_be_called_leave_the_chat_open(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="chat",
        messages=say("Hi"),
        tools=[pydantic_function_tool(Weather)],
        tool_choice="none",
    )
    assert poise_of(reply)["kind"] is None


def test_a_conversation_with_tool_results_goes_through(client: OpenAI) -> None:
    call = {"id": "call_0", "type": "function", "function": dict(ROME)}
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "And in Rome?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": json.dumps(["Sunny."])},
    ]
    reply = client.chat.completions.create(model="chat", messages=history)
    assert reply.choices[0].message.content == "Sunny."


def test_a_choice_is_asked_with_its_options_and_answered_by_letter(client: OpenAI) -> None:
    options = ["Rome", "Oslo", "Bonn"]
    reply = client.chat.completions.create(
        model="chat",
        messages=say("The answer is B.", "B", "(B)", "C"),
        extra_body={"poise": {"options": options}},
    )
    decided = poise_of(reply)
    assert (decided["kind"], decided["answer"]) == ("choice", "B")


def test_n_choices_come_with_a_probability_each(client: OpenAI) -> None:
    reply = client.chat.completions.create(model="urn", messages=say("0", "0", "1"), n=6)
    decided = poise_of(reply)
    assert [choice.index for choice in reply.choices] == list(range(6))
    stated = [choice.model_extra["poise"] for choice in reply.choices]  # type: ignore[index]
    for choice, own in zip(reply.choices, stated, strict=True):
        assert choice.message.content == own["answer"]
        if own["answer"] == decided["answer"] == "0":
            assert own["probability"] == decided["probability"]
        else:
            assert own["probability"] is None
            assert own["at_most"] == pytest.approx(1 - decided["probability"])
    assert {own["answer"] for own in stated} == {"0", "1"}
    assert reply.usage is not None
    assert reply.usage.completion_tokens == max(6, decided["n_samples"])


def test_n_choices_of_open_chat_are_drawn_at_once(client: OpenAI) -> None:
    reply = client.chat.completions.create(model="chat", messages=say("a b", "c"), n=3)
    assert len(reply.choices) == 3
    assert all(choice.finish_reason == "stop" for choice in reply.choices)
    assert all(
        choice.model_extra["poise"]["probability"] is None  # type: ignore[index]
        for choice in reply.choices
    )


def test_logprobs_come_only_as_far_as_they_are_asked_for(client: OpenAI) -> None:
    ask = {"model": "number", "messages": say("It is 12")}
    assert client.chat.completions.create(**ask).choices[0].logprobs is None
    chosen = client.chat.completions.create(**ask, logprobs=True).choices[0].logprobs
    assert chosen is not None
    assert chosen.content is not None
    assert [entry.token for entry in chosen.content] == ["It", " is", " 12"]
    assert all(entry.logprob < 0 and entry.top_logprobs == [] for entry in chosen.content)
    top = client.chat.completions.create(**ask, logprobs=True, top_logprobs=3).choices[0].logprobs
    assert top is not None
    assert top.content is not None
    assert all(len(entry.top_logprobs) == 3 for entry in top.content)
    assert all(entry.top_logprobs[0].logprob == entry.logprob for entry in top.content)


# -- what goes upstream ---------------------------------------------------------------------------


def test_openais_fields_and_unknown_ones_reach_the_server_and_ours_do_not() -> None:
    with FaultServer(Behaviour(texts=("hello",))) as server, in_front_of(server) as client:
        client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": "Hi", "name": "Ann"}],
            temperature=0.3,
            top_p=0.9,
            stop=["\n"],
            seed=7,
            max_completion_tokens=50,
            logit_bias={"11": -1},
            presence_penalty=0.5,
            reasoning_effort="low",
            user="u",
            metadata={"a": "b"},
            extra_body={"top_k": 5, "poise": {"max_samples": 2}},
            extra_headers={"x-own": "1"},
        )
        (seen,) = [one for one in server.requests if one.body["messages"][0]["content"] == "Hi"]
    expected = {
        "model": "faulty",
        "messages": [{"role": "user", "content": "Hi", "name": "Ann"}],
        "temperature": 0.3,
        "top_p": 0.9,
        "stop": ["\n"],
        "seed": 7,
        "logit_bias": {"11": -1},
        "presence_penalty": 0.5,
        "reasoning_effort": "low",
        "user": "u",
        "metadata": {"a": "b"},
        "top_k": 5,
    }
    assert {name: seen.body.get(name) for name in expected} == expected
    assert 50 in {seen.body.get("max_tokens"), seen.body.get("max_completion_tokens")}
    assert "poise" not in seen.body
    assert "x-own" not in seen.headers
    assert "anything" not in seen.headers.get("authorization", "")  # the client's own key


def test_what_a_server_adds_of_its_own_reaches_the_client() -> None:
    message = {"role": "assistant", "content": "12", "reasoning_content": "6 + 6", "odd": [1]}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "matched_stop": 3}
    usage = {"prompt_tokens": 3, "completion_tokens": 5}
    body = json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage})
    with FaultServer(Behaviour(body=body)) as server:
        wanted = Config(
            upstream=(Upstream(name="lab", base_url=server.base_url, stream=False),),
            alias=(Alias(name="chat", upstream="lab"),),
        )
        with Serving(wanted) as serving, client_of(serving) as client:
            reply = client.chat.completions.create(model="chat", messages=say("?"))
    (one,) = reply.choices
    assert one.message.model_extra == {"reasoning_content": "6 + 6", "odd": [1]}
    assert (one.model_extra or {})["matched_stop"] == 3


def test_a_seed_makes_a_reply_repeatable_also_by_another_gateway(tmp_path: Path) -> None:
    two = {"poise": {"policy": "fixed:max_samples=2"}}

    def texts(client: OpenAI, seed: int) -> list[str | None]:
        reply = client.chat.completions.create(
            model="number", messages=say("?"), seed=seed, n=4, extra_body=two
        )
        return [choice.message.content for choice in reply.choices]

    with FaultServer() as server:  # numbers made from the seed
        with in_front_of(server) as client:
            first, again, other = texts(client, 1), texts(client, 1), texts(client, 2)
        with in_front_of(server, store=Store(path=str(tmp_path / "store.db"))) as client:
            elsewhere = texts(client, 1)
    assert first == again == elsewhere
    assert first != other
    assert len(set(first)) > 1  # the draws are not one draw four times


def test_a_record_names_the_prompt_under_the_stores_own_key(tmp_path: Path) -> None:
    named = set()
    for name in ("one.db", "two.db"):
        wanted = Config(
            alias=(Alias(name="chat", model="m"),), store=Store(path=str(tmp_path / name))
        )
        with Serving(wanted, lambda *_: told()) as serving, client_of(serving) as client:
            reply = client.chat.completions.create(model="chat", messages=say("a secret"))
            named.add(poise_of(reply)["question_id"])
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as store:
            named |= {row[0] for row in store.execute("select prompt_hmac from decisions")}
        assert b"a secret" not in (tmp_path / name).read_bytes()
    assert len(named) == 3  # the same question in both replies, another name in each store


# -- options --------------------------------------------------------------------------------------


def decided_with(client: OpenAI, model: str = "number", **options: Any) -> dict[str, Any]:
    """What comes of 16 long replies that do not agree."""
    disagreeing = say(*("so " * 100 + str(number) for number in range(16)))
    reply = client.chat.completions.create(
        model=model, messages=disagreeing, extra_body={"poise": options}
    )
    return poise_of(reply)


def test_options_say_how_long_to_look(client: OpenAI) -> None:
    assert decided_with(client, max_samples=3)["n_samples"] == 3
    assert decided_with(client, policy="fixed:max_samples=5")["n_samples"] == 5
    assert decided_with(client, tier="fast")["n_samples"] == 4
    assert decided_with(client, tier="best")["n_samples"] == 16
    assert decided_with(client)["n_samples"] == 16  # the gateway's own cap
    assert decided_with(client, max_samples=1000)["n_samples"] == 16


def test_options_cap_tokens_and_dollars(client: OpenAI) -> None:
    few = decided_with(client, max_tokens=8000)
    assert 1 <= few["n_samples"] < 16
    assert few["stop"] == "budget"
    assert few["spend"]["prompt_tokens"] + few["spend"]["completion_tokens"] <= 8000
    dear = decided_with(client, max_usd=2.0)
    assert dear["stop"] == "budget"
    assert dear["n_samples"] < 16
    assert 0 < dear["spend"]["usd"] <= 2.0


def test_options_give_a_deadline(client: OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        decided_with(client, "slow", max_seconds=0.05)
    assert (raised.value.status_code, raised.value.code) == (504, "deadline")


def test_options_say_the_kind(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="chat", messages=say("Yes.", "yes", "No"), extra_body={"poise": {"kind": "yesno"}}
    )
    assert poise_of(reply)["answer"] == "yes"


def test_a_cap_in_dollars_needs_a_price(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="needs a price") as raised:
        decided_with(client, "urn", max_usd=1.0)
    assert raised.value.param == "poise.max_usd"


# -- outcomes and decisions -----------------------------------------------------------------------


def test_outcomes_are_attached_by_the_id_of_the_reply(client: OpenAI) -> None:
    first = client.chat.completions.create(model="number", messages=say("1"))
    second = client.chat.completions.create(model="number", messages=say("2"))

    def attach(body: dict[str, Any]) -> list[str]:
        told_us: Any = client.post("/outcomes", body=body, cast_to=object)
        return [one["status"] for one in told_us["data"]]

    assert attach({"id": first.id, "value": 1}) == ["stored"]
    assert attach({"id": first.id, "value": 1}) == ["unchanged"]
    assert attach({"id": first.id, "value": 0.5}) == ["replaced"]
    many = [
        {"id": poise_of(second)["id"], "value": 0, "source": "reviewer", "time": 1.7e9},
        {"id": "chatcmpl-nobody", "value": 1},
    ]
    assert attach({"outcomes": many}) == ["stored", "unknown"]
    with pytest.raises(openai.BadRequestError) as raised:
        attach({"outcomes": [many[0], {"id": first.id, "value": 2}]})
    assert "outcomes.1" in str(raised.value.param)


def test_outcomes_need_a_store() -> None:
    with (
        Serving(Config(alias=(Alias(name="chat", model="m"),)), lambda *_: told()) as serving,
        client_of(serving) as client,
    ):
        reply = client.chat.completions.with_raw_response.create(model="chat", messages=say("?"))
        assert reply.headers["x-poise-recorded"] == "false"
        with pytest.raises(openai.APIStatusError) as raised:
            client.post("/outcomes", body={"id": "x", "value": 1}, cast_to=object)
    assert (raised.value.status_code, raised.value.code) == (501, "no_store")


def decide(client: OpenAI, **body: Any) -> Any:
    return client.post("/decisions", body=body, cast_to=object)


def test_a_predicate_a_choice_and_a_score_are_decided(client: OpenAI) -> None:
    yes = decide(
        client, model="chat", type="predicate", input=say("Yes.", "yes", "No")[0]["content"]
    )
    assert (yes["object"], yes["value"], yes["probability"]) == ("decision", True, None)
    assert yes["poise"]["reason"]
    assert yes["usage"]["completion_tokens"] > 0
    picked = decide(client, model="chat", type="choice", input=say("B"), options=["red", "blue"])
    assert picked["value"] == "blue"
    score = decide(client, model="urn", type="score", input=say("0"), minimum=0, maximum=5)
    assert (score["value"], score["probability"]) == (0.0, score["poise"]["probability"])
    assert score["probability"] > 0.5
    outside = decide(client, model="urn", type="score", input=say("9"), minimum=0, maximum=5)
    assert (outside["value"], outside["probability"]) == (None, None)
    assert "9" in outside["reason"]
    told_us: Any = client.post("/outcomes", body={"id": yes["id"], "value": 1}, cast_to=object)
    assert told_us["data"][0]["status"] == "stored"


BAD_DECISIONS: list[tuple[dict[str, Any], str]] = [
    ({"type": "poem"}, "type"),
    ({"type": "choice"}, "options"),
    ({"type": "predicate", "options": ["a", "b"]}, "options"),
    ({"type": "predicate", "minimum": 1}, "minimum"),
    ({"type": "predicate", "input": None}, "input"),
    ({"type": "predicate", "stream": True}, "stream"),
    ({"type": "predicate", "n": 2}, "n"),
    ({"type": "predicate", "poise": {"kind": "number", "odd": 1}}, "poise.odd"),
]


@pytest.mark.parametrize(("fields", "param"), BAD_DECISIONS)
def test_a_decision_that_makes_no_sense_is_a_bad_request(
    client: OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        decide(client, **{"model": "chat", "input": "?", **fields})
    assert raised.value.param == param


# -- async ----------------------------------------------------------------------------------------


def test_the_async_client_asks_many_at_once(gateway: Serving) -> None:
    async def go() -> tuple[list[Any], list[str]]:
        async with AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client:
            asking = [
                client.chat.completions.create(model="number", messages=say(str(number)))
                for number in range(24)
            ]

            async def streamed(number: int) -> str:
                stream = await client.chat.completions.create(
                    model="number", messages=say(f"It is {number}"), stream=True
                )
                return "".join([c.choices[0].delta.content or "" async for c in stream])

            replies, *texts = await asyncio.gather(
                asyncio.gather(*asking), *(streamed(number) for number in range(8))
            )
            return replies, texts

    replies, texts = asyncio.run(go())
    assert [poise_of(reply)["answer"] for reply in replies] == [str(n) for n in range(24)]
    assert len({reply.id for reply in replies}) == 24
    assert texts == [f"It is {number}" for number in range(8)]


def test_an_async_call_that_is_cancelled_stops_the_server() -> None:
    with FaultServer(only(Behaviour(texts=("word " * 200,), token_delay=0.02))) as server:

        async def go(base_url: str) -> None:
            async with AsyncOpenAI(base_url=base_url, api_key="x", max_retries=0) as client:
                asking = asyncio.ensure_future(
                    client.chat.completions.create(model="number", messages=COUNT)
                )
                # What is waited for happens in another thread.
                while not any(s.body["messages"] == COUNT and s.tokens for s in server.requests):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asking

        with in_front_of(server) as client:
            asyncio.run(go(str(client.base_url)))
            assert server.until(
                lambda: all(seen.aborted or seen.finished for seen in server.requests)
            )
        assert any(seen.aborted for seen in server.requests)


def test_async_errors_are_the_same_classes(gateway: Serving) -> None:
    async def go() -> None:
        async with AsyncOpenAI(base_url=gateway.base_url, api_key="no", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        async with AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client:
            with pytest.raises(openai.BadRequestError):
                await client.chat.completions.create(
                    model="chat", messages=say("?"), extra_body={"poise": {"odd": 1}}
                )

    asyncio.run(go())
