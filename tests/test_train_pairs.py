"""Preference pairs: which samples make one, which do not, and that no grade is looked at."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_model
from poise.errors import InputError, MissingEvidence, UsageError
from poise.pools import Labelled
from poise.train.pairs import Pairs, answer_probability, pairs, rows
from poise.train.rows import end_of_turn, render
from poise.types import Prompt, Sample, TokenLogprobs
from training_pools import pool

Drawn = tuple[str | None, float]


def told(
    name: str, drawn: Sequence[Drawn], *, texts: Sequence[str] | None = None, **more: Any
) -> Labelled:
    """A pool of answers, each with the probability that its one token had."""
    said = texts or [f"{place} so {answer}" for place, (answer, _) in enumerate(drawn)]
    made = pool(name, [answer for answer, _ in drawn], texts=said, **more)
    samples = tuple(
        replace(sample, logprobs=spelled(sample.text or "", p))
        for sample, (_, p) in zip(made.pool.samples, drawn, strict=True)
    )
    return replace(made, pool=replace(made.pool, samples=samples))


def spelled(text: str, p: float) -> TokenLogprobs:
    """A token a character; all are certain but the last, which had probability ``p``."""
    logs = (*(0.0 for _ in text[:-1]), math.log(p))
    return TokenLogprobs(tuple(text), logs)


def named(made: Pairs) -> set[tuple[str, int, int]]:
    return {(pair.one.pool.question_id, pair.chosen, pair.rejected) for pair in made.pairs}


FOUR: list[Drawn] = [("1", 0.9), ("2", 0.5), ("1", 0.2), ("3", 0.45)]

questions = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["1", "1.0", "2", "3", None]), st.floats(0.01, 1.0)),
        min_size=1,
        max_size=8,
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=60)
@given(drawn=questions, gap=st.floats(0, 0.9), most=st.integers(1, 5), seed=st.integers(0, 9))
def test_a_pair_is_of_one_question_two_answers_and_a_gap(
    drawn: list[list[Drawn]], gap: float, most: int, seed: int
) -> None:
    given = [told(f"q{place}", each) for place, each in enumerate(drawn)]
    try:
        made = pairs(given, gap=gap, most=most, seed=seed)
    except InputError:
        # The reason is checked: no two samples of a question are that far apart.
        for each in drawn:
            read = [(float(answer), p) for answer, p in each if answer is not None]
            assert not any(a != b and p - q > gap + 1e-6 for a, p in read for b, q in read)
        return
    assert len(set(named(made))) == len(made.pairs)
    assert max(Counter(pair.one.pool.question_id for pair in made.pairs).values()) <= most
    for pair in made.pairs:
        surer, other = pair.samples
        assert surer.answer is not None
        assert other.answer is not None
        assert float(surer.answer) != float(other.answer)
        assert pair.gap == answer_probability(surer) - answer_probability(other)
        assert pair.gap >= gap
        assert pair.gap > 0
    assert made == pairs(given, gap=gap, most=most, seed=seed)


@settings(deadline=None, max_examples=30)
@given(drawn=questions, labels=st.randoms())
def test_no_grade_changes_a_pair(drawn: list[list[Drawn]], labels: Any) -> None:
    given = [told(f"q{place}", each) for place, each in enumerate(drawn)]
    other = [
        replace(one, gold=None, correct=tuple(labels.choice([0, 1, None]) for _ in one.correct))
        for one in given
    ]
    try:
        made = named(pairs(given, gap=0.1))
    except InputError:
        with pytest.raises(InputError):
            pairs(other, gap=0.1)
        return
    assert named(pairs(other, gap=0.1)) == made


def test_all_pairs_of_a_question_are_found_where_there_is_room() -> None:
    made = pairs([told("q", FOUR)], gap=0.2, most=99)
    assert named(made) == {("q", 0, 1), ("q", 0, 3), ("q", 1, 2), ("q", 3, 2)}
    assert made.counts["pairs_over_the_most"] == 0
    assert made.counts["mean_gap"] == pytest.approx((0.4 + 0.45 + 0.3 + 0.25) / 4)


def test_a_gap_is_met_at_its_edge_and_equal_samples_make_no_pair() -> None:
    given = [told("q", [("1", 0.75), ("2", 0.5)])]
    assert len(pairs(given, gap=0.25).pairs) == 1
    with pytest.raises(InputError, match="no gap as wide"):
        pairs(given, gap=0.26)
    with pytest.raises(InputError, match="no gap as wide"):
        pairs([told("q", [("1", 0.5), ("2", 0.5)])], gap=0)


def test_which_pairs_are_kept_is_drawn_by_seed_and_by_no_other_question() -> None:
    one, other = told("q", FOUR), told("r", FOUR)
    kept = {seed: named(pairs([one], gap=0.2, most=2, seed=seed)) for seed in range(8)}
    assert len({frozenset(each) for each in kept.values()}) > 1
    assert kept[3] == {pair for pair in named(pairs([other, one], most=2, seed=3)) if "q" in pair}
    assert pairs([one], most=2).counts["pairs_over_the_most"] == 2


def test_the_most_is_of_a_question_over_all_its_pools() -> None:
    again = told("q", FOUR, decoding={"temperature": 1.2, "max_tokens": 4})
    made = pairs([told("q", FOUR), again], gap=0.2, most=3)
    assert len(made.pairs) == 3
    assert made.counts["questions"] == 1


def test_arms_are_not_paired_with_each_other() -> None:
    sure = told("q", [("1", 0.9)])
    unsure = told("q", [("2", 0.1)], decoding={"temperature": 1.2, "max_tokens": 4})
    with pytest.raises(InputError, match="one answer only"):
        pairs([sure, unsure])


def test_what_makes_no_pair_is_counted_by_its_reason() -> None:
    given = told("q", [*FOUR, (None, 0.5), ("4", 0.1), ("5", 0.1), ("6", 0.1), ("7", 0.1)])
    samples = list(given.pool.samples)
    samples[5] = replace(samples[5], finish="length")
    samples[6] = replace(samples[6], text=None)
    samples[7] = replace(samples[7], logprobs=None)
    samples[8] = replace(samples[8], text="it is seven", logprobs=spelled("it is seven", 0.5))
    samples.append(replace(samples[0], index=9))
    given = replace(
        given,
        pool=replace(given.pool, samples=tuple(samples)),
        correct=(*given.correct, 1),
    )
    silent = told("s", FOUR)
    silent = replace(silent, pool=replace(silent.pool, messages=None))
    counts = pairs([given, told("r", [("1", 0.5)]), silent], gap=0.2, most=9).counts
    assert counts["samples_left_out"] == {
        "unreadable": 1,
        "cut": 1,
        "no text": 1,
        "no log-probabilities": 1,
        "the answer has no place in the text": 1,
        "said word for word before": 1,
    }
    assert counts["questions_left_out"] == {
        "one answer only": 1,
        "the pool leaves the question out": 1,
    }
    assert (counts["questions"], counts["questions_with_pairs"], counts["pairs"]) == (3, 1, 4)
    assert counts["samples"] == 15


def test_the_report_says_how_often_the_surer_answer_was_right() -> None:
    graded = told("q", FOUR, gold="1")
    ungraded = told("r", [("1", 0.9), ("2", 0.1)], gold=None)
    counts = pairs([graded, ungraded], gap=0.2, most=9).counts
    assert counts["grades"] == {
        "chosen right": 2,
        "rejected right": 2,
        "both wrong": 0,
        "not graded": 1,
    }


def test_pools_without_log_probabilities_are_refused_with_advice() -> None:
    with pytest.raises(InputError, match=r"no log-probabilities: 2.*poise sample") as caught:
        pairs([pool("q", ["1", "2"])])
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize("wrong", [{"gap": 1.0}, {"gap": -0.1}, {"most": 0}, {"gap": math.nan}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be in"):
        pairs([told("q", FOUR)], **wrong)


# -- the probability of an answer -----------------------------------------------------------------


def test_the_probability_of_an_answer_is_the_product_over_its_tokens_alone() -> None:
    text = TokenLogprobs(("It", " is", " 3", "6", "0", "."), (-3.0, -2.0, -0.5, -0.25, -0.1, -4.0))
    sample = Sample(0, "It is 360.", "360", logprobs=text)
    assert answer_probability(sample) == pytest.approx(math.exp(-0.85))


def test_a_sample_without_evidence_has_no_probability() -> None:
    with pytest.raises(MissingEvidence):
        answer_probability(Sample(0, "It is 360.", "360"))


# -- rows -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_model.tokenizer()


def test_a_row_is_the_arms_prompt_and_both_texts_as_they_were_drawn(tokenizer: Any) -> None:
    prompt = Prompt("Be brief.")
    made = pairs([told("q", [("1", 0.9), ("2", 0.1)])])
    (row,), long = rows(tokenizer, made.pairs, prompt)
    assert long == 0
    question = made.pairs[0].question
    asked = render(tokenizer, prompt.messages(question))
    assert tokenizer.decode(row.prompt) == asked
    assert "Be brief." in asked
    end = tokenizer.decode(end_of_turn(tokenizer))
    assert tokenizer.decode(row.chosen) == "0 so 1" + end
    assert tokenizer.decode(row.rejected) == "1 so 2" + end
    assert row.longest == len(row.prompt) + max(len(row.chosen), len(row.rejected))


def test_a_pair_that_does_not_fit_is_left_out_whole(tokenizer: Any) -> None:
    texts = ["1", "well it is " * 3 + "2"]
    made = pairs([told("q", [("1", 0.9), ("2", 0.1)], texts=texts)]).pairs
    (row,), _ = rows(tokenizer, made, Prompt())
    assert rows(tokenizer, made, Prompt(), longest=row.longest) == ([row], 0)
    assert rows(tokenizer, made, Prompt(), longest=row.longest - 1) == ([], 1)
    assert rows(tokenizer, made, Prompt(), longest=len(row.prompt)) == ([], 1)


def test_a_tokenizer_without_a_template_is_refused() -> None:
    bare = tiny_model.tokenizer()
    bare.chat_template = None
    with pytest.raises(UsageError, match="no chat template"):
        rows(bare, pairs([told("q", FOUR)]).pairs, Prompt())
