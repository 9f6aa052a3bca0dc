"""Rows: what the model sees in training is what it sees in use, whole, in its own template."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.errors import InputError, UsageError
from poise.signals.p_true import PTrue
from poise.train.rows import (
    WORDINGS,
    TooLong,
    confidence_row,
    digit_tokens,
    end_of_turn,
    messages_of,
    padded,
    render,
    response_row,
)
from poise.types import Kind, Prompt, Question, Sample
from tiny_model import tokenizer as tiny_tokenizer

TOKENIZER = tiny_tokenizer()
QUESTION = Question.ask("What is six?", Kind.NUMBER)
SAMPLE = Sample(0, "It is 6.", "6", finish="stop")
PROMPT = Prompt(examples={Kind.NUMBER: (("What is two?", "2"),)})

HEADERS = (
    "{{ '<|endoftext|>' }}{% for m in messages %}<|im_start|>{{ m.role }}<|im_start|>\n\n"
    "{{ m.content | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_start|>\n\n{% endif %}"
)
MARKERS = (
    "{% for m in messages %}{% if m.role == 'user' %}[User]{{ m.content }}"
    "{% else %}[Reply]{{ m.content }}<|endoftext|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[Reply]{% endif %}"
)


def with_template(template: str) -> Any:
    made = tiny_tokenizer()
    made.chat_template = template
    return made


def text(ids: Any, tokenizer: Any = TOKENIZER) -> str:
    return str(tokenizer.decode(list(ids)))


# -- the confidence question ----------------------------------------------------------------------


@pytest.mark.parametrize("wording", ["own", "user", "proposed"])
def test_the_messages_are_those_that_the_signal_sends(wording: Any) -> None:
    asked = PTrue(wording).ask(QUESTION, SAMPLE)
    assert asked is not None
    assert messages_of(QUESTION, SAMPLE, wording) == asked.messages


@pytest.mark.parametrize("wording", WORDINGS)
def test_question_and_response_are_shown_once(wording: str) -> None:
    """The published sampler returned prompt and reply together, so the prompt came twice."""
    shown = text(confidence_row(TOKENIZER, QUESTION, SAMPLE, wording))
    assert shown.count("What is six?") == 1
    assert shown.count("It is 6." if wording in ("own", "digit") else "nswer: 6") == 1
    assert shown.endswith("<|im_start|>assistant\n")


@settings(deadline=None)
@given(st.text("ab cé中", max_size=80), st.integers(110, 260))
def test_the_confidence_question_is_never_cut(said: str, longest: int) -> None:
    """The published code cut rows on the right, where the confidence question stands."""
    sample = Sample(0, f"{said} so 6", "6")
    short = Sample(0, "6", "6")
    ending = text(confidence_row(TOKENIZER, QUESTION, short)).partition("assistant\n6")[2]
    try:
        row = confidence_row(TOKENIZER, QUESTION, sample, longest=longest)
    except TooLong:
        assert len(confidence_row(TOKENIZER, QUESTION, short)) > longest
        return
    assert len(row) <= longest
    shown = text(row)
    assert shown.endswith("6" + ending)
    assert "What is six?" in shown


def test_of_a_long_response_the_start_is_left_out_and_no_more_than_needed() -> None:
    sample = Sample(0, "abcdefghij", "6")
    whole = confidence_row(TOKENIZER, QUESTION, sample)
    row = confidence_row(TOKENIZER, QUESTION, sample, longest=len(whole) - 4)
    assert len(row) == len(whole) - 4
    assert "assistant\nefghij<|im_end|>" in text(row)


@pytest.mark.parametrize("wording", ["own", "user"])
def test_a_question_that_leaves_no_room_is_said_to_be_too_long(wording: str) -> None:
    with pytest.raises(TooLong):
        confidence_row(TOKENIZER, QUESTION, SAMPLE, wording, longest=20)


def test_without_an_answer_there_is_nothing_to_ask() -> None:
    with pytest.raises(InputError, match="sample 3"):
        messages_of(QUESTION, Sample(3, "hm", None, "no number"))


def test_an_unknown_wording_is_refused() -> None:
    with pytest.raises(UsageError, match="must be one of"):
        messages_of(QUESTION, SAMPLE, "nicely")


# -- the template is the tokenizer's --------------------------------------------------------------


@pytest.mark.parametrize("template", [HEADERS, MARKERS])
def test_rows_follow_whatever_template_the_tokenizer_has(template: str) -> None:
    """The published code chose its markers by model name, and got them wrong for Qwen."""
    tokenizer = with_template(template)
    messages = messages_of(QUESTION, SAMPLE)
    row = confidence_row(tokenizer, QUESTION, SAMPLE)
    assert text(row, tokenizer) == tokenizer.apply_chat_template(
        [dict(m) for m in messages], tokenize=False, add_generation_prompt=True
    )
    kept = response_row(tokenizer, QUESTION, SAMPLE, PROMPT)
    end = "<|im_end|>" if template == HEADERS else "<|endoftext|>"
    assert text(kept.ids[-kept.response :], tokenizer) == "It is 6." + end
    before = render(tokenizer, PROMPT.messages(QUESTION))
    assert text(kept.ids[: -kept.response], tokenizer) == before


def test_a_tokenizer_without_a_template_is_refused() -> None:
    with pytest.raises(UsageError, match="no chat template"):
        confidence_row(with_template(""), QUESTION, SAMPLE)


def test_a_template_that_objects_is_quoted() -> None:
    strict = with_template("{{ raise_exception('no second turn') }}")
    with pytest.raises(UsageError, match="no second turn"):
        confidence_row(strict, QUESTION, SAMPLE)


def test_special_tokens_are_not_added_a_second_time() -> None:
    tokenizer = with_template(HEADERS)
    row = confidence_row(tokenizer, QUESTION, SAMPLE)
    assert row.count(tokenizer.convert_tokens_to_ids("<|endoftext|>")) == 1


# -- the response to keep -------------------------------------------------------------------------


def test_only_the_response_carries_the_loss_behind_the_prompt_it_was_drawn_with() -> None:
    row = response_row(TOKENIZER, QUESTION, SAMPLE, PROMPT)
    assert text(row.ids[-row.response :]) == "It is 6.<|im_end|>"
    assert text(row.ids[: -row.response]) == render(TOKENIZER, PROMPT.messages(QUESTION))


@pytest.mark.parametrize(("finish", "ended"), [("stop", 1), (None, 1), ("length", 0)])
def test_a_reply_that_was_cut_does_not_teach_to_stop(finish: str | None, ended: int) -> None:
    row = response_row(TOKENIZER, QUESTION, Sample(0, "six", "6", finish=finish), PROMPT)
    assert text(row.ids[-row.response :]).count("<|im_end|>") == ended


def test_prompt_and_response_are_tokenised_apart_as_in_use() -> None:
    """One pass over both could merge tokens across the border, which no draw ever does."""
    tokenizer = with_template("{% for m in messages %}{{ m.content }}{% endfor %}Y")
    row = response_row(tokenizer, QUESTION, Sample(0, "es", "6", finish="length"), Prompt())
    assert tokenizer("Yes")["input_ids"] == [tokenizer.convert_tokens_to_ids("Yes")]
    assert row.ids[-3:] == tuple(tokenizer.convert_tokens_to_ids(list("Yes")))


def test_of_a_response_row_that_is_too_long_the_end_is_left_out() -> None:
    whole = response_row(TOKENIZER, QUESTION, SAMPLE, PROMPT)
    cut = response_row(TOKENIZER, QUESTION, SAMPLE, PROMPT, longest=len(whole.ids) - 3)
    assert cut.ids == whole.ids[:-3]
    assert cut.response == whole.response - 3
    with pytest.raises(TooLong):
        response_row(TOKENIZER, QUESTION, SAMPLE, PROMPT, longest=len(whole.ids) - whole.response)


def test_a_sample_without_text_has_no_response_to_keep() -> None:
    with pytest.raises(InputError, match="no text"):
        response_row(TOKENIZER, QUESTION, Sample(0, None, "6"), PROMPT)


def test_a_template_without_an_end_of_turn_has_none() -> None:
    bare = with_template("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    assert end_of_turn(bare) == []
    assert end_of_turn(TOKENIZER) == [TOKENIZER.eos_token_id]


# -- batches and digits ---------------------------------------------------------------------------


def test_rows_are_filled_on_the_left_and_the_mask_says_where() -> None:
    made = padded([(1, 2, 3), (4,)], 9)
    assert made.ids == [[1, 2, 3], [9, 9, 4]]
    assert made.mask == [[1, 1, 1], [0, 0, 1]]


def test_each_digit_is_every_token_that_is_that_digit() -> None:
    found = digit_tokens(TOKENIZER)
    assert [text([group[0]]) for group in found] == list("0123456789")
    spaced = digit_tokens(tiny_tokenizer(words=("Ġ7",)))
    assert len(spaced[7]) == 2
    assert len(spaced[6]) == 1


def test_a_tokenizer_without_digits_is_refused() -> None:
    class Wordless:
        def __len__(self) -> int:
            return 2

        def batch_decode(self, rows: Any) -> list[str]:
            return ["7", "12"][: len(rows)]

    with pytest.raises(UsageError, match="no single token for the digits 0, 1, 2"):
        digit_tokens(Wordless())
