"""Whatever the bytes, a reader yields valid records or says InputError, and nothing else."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.errors import InputError
from poise.pools import (
    SkipCount,
    pool_from_record,
    pool_record,
    read_pools,
    read_questions,
    write_parquet,
)
from poise.types import Kind

QUESTIONS = (
    b'{"id": "a", "question": "2 + 2?", "gold": "4", "kind": "number"}\n'
    b'{"id": 2, "messages": [{"role": "user", "content": "Hi \\u00e4"}], "segment": "s"}\n'
    b'{"question": "Which?", "options": ["x", "y"], "kind": "choice", "n": [1, 2.5e3, null]}\n'
)
TABLE = b'id,question,options,gold\n1,"a ""b""\nc","[""x"", ""y""]",A\n2,d,,\n'
POOLS = (
    b'{"dataset": "d", "model": "m", "question_id": 1, "question": "2 + 2?", "gold": "4", '
    b'"samples": [{"answer": "4", "correct": 1, "tokens": 3, "signals": {"p": 0.5, "q": null}}, '
    b'{"answer": null, "correct": 0, "followups": {"p": {"text": "Yes"}}}]}\n'
    b'{"dataset": "d", "model": "m", "question_id": 2, "decoding": {"temperature": 0.8}, '
    b'"samples": [{"answer": "4", "model": "n", "logprobs": {"tokens": ["4"], "chosen": [-0.1], '
    b'"top": [[["4", -0.1], ["5", -2.5]]]}}]}\n'
)
GARBAGE = st.binary(max_size=6) | st.sampled_from(
    [
        *(b"\0", b"\n", b"\r", b'"', b"\\ud800", b"\\u0000", b"\xff", b"\xef\xbb\xbf", b"\x1f\x8b"),
        *(b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 5000, b"null", b"{}", b"true"),
    ]
)


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file after one to three flips, cuts, insertions or doublings."""
    content = valid
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "drop", "double"])):
            case "flip":
                flipped = bytes(byte ^ draw(st.integers(1, 255)) for byte in content[place:][:1])
                content = content[:place] + flipped + content[place + 1 :]
            case "cut":
                content = content[:place]
            case "insert":
                content = content[:place] + draw(GARBAGE) + content[place:]
            case "drop":
                content = content[:place] + content[place + draw(st.integers(1, 20)) :]
            case _:
                content = content + content[place:]
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def until_refused(records: Iterator[object]) -> list[object]:
    found: list[object] = []
    try:
        for record in records:
            found.append(record)  # noqa: PERF402 - what came before the error is wanted too
    except InputError as error:
        message = str(error)
        assert message
        assert "\n" not in message
    return found


def check_questions(path: Path) -> None:
    kept = SkipCount()
    strict = until_refused(read_questions(path))
    lenient = until_refused(read_questions(path, skip_bad=kept))
    assert lenient[: len(strict)] == strict
    ids = set()
    for line in lenient:
        question = line.question  # type: ignore[attr-defined]
        assert isinstance(question.id, str)
        assert question.id
        assert question.messages
        assert question.text.strip()
        assert question.kind is None or isinstance(question.kind, Kind)
        assert question.options is None or len(question.options) >= 2
        json.dumps([question.messages, question.options, line.gold], allow_nan=False).encode()
        json.dumps(line.extra, allow_nan=False, ensure_ascii=False).encode()
        ids.add(question.id)
    assert len(ids) == len(lenient)


def check_pools(path: Path) -> None:
    strict = until_refused(read_pools(path))
    lenient = until_refused(read_pools(path, skip_bad=SkipCount()))
    assert lenient[: len(strict)] == strict
    for labelled in lenient:
        written = json.dumps(pool_record(labelled), allow_nan=False, ensure_ascii=False)  # type: ignore[arg-type]
        assert pool_from_record(json.loads(written.encode())) == labelled
    keys = {labelled.pool.key for labelled in lenient}  # type: ignore[attr-defined]
    assert len(keys) == len(lenient)


@settings(deadline=None, max_examples=60)
@given(content=st.binary(max_size=200), name=st.sampled_from(["r.jsonl", "r.csv", "r.parquet"]))
def test_random_bytes_are_refused_in_one_line(folder: Path, content: bytes, name: str) -> None:
    (folder / name).write_bytes(content)
    check_questions(folder / name)
    check_pools(folder / name)


@settings(deadline=None, max_examples=200)
@given(content=damaged(QUESTIONS))
def test_damaged_question_lines(folder: Path, content: bytes) -> None:
    (folder / "q.jsonl").write_bytes(content)
    check_questions(folder / "q.jsonl")


@settings(deadline=None, max_examples=150)
@given(content=damaged(TABLE))
def test_damaged_question_tables(folder: Path, content: bytes) -> None:
    (folder / "q.csv").write_bytes(content)
    check_questions(folder / "q.csv")


@settings(deadline=None, max_examples=250)
@given(content=damaged(POOLS))
def test_damaged_pool_lines(folder: Path, content: bytes) -> None:
    (folder / "p.jsonl").write_bytes(content)
    check_pools(folder / "p.jsonl")


@settings(deadline=None, max_examples=150)
@given(content=damaged(gzip.compress(POOLS * 3, mtime=0)))
def test_damaged_gzip(folder: Path, content: bytes) -> None:
    (folder / "p.jsonl.gz").write_bytes(content)
    check_pools(folder / "p.jsonl.gz")


def test_parquet_cut_anywhere_is_refused(folder: Path) -> None:
    source, path = folder / "p.jsonl", folder / "p.parquet"
    source.write_bytes(POOLS)
    write_parquet(path, [pool_record(labelled) for labelled in read_pools(source)])
    whole = path.read_bytes()
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="damaged Parquet"):
            list(read_pools(path))
