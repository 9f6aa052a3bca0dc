"""Fitting: sets of signals, what is missing, histories of segments, capability, refusals."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from poise.backends import Scripted
from poise.capability import Capability
from poise.domain import QuestionTest
from poise.errors import InputError, RefusedError, UsageError
from poise.fit import fit, prefixes
from poise.fit.maps import folds, subsets
from poise.metrics import auroc, mse_to_mu
from poise.policies import Abstain, Beta, Cges, Fixed, Policy, Value
from poise.pools import Labelled
from poise.profile import Profile, load
from poise.score import score
from poise.segmenter import UNPLACED, Rules
from poise.signals import Evidence
from poise.solve import Setting, solve
from poise.state_map import COUNTS, StateMap
from poise.types import Arm, Kind, Question, Reply, Sample, StopReason, TokenLogprobs
from two_worlds import pools

POLICY = Policy(Beta(0.95, 8))


def with_p_true(listed: list[Labelled], seed: int = 0, *, useless: bool = False) -> list[Labelled]:
    """The pools with a stored P(True) that ranks well, or not at all."""
    rng = np.random.default_rng(seed)
    made = []
    for one in listed:
        samples = []
        for sample, right in zip(one.pool.samples, one.correct, strict=True):
            lift = 0.0 if useless else 1.5 * (2 * (right or 0) - 1)
            value = float(1 / (1 + np.exp(-rng.normal(lift, 1.0))))
            samples.append(replace(sample, signals={"p_true": value}))
        made.append(replace(one, pool=replace(one.pool, samples=tuple(samples))))
    return made


def with_segments(listed: list[Labelled], *, told: bool = True) -> list[Labelled]:
    """The pools parted into three segments, by how hard they are, or at random."""
    rng = np.random.default_rng(1)
    made = []
    for one in listed:
        share = sum(one.correct) / len(one.correct)  # type: ignore[arg-type]
        place = int(share * 2.99) if told else int(rng.integers(3))
        name = ("hard", "fair", "easy")[place]
        text = f"What is in the {name} urn {one.pool.question_id}?"
        messages = ({"role": "user", "content": text},)
        made.append(replace(one, pool=replace(one.pool, segment=name, messages=messages)))
    return made


@cache
def asked_for() -> Profile:
    return fit(with_p_true(pools(300, 8, 1)), POLICY, signals=("leader_logprob", "leader_p_true"))


def evidence(*answers: str, **columns: Any) -> Evidence:
    codes = [int(answer) for answer in answers]
    samples = tuple(Sample(i, a, a, **columns) for i, a in enumerate(answers))
    counts = tuple(codes.count(code) for code in range(max(codes) + 1))
    return Evidence(samples, tuple(codes), counts, int(np.argmax(counts)))


# -- sets of signals -----------------------------------------------------------------------------


def test_every_set_of_evidence_gets_maps_and_votes_alone_come_last() -> None:
    further = ("leader_logprob", "leader_top_margin", "leader_p_true", "segment_history")
    listed = subsets((*COUNTS, *further))
    assert listed[0] == (*COUNTS, *further)
    assert listed[-1] == COUNTS
    assert len(listed) == len(set(listed)) == 8
    together = {"leader_logprob", "leader_top_margin"}
    assert all(len(together & set(one)) in {0, 2} for one in listed)


def test_many_kinds_of_evidence_are_dropped_one_at_a_time() -> None:
    names = ("leader_logprob", "leader_p_true", "leader_stated", "stated_band", "segment_history")
    listed = subsets((*COUNTS, *names))
    assert len(listed) == 1 + 5 + 1
    assert {len(one) for one in listed} == {8, 7, 3}


def test_single_samples_have_no_set_without_signals() -> None:
    assert subsets(("leader_logprob",)) == [("leader_logprob",)]


def test_a_missing_signal_falls_back_to_the_map_without_it_and_says_so() -> None:
    profile = asked_for()
    logprobs = TokenLogprobs(("x",), (-0.4,))
    whole = evidence("0", "0", "0", "0", logprobs=logprobs, signals={"p_true": 0.9})
    doubted = evidence("0", "0", "0", "0", logprobs=logprobs, signals={"p_true": 0.05})
    bare = evidence("0", "0", "0", "0")
    told = [profile.state(one, StopReason.SURE) for one in (whole, doubted, bare)]
    assert [set(one.used) - set(COUNTS) for one in told] == [
        {"leader_logprob", "leader_p_true"},
        {"leader_logprob", "leader_p_true"},
        set(),
    ]
    chances = [one.probability or 0 for one in told]
    assert chances[0] > chances[2] > chances[1]
    assert set(told[2].missing) == {"leader_logprob", "leader_p_true"}
    assert told[2].reason is None


def test_a_useful_signal_lowers_the_loss_and_a_useless_one_does_not_raise_it() -> None:
    def loss(profile: Profile) -> float:
        return float(profile.data["held_out"]["log_loss"]["value"])

    listed = pools(400, 8, 1, logprobs=False)
    votes = loss(fit(listed, POLICY))
    helped = loss(fit(with_p_true(listed), POLICY, signals=("leader_p_true",)))
    idle = loss(fit(with_p_true(listed, useless=True), POLICY, signals=("leader_p_true",)))
    assert helped < votes - 0.05
    assert idle < votes + 0.02


def test_a_signal_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="leader_p_true is missing at 100%"):
        fit(pools(150, 8, 1), POLICY, signals=("leader_p_true",))
    with pytest.raises(UsageError, match="name leader_logprob"):
        fit(pools(150, 8, 1), POLICY, signals=("logprob",))
    with pytest.raises(UsageError, match="no signal 'nothing'"):
        fit(pools(150, 8, 1), POLICY, signals=("nothing",))


def test_the_profile_comes_back_from_its_file(tmp_path: Any) -> None:
    profile = fit(with_segments(with_p_true(pools(150, 8, 1))), POLICY, signals=("leader_p_true",))
    profile.save(tmp_path / "p.json")
    back = load(tmp_path / "p.json")
    assert back.to_dict() == profile.to_dict()
    body = profile.to_dict()
    assert {"name": "leader_p_true", "version": 1} in body["signals"]


def test_a_profile_of_another_wording_is_refused(tmp_path: Any) -> None:
    profile = asked_for()
    body = profile.to_dict()
    body["signals"] = [
        {**one, "version": 0} if one["name"] == "leader_p_true" else one for one in body["signals"]
    ]
    import json

    from poise.profile import _seal  # the seal is no secret; a user's own tool may set it

    body.pop("sha256")
    body["sha256"] = _seal(body)
    (tmp_path / "p.json").write_text(json.dumps(body))
    with pytest.raises(InputError, match="another wording of leader_p_true"):
        load(tmp_path / "p.json")


# -- single samples ------------------------------------------------------------------------------


def test_a_policy_of_one_sample_is_fitted_on_every_sample_by_itself() -> None:
    listed = pools(200, 4, 1)
    arrays = prefixes(listed, single=True)
    assert arrays.codes.shape == (800, 1)
    assert not set(COUNTS) & set(arrays.signals)
    profile = fit(listed, Policy(Fixed(1)))
    assert profile.data["held_out"]["rows"] == 800
    assert profile.data["questions"] == 200
    assert profile.capability is None


def test_a_policy_of_one_sample_without_signals_is_refused() -> None:
    with pytest.raises(RefusedError, match="no signal"):
        fit(pools(150, 4, 1, logprobs=False), Policy(Fixed(1)))


def test_a_policy_that_stops_at_the_first_sample_though_it_may_draw_more_is_refused() -> None:
    """There is no vote at its stops, and samples by themselves are what ``fixed:n=1`` is for."""
    with pytest.raises(RefusedError, match=r"0 of 150 questions .* two samples"):
        fit(pools(150, 8, 1), Policy(Beta(0.5, 8)))


def test_greedy_single_samples_are_an_arm_like_any_other() -> None:
    listed = [
        replace(one, pool=replace(one.pool, decoding={"temperature": 0}))
        for one in with_p_true(pools(150, 1, 1))
    ]
    profile = fit(listed, Policy(Fixed(1)), signals=("leader_p_true",))
    assert profile.arm["decoding"] == {"temperature": 0}
    with pytest.raises(RefusedError, match="repeat one draw"):
        fit(listed, POLICY)


# -- segments ------------------------------------------------------------------------------------


def test_segments_with_different_rates_help_and_random_ones_do_not() -> None:
    def loss(listed: list[Labelled]) -> float:
        return float(fit(listed, POLICY).data["held_out"]["log_loss"]["value"])

    plain = pools(400, 8, 1, logprobs=False)
    votes = loss(plain)
    assert loss(with_segments(plain)) < votes - 0.05
    assert loss(with_segments(plain, told=False)) < votes + 0.02


def test_a_question_finds_its_segment_by_its_wording_or_goes_without() -> None:
    profile = fit(with_segments(pools(300, 8, 1, logprobs=False)), POLICY)
    easy, hard = (
        Question.ask(f"What is in the {x} urn 1-7?", Kind.NUMBER) for x in ("easy", "hard")
    )
    assert (profile.segment(easy), profile.segment(hard)) == ("easy", "hard")
    stated = replace(hard, segment="easy")
    assert profile.segment(stated) == "hard"  # a caller's word may mean anything
    assert profile.segment(Question.ask("Of what colour is it?", Kind.NUMBER)) == UNPLACED
    votes = evidence("0", "1", "0", "1", "0", "2", "3", "0")
    told = [
        profile.state(replace(votes, segment=name), StopReason.BUDGET)
        for name in ("easy", "hard", None, "unheard of")
    ]
    easy_chance, hard_chance, *others = (one.probability or 0 for one in told)
    assert easy_chance > hard_chance + 0.2
    assert others[0] == others[1]
    assert "no segment" in told[2].missing["segment_history"]
    assert "unheard of" in told[3].missing["segment_history"]


def test_rules_come_before_the_classifier() -> None:
    rules = Rules((("easy", "urn 1-7"),))
    profile = fit(with_segments(pools(300, 8, 1, logprobs=False)), POLICY, rules=rules)
    assert profile.segment(Question.ask("What is in the hard urn 1-7?", Kind.NUMBER)) == "easy"


# -- capability ----------------------------------------------------------------------------------


def test_capability_is_about_one_more_sample_and_not_about_the_vote() -> None:
    profile = fit(pools(600, 8, 1, logprobs=False), POLICY)
    assert isinstance(profile.capability, Capability)
    means, right, chances, agreed = [], [], [], []
    fresh = pools(500, 24, 5, logprobs=False)
    codes = prefixes(fresh).codes
    for one, row, n in zip(fresh, codes, POLICY.stop.stops(codes[:, :8]), strict=True):
        told = profile.state(evidence(*(str(code) for code in row[:n])), StopReason.SURE)
        if told.capability is not None:
            a, b = told.capability
            means.append(a / (a + b))
            right.append(sum(one.correct[8:]))  # type: ignore[arg-type]
            chances.append(told.probability or 0)
            agreed.append(told.signals["agreement"])
    later = np.full(len(means), 16)
    held = mse_to_mu(means, right, later).value
    base = mse_to_mu(np.full(len(means), np.mean(right) / 16), right, later).value
    assert held is not None
    assert base is not None
    share = mse_to_mu(agreed, right, later).value
    assert share is not None
    assert held < 0.8 * base < share
    assert abs(np.mean(means) - np.mean(right) / 16) < 0.04
    # The vote is right more often than one sample, and the two targets are kept apart.
    assert np.mean(chances) > np.mean(means) + 0.02


def test_the_posterior_is_as_wide_as_mu_spreads() -> None:
    """Share of later samples that are right, standardised by the posterior, has variance near 1."""
    profile = fit(pools(600, 8, 1, logprobs=False), Policy(Fixed(4)))
    scores = []
    fresh = pools(500, 24, 6, logprobs=False)
    for one, row in zip(fresh, prefixes(fresh).codes, strict=True):
        told = profile.state(evidence(*(str(code) for code in row[:4])), StopReason.FIXED)
        if told.capability is None:
            continue
        a, b = told.capability
        mean, k = a / (a + b), a + b
        spread = mean * (1 - mean) / 16 * (1 + 15 / (k + 1))
        scores.append((sum(one.correct[8:]) / 16 - mean) / np.sqrt(spread))  # type: ignore[arg-type]
    assert 0.7 < np.var(scores) < 1.4


# -- no signal, bad shapes -----------------------------------------------------------------------


def test_pools_without_any_signal_are_refused_with_the_base_rate() -> None:
    rng = np.random.default_rng(0)
    listed = [
        replace(one, correct=tuple(int(rng.random() < 0.4) for _ in one.correct))
        for one in with_p_true(pools(400, 1, 1, logprobs=False), useless=True)
    ]
    with pytest.raises(RefusedError, match="over the base rate, 0.357"):
        fit(listed, Policy(Fixed(1)), signals=("leader_p_true",))


def test_a_state_map_reads_counts_together_or_not_at_all() -> None:
    n, half = np.full(50, 4), np.full(50, 0.5)
    y = np.arange(50) % 2
    with pytest.raises(UsageError, match="together"):
        StateMap.fit(n, {"agreement": half}, y)
    with pytest.raises(UsageError, match="at least one"):
        StateMap.fit(n, {}, y)


def test_a_state_map_does_not_follow_a_signal_beyond_what_it_saw() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=500)
    y = (rng.random(500) < 1 / (1 + np.exp(-x))).astype(float)
    fitted = StateMap.fit(np.ones(500), {"leader_logprob": x}, y)
    edge, far = fitted.probability([1, 1], {"leader_logprob": [x.max(), 1e6]})
    assert edge == far
    assert auroc(y, fitted.probability(np.ones(500), {"leader_logprob": x})).value > 0.6  # type: ignore[operator]


def test_folds_keep_a_question_together_and_are_even() -> None:
    group = np.repeat(np.arange(53), 3)
    dealt = folds(group, 1)
    assert all(len(set(dealt[group == one])) == 1 for one in range(53))
    sizes = np.bincount(dealt)
    assert sizes.max() - sizes.min() <= 3


# -- asked live ----------------------------------------------------------------------------------


class Urn(Scripted):
    """The arm that the simulated pools were drawn from."""

    engine = "simulated"


def live(said: str, logprob: float, question: str = "What is in urn 12?") -> tuple[Any, Urn]:
    yes = (("Yes", logprob), ("No", float(np.log(1 - np.exp(logprob)))))
    reply = Reply(said, tokens=1, logprobs=TokenLogprobs((said,), (logprob,), (yes,)))
    backend = Urn(
        ["0", "0", "1", "0", "0", "0", "0", "0"], model="urn", follow_ups={"p_true": reply}
    )
    arm = Arm(backend, {"temperature": 1})
    profile = replace(
        asked_for(), arm={**asked_for().arm, "prompt_hash": arm.prompt.hash(Kind.NUMBER)}
    )
    asked = Question.ask(question, Kind.NUMBER, id="q")
    return asyncio.run(solve(asked, arm, POLICY, Setting(profile=profile))), backend


def test_what_a_profile_wants_to_know_is_asked_about_the_leader_once() -> None:
    result, backend = live("Yes", -0.05)
    asked = [call for call in backend.calls if call.follow_up]
    assert [call.follow_up for call in asked] == [("p_true", 0)]
    assert result.calibrated
    assert result.signals["leader_p_true"] == pytest.approx(np.exp(-0.05))
    assert result.profile["signals"] == list(asked_for().signals)
    assert result.spend.calls == len(backend.calls)
    doubted, _ = live("Yes", -3.0)
    assert doubted.probability < result.probability


def test_a_question_outside_the_domain_is_not_asked_about() -> None:
    result, backend = live("Yes", -0.05, "Who wrote the third symphony, and for whom?")
    assert not result.calibrated
    assert not any(call.follow_up for call in backend.calls)


def test_the_domain_is_learnt_from_texts_of_many_shapes() -> None:
    texts = [f"What is in the {name} urn {i}?" for i in range(60) for name in ("easy", "hard")]
    assert QuestionTest.fit(texts).accepts("What is in the easy urn 77?")


# -- a value rule --------------------------------------------------------------------------------


def test_a_value_rule_is_learnt_on_the_way_and_comes_back_from_its_file(tmp_path: Any) -> None:
    asked = Policy(Value(price=0.004, max_samples=8))
    profile = fit(pools(300, 8, 1, logprobs=False), asked)
    rule = profile.policy.stop
    assert isinstance(rule, Value)
    assert (rule.price, rule.max_samples, bool(rule.table)) == (0.004, 8, True)
    fresh = prefixes(pools(200, 8, 9, logprobs=False)).codes
    drawn = rule.stops(fresh).mean()
    assert drawn < 8
    assert abs(profile.data["mean_samples_at_stop"] - drawn) < 0.6
    profile.save(tmp_path / "p.json")
    assert load(tmp_path / "p.json").policy == profile.policy


def test_a_rule_that_reads_confidences_can_be_fitted_at_its_stops() -> None:
    policy = Policy(Cges(threshold=0.9, max_samples=8))
    profile = fit(with_p_true(pools(300, 8, 1, logprobs=False)), policy, signals=("leader_p_true",))
    assert 1 < profile.data["mean_samples_at_stop"] < 8
    fresh = with_p_true(pools(1, 8, 3, logprobs=False))[0].pool
    assert score(fresh, profile=profile).stop is not StopReason.ERROR


def test_an_exit_rule_is_kept_with_the_profile(tmp_path: Any) -> None:
    profile = fit(pools(300, 8, 1), Policy(Beta(0.95, 8), Abstain(0.7)))
    profile.save(tmp_path / "p.json")
    assert load(tmp_path / "p.json").policy.exit == Abstain(0.7)


def test_abstaining_withholds_the_answer_and_states_why(tmp_path: Any) -> None:
    backend = Urn(["0", "1", "0", "1", "2", "3", "0", "4"], model="urn")
    arm = Arm(backend, {"temperature": 1})
    plain = fit(pools(300, 8, 1, logprobs=False), POLICY)
    key = {**plain.arm, "prompt_hash": arm.prompt.hash(Kind.NUMBER)}
    setting = Setting(profile=replace(plain, arm=key))
    asked = Question.ask("What is in urn 12?", Kind.NUMBER, id="q")
    told = asyncio.run(solve(asked, arm, Policy(POLICY.stop, Abstain(0.9)), setting))
    assert (told.decision, told.answer, told.calibrated) == ("abstain", None, True)
    assert told.probability is not None
    assert told.probability < 0.9
