"""Question files, and what every file that is read has in common: strict, and a stream."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from poise.errors import InputError, UsageError
from poise.pools import (
    SkipCount,
    read_pools,
    read_questions,
)
from poise.types import Kind


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def refusal(read: Callable[..., Any], path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        list(read(path))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return caught.value


def test_a_question_line_becomes_a_question_with_its_gold_apart(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "q.jsonl",
        {"id": 7, "question": "2 + 2?", "gold": 4, "kind": "number", "segment": "a", "level": [1]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
        {"id": "x", "question": "Which?", "options": ["p", "q"], "kind": "choice"},
    )
    first, second, third = read_questions(path)
    assert (first.question.id, first.question.text, first.gold) == ("7", "2 + 2?", "4")
    assert (first.question.kind, first.question.segment) == (Kind.NUMBER, "a")
    assert first.extra == {"level": [1]}
    assert (second.question.id, second.number, second.gold) == ("2", 2, None)
    assert third.question.options == ("p", "q")


def test_every_format_gives_the_same_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"id": "a", "question": 'Say "ä",\nplease', "gold": "1", "kind": "text", "note": "n"},
        {"id": "b", "question": "Which?", "options": ["x", "y"], "segment": "s"},
    ]
    plain = lines(tmp_path / "q.jsonl", *rows)
    packed = tmp_path / "q.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    marked = tmp_path / "marked.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n\r\n"))
    table = tmp_path / "q.csv"
    table.write_text(
        "id,question,options,gold,kind,segment,note\n"
        'a,"Say ""ä"",\nplease",,1,text,,n\n'
        'b,Which?,"[""x"", ""y""]",,,s,\n',
        encoding="utf-8",
    )
    packed_table = tmp_path / "q.csv.gz"
    packed_table.write_bytes(gzip.compress(table.read_bytes()))
    columns = tmp_path / "q.parquet"
    blank = {"options": None, "segment": None}
    parquet.write_table(pa.Table.from_pylist([blank | rows[0], rows[1]]), columns)
    as_text = tmp_path / "text.parquet"
    text_rows = [blank | rows[0], {**rows[1], "options": '["x", "y"]'}]
    parquet.write_table(pa.Table.from_pylist(text_rows), as_text)

    def seen(path: Path | str) -> list[object]:
        return [(line.question, line.gold, dict(line.extra)) for line in read_questions(path)]

    expected = seen(plain)
    for path in (packed, marked, table, packed_table, columns, as_text):
        assert seen(path) == expected, path.name
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(plain.read_bytes())))
    assert seen("-") == expected


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"question": "a"', "broken JSON"),
        ('["question"]', "not a JSON object"),
        ('{"question": " "}', "question is empty"),
        ("{}", "neither question nor messages"),
        ('{"question": "a", "messages": []}', "keep one"),
        ('{"question": 3}', "question is 3; it should be a string"),
        ('{"messages": []}', "a non-empty list of messages"),
        ('{"messages": [{"role": "user"}]}', "messages[0]"),
        ('{"messages": [{"role": "user", "content": [3]}]}', "messages[0]"),
        ('{"messages": [{"role": 3, "content": "a"}]}', "messages[0]"),
        ('{"messages": [{"role": "user", "content": " "}]}', "last of the messages is empty"),
        ('{"question": "a", "kind": "sum"}', "number, math, choice, yesno, text, json"),
        ('{"question": "a", "kind": ["math"]}', "kind is"),
        ('{"question": "a", "options": "ab"}', "options"),
        ('{"question": "a", "options": ["x"]}', "2 to 26 strings"),
        ('{"question": "a", "options": ["x", 2]}', "2 to 26 strings"),
        ('{"id": 1.5, "question": "a"}', "id is 1.5"),
        ('{"id": true, "question": "a"}', "id is True"),
        ('{"id": "", "question": "a"}', "id is ''"),
        ('{"id": "a\\u0000", "question": "a"}', "id is"),
        ('{"id": "first", "question": "a"}', "the id 'first' appeared before"),
        ('{"question": "a", "gold": true}', "gold is True"),
        ('{"question": "a", "gold": NaN}', "NaN is not a JSON number"),
        ('{"question": "a", "x": 1e999}', "too large"),
        ('{"question": "a", "x": ' + "9" * 5000 + "}", "too many digits"),
        ('{"question": "a", "x": ' + "[" * 70 + "]" * 70 + "}", "64 levels"),
        ('{"question": "a", "x": ' + "[" * 10**5 + "]" * 10**5 + "}", "64 levels"),
        ('{"question": "a\\ud83d"}', "surrogate"),
        ('{"question": "a\0"}', "null byte"),
        ('{"question": "\xff"}', "not UTF-8 at byte 15"),
    ],
)
def test_a_bad_question_is_refused_with_its_place_or_counted(
    tmp_path: Path, row: str, words: str
) -> None:
    path = tmp_path / "q.jsonl"
    good = b'{"id": "first", "question": "good"}\n'
    path.write_bytes(good + b"\n" + row.encode("latin-1") + b"\n" + good.replace(b"first", b"last"))
    error = refusal(read_questions, path)
    assert words in str(error)
    assert error.line == 3
    skipped = SkipCount()
    assert [line.question.id for line in read_questions(path, skip_bad=skipped)] == [
        "first",
        "last",
    ]
    assert skipped.count == 1
    assert [str(first) for first in skipped.first] == [str(error)]


def test_a_whole_surrogate_pair_is_text(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "\\ud83d\\ude00?"}\n')
    assert next(read_questions(path)).question.text == "😀?"


@pytest.mark.parametrize("read", [read_questions, read_pools])
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, read: Callable[..., Any]
) -> None:
    for name, content, words in (
        ("empty.jsonl", b"", "no "),
        ("blank.jsonl", b"\n \n", "no "),
        ("header.csv", b"id,question\n", "no "),
        ("empty.csv", b"", "no "),
        ("twice.csv", b"id,id\n1,2\n", "repeated column"),
        ("quote.csv", b'question\n"open\n', "broken CSV"),
        ("bytes.csv", b"question\nok\n\xff\n", "not UTF-8"),
        ("no.parquet", b"PAR1 but not really PAR1", "damaged Parquet"),
        ("cut.jsonl.gz", gzip.compress(b'{"question": "a"}\n' * 99)[:-9], "breaks off"),
        ("odd.jsonl.gz", b"\x1f\x8b" + bytes(40), "cannot be read"),
        ("long.jsonl", b" " * (64 * 2**20 + 1), "longer than 64 MiB"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        skipped = SkipCount()
        with pytest.raises(InputError, match=words):
            list(read(path, skip_bad=skipped))
    assert "no such file" in str(refusal(read, tmp_path / "none.jsonl"))
    assert "is a directory" in str(refusal(read, tmp_path))


def test_rows_of_tables_are_checked_too(tmp_path: Path) -> None:
    table = tmp_path / "q.csv"
    table.write_text('id,question\n1,"a\nb"\n2\n3,c\n')
    error = refusal(read_questions, table)
    assert (error.line, "1 cells where the header has 2" in str(error)) == (4, True)
    table.write_text("question,options\nWhich?,x or y\n")
    assert "'options' should hold JSON text" in str(refusal(read_questions, table))
    columns = tmp_path / "q.parquet"
    for value, words in ((float("nan"), "holds nan"), (b"x", "cast it to text")):
        parquet.write_table(pa.Table.from_pylist([{"question": "a", "v": value}]), columns)
        assert words in str(refusal(read_questions, columns))


def test_a_file_of_bad_lines_only_says_how_many(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("x\n" * 30)
    skipped = SkipCount(keep=2)
    with pytest.raises(InputError, match="no questions: 30 bad lines"):
        list(read_questions(path, skip_bad=skipped))
    assert (skipped.count, len(skipped.first)) == (30, 2)


def test_reading_is_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "a"}\nbroken\n')
    questions = read_questions(path)
    assert next(questions).question.id == "1"
    with pytest.raises(InputError):
        next(questions)


def test_reading_lines_does_not_import_parquet(tmp_path: Path) -> None:
    path = lines(tmp_path / "q.jsonl", {"question": "a"})
    script = (
        "import sys; from poise.pools import read_questions; list(read_questions(sys.argv[1]));"
        "sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == 0


def test_without_pyarrow_parquet_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'poise\[parquet\]'"):
        list(read_pools(path))
