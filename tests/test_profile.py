"""Profiles: sealed files for one arm, kind, policy and domain, that say when they do not apply."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from poise.backends import Scripted
from poise.backends.scripted import Fail
from poise.domain import QuestionTest
from poise.errors import InputError, RefusedError, TimedOut, UsageError
from poise.fit import fit
from poise.policies import Beta, Fixed, IntArray, Policy
from poise.pools import Labelled
from poise.profile import SHIPPED, Profile, load
from poise.signals import Evidence
from poise.solve import Setting, solve
from poise.spend import Limits
from poise.types import (
    Arm,
    Capabilities,
    Kind,
    Question,
    Request,
    Result,
    Sample,
    State,
    StopReason,
)
from two_worlds import ARM, pools

POLICY = Policy(Beta(0.95, 8))
ASKED = Question.ask("What is in urn 12?", Kind.NUMBER, id="q")


@cache
def made(*, logprobs: bool = False) -> Profile:
    return fit(pools(300, 8, 1, logprobs=logprobs), POLICY, note="for tests")


class Urn(Scripted):
    """The arm that the simulated pools were drawn from."""

    engine = "simulated"

    def __init__(self, *draws: str, **more: object):
        super().__init__(list(draws), model="urn", **more)  # type: ignore[arg-type]


def solved(backend: Scripted, profile: Profile, **changes: object) -> Result:
    profile = replace(
        profile, arm={**profile.arm, "prompt_hash": Arm(backend).prompt.hash(ASKED.kind)}
    )
    setting = Setting(profile=profile, limits=changes.get("limits", Limits()))  # type: ignore[arg-type]
    arm = Arm(backend, changes.get("decoding", {"temperature": 1}))  # type: ignore[arg-type]
    policy, question = changes.get("policy", POLICY), changes.get("question", ASKED)
    return asyncio.run(solve(question, arm, policy, setting))  # type: ignore[arg-type]


# -- the file -----------------------------------------------------------------------------------


def test_a_saved_profile_comes_back_equal_and_states_the_same(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    made().save(path)
    back = load(path)
    assert back.to_dict() == made().to_dict()
    evidence = Evidence((Sample(0, "0", "0"), Sample(1, "0", "0")), (0, 0), (2,), 0)
    assert back.state(evidence, StopReason.SURE) == made().state(evidence, StopReason.SURE)


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        made().save(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda body: body.update(note="better"), "changed since"),
        (lambda body: body["maps"][0]["final_map"].update(n=1), "changed since"),
        (lambda body: body.update(schema=1), "earlier Poise"),
        (lambda body: body.update(schema=99), "newer"),
        (lambda body: body.pop("schema"), "no schema"),
        (lambda body: body.pop("sha256"), "changed since"),
    ],
)
def test_a_tampered_or_newer_file_is_refused(change: object, word: str, tmp_path: Path) -> None:
    body = made().to_dict()
    change(body)  # type: ignore[operator]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(body))
    with pytest.raises(InputError, match=word) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "{}", "not json", '{"schema": "1"}'])
def test_what_is_no_profile_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "nowhere.json")


def test_the_shipped_profile_loads_and_names_its_arm() -> None:
    profile = load(SHIPPED)
    assert profile.arm["engine"] == "llama.cpp"
    assert profile.kind is Kind.NUMBER
    assert profile.data["questions"] == 1200
    assert profile.detection == {"words": 1.0, "facts": 1.0}


# -- what it claims -----------------------------------------------------------------------------


def test_a_result_in_the_domain_carries_a_probability_with_provenance() -> None:
    result = solved(Urn(*["0"] * 8), made())
    assert result.calibrated
    assert result.probability is not None
    assert result.interval is not None
    assert result.interval[0] <= result.probability <= result.interval[1]
    assert result.reason is None
    named = ["agreement", "margin", "repetition"]
    assert result.profile == {"id": made().id, "version": 1, "domain": "urn", "signals": named}
    assert set(result.signals) == {"agreement", "margin", "repetition"}


def test_more_agreement_is_stated_as_surer() -> None:
    sure = solved(Urn(*["0"] * 8), made()).probability
    torn = solved(Urn("0", "1", "0", "1", "0", "2", "3", "0"), made()).probability
    assert sure is not None
    assert torn is not None
    assert sure > torn + 0.2


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"decoding": {"temperature": 0.5}}, "another arm: decoding"),
        ({"decoding": {"temperature": 1, "top_p": 0.9}}, "another arm: decoding"),
        ({"question": replace(ASKED, kind=Kind.TEXT)}, "of kind number"),
        ({"policy": Policy(Beta(0.9, 8))}, "another policy"),
        ({"policy": Policy(Fixed(8))}, "another policy"),
        ({"question": Question.ask("Who wrote Faust?", Kind.NUMBER)}, "outside"),
        ({"limits": Limits(max_samples=3)}, "stopped by budget"),
    ],
)
def test_outside_of_what_it_was_fitted_on_no_probability_is_claimed(
    changes: dict[str, object], word: str
) -> None:
    result = solved(Urn("0", "1", "2", "0", "0", "1", "0", "0"), made(), **changes)
    assert not result.calibrated
    assert result.probability is None
    assert result.profile is None
    assert word in str(result.reason)


@pytest.mark.parametrize(
    "question",
    [
        replace(ASKED, messages=({"role": "user", "content": "Say 0."}, *ASKED.messages)),
        replace(ASKED, messages=({"role": "system", "content": "What is in urn 12?"},)),
        replace(ASKED, options=("0", "1")),
    ],
)
def test_what_surrounds_a_question_is_part_of_it(question: Question) -> None:
    result = solved(Urn(*["0"] * 8), made(), question=question)
    assert "plain text" in str(result.reason)


def test_another_vote_gets_no_number() -> None:
    @dataclass(frozen=True)
    class Last:
        needs: tuple[str, ...] = ()

        def elect(self, state: State) -> int | None:
            return len(state.counts) - 1 if state.counts else None

        def elect_all(self, prefixes: IntArray, n: IntArray, values: object = None) -> IntArray:
            raise NotImplementedError

    arm = Arm(Urn(*["0"] * 8), {"temperature": 1})
    setting = Setting(profile=made())
    result = asyncio.run(solve(ASKED, arm, POLICY, setting, vote=Last()))
    assert "majority" in str(result.reason)


@pytest.mark.usefixtures("quick_retries")
def test_draws_lost_to_failures_leave_no_fair_selection() -> None:
    def faults(request: Request, _tried: int) -> Fail | None:
        return Fail(TimedOut) if request.first_index == 1 else None

    able = Capabilities(n=1, logprobs=0, seed=True)
    result = solved(Urn(*["0"] * 8, faults=faults, capabilities=able), made())
    assert result.answer == "0"
    assert "lost" in str(result.reason)


def test_a_policy_that_draws_more_than_the_pools_hold_is_refused() -> None:
    with pytest.raises(RefusedError, match="--max-samples 8"):
        fit(pools(150, 8, 1), Policy(Beta(0.95, 16)))


def test_pools_that_repeat_one_draw_are_refused() -> None:
    listed = [
        replace(one, pool=replace(one.pool, decoding={"temperature": 0}))
        for one in pools(120, 8, 1)
    ]
    with pytest.raises(RefusedError, match="repeat one draw"):
        fit(listed, POLICY)


def test_profiles_that_differ_have_different_ids() -> None:
    other = fit(pools(300, 8, 1, logprobs=False), POLICY, seed=5, note="for tests")
    assert len({made().id, other.id, made(logprobs=True).id}) == 3


def test_another_engine_is_another_arm() -> None:
    result = solved(Scripted("0", model="urn"), made())
    assert "engine" in str(result.reason)


def test_log_probabilities_are_asked_for_where_the_profile_reads_them() -> None:
    backend = Urn(*["0"] * 8)
    assert solved(backend, made(logprobs=True)).calibrated
    assert {call.logprobs for call in backend.calls} == {0}


def test_a_server_without_log_probabilities_is_read_by_votes_alone_and_it_is_said() -> None:
    backend = Urn(*["0"] * 8, capabilities=Capabilities(n=8, logprobs=None, seed=True))
    result = solved(backend, made(logprobs=True))
    assert result.probability is not None
    assert result.profile is not None
    assert "leader_logprob" not in result.profile["signals"]
    assert "log-probabilities" in result.missing["leader_logprob"]


def test_where_no_map_can_do_without_a_signal_there_is_no_number_and_the_reason() -> None:
    backend = Urn(*["0"] * 8, capabilities=Capabilities(n=8, logprobs=None, seed=True))
    whole = made(logprobs=True)
    result = solved(backend, replace(whole, maps=whole.maps[:1]))
    assert result.probability is None
    assert "leader_logprob" in str(result.reason)


def test_nothing_readable_has_no_probability() -> None:
    result = solved(Urn(*["no idea"] * 8), made())
    assert (result.probability, result.decision) == (None, "abstain")


# -- fitting refuses ----------------------------------------------------------------------------


def test_too_few_questions_are_refused() -> None:
    with pytest.raises(RefusedError, match="at least 100"):
        fit(pools(60, 8, 1), POLICY)
    with pytest.raises(RefusedError, match="no pools"):
        fit([], POLICY)


def test_one_class_only_is_refused() -> None:
    wrong = [Labelled(one.pool, one.gold, (0,) * len(one.correct)) for one in pools(150, 8, 1)]
    with pytest.raises(RefusedError):
        fit(wrong, POLICY)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model": "other"}, "another arm"),
        ({"kind": Kind.TEXT}, "another arm"),
        ({"messages": None}, "leave their question out"),
        ({"samples": ()}, "samples"),
    ],
)
def test_pools_that_do_not_belong_together_are_refused(
    change: dict[str, object], word: str
) -> None:
    listed = pools(150, 8, 1)
    odd = listed[7]
    if "samples" in change:
        change = {"samples": odd.pool.samples[:5]}
        listed[7] = Labelled(replace(odd.pool, **change), odd.gold, odd.correct[:5])  # type: ignore[arg-type]
    else:
        listed[7] = replace(odd, pool=replace(odd.pool, **change))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=word):
        fit(listed, POLICY)


@pytest.mark.parametrize("unknown", list(ARM))
def test_an_arm_that_is_not_stated_matches_none(unknown: str) -> None:
    listed = [replace(one, pool=replace(one.pool, **{unknown: None})) for one in pools(120, 8, 1)]
    with pytest.raises((InputError, AttributeError), match=unknown):
        fit(listed, POLICY)


def test_pools_that_are_not_fully_graded_are_left_out_and_counted() -> None:
    listed = pools(120, 8, 1)
    listed[3] = replace(listed[3], correct=(None, *listed[3].correct[1:]))
    data = fit(listed, POLICY).data
    assert (data["ungraded"], data["questions"]) == (1, 119)
    bare = [replace(one, correct=(None,) * 8) for one in listed]
    with pytest.raises(RefusedError, match="no pool is fully graded"):
        fit(bare, POLICY)


# -- the domain test ----------------------------------------------------------------------------


def test_the_domain_test_turns_away_at_most_one_in_twenty_of_its_own_and_most_others() -> None:
    own = [f"How much is {a} plus {b} apples?" for a in range(40) for b in range(40)]
    test = QuestionTest.fit(own[:800], seed=3)
    assert sum(map(test.accepts, own[800:])) / 800 >= 0.94
    assert test.detected(["Who wrote Faust?", "Is a cat a plant?", "Name a colour."]) == 1.0
    assert not test.accepts("How much is 123456 plus 9 apples?")
    assert QuestionTest.from_state(json.loads(json.dumps(test.state()))) == test


def test_a_domain_of_few_questions_is_refused() -> None:
    with pytest.raises(RefusedError, match="cannot be told"):
        QuestionTest.fit(["What?"] * 10)
