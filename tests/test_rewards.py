"""Rewards: what is read from a completion, what each is worth, and what is refused."""

from __future__ import annotations

import functools
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.errors import InputError, Unusable, UsageError
from poise.rewards import (
    READERS,
    REWARDS,
    bounded_log,
    brier,
    capability,
    correctness,
    formatted,
    leave_one_out,
    majority,
    mixed_targets,
    reference_accuracy,
    reference_probability,
    self_certainty,
    semantic_frequency,
    spherical,
    split_advantages,
    thresholded,
)
from poise.signals.confidence_text import confidence_in

GOLD = ("correctness", "thresholded", "reference_accuracy", "brier", "spherical", "bounded_log")
CONFIDENT = ("brier", "spherical", "bounded_log", "capability")
COLUMNS = {"kind": "number", "threshold": 0.5, "reference_accuracy": 0.5, "vocabulary": 10}

line, tag, digit = READERS["line"], READERS["tag"], READERS["digit"]


def call(reward, completions, gold=None, **columns):
    """One reward, one prompt for all; a gold that is no list is for all."""
    m = len(completions)
    golds = gold if isinstance(gold, list) else [gold] * m
    given_columns = {**COLUMNS, "gold": golds, **columns}
    return reward(prompts=["q"] * m, completions=completions, **given_columns)


@pytest.mark.parametrize(
    ("text", "confidence"),
    [
        ("7\nConfidence: 0.83", 0.83),
        ("7\n\n**Confidence:** 83%\n", 0.83),
        ("7\r\nconfidence : 83\r\n", 0.83),
        ("7\nConfidence: .5", 0.5),
        ("7\nConfidence: 0", 0.0),
        ("7\nConfidence: 1%", 0.01),
        ("7\nConfidence: 1.0", 1.0),
        ("7\nConfidence: 100", 1.0),
        ("<think>\nConfidence: 0.1\n</think>7\nConfidence: 0.9", 0.9),
        ("7\nConfidence: 1", None),
        ("7\nConfidence: 1.5", None),
        ("7\nConfidence: 120%", None),
        ("7\nConfidence: -0.5", None),
        ("7\nConfidence: high", None),
        ("7\nConfidence:", None),
        ("7\nConfidence: 0.8\nConfidence: 0.9", None),
        ("7\nConfidence: 0.8\nand so on", None),
    ],
)
def test_a_line_states_a_confidence_and_leaves_the_answer_before_it(text, confidence):
    stated = line(text)
    assert stated.confidence == confidence
    assert stated.answer.strip().endswith("7")
    assert stated.start is not None
    assert text[stated.start :].lstrip("*").lower().startswith("confidence")


@pytest.mark.parametrize("text", ["7", "7 Confidence: 0.8", "my confidence: 0.8", ""])
def test_text_without_such_a_line_is_all_answer(text):
    assert line(text) == line(text).__class__(text, None, None)


@pytest.mark.parametrize(
    ("text", "answer", "confidence"),
    [
        ("7 <confidence>0.83</confidence>", "7 ", 0.83),
        ("<answer>7</answer><analysis>2 ways</analysis><confidence>83</confidence>\n", "7", 0.83),
        ("<answer>7<confidence>0.5</confidence>", "7", 0.5),
        ("7<confidence>0.5</confidence> so", "7", None),
        ("7<confidence>0.5", "7", None),
        ("7<confidence>0.5</confidence><confidence>0.6</confidence>", "7", None),
        ("<answer>7</answer> and 8", "7", None),
        ("7", "7", None),
    ],
)
def test_a_tag_states_a_confidence_and_another_the_answer(text, answer, confidence):
    stated = tag(text)
    assert (stated.answer, stated.confidence) == (answer, confidence)


@pytest.mark.parametrize("d", range(10))
def test_a_digit_is_the_middle_of_its_tenth(d):
    assert digit(f"7\nConfidence: {d}").confidence == pytest.approx(0.05 + d / 10)


@pytest.mark.parametrize("said", ["10", "0.8", "²", "", "8%"])
def test_what_is_not_one_digit_is_no_digit(said):
    assert digit(f"7\nConfidence: {said}").confidence is None


NUMBERS = st.one_of(
    st.integers(0, 200).map(str),
    st.integers(0, 200).map(lambda n: f"{n}%"),
    st.floats(0, 2).map(lambda c: f"{c:.3f}"),
)


@given(NUMBERS, st.sampled_from(["7\nConfidence: {}", "7 <confidence>{}</confidence>"]))
def test_a_number_means_here_what_it_means_to_the_signal(number, form):
    text = form.format(number)
    try:
        expected = confidence_in(text)
    except Unusable:
        expected = None
    stated = (line if "\n" in text else tag)(text)
    assert stated.confidence == (None if expected is None else pytest.approx(expected))


@given(st.text(alphabet="conf:ide\n<>/ *_0.9%7A") | st.text())
def test_readers_take_any_text_apart_without_losing_the_answers_place(text):
    for read in READERS.values():
        stated = read(text)
        assert stated.answer in text
        assert stated.confidence is None or (
            0 <= stated.confidence <= 1 and stated.start is not None
        )


def test_reading_takes_linear_time():
    units = (
        "confidence:",
        "<confidence>",
        "*_ ",
        "\n",
        "Confidence: 0.5\n",
        "<answer>",
        "</think>",
    )
    code = (
        "import sys, poise.rewards as r; "
        "[read(unit * 100_000) for unit in sys.argv[1:] for read in r.READERS.values()]"
    )
    subprocess.run([sys.executable, "-c", code, *units], check=True, timeout=20)


def test_the_confidence_is_never_mistaken_for_the_answer():
    replies = ["so 7\nConfidence: 0.8", "so 7\nConfidence: 120", "so 7\nConfidence: 1"]
    assert call(correctness, replies, "7") == [1.0, 1.0, 1.0]


def test_messages_are_read_by_the_last_thing_the_assistant_said():
    def said(content):
        return {"role": "assistant", "content": content}

    tool = {"role": "tool", "content": "7"}
    completions = [
        [said("7")],
        [said("8"), tool, said("7")],
        [said([{"type": "text", "text": "7"}])],
        [said(None)],
        [said("8"), tool],
        [tool],
    ]
    assert call(correctness, completions, "7") == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("kind", "gold", "options", "right", "wrong"),
    [
        ("number", "#### 18", None, "It is 18.0", "It is 81"),
        ("choice", "(B)", ["Paris", "London"], "The answer is London", "A)"),
        ("yesno", True, None, "Yes, it is.", "No."),
        ("text", "The Beatles", None, "beatles", "Stones"),
        ("json", '{"a": 1}', None, '{"a": 1.0}', '{"a": 2}'),
        ("math", "\\frac12", None, "\\boxed{\\frac{1}{2}}", "\\boxed{2}"),
    ],
)
def test_an_answer_is_judged_by_its_kind(kind, gold, options, right, wrong):
    columns = {"kind": [kind] * 2, "options": [options] * 2, "gold": [gold] * 2}
    assert call(correctness, [right, wrong], **columns) == [1.0, 0.0]


@pytest.mark.parametrize("name", GOLD)
def test_a_row_without_gold_is_left_out_and_only_that_row(name):
    replies = ["7\nConfidence: 0.8"] * 2
    first, second = call(REWARDS[name], replies, gold=["7", None])
    assert first is not None
    assert second is None


@pytest.mark.parametrize("name", [*GOLD, "capability"])
def test_a_data_set_without_gold_is_refused(name):
    with pytest.raises(UsageError, match="column 'gold'"):
        REWARDS[name](prompts=["q"], completions=["7"], kind="number")


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_an_empty_batch_has_no_rewards(name):
    assert (
        REWARDS[name](
            **COLUMNS,
            prompts=[],
            completions=[],
            gold=[],
            mean_logprobs=[],
            reference_logprobs=[],
        )
        == []
    )


@pytest.mark.parametrize("name", CONFIDENT)
def test_breaking_the_form_earns_no_more_than_the_worst_statement(name):
    worst = [f"{a}\nConfidence: {c}" for a, c in (("7", "0"), ("8", "100"))]
    broken = ["7", "7\nConfidence: 1", "none\nConfidence: 0", "I don't know\nConfidence: 0", ""]
    columns = {"mix": 0.0} if name == "capability" else {}
    lowest = min(call(REWARDS[name], worst, "7", **columns))
    assert lowest == pytest.approx(0, abs=1e-12)
    assert call(REWARDS[name], broken, "7", **columns) == [0.0] * 5


@pytest.mark.parametrize("name", CONFIDENT)
@given(st.booleans(), st.floats(0, 1))
def test_rewards_of_a_confidence_lie_between_0_and_1(name, right, c):
    columns = {"mix": 0.0} if name == "capability" else {}
    reply = f"{7 if right else 8}\nConfidence: {c:.6f}"
    (reward,) = call(REWARDS[name], [reply], "7", **columns)
    assert -1e-12 <= reward <= 1 + 1e-12


def test_brier_is_the_published_sum_less_a_constant():
    """RLCR adds correctness - (c - z)^2; here the square is taken from 1."""
    replies = ["7\nConfidence: 0.9", "8\nConfidence: 0.9"]
    assert call(brier, replies, "7") == pytest.approx([1 - 0.01, 1 - 0.81])
    assert call(capability, replies, "7", mix=0.0) == pytest.approx([0.99, 0.19])
    assert call(spherical, replies, "7") == pytest.approx(
        [0.9 / math.hypot(0.9, 0.1), 0.1 / math.hypot(0.9, 0.1)]
    )


def test_the_bounded_log_runs_from_0_to_1_between_its_floors():
    replies = [f"{a}\nConfidence: {c}" for a in "78" for c in ("0.0", "0.005", "0.5", "1.0")]
    rewards = call(functools.partial(bounded_log, floor=0.01), replies, "7")
    most, least = math.log(0.99), math.log(0.01)
    half = (math.log(0.5) - least) / (most - least)
    assert rewards == pytest.approx([0, 0, half, 1, 1, 1, half, 0], abs=1e-12)


@pytest.mark.parametrize("floor", [0, 0.5, -1, float("nan")])
def test_a_floor_that_bounds_nothing_is_refused(floor):
    with pytest.raises(UsageError, match="floor"):
        call(functools.partial(bounded_log, floor=floor), ["7"], "7")


def test_not_answering_is_worth_nothing_and_answering_wrongly_the_threshold_odds():
    replies = ["7", "8", "none", "I don’t know.", "Well.\n**I do not know**\nConfidence: 0.1"]
    assert call(thresholded, replies, "7", threshold=0.75) == [1.0, -3.0, -3.0, 0.0, 0.0]
    assert call(thresholded, replies[:2], "7", threshold=[0.0, 0.5]) == [1.0, -1.0]
    assert call(thresholded, ["I don't know whether 8 or 7, so 7"], "7") == [1.0]


@pytest.mark.parametrize("threshold", [None, 1.0, -0.1, float("nan")])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(UsageError, match="threshold"):
        call(thresholded, ["7"], "7", threshold=threshold)


def test_a_reference_is_beaten_met_or_missed():
    rewards = call(
        reference_accuracy,
        ["7", "7", "7", "8", "8", "8", "7"],
        "7",
        reference_accuracy=[0.0, 0.5, 1.0, 0.0, 0.5, 1.0, None],
    )
    assert rewards == [1.0, 1.0, 0.0, 0.0, -1.0, -1.0, None]
    with pytest.raises(UsageError, match="column 'reference_accuracy'"):
        call(reference_accuracy, ["7"], "7", reference_accuracy=None)
    with pytest.raises(UsageError, match="from 0 to 1"):
        call(reference_accuracy, ["7"], "7", reference_accuracy=40)


def test_the_form_is_an_answer_or_not_knowing_and_a_confidence():
    replies = ["7\nConfidence: 50%", "I don't know\nConfidence: 1%", "7", "Confidence: 50%"]
    assert call(formatted, replies) == [1.0, 1.0, 0.0, 0.0]


VOTES = ["7", "8", "so 7.0", "none", "8.0"]


def test_the_majority_is_the_first_seen_among_equals_and_unreadable_is_no_vote():
    assert call(majority, VOTES) == [1.0, 0.0, 1.0, 0.0, 0.0]
    assert call(majority, ["none", "8"]) == [0.0, 1.0]
    assert call(majority, ["none", "what"]) == [None, None]


def test_a_frequency_counts_all_that_were_drawn():
    assert call(semantic_frequency, VOTES) == [0.4, 0.4, 0.4, 0.0, 0.4]
    assert call(semantic_frequency, ["none", "what"]) == [None, None]


@given(st.lists(st.sampled_from(["7", "8", "9", "none"]), min_size=1), st.randoms())
def test_agreement_does_not_depend_on_other_questions_or_on_their_order(answers, random):
    """Interleaved with other groups, each row keeps what it earns alone."""
    alone = [call(reward, answers) for reward in (majority, semantic_frequency)]
    rows = [("q", answer) for answer in answers] + [("r", "8"), ("r", "9")]
    places = list(range(len(rows)))
    random.shuffle(places)
    # Within a question the order is kept: it decides among equals.
    own = iter(row for row in rows if row[0] == "q")
    other = iter(row for row in rows if row[0] == "r")
    mixed = [next(own) if place < len(answers) else next(other) for place in places]
    prompts, completions = zip(*mixed, strict=True)
    for reward, expected in zip((majority, semantic_frequency), alone, strict=True):
        found = reward(prompts=prompts, completions=completions, kind="number")
        assert [r for r, p in zip(found, prompts, strict=True) if p == "q"] == expected


def test_equal_prompts_are_told_apart_by_question():
    apart = call(majority, ["7", "7", "8"], question_id=["a", "a", "b"])
    assert apart == [1.0, 1.0, 1.0]
    assert call(majority, ["7", "7", "8"]) == [1.0, 1.0, 0.0]
    chats = [[{"role": "user", "content": text}] for text in "aab"]
    found = majority(prompts=chats, completions=["7", "7", "8"], kind="number")
    assert found == [1.0, 1.0, 1.0]


def test_one_question_of_two_kinds_is_refused():
    with pytest.raises(UsageError, match="kinds number and yesno"):
        call(majority, ["7", "yes"], kind=["number", "yesno"])


@given(st.lists(st.sampled_from([0.0, 1.0, 0.5, None]), max_size=12), st.integers(1, 4))
def test_leaving_one_out_is_the_mean_of_the_others(grades, size):
    names = [i // size for i in range(len(grades))]
    for i, found in enumerate(leave_one_out(grades, names)):
        others = [
            grade
            for j, grade in enumerate(grades)
            if j != i and names[j] == names[i] and grade is not None
        ]
        assert found == (pytest.approx(np.mean(others)) if others else None)


def test_a_target_runs_from_the_own_grade_to_the_others():
    grades, names = [1.0, 0.0, 0.0, 1.0, None], ["a", "a", "a", "b", "c"]
    assert mixed_targets(grades, names, 0) == grades
    assert mixed_targets(grades, names, 1) == [0.0, 0.5, 0.5, None, None]
    assert mixed_targets(grades, names, 0.5) == [0.5, 0.25, 0.25, None, None]
    with pytest.raises(UsageError, match="mix"):
        mixed_targets(grades, names, 1.1)
    with pytest.raises(UsageError, match="one group each"):
        leave_one_out([1.0], [])


def test_a_capability_is_what_the_others_got_right_the_unreadable_included():
    replies = ["7\nConfidence: 0.5", "7\nConfidence: 50%", "8\nConfidence: 0.2", "none"]
    rewards = call(capability, replies, "7")
    assert rewards == pytest.approx([1 - (0.5 - 1 / 3) ** 2] * 2 + [1 - (0.2 - 2 / 3) ** 2, 0.0])
    assert call(capability, replies[:1], "7") == [None]


def test_each_token_learns_from_its_own_part():
    mask = np.array([[0, 0, 1], [0, 1, 1]])
    found = split_advantages([1.0, -1.0], [0.3, 0.4], mask)
    assert found.tolist() == [[1, 1, 0.3], [-1, 0.4, 0.4]]
    with pytest.raises(UsageError, match="shape"):
        split_advantages([1.0], [0.3, 0.4], mask)
    with pytest.raises(UsageError, match="shape"):
        split_advantages([1.0], [0.3], mask[0])


def test_self_certainty_is_the_divergence_from_uniform():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(10, 0.5), size=4)
    divergence = np.sum(0.1 * np.log(0.1 / p), axis=1).mean()
    logits = np.log(p) + rng.normal(size=(4, 1))
    published = np.mean(np.log(np.exp(logits).sum(1)) - logits.mean(1)) - math.log(10)
    rows = [np.log(p).mean(1), np.full(3, -math.log(10)), None, []]
    found = call(self_certainty, ["7"] * 4, mean_logprobs=rows)
    assert found[:2] == pytest.approx([divergence, 0.0], abs=1e-12)
    assert found[2:] == [None, None]
    assert published == pytest.approx(divergence)


@pytest.mark.parametrize("means", [[-1.0], [-math.inf], [math.nan], [[-3.0]]])
def test_means_that_no_whole_distribution_gives_are_refused(means):
    with pytest.raises(UsageError, match="mean_logprobs"):
        call(self_certainty, ["7"], mean_logprobs=[means])


def test_a_reference_answers_probability_is_what_reasoning_adds():
    after = [np.log([0.5, 0.7]), np.log([0.1]), [-math.inf], None]
    before = [np.log([0.2]), np.log([0.4]), [0.0], [0.0]]
    found = call(
        reference_probability, ["7"] * 4, reference_logprobs=after, baseline_logprobs=before
    )
    assert found == [pytest.approx(0.4), 0.0, 0.0, None]
    alone = call(reference_probability, ["7"] * 4, reference_logprobs=after)
    assert alone == [pytest.approx(0.6), pytest.approx(0.1), 0.0, None]
    with pytest.raises(UsageError, match="at most 0"):
        call(reference_probability, ["7"], reference_logprobs=[[0.5]])


@pytest.mark.parametrize("reward", [self_certainty, reference_probability])
def test_probabilities_that_nobody_hands_over_are_refused(reward):
    with pytest.raises(UsageError, match="logprobs"):
        reward(prompts=["q"], completions=["7"])


@pytest.mark.parametrize(
    ("columns", "error", "said"),
    [
        ({"gold": ["7"]}, UsageError, "'gold' has 1 rows for 2 completions"),
        ({"gold": ["none", "7"]}, InputError, "'none' is no number answer"),
        ({"gold": [["7", "8"], "7"]}, InputError, r"\['7', '8'\] is no single answer"),
        ({"kind": None}, UsageError, "answer kind None"),
        ({"kind": ["number", "maths"]}, UsageError, "'maths'.*number, math, choice"),
        ({"prompts": ["q"]}, UsageError, "1 prompts for 2 completions"),
        ({"options": [None]}, UsageError, "'options' has 1 rows"),
    ],
)
def test_columns_that_do_not_fit_are_refused_in_one_line(columns, error, said):
    inputs = {"prompts": ["q"] * 2, "completions": ["7", "8"], "gold": ["7"] * 2, "kind": "number"}
    with pytest.raises(error, match=said) as caught:
        correctness(**{**inputs, **columns})
    assert "\n" not in str(caught.value)


def test_rewards_travel_to_other_processes():
    for name, reward in REWARDS.items():
        assert reward.__name__ == name
        again = pickle.loads(pickle.dumps(functools.partial(reward, read=digit)))  # noqa: S301
        assert again.func is reward


def test_rewards_need_no_training_code():
    code = (
        "import sys, poise.rewards; "
        "print([m for m in ('torch', 'trl', 'transformers', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
