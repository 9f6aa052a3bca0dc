"""Each signal by itself: exact small cases, and that higher is surer."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from poise.answers import KINDS
from poise.errors import MissingEvidence, UsageError
from poise.signals import (
    Agreement,
    AnswerLogprob,
    Evidence,
    Leader,
    Logprob,
    LogprobShare,
    Margin,
    Negentropy,
    Repetition,
    SoftSelfConsistency,
    StatedConfidence,
    Stored,
    TopMargin,
    answer_tokens,
    compute,
    signal,
)
from poise.types import FollowUp, Kind, Reply, Sample, TokenLogprobs

FAMILY = [Agreement(), Margin(), Negentropy(), Repetition()]


def pool(letters, logprobs=None, p_true=None):
    """Evidence of one sample a letter ("." unreadable), led by the first of the most frequent.

    ``logprobs`` and ``p_true``: one number a sample, that of its only token and its P(True).
    """
    seen = list(dict.fromkeys(letter for letter in letters if letter != "."))
    clusters = tuple(None if letter == "." else seen.index(letter) for letter in letters)
    counts = tuple(letters.count(letter) for letter in seen)
    samples = tuple(
        Sample(
            index,
            letter,
            None if letter == "." else letter,
            logprobs=None if logprobs is None else TokenLogprobs((letter,), (logprobs[index],)),
            signals={} if p_true is None else {"p_true": p_true[index]},
        )
        for index, letter in enumerate(letters)
    )
    return Evidence(samples, clusters, counts, counts.index(max(counts)) if counts else None)


def written(tokens, answer, chosen=None, text=None, top=None):
    """A sample of these tokens; each is less probable than the one before."""
    chosen = chosen or [-float(place) for place in range(len(tokens))]
    return Sample(
        0,
        "".join(tokens) if text is None else text,
        answer,
        unread=None if answer else "no number",
        logprobs=TokenLogprobs(tuple(tokens), tuple(chosen), top),
    )


# -- evidence -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"clusters": (0,)}, "1 clusters for 2 samples"),
        ({"clusters": (0, 2)}, "cluster 2 has no entry"),
        ({"clusters": (0, -1)}, "cluster -1 has no entry"),
        ({"counts": (2, 0)}, "are not the votes"),
        ({"counts": (1, 2)}, "are not the votes"),
        ({"clusters": (0, 0), "counts": (2, 0)}, "are not the votes"),
        ({"leader": 2}, "leader 2 is none of the 2 clusters"),
        ({"leader": None}, "leader None is none of the 2 clusters"),
        ({"clusters": (None, None), "counts": ()}, "leader 0 is none of the 0 clusters"),
    ],
)
def test_evidence_that_contradicts_itself_is_refused(fields, said):
    with pytest.raises(UsageError, match=said):
        replace(pool("ab"), **fields)


def test_a_single_sample_leads_itself_unless_it_is_unreadable():
    one = pool("a").samples[0]
    assert Evidence.single(one) == pool("a")
    assert Evidence.single(replace(one, answer=None)).leader is None


# -- agreement ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letters", "share", "margin", "negentropy", "repetition"),
    [
        ("aa", 1, 1, 1, 1),
        ("ab", 1 / 2, 0, 0, 0),
        ("a.", 1 / 2, 1 / 2, 0, 0),
        ("aab", 2 / 3, 1 / 3, 2 * math.log(2) / (3 * math.log(3)), 1 / 2),
        ("aabb", 1 / 2, 0, 1 / 2, 2 / 3),
        ("aaa.", 3 / 4, 3 / 4, 3 * math.log(3) / (4 * math.log(4)), 2 / 3),
        ("aaaabc..", 1 / 2, 3 / 8, 1 / 3, 3 / 7),
        ("a" * 13, 1, 1, 1, 1),
    ],
)
def test_agreement_is_counted(letters, share, margin, negentropy, repetition):
    found = [signal(pool(letters)) for signal in FAMILY]
    assert found == pytest.approx([share, margin, negentropy, repetition], abs=1e-15)


@pytest.mark.parametrize("signal", FAMILY, ids=repr)
@pytest.mark.parametrize(
    ("letters", "said"),
    [
        ("a", "one sample can only agree with itself"),
        (".", "no readable answer"),
        ("...", "no readable answer"),
        ("", "no sample was drawn"),
    ],
)
def test_agreement_of_nothing_with_nothing_is_missing(signal, letters, said):
    with pytest.raises(MissingEvidence, match=said):
        signal(pool(letters))


@pytest.mark.parametrize("signal", FAMILY, ids=repr)
@given(letters=st.text("abcd.", min_size=2, max_size=20))
def test_a_sample_that_agrees_with_the_leader_never_makes_a_pool_less_sure(signal, letters):
    assume(letters.strip("."))
    evidence = pool(letters)
    leader = letters[evidence.clusters.index(evidence.leader)]
    assert signal(pool(letters + leader)) >= signal(evidence) - 1e-15


@pytest.mark.parametrize("signal", [Agreement(), Margin(), Repetition()], ids=repr)
@given(letters=st.text("abcd", min_size=2, max_size=20), new=st.sampled_from("e."))
def test_a_sample_that_agrees_with_none_never_makes_a_pool_surer(signal, letters, new):
    assert signal(pool(letters + new)) <= signal(pool(letters))


def test_a_leader_that_another_vote_elected_may_be_behind():
    behind = replace(pool("aab"), leader=1)
    assert Agreement()(behind) == 1 / 3
    assert Margin()(behind) == -1 / 3


# -- log-probabilities --------------------------------------------------------------------------


def test_a_replys_logprob_is_the_mean_and_its_sum_the_whole():
    one = Evidence.single(written(["a", "b", "c"], None, [-1.0, -2.0, -6.0]))
    assert Logprob()(one) == -3.0
    assert Logprob("sum")(one) == -9.0


def test_a_reply_without_tokens_has_no_logprob():
    one = Evidence.single(written([], None))
    with pytest.raises(MissingEvidence, match="no tokens"):
        Logprob()(one)


def test_the_leaders_mean_is_over_the_leaders_samples_only():
    evidence = pool("aba.", [-1.0, -50.0, -3.0, -70.0])
    assert Leader(Logprob())(evidence) == -2.0
    assert Leader(AnswerLogprob())(evidence) == -2.0
    assert Leader(Logprob())(pool("a", [-4.0])) == -4.0


def test_one_of_the_leaders_samples_without_a_value_is_named():
    evidence = pool("aba", [-1.0, -1.0, -1.0])
    bare = replace(evidence.samples[2], logprobs=None)
    with pytest.raises(MissingEvidence, match=r"sample 2: no log-probabilities .* ask the server"):
        Leader(Logprob())(replace(evidence, samples=(*evidence.samples[:2], bare)))
    with pytest.raises(MissingEvidence, match=r"sample 2: no log-probabilities"):
        LogprobShare()(replace(evidence, samples=(*evidence.samples[:2], bare)))
    follower = replace(evidence.samples[1], logprobs=None)
    others = (evidence.samples[0], follower, evidence.samples[2])
    assert Leader(Logprob())(replace(evidence, samples=others)) == -1.0


@given(
    logprobs=st.lists(st.floats(-50, 0), min_size=1, max_size=6),
    more=st.floats(0, 10),
    data=st.data(),
)
def test_a_more_probable_token_never_makes_a_sample_less_sure(logprobs, more, data):
    place = data.draw(st.integers(0, len(logprobs) - 1))
    raised = [*logprobs]
    raised[place] = min(0.0, raised[place] + more)
    tokens = [f"{digit}" for digit in range(1, len(logprobs) + 1)]
    top = tuple((("x", -3.0),) for _ in tokens)
    low, high = (
        Evidence.single(written(tokens, "".join(tokens), values, top=top))
        for values in (logprobs, raised)
    )
    for of in (
        *(Logprob(), Logprob("sum"), TopMargin()),
        *(AnswerLogprob(), AnswerLogprob("min"), AnswerLogprob("sum")),
    ):
        assert of(high) >= of(low) - 1e-12


def test_the_top_margin_is_to_the_best_alternative_that_is_not_the_token_itself():
    top = ((("a", -0.5), ("b", -1.0), ("c", -4.0)), (("c", -0.25), ("b", -2.0)))
    one = Evidence.single(written(["a", "b"], None, [-0.5, -2.0], top=top))
    assert TopMargin()(one) == pytest.approx((0.5 + -1.75) / 2)


def test_a_token_without_an_alternative_has_no_top_margin():
    top = ((("a", -0.5), ("b", -1.0)), (("b", -2.0),))
    with pytest.raises(MissingEvidence, match="token 1 came without an alternative"):
        TopMargin()(Evidence.single(written(["a", "b"], None, [-0.5, -2.0], top=top)))


@pytest.mark.parametrize("kind", [Logprob, AnswerLogprob])
def test_an_aggregate_that_is_not_there_is_refused(kind):
    with pytest.raises(UsageError, match=r"how='median': must be mean.* or \w+"):
        kind("median")


def test_the_leaders_mean_of_a_pools_signal_is_refused():
    with pytest.raises(UsageError, match="agreement is a signal of a pool"):
        Leader(Agreement())


# -- the answer's place in the reply ------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "answer", "found"),
    [
        # digits one by one, the last of several places, white space and stops apart
        (["6", "0", " *", " ", "6", " =", " ", "3", "6", "0"], "360", (7, 10)),
        (["6", "0", " = ", "6", "0", " -", " 0", "."], "60", (3, 5)),
        (["It is", " 12", ". Not", " 120", "."], "12", (1, 2)),
        (["12", " and 120", " and 3.12", " and x12"], "12", (0, 1)),
        # a marked answer wins over a later mention
        (["The answer is", " 60", ", which is 6 times", " 60"], "60", (1, 2)),
        (["\\boxed{", "60", "} and", " 60", "."], "60", (1, 2)),
        (["\\fbox{", "6", "} \\boxed{", "60", "} or", " 6"], "6", (5, 6)),
        # other spellings of the same number
        (["is $", "1", ",", "234", ".", "50", "."], "1234.5", (1, 6)),
        (["x = ", "\\frac{", "1}{", "3}", "."], "1/3", (1, 4)),
        (["so ", "2/6"], "1/3", (1, 2)),
        # the sign belongs to the number
        (["5 - 10 =", " ", "-", "5"], "-5", (2, 4)),
        (["5 =", " 5", " and not", " -5"], "5", (1, 2)),
        (["10-", "5", " = 5 - 0 = ", "5"], "5", (3, 4)),
        # words
        (["The capital: ", "New", "-", "York", "."], "new york", (1, 4)),
        (["Yes", ", because", " yes", " means yes"], "yes", (0, 1)),
        (["I say", " it is", " True", "."], "yes", (2, 3)),
        (["A", " is wrong; the answer is", " (", "B", ") for A"], "B", (3, 4)),
        (["It is a", " (", "a", ") I think"], "A", (2, 3)),
        # thinking is not answering
        (["<think>", "12", "</think>", "\n", "12", "."], "12", (4, 5)),
    ],
)
def test_the_answers_tokens_are_found(tokens, answer, found):
    assert answer_tokens(written(tokens, answer)) == found


def test_the_answers_aggregates_are_over_its_tokens_only():
    one = Evidence.single(written(["is ", "1", "2", "."], "12", [-9.0, -1.0, -3.0, -7.0]))
    assert AnswerLogprob()(one) == -2.0
    assert AnswerLogprob("min")(one) == -3.0
    assert AnswerLogprob("sum")(one) == -4.0


@pytest.mark.parametrize(
    ("tokens", "text", "found"),
    [
        (["I think 7", "</think>", "\n\n", "It is", " 7", "<|end|>"], "It is 7", (4, 5)),
        ([" It is", " 7", "\n"], "It is 7", (1, 2)),
        (["It is", " 7", "\n\n", "Q", ":"], "It is 7", (1, 2)),
        (["It is", " 7\n"], " It is 7\n", (1, 2)),
    ],
)
def test_what_a_server_leaves_out_of_the_text_is_not_searched(tokens, text, found):
    assert answer_tokens(written(tokens, "7", text=text)) == found


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (written(["a"], None), "no readable answer: no number"),
        (replace(written(["7"], "7"), logprobs=None), "no log-probabilities came"),
        (written([], "7", text="7"), "no tokens"),
        (replace(written(["7"], "7"), text=None), "text was not kept"),
        (written(["It is", " 8"], "7", text="It is 7"), "are not the reply's text"),
        (written(["   "], "7"), "are not the reply's text"),
        (written(["seven"], "7"), "does not spell out its answer '7'"),
        (written(["77"], "7"), "does not spell out"),
        (replace(written(["seven"], "7"), answer=""), "does not spell out its answer ''"),
        (written(["a bank"], "A"), "does not spell out"),
        (written(["x"], "y" * 99), r"answer 'y{37}\.\.\.'"),
    ],
)
def test_where_the_answers_tokens_cannot_be_told_the_reason_is_given(sample, said):
    with pytest.raises(MissingEvidence, match=said):
        answer_tokens(sample)


@given(
    before=st.text("ab 1.=-$\n", max_size=12),
    number=st.integers(-9999, 9999),
    after=st.text("ab .!\n", max_size=6),
    cuts=st.sets(st.integers(1, 30), max_size=12),
)
def test_the_tokens_found_always_hold_the_number_that_was_read(before, number, after, cuts):
    text = f"{before} {number}{after}"
    answer = KINDS[Kind.NUMBER].read(Reply(text), None).answer
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    tokens = [text[a:b] for a, b in itertools.pairwise(edges)]
    assume(answer is not None)
    sample = written(tokens, answer)
    try:
        first, end = answer_tokens(sample)
    except MissingEvidence:
        # Only a sign set apart by blanks, or the reading of a fraction, has no such place.
        assert "-" in text or "/" in answer
        return
    held = "".join(tokens[first:end])
    digits = "".join(character for character in answer if character.isdigit()).strip("0")
    assert digits in "".join(character for character in held if character.isdigit())
    assert 0 <= first < end <= len(tokens)


@given(text=st.text(max_size=40), answer=st.text(max_size=8))
def test_no_reply_and_no_answer_makes_the_search_fail_otherwise(text, answer):
    sample = written(list(text), answer, text=text)
    values, missing = compute(["answer_logprob"], Evidence.single(sample))
    assert (values["answer_logprob"] is None) == ("answer_logprob" in missing)


# -- weighted shares ----------------------------------------------------------------------------


def test_the_logprob_share_weighs_by_probability_and_counts_the_unreadable():
    half, quarter = math.log(0.5), math.log(0.25)
    assert LogprobShare()(pool("aab", [half, half, half])) == pytest.approx(2 / 3)
    assert LogprobShare()(pool("ab", [half, quarter])) == pytest.approx(2 / 3)
    assert LogprobShare()(pool("a.", [half, quarter])) == pytest.approx(2 / 3)
    assert LogprobShare()(pool("ab", [-9e3, -9e3])) == 0.5


@given(
    letters=st.text("ab.", min_size=2, max_size=8),
    shift=st.floats(0, 3),
    logprob=st.floats(-5, -3),
)
def test_a_more_probable_leader_never_has_the_smaller_logprob_share(letters, shift, logprob):
    assume(letters.strip("."))
    leader = pool(letters).leader
    sure = [logprob + shift * (c == leader) for c in pool(letters).clusters]
    before = LogprobShare()(pool(letters, [logprob] * len(letters)))
    assert before == pytest.approx(Agreement()(pool(letters)))
    assert LogprobShare()(pool(letters, sure)) >= before - 1e-12


def test_soft_self_consistency_is_the_share_of_confidence_among_the_readable():
    assert SoftSelfConsistency()(pool("aab", p_true=[0.5, 0.25, 0.25])) == 0.75
    assert SoftSelfConsistency()(pool("aa.", p_true=[0.5, 0.25, None])) == 1.0
    assert SoftSelfConsistency()(pool("aab", p_true=[0.0, 0.0, 0.25])) == 0.0


@pytest.mark.parametrize(
    ("letters", "p_true", "said"),
    [
        ("a", [0.5], "one sample can only agree with itself"),
        ("a.", [0.5, 0.5], "one readable sample can only agree with itself"),
        ("ab", None, "sample 0: it was not asked: .* follow-up p_true"),
        ("ab", [0.5, None], "sample 1: it was not asked"),
        ("ab", [0.5, 1.5], r"sample 1: p_true is 1.5, not in \[0, 1\]"),
        ("ab", [0.5, math.nan], "sample 1: p_true is nan"),
        ("ab", [0.0, 0.0], "every sample's p_true is 0"),
    ],
)
def test_soft_self_consistency_without_its_weights_says_why(letters, p_true, said):
    with pytest.raises(MissingEvidence, match=said):
        SoftSelfConsistency()(pool(letters, p_true=p_true))


def test_soft_self_consistency_takes_the_confidence_it_is_told():
    evidence = pool("ab")
    told = [
        replace(s, signals={"stated": c}) for s, c in zip(evidence.samples, [0.9, 0.3], strict=True)
    ]
    told = replace(evidence, samples=tuple(told))
    for confidence in (StatedConfidence(), Stored("stated")):
        share = SoftSelfConsistency(confidence)
        assert share.needs == ("answers", "stated")
        assert share(told) == pytest.approx(0.75)


def test_soft_self_consistency_weighs_by_replies_before_stored_numbers():
    evidence = pool("ab", p_true=[0.5, 0.5])
    top = ((("Yes", math.log(0.9)), ("No", math.log(0.1))),)
    reply = FollowUp("Yes", TokenLogprobs(("Yes",), (math.log(0.9),), top))
    first = replace(evidence.samples[0], followups={"p_true": reply})
    asked = replace(evidence, samples=(first, evidence.samples[1]))
    assert SoftSelfConsistency()(asked) == pytest.approx(0.9 / 1.4)


def test_soft_self_consistency_refuses_a_confidence_that_is_not_of_samples_or_not_a_share():
    with pytest.raises(UsageError, match="agreement is a signal of a pool"):
        SoftSelfConsistency(Agreement())
    with pytest.raises(MissingEvidence, match=r"sample 0: logprob is -2.0, not in \[0, 1\]"):
        SoftSelfConsistency(Logprob())(pool("ab", [-2.0, -1.0]))


# -- stored numbers -----------------------------------------------------------------------------


def test_a_stored_number_is_a_signal_by_name_at_each_level():
    evidence = pool("aab", p_true=[-3.0, 5.0, 9.0])
    assert signal("stored:p_true")(Evidence.single(evidence.samples[1])) == 5.0
    assert signal("leader_stored:p_true")(evidence) == 1.0
    assert signal("stored_question:probe")(replace(evidence, values={"probe": 7})) == 7.0
    assert signal("stored:a:b") == Stored("a:b")
    assert signal("agreement") == Agreement()


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_a_stored_number_that_is_none_is_missing(bad):
    one = replace(pool("a").samples[0], signals={"probe": bad})
    for evidence, name in (
        (Evidence.single(one), "stored:probe"),
        (replace(pool("a"), samples=(one,)), "leader_stored:probe"),
        (Evidence(values={"probe": bad}), "stored_question:probe"),
        (Evidence(), "stored_question:probe"),
    ):
        values, missing = compute([name], evidence)
        assert values == {name: None}
        assert "probe" in missing[name]


@pytest.mark.parametrize("name", ["stored:", "stored", "leader:x", "pool:x", "", ":x"])
def test_a_name_that_stores_nothing_is_refused_and_the_forms_are_named(name):
    with pytest.raises(UsageError, match=r"no signal .*stored_question:NAME"):
        signal(name)
    with pytest.raises(UsageError):
        Stored("")
    with pytest.raises(UsageError):
        Stored("x", "pool")
