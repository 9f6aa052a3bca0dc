"""Question sets made from a seed, gold spellings, writing, and ``python -m poise.tasks``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.errors import InputError, RefusedError, UsageError
from poise.tasks import TASKS, Labelled, write
from poise.tasks.arithmetic import GRADES, PARTS, Arithmetic
from poise.tasks.facts import Facts
from poise.tasks.gold import bare_options, letter, number, yes_or_no
from poise.tasks.jsonl import Jsonl
from poise.tasks.shares import shares
from poise.tasks.words import Words
from poise.types import Kind

# -- arithmetic ---------------------------------------------------------------------------------


def unordered(row: Labelled) -> tuple[str, frozenset[int]]:
    _, _, a, op, b = row.question.text.rstrip("?").split()
    return op, frozenset((int(a), int(b)))


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**64), fit=st.integers(1, 1500), test=st.integers(1, 900))
def test_the_parts_of_a_seed_share_no_sum_whatever_their_counts(
    seed: int, fit: int, test: int
) -> None:
    first = list(Arithmetic(fit, seed, "fit").load())
    second = list(Arithmetic(test, seed, "test").load())
    assert len(first) == fit
    assert len(second) == test
    ids = [row.question.id for row in first + second]
    assert len(set(ids)) == len(ids)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000))
def test_no_sum_is_asked_twice_not_even_the_other_way_round(seed: int) -> None:
    asked = list(Arithmetic(1800, seed).load())
    sums = [unordered(row) for row in asked if "-" not in row.question.id]
    assert max(Counter(sums).values()) == 1
    assert len({row.question.text for row in asked}) == 1800


def test_every_gold_answer_is_what_its_question_evaluates_to() -> None:
    for row in Arithmetic(1800, 7).load():
        a, op, b = row.question.text.removeprefix("What is ").removesuffix("?").split(" ")
        exact = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[op](int(a), int(b))
        assert row.gold == str(exact)
        assert exact >= 0
        assert row.question.kind is Kind.NUMBER


def test_eighteen_hundred_sums_split_over_the_grades_by_their_weights() -> None:
    fit = Counter(row.question.segment for row in Arithmetic(1200, 1, "fit").load())
    test = Counter(row.question.segment for row in Arithmetic(600, 1, "test").load())
    assert sum(grade.weight for grade in GRADES.values()) == 1800
    for name, grade in GRADES.items():
        assert abs(fit[name] - grade.weight * 2 / 3) <= 1
        assert abs(test[name] - grade.weight / 3) <= 1


SIZES = [55, 55, 55, 45, 45, 72, 45, 72, 648, 810, 810, 4050, 4050, 4095, 8100, 405_405, 405_450]


def test_the_grades_hold_as_many_sums_as_counting_by_hand_gives() -> None:
    assert [grade.size for grade in GRADES.values()] == SIZES


@pytest.mark.parametrize("name", list(GRADES)[:15])
def test_a_draw_gives_each_sum_of_its_grade_once(name: str) -> None:
    grade = GRADES[name]
    drawn = [pair if grade.op == "-" else (min(pair), max(pair)) for pair in grade.draw(3)]
    assert len(set(drawn)) == len(drawn) == grade.size


def test_no_sum_is_in_two_grades() -> None:
    easy = [grade for grade in GRADES.values() if grade.size < 5000]
    sums = [(grade.op, min(pair), max(pair)) for grade in easy for pair in grade.draw(0)]
    assert len(set(sums)) == len(sums)


def test_the_same_seed_gives_the_same_questions_and_another_seed_others() -> None:
    first, again, other = (
        [row.to_line() for row in Arithmetic(200, seed, "fit").load()] for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_a_smaller_draw_of_a_part_is_contained_in_a_larger_one() -> None:
    few = {row.question.text for row in Arithmetic(120, 9, "fit").load()}
    many = {row.question.text for row in Arithmetic(1200, 9, "fit").load()}
    assert few < many


def test_the_head_of_a_part_is_a_mix_of_grades() -> None:
    head = [row.question.segment for row in Arithmetic(1200, 2, "fit").load()][:100]
    assert len(set(head)) >= 12


def test_commuting_operands_come_in_both_orders() -> None:
    tens = [row.question.text.split() for row in Arithmetic(40, 4, grades=("tens +",)).load()]
    larger_first = sum(int(a) > int(b.rstrip("?")) for _, _, a, _, b in tens)
    assert 5 < larger_first < 35


def test_an_id_names_the_sum_whichever_operand_stands_first() -> None:
    one, two = (list(Arithmetic(45, seed, grades=("tens +",)).load()) for seed in (1, 2))
    assert {row.question.id for row in one} == {row.question.id for row in two}
    assert {row.question.text for row in one} != {row.question.text for row in two}


@pytest.mark.parametrize(("part", "available"), [("fit", 37), ("test", 18), ("all", 55)])
def test_asking_for_more_sums_than_there_are_is_refused_with_their_number(
    part: str, available: int
) -> None:
    assert len(list(Arithmetic(available, 1, part, ("1-digit +",)).load())) == available
    with pytest.raises(RefusedError, match=f"only {available}"):
        list(Arithmetic(available + 1, 1, part, ("1-digit +",)).load())


@pytest.mark.parametrize(
    "task",
    [
        Arithmetic(10, part="train"),
        Arithmetic(10, grades=("4-digit +",)),
        Arithmetic(10, grades=()),
        Arithmetic(0),
    ],
)
def test_arithmetic_that_makes_no_sense_is_a_usage_error(task: Arithmetic) -> None:
    with pytest.raises(UsageError):
        list(task.load())


def test_the_parts_cover_every_sum_of_a_grade() -> None:
    assert sorted(PARTS["fit"] + PARTS["test"]) == sorted(PARTS["all"])
    fit, test, everything = (
        {row.question.id for row in Arithmetic(count, 8, part, ("tens -",)).load()}
        for part, count in (("fit", 30), ("test", 15), ("all", 45))
    )
    assert fit | test == everything


@given(
    groups=st.lists(st.tuples(st.integers(1, 400), st.integers(0, 60)), min_size=1, max_size=9),
    data=st.data(),
)
def test_shares_sum_exactly_stay_within_what_there_is_and_follow_the_weights(
    groups: list[tuple[int, int]], data: st.DataObject
) -> None:
    weights, available = [w for w, _ in groups], [a for _, a in groups]
    if not sum(available):
        return
    count = data.draw(st.integers(1, sum(available)))
    given_ = shares(count, weights, available)
    assert sum(given_) == count
    assert all(0 <= got <= most for got, most in zip(given_, available, strict=True))
    # Whoever got less than a heavier or equal group per weight has nothing more to give.
    for i, got in enumerate(given_):
        for j, other in enumerate(given_):
            if (got + 1) * weights[j] < (other - 1) * weights[i]:
                assert got == available[i]


# -- facts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_facts_are_balanced_in_every_segment_and_never_repeat(seed: int) -> None:
    asked = list(Facts(400, seed).load())
    cells = Counter((row.question.segment, row.gold) for row in asked)
    assert set(cells.values()) == {50}
    assert {row.question.kind for row in asked} == {Kind.YESNO}
    assert len({row.question.text for row in asked}) == 400
    assert len({row.question.id for row in asked}) == 400


def test_facts_about_numbers_are_true_exactly_when_the_gold_says_yes() -> None:
    checked = 0
    for row in Facts(600, 3).load():
        words = row.question.text.rstrip("?").split()
        if row.question.segment == "comparison":
            a, b = int(words[1]), int(words[4])
            true = a > b if words[2] == "greater" else a < b
        elif row.question.segment == "parity":
            true = (int(words[1]) % 2 == 0) == (words[3] == "even")
        else:
            continue
        checked += 1
        assert row.gold == ("yes" if true else "no")
    assert checked > 300


def test_a_capital_or_category_is_affirmed_once_and_denied_for_another() -> None:
    asked = {row.question.text: row.gold for row in Facts(600, 1).load()}
    assert asked["Is Paris the capital of France?"] == "yes"
    assert asked["Is a dog an animal?"] == "yes"
    france = [gold for text, gold in asked.items() if text.endswith("capital of France?")]
    assert sorted(france) == ["no", "yes"]


def test_facts_depend_on_the_seed_alone() -> None:
    first, again, other = ([r.to_line() for r in Facts(100, s).load()] for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_more_facts_than_there_are_is_refused() -> None:
    with pytest.raises(RefusedError, match="there are only"):
        list(Facts(100_000).load())


# -- gold answers ------------------------------------------------------------------------------


@given(value=st.decimals(-(10**12), 10**12, places=4))
def test_a_number_keeps_its_value_and_has_one_spelling(value: Decimal) -> None:
    spelled = number(f"{value:,f}")
    assert spelled is not None
    assert Decimal(spelled) == value
    assert number(spelled) == number(f"{value:f}000") == spelled


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("1,234", "1234"),
        (76.0, "76"),
        (-0.0, "0"),
        ("-0", "0"),
        (".50", "0.5"),
        ("5.", "5"),
        ("$1,000.10", "1000.1"),
        (1e22, "10000000000000000000000"),
        ("1,23", None),
        ("1/2", None),
        ("", None),
        (".", None),
        ("٣", None),
        ("1e9", None),
        (float("inf"), None),
        (True, None),
        ([1], None),
    ],
)
def test_numbers_are_spelled_plainly_or_not_at_all(written: object, canonical: str | None) -> None:
    assert number(written) == canonical


def test_letters_yes_and_no_and_options_lose_their_decoration() -> None:
    assert [letter(text, 3) for text in ("b", "(C)", "A)", "D", "AB", 1)] == [
        *("B", "C", "A"),
        *(None, None, None),
    ]
    assert [yes_or_no(value) for value in ("Yes", "FALSE", True, False, "y", 1)] == [
        *("yes", "no", "yes", "no"),
        *(None, None),
    ]
    assert bare_options(("A) x", "(b) y")) == ("x", "y")
    assert bare_options(("B) x", "A) y")) == ("B) x", "A) y")


# -- writing and the command --------------------------------------------------------------------


def saved(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def command(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "poise.tasks", *map(str, arguments)],
        capture_output=True,
        check=False,
    )


def test_what_is_written_is_read_back_the_same(tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.jsonl.gz"):
        asked = list(Facts(40, 1).load())
        assert write(asked, tmp_path / name) == 40
        assert list(Jsonl(tmp_path / name).load()) == asked
    assert (tmp_path / "out.jsonl.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_an_output_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out = saved(tmp_path / "out.jsonl", "before")
    broken = saved(tmp_path / "in.jsonl", '{"question": "a", "gold": "1"}\n{"question": ')
    with pytest.raises(InputError):
        write(TASKS["gsm8k"](path=broken).load(), out, overwrite=True)
    with pytest.raises(UsageError, match="--overwrite"):
        write(Facts(4).load(), out)
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_the_same_questions_give_the_same_gzip_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one.gz", tmp_path / "two.gz"
    write(Facts(40, 1).load(), one)
    write(Facts(40, 1).load(), two)
    assert one.read_bytes() == two.read_bytes()


def test_an_output_in_a_missing_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write(Facts(4).load(), tmp_path / "nowhere" / "out.jsonl")


def test_the_command_writes_a_question_file(tmp_path: Path) -> None:
    out = tmp_path / "fit.jsonl"
    done = command(
        "arithmetic", "--part", "fit", "-n", "60", "--seed", "3", "--limit", 9, "-o", out
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    expected = [row.to_dict() for row in Arithmetic(60, 3, "fit").load()][:9]
    assert [json.loads(line) for line in out.read_text().splitlines()] == expected


def test_the_command_shuffles_a_file_by_its_seed_onto_standard_output(tmp_path: Path) -> None:
    lines = [json.dumps({"id": str(i), "question": "é?", "gold": "1"}) for i in range(50)]
    path = saved(tmp_path / "in.jsonl", "\n".join(lines))
    done = command("jsonl", path, "--seed", "1", "--kind", "number")
    found = [json.loads(line)["id"] for line in done.stdout.decode().splitlines()]
    assert done.returncode == 0
    assert sorted(found, key=int) == [str(i) for i in range(50)] != found


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["gsm8k", "nothing.jsonl"], 3, "nothing.jsonl: cannot be read"),
        (["colours"], 2, "invalid choice: 'colours'"),
        (["arithmetic", "-n", "99", "--grades", "1-digit +"], 4, "there are only 55"),
    ],
)
def test_the_command_reports_an_error_in_one_line_with_its_exit_code(
    arguments: list[str], code: int, said: str
) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.startswith(b"poise.tasks: ")
    assert done.stderr.count(b"\n") == 1
    assert said in done.stderr.decode()


def test_a_reader_that_has_seen_enough_ends_the_command_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "poise.tasks", "arithmetic", "-n", "5000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        os.read(process.stdout.fileno(), 10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


# -- words --------------------------------------------------------------------------------------


def test_words_are_asked_once_each_and_evenly_over_the_segments() -> None:
    asked = list(Words(210, 5).load())
    assert len({row.question.text for row in asked}) == len({row.question.id for row in asked})
    assert len(asked) == 210
    assert set(Counter(row.question.segment for row in asked).values()) == {70}
    assert all(row.question.kind is Kind.TEXT and row.gold.isalpha() for row in asked)


def test_every_word_has_one_answer_and_no_opposite_is_the_word_itself() -> None:
    asked = list(Words(241, 1).load())
    assert len({row.question.text for row in asked}) == 241
    for row in asked:
        if row.question.segment == "opposite":
            assert row.gold not in row.question.text.split()
