"""Question sets read from local files: published shapes and broken files."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poise.errors import InputError, UsageError
from poise.tasks import TASKS, Labelled

MADE = {"arithmetic", "facts", "misconceptions", "words"}
FROM_FILES = sorted(name for name in TASKS if name not in MADE)

GSM8K = {"question": "Two and two?", "answer": "2 + 2 = <<2+2=4>>4\n#### 1,234"}
SVAMP = {
    "ID": "chal-7",
    "Body": "Ann has 3 pens and loses 1.",
    "Question": "How many are left?",
    "Equation": "( 3.0 - 1.0 )",
    "Answer": 2.0,
    "Type": "Subtraction",
}
MAWPS = {"iIndex": 12, "sQuestion": "Joan has 4 and gets 9 ?", "lSolutions": ["13.0"]}
MATHQA = {"Problem": "which ?", "options": "a ) 1 , 200 , b ) 2 , c ) none", "correct": "a"}
AQUA = {"question": "Which?", "options": ["A)$1", "B)$2 (a) or so"], "correct": "B"}
ARC = {
    "id": "Mercury_1",
    "question": {
        "stem": "Why?",
        "choices": [{"text": "heat", "label": "1"}, {"text": "cold", "label": "2"}],
    },
    "answerKey": "2",
}
FLAT_ARC = {
    "id": "q-1",
    "question_stem": "Why?",
    "choices": {"text": ["heat", "cold"], "label": ["A", "B"]},
    "answerKey": "B",
}
COUNTING = {"canary": "do not train", "examples": [{"input": "I have a cup.", "target": "1"}]}
STRATEGYQA = {"qid": "ab12", "question": "Is ice cold?", "answer": True, "facts": ["It is."]}

TEN_TASKS = """{"dataset": "bbh_navigate", "question_id": 0, "question": "Left?", "gold": "Yes"}
{"dataset": "bbh_object_counting", "question_id": 0, "question": "A cup.", "gold": "1"}
"""
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]

# Task, content of the file, and the row that must come of it.
PUBLISHED = [
    (
        "gsm8k",
        json.dumps(GSM8K),
        {"id": "1", "question": "Two and two?", "gold": "1234", "kind": "number"},
    ),
    (
        "gsm8k",
        '{"dataset": "gsm8k", "question_id": 0, "question": "Two?", "gold": "18", "steps": 2}',
        {"id": "0", "question": "Two?", "gold": "18", "kind": "number"},
    ),
    (
        "svamp",
        json.dumps([SVAMP], indent=2),
        {
            "id": "chal-7",
            "question": "Ann has 3 pens and loses 1. How many are left?",
            "gold": "2",
            "kind": "number",
            "segment": "Subtraction",
        },
    ),
    (
        "svamp",
        '{"question_id": "chal-1", "question": "How many?", "gold": "51", "type": "Subtraction"}',
        {
            "id": "chal-1",
            "question": "How many?",
            "gold": "51",
            "kind": "number",
            "segment": "Subtraction",
        },
    ),
    (
        "mawps",
        json.dumps([MAWPS]),
        {"id": "12", "question": "Joan has 4 and gets 9 ?", "gold": "13", "kind": "number"},
    ),
    (
        "mawps",
        '{"dataset": "mawps_addsub", "question_id": "a-1", "question": "How?", "gold": "2.50"}',
        {
            "id": "a-1",
            "question": "How?",
            "gold": "2.5",
            "kind": "number",
            "segment": "mawps_addsub",
        },
    ),
    (
        "mathqa",
        json.dumps([MATHQA]),
        {
            "id": "1",
            "question": "which ?",
            "gold": "A",
            "kind": "choice",
            "options": ["1 , 200", "2", "none"],
        },
    ),
    (
        "mathqa",
        json.dumps([MATHQA | {"options": "['a ) rs . 400', 'b ) rs . 300']", "correct": "b"}]),
        {
            "id": "1",
            "question": "which ?",
            "gold": "B",
            "kind": "choice",
            "options": ["rs . 400", "rs . 300"],
        },
    ),
    (
        "aqua",
        json.dumps(AQUA),
        {
            "id": "1",
            "question": "Which?",
            "gold": "B",
            "kind": "choice",
            "options": ["$1", "$2 (a) or so"],
        },
    ),
    (
        "arc",
        json.dumps(ARC),
        {
            "id": "Mercury_1",
            "question": "Why?",
            "gold": "B",
            "kind": "choice",
            "options": ["heat", "cold"],
        },
    ),
    (
        "arc",
        json.dumps(FLAT_ARC),
        {
            "id": "q-1",
            "question": "Why?",
            "gold": "B",
            "kind": "choice",
            "options": ["heat", "cold"],
        },
    ),
    (
        "arc",
        '{"question_id": 5, "question": "Why?", "options": ["A) heat", "B) cold"], "gold": "A"}',
        {"id": "5", "question": "Why?", "gold": "A", "kind": "choice", "options": ["heat", "cold"]},
    ),
    (
        "objectcount",
        json.dumps(COUNTING, indent=1),
        {"id": "1", "question": "I have a cup.", "gold": "1", "kind": "number"},
    ),
    (
        "objectcount",
        json.dumps(COUNTING),
        {"id": "1", "question": "I have a cup.", "gold": "1", "kind": "number"},
    ),
    ("objectcount", TEN_TASKS, {"id": "0", "question": "A cup.", "gold": "1", "kind": "number"}),
    (
        "strategyqa",
        json.dumps([STRATEGYQA]),
        {"id": "ab12", "question": "Is ice cold?", "gold": "yes", "kind": "yesno"},
    ),
    (
        "strategyqa",
        '{"question_id": "e0", "question": "Is fire cold?", "gold": "no"}',
        {"id": "e0", "question": "Is fire cold?", "gold": "no", "kind": "yesno"},
    ),
    (
        "jsonl",
        json.dumps({"id": "x", "messages": MESSAGES, "gold": " because ", "kind": "text"}),
        {"id": "x", "messages": MESSAGES, "gold": "because", "kind": "text"},
    ),
    (
        "jsonl",
        '\n{"question": "Which?", "options": ["heat", "cold"], "gold": "cold", "segment": "s"}',
        {
            "id": "2",
            "question": "Which?",
            "gold": "B",
            "kind": "choice",
            "options": ["heat", "cold"],
            "segment": "s",
        },
    ),
    (
        "jsonl",
        '{"question": "Third?", "gold": "1/3", "kind": "number"}',
        {"id": "1", "question": "Third?", "gold": "1/3", "kind": "number"},
    ),
]


def rows(name: str, path: Path, **options: object) -> list[dict[str, object]]:
    return [row.to_dict() for row in TASKS[name](path=path, **options).load()]


def saved(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize(("name", "content", "row"), PUBLISHED)
def test_every_published_shape_becomes_a_question_file_row(
    name: str, content: str, row: dict[str, object], packed: bool, tmp_path: Path
) -> None:
    path = saved(tmp_path / "set", gzip.compress(content.encode()) if packed else content)
    assert rows(name, path) == [row]


def test_each_task_that_reads_a_file_has_a_published_shape_above() -> None:
    assert {name for name, *_ in PUBLISHED} == set(FROM_FILES)


@pytest.mark.parametrize("name", FROM_FILES)
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", 1),
        (b"\n \n", 1),
        (b"[]", 1),
        (b"{}", 1),
        (b"null", 1),
        (b"[1, 2]", 1),
        (b'"text"', 1),
        (b'{"question": "Why?", "gold": ', 1),
        (b'\n\n{"question": }', 3),
        (b'[\n{"question": "Why?"', 2),
        (b'[\n\n{"question": 3}\n]', 3),
        (b'{"question": NaN, "gold": "1"}', 1),
        (b'{"question": "Why?", "gold": "1"} extra', 1),
        (b'{"question": "Why?"}', 1),
        (b'{"question": ["Why?"], "gold": "1", "options": ["a", "b"]}', 1),
        (b'{"question": "", "gold": "1", "options": ["a", "b"]}', 1),
        (b'{"question": "\\ud800", "gold": "no", "options": ["a", "b"]}', 1),
        (b'{"question": "Why?", "gold": {}, "options": {}}', 1),
        (b'{"question": "Why?", "gold": null, "options": ["a", "b"]}', 1),
        (b'{"examples": 3}', 1),
        (b'{"examples": [{"input": "Why?", "target": [1]}]}', 1),
        (b"\xff\xfe\x00garbage\n", 1),
        (b"\x00\x01\x02\x03", 1),
        (b"\x1f\x8bnot gzip after all", 1),
        (b"[" * 200_000, 1),
        (b'{"question": ' + b"1" * 5000 + b"}", 1),
    ],
)
def test_a_broken_file_is_refused_with_its_line_and_never_a_traceback(
    name: str, content: bytes, line: int, tmp_path: Path
) -> None:
    path = saved(tmp_path / "broken.jsonl", content)
    with pytest.raises(InputError) as caught:
        rows(name, path)
    assert caught.value.path == path
    assert caught.value.line == line
    assert "\n" not in str(caught.value)


BAD_FIELDS = [
    ("gsm8k", GSM8K | {"answer": "no mark"}, "####"),
    ("gsm8k", GSM8K | {"answer": "#### twelve"}, "plain number"),
    ("gsm8k", GSM8K | {"answer": 3}, "'answer'"),
    ("svamp", SVAMP | {"Answer": True}, "plain number"),
    ("svamp", {k: v for k, v in SVAMP.items() if k != "Body"}, "no 'Body'"),
    ("mawps", MAWPS | {"lSolutions": [1, 2]}, "one number"),
    ("mawps", MAWPS | {"lSolutions": "1"}, "one number"),
    ("mathqa", MATHQA | {"correct": "d"}, "none of the 3 options"),
    ("mathqa", MATHQA | {"options": "one, two"}, "'options'"),
    ("mathqa", MATHQA | {"options": "[broken"}, "'options'"),
    ("mathqa", MATHQA | {"options": "a ) alone"}, "2 to 26"),
    ("aqua", AQUA | {"correct": "AB"}, "none of the 2 options"),
    ("aqua", AQUA | {"options": ["A)1", 2]}, "item of 'options'"),
    ("arc", ARC | {"answerKey": "C"}, "none of the labels"),
    ("arc", FLAT_ARC | {"choices": {"text": ["a"], "label": ["A", "B"]}}, "as many"),
    ("arc", FLAT_ARC | {"choices": [["A", "x"]]}, "label"),
    ("arc", FLAT_ARC | {"choices": "A"}, "labels and texts"),
    ("arc", ARC | {"question": {"choices": ARC["question"]["choices"]}}, "question"),
    ("objectcount", {"input": "A cup.", "target": "one"}, "plain number"),
    ("objectcount", {"dataset": ["x"], "question": "A cup.", "gold": 1}, "'dataset'"),
    ("strategyqa", STRATEGYQA | {"answer": "maybe"}, "neither yes nor no"),
    ("strategyqa", STRATEGYQA | {"qid": [1]}, "'qid'"),
    ("jsonl", {"question": "Why?", "gold": "1", "kind": "colour"}, "colour"),
    ("jsonl", {"question": "Why?", "gold": "1", "kind": ["number"]}, "no kind"),
    ("jsonl", {"question": "Why?", "gold": "1", "kind": "yesno"}, "neither yes nor no"),
    ("jsonl", {"question": "Why?", "gold": "D", "options": ["a", "b"]}, "none of the options"),
    ("jsonl", {"messages": [], "gold": "1"}, "at least one message"),
    ("jsonl", {"messages": ["Why?"], "gold": "1"}, "'role'"),
    ("jsonl", {"messages": [{"role": "user", "content": ""}], "gold": "1"}, "'content'"),
]


@pytest.mark.parametrize(("name", "record", "said"), BAD_FIELDS)
def test_a_record_with_a_wrong_field_is_refused_by_name_and_line(
    name: str, record: dict[str, object], said: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "bad.jsonl", "\n\n" + json.dumps(record))
    with pytest.raises(InputError, match=said) as caught:
        rows(name, path)
    assert caught.value.line == 3


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=st.sampled_from(PUBLISHED), cut=st.floats(0, 1), noise=st.binary(max_size=4))
def test_a_damaged_file_gives_its_questions_or_an_input_error(
    case: tuple[str, str, dict[str, object]], cut: float, noise: bytes, tmp_path: Path
) -> None:
    name, content, _ = case
    whole = content.encode()
    at = int(cut * len(whole))
    path = saved(tmp_path / "damaged", whole[:at] + noise + whole[at + 1 :])
    with contextlib.suppress(InputError):
        assert rows(name, path)


def test_a_truncated_gzip_gives_the_questions_before_the_cut_and_then_the_line(
    tmp_path: Path,
) -> None:
    noise = random.Random(0)
    lines = [
        json.dumps({"question": f"{noise.getrandbits(4000)}?", "gold": str(i)}) + "\n"
        for i in range(300)
    ]
    packed = gzip.compress("".join(lines).encode())
    path = saved(tmp_path / "cut.jsonl.gz", packed[: len(packed) // 2])
    read: list[Labelled] = []
    with pytest.raises(InputError, match="cut short") as caught:
        read.extend(TASKS["gsm8k"](path=path).load())
    assert 0 < len(read) < 300
    assert caught.value.line == len(read) + 1


def test_an_id_that_comes_twice_is_refused_at_its_second_line(tmp_path: Path) -> None:
    line = '{"id": "a", "question": "Why?", "gold": "1"}\n'
    path = saved(tmp_path / "twice.jsonl", line + line)
    with pytest.raises(InputError, match="'a' was used before") as caught:
        rows("jsonl", path)
    assert caught.value.line == 2


def test_a_file_without_a_question_of_the_set_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "other.jsonl", '{"dataset": "bbh_navigate", "question": "x"}')
    with pytest.raises(InputError, match="no question of this set"):
        rows("objectcount", path)


def test_a_missing_file_and_a_folder_are_input_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.jsonl", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            rows("gsm8k", path)


def test_a_byte_order_mark_and_windows_lines_are_read_as_if_they_were_not_there(
    tmp_path: Path,
) -> None:
    content = (
        b'\xef\xbb\xbf{"question": "\xc3\xa9?", "gold": 1}\r\n\r\n{"question": "b", "gold": 2}'
    )
    path = saved(tmp_path / "windows.jsonl", content)
    assert [row["id"] for row in rows("gsm8k", path)] == ["1", "3"]


def test_a_stated_kind_wins_over_the_kind_of_the_task(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "mixed.jsonl",
        '{"question": "a", "gold": "1.0"}\n{"question": "b", "gold": "1.0", "kind": "text"}\n',
    )
    assert [row["gold"] for row in rows("jsonl", path, kind="number")] == ["1", "1.0"]
    with pytest.raises(UsageError, match="colour"):
        rows("jsonl", path, kind="colour")
