"""``poise replay``: what it shows and writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import call, write_lines, write_pool

PNG = b"\x89PNG\r\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    return write_lines(tmp_path / "pool.jsonl", [record(f"q{i}", rng) for i in range(60)])


def record(name: str, rng: Any, n: int = 8, **more: Any) -> dict[str, Any]:
    chance = rng.beta(2, 1)
    answers = [("7" if rng.random() < chance else str(rng.integers(1, 4))) for _ in range(n)]
    return {
        "dataset": "d",
        "model": "m",
        "question_id": name,
        "question": "What is 3 + 4?",
        "kind": "number",
        "samples": [{"answer": a, "correct": int(a == "7"), "tokens": 5} for a in answers],
        **more,
    }


def test_the_command_shows_frontier_baselines_and_what_was_chosen(file: Path) -> None:
    done = call("replay", file, "--policy", "beta", "--policy", "window:width=3", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert "beta, by threshold" in done.out
    for name in ("fixed:n=8", "oracle stop", "beta:threshold=", "window:width=3"):
        assert name in done.out
    assert "20 orders of 8 samples" in done.out
    assert "samples do not all state their seconds" in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines() if "+0.00" in line)


def test_the_command_writes_json_and_a_picture(file: Path, tmp_path: Path) -> None:
    picture, numbers = tmp_path / "f.png", tmp_path / "f.json"
    words = ("replay", file, "--json", "-o", picture, "-o", numbers, "--seed", "3")
    done = call(*words)
    assert done.code == 0
    assert picture.read_bytes().startswith(PNG)
    (printed,) = done.records
    assert json.loads(numbers.read_text()) == printed
    assert printed["schema"] == 1
    assert printed["questions"] + printed["tuning_questions"] == 60
    assert len(printed["fixed"]) == 8
    assert printed["comparisons"][0]["tokens"]["value"] > 0
    again = call(*words)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert call(*words, "--overwrite").records == [printed]


def test_pools_without_grades_are_compared_by_agreement(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    records = [record(f"q{i}", rng) for i in range(30)]
    for one in records:
        for sample in one["samples"]:
            del sample["correct"], sample["tokens"]
    done = call("replay", write_lines(tmp_path / "p.jsonl", records))
    assert done.code == 0
    assert "accuracy unknown" in done.err
    assert "agreement" in done.out
    assert "completion tokens unknown" in done.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--policy", "nosuch"], 2, "no stop rule 'nosuch'"),
        (["--policy", "confident"], 3, "needs p_true"),
        (["--vote", "nosuch"], 2, "no vote 'nosuch'"),
        (["-m", "other"], 2, "-m other: the pools are of m"),
        (["--dataset", "other"], 2, "the pools are of d"),
        (["--run", "r"], 2, "(not stated)"),
        (["--split", "1"], 2, "--split 1"),
        (["--target", "risk<=0.05"], 2, "poise tune"),
        (["--max-samples", "9"], 3, "--max-samples 8"),
        (["--max-samples", "1"], 3, "1 sample a question"),
        (["--max-samples", "9", "--skip-bad"], 3, "no pool holds 9"),
        (["-o", "frontier.pdf"], 2, ".png or .json"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    file: Path, words: list[str], code: int, said: str
) -> None:
    done = call("replay", file, *words)
    assert done.code == code
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_pools_that_cannot_be_read_at_all_are_bad_input(tmp_path: Path) -> None:
    silent = write_pool(tmp_path / "s.jsonl", {f"q{i}": [None] * 4 for i in range(30)})
    for words in (["replay", silent], ["tune", silent, "--target", "loss<=0.5"]):
        done = call(*words)
        assert (done.code, done.err.count("\n")) == (3, 1)
        assert "no sample holds a readable answer" in done.err


def test_mixed_arms_want_one_to_be_chosen(file: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    other = write_lines(tmp_path / "o.jsonl", [record(f"q{i}", rng, model="n") for i in range(60)])
    mixed = call("replay", file, other)
    assert mixed.code == 2
    assert "2 models (m, n)" in mixed.err
    assert "-m" in mixed.err
    alone, chosen = call("replay", file, "--json"), call("replay", file, other, "-m", "m", "--json")
    assert chosen.records == alone.records


def test_short_pools_are_left_out_only_if_asked_and_counted(file: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    short = write_lines(tmp_path / "s.jsonl", [record("short", rng, n=3)])
    refused = call("replay", file, short)
    assert refused.code == 3
    assert "1 of 61 hold fewer than 8" in refused.err
    done = call("replay", file, short, "--max-samples", "8", "--skip-bad")
    assert done.code == 0
    assert "1 of 61 pools hold fewer than 8" in done.err
    assert call("replay", file, short, "--max-samples", "3").code == 0


def test_without_a_split_the_whole_frontier_is_shown_and_none_is_chosen(file: Path) -> None:
    (told,) = call("replay", file, "--split", "0", "--json").records
    assert (told["questions"], told["tuning_questions"]) == (60, 0)
    assert told["frontiers"][0]["chosen"] is None


def test_orders_come_from_the_seed_and_their_number_is_the_callers(file: Path) -> None:
    one, same, other = (
        call("replay", file, "--json", "--shuffles", "3", "--seed", seed, "--split", "0").records
        for seed in ("1", "1", "2")
    )
    assert one == same != other
    assert one[0]["orders"] == 3
