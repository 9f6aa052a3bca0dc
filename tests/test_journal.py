"""An output that survives a kill: whole lines, one a question, and the loss is known."""

from __future__ import annotations

import io
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poise.errors import InputError, UsageError
from poise.journal import Journal, Lost

HEADER = {"model": "m", "seed": 7, "decoding": {"temperature": 0.8}}

WRITER = """
import sys
from poise.journal import Journal
path, truth, total = sys.argv[1], open(sys.argv[2], "w", buffering=1), int(sys.argv[3])
with Journal.resume(path, {"model": "m"}) as journal:
    todo = [str(i) for i in range(total) if not journal.is_finished(str(i))]
    for start in range(0, len(todo), 4):
        group = todo[start:start + 4]
        for id in group:
            journal.reserve(id, 2, 1000, 0.25)
            truth.write(id + "\\n")
        for id in group:
            journal.write({"question_id": id, "text": "ä" * (int(id) % 400)})
"""


def sidecar(path: Path) -> Path:
    return Path(f"{path}.journal")


def ids(path: Path) -> list[str]:
    return [json.loads(line)["question_id"] for line in path.read_bytes().splitlines()]


def record(id: str) -> dict[str, str]:
    return {"question_id": id, "answer": f"é {id}"}


def killed(path: Path, finished: int, flying: int) -> None:
    """Leave the files as a kill would: some questions written, some reserved and not."""
    journal = Journal.create(path, HEADER)
    for number in range(finished + flying):
        journal.reserve(str(number), 4, 100, 0.5)
    for number in range(finished):
        journal.write(record(str(number)))
    journal.close(clean=False)


def test_kills_at_random_points_neither_lose_nor_double_a_question(tmp_path: Path) -> None:
    path, total, rng = tmp_path / "out.jsonl", 40_000, random.Random(5)
    least, most = 0, 0
    kills = 0
    while True:
        truth = tmp_path / "truth"
        truth.write_text("")
        command = [sys.executable, "-c", WRITER, str(path), str(truth), str(total)]
        with subprocess.Popen(command) as process:
            while process.poll() is None and truth.stat().st_size == 0:
                time.sleep(0.001)
            if kills < 5:
                time.sleep(rng.uniform(0, 0.03))
                process.send_signal(signal.SIGKILL)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
        whole = path.read_bytes().rpartition(b"\n")[0].splitlines()
        done = {json.loads(line)["question_id"] for line in whole}
        flying = set(truth.read_text().splitlines()) - done
        least += len(flying)
        most += len(flying) + 1  # one was noted, but its owner died before saying so
        with Journal.resume(path, {"model": "m"}) as journal:
            lost = journal.lost
            journal.close(clean=False)
        assert least <= lost.questions <= most
        assert lost == Lost(lost.questions, 2 * lost.questions, 1000 * lost.questions, lost.usd)
        assert lost.usd == pytest.approx(0.25 * lost.questions)
    assert kills == 5
    assert sorted(ids(path), key=int) == [str(i) for i in range(total)]
    assert not sidecar(path).exists()


def test_a_last_line_cut_at_any_byte_is_dropped_or_completed(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    killed(path, finished=3, flying=0)
    output, journal_bytes = path.read_bytes(), sidecar(path).read_bytes()
    last = output.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last, len(output)):
        path.write_bytes(output[:cut])
        sidecar(path).write_bytes(journal_bytes)
        with Journal.resume(path, HEADER) as journal:
            complete = cut == len(output) - 1
            assert journal.is_finished("2") == complete
            assert journal.finished == 2 + complete
            assert journal.lost.questions == (0 if complete else 1)
            if not complete:
                journal.write(record("2"))
        assert path.read_bytes() == output


def test_a_journal_cut_at_any_byte_loses_at_most_the_note_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    killed(path, finished=1, flying=2)
    notes = sidecar(path).read_bytes()
    header = notes.find(b"\n") + 1
    for cut in range(len(notes) + 1):
        sidecar(path).write_bytes(notes[:cut])
        whole = notes[:cut].count(b"\n") - 1
        journal = Journal.resume(path, HEADER)
        assert journal.lost.tokens == (100 * max(whole - 1, 0) if cut >= header else 0)
        journal.close(clean=False)
        for line in sidecar(path).read_bytes().splitlines():
            json.loads(line)


def test_what_a_first_kill_lost_stays_lost_when_its_questions_finish_later(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    killed(path, finished=2, flying=3)
    second = Journal.resume(path, HEADER)
    assert second.lost == Lost(3, 12, 300, 1.5)
    for number in ("2", "3"):
        second.reserve(number, 1, 10, 0.1)
    second.write(record("2"))
    second.close(clean=False)
    with Journal.resume(path, HEADER) as third:
        assert third.lost == Lost(4, 13, 310, 1.6)


def test_an_unpriced_reservation_makes_the_lost_money_unknown(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    journal = Journal.create(path, HEADER)
    journal.reserve("a", 1, 10, 0.1)
    journal.reserve("a", 2, 20, None)
    journal.close(clean=False)
    assert Journal.resume(path, HEADER).lost == Lost(1, 3, 30, None)


def test_an_existing_output_or_journal_is_refused_unless_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("precious\n")
    with pytest.raises(UsageError, match="--resume to continue it or --overwrite to replace it"):
        Journal.create(path, HEADER)
    assert path.read_text() == "precious\n"
    assert not sidecar(path).exists()
    path.unlink()
    killed(path, finished=1, flying=1)
    path.unlink()
    with pytest.raises(UsageError, match="journal exists: --resume"):
        Journal.create(path, HEADER)
    with Journal.create(path, {"model": "other"}, overwrite=True) as journal:
        journal.write(record("0"))
    assert ids(path) == ["0"]
    assert journal.lost == Lost()


def test_a_header_that_cannot_be_written_leaves_the_old_output_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("precious\n")
    with pytest.raises(TypeError):
        Journal.create(path, {"model": object()}, overwrite=True)
    assert path.read_text() == "precious\n"


def test_resuming_with_other_settings_names_them_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    killed(path, finished=1, flying=1)
    path.write_bytes(path.read_bytes() + b'{"question_id": "1", "ans')
    before = path.read_bytes(), sidecar(path).read_bytes()
    with pytest.raises(UsageError, match=r"\(seed, system\)"):
        Journal.resume(path, {**HEADER, "seed": 8, "system": None})
    assert (path.read_bytes(), sidecar(path).read_bytes()) == before


def test_a_clean_finish_removes_the_journal_and_can_still_be_extended(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with Journal.create(path, HEADER) as journal:
        journal.reserve("a", 1, 10, None)
        journal.write(record("a"))
        assert sidecar(path).exists()
    assert not sidecar(path).exists()
    seen: list[object] = []
    with Journal.resume(path, {"model": "another"}, on_record=seen.append) as journal:
        assert journal.is_finished("a")
        assert journal.lost == Lost()
        journal.write(record("b"))
    assert seen == [record("a")]
    assert ids(path) == ["a", "b"]


def test_an_exception_keeps_the_journal_and_resuming_nothing_starts(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    journal = Journal.resume(path, HEADER)
    journal.reserve("a", 1, 10, 0.0)
    with pytest.raises(KeyError), journal:
        raise KeyError("a")
    assert Journal.resume(path, HEADER).lost == Lost(1, 1, 10, 0.0)


def test_only_one_at_a_time_writes_an_output(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with Journal.create(path, HEADER):
        for second in (
            lambda: Journal.resume(path, HEADER),
            lambda: Journal.create(path, HEADER, overwrite=True),
        ):
            with pytest.raises(UsageError, match="another process is writing it"):
                second()
    with Journal.resume(path, HEADER) as journal:
        journal.write(record("a"))


def test_a_question_is_written_once(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "out.jsonl", HEADER) as journal:
        journal.write(record("a"))
        with pytest.raises(RuntimeError, match="'a'"):
            journal.write(record("a"))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("my diary", 1),
        ('{"question_id": "a"}\nmy diary', 2),
        ('{"question_id": "a"}\n[1]\n', 2),
        ('{"question_id": "a"}\n{"question_id": "a"}\n', 2),
        ('{"other": 1}\n', 1),
        ('{"question_id": "a"}\n\n', 2),
        ('{\n  "question_id": "a"\n}\n', 1),
    ],
)
def test_a_file_that_is_no_output_is_never_cut(tmp_path: Path, content: str, line: int) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        Journal.resume(path, HEADER)
    assert caught.value.line == line
    assert path.read_text() == content
    assert not sidecar(path).exists()


@pytest.mark.parametrize(
    "notes", ["[]\n", '{"header": 1}\n', '{"header": {}}\n{"id": 3}\n', '{"header": {}}\n\xff\n']
)
def test_a_journal_with_a_foreign_line_is_refused_in_one_line(tmp_path: Path, notes: str) -> None:
    path = tmp_path / "out.jsonl"
    sidecar(path).write_bytes(notes.encode("latin-1"))
    with pytest.raises(InputError, match=r"out\.jsonl\.journal:\d+: no line of a journal"):
        Journal.resume(path, {})


def test_outputs_that_cannot_be_resumed_are_refused_in_one_line(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "out.jsonl.gz", "plain JSON lines"),
        (tmp_path, "is a folder"),
        (tmp_path / "nowhere" / "out.jsonl", "there is no folder"),
    ):
        for start in (Journal.create, Journal.resume):
            with pytest.raises(UsageError, match=words) as caught:
                start(path, HEADER)
            assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="only a file can be resumed"):
        Journal.resume("-", HEADER)


def test_stdout_and_devices_are_written_without_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stdout = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", stdout)
    for path in ("-", "/dev/null"):
        with Journal.create(path, HEADER) as journal:
            journal.reserve("a", 1, 10, None)
            journal.write(record("a"))
            assert journal.is_finished("a")
    assert json.loads(stdout.buffer.getvalue()) == record("a")  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_half_a_surrogate_pair_does_not_cost_the_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with Journal.create(path, HEADER) as journal:
        journal.write({"question_id": "a\ud83d", "text": "\ud83d!"})
    with Journal.resume(path, HEADER) as journal:
        assert journal.is_finished("a\ud83d")
    assert json.loads(path.read_text())["text"] == "?!"


def test_a_full_disk_leaves_whole_lines_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    script = """
import resource, sys
from poise.errors import InputError
from poise.journal import Journal
journal = Journal.create(sys.argv[1], {})
journal.write({"question_id": "a", "text": "x" * 500})
resource.setrlimit(resource.RLIMIT_FSIZE, (800, 800))
try:
    journal.write({"question_id": "b", "text": "x" * 500})
except InputError as error:
    assert not journal.is_finished("b")
    journal.write({"question_id": "c", "text": ""})
    print(error)
"""
    told = subprocess.run(
        [sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True
    )
    assert told.stdout.strip() == f"{path}: cannot be written: File too large"
    assert ids(path) == ["a", "c"]
