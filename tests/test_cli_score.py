"""``poise score``, ``poise label`` and ``poise report``: stored answers, on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from command import call, lines
from poise.pools import pool_record, read_pools
from two_worlds import pools


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graded pool file, one without labels, and a profile fitted on a third."""
    folder = tmp_path_factory.mktemp("score")
    for name, seed in (("fit", 1), ("graded", 2)):
        records = [pool_record(one) for one in pools(220, 8, seed)]
        for place, record in enumerate(records):
            record["segment"] = ("red", "green", "blue")[place % 3]
        put(folder / f"{name}.jsonl", records)
    bare = [{**record, "samples": [_bare(s) for s in record["samples"]]} for record in records]
    put(folder / "bare.jsonl", [{k: v for k, v in one.items() if k != "gold"} for one in bare])
    profile = folder / "profile.json"
    done = call("fit", folder / "fit.jsonl", "-o", profile, "--max-samples", "8")
    assert done.code == 0, done.err
    return folder


def _bare(sample: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in sample.items() if name != "correct"}


def put(path: Path, records: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


# -- score ---------------------------------------------------------------------------------------


def test_score_gives_each_pool_its_probability(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.jsonl"
    done = call("score", folder / "bare.jsonl", "--profile", folder / "profile.json", "-o", output)
    assert done.code == 0
    scored = lines(output)
    assert len(scored) == 220
    assert all(0 < one["probability"] < 1 for one in scored)
    assert all(one["interval"][0] <= one["probability"] <= one["interval"][1] for one in scored)
    assert "220 pools scored, 220 with a probability" in done.err


def test_score_without_a_profile_gives_signals_on_stdout(folder: Path) -> None:
    done = call("score", folder / "bare.jsonl", "--signals", "agreement,leader_p_true", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert len(done.records) == 220
    assert done.records[0]["calibrated"] is False
    assert done.records[0]["missing"].keys() == {"leader_p_true"}


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--signals", "nothing"), "no signal 'nothing'"),
        (("--signals", ","), "names no signal"),
        (("--signals", "margin,margin"), "twice"),
        (("--profile", "nowhere.json"), "cannot be read"),
        (("-o", "no/such/folder.jsonl"), "no such folder"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    flags: tuple[str, str], word: str, folder: Path, tmp_path: Path
) -> None:
    done = call("score", folder / "bare.jsonl", *flags)
    assert done.code in {2, 3}
    assert word in done.err
    assert "\n" not in done.err.strip()
    assert done.out == ""


def test_an_output_is_kept_and_a_bad_line_leaves_none(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.jsonl"
    output.write_text("mine")
    assert call("score", folder / "bare.jsonl", "-o", output).code == 2
    assert output.read_text() == "mine"
    bad = tmp_path / "bad.jsonl"
    bad.write_text((folder / "bare.jsonl").read_text() + "{\n")
    done = call("score", bad, "-o", tmp_path / "new.jsonl")
    assert done.code == 3
    assert "bad.jsonl:221" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "scores.jsonl"]
    assert call("score", bad, "-o", tmp_path / "new.jsonl", "--skip-bad").code == 0


# -- label ---------------------------------------------------------------------------------------


def test_a_sheet_goes_out_and_comes_back_as_grades(folder: Path, tmp_path: Path) -> None:
    sheet, labelled = tmp_path / "sheet.csv", tmp_path / "labelled.jsonl"
    profile = folder / "profile.json"
    done = call(
        *("label", folder / "bare.jsonl", "--profile", profile, "-n", "30", "-o", sheet),
    )
    assert done.code == 0
    assert "220" in done.err
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 30
    assert {row["segment"] for row in rows} == {"red", "green", "blue"}
    for row in rows:
        row["gold"] = "0"
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    done = call("label", folder / "bare.jsonl", "--labels", sheet, "-o", labelled)
    assert (done.code, "30 labels read" in done.err) == (0, True)
    truth = {one.pool.question_id: one.correct for one in read_pools(folder / "graded.jsonl")}
    graded = {
        one.pool.question_id: one.correct for one in read_pools(labelled) if one.gold is not None
    }
    assert len(graded) == 30
    assert all(truth[name] == grades for name, grades in graded.items())


def test_how_far_labels_reach_is_told_by_segment(folder: Path) -> None:
    done = call("label", folder / "graded.jsonl", "--json")
    assert done.code == 0
    (rows,) = done.records
    assert [row["overall"] for row in rows] == [False, False, False, True]
    assert rows[-1]["labelled"] == rows[-1]["total"] == 220


def test_nothing_is_left_to_label_in_a_graded_pool(folder: Path) -> None:
    done = call("label", folder / "graded.jsonl", "--quiet")
    assert (done.code, done.out) == (0, "")
    assert "nothing is left to label" in done.err


def test_the_review_queue_begins_with_the_least_sure(folder: Path) -> None:
    done = call(
        *("label", folder / "bare.jsonl", "--profile", folder / "profile.json", "--queue"),
        *("-n", "10", "--threshold", "0.5", "--quiet"),
    )
    rows = list(csv.DictReader(done.out.lstrip("\ufeff").splitlines()))
    chances = [float(row["probability"]) for row in rows]
    assert len(rows) == 10
    assert chances == sorted(chances)
    assert {row["decision"] for row in rows} == {"abstain"}


def test_a_wrong_cell_of_a_sheet_is_one_line(folder: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    call("label", folder / "bare.jsonl", "-n", "3", "-o", sheet, "--quiet")
    text = sheet.read_text("utf-8-sig").splitlines()
    head = text[0].split(",")
    cells = next(csv.reader([text[1]]))
    cells[head.index("correct")] = "perhaps"
    with sheet.open("w", newline="") as stream:
        csv.writer(stream).writerows([head, cells])
    done = call("label", folder / "bare.jsonl", "--labels", sheet, "-o", tmp_path / "out.jsonl")
    assert done.code == 3
    assert "perhaps" in done.err
    assert not (tmp_path / "out.jsonl").exists()


# -- report --------------------------------------------------------------------------------------


def test_a_profile_makes_its_own_card(folder: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / f"card{suffix}" for suffix in (".html", ".png", ".json")]
    flags = [word for path in outputs for word in ("-o", path)]
    done = call("report", folder / "profile.json", *flags)
    assert done.code == 0, done.err
    card = json.loads(outputs[2].read_text())
    assert card["held_out"] is True
    assert card["rows"] == 220
    assert card["decision"]["considered"]
    named = {one["name"] for one in card["columns"]}
    assert named >= {"stated", "agreement", "one sample's log-probability + platt"}
    assert outputs[1].read_bytes().startswith(b"\x89PNG")
    page = outputs[0].read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert call("report", folder / "profile.json", "-o", outputs[0]).code == 2


def test_a_profile_is_judged_on_other_pools(folder: Path) -> None:
    done = call("report", folder / "graded.jsonl", "--profile", folder / "profile.json", "--json")
    assert done.code == 0
    (card,) = done.records
    assert card["rows"] == 220
    assert card["held_out"] is None
    assert {one["name"] for one in card["parts"]["segments"]} == {"red", "green", "blue"}


def test_a_raw_signal_is_judged_at_its_word(folder: Path) -> None:
    done = call("report", folder / "graded.jsonl", "--json")
    (card,) = done.records
    assert card["columns"][0]["role"] == "stated"
    assert card["decision"] is None
    assert card["findings"]


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        (("bare.jsonl", "--json"), 4, "no answer has a label"),
        (("graded.jsonl",), 2, "name the card"),
        (("graded.jsonl", "-o", "card.pdf"), 2, ".html, .png, .json"),
        (("graded.jsonl", "--signals", "leader_logprob", "--json"), 2, "not in [0, 1]"),
        (("profile.json", "--signals", "agreement", "--json"), 2, "own card"),
        (("nowhere.jsonl", "--json"), 3, "nowhere.jsonl"),
    ],
)
def test_what_makes_no_card_says_why(
    words: tuple[str, ...], code: int, word: str, folder: Path
) -> None:
    done = call("report", folder / words[0], *words[1:])
    assert done.code == code
    assert word in done.err
    assert "\n" not in done.err.strip()


# -- fit --plan ----------------------------------------------------------------------------------


def test_a_plan_needs_no_pool_and_says_what_it_assumes() -> None:
    done = call("fit", "--plan")
    assert done.code == 0
    assert "Beta(2, 1) is assumed" in done.out
    assert "114" in done.out
    assert "230" in done.out


def test_a_plan_for_ones_own_pool_is_json_too(folder: Path) -> None:
    done = call("fit", folder / "bare.jsonl", "--plan", "--json", "--delta", "0.05")
    (told,) = done.records
    assert told["source"] == "220 probabilities"
    assert told["delta"] == 0.05
    assert call("fit", folder / "bare.jsonl", "--plan", "-o", "p.json").code == 2
    assert call("fit", "--plan", "--delta", "2").code == 2
