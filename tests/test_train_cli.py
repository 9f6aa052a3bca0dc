"""``poise train sft``: a whole run in a folder, gone on with after a kill; bad input said early."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_model
import training_pools
from command import call, write_lines
from poise.pools import Labelled, read_pools
from training_pools import pool, pools, records

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_pools.willing(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "p.jsonl", pools(14))


def written(path: Path, given: Sequence[Labelled]) -> Path:
    return write_lines(path, records(given))


def sft(model: Path, *words: str | Path) -> Any:
    flags = ("--batch", "8", "--lr", "0.005", "--questions", "4", "--save-every", "2")
    return call("train", "sft", *words, "-m", model, *flags)


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def untimed(told: Mapping[str, Any]) -> dict[str, Any]:
    steps = [{k: v for k, v in step.items() if k != "seconds"} for step in told["steps"]]
    left_out = ("seconds", "resumed_at_step")
    return {k: v for k, v in told.items() if k not in left_out} | {"steps": steps}


def test_a_run_leaves_its_report_adapter_and_marked_pools(
    model: Path, file: Path, tmp_path: Path
) -> None:
    done = sft(model, file, "-o", tmp_path / "run", "--limit", "9", "--check-every", "3")
    assert done.code == 0, done.err
    assert "ECE by chance alone" in done.out
    assert "ETA" in done.err
    told = report(tmp_path / "run")
    assert told["data"]["questions"] <= 9
    held = told["evaluation"]["held_out"]
    assert held["before"]["confidence"]["rows"] == held["after"]["confidence"]["rows"] > 0
    assert held["before"]["confidence"]["brier"] != held["after"]["confidence"]["brier"]
    assert set(told["change"]["held_out"]) == {"rows", "brier", "auroc"}
    assert len(told["steps"]) > 3
    for when in ("before", "after"):
        kept = list(read_pools(tmp_path / "run" / f"{when}.held_out.jsonl.gz"))
        assert all(sample.signals["p_true_own"] for one in kept for sample in one.pool.samples)
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
    trained_on = {one.pool.group for one in pools(14)} - {one.pool.group for one in kept}
    assert len(trained_on) >= told["data"]["questions"]


def test_a_run_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(
    model: Path, file: Path, tmp_path: Path
) -> None:
    words = (file, "--score", "--check-every", "2")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert sft(model, *words, "-o", whole).code == 0
    kill = (
        "import os, sys, poise.cli.train\n"
        "sft = sys.modules['poise.cli.train.sft']\n"
        "step = sft.Steps.step\n"
        "def told(self, record, steps):\n"
        "    step(self, record, steps)\n"
        "    if record['step'] == 5: os.kill(os.getpid(), 9)\n"
        "sft.Steps.step = told\n"
        "from poise.cli import main\n"
        "main()\n"
    )
    flags = ("--batch", "8", "--lr", "0.005", "--questions", "4", "--save-every", "2")
    words_of_run = ("train", "sft", *words, "-o", cut, "-m", model, *flags)
    ended = subprocess.run(
        [sys.executable, "-c", kill, *map(str, words_of_run)],
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == -9, ended.stderr.decode()
    assert not (cut / "report.json").exists()
    refused = sft(model, *words, "-o", cut)
    assert (refused.code, "--resume" in refused.err) == (2, True)
    done = sft(model, *words, "-o", cut, "--resume")
    assert done.code == 0, done.err
    assert report(cut)["resumed_at_step"] == 4
    assert untimed(report(cut)) == untimed(report(whole))
    weights = [
        (folder / "adapter" / "adapter_model.safetensors").read_bytes() for folder in (whole, cut)
    ]
    assert weights[0] == weights[1]
    for name in ("after.held_out.jsonl.gz", "before.held_out.jsonl.gz", "scored.jsonl.gz"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes()
    again = sft(model, *words, "-o", cut, "--resume", "--json")
    assert untimed(json.loads(again.out)) == untimed(report(whole))


def test_a_folder_of_another_run_is_not_gone_on_with(
    model: Path, file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    assert "holds no run" in sft(model, file, "-o", folder).err
    assert "holds no run" in sft(model, file, "-o", folder, "--resume").err
    (folder / "thesis.tex").unlink()
    words = (file, "-o", folder, "--resume", "--rows", "8")
    assert sft(model, *words).code == 0
    changed = sft(model, *words, "--weight", "0.2", "--threshold", "0.5")
    assert changed.code == 2
    assert "weight, threshold differ" in changed.err
    file.write_text("".join(json.dumps(r) + "\n" for r in records(pools(14, seed=5))))
    assert "differ" in sft(model, *words).err


def test_a_dry_run_trains_nothing_and_says_what_it_would_take(
    model: Path, file: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    done = sft(model, file, "--dry-run", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["estimate"]["steps"] == -(-told["data"]["rows"] // 8)
    assert told["estimate"]["seconds"] > 0
    assert told["estimate"]["bytes"] > told["estimate"]["trained_parameters"] * 12
    assert sorted(tmp_path.iterdir()) == before


def test_segments_and_other_files_are_measured_and_never_trained_on(
    model: Path, tmp_path: Path
) -> None:
    given = [*pools(10, segment="easy"), pool("h1", ["1", "2"], segment="hard")]
    file = written(tmp_path / "p.jsonl", given)
    other = written(tmp_path / "facts.jsonl", [pool("f1", ["1", "2"], dataset="f")])
    done = sft(model, file, "--eval", other, "--hold-segment", "hard", "-o", tmp_path / "run")
    assert done.code == 0, done.err
    told = report(tmp_path / "run")
    assert set(told["evaluation"]) == {"held_out", "segments", "facts"}
    assert told["evaluation"]["segments"]["after"]["confidence"]["questions"] == 1


def test_a_question_that_is_trained_on_is_not_measured_on(model: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "p.jsonl", pools(10))
    same = written(tmp_path / "same.jsonl", pools(10, dataset="renamed"))
    done = sft(model, file, "--eval", same, "-o", tmp_path / "run")
    assert done.code == 3
    assert "trained on as well" in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("facts.jsonl", "two files are called facts"), ("held_out.jsonl", "is called held_out")],
)
def test_no_set_takes_the_place_of_another(
    model: Path, tmp_path: Path, name: str, said: str
) -> None:
    file = written(tmp_path / "p.jsonl", pools(10))
    (tmp_path / "more").mkdir()
    sets = [
        written(tmp_path / place / name, [pool("f1", ["1", "2"], dataset=place)])
        for place in (".", "more")
    ]
    more = [word for each in sets[: 2 if name == "facts.jsonl" else 1] for word in ("--eval", each)]
    done = sft(model, file, *more, "-o", tmp_path / "run")
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "words", "code", "said"),
    [
        ({"gold": None}, ("--target", "labels"), 3, "grade the pools"),
        ({}, ("--target", "p_true"), 3, "--score"),
        ({"texts": "none"}, (), 3, "no texts"),
        ({"prompt_hash": "0123456789ab"}, (), 3, "--system"),
        ({}, ("--hold-segment", "hard"), 2, "no segment hard"),
        ({}, ("--held-out", "1"), 2, "held-out share"),
        ({}, ("--loss", "tokenised_brier"), 2, "--wording digit"),
        ({}, ("--lr", "0"), 2, "lr=0"),
        ({}, ("--report-to", "nonsense"), 2, "there is no tracker 'nonsense'"),
        ({}, ("--longest", "12"), 3, "no row fits"),
    ],
)
def test_bad_input_is_said_in_one_line_before_anything_is_trained(
    model: Path, tmp_path: Path, more: dict[str, Any], words: tuple[str, ...], code: int, said: str
) -> None:
    changed = {"texts": {"text": None}, "gold": {"correct": None}}.get(next(iter(more), ""), {})
    given = [
        {**record, "samples": [{**sample, **changed} for sample in record["samples"]], **more}
        for record in records(pools(6))
    ]
    file = write_lines(tmp_path / "p.jsonl", given)
    flags = ("-m", model, "-o", tmp_path / "run", "--quiet")
    done = call("train", "sft", file, *flags, *words)
    assert (done.code, said in done.err) == (code, True), done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_without_a_folder_or_a_model_is_refused(file: Path, tmp_path: Path) -> None:
    assert "-o FOLDER" in call("train", "sft", file).err
    done = call("train", "sft", file, "-o", tmp_path / "run", "-m", tmp_path / "none.gguf")
    assert done.code == 5


def test_a_tokenizer_without_yes_and_no_is_refused(file: Path, tmp_path: Path) -> None:
    folder = tiny_model.save_folder(tmp_path / "wordless", words=("the",))
    done = call("train", "sft", file, "-o", tmp_path / "run", "-m", folder, "--quiet")
    assert done.code == 3
    assert "no single token for Yes or No" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("--target", "labels"),
        ("--target", "p_true", "--score"),
        ("--loss", "mse", "--no-balance", "--weight", "0"),
        ("--loss", "tokenised_brier", "--wording", "digit", "--target", "labels"),
        ("--wording", "user", "--held-out", "0"),
    ],
)
def test_every_ablation_runs_to_its_end(
    model: Path, file: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = sft(model, file, "-o", tmp_path / "run", "--rows", "16", "--quiet", "--json", *words)
    assert done.code == 0, done.err
    assert done.err == ""
    told = json.loads(done.out)
    assert told["data"]["balanced"] == ("labels" not in words and "--no-balance" not in words)
    assert len(told["steps"]) == 2
    named = words[words.index("--loss") + 1] if "--loss" in words else None
    proper = "log" if "labels" in words else "smooth"
    assert told["asked"]["recipe"]["settings"]["loss"] == (named or proper)


def test_the_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['poise', 'train', 'sft', '--help']\n"
        "from poise.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")


def test_the_packed_pools_are_the_same_bytes_whenever_they_are_written(
    model: Path, file: Path, tmp_path: Path
) -> None:
    assert sft(model, file, "-o", tmp_path / "run", "--rows", "8").code == 0
    packed = (tmp_path / "run" / "before.held_out.jsonl.gz").read_bytes()
    assert packed[4:8] == b"\0\0\0\0"
    assert gzip.decompress(packed).endswith(b"}\n")
