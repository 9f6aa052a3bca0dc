"""Naming the segment of a question, and the history of segments as a signal that must not leak."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from poise.errors import InputError, MissingEvidence, RefusedError, UsageError
from poise.metrics import auroc
from poise.segmenter import UNPLACED, Rules, Segmenter
from poise.signals import Evidence, SegmentHistory
from poise.types import Question
from poise.wording import Classifier


def sums(rng, n):
    """Texts of four segments that wording and the length of numbers tell apart."""
    found = []
    for _ in range(n):
        one, many = rng.integers(1, 10), rng.integers(100, 1000)
        kind = rng.integers(4)
        text = (
            f"What is {one} + {rng.integers(1, 10)}?",
            f"What is {many} + {rng.integers(100, 1000)}?",
            f"How many legs have {one} dogs and {many} birds?",
            f"What is the plural of {rng.choice(['cat', 'ox', 'fish'])} in {many}?",
        )[kind]
        found.append((text, ("sum-1", "sum-3", "legs", "plural")[kind]))
    return [text for text, _ in found], [segment for _, segment in found]


@pytest.fixture(scope="module")
def learned():
    return Classifier.fit(*sums(np.random.default_rng(1), 300))


# -- rules --------------------------------------------------------------------------------------


def test_the_first_rule_that_is_found_names_the_segment():
    rules = Rules((("sum", r"\d \+"), ("maths", r"\d"), ("end", r"\?$")))
    assert rules.segment("6 + 2?") == "sum"
    assert rules.segment("6 - 2?") == "maths"
    assert rules.segment("Why?") == "end"
    assert rules.segment("Because") is None
    assert Rules().segment("6 + 2?") is None


def test_a_rule_that_is_no_expression_is_refused_by_its_segment():
    with pytest.raises(UsageError, match=r"segment 'sum', '\(', is no regular expression: missing"):
        Rules((("ok", "a"), ("sum", "(")))
    with pytest.raises(UsageError, match="names no segment"):
        Rules((("", "a"),))


@pytest.mark.parametrize("stated", [None, "own", "legs"])
def test_rules_come_before_the_classifier_and_what_a_caller_states_is_not_asked(learned, stated):
    segmenter = Segmenter(Rules((("mine", "birds"),)), learned)
    asked = Question.ask("How many legs have 5 dogs and 123 birds?", segment=stated)
    assert segmenter.segment(asked) == "mine"
    assert Segmenter(classifier=learned).segment(asked) == "legs"
    assert Segmenter().segment(asked) == UNPLACED


# -- the classifier -----------------------------------------------------------------------------


def test_questions_that_wording_tells_apart_are_named_right(learned):
    texts, segments = sums(np.random.default_rng(2), 200)
    named = [learned.segment(text) for text in texts]
    right = [name == segment for name, segment in zip(named, segments, strict=True)]
    assert np.mean([name is not None for name in named]) > 0.9
    assert np.mean(right) > 0.9
    assert learned.held_out.accuracy >= 0.95
    assert learned.held_out.named > 0.9


def test_digits_count_by_their_number_and_case_and_blanks_do_not_count(learned):
    assert learned.segment("What is 4 + 4?") == "sum-1"
    assert learned.segment("WHAT  is\n444 + 555?") == "sum-3"


def test_a_question_of_no_known_feature_or_of_two_minds_gets_no_segment(learned):
    assert learned.segment("zzz") is None
    assert learned.segment("") is None
    assert learned.segment("What is 44?") is None
    torn = replace(learned, threshold=1.0, temperature=1000.0)
    assert torn.segment("What is 4 + 4?") is None


def overlapping(rng, m, told):
    """Two segments; only a share ``told`` of the texts says which."""
    segments = rng.choice(["a", "b"], m)
    says = rng.random(m) < told
    words = np.where(says, np.where(segments == "a", "apple", "berry"), "fruit")
    return [f"{word} {rng.choice(list('xyzuvw'), 5)}" for word in words], segments.tolist(), says


def test_the_held_out_numbers_are_true_of_new_questions_and_the_accuracy_asked_for_is_kept():
    rng = np.random.default_rng(5)
    texts, segments, _ = overlapping(rng, 600, 0.5)
    found = Classifier.fit(texts, segments, accuracy=0.95)
    new, truth, says = overlapping(rng, 2000, 0.5)
    named = np.array([found.segment(text) or "" for text in new])
    share = (named != "").mean()
    accuracy = (named == np.array(truth))[named != ""].mean()
    assert accuracy > 0.93
    assert share == pytest.approx(found.held_out.named, abs=0.1)
    assert accuracy == pytest.approx(found.held_out.accuracy, abs=0.04)
    assert (named != "")[says].all()
    assert (named != "")[~says].mean() < 0.25


def test_segments_that_wording_does_not_tell_are_refused_with_what_is_possible():
    texts, segments, _ = overlapping(np.random.default_rng(6), 400, 0.0)
    with pytest.raises(RefusedError, match=r"accuracy of 0.95; the best: 0\.\d\d"):
        Classifier.fit(texts, segments)


def test_equal_texts_lend_nothing_to_their_own_test():
    """Copies across folds would make any classifier look perfect on texts that say nothing."""
    rng = np.random.default_rng(7)
    texts = [" ".join(rng.choice(list("abcdefgh"), 6)) for _ in range(60)]
    segments = rng.choice(["x", "y"], 60).tolist()
    with pytest.raises(RefusedError, match="no threshold names"):
        Classifier.fit(texts * 8, segments * 8)


def test_rare_segments_are_left_out_and_one_alone_is_refused():
    texts, segments = sums(np.random.default_rng(3), 200)
    rare = Classifier.fit([*texts, "What is love?"], [*segments, "rare"])
    assert "rare" not in rare.segments
    with pytest.raises(RefusedError, match="1 segments have 5 or more questions"):
        Classifier.fit(texts, ["all"] * len(texts))
    with pytest.raises(RefusedError, match="0 segments"):
        Classifier.fit([], [])


@pytest.mark.parametrize(
    "changes", [{"accuracy": 0.0}, {"accuracy": 1.5}, {"features": 0}, {"segments": ["a"]}]
)
def test_arguments_that_make_no_sense_are_refused(changes):
    given = {"texts": ["a", "b"], "segments": ["a", "b"], **changes}
    with pytest.raises(UsageError, match="give a segment a text"):
        Classifier.fit(**given)


def test_the_fit_does_not_depend_on_the_order_of_the_questions_and_stays_small():
    texts, segments = sums(np.random.default_rng(4), 200)
    other = Classifier.fit(texts[::-1], segments[::-1], features=60)
    assert Classifier.fit(texts, segments, features=60) == other
    assert len(other.counts) == 60
    assert len(json.dumps(other.state())) < 6000


def test_a_segmenter_survives_json_and_pickle_and_names_alike(learned):
    segmenter = Segmenter(Rules((("mine", "birds"),)), learned)
    back = Segmenter.from_state(json.loads(json.dumps(segmenter.state())))
    assert back == segmenter == pickle.loads(pickle.dumps(segmenter))  # noqa: S301
    assert Segmenter.from_state(json.loads(json.dumps(Segmenter().state()))) == Segmenter()
    texts, _ = sums(np.random.default_rng(8), 30)
    for text in texts:
        assert back.segment(Question.ask(text)) == segmenter.segment(Question.ask(text))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("segments", "ab"), ("segments", [1, 2]), ("segments", ["one"])),
        *(("questions", [1]), ("questions", [0, 1, 1, 1]), ("questions", [True, 1, 1, 1])),
        *(("counts", []), ("counts", {"a": [1]}), ("counts", {"a": {"9": 1}})),
        *(("counts", {"a": {"x": 1}}), ("counts", {"a": {"0": -1}}), ("counts", {"a": {"0": 0.5}})),
        *(("temperature", 0), ("temperature", "1"), ("temperature", math.inf)),
        *(("threshold", 2), ("threshold", None), ("held_out", None), ("held_out", {})),
        *(("more", 1), ("threshold", ...)),
    ],
)
def test_a_state_that_is_no_classifier_is_refused(learned, key, value):
    state = {**learned.state(), key: value}
    if value is ...:
        del state[key]
    with pytest.raises(InputError, match="segment"):
        Segmenter.from_state({"rules": [], "classifier": state})


@pytest.mark.parametrize(
    "state",
    [
        *(None, [], {}, {"rules": []}, {"rules": {}, "classifier": None}),
        *({"rules": [["a"]], "classifier": None}, {"rules": [["a", 1]], "classifier": None}),
        *({"rules": [["a", "("]], "classifier": None}, {"rules": ["ab"], "classifier": None}),
    ],
)
def test_a_state_that_is_no_segmenter_is_refused(state):
    with pytest.raises(InputError, match="segmenter"):
        Segmenter.from_state(state)


# -- history ------------------------------------------------------------------------------------


def history(segment, **changes):
    given = {"rates": {"sum": (8.0, 6.0), "new": (0.5, 0.0)}, "base": 0.5, "strength": 2.0}
    return SegmentHistory(**{**given, **changes})(Evidence(segment=segment))


def test_a_segments_rate_is_drawn_to_the_base_by_its_strength():
    assert history("sum") == pytest.approx(7 / 10)
    assert history("new") == pytest.approx(1 / 2.5)
    assert history("sum", strength=1e9) == pytest.approx(0.5)
    assert history("sum", strength=1e-9) == pytest.approx(0.75)


def test_a_question_without_a_known_segment_has_no_history():
    with pytest.raises(MissingEvidence, match="the question has no segment"):
        history(None)
    with pytest.raises(MissingEvidence, match="the segment 'x' has no history"):
        history("x")


@pytest.mark.parametrize(
    "changes",
    [
        *({"base": 0.0}, {"base": 1.0}, {"base": math.nan}, {"strength": 0.0}),
        *({"strength": math.inf}, {"rates": {"a": (0.0, 0.0)}}, {"rates": {"a": (1.0, 2.0)}}),
        {"rates": {"a": (1.0, -1.0)}},
    ],
)
def test_a_history_that_makes_no_sense_is_refused(changes):
    with pytest.raises(UsageError):
        history("a", **changes)
    made = {"rates": {"a": (2.0, 1.0)}, "base": 0.5, "strength": 1.0, **changes}
    made["rates"] = {segment: list(counts) for segment, counts in made["rates"].items()}
    with pytest.raises(InputError):
        SegmentHistory.from_state(made)


def drawn(rng, segments, each, base, strength):
    """Segments with rates from a beta distribution, and one outcome a question."""
    rates = rng.beta(base * strength, (1 - base) * strength, segments)
    names = np.repeat(np.arange(segments), each)
    return names.astype(str).tolist(), (rng.random(len(names)) < rates[names]).astype(float)


def test_base_and_strength_are_recovered_from_many_segments():
    found = SegmentHistory.fit(*drawn(np.random.default_rng(1), 600, 12, 0.3, 5.0))
    assert found.base == pytest.approx(0.3, abs=0.03)
    assert found.strength == pytest.approx(5.0, rel=0.3)
    assert len(found.rates) == 600


def test_segments_that_do_not_differ_are_drawn_to_the_base_alone():
    rng = np.random.default_rng(2)
    names = np.repeat(np.arange(100), 20).astype(str).tolist()
    found = SegmentHistory.fit(names, rng.random(2000) < 0.4)
    values = [found(Evidence(segment=name)) for name in set(names)]
    assert found.strength > 100
    assert np.ptp(values) < 0.1


@pytest.mark.parametrize("right", [[1.0], [0.0], [1.0] * 30, [0.0] * 30, [0.0, 1.0] * 15])
def test_one_segment_alone_gives_its_own_rate(right):
    found = SegmentHistory.fit(["only"] * len(right), right)
    value = found(Evidence(segment="only"))
    assert 0 < value < 1
    assert value == pytest.approx(np.mean(right), abs=0.5 / len(right) + 0.01)


def test_weights_count_as_that_many_questions_and_no_segment_is_left_out():
    names, right = ["a", "a", "b", None, "c"], [1, 0, 0.25, 1, 1]
    weight = [2, 1, 4, 1, 0]
    found = SegmentHistory.fit(names, right, weight)
    assert found.rates == {"a": (3.0, 2.0), "b": (4.0, 1.0)}
    repeated = [i for i, times in enumerate(weight) for _ in range(times)]
    again = SegmentHistory.fit([names[i] for i in repeated], [right[i] for i in repeated])
    assert again.rates == found.rates
    assert (again.base, again.strength) == pytest.approx((found.base, found.strength), rel=1e-3)
    with pytest.raises(RefusedError, match="no question has a segment"):
        SegmentHistory.fit([None, None], [0, 1])


@pytest.mark.parametrize(
    ("right", "weight"),
    [
        *(([1.0], None), ([1.0, 1.5], None), ([1.0, math.nan], None), ([1.0, -0.1], None)),
        *(([1.0, 0.0], [1.0]), ([1.0, 0.0], [1.0, -1.0]), ([1.0, 0.0], [1.0, math.inf])),
    ],
)
def test_outcomes_and_weights_that_make_no_sense_are_refused(right, weight):
    for learn in (
        SegmentHistory.fit,
        lambda s, r, w: SegmentHistory.out_of_fold(s, r, [0, 1], w),
    ):
        with pytest.raises(UsageError):
            learn(["a", "b"], right, weight)


@pytest.mark.parametrize("fold", [[0, 0], [0], [[0, 1]]])
def test_folds_that_leave_nothing_out_are_refused(fold):
    with pytest.raises(UsageError, match="folds"):
        SegmentHistory.out_of_fold(["a", "b"], [0, 1], fold)


def leave_out(names, right):
    """Each question's history without its own label: the tempting feature that leaks in reverse."""
    whole = SegmentHistory.fit(names, right)
    found = np.full(len(names), np.nan)
    for i, name in enumerate(names):
        rest = [right[j] for j, other in enumerate(names) if j != i and other == name]
        if rest:
            alone = replace(whole, rates={name: (float(len(rest)), float(sum(rest)))})
            found[i] = alone(Evidence(segment=name))
    return found


def test_out_of_fold_equals_a_fit_on_the_other_folds_and_sees_nothing_of_its_own():
    rng = np.random.default_rng(3)
    names, right = drawn(rng, 9, 6, 0.5, 3.0)
    names[0] = None
    names[1] = "alone"
    fold = rng.integers(0, 3, len(names))
    found = SegmentHistory.out_of_fold(names, right, fold)
    assert np.isnan(found[:2]).all()
    for number in range(3):
        rest = np.flatnonzero(fold != number)
        other = SegmentHistory.fit([names[i] for i in rest], right[rest])
        for i in np.flatnonzero(fold == number):
            if names[i] in other.rates:
                assert found[i] == pytest.approx(other(Evidence(segment=names[i])))
        flipped = np.where(fold == number, 1 - right, right)
        again = SegmentHistory.out_of_fold(names, flipped, fold)
        np.testing.assert_array_equal(again[fold == number], found[fold == number])


def useless(seed, segments, m=600):
    """Outcomes that the segments say nothing about."""
    rng = np.random.default_rng(seed)
    names = rng.integers(0, segments, m).astype(str).tolist()
    return names, (rng.random(m) < 0.5).astype(float), rng.permutation(m) % 5


def ranked(values, right):
    known = ~np.isnan(values)
    return auroc(right[known], values[known]).value


def test_a_history_that_saw_the_outcomes_tells_them_where_segments_are_useless():
    """The negative control: only what left the own outcome out ranks no better than a coin."""
    seen, left, folded = [], [], []
    for seed in range(6):
        names, right, fold = useless(seed, 200)
        history = SegmentHistory.fit(names, right)
        seen.append(ranked(np.array([history(Evidence(segment=s)) for s in names]), right))
        left.append(ranked(leave_out(names, right), right))
        folded.append(ranked(SegmentHistory.out_of_fold(names, right, fold), right))
    assert min(seen) > 0.6
    assert np.mean(left) == pytest.approx(0.5, abs=0.05)
    assert np.mean(folded) == pytest.approx(0.5, abs=0.05)


def test_leaving_one_out_tells_the_outcome_in_reverse_and_out_of_fold_hardly_does():
    """Inside a segment, whoever is right has one right question fewer among the others."""
    left, folded = [], []
    for seed in range(6):
        names, right, fold = useless(seed, 3)
        by_one = leave_out(names, right)
        by_fold = SegmentHistory.out_of_fold(names, right, fold)
        for segment in "012":
            own = np.array(names) == segment
            left.append(ranked(by_one[own], right[own]))
            folded.append(ranked(by_fold[own], right[own]))
    assert max(left) == 0.0
    assert np.mean(folded) > 0.4


def test_a_history_that_tells_something_still_tells_it_out_of_fold():
    rng = np.random.default_rng(4)
    names, right = drawn(rng, 30, 20, 0.5, 1.0)
    fold = rng.permutation(len(names)) % 5
    assert ranked(SegmentHistory.out_of_fold(names, right, fold), right) > 0.75


def test_a_history_survives_json():
    found = SegmentHistory.fit(*drawn(np.random.default_rng(5), 8, 4, 0.5, 3.0))
    back = SegmentHistory.from_state(json.loads(json.dumps(found.state())))
    assert back == found
    assert hash(back) == hash(found)


@pytest.mark.parametrize(
    "state",
    [
        *(None, [], {}, {"rates": {}, "base": 0.5}, {"rates": [], "base": 0.5, "strength": 1}),
        *({"rates": {"a": c}, "base": 0.5, "strength": 1} for c in (1, [1], [1, "1"], [1, None])),
        *({"rates": {}, "base": b, "strength": 1} for b in ("0.5", True, None, math.nan, 2)),
    ],
)
def test_a_state_that_is_no_history_is_refused(state):
    with pytest.raises(InputError, match="segment history"):
        SegmentHistory.from_state(state)
