"""The gateway, asked by clients that know nothing of it: LangChain, the ``llm`` CLI, lm-eval."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from gateway_server import Serving
from openai_gateway import EMOR, KEY, OSLO, ROME, Weather, everything
from poise.config import Config, Embedded, Key, Store
from told import calls, say

LM_EVAL = Path(__file__).parent / "lm_eval_run.py"


class Sum(BaseModel):
    """What a sum comes to."""

    total: int


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with everything(tmp_path_factory.mktemp("gateway")) as serving:
        yield serving


def words(*draws: Any) -> str:
    """The text of a question whose samples are ``draws``."""
    text: str = say(*draws)[0]["content"]
    return text


# -- LangChain ----------------------------------------------------------------------------------


def chat_of(gateway: Serving, model: str, key: str = KEY, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=model, base_url=gateway.base_url, api_key=SecretStr(key), max_retries=0, **more
    )


def test_langchain_is_answered_and_can_read_the_decision_from_headers(gateway: Serving) -> None:
    model = chat_of(
        gateway, "number", include_response_headers=True, extra_body={"poise": {"tier": "fast"}}
    )
    reply = model.invoke(words("It is 12.", "12"))
    assert reply.content == "It is 12."
    assert reply.response_metadata["finish_reason"] == "stop"
    headers = reply.response_metadata["headers"]
    assert (headers["x-poise-samples"], headers["x-poise-stop"]) == ("4", "sure")
    assert reply.response_metadata["id"] == headers["x-poise-id"]
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["output_tokens"] == 8  # of all four samples


@pytest.mark.parametrize("model", ["chat", "number"])
def test_langchain_puts_a_stream_together(gateway: Serving, model: str) -> None:
    whole: AIMessageChunk | None = None
    for chunk in chat_of(gateway, model, stream_usage=True).stream(words("It is 12.")):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert whole.content == "It is 12."
    assert whole.response_metadata["finish_reason"] == "stop"
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] >= 3


@pytest.mark.parametrize(
    ("method", "draws"),
    [
        ("json_schema", ('{"total": 12}', '{"total":13}', '{ "total": 12 }')),
        ("json_mode", ('{"total": 12}', '{"total":13}', '{ "total": 12 }')),
        ("function_calling", (calls("Sum", '{"total": 12}'), calls("Sum", '{"total":13}'))),
    ],
)
def test_langchain_gets_structured_output(
    gateway: Serving, method: Any, draws: tuple[Any, ...]
) -> None:
    model = chat_of(gateway, "chat", seed=1)
    parsed = model.with_structured_output(Sum, method=method).invoke(words(*draws))
    assert parsed == Sum(total=12)


def test_langchain_binds_tools_and_gets_the_call_that_won(gateway: Serving) -> None:
    model = chat_of(gateway, "chat").bind_tools([Weather])
    reply = model.invoke(words(OSLO, *[ROME, EMOR] * 8))
    assert isinstance(reply, AIMessage)
    (call,) = reply.tool_calls
    assert (call["name"], call["args"]) == ("Weather", {"city": "Rome", "days": 2})
    streamed = list(model.stream(words(OSLO, *[ROME, EMOR] * 8)))
    whole = streamed[0]
    for chunk in streamed[1:]:
        whole = whole + chunk  # type: ignore[assignment]
    assert [one["args"] for one in whole.tool_calls] == [call["args"]]


def test_langchain_asks_asynchronously_and_in_batches(gateway: Serving) -> None:
    model = chat_of(gateway, "number")
    asked = [words(str(number)) for number in range(6)]
    replies = asyncio.run(model.abatch(asked))
    assert [reply.content for reply in replies] == [str(number) for number in range(6)]


def test_langchain_raises_the_clients_own_errors(gateway: Serving) -> None:
    with pytest.raises(openai.AuthenticationError):
        chat_of(gateway, "chat", key="another").invoke("?")
    with pytest.raises(openai.BadRequestError, match="max_sample"):
        chat_of(gateway, "chat", extra_body={"poise": {"max_sample": 1}}).invoke("?")


# -- the llm CLI --------------------------------------------------------------------------------


@pytest.fixture
def llm(gateway: Serving, tmp_path: Path) -> Any:
    """Runs the command ``llm``, which knows our aliases from its configuration file."""
    models = [
        {"model_id": "ours", "model_name": "chat", "supports_schema": True, "supports_tools": True},
        {"model_id": "ours-number", "model_name": "number"},
        {"model_id": "not-there", "model_name": "gpt-4o"},
    ]
    for model in models:
        model |= {"api_base": gateway.base_url, "api_key_name": "poise"}
    # Every JSON text is YAML.
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))
    (tmp_path / "keys.json").write_text(json.dumps({"poise": KEY}))
    # Its plugins stay out: the weights that we test with come as one, without what it imports.
    env = {**os.environ, "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""}
    program = Path(sys.executable).parent / "llm"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments], env=env, capture_output=True, text=True, timeout=30, check=False
        )

    return run


def test_the_llm_command_prints_the_answer_streamed_or_not(llm: Any) -> None:
    streamed = llm("prompt", "-m", "ours-number", words("It is 12.", "13", "12", "12 it is"))
    assert (streamed.returncode, streamed.stdout) == (0, "It is 12.\n"), streamed.stderr
    whole = llm("prompt", "-m", "ours", "--no-stream", "-o", "seed", "1", words("Good morning!"))
    assert (whole.returncode, whole.stdout) == (0, "Good morning!\n"), whole.stderr
    logged = json.loads(llm("logs", "list", "--json", "-n", "1").stdout)
    assert logged[0]["output_tokens"] == 2


def test_the_llm_command_gets_what_fits_a_schema(llm: Any) -> None:
    draws = words('{"total": 12}', '{"total":13}', '{ "total": 12 }', '{"total": 12}')
    done = llm("prompt", "-m", "ours", "--schema", "total int", draws)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"total": 12}


def test_the_llm_command_tells_what_is_wrong_in_our_words(llm: Any) -> None:
    done = llm("prompt", "-m", "not-there", "?")
    assert done.returncode != 0
    assert "this gateway serves" in done.stderr
    wrong_key = llm("prompt", "-m", "ours", "--key", "another", "?")
    assert wrong_key.returncode != 0
    assert "this key is not known here" in wrong_key.stderr


# -- lm-eval ------------------------------------------------------------------------------------

SUMS = [(1, 2), (3, 4), (2, 5), (4, 4)]
TASK = {
    "task": "sums",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "What is {{a}} + {{b}}?",
    "doc_to_target": "{{total}}",
    "generation_kwargs": {
        "until": ["\n\n"],
        "max_gen_toks": 16,
        "do_sample": True,
        "temperature": 0.8,
        "poise": {"max_samples": 2},  # what it does not know it passes on
    },
    "filter_list": [
        {
            "name": "last",
            "filter": [
                {"function": "regex", "regex_pattern": "([0-9]+)", "group_select": -1},
                {"function": "take_first"},
            ],
        }
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.mark.model
def test_lm_eval_scores_the_embedded_model_through_the_gateway(
    weights: str, tmp_path: Path
) -> None:
    lines = [json.dumps({"a": a, "b": b, "total": str(a + b)}) for a, b in SUMS]
    (tmp_path / "sums.jsonl").write_text("\n".join(lines))
    data = {"dataset_kwargs": {"data_files": {"test": str(tmp_path / "sums.jsonl")}}}
    (tmp_path / "sums.yaml").write_text(json.dumps(TASK | data))
    wanted = Config(
        key=(Key(name="eval", env="OPENAI_API_KEY"),),
        store=Store(path=str(tmp_path / "decisions.db")),
        embedded=Embedded(threads=1),
    )
    env = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OPENAI_API_KEY": "for lm-eval",
        "HF_HOME": str(tmp_path / "hf"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", env["OPENAI_API_KEY"])
        with Serving(wanted) as serving:
            done = subprocess.run(
                [sys.executable, LM_EVAL, tmp_path, serving.base_url],
                env=env,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["questions"] == len(SUMS)
    assert found["exact_match"] >= 0.25  # sums of single digits; usually all, or all but one
    assert all(found["replies"])
    with sqlite3.connect(tmp_path / "decisions.db") as store:
        rows = store.execute("select alias, key, kind, n_samples, spend_samples from decisions")
        assert rows.fetchall() == [("smollm2-number", "eval", "number", 2, 2)] * len(SUMS)
