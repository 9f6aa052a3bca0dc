"""Reading and comparing answers of every kind that has no file of its own; what holds for all."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from poise.answers import KINDS, Reading, read
from poise.types import Kind, Reply

NUMBER, CHOICE, YESNO, TEXT, JSON = Kind.NUMBER, Kind.CHOICE, Kind.YESNO, Kind.TEXT, Kind.JSON
CITIES = ("A) Paris", "London", "New London", "a cat.")


def answer(text: str | None, kind: Kind, options: tuple[str, ...] | None = None) -> str | None:
    return read(Reply(text, finish="stop"), kind, options).answer


def reason(text: str | None, kind: Kind, options: tuple[str, ...] | None = None) -> str:
    reading = read(Reply(text, finish="stop"), kind, options)
    assert reading.answer is None, reading
    assert reading.reason
    return reading.reason


# -- what holds for every kind ----------------------------------------------------------------

PIECES = st.sampled_from(
    [
        "answer is",
        "Answer:",
        "\\boxed{",
        "}",
        "{",
        "$",
        "\\(",
        "\\)",
        "\\[",
        "=",
        "1,234",
        "-",
        ".5",
        "/2",
        "\\frac{1}{2}",
        "x^2",
        "\\text{",
        "yes",
        "no",
        "(B)",
        "B)",
        "the ",
        "**",
        "####",
        "not ",
        "<think>",
        "</think>",
        '["a",1.0]',
        '{"k":[]}',
        "```\n",
        "\n",
        " ",
        "\u2212",
        "½",
        "\ud800",
        "\x00",
    ]
)
REPLIES = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join))


@given(text=REPLIES, kind=st.sampled_from(Kind), finish=st.sampled_from(["stop", "length", None]))
@settings(max_examples=500, deadline=None)
@example(text="\\boxed{answer is 5}", kind=Kind.MATH, finish=None)
@example(text='an"swer is x', kind=Kind.TEXT, finish=None)
def test_whatever_is_read_reads_back_as_itself_and_can_be_stored(text, kind, finish):
    reading = read(Reply(text, finish=finish), kind)
    if reading.answer is None:
        assert reading.reason
        return
    assert answer(reading.answer, kind) == reading.answer
    reading.answer.encode()
    assert "\x00" not in reading.answer
    assert KINDS[kind].same(reading.answer, reading.answer)


@given(a=REPLIES, b=REPLIES, kind=st.sampled_from([NUMBER, CHOICE, YESNO, TEXT, JSON]))
@settings(deadline=None)
def test_being_the_same_does_not_depend_on_the_order(a, b, kind):
    same = KINDS[kind].same
    assert same(a, b) == same(b, a)
    assert same(a, a)


LONG = {
    "digits": "9" * 100_000,
    "digits and powers": "10" * 50_000 + "^",
    "commas": "1," * 50_000,
    "slashes": "1/" * 50_000,
    "numbers": "1 = " * 25_000,
    "boxes": "\\boxed{" * 14_000,
    "closed boxes": "\\boxed{" * 7_000 + "}" * 7_000,
    "dollars": "$ $a" * 25_000,
    "round": "\\(" * 50_000,
    "square": "\\[ " * 33_000,
    "fences": "```\n" * 25_000,
    "objects": '{"a":' * 20_000,
    "arrays": "[" * 100_000,
    "shallow arrays": '["x[' * 25_000,
    "blanks": " x" + " " * 100_000 + "x",
    "lines": "\n" * 50_000 + "B" + "\n" * 50_000 + "no",
    "stars": "*" * 100_000 + "B",
    "letters": "x" * 100_000,
    "words": "no one is not true " * 5_000,
    "answers": "answer is " * 10_000,
    "controls": "\x00\x1b\u202e" * 33_000,
    "backslashes": "\\" * 100_000,
    "opened thinking": "<think>" * 14_000,
    "dashes": "a-" * 50_000,
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("kind", Kind)
def test_a_hundred_kilobytes_of_anything_are_read_in_under_a_second(name, kind):
    begun = time.process_time()  # of this process alone: another job on the machine is no defect
    read(Reply(LONG[name]), kind, CITIES if kind is CHOICE else None)
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("text", [None, "", " \n\t", "<think>so 7", "<think>7, yes (B)</think> "])
def test_a_reply_without_a_final_text_is_unreadable_with_a_reason(text, kind):
    assert reason(text, kind)


def test_thinking_is_not_read():
    assert answer("<think>It is 9.\nNo.</think>\nYes", YESNO) == "yes"
    assert answer("it is 9</think>Paris", TEXT) == "paris"


def test_a_stored_answer_is_taken_as_it_is():
    stored = Reply("the answer is 3", answer="4.0", answered=True)
    assert read(stored, NUMBER) == Reading("4.0", None)
    assert read(Reply("the answer is 3", answered=True), NUMBER).answer is None


@pytest.mark.parametrize("pair", [(None, None), ("1", "why")])
def test_a_reading_is_an_answer_or_a_reason(pair):
    with pytest.raises(ValueError, match="never both or neither"):
        Reading(*pair)


def test_only_maths_is_slow_and_every_kind_is_there():
    assert set(KINDS) == set(Kind)
    assert [kind for kind in Kind if KINDS[kind].slow] == [Kind.MATH]


# -- choice -----------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", "ABCD")
@pytest.mark.parametrize(
    "form",
    [
        "{0}",
        "({0})",
        "{0})",
        "{0}.",
        "{0}: it is",
        "**{0}**",
        "\\boxed{{{0}}}",
        "Option {0}.",
        "\\boxed{{\\text{{({0})}}}}",
        "The answer is {0}",
        "the answer is **({0})**, not (A) or (D)",
        "Answer: {0} because (A) and (B) fail",
        "I take ({0})",
        "(A) or (B)?\n**Answer: {0}) that**",
    ],
)
def test_a_letter_written_as_a_choice_is_read(form, letter):
    assert answer(form.format(letter), CHOICE) == letter
    assert answer(form.format(letter), CHOICE, CITIES) == letter


@pytest.mark.parametrize(
    "text",
    [
        "A dog barks.",
        "The answer is a dog",
        "Answer: A cat sat",
        "(A) or (B)",
        "A)\nB)",
        "f(x)",
        "The answer is B and C",
        "the answer is (B) or (C)",
        "Answer: B, C",
        "\\boxed{12} so (B)",
    ],
)
def test_articles_and_several_letters_are_no_choice(text):
    assert reason(text, CHOICE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is paris.", "A"),
        ("new london", "C"),
        ("London!", "B"),
        ("\\boxed{Paris}", "A"),
        ("The answer is London, of course.", "B"),
        ("(Z)", None),
        ("The answer is Z.", None),
        ("Paris or London", None),
        ("Parish", None),
        ("A cat", "D"),
        ("Berlin", None),
    ],
)
def test_an_option_may_be_named_by_its_text(text, expected):
    assert answer(text, CHOICE, CITIES) == expected


def test_an_option_given_twice_cannot_be_named_by_its_text():
    assert answer("8.75", CHOICE, ("8.75", "8", "8.75")) is None
    assert answer("it is 8", CHOICE, ("8.75", "8", "8.75")) == "B"
    assert answer("it is 8.75", CHOICE, ("8", "9")) is None


# -- yes or no --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes, it is", "yes"),
        ("no.", "no"),
        ("**No**", "no"),
        ("TRUE", "yes"),
        ("false", "no"),
        ("It is not true.", "no"),
        ("It isn't true", "no"),
        ("I think yes", "yes"),
        ("No, yes would be wrong", "no"),
        ("No proof, but the answer is yes", "yes"),
        ("\\boxed{\\text{No}} yes", "no"),
        ("The answer is no because yes is wrong", "no"),
        ("The answer is clear. Yes.", "yes"),
        ("So, no!", "no"),
        ("maybe yes, maybe no.", None),
        ("No one knows", None),
        ("there is no proof", None),
        ("42", None),
        ("nobody", None),
    ],
)
def test_yes_and_no_are_read_where_they_answer(text, expected):
    assert answer(text, YESNO) == expected


# -- text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('The answer is: "The Beatles".', "beatles"),
        ("Paris\nbecause", "paris"),
        ("**A**", "a"),
        ("New-York, (USA)", "new york usa"),
        ("Vitamin A", "vitamin a"),
        ("ﬁn", "fin"),
        ("the", "the"),
        ("Sure!\nAnswer: Zoë", "zoë"),
        ("“O’Neil”", "oneil"),
        ("3.5 %", "3.5 %"),
        ("...", None),
        ("x" * 201, None),
        ("x" * 200, "x" * 200),
        ("\x00", None),
    ],
)
def test_short_texts_are_compared_without_dress(text, expected):
    assert answer(text, TEXT) == expected


def test_a_cut_short_text_is_unreadable_unless_its_line_was_finished():
    assert read(Reply("The answer is Par", finish="length"), TEXT).answer is None
    assert read(Reply("Paris\nis the cap", finish="length"), TEXT).answer == "paris"
