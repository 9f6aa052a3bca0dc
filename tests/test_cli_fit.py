"""``poise fit`` and ``--profile``: from pools to probabilities on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import call, lines
from poise.pools import pool_record
from poise.profile import load
from two_worlds import pools


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    path = tmp_path / "urn.jsonl"
    records = (pool_record(one) for one in pools(200, 8, 1))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def others(tmp_path: Path) -> Path:
    path = tmp_path / "others.jsonl"
    line = {"dataset": "o", "model": "m", "samples": [{"answer": "1"}]}
    asked = [{**line, "question_id": str(i), "question": f"Who is {i}?"} for i in range(9)]
    path.write_text("".join(json.dumps(record) + "\n" for record in asked))
    return path


def test_fit_writes_a_profile_and_shows_what_was_considered(
    pool: Path, others: Path, tmp_path: Path
) -> None:
    output = tmp_path / "profile.json"
    done = call("fit", pool, "-o", output, "--max-samples", "8", "--others", others, "--note", "n")
    assert done.code == 0
    assert "state map + identity" in done.out
    assert "agreement + platt" in done.out
    assert "questions of others turned away: 100.0%" in done.out
    profile = load(output)
    assert (profile.note, profile.policy.stop.max_samples) == ("n", 8)


def test_fit_prints_json_when_told_to(pool: Path, tmp_path: Path) -> None:
    done = call("fit", pool, "-o", tmp_path / "p.json", "--max-samples", "8", "--json")
    assert done.records[0]["data"]["questions"] == 200


def test_an_existing_profile_is_kept_and_a_small_pool_refused(pool: Path, tmp_path: Path) -> None:
    output = tmp_path / "profile.json"
    output.write_text("mine")
    assert call("fit", pool, "-o", output).code == 2
    assert output.read_text() == "mine"
    few = tmp_path / "few.jsonl"
    few.write_text("".join(pool.read_text().splitlines(keepends=True)[:30]))
    done = call("fit", few, "-o", tmp_path / "new.json", "--max-samples", "8")
    assert done.code == 4
    assert "at least 100" in done.err
    done = call("fit", pool, "-o", tmp_path / "new.json")
    assert done.code == 4
    assert "fit with --max-samples 8" in done.err
    assert not (tmp_path / "new.json").exists()


def test_a_profile_of_another_arm_claims_nothing_and_says_why(pool: Path, tmp_path: Path) -> None:
    output, results = tmp_path / "profile.json", tmp_path / "results.jsonl"
    call("fit", pool, "-o", output, "--max-samples", "8")
    asked = tmp_path / "questions.jsonl"
    asked.write_text('{"id": "1-0", "question": "What is in urn 0?", "kind": "number"}\n')
    done = call("run", asked, "-m", f"stored:{pool}", "--profile", output, "-o", results)
    assert done.code == 0
    (result,) = lines(results)
    assert result["calibrated"] is False
    assert "another arm: engine" in result["reason"]


@pytest.mark.parametrize("profile", ["nowhere.json", "pool"])
def test_a_profile_that_is_none_is_bad_input(profile: str, pool: Path, tmp_path: Path) -> None:
    asked = tmp_path / "questions.jsonl"
    asked.write_text('{"id": "1-0", "question": "What is in urn 0?", "kind": "number"}\n')
    named = pool if profile == "pool" else tmp_path / profile
    done = call("run", asked, "-m", f"stored:{pool}", "--profile", named)
    assert done.code == 3
    assert done.err.count("\n") == 1
