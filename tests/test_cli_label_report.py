"""``poise label`` and ``poise report`` where answers, segments, labels and files are not plain."""

from __future__ import annotations

import csv
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from command import call, lines, write_lines
from poise.fit import fit
from poise.policies import Beta, Policy
from poise.pools import Labelled, pool_record
from poise.segmenter import Rules
from two_worlds import pools

RULES = Rules((("odd", r"urn \d*[13579]\?"), ("even", r"urn \d*[02468]\?")))
POLICY = Policy(Beta(0.95, 6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graded pools without segments, the same without grades, and a profile that finds segments."""
    folder = tmp_path_factory.mktemp("cards")
    made = pools(220, 6, 1)
    write_lines(folder / "graded.jsonl", [pool_record(one) for one in made])
    write_lines(folder / "bare.jsonl", [pool_record(_bare(one)) for one in made])
    write_lines(folder / "others.jsonl", [pool_record(one) for one in pools(60, 6, 2)])
    fit(made, POLICY, rules=RULES).save(folder / "fitted.profile")
    return folder


def _bare(one: Labelled) -> Labelled:
    return Labelled(one.pool, None, (None,) * len(one.correct))


def sheet(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def fill(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


# -- label ---------------------------------------------------------------------------------------


def test_candidates_are_of_the_segment_that_the_profile_finds(folder: Path, tmp_path: Path) -> None:
    flags = ("--profile", folder / "fitted.profile", "-n", "20", "-o", tmp_path / "sheet.csv")
    assert call("label", folder / "bare.jsonl", *flags, "--quiet").code == 0
    rows = sheet(tmp_path / "sheet.csv")
    assert {row["segment"] for row in rows} == {"odd", "even"}
    assert all(0 < float(row["probability"]) < 1 and row["signal"] == "" for row in rows)


def test_a_raw_signal_is_named_in_its_own_column_and_no_probability(
    folder: Path, tmp_path: Path
) -> None:
    flags = ("--signals", "margin", "-n", "9", "-o", tmp_path / "sheet.csv", "--quiet")
    assert call("label", folder / "bare.jsonl", *flags).code == 0
    rows = sheet(tmp_path / "sheet.csv")
    assert {row["probability"] for row in rows} == {""}
    assert all(0 <= float(row["signal"].removeprefix("margin=")) <= 1 for row in rows)


def test_a_label_grades_an_answer_in_every_notation(tmp_path: Path) -> None:
    answers = ["0.5", "1/2", "0.5", "2", "1/2", None]
    record: dict[str, Any] = {
        "dataset": "d",
        "model": "m",
        "question_id": "q",
        "question": "?",
        "kind": "math",
        "samples": [{"answer": answer} for answer in answers],
    }
    pool, path = write_lines(tmp_path / "pool.jsonl", [record]), tmp_path / "sheet.csv"
    assert call("label", pool, "-o", path, "--quiet").code == 0
    (row,) = sheet(path)
    fill(path, [{**row, "correct": "1"}])
    done = call("label", pool, "--labels", path, "-o", tmp_path / "out.jsonl")
    assert done.code == 0, done.err
    (labelled,) = lines(tmp_path / "out.jsonl")
    assert [one.get("correct") for one in labelled["samples"]] == [1, 1, 1, None, 1, None]
    done = call("label", tmp_path / "out.jsonl", "-o", tmp_path / "again.csv", "--quiet")
    assert "nothing is left to label" in done.err


@pytest.mark.parametrize(
    "flags", [("-n", "50"), ("--queue",), ("--seed", "0"), ("--threshold", "0.5"), ("--json",)]
)
def test_flags_that_putting_labels_in_would_ignore_are_refused(
    flags: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    done = call("label", folder / "bare.jsonl", "--labels", tmp_path / "sheet.csv", *flags)
    assert done.code == 2
    assert f"leave {flags[0]} out" in done.err


# -- report --------------------------------------------------------------------------------------


def test_labels_that_were_picked_are_warned_of_with_the_weighted_numbers(
    folder: Path, tmp_path: Path
) -> None:
    path, labelled = tmp_path / "sheet.csv", tmp_path / "labelled.jsonl"
    bare, profile = folder / "bare.jsonl", folder / "fitted.profile"
    call("label", bare, "--profile", profile, "-n", "40", "-o", path, "--quiet")
    rows = sheet(path)
    fill(path, [{**row, "gold": "0"} for row in rows])
    assert call("label", bare, "--labels", path, "-o", labelled).code == 0
    (card,) = call("report", labelled, "--profile", profile, "--json").records
    first = card["findings"][0]
    assert (first["kind"], first["level"]) == ("unfair_sample", "warning")
    edges = sum(row["why"] == "edge" for row in rows)
    assert 0 < edges < 40
    assert (
        f"{card['rows']} of {card['rows']} labels are of answers that were picked" in first["text"]
    )
    assert f"{edges} of them as edge cases" in first["text"]
    weights = {row["question_id"].lstrip("'"): float(row["weight"]) for row in rows}
    right = {row["question_id"].lstrip("'"): row["answer"] == "0" for row in rows}
    share = sum(weights[q] * right[q] for q in weights) / sum(weights.values())
    assert f"{share:.3f} are right" in first["text"]
    (plain,) = call("report", folder / "graded.jsonl", "--json").records
    assert "unfair_sample" not in {one["kind"] for one in plain["findings"]}


def test_the_pools_that_a_profile_was_fitted_on_are_not_held_out(folder: Path) -> None:
    profile = folder / "fitted.profile"
    (own,) = call("report", folder / "graded.jsonl", "--profile", profile, "--json").records
    (other,) = call("report", folder / "others.jsonl", "--profile", profile, "--json").records
    assert (own["held_out"], other["held_out"]) == (False, None)


def test_a_profile_is_known_by_its_content_and_says_how_it_was_chosen(
    folder: Path, tmp_path: Path
) -> None:
    done = call("report", folder / "fitted.profile", "-o", tmp_path / "card.HTML", "--json")
    assert done.code == 0, done.err
    (card,) = done.records
    assert card["held_out"] is True
    assert "`auto`" in card["decision"]["why"]
    assert "signals" in card["decision"]["why"]
    assert (tmp_path / "card.HTML").read_text().startswith("<!DOCTYPE html>")
    small = tmp_path / "pool.json"
    small.write_text((folder / "graded.jsonl").read_text())
    (other,) = call("report", small, "--json").records
    assert other["rows"] == 220


@pytest.mark.parametrize("text", ["", "{", '{"schema": 2}', '{"schema": 2', "[1]"])
def test_what_is_neither_profile_nor_pool_is_one_line(text: str, tmp_path: Path) -> None:
    for name in ("x.json", "x.jsonl"):
        (tmp_path / name).write_text(text)
        done = call("report", tmp_path / name, "--json")
        assert done.code == 3
        assert done.err.count("\n") == 1


# -- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("report", "--json", "--signals", "stated"),
        ("label", "--signals", "stated"),
        ("fit", "--plan", "--signals", "stated"),
    ],
)
def test_a_signal_of_single_samples_is_refused_with_the_leaders(
    words: tuple[str, ...], folder: Path
) -> None:
    done = call(words[0], folder / "graded.jsonl", *words[1:])
    assert done.code == 2
    assert "name leader_stated" in done.err


@pytest.mark.parametrize("words", [("report", "--json"), ("fit", "-o", "new"), ("fit", "--plan")])
def test_a_pool_that_is_in_two_files_is_refused(
    words: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.jsonl"
    again.write_text((folder / "graded.jsonl").read_text().splitlines()[7] + "\n")
    flags = [tmp_path / "p.json" if word == "new" else word for word in words[1:]]
    done = call(words[0], folder / "graded.jsonl", again, *flags)
    assert done.code == 3
    assert '"1-7"' in done.err
    assert "again.jsonl" in done.err
    assert "graded.jsonl as well" in done.err


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
@pytest.mark.parametrize(
    "words",
    [("fit", "-o", "p"), ("fit", "--plan"), ("report", "--json"), ("label",), ("ask", "What?")],
)
def test_a_seed_out_of_range_is_a_usage_error(
    words: tuple[str, ...], seed: str, folder: Path
) -> None:
    pool = () if words[0] == "ask" else (folder / "graded.jsonl",)
    done = call(words[0], *pool, *words[1:], "--seed", seed)
    assert done.code == 2
    assert "Error: Invalid value for '--seed'" in done.err
    assert "Traceback" not in done.err


def test_a_note_that_is_no_text_is_one_line_before_the_fit(folder: Path, tmp_path: Path) -> None:
    done = call("fit", folder / "graded.jsonl", "-o", tmp_path / "p.json", "--note", "\udcff")
    assert (done.code, done.err) == (2, "poise: --note is not text in UTF-8\n")


def test_devices_are_written_into_and_stay_devices(folder: Path) -> None:
    pool = folder / "graded.jsonl"
    for words in (("score", pool), ("label", folder / "bare.jsonl")):
        assert call(*words, "-o", "/dev/null", "--quiet").code == 0
        done = call(*words, "-o", "/dev/full", "--quiet")
        assert (done.code, "cannot be written" in done.err) == (2, True)
        assert done.err.count("\n") == 1
    assert all(stat.S_ISCHR(Path(name).stat().st_mode) for name in ("/dev/null", "/dev/full"))


def test_a_plan_says_how_many_labels_a_floor_takes(folder: Path) -> None:
    done = call("fit", folder / "graded.jsonl", "--plan")
    assert "labels until an ECE by chance alone is at most 0.05: " in done.out
    (told,) = call("fit", folder / "graded.jsonl", "--plan", "--json").records
    assert [one["target"] for one in told["floors"]] == [0.05, 0.03, 0.02]


def test_a_segment_that_is_stated_wins_where_none_is_given() -> None:
    from poise.labelling import Candidate

    one = _bare(pools(1, 3, 1)[0])
    stated = replace(one, pool=replace(one.pool, segment="own"))
    assert Candidate.of(stated, "0").segment == "own"
    assert Candidate.of(stated, "0", segment="found").segment == "found"
