"""What every signal promises, whatever it measures."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise import signals
from poise.errors import MissingEvidence, UsageError
from poise.signals import (
    SIGNALS,
    AskingSignal,
    Evidence,
    Leader,
    PrefixSignal,
    SegmentHistory,
    Stored,
    asking,
    compute,
)
from poise.types import FollowUp, Question, Sample, TokenLogprobs

CLASSES = {kind.__name__: kind for kind in vars(signals).values() if isinstance(kind, type)}
BY_NAME = (Stored("kept"), Leader(Stored("kept")), Stored("kept", "question"))
HISTORY = SegmentHistory({"sums": (4.0, 3.0)}, 0.5, 2.0)
EVERY = {**SIGNALS, **{signal.name: signal for signal in (*BY_NAME, HISTORY)}}
"""What the table names, what a name resolves to, and what is passed as an object."""

PREFIXED = [signal for signal in EVERY.values() if isinstance(signal, PrefixSignal)]
LEADERS = [signal for signal in PREFIXED if signal.reads is not None]
ASKING = [signal for signal in EVERY.values() if isinstance(signal, AskingSignal)]
STATED = {"p_true", "p_true_proposed", "p_true_own", "stated"}
EVIDENCE = {"answers", "text", "logprobs", "top_logprobs", "segment", "kept"}
REPLIES = STATED | {"stated_band"}
EVIDENCE |= REPLIES

WORDINGS = {
    ("p_true", 1): "388c7aa32dda",
    ("p_true_proposed", 1): "e6c318c8c44f",
    ("p_true_own", 1): "e9cdd209f67c",
    ("stated", 1): "a31b926f54cd",
    ("stated_band", 1): "5037961e2c39",
}
"""What each version of a wording asks, as a hash of it; old versions stay."""

every_signal = pytest.mark.parametrize("signal", EVERY.values(), ids=list(EVERY))
every_prefixed = pytest.mark.parametrize("signal", PREFIXED, ids=lambda signal: signal.name)
every_asking = pytest.mark.parametrize("signal", ASKING, ids=lambda signal: signal.name)


def yes(chance=0.6):
    """A reply that says Yes with this much probability, of 0.8 for yes and no together."""
    top = ((("Yes", math.log(0.8 * chance + 1e-12)), ("No", math.log(0.8 - 0.8 * chance + 1e-12))),)
    return FollowUp("Yes", TokenLogprobs(("Yes",), (top[0][0][1],), top))


ABOUT_THE_QUESTION = {
    "followups": {"stated_band": FollowUp("70-80%: likely")},
    "values": {"kept": 0.75},
    "segment": "sums",
}


def numbered(labels):
    """Cluster ids by first appearance; -1 stays."""
    ids: dict[int, int] = {}
    return [-1 if label < 0 else ids.setdefault(label, len(ids)) for label in labels]


def evidence_of(samples, ids):
    """The evidence of clusters ``ids``, led by the majority, of equals the first seen."""
    clusters = tuple(None if i < 0 else int(i) for i in ids)
    counts = tuple(clusters.count(i) for i in range(max(ids, default=-1) + 1))
    leader = counts.index(max(counts)) if counts else None
    return Evidence(tuple(samples), clusters, counts, leader, **ABOUT_THE_QUESTION)


def sample_of(index, answer, logprobs=(-0.5, -0.25), chance=0.5, **changes):
    """A sample that says "85% sure: ANSWER", with alternatives and replies about it."""
    tokens = ("85% sure:",) if answer is None else ("85% sure:", f" {answer}")
    chosen = tuple(logprobs[: len(tokens)])
    top = tuple(((token, c), ("x", -1.5)) for token, c in zip(tokens, chosen, strict=True))
    made = Sample(
        index,
        "".join(tokens),
        answer,
        logprobs=TokenLogprobs(tokens, chosen, top),
        signals={"kept": 0.25 + index},
        followups={name: yes(chance) for name in STATED} | {"stated": FollowUp("70%")},
    )
    return replace(made, **changes)


def sample_without(sample, need):
    """The same sample, one kind of evidence taken away."""
    logprobs = sample.logprobs
    changed = {
        "answers": {"answer": None, "unread": "no number"},
        "text": {"text": None},
        "logprobs": {"logprobs": None},
        "top_logprobs": {"logprobs": logprobs and replace(logprobs, top=None)},
        "kept": {"signals": {}},
    }
    others = {name: reply for name, reply in sample.followups.items() if name != need}
    return replace(sample, **changed.get(need, {"followups": others}))


@st.composite
def prefixes(draw, least=0, most=8):
    """Evidence of 0..8 samples: agreement or not, some unreadable, some without evidence."""
    labels = draw(st.lists(st.integers(-1, 4), min_size=least, max_size=most))
    logprob = st.floats(-1e4, 0.0)
    lacking = ["text", "logprobs", "top_logprobs", "kept", *sorted(STATED)]
    samples = []
    for index, label in enumerate(labels):
        answer = None if label < 0 else f"{label + 10}"
        given = draw(st.tuples(logprob, logprob))
        sample = sample_of(index, answer, given, draw(st.floats(0, 1)))
        dropped = draw(st.sampled_from([*[None] * 20, *lacking]))
        samples.append(sample if dropped is None else sample_without(sample, dropped))
    return evidence_of(samples, numbered(labels))


def full(n=4):
    """Evidence from which every signal of a pool can be read; 3 of 4 agree."""
    answers = [*["12"] * (n - 1), "13"] if n > 1 else ["12"]
    return evidence_of(
        [sample_of(index, answer) for index, answer in enumerate(answers)],
        numbered(map(int, answers)),
    )


def without(evidence, need):
    """The same evidence, one kind of it taken away."""
    samples = tuple(sample_without(sample, need) for sample in evidence.samples)
    if need == "answers":
        return Evidence(samples, (None,) * evidence.n, **ABOUT_THE_QUESTION)
    about = {"segment": {"segment": None}, "kept": {"values": {}}, "stated_band": {"followups": {}}}
    return replace(evidence, samples=samples, **about.get(need, {}))


def value_of(signal, evidence):
    try:
        return signal(evidence)
    except MissingEvidence:
        return None


def readable_by(signal):
    return full(1) if signal.level == "sample" else full()


def test_the_table_in_the_docs_lists_every_signal_with_its_level():
    rows = [line.split() for line in signals.__doc__.splitlines() if line[:2] == "``"]
    listed = {row[0].strip("`"): row[1] for row in rows}
    assert listed == {name: signal.level for name, signal in SIGNALS.items()}


@every_signal
def test_a_signal_is_known_by_its_own_name_and_declares_itself(signal):
    assert signal is HISTORY or signals.signal(signal.name) == signal
    assert signal.level in {"question", "sample", "pool"}
    assert signal.needs
    assert set(signal.needs) <= EVIDENCE
    assert len(set(signal.needs)) == len(signal.needs)
    low, high = signal.range
    assert low < high


@every_signal
def test_what_a_signal_needs_is_enough_for_it(signal):
    evidence = readable_by(signal)
    for need in sorted(EVIDENCE - set(signal.needs)):
        evidence = without(evidence, need)
    assert math.isfinite(signal(evidence))


@every_signal
def test_without_anything_it_needs_a_signal_says_what_is_missing(signal):
    for need in signal.needs:
        with pytest.raises(MissingEvidence, match=r"\w+ \w+") as raised:
            signal(without(readable_by(signal), need))
        assert "\n" not in str(raised.value)


@every_signal
@settings(max_examples=40)
@given(evidence=prefixes())
def test_a_value_is_in_the_declared_range_or_there_is_a_reason_for_none(signal, evidence):
    low, high = signal.range
    try:
        value = signal(evidence)
    except MissingEvidence as missing:
        assert str(missing)  # noqa: PT017 - raising is one of two good ends
    else:
        assert type(value) is float
        assert math.isfinite(value)
        assert low - 1e-12 <= value <= high + 1e-12


@every_signal
def test_a_signal_of_one_sample_reads_one_and_a_pools_signal_reads_many(signal):
    if signal.level == "sample":
        with pytest.raises(MissingEvidence, match=r"one sample.*leader"):
            signal(full(2))
    else:
        assert math.isfinite(signal(full(2)))


@every_signal
def test_a_signal_of_the_question_reads_no_sample(signal):
    alone = value_of(signal, Evidence(**ABOUT_THE_QUESTION))
    assert (alone is not None) == (signal.level == "question")
    assert alone is None or alone == signal(full())


@every_signal
def test_no_sample_gives_no_value(signal):
    with pytest.raises(MissingEvidence):
        signal(Evidence())


@every_signal
def test_a_signal_is_pure(signal):
    evidence = readable_by(signal)
    before = copy.deepcopy(evidence)
    first = signal(evidence)
    signal(full(1) if signal.level == "sample" else full(7))
    assert signal(evidence) == first
    assert evidence == before


@every_signal
def test_signals_are_values(signal):
    assert pickle.loads(pickle.dumps(signal)) == signal  # noqa: S301
    assert eval(repr(signal), CLASSES) == signal  # noqa: S307
    assert hash(pickle.loads(pickle.dumps(signal))) == hash(signal)  # noqa: S301
    assert [other == signal for other in EVERY.values()].count(True) == 1
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        signal.how = "sum"


@every_signal
@settings(max_examples=25)
@given(data=st.data(), evidence=prefixes(least=2))
def test_a_pools_signal_does_not_depend_on_the_samples_order_given_the_leader(
    signal, data, evidence
):
    order = data.draw(st.permutations(range(evidence.n)))
    labels = [evidence.clusters[i] for i in order]
    new = numbered([-1 if label is None else label for label in labels])
    ids = dict(zip(labels, new, strict=True))
    shuffled = evidence_of([evidence.samples[i] for i in order], new)
    shuffled = replace(shuffled, leader=ids.get(evidence.leader) if evidence.counts else None)
    one, other = value_of(signal, evidence), value_of(signal, shuffled)
    assert (one is None) == (other is None)
    assert one is None or one == pytest.approx(other, rel=1e-9, abs=1e-12)


@settings(max_examples=60)
@given(evidence=prefixes())
def test_compute_gives_every_name_a_finite_value_or_a_reason(evidence):
    values, missing = compute(SIGNALS, evidence)
    assert list(values) == list(SIGNALS)
    assert {name for name, value in values.items() if value is None} == set(missing)
    assert all(math.isfinite(value) for value in values.values() if value is not None)
    assert all(missing.values())


@pytest.mark.parametrize("bad", [-math.inf, math.nan, -1.5e308])
def test_compute_never_gives_what_is_not_a_number(bad):
    samples = [sample_of(index, "12", (bad, bad)) for index in range(3)]
    for evidence in (evidence_of(samples, [0, 0, 0]), Evidence.single(samples[0])):
        values, missing = compute(SIGNALS, evidence)
        assert all(math.isfinite(value) for value in values.values() if value is not None)
        assert {name for name, value in values.items() if value is None} == set(missing)
    assert "not a number" in missing["logprob_sum"]


def test_compute_refuses_a_name_that_is_not_there_and_names_those_that_are():
    with pytest.raises(UsageError, match=r"no signal 'sureness'; choose from agreement, "):
        compute(["agreement", "sureness"], full())


# -- signals that ask ---------------------------------------------------------------------------

TURNS = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Think of 5."},
    {"role": "assistant", "content": "Done."},
)
QUESTIONS = {
    "plain": Question.ask("What is 6 * 2?", "number"),
    "options": Question.ask("Which is a fruit?", "choice", options=("stone", "pear")),
    "turns": Question("3", (*TURNS, {"role": "user", "content": "Add 7 to it."}), None),
    "parts": Question("4", ({"role": "user", "content": [{"type": "text", "text": "6 * 2 = ?"}]},)),
}
every_question = pytest.mark.parametrize("question", QUESTIONS.values(), ids=list(QUESTIONS))


def test_the_signals_that_ask_are_those_that_read_a_reply():
    assert {signal.name for signal in ASKING} == REPLIES
    assert {name for name, _ in WORDINGS} == REPLIES
    for signal in ASKING:
        assert signal.needs == (signal.name,)
        assert signal.version >= 1


@every_signal
def test_what_has_to_be_asked_for_a_signal_is_what_it_needs(signal):
    if signal is not HISTORY:
        asked = asking([signal.name, signal.name])
        assert [one.name for one in asked] == [n for n in signal.needs if n in REPLIES]


@every_asking
@every_question
def test_asking_is_pure_and_gives_a_conversation_that_ends_with_the_user(signal, question):
    sample = sample_of(0, "12")
    before = copy.deepcopy((question, sample))
    ask = signal.ask(question, sample)
    assert ask == signal.ask(question, sample)
    assert (question, sample) == before
    assert ask.messages[-1]["role"] == "user"
    assert all(message["content"] for message in ask.messages)
    assert 1 <= ask.max_tokens <= 64
    assert ask.top_logprobs is None or 2 <= ask.top_logprobs <= 20


@every_asking
@every_question
def test_the_question_is_shown_with_its_earlier_turns_and_its_options(signal, question):
    shown = [json.dumps(message) for message in signal.ask(question, sample_of(0, "12")).messages]
    whole = "".join(shown)
    places = [shown.index(json.dumps(turn)) for turn in question.messages[:-1]]
    assert places == sorted(places)
    assert places[:1] in ([], [0])
    assert all(option in whole for option in question.options or ())
    content = question.messages[-1]["content"]
    assert (content if isinstance(content, str) else content[0]["text"]) in whole


@every_asking
def test_what_is_not_shown_does_not_change_what_is_asked(signal):
    question = QUESTIONS["plain"]
    one = sample_of(0, "12")
    other = replace(one, index=7, seed=3, tokens=9, seconds=2.0, logprobs=None, followups={})
    assert signal.ask(question, one) == signal.ask(question, other)
    assert signal.ask(replace(question, id="x", segment="y"), one) == signal.ask(question, one)
    retold = replace(one, text="Twelve, 12.")
    same = signal.ask(question, retold) == signal.ask(question, one)
    assert same == (signal.name != "p_true_own")


@every_asking
def test_nothing_is_asked_about_an_answer_that_could_not_be_read(signal):
    question = QUESTIONS["plain"]
    if signal.level == "question":
        expected = signal.ask(question, sample_of(0, "12"))
        assert expected is not None
    else:
        expected = None
        assert signal.ask(question, sample_of(0, "13")) != signal.ask(question, sample_of(0, "12"))
    for sample in (None, sample_of(0, None)):
        assert signal.ask(question, sample) == expected


@every_asking
def test_a_changed_wording_has_a_version_of_its_own(signal):
    asked = [signal.ask(question, sample_of(0, "12")) for question in QUESTIONS.values()]
    told = json.dumps([[ask.messages, ask.max_tokens, ask.top_logprobs] for ask in asked])
    found = hashlib.sha256(told.encode()).hexdigest()[:12]
    assert WORDINGS.get((signal.name, signal.version)) == found, (
        "the wording changed: raise the signal's version and note what it asks in WORDINGS"
    )


@every_asking
def test_a_reply_comes_before_a_stored_number_which_comes_before_nothing(signal):
    reply = yes(0.25)
    if not signal.name.startswith("p_true"):
        reply = FollowUp("25%")
    about = {"followups": {signal.name: reply}}
    if signal.level == "question":
        asked, kept = Evidence(**about), Evidence(values={signal.name: 0.625})
        bad, nothing = Evidence(values={signal.name: 1.5}), Evidence()
    else:
        bare = replace(sample_of(0, "12"), followups={}, signals={})
        numbers = {"signals": {signal.name: 0.625}}
        asked = Evidence.single(replace(bare, **about, **numbers))
        kept = Evidence.single(replace(bare, **numbers))
        bad = Evidence.single(replace(bare, signals={signal.name: 1.5}))
        nothing = Evidence.single(bare)
    assert signal(asked) == pytest.approx(0.25)
    assert signal(kept) == 0.625
    with pytest.raises(MissingEvidence, match=r"is 1.5, not in \[0, 1\]"):
        signal(bad)
    with pytest.raises(MissingEvidence, match="it was not asked"):
        signal(nothing)


# -- array forms --------------------------------------------------------------------------------


@st.composite
def tables(draw):
    """(m, N) cluster ids and values; few clusters or many, some unreadable, some values missing."""
    n = draw(st.integers(0, 12))
    label = st.integers(-1, draw(st.sampled_from([0, 1, 3, 12])))
    value = st.one_of(st.just(math.nan), *[st.floats(-100, 0)] * draw(st.sampled_from([1, 9])))
    rows = draw(st.lists(st.lists(label, min_size=n, max_size=n), max_size=5))
    kind = draw(st.sampled_from([np.int8, np.int16, np.int64]))
    codes = np.array([numbered(row) for row in rows], kind).reshape(len(rows), n)
    values = draw(st.lists(value, min_size=codes.size, max_size=codes.size))
    return codes, np.array(values, np.float64).reshape(codes.shape)


def by_hand(signal, ids, values):
    """The scalar form after each sample, nan where it raises."""
    found = []
    for n in range(1, len(ids) + 1):
        samples = []
        for index, (label, value) in enumerate(zip(ids[:n], values[:n], strict=True)):
            answer = None if label < 0 else "12"
            # One token whose log-probability is the value, under every signal of its tokens, and
            # the value stored, or stated in the text, under every other.
            one = TokenLogprobs(("12",), (value,), ((("12", value), ("x", 0.0)),))
            bare = math.isnan(value)
            of = (signal.reads or "").removeprefix("stored:")
            stated = of == "stated_inline" and not bare
            text = f"12 <confidence>{value}</confidence>" if stated else "12"
            stored = {} if bare else {of: value}
            logprobs = None if bare else one
            samples.append(Sample(index, text, answer, logprobs=logprobs, signals=stored))
        value = value_of(signal, evidence_of(samples, ids[:n]))
        found.append(math.nan if value is None else value)
    return found


def test_the_agreement_family_and_the_leaders_means_have_an_array_form():
    assert {signal.name for signal in PREFIXED} == {
        *("agreement", "margin", "negentropy", "repetition"),
        *(name for name in EVERY if name.startswith("leader_")),
    }
    assert {signal.reads for signal in LEADERS} == {
        name for name, signal in EVERY.items() if signal.level == "sample"
    }


@every_prefixed
@settings(max_examples=40)
@given(case=tables())
def test_the_array_form_equals_the_signal_on_every_prefix(signal, case):
    codes, values = case
    if signal.range == (0.0, 1.0):
        values = np.round(np.exp(values / 50), 3)
    expected = [
        by_hand(signal, row, given) for row, given in zip(codes.tolist(), values, strict=True)
    ]
    found = signal.over_prefixes(codes, values)
    assert found.shape == codes.shape
    assert found.dtype == np.float64
    np.testing.assert_allclose(
        found, np.array(expected).reshape(codes.shape), rtol=1e-9, atol=1e-12, equal_nan=True
    )


@pytest.mark.parametrize("name", ["margin", "leader_logprob"])
def test_the_array_form_equals_the_signal_over_more_rows_than_one_block_holds(name):
    signal = SIGNALS[name]
    rng = np.random.default_rng(11)
    patterns = np.array([numbered(row) for row in rng.integers(-1, 9, (20, 40))])
    values = -rng.random((20, 40))
    expected = np.array(
        [by_hand(signal, row, given) for row, given in zip(patterns.tolist(), values, strict=True)]
    )
    picked = rng.integers(0, 20, 27_000)
    found = signal.over_prefixes(patterns[picked], values[picked])
    np.testing.assert_allclose(found, expected[picked], rtol=1e-9, equal_nan=True)


@every_prefixed
def test_the_array_form_leaves_its_input_alone(signal):
    codes, values = np.array([[0, 1, -1, 0]]), np.array([[-1.0, -2.0, np.nan, -3.0]])
    codes.flags.writeable = values.flags.writeable = False
    first = signal.over_prefixes(codes, values)
    np.testing.assert_array_equal(signal.over_prefixes(codes, values), first)


@every_prefixed
@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (np.zeros((2, 4)), "signed integers"),
        (np.zeros((2, 4), np.uint8), "signed integers"),
        (np.zeros(4, np.int64), "signed integers"),
        (np.full((1, 3), 3), "by first appearance"),
        (np.full((1, 3), -2), "by first appearance"),
    ],
)
def test_arrays_that_hold_no_prefixes_are_refused(signal, codes, said):
    with pytest.raises(UsageError, match=said):
        signal.over_prefixes(codes, np.zeros(codes.shape))


@pytest.mark.parametrize("signal", LEADERS, ids=lambda signal: signal.name)
def test_the_leaders_mean_needs_one_value_a_sample(signal):
    codes = np.zeros((2, 3), np.int64)
    with pytest.raises(UsageError, match=f"give the values of {signal.reads}"):
        signal.over_prefixes(codes)
    with pytest.raises(UsageError, match=r"values of shape \(2, 2\)"):
        signal.over_prefixes(codes, np.zeros((2, 2)))
