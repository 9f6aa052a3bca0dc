"""What follow-ups ask and how their replies are read, and confidences that replies state."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from poise.errors import MissingEvidence, Unusable, UsageError
from poise.signals import (
    Evidence,
    PTrue,
    StatedBand,
    StatedConfidence,
    StatedInline,
    asking,
    compute,
)
from poise.signals.stated import BANDS
from poise.types import FollowUp, Question, Sample, TokenLogprobs

QUESTION = Question.ask("What is 6 * 2?", "number")
SAMPLE = Sample(0, "6 * 2 = {12}", "12")


def asked(name, reply):
    """One sample with this reply about it."""
    return Evidence.single(Sample(0, "12", "12", followups={name: reply}))


def p_true(*tops, tokens=None):
    """P(True) of a reply whose tokens have these alternatives, as text -> probability."""
    top = tuple(tuple((text, math.log(p)) for text, p in one.items()) for one in tops)
    tokens = tokens or tuple(max(one, key=one.get) for one in tops)
    chosen = tuple(dict(one).get(token, -5.0) for token, one in zip(tokens, top, strict=True))
    return PTrue()(asked("p_true", FollowUp("".join(tokens), TokenLogprobs(tokens, chosen, top))))


# -- P(True): what is asked ---------------------------------------------------------------------


def test_the_answer_is_shown_as_the_users_own_or_as_proposed_or_in_the_models_own_words():
    (user,) = PTrue().ask(QUESTION, SAMPLE).messages
    assert "What is 6 * 2?\nMy answer: 12\n" in user["content"]
    (proposed,) = PTrue("proposed").ask(QUESTION, SAMPLE).messages
    assert "Proposed answer: 12\n" in proposed["content"]
    assert " my " not in proposed["content"].lower()
    first, own, back = PTrue("own").ask(QUESTION, SAMPLE).messages
    assert first == QUESTION.messages[0]
    assert own == {"role": "assistant", "content": "6 * 2 = {12}"}
    assert "your answer" in back["content"]


@pytest.mark.parametrize("wording", ["user", "proposed", "own"])
def test_one_token_with_its_alternatives_is_enough_for_p_true(wording):
    ask = PTrue(wording).ask(QUESTION, SAMPLE)
    assert (ask.max_tokens, ask.top_logprobs) == (1, 20)


def test_an_answer_full_of_braces_is_shown_as_it_is():
    sample = Sample(0, "x", "{0} {a} %s")
    for signal in (PTrue(), PTrue("proposed"), StatedConfidence()):
        assert "{0} {a} %s" in signal.ask(QUESTION, sample).messages[-1]["content"]


def test_a_reply_whose_text_was_not_kept_cannot_be_asked_about_as_the_models_own():
    assert PTrue("own").ask(QUESTION, Sample(0, None, "12")) is None
    assert PTrue().ask(QUESTION, Sample(0, None, "12")) is not None


def test_parts_other_than_text_stay_in_the_question():
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    question = Question("1", ({"role": "user", "content": [image]},))
    (message,) = PTrue().ask(question, SAMPLE).messages
    assert message["content"][1] == image
    assert [part["type"] for part in message["content"]] == ["text", "image_url", "text"]


def test_a_wording_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match=r"wording='kind': must be user, proposed or own"):
        PTrue("kind")


def test_signals_of_pools_ask_what_their_samples_need_each_once():
    names = ["leader_p_true", "soft_self_consistency", "agreement", "stated_band", "p_true"]
    assert [signal.name for signal in asking(names)] == ["p_true", "stated_band"]
    assert asking(["stored:p", "stated_inline"]) == ()
    with pytest.raises(UsageError, match="no signal 'x'"):
        asking(["x"])


# -- P(True): how it is read --------------------------------------------------------------------


def test_yes_and_no_are_summed_over_all_their_spellings():
    top = {
        " Yes": 0.2,
        "yes": 0.1,
        "YES.": 0.05,
        "**Yes**": 0.05,
        "True": 0.1,
        "No": 0.1,
        "no": 0.1,
    }
    assert p_true(top) == pytest.approx(0.5 / 0.7)
    assert p_true({"▁Yes": 0.3, "ĠNo": 0.1}) == pytest.approx(0.75)
    assert p_true({"Y": 0.5, "Yesterday": 0.2, "None": 0.15, "False": 0.15}) == 0.0
    assert p_true({"Yes": 0.5, "x": 0.49}) == 1.0


def test_a_side_that_was_not_listed_counts_as_nothing_only_where_it_can_hide_little():
    assert p_true({"Yes": 0.97, "x": 0.01}) == 1.0
    assert p_true({"No": 0.97, "x": 0.01}) == 0.0
    with pytest.raises(Unusable, match="'no' is not among the 2 tokens listed.*leave 0.3 of"):
        p_true({"Yes": 0.6, "x": 0.1})
    with pytest.raises(Unusable, match="'yes' is not among the 1 tokens listed"):
        p_true({"No": 0.8})
    assert p_true({"Yes": 0.6, "No": 0.1}) == pytest.approx(6 / 7)


def test_a_text_listed_twice_is_two_tokens_and_the_chosen_one_is_counted_once():
    twice = (("Yes", math.log(0.2)), ("Yes", math.log(0.1)), ("No", math.log(0.1)))
    reply = FollowUp("Yes", TokenLogprobs(("Yes",), (math.log(0.2),), (twice,)))
    assert PTrue()(asked("p_true", reply)) == pytest.approx(0.75)


def test_a_chosen_token_that_is_not_listed_counts_too():
    reply = FollowUp("No", TokenLogprobs(("No",), (math.log(0.1),), ((("Yes", math.log(0.3)),),)))
    assert PTrue()(asked("p_true", reply)) == pytest.approx(0.75)


@given(
    yes=st.lists(st.floats(0.01, 0.2), min_size=1, max_size=3),
    no=st.floats(0.01, 0.2),
    more=st.floats(0, 0.2),
)
def test_more_probability_on_yes_is_never_less_sure_and_both_sides_mirror(yes, no, more):
    spelled = dict(zip((" Yes", "yes", "TRUE"), yes, strict=False))
    assume(sum(yes) + no >= 0.1)
    before = p_true({**spelled, "No": no})
    assert before == pytest.approx(sum(yes) / (sum(yes) + no))
    assert p_true({**spelled, "yes!": more + 1e-9, "No": no}) >= before - 1e-9
    mirrored = dict(zip((" No", "no", "FALSE"), yes, strict=False))
    assert p_true({**mirrored, "Yes": no}) == pytest.approx(1 - before)


def test_a_reply_about_something_else_has_no_p_true_and_its_mass_is_said():
    with pytest.raises(MissingEvidence, match=r"0\.06 of the probability .* opens with 'The'"):
        p_true({"The": 0.8, "Yes": 0.04, "No": 0.02})


@pytest.mark.parametrize(
    ("tokens", "place"),
    [
        (("<think>", "Yes", "</think>", "\n\n", "Yes"), 4),
        ((" <", "think", ">Yes, but", " No", "</", "think", ">", "Yes", "."), 7),
        (("so No", "</think>", "Yes", "."), 2),
        (("\n", "**", "Yes", "**"), 2),
        (("", "Yes"), 1),
    ],
)
def test_the_first_word_behind_the_thinking_is_the_one_that_is_read(tokens, place):
    tops = [{"Yes": 0.1, "No": 0.8}] * len(tokens)
    tops[place] = {"Yes": 0.6, "No": 0.2}
    assert p_true(*tops, tokens=tokens) == pytest.approx(0.75)


@pytest.mark.parametrize(
    "tokens", [("<think>",), ("<",), ("<think>", "Yes"), ("\n<th", "ink>", "\n"), ("a", "</think>")]
)
def test_a_reply_that_ends_in_its_thinking_has_no_p_true(tokens):
    with pytest.raises(MissingEvidence, match="thinking"):
        p_true(*[{"Yes": 0.6, "No": 0.2}] * len(tokens), tokens=tokens)


@pytest.mark.parametrize(
    "logprobs", [None, TokenLogprobs(("Yes",), (-0.1,)), TokenLogprobs((), (), ())]
)
def test_a_reply_without_top_log_probabilities_has_no_p_true(logprobs):
    with pytest.raises(MissingEvidence, match="top log-probabilities"):
        PTrue()(asked("p_true", FollowUp("Yes", logprobs)))


def test_each_wording_reads_its_own_reply_only():
    reply = FollowUp("Yes", TokenLogprobs(("Yes",), (-0.1,), ((("Yes", -0.1), ("No", -3.0)),)))
    for wording in ("proposed", "own"):
        with pytest.raises(MissingEvidence, match=f"not asked.*p_true_{wording}"):
            PTrue(wording)(asked("p_true", reply))


# -- stated before the answer -------------------------------------------------------------------


def band(reply):
    return StatedBand()(Evidence(followups={"stated_band": FollowUp(reply)}))


@pytest.mark.parametrize("place", range(10))
def test_every_band_is_read_by_its_words_its_numbers_or_both(place):
    label, low = BANDS[place], 10 * place
    centre = pytest.approx(place / 10 + 0.05)
    for reply in (
        *(label, label.upper() + ".", f"I would say {label}, really.", f"**{label}**"),
        *(f"{low}-{low + 10}%: {label}", f"{low}–{low + 10} %", f"{low}% to {low + 10}%"),
        *(f"{low + 5}%", f"{low}%", f"{low + 4}", f"about {low + 3}.5 percent"),
        f"<think>likely</think>\n{label}",
    ):
        assert band(reply) == centre, reply


def test_the_last_band_in_the_reply_wins():
    assert band("0-10% is too low, rather likely") == pytest.approx(0.65)
    assert band("very unlikely? no: likely") == pytest.approx(0.75)
    assert band("100%") == band("90%") == pytest.approx(0.95)
    assert band("very\nunlikely") == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("The answer is 12", "names no band"),
        ("24 * 96 = 1928", "names no band"),
        ("250%", "not between"),
        ("likely, 250%", "not between"),
        ("180-190%", "not between"),
        ("", "no text"),
        (None, "no text"),
        ("<think>likely", "inside its thinking"),
        ("unlikelyness", "names no band"),
    ],
)
def test_a_reply_that_names_no_band_is_missing(reply, said):
    with pytest.raises(MissingEvidence, match=said):
        band(reply)


def test_the_examples_come_behind_a_system_message_and_before_everything_else():
    turns = ({"role": "system", "content": "Be brief."}, *QUESTION.messages)
    messages = StatedBand().ask(Question("1", turns), None).messages
    assert [message["role"] for message in messages] == [
        "system",
        *["user", "assistant"] * 2,
        "user",
    ]
    for label in BANDS:
        assert label in messages[1]["content"]
    for example, expected in ((messages[2], 0.95), (messages[4], 0.05)):
        assert band(example["content"]) == pytest.approx(expected)


# -- stated after the answer --------------------------------------------------------------------


def stated(reply):
    return StatedConfidence()(asked("stated", FollowUp(reply)))


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("85%", 0.85),
        ("85", 0.85),
        ("**85**.", 0.85),
        ("0", 0.0),
        ("1", 0.01),
        ("1%", 0.01),
        ("100", 1.0),
        ("0.85", 0.85),
        ("I'm 99.9% confident that the proposed answer is correct.", 0.999),
        ("From 0% to 100%, 40 %", 0.4),
        ("17 is right: 85/100", 0.85),
        ("8 out of 10", 0.8),
        ("Confidence: 85", 0.85),
        ("85 percent", 0.85),
        ("85\\%", 0.85),
        ("<think>30%</think>85%", 0.85),
        ("I'm not 100% sure: 60%", 0.6),
    ],
)
def test_a_percentage_is_read_as_it_was_asked_for(reply, value):
    assert stated(reply) == pytest.approx(value)


@pytest.mark.parametrize(
    "reply",
    [
        *(
            "The answer is 12",
            "6 * 2 = 12",
            "12 is right",
            "115%",
            "-5%",
            "85.5",
            "101",
            "1/2/2020",
        ),
        *("80-90%", "", None, "yes", "I'm not 100% sure", "85 or 90"),
    ],
)
def test_a_reply_without_a_percentage_in_range_is_missing(reply):
    with pytest.raises(MissingEvidence, match=r"\w+ \w+"):
        stated(reply)


# -- stated in the reply ------------------------------------------------------------------------


def inline(text, **changes):
    return StatedInline()(Evidence.single(Sample(0, text, "12", **changes)))


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("Confidence: 85%", 0.85),
        ("confidence = 0.85", 0.85),
        ("**Confidence:** 85", 0.85),
        ("**Confidence**: 85/100", 0.85),
        ("Confidence (0-100): 85", 0.85),
        ("Confidence:\n85%", 0.85),
        ("Confidence level: .85", 0.85),
        ("My confidence in this is about 85 percent", 0.85),
        ("Confidence: 1%", 0.01),
        ("Confidence: 1.0", 1.0),
        ("Confidence: 100", 1.0),
        ("Confidence: 0", 0.0),
        ("Confidence: 2", 0.02),
        ("Confidence: 17/20", 0.85),
        ("Certainty: 8 out of 10", 0.8),
        ("I am 85% sure", 0.85),
        ("I'm 85 % certain.", 0.85),
        ("85% confident", 0.85),
        ("<confidence>0.85</confidence>", 0.85),
        ("<confidence> 85 </confidence> 3 apples", 0.85),
        ("\\text{Confidence: } 85\\%", 0.85),
        ('{"answer": 12, "confidence": 0.85}', 0.85),
        ("Confidence: 20%. Confidence: 85%", 0.85),
        ("Confidence: 20%. I am 85% sure", 0.85),
        ("85% sure. Hm, confidence: 20%", 0.2),
        ("Confidence: 200%. No: confidence: 20%", 0.2),
    ],
)
@pytest.mark.parametrize("around", ["{}", "6 * 2 = 12, 50% more.\n{}\n", "Of 40 sure things. {}"])
def test_a_confidence_is_read_wherever_a_reply_names_it(said, value, around):
    assert inline(around.format(said)) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        *("12", "The answer is 0.85", "85%", "85/100", "The probability is 0.85", "0.85"),
        "A 95% confidence interval from 1 to 3",
        "The confidence interval is 95% wide",
        *("I'm not 100% sure", "I am not entirely 100% certain", "I can never be 100% sure"),
        *("Confidence is high. 85 apples", "I am confident that 12 is right", "12 sure bets"),
        "Confidence grew because 12 apples",
        *("</confidence> 85", "overconfidence: 85%", "Confidence: 80-90%", "Confidence: 1/2/2020"),
        "<think>Confidence: 85%</think>12",
    ],
)
def test_a_number_that_is_not_named_a_confidence_is_none(text):
    with pytest.raises(MissingEvidence, match="states no confidence"):
        inline(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Confidence: 115%", "'115%' is not between"),
        ("Confidence: -5%", "not between"),
        ("Confidence: 85.5", "not between"),
        ("Confidence: 5/4", "not between"),
        ("Confidence: 5/0", "not between"),
        ("Confidence: 20%. Confidence: 115%", "not between"),
        ("Confidence: 1", '"1": 1 % or certainty'),
        ("<confidence>1</confidence>", '"1": 1 % or certainty'),
        ("<think>Confidence: 85%", "inside its thinking"),
        ("", "no text"),
    ],
)
def test_a_confidence_out_of_range_or_of_two_meanings_is_missing_with_its_reason(text, said):
    with pytest.raises(MissingEvidence, match=said):
        inline(text)


def test_where_the_text_was_not_kept_a_stored_confidence_is_taken():
    assert inline(None, signals={"stated_inline": 0.625}) == 0.625
    with pytest.raises(MissingEvidence, match="states no confidence"):
        inline("12", signals={"stated_inline": 0.625})
    with pytest.raises(MissingEvidence, match="text was not kept"):
        inline(None)
    with pytest.raises(MissingEvidence, match=r"is 7, not in \[0, 1\]"):
        inline(None, signals={"stated_inline": 7})


SPEECH = st.lists(
    st.sampled_from(
        [
            *("0123456789"),
            *("85", "%", ".", "/", " ", "-", "\n", "confidence", ": ", " sure", "likely", "not "),
            *("<confidence>", "100", "to", "out of"),
        ]
    ),
    max_size=25,
).map("".join)


@given(text=st.one_of(SPEECH, st.text(max_size=40)))
def test_whatever_a_model_says_gives_a_share_or_a_reason(text):
    reply = FollowUp(text)
    sample = Sample(0, text, "12", followups={"stated": reply})
    values, missing = compute(["stated", "stated_inline"], Evidence.single(sample))
    more, absent = compute(["stated_band"], Evidence(followups={"stated_band": reply}))
    for name, value in {**values, **more}.items():
        assert (value is None) == (name in {**missing, **absent})
        assert value is None or 0 <= value <= 1


@pytest.mark.parametrize(
    "text", ["confidence " * 9999, "1" * 99_999, "9 - " * 30_000, "-%/" * 30_000]
)
def test_a_long_reply_is_read_in_linear_time(text):
    sample = Sample(0, text, "12", followups={"stated": FollowUp(text)})
    compute(["stated", "stated_inline"], Evidence.single(sample))
    compute(["stated_band"], Evidence(followups={"stated_band": FollowUp(text)}))
