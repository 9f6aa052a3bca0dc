"""A stated confidence: asked for, taught as it is generated, measured with nothing filled in."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import stating_model
import tiny_model
import training_pools
from command import call, write_lines
from poise.answers import KINDS
from poise.errors import InputError, UsageError
from poise.pools import read_pools
from poise.rewards import READERS
from poise.train import evaluating, lineage
from poise.train.batches import IGNORED, collate
from poise.train.model import Loaded, load
from poise.train.recipe import Recipe, data, levels_of, prepare
from poise.train.replies import accuracy, answerable
from poise.train.rows import DIGITS, TooLong, end_of_turn, render
from poise.train.sft import Settings
from poise.train.stated import Drawn, drawn, reported
from poise.train.stating import (
    STATED,
    VALUES,
    line_of,
    longer,
    said,
    stated_response,
    stated_row,
    stating,
)
from poise.types import Kind, Prompt, Question, Reply, Sample

torch.set_num_threads(1)

TOKENIZER = tiny_model.tokenizer(stating_model.WORDS)
QUESTION = Question.ask("What is six?", Kind.NUMBER)
SAMPLE = Sample(0, "It is 6.", "6", finish="stop")
ARM = Prompt(examples={Kind.NUMBER: (("What is two?", "2"),)})
PROMPT = stating(ARM)
LINE = line_of(TOKENIZER)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stating_model.save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    return load(folder, device="cpu")


def text(ids: Any) -> str:
    return str(TOKENIZER.decode(list(ids)))


# -- the prompt -----------------------------------------------------------------------------------


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_asking_adds_one_line_to_the_system_message_once(system: str | None) -> None:
    arm = replace(ARM, system=system)
    asked = stating(arm)
    assert asked.system is not None
    assert asked.system.startswith(system or "End with")
    assert asked.system.splitlines()[-1].startswith("End with a line 'Confidence: d'")
    assert stating(asked) == asked
    assert asked.hash(Kind.NUMBER) != arm.hash(Kind.NUMBER)


@pytest.mark.parametrize("kind", [Kind.NUMBER, Kind.YESNO, Kind.TEXT])
def test_worked_examples_are_not_all_sure(kind: Kind) -> None:
    """Easy examples alone would teach "always 9"; each reads as the rewards read a reply."""
    easy = (("What is two?", "2"), ("What is three?", "3"))
    shown = stating(Prompt(examples={kind: easy})).examples[kind]
    assert [question for question, _ in shown[:-1]] == [question for question, _ in easy]
    read = [READERS["digit"](answer) for _, answer in shown]
    assert [each.answer.strip() for each in read[:-1]] == ["2", "3"]
    assert [each.confidence for each in read[:-1]] == [0.95, 0.95]
    assert read[-1].confidence is not None
    assert read[-1].confidence < 0.6
    grade = KINDS[kind].read(Reply(read[-1].answer), None)
    assert grade.answer is not None


def test_an_arm_without_examples_gets_none() -> None:
    assert stating(Prompt("Be brief.")).examples == {}
    choice = {Kind.CHOICE: (("A or B?", "A"),)}
    assert stating(Prompt(examples=choice)).examples == choice


# -- the line -------------------------------------------------------------------------------------


def test_the_reader_of_the_rewards_reads_what_the_line_says() -> None:
    for digit, value in zip(DIGITS, VALUES, strict=True):
        reply = text([*TOKENIZER("It is 6.")["input_ids"], *LINE.start, LINE.digits[int(digit)]])
        read = READERS["digit"](reply)
        assert reply == f"It is 6.\nConfidence: {digit}"
        assert (read.confidence, read.answer, read.start) == (value, "It is 6.\n", 9)


@given(st.floats(0, 1))
def test_the_digit_is_the_nearest_there_is(confidence: float) -> None:
    digit = LINE.digits.index(LINE.states(confidence)[-1])
    best = min(abs(value - confidence) for value in VALUES)
    assert abs(VALUES[digit] - confidence) == pytest.approx(best, abs=1e-12)


def test_a_tokenizer_that_joins_the_digit_to_another_token_is_refused() -> None:
    joined = tiny_model.tokenizer((*stating_model.WORDS, "Ġ7"))
    with pytest.raises(UsageError, match="no token of its own for each digit"):
        line_of(joined)


def test_a_decoding_is_given_room_for_the_line_and_nothing_else() -> None:
    assert longer({"temperature": 0.8, "max_tokens": 4}, LINE) == {
        "temperature": 0.8,
        "max_tokens": 4 + len(LINE.start) + 2,
    }


@pytest.mark.model
def test_the_embedded_model_generates_the_line_token_by_token_as_it_is_trained(
    weights: str,
) -> None:
    from transformers import AutoTokenizer

    found = Path(weights)
    place: dict[str, Any] = {"gguf_file": found.name, "local_files_only": True}
    tokenizer: Any = AutoTokenizer.from_pretrained(str(found.parent), **place)
    line = line_of(tokenizer)
    assert tokenizer.convert_ids_to_tokens(line.start)[-2:] == [":", "Ġ"]
    for reply in ("3 + 4 = 7", "bad", "Yes.", "So 12", "x)"):
        for digit in (0, 7):
            apart = [*tokenizer(reply)["input_ids"], *line.start, line.digits[digit]]
            assert apart == tokenizer(f"{reply}\nConfidence: {digit}")["input_ids"]


# -- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", ["It is 6.", "It is 6. \n", "It is 6.\nConfidence: 3"])
def test_a_row_ends_where_the_digit_is_drawn(reply: str) -> None:
    row = stated_row(TOKENIZER, QUESTION, replace(SAMPLE, text=reply), PROMPT)
    asked = render(TOKENIZER, PROMPT.messages(QUESTION))
    assert text(row) == asked + "It is 6.\nConfidence: "


@settings(max_examples=60)
@given(st.text("abc 0123456789.\n", min_size=1, max_size=12), st.integers(0, 9))
def test_a_response_is_tokenised_as_it_is_generated(reply: str, digit: int) -> None:
    """No token may span text and line: generation comes to the line from the text."""
    clean = said(reply)
    if not clean:
        return
    apart = [*TOKENIZER(clean)["input_ids"], *LINE.start, LINE.digits[digit]]
    assert apart == TOKENIZER(f"{clean}\nConfidence: {digit}")["input_ids"]


def test_a_wrong_text_is_not_taught_but_its_form_is() -> None:
    end = end_of_turn(TOKENIZER)
    rows = {
        whole: stated_response(TOKENIZER, QUESTION, SAMPLE, PROMPT, 0.2, whole=whole)
        for whole in (True, False)
    }
    said_ids = TOKENIZER("It is 6.")["input_ids"]
    for whole, row in rows.items():
        assert row is not None
        learnt = collate([item(row)], 0)["labels"][0].tolist()
        line = [*LINE.start, IGNORED, *end]
        assert learnt == ([*said_ids, *line] if whole else line)
        assert text(row.ids).endswith("It is 6.\nConfidence: 2<|im_end|>")
    assert rows[True] is not None
    assert rows[True].ids[: -len(end) - 1] == stated_row(TOKENIZER, QUESTION, SAMPLE, PROMPT)


def item(row: Any) -> Any:
    from poise.train.batches import Item

    return Item(row.ids, 0.5, row)


def test_a_reply_that_was_cut_teaches_no_form() -> None:
    cut = replace(SAMPLE, finish="length")
    assert stated_response(TOKENIZER, QUESTION, cut, PROMPT, 0.9, whole=True) is None


def test_what_does_not_fit_is_left_out_whole_and_no_text_is_an_error() -> None:
    with pytest.raises(TooLong):
        stated_row(TOKENIZER, QUESTION, SAMPLE, PROMPT, longest=20)
    with pytest.raises(InputError, match="no text to state about"):
        stated_row(TOKENIZER, QUESTION, replace(SAMPLE, text=None), PROMPT)


# -- the recipe -----------------------------------------------------------------------------------


def recipe(**more: Any) -> Recipe:
    loss = Settings(loss="tokenised_brier")
    return Recipe(**{"wording": STATED, "in_use": 0, "target": "labels", "settings": loss, **more})


def test_the_loss_is_over_what_the_ten_digits_mean(loaded: Loaded) -> None:
    levels = levels_of(loaded, STATED)
    assert levels.values == VALUES
    assert [loaded.tokenizer.decode(list(ids)) for ids in levels.tokens] == list(DIGITS)


def test_every_row_learns_the_form_and_rows_above_the_threshold_their_text(
    loaded: Loaded,
) -> None:
    pools = training_pools.pools(8)
    parts = data(pools, {}, recipe(), ARM)
    assert parts.prompt == PROMPT
    made = prepare(loaded, parts.train, parts.prompt, recipe())
    end = end_of_turn(loaded.tokenizer)
    line = len(line_of(loaded.tokenizer).start) + 1 + len(end)
    assert all(one.response is not None for one in made.items)
    kept = [one.response is not None and one.response.response > line for one in made.items]
    assert kept == [one.target > 0.75 for one in made.items]
    assert made.counts["rows_with_response"] == sum(kept) > 0


@pytest.mark.parametrize("wrong", [{"settings": Settings(weight=0.0)}, {"in_use": 16}])
def test_a_recipe_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="stated confidence"):
        recipe(**wrong)


def test_weights_of_targets_are_asked_for_as_p_true() -> None:
    assert recipe().asking == "own"
    assert Recipe(wording="digit").asking == "own"
    assert Recipe(wording="user").asking == "user"


# -- fresh replies --------------------------------------------------------------------------------


def test_fresh_replies_are_read_as_rewards_read_them(loaded: Loaded) -> None:
    pools = training_pools.pools(6)
    decoding = {"temperature": 1.0, "max_tokens": 12}
    found = drawn(loaded, pools, stating(Prompt()), decoding, draws=3, seed=4)
    again = drawn(loaded, pools, stating(Prompt()), decoding, draws=3, seed=4)
    assert found == again
    assert len(found.right) == 18
    assert found.in_form is not None
    assert found.in_form > 0.8
    assert {c for c in found.confidence if c is not None} <= set(VALUES)
    assert found.question[:3] == (pools[0].pool.group,) * 3


def test_a_statement_is_never_taken_for_the_answer(loaded: Loaded) -> None:
    """Of a reply "1, Confidence: 7" the last number is 7."""
    pools = [training_pools.pool(f"q{n}", ["1"], gold="1") for n in range(6)]
    found = accuracy(
        loaded, pools, stating(Prompt()), {"temperature": 1.0, "max_tokens": 12}, draws=8
    )
    assert found.mean is not None
    assert found.mean > 0.15


def some(right: list[int | None], confidence: list[float | None]) -> Drawn:
    m = len(right)
    names = tuple(("d", str(place // 2)) for place in range(m))
    return Drawn(2, names, tuple(right), tuple(confidence), (False,) * m, (5,) * m, (False,) * m)


def test_missing_statements_are_counted_and_in_no_mean() -> None:
    told = reported(some([1, 0, 1, None], [0.95, None, 0.35, 0.65]))
    assert told["in_form"] == {"replies": 4, "states": 3, "share": 0.75}
    assert told["accuracy"]["by_question"] == [0.5, 0.5]
    assert told["accuracy"]["unreadable"] == 1
    assert told["confidence"]["missing"] == 1
    assert told["confidence"]["rows"] == 2
    assert told["right"] == {"replies": 2, "mean": pytest.approx(0.65)}
    assert told["wrong"] == {"replies": 0, "mean": None}


def test_abstention_is_judged_at_the_threshold() -> None:
    found = some([1, 1, 0, 0, 0, 1], [0.95, 0.35, 0.65, 0.05, None, None])
    told = reported(found, threshold=0.5)
    half = {"replies": 2, "count": 1, "share": 0.5, "standard_error": None}  # of one question
    assert told["over_abstention"] == told["under_abstention"] == half
    assert reported(found, threshold=0.0)["over_abstention"]["count"] == 0
    assert reported(found, threshold=0.96)["under_abstention"]["count"] == 0
    with pytest.raises(UsageError, match="threshold"):
        reported(found, threshold=1.0)


def test_the_error_of_a_share_is_over_questions() -> None:
    """Twice the same reply says no more than once; unlike ones of a question say more."""
    chosen = [1, 0, 0, 1, 0, 0, 0, 1, 0, 0]
    p, n = 0.3, len(chosen)
    copied = [0.05 if each else 0.95 for each in chosen for _ in range(2)]
    told = reported(some([1] * 2 * n, copied))["over_abstention"]
    assert told["share"] == pytest.approx(p)
    assert told["standard_error"] == pytest.approx(math.sqrt(p * (1 - p) / (n - 1)))
    opposed = reported(some([1] * 2 * n, [0.05, 0.95] * n))["over_abstention"]
    assert (opposed["share"], opposed["standard_error"]) == (0.5, 0)


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from(VALUES)), min_size=2))
@settings(max_examples=25, deadline=None)
def test_a_higher_threshold_withholds_more_and_gives_less(rows: list[tuple[int, float]]) -> None:
    rows = rows[: len(rows) // 2 * 2]
    found = some([z for z, _ in rows], [c for _, c in rows])
    low, high = (reported(found, threshold=t) for t in (0.3, 0.7))
    assert low["over_abstention"]["count"] <= high["over_abstention"]["count"]
    assert low["under_abstention"]["count"] >= high["under_abstention"]["count"]


def test_nothing_drawn_is_no_number() -> None:
    told = reported(Drawn(1, (), (), (), (), (), ()))
    assert told["in_form"]["share"] is None
    assert told["confidence"]["reason"] == "no sample is graded"
    assert told["over_abstention"]["share"] is None


def test_a_question_is_asked_once_and_only_if_it_can_be_graded() -> None:
    pools = [
        training_pools.pool("a", ["1"]),
        training_pools.pool("a", ["1"], model="other"),
        training_pools.pool("b", ["1"], gold=None),
    ]
    assert [one.pool.question_id for one in answerable(pools)] == ["a"]


def test_stored_samples_are_marked_with_the_confidence_that_would_be_stated(
    loaded: Loaded,
) -> None:
    pools = training_pools.pools(3)
    levels = levels_of(loaded, STATED)
    marked = evaluating.marked(loaded, pools, STATED, levels, prompt=stating(Prompt()))
    values = [s.signals["stated_confidence"] for one in marked for s in one.pool.samples]
    assert all(value is not None and 0.05 <= value <= 0.95 for value in values)


# -- lineage --------------------------------------------------------------------------------------


def test_an_adapter_knows_its_questions_by_what_they_ask(tmp_path: Path) -> None:
    ours = training_pools.pools(3)
    assert lineage.seen(tmp_path) is None
    lineage.remember(tmp_path, ours, ["0" * 16])
    renamed = training_pools.pools(3, dataset="other", question_id="renamed")
    seen = lineage.seen(tmp_path)
    assert seen is not None
    assert len(seen) == 4
    assert {lineage.asked(one) for one in renamed} < seen
    (tmp_path / lineage.FILE).write_text("[]")
    with pytest.raises(InputError, match="not a JSON object"):
        lineage.seen(tmp_path)


# -- the warm start -------------------------------------------------------------------------------


def test_a_warm_start_reports_what_is_stated_beside_p_true(folder: Path, tmp_path: Path) -> None:
    pools = training_pools.pools(12)
    file = write_lines(tmp_path / "p.jsonl", training_pools.records(pools))
    flags = ("-m", folder, "--batch", "8", "--lr", "0.01", "--score", "--quiet", "--json")
    words = (file, "-o", tmp_path / "run", "--wording", "stated", "--answer-above", "0.25", *flags)
    done = call("train", "sft", *words)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["asked"]["recipe"]["settings"]["loss"] == "smooth"
    scored = read_pools(tmp_path / "run" / "scored.jsonl.gz")
    assert all("p_true_own" in s.signals for one in scored for s in one.pool.samples)
    for when in ("before", "after"):
        each = told["evaluation"]["held_out"][when]
        assert each["stated"]["threshold"] == 0.25
        assert each["stated"]["in_form"]["share"] > 0.8
        rows = [each[name]["rows"] + each[name]["missing"] for name in ("p_true", "confidence")]
        assert rows[0] == rows[1] > 0
        assert each["sampled"]["accuracy"] == each["stated"]["accuracy"]["accuracy"]
    seen = lineage.seen(tmp_path / "run" / "adapter")
    assert seen is not None
    assert len(seen) == told["data"]["questions"]


@pytest.mark.parametrize(
    ("words", "said_of_it"),
    [
        (("--answer-above", "0.4"), "--wording stated"),
        (("--wording", "stated", "--in-use", "4"), "--in-use 0"),
        (("--wording", "stated", "--weight", "0"), "--weight above 0"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    folder: Path, tmp_path: Path, words: tuple[str, ...], said_of_it: str
) -> None:
    file = write_lines(tmp_path / "p.jsonl", training_pools.records(training_pools.pools(4)))
    done = call("train", "sft", file, "-o", tmp_path / "run", "-m", folder, *words)
    assert (done.code, said_of_it in done.err) == (2, True), done.err
