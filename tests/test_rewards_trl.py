"""The rewards as trainers call them: TRL's own call, a real step of training, verl's signature."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from poise.errors import UsageError
from poise.rewards import REWARDS, brier, correctness
from poise.rewards.verl import compute_score

DOCS = Path(__file__).parents[1] / "docs" / "rewards.md"

DATA = {
    "gold": "7",
    "kind": "number",
    "threshold": 0.5,
    "reference_accuracy": 0.5,
    "mean_logprobs": [-5.0, -4.0],
    "vocabulary": 20,
    "reference_logprobs": [-0.5],
}
"""One row of a data set with every column that a reward reads."""


def call_in_trl() -> tuple[set[str], set[str]]:
    """What TRL's GRPO trainer passes to a reward, read from its source without loading torch.

    The keywords that are always there, and those it adds by conditions or for each column.
    """
    spec = importlib.util.find_spec("trl")
    assert spec is not None
    assert spec.submodule_search_locations
    source = Path(spec.submodule_search_locations[0], "trainer", "grpo_trainer.py").read_text()
    (method,) = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == "_calculate_rewards"
    ]
    passed = [
        {keyword.arg for keyword in node.keywords}
        for node in ast.walk(method)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "reward_func"
    ]
    # The other call is of a reward model, with token ids.
    (named,) = [names for names in passed if "completions" in names]
    added = {
        str(ast.literal_eval(node.targets[0].slice))
        for node in ast.walk(method)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Subscript)
        and ast.unparse(node.targets[0].value) == "reward_kwargs"
    }
    return {name for name in named if name is not None}, added


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_every_reward_takes_what_trl_passes(name):
    named, added = call_in_trl()
    assert named == {"prompts", "completions", "completion_ids"}
    assert added >= {"trainer_state", "log_extra", "log_metric"}
    chat = [{"role": "user", "content": "3 + 4?"}]
    said = [[{"role": "assistant", "content": f"{a}\nConfidence: 0.{a}"}] for a in (7, 8, 7)]
    given = dict.fromkeys(added) | {
        "prompts": [chat] * 3,
        "completions": said,
        "completion_ids": [[1, 2]] * 3,
        **{column: [value] * 3 for column, value in DATA.items()},
    }
    rewards = REWARDS[name](**given)
    assert len(rewards) == 3
    assert all(isinstance(reward, float) for reward in rewards)


def test_no_reward_names_a_parameter_that_trl_passes_for_something_else():
    _, added = call_in_trl()
    for reward in REWARDS.values():
        assert not added & inspect.signature(reward).parameters.keys()


TRAINING = """
import json, sys, tempfile

import trl
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from poise.rewards import REWARDS

set_seed(0)
words = ["<pad>", "<eos>", "<unk>", "q", "7", "8", "\\n", "Confidence:", "0.5", "0.9"]
core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
core.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
)
sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
ends = dict(pad_token_id=0, eos_token_id=1, bos_token_id=1)
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **sizes, **ends))
row, example = json.loads(sys.argv[1]), sys.argv[2]
rows = Dataset.from_list([{"prompt": "q", **row}] * 4)
seen = {}

def recorded(name):
    def reward(**given):
        seen[name] = REWARDS[name](**given)
        return seen[name]

    reward.__name__ = name
    return reward

with tempfile.TemporaryDirectory() as folder:
    settings = dict(
        output_dir=folder, max_steps=1, logging_steps=1, per_device_train_batch_size=4,
        num_generations=4, max_completion_length=4, use_cpu=True, report_to=[],
        disable_tqdm=True, save_strategy="no",
    )
    every = trl.GRPOTrainer(
        model, [recorded(name) for name in REWARDS], trl.GRPOConfig(**settings),
        train_dataset=rows, processing_class=tokenizer,
    )
    every.train()
    own = globals()
    exec(example, own)
    logged = own["trainer"].state.log_history[0]
print(json.dumps({
    "seen": seen,
    "logged": every.state.log_history[0],
    "names": sorted(key for key in logged if key.startswith("rewards/") and "mean" in key),
}))
"""


def test_a_step_of_real_training_takes_every_reward_and_the_documented_example():
    """One random layer on a vocabulary of ten words: what is trained is not the point."""
    example = DOCS.read_text().split("```python\n")[1].split("```")[0]
    assert len([text for text in example.splitlines() if text.strip()]) <= 10
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, json.dumps(DATA), example],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["seen"].keys() == REWARDS.keys()
    for name, rewards in told["seen"].items():
        assert len(rewards) == 4
        numbers = [reward for reward in rewards if reward is not None]
        assert numbers
        mean = told["logged"][f"rewards/{name}/mean"]
        assert mean == pytest.approx(sum(numbers) / len(numbers), abs=1e-4)
    assert math.isfinite(told["logged"]["loss"])
    assert told["names"] == [
        "rewards/brier/mean", "rewards/correctness/mean", "rewards/formatted/mean",
    ]  # fmt: skip


GIVEN = {"data_source": "sums", "solution_str": "7\nConfidence: 0.9", "ground_truth": "7"}
"""The keywords by which verl's reward managers call a custom reward function."""


def test_verl_gets_the_sum_and_its_parts():
    extra = {"kind": "number", "index": 3, "num_turns": None, "rollout_reward_scores": {}}
    found = compute_score(**GIVEN, extra_info=extra)
    assert found == pytest.approx({"score": 1.99, "correctness": 1.0, "brier": 0.99})
    halved = compute_score(**GIVEN, extra_info=extra, weights={"correctness": 0.5, "brier": 0.5})
    assert halved["score"] == pytest.approx(found["score"] / 2)


@pytest.mark.parametrize("reply", ["7\nConfidence: 0.9", "8\nConfidence: 0.2", "none"])
def test_verl_gets_what_trl_gets(reply):
    extra = {"kind": "number", "prompts": "stray", "completions": "stray"}
    found = compute_score(**{**GIVEN, "solution_str": reply}, extra_info=extra)
    inputs = {"prompts": ["q"], "completions": [reply], "gold": ["7"], "kind": ["number"]}
    assert [found["correctness"], found["brier"]] == [*correctness(**inputs), *brier(**inputs)]


def test_verl_reads_columns_from_the_extra_information():
    extra = {"kind": "choice", "options": ["Paris", "London"], "threshold": 0.75}
    given = {**GIVEN, "solution_str": "The answer is Paris", "ground_truth": "B"}
    found = compute_score(**given, extra_info=extra, weights={"thresholded": 2.0}, read="tag")
    assert found == {"score": -6.0, "thresholded": -3.0}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weights": {"majority": 1.0}}, "no reward 'majority' of a response by itself"),
        ({"read": "words"}, "no reader 'words'; choose from line, tag, digit"),
        ({"ground_truth": None}, "nothing to say about a response of 'sums'"),
        ({"extra_info": None}, "answer kind None"),
    ],
)
def test_verl_is_told_what_it_cannot_have(given, said):
    with pytest.raises(UsageError, match=said):
        compute_score(**{**GIVEN, "extra_info": {"kind": "number"}, **given})


def test_the_parameters_are_verls():
    names = list(inspect.signature(compute_score).parameters)
    assert names[:4] == ["data_source", "solution_str", "ground_truth", "extra_info"]
