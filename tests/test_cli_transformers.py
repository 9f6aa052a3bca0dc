"""``-m transformers:…``: a model run by PyTorch, an adapter on it, and its dynamic temperature."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_model
from command import call, lines, write_lines, write_pool
from fault_server import FaultServer
from poise.arms import engine, merged
from poise.backends import Transformers
from poise.backends.checkpoint import adapted
from poise.backends.llamacpp import DECODING, PROMPT
from poise.cli.arms import ArmFlags, choose
from poise.config import Config, load
from poise.errors import InputError, ModelMissing, UsageError
from poise.pools import read_pools
from poise.serve.aliases import Aliases
from poise.train import model as models

torch.set_num_threads(1)

EDT = {"t0": 0.8, "m": 0.8, "gamma": 1.0}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.save_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def run(tiny: Path) -> Path:
    """A run of training: a folder with an adapter that changes a lot."""
    loaded = models.with_adapter(models.load(tiny, device="cpu"), rank=4, dropout=0.0)
    torch.manual_seed(1)
    for name, weight in loaded.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    models.save_adapter(loaded, tiny.parent / "honest" / "adapter")
    return tiny.parent / "honest"


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    asked = [{"id": f"q{n}", "question": f"What is {n} + 1?", "gold": n + 1} for n in range(2)]
    return write_lines(tmp_path / "sums.jsonl", asked)


def sample(questions: Path, model: str, *words: str) -> Any:
    flags = ("-n", "3", "--reply-tokens", "6", "--quiet")
    return call("sample", questions, "-m", model, *flags, *words)


# -- what a name means ----------------------------------------------------------------------------


def made(model: str) -> Transformers:
    backend, _, _ = engine(model, Config())
    assert isinstance(backend, Transformers)
    return backend


def test_a_model_an_adapter_and_a_run_are_found_and_named(tiny: Path, run: Path) -> None:
    assert made(f"transformers:{tiny}").model == "tiny"
    for spelled in (run, run / "adapter"):
        backend = made(f"transformers:{tiny}+{spelled}")
        assert backend.model == adapted("tiny", run / "adapter")
        assert re.fullmatch("tiny[+]honest-[0-9a-f]{8}", backend.model)
        assert backend.adapter == run / "adapter"


def test_other_weights_in_a_run_of_the_same_name_are_another_arm(tiny: Path, run: Path) -> None:
    """A run that is done again must not be taken for the one that a profile was fitted on."""
    again = tiny.parent / "elsewhere" / "honest"
    models.save_adapter(
        models.with_adapter(models.load(tiny, device="cpu"), rank=4), again / "adapter"
    )
    assert made(f"transformers:{tiny}+{again}").model != made(f"transformers:{tiny}+{run}").model


def test_an_adapter_named_from_inside_its_run_is_named_for_the_run(
    tiny: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    assert made(f"transformers:{tiny}+adapter").model == adapted("tiny", run / "adapter")


def test_a_plus_in_a_models_own_name_is_its_name(tmp_path: Path, run: Path) -> None:
    folder = tiny_model.save_folder(tmp_path / "a+b")
    assert made(f"transformers:{folder}").adapter is None
    assert made(f"transformers:{folder}+{run}").model == adapted("a+b", run / "adapter")


@pytest.mark.parametrize(
    ("named", "error", "said"),
    [
        ("{tiny}-nowhere", ModelMissing, "no such model"),
        ("{tiny}+nowhere", InputError, "nowhere names no folder of an adapter"),
        ("{tiny}+", InputError, "names no folder of an adapter"),
        ("{tiny}+{tiny}", InputError, "no adapter_config.json"),
    ],
)
def test_a_model_or_an_adapter_that_is_not_there_is_said_at_once(
    tiny: Path, named: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        made("transformers:" + named.format(tiny=tiny))


def test_the_configuration_bounds_draws_and_context(tiny: Path) -> None:
    config = Config.model_validate({"embedded": {"slots": 3, "context": 96}})
    backend, decoding, _ = engine(f"transformers:{tiny}", config)
    assert isinstance(backend, Transformers)
    assert (backend.draws, backend.context) == (3, 96)
    assert decoding["max_tokens"] == 512


# -- sampling -------------------------------------------------------------------------------------


def test_a_pool_is_drawn_with_log_probabilities_under_its_own_arm(
    tiny: Path, run: Path, questions: Path
) -> None:
    plain, with_run = f"transformers:{tiny}", f"transformers:{tiny}+{run}"
    done = sample(questions, plain)
    assert (done.code, done.err) == (0, "")
    assert len(done.records) == 2
    for record in done.records:
        assert (record["engine"], record["model"]) == ("transformers", "tiny")
        assert record["decoding"]["max_tokens"] == 6
        assert len(record["samples"]) == 3
        for drawn in record["samples"]:
            assert len(drawn["logprobs"]["chosen"]) == len(drawn["logprobs"]["tokens"]) > 0
    texts = texts_of(done)
    assert texts == texts_of(sample(questions, plain))
    other = sample(questions, with_run)
    assert {record["model"] for record in other.records} == {made(with_run).model}
    assert texts != texts_of(other)


def texts_of(done: Any) -> dict[str, list[str]]:
    """By question: lines are written as questions are finished."""
    return {r["question_id"]: [drawn["text"] for drawn in r["samples"]] for r in done.records}


def test_run_and_ask_take_the_same_name(tiny: Path, questions: Path) -> None:
    model = ("-m", f"transformers:{tiny}", "--reply-tokens", "6", "--policy", "fixed:n=2")
    done = call("run", questions, *model, "--quiet")
    assert done.code == 0, done.err
    assert {record["model"] for record in done.records} == {"tiny"}
    asked = call("ask", "What is 1 + 1?", *model, "--json")
    assert asked.code == 0, asked.err
    assert asked.records[0]["n_samples"] == 2


def test_an_adapter_of_other_weights_ends_the_run_in_one_line(
    tmp_path: Path, run: Path, questions: Path
) -> None:
    other = tiny_model.save_folder(tmp_path / "other", seed=1)
    done = sample(questions, f"transformers:{other}+{run}", "-o", str(tmp_path / "pool.jsonl"))
    assert (done.code, done.err.count("\n")) == (3, 1), done.err
    assert "trained on tiny" in done.err


# -- temperature by entropy -----------------------------------------------------------------------


def test_edt_is_drawn_with_and_kept_as_the_decoding(tiny: Path, questions: Path) -> None:
    model = f"transformers:{tiny}"
    asked = ("--signals", "p_true_own", "--reply-tokens", "80")
    done = sample(questions, model, "--edt", "0.8,0.8,1", *asked)
    assert done.code == 0, done.err
    for record in done.records:
        assert record["decoding"]["edt"] == EDT
        assert "temperature" not in record["decoding"]
        read = [drawn for drawn in record["samples"] if drawn["answer"] is not None]
        assert all("p_true_own" in drawn["followups"] for drawn in read)
        assert read
    cold = sample(questions, model, "--edt", "0.0001,0.8,1")
    for record in cold.records:
        assert len({drawn["text"] for drawn in record["samples"]}) == 1, "nearly greedy"


def test_a_pool_drawn_by_edt_can_be_run_as_stored(
    tiny: Path, questions: Path, tmp_path: Path
) -> None:
    pool = tmp_path / "pool.jsonl"
    sample(questions, f"transformers:{tiny}", "--edt", "0.8,0.8,1", "-o", str(pool))
    (first, _) = read_pools(pool)
    assert (first.pool.decoding or {})["edt"] == EDT
    done = call("run", questions, "-m", f"stored:{pool}", "--policy", "fixed:n=2", "--quiet")
    assert done.code == 0, done.err
    assert done.records[0]["decoding"]["edt"] == EDT


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "poise.toml"
        path.write_text(text, "utf-8")
        return path

    return write


ALIAS = '[[alias]]\nname = "warm"\nmodel = "transformers:{tiny}"\n'
HEATED = "decoding = {{edt = {{t0 = 0.8, m = 0.8, gamma = 1.0}}, top_p = 1.0}}\n"


def test_an_alias_names_the_model_and_its_edt(tiny: Path, config: Any) -> None:
    path = config((ALIAS + HEATED).format(tiny=tiny))
    arm = choose(ArmFlags("warm", config=path)).arm
    assert (arm.backend.engine, arm.backend.model) == ("transformers", "tiny")
    assert "temperature" not in arm.decoding
    assert (arm.decoding["edt"], arm.decoding["top_p"]) == (EDT, 1.0)
    cool = choose(ArmFlags("warm", temperature=0.5, config=path)).arm
    assert "edt" not in cool.decoding
    assert cool.decoding["temperature"] == 0.5
    other = {"t0": 1.0, "m": 0.9, "gamma": 2.0}
    assert choose(ArmFlags("warm", edt=other, config=path)).arm.decoding["edt"] == other


def test_the_gateway_serves_such_an_alias(tiny: Path, config: Any) -> None:
    served = Aliases(load(config((ALIAS + HEATED).format(tiny=tiny)))).find("warm")
    assert served.upstreams.view().engine == "transformers"
    assert served.decoding["edt"] == EDT
    assert "temperature" not in served.decoding
    assert merged(served.decoding, {"temperature": 0.3})["temperature"] == 0.3
    assert "edt" not in merged(served.decoding, {"temperature": 0.3})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--edt", "0.8,0.8"), "three numbers"),
        (("--edt", "hot"), "three numbers"),
        (("--edt", "0.8,0.8,1", "--temperature", "0.5"), "leave --temperature out"),
        (("--edt", "0.8,1.5,1"), "m=1.5"),
        (("--edt", "0,0.8,1"), "above 0"),
        (("--edt", "0.8,0.8,nan"), "gamma=nan"),
    ],
)
def test_an_edt_that_makes_no_sense_is_refused_before_anything_is_drawn(
    tiny: Path, questions: Path, words: tuple[str, ...], said: str
) -> None:
    done = sample(questions, f"transformers:{tiny}", *words)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert said in done.err


def test_an_engine_without_edt_does_not_pretend_to_have_it(
    questions: Path, tmp_path: Path, config: Any
) -> None:
    with FaultServer() as server:
        done = call(
            "sample", questions, "--base-url", server.base_url, "-n", "2", "--edt", "0.8,0.8,1"
        )
        assert server.requests == []
    assert (done.code, "engine transformers" in done.err) == (2, True)
    pool = write_pool(tmp_path / "pool.jsonl", {"q0": ["1"] * 4})
    done = sample(questions, f"stored:{pool}", "--edt", "0.8,0.8,1")
    assert (done.code, "drawn already" in done.err) == (2, True)
    upstream = '[[upstream]]\nname = "lab"\nbase_url = "http://localhost:1/v1"\n'
    alias = '[[alias]]\nname = "warm"\nupstream = "lab"\n' + HEATED.format()
    with pytest.raises(UsageError, match="engine transformers"):
        Aliases(load(config(upstream + alias)))


def test_a_decoding_that_the_engine_does_not_know_is_refused_at_once(
    tiny: Path, config: Any
) -> None:
    path = config(ALIAS.format(tiny=tiny) + "decoding = {repeat_penalty = 1.1}\n")
    with pytest.raises(UsageError, match="repeat_penalty"):
        choose(ArmFlags("warm", config=path))


# -- the embedded model ---------------------------------------------------------------------------


@pytest.mark.model
@pytest.mark.usefixtures("weights")
def test_the_embedded_model_is_sampled_by_edt(questions: Path, tmp_path: Path) -> None:
    output = tmp_path / "pool.jsonl"
    threads = torch.get_num_threads()
    torch.set_num_threads(min(4, os.cpu_count() or 1))
    try:
        words = ("-n", "2", "--edt", "0.8,0.8,1", "--reply-tokens", "8", "-o", output)
        done = call("sample", questions, "-m", "transformers:", *words)
    finally:
        torch.set_num_threads(threads)
    assert done.code == 0, done.err
    for record in lines(output):
        assert record["engine"] == "transformers"
        assert record["model"].startswith("SmolLM2-135M-Instruct")
        assert record["decoding"]["edt"] == EDT
        assert record["decoding"]["top_k"] == DECODING["top_k"]
        assert record["prompt_hash"] == PROMPT.hash("number")  # type: ignore[arg-type]
        assert len(record["samples"]) == 2
        assert any("=" in drawn["text"] for drawn in record["samples"]), "the worked example's form"
