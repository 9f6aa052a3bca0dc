"""The nouns: what a prompt sends and is called, what a state sums up, what a result says."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise import Arm, Beta, Kind, Policy, Prompt, Question, Scripted, Spend, StopReason
from poise.solve import Setting, solve_sync
from poise.types import Draw, Message, Result, State, Stop

PROMPT = Prompt(
    "Answer briefly.",
    {
        Kind.NUMBER: (("What is 3 + 4?", "7"), ("What is 1 + 1?", "2")),
        Kind.YESNO: (("Up?", "Yes"),),
    },
)

texts = st.text(min_size=1, max_size=12)
kinds = st.none() | st.sampled_from(list(Kind))
examples = st.dictionaries(
    st.sampled_from(list(Kind)), st.lists(st.tuples(texts, texts), max_size=2).map(tuple)
)
prompts = st.builds(Prompt, st.none() | texts, examples)


# -- questions and prompts -----------------------------------------------------------------------


def test_a_question_is_one_user_turn() -> None:
    question = Question.ask("Is 9 odd?", "yesno", id="q", options=("yes", "no"), segment="s")
    assert question.messages == ({"role": "user", "content": "Is 9 odd?"},)
    assert (question.id, question.kind, question.text) == ("q", Kind.YESNO, "Is 9 odd?")
    assert (question.options, question.segment) == (("yes", "no"), "s")


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="numbr"):
        Question.ask("What is 3 + 4?", "numbr")


def test_the_text_of_a_conversation_is_its_last_message() -> None:
    parts = [{"type": "text", "text": "How many?"}, {"type": "image_url", "image_url": "…"}]
    assert _conversation("What?", "It.", "How many?").text == "How many?"
    assert json.loads(Question("q", ({"role": "user", "content": parts},)).text) == parts


def _conversation(*turns: str, **more: Any) -> Question:
    roles = ("user", "assistant")
    messages = tuple({"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns))
    return Question("q", messages, **more)


@given(prompts, kinds, st.lists(texts, min_size=1, max_size=3))
def test_a_prompt_puts_system_and_examples_before_an_untouched_conversation(
    prompt: Prompt, kind: Kind | None, turns: list[str]
) -> None:
    question = _conversation(*turns, kind=kind)
    messages = prompt.messages(question)
    shown = prompt.examples.get(kind, ()) if kind else ()
    head = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
    for asked, answered in shown:
        head.append({"role": "user", "content": asked})
        head.append({"role": "assistant", "content": answered})
    assert messages == (*head, *question.messages)


def test_examples_are_shown_for_their_own_kind_only() -> None:
    shown = [len(PROMPT.messages(Question.ask("?", kind))) for kind in ("number", "yesno", "text")]
    assert shown == [6, 4, 2]
    assert len(PROMPT.messages(Question.ask("?"))) == 2


def test_options_are_listed_once_behind_the_question_and_nowhere_else() -> None:
    question = _conversation("Hello", "Hi", "Which?", kind=Kind.CHOICE, options=("cat", "dog"))
    *earlier, last = Prompt("Be brief.").messages(question)
    assert last == {"role": "user", "content": "Which?\nA) cat\nB) dog"}
    assert [message["content"] for message in earlier] == ["Be brief.", "Hello", "Hi"]
    # Sending it again lists them again, not twice: the question itself is as it was.
    assert Prompt().messages(question)[-1] == last
    assert question.text == "Which?"


def test_options_follow_a_question_made_of_parts() -> None:
    image: Message = {"type": "image_url", "image_url": {"url": "https://x/cat.png"}}
    message = {"role": "user", "content": [image]}
    (sent,) = Prompt().messages(Question("q", (message,), Kind.CHOICE, ("cat", "dog")))
    assert sent["content"] == [image, {"type": "text", "text": "A) cat\nB) dog"}]
    assert message["content"] == [image]


@given(prompts, kinds)
def test_a_prompts_name_is_stable_and_twelve_hexadecimal_digits(
    prompt: Prompt, kind: Kind | None
) -> None:
    name = prompt.hash(kind)
    assert name == Prompt(prompt.system, dict(prompt.examples)).hash(kind)
    assert len(name) == 12
    assert set(name) <= set("0123456789abcdef")


@given(prompts, prompts, kinds)
def test_two_prompts_have_one_name_exactly_when_questions_of_the_kind_see_no_difference(
    a: Prompt, b: Prompt, kind: Kind | None
) -> None:
    question = Question.ask("?", kind)
    same = a.messages(question) == b.messages(question)
    assert (a.hash(kind) == b.hash(kind)) == same


def test_a_prompts_name_is_the_same_in_every_version() -> None:
    """It is part of an arm's key in stored pools and journals: changing it orphans them."""
    assert Prompt().hash(None) == "b7f343d070bf"
    assert PROMPT.hash(Kind.NUMBER) == "5f62d57e1699"


def test_an_arms_key_names_all_that_changes_its_draws() -> None:
    arm = Arm(Scripted("12", model="m"), {"temperature": 0.5}, PROMPT)
    assert arm.key(Kind.NUMBER) == {
        "engine": "scripted",
        "model": "m",
        "decoding": {"temperature": 0.5},
        "prompt_hash": PROMPT.hash(Kind.NUMBER),
    }
    assert arm.key(Kind.NUMBER) != arm.key(Kind.YESNO)


# -- state, draw and stop ------------------------------------------------------------------------


@given(st.lists(st.integers(1, 50), max_size=6))
def test_the_top_two_are_the_two_largest_counts(counts: list[int]) -> None:
    assert State(counts=tuple(counts)).top_two == tuple(sorted([*counts, 0, 0])[:-3:-1])


def test_a_state_counts_unreadable_samples_as_drawn() -> None:
    state = State(clusters=(0, None, 0, 1), counts=(2, 1), answers=("12", "13"))
    assert (state.n, state.top_two) == (4, (2, 1))
    assert (State().n, State().top_two) == (0, (0, 0))


@pytest.mark.parametrize("n", [0, -1])
def test_drawing_nothing_is_not_a_decision(n: int) -> None:
    with pytest.raises(ValueError, match="Stop"):
        Draw(n)


@pytest.mark.parametrize("noun", [Question.ask("?"), State(), Draw(1), Stop(StopReason.SURE)])
def test_nouns_cannot_be_changed(noun: Any) -> None:
    name = dataclasses.fields(noun)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(noun, name, None)
    assert not hasattr(noun, "__dict__")


# -- results -------------------------------------------------------------------------------------

WIRE = {
    "capability",
    *("schema", "id", "question_id", "kind", "answer", "text", "decision", "probability", "about"),
    *("interval", "interval_kind", "calibrated", "reason", "profile", "signals", "missing"),
    *("n_samples", "votes", "stop", "rounds", "model", "decoding", "route", "spend"),
}
SPEND = {
    *("calls", "samples", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *(
        "reasoning_tokens",
        "cancelled_tokens",
        "held_samples",
        "held_tokens",
        "seconds",
        "usd",
        "estimated",
    ),
}


def solved(*draws: str, kind: str | None = "number") -> Result:
    arm = Arm(Scripted(list(draws)), {"temperature": 0.8, "max_tokens": 9})
    return solve_sync(Question.ask("?", kind), arm, Policy(Beta(max_samples=5)), Setting(seed=3))


def test_a_result_on_the_wire_has_the_keys_of_the_design_and_no_others() -> None:
    wire = solved("12", "12", "13", "12", "12").to_dict()
    assert wire.keys() == WIRE
    assert wire["spend"].keys() == SPEND
    assert (wire["schema"], wire["about"], wire["kind"]) == (1, "response", "number")


@pytest.mark.parametrize("kind", [None, "number", "text"])
def test_a_result_survives_json(kind: str | None) -> None:
    wire = solved("12", "hm", "12", "13", "12", kind=kind).to_dict()
    assert json.loads(json.dumps(wire, allow_nan=False)) == wire


def test_a_result_says_what_was_drawn_and_never_claims_a_probability_without_a_profile() -> None:
    result = solved("12", "13", "12", "hm", "12")
    wire = result.to_dict()
    assert (wire["answer"], wire["text"], wire["decision"]) == ("12", "12", "answer")
    assert (wire["n_samples"], wire["votes"]) == (5, {"12": 3, "13": 1})
    assert (wire["probability"], wire["calibrated"]) == (None, False)
    assert wire["reason"] is not None
    assert result.n_samples == len(result.samples) == wire["spend"]["samples"]


def test_absence_is_null_with_a_reason_and_never_a_number() -> None:
    wire = solved("hm", "well", "so", "er", "ah").to_dict()
    assert (wire["answer"], wire["decision"], wire["votes"]) == (None, "abstain", {})
    assert wire["signals"]["agreement"] is None
    assert wire["missing"]["agreement"]
    assert wire["spend"]["usd"] is None


def test_an_interval_is_a_list_on_the_wire_and_the_profile_a_copy() -> None:
    profile = {"id": "p", "version": 3}
    sure = dataclasses.replace(
        solved("12", "12", "12", "12", "12"),
        probability=0.93,
        interval=(0.88, 0.96),
        interval_kind="bootstrap",
        calibrated=True,
        profile=profile,
    )
    wire = sure.to_dict()
    assert (wire["interval"], wire["profile"]) == ([0.88, 0.96], profile)
    wire["profile"]["id"] = "other"
    assert profile["id"] == "p"


@given(st.builds(Spend, st.integers(0, 9), st.integers(0, 9), st.none() | st.integers(0, 99)))
def test_spend_comes_back_from_the_wire(spend: Spend) -> None:
    assert Spend.from_dict(json.loads(json.dumps(spend.to_dict()))) == spend
