"""What every signal promises, whatever it measures."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise import signals
from poise.errors import MissingEvidence, UsageError
from poise.signals import SIGNALS, Evidence, PrefixSignal, compute
from poise.types import Sample, TokenLogprobs

CLASSES = {kind.__name__: kind for kind in vars(signals).values() if isinstance(kind, type)}
PREFIXED = [signal for signal in SIGNALS.values() if isinstance(signal, PrefixSignal)]
LEADERS = [signal for signal in PREFIXED if signal.reads is not None]
EVIDENCE = {"answers", "logprobs", "top_logprobs", "p_true"}

every_signal = pytest.mark.parametrize("signal", SIGNALS.values(), ids=list(SIGNALS))
every_prefixed = pytest.mark.parametrize("signal", PREFIXED, ids=lambda signal: signal.name)


def numbered(labels):
    """Cluster ids by first appearance; -1 stays."""
    ids: dict[int, int] = {}
    return [-1 if label < 0 else ids.setdefault(label, len(ids)) for label in labels]


def evidence_of(samples, ids):
    """The evidence of clusters ``ids``, led by the majority, of equals the first seen."""
    clusters = tuple(None if i < 0 else int(i) for i in ids)
    counts = tuple(clusters.count(i) for i in range(max(ids, default=-1) + 1))
    leader = counts.index(max(counts)) if counts else None
    return Evidence(tuple(samples), clusters, counts, leader)


def sample_of(index, answer, logprobs=(-0.5, -0.25), **changes):
    """A sample that says "so ANSWER", with alternatives and a P(True)."""
    text = "so" if answer is None else f"so {answer}"
    tokens = ("so",) if answer is None else ("so", f" {answer}")
    chosen = tuple(logprobs[: len(tokens)])
    top = tuple(((token, c), ("x", -1.5)) for token, c in zip(tokens, chosen, strict=True))
    given = TokenLogprobs(tokens, chosen, top)
    made = Sample(index, text, answer, logprobs=given, signals={"p_true": 0.5})
    return replace(made, **changes)


@st.composite
def prefixes(draw, least=0, most=8):
    """Evidence of 0..8 samples: agreement or not, some unreadable, some without evidence."""
    labels = draw(st.lists(st.integers(-1, 4), min_size=least, max_size=most))
    logprob = st.floats(-1e4, 0.0)
    samples = []
    for index, label in enumerate(labels):
        answer = None if label < 0 else f"{label + 10}"
        sample = sample_of(index, answer, draw(st.tuples(logprob, logprob)))
        dropped = draw(st.sampled_from([None, None, None, None, "logprobs", "top", "p_true"]))
        if dropped == "logprobs":
            sample = replace(sample, logprobs=None)
        elif dropped == "top":
            sample = replace(sample, logprobs=replace(sample.logprobs, top=None))
        p_true = None if dropped == "p_true" else draw(st.floats(0, 1))
        samples.append(replace(sample, signals={"p_true": p_true}))
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
    changed = {
        "answers": lambda s: replace(s, answer=None, unread="no number"),
        "logprobs": lambda s: replace(s, logprobs=None),
        "top_logprobs": lambda s: replace(s, logprobs=s.logprobs and replace(s.logprobs, top=None)),
        "p_true": lambda s: replace(s, signals={}),
    }[need]
    samples = tuple(changed(sample) for sample in evidence.samples)
    if need == "answers":
        return Evidence(samples, (None,) * evidence.n)
    return replace(evidence, samples=samples)


def readable_by(signal):
    return full(1) if signal.level == "sample" else full()


def test_the_table_in_the_docs_lists_every_signal_with_its_level():
    rows = [line.split() for line in signals.__doc__.splitlines() if line[:2] == "``"]
    listed = {row[0].strip("`"): row[1] for row in rows}
    assert listed == {name: signal.level for name, signal in SIGNALS.items()}


@every_signal
def test_a_signal_is_known_by_its_own_name_and_declares_itself(signal):
    assert SIGNALS[signal.name] is signal
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
@settings(max_examples=60)
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
    assert [other == signal for other in SIGNALS.values()].count(True) == 1
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        signal.how = "sum"


@every_signal
@settings(max_examples=40)
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
    (one,), (other,) = (compute([signal.name], e)[0].values() for e in (evidence, shuffled))
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
            sample = sample_of(index, answer, (value, value))
            # One token whose log-probability is the value, under every signal of a sample.
            one = TokenLogprobs(("12",), (value,), ((("12", value), ("x", 0.0)),))
            given = None if math.isnan(value) else one
            samples.append(replace(sample, text="12", logprobs=given))
        try:
            found.append(signal(evidence_of(samples, ids[:n])))
        except MissingEvidence:
            found.append(math.nan)
    return found


def test_the_agreement_family_and_the_leaders_means_have_an_array_form():
    assert {signal.name for signal in PREFIXED} == {
        *("agreement", "margin", "negentropy", "repetition"),
        *(name for name in SIGNALS if name.startswith("leader_")),
    }
    assert {signal.reads for signal in LEADERS} == {
        name for name, signal in SIGNALS.items() if signal.level == "sample"
    }


@every_prefixed
@settings(max_examples=40)
@given(case=tables())
def test_the_array_form_equals_the_signal_on_every_prefix(signal, case):
    codes, values = case
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
