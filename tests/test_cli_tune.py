"""``poise tune`` and what is under it: from pools to a certificate, a profile or a refusal."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from command import call, write_pool
from poise.errors import InputError, RefusedError, UsageError
from poise.fit import fit
from poise.policies import STOP_RULES, Abstain, Answer, Policy, Value, parse_policy
from poise.pools import Labelled, pool_record, split
from poise.profile import Profile, load
from poise.replay import follow, orders
from poise.tune import Certificate, Target, fitted, tune, tune_exit
from poise.tune.candidates import spelled
from two_worlds import pools

LOSS = Target("loss", 0.03)


@cache
def urns() -> tuple[Labelled, ...]:
    return tuple(pools(400, 8, 3, logprobs=False))


@cache
def profile() -> Profile:
    return fit(pools(120, 8, 4, logprobs=False), parse_policy("beta", 8))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tune") / "urn.jsonl"
    records = (pool_record(one) for one in urns())
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


# -- from pools to a policy ---------------------------------------------------------------------


def test_the_certified_policy_is_the_cheapest_tested_and_was_tried_on_other_questions() -> None:
    made = tune(urns(), LOSS)
    record = made.certificate
    assert spelled(made.policy) == record.policy == record.certified.policy
    assert parse_policy(record.policy) == made.policy
    passed = [one for one in record.tested if one.certified]
    assert record.certified.samples == min(one.samples for one in passed) < 8
    assert record.questions == {"tuning": len(made.tuning), "certification": 400 - len(made.tuning)}
    parts = split(urns(), {"tuning": 0.4, "certification": 0.6}, 0)
    assert list(made.tuning) == parts["tuning"]
    found = follow(orders(parts["certification"], 20, 0), made.policy)
    assert record.certified.samples == pytest.approx(found.samples.mean())


def test_the_same_arguments_give_the_same_certificate_and_another_seed_another_split() -> None:
    first, again, other = (tune(urns(), LOSS, seed=seed, shuffles=3) for seed in (0, 0, 1))
    assert first == again
    assert first.tuning != other.tuning


def test_labels_of_certification_questions_change_no_order_of_tests() -> None:
    """What is tested, and in which order, is settled before those labels are looked at."""
    parts = split(urns(), {"tuning": 0.4, "certification": 0.6}, 0)
    kept = {one.pool.key for one in parts["tuning"]}
    turned = [
        one
        if one.pool.key in kept
        else replace(one, correct=tuple(1 - int(grade or 0) for grade in one.correct))
        for one in urns()
    ]
    first, other = (
        tune(each, Target("net", 0.5), shuffles=3).certificate for each in (urns(), turned)
    )
    assert [one.policy for one in first.tested] == [one.policy for one in other.tested]
    assert [one.method for one in first.tested] == [one.method for one in other.tested]
    assert [one.p for one in first.tested] != [one.p for one in other.tested]


def test_without_grades_right_means_as_the_majority_and_bounds_the_loss() -> None:
    bare = [replace(one, gold=None, correct=(None,) * 8) for one in urns()]
    record = tune(bare, Target("loss", 0.1), shuffles=3).certificate
    with_gold = tune(urns(), Target("loss", 0.1), shuffles=3).certificate
    lost = {one.policy: one.found for one in with_gold.tested}
    both = [(one.found, lost[one.policy]) for one in record.tested if one.policy in lost]
    assert record.truth == "majority"
    assert both
    assert all(bare_loss >= loss for bare_loss, loss in both)
    with pytest.raises(InputError, match="wrong answers take grades"):
        tune(bare, Target("risk", 0.1))


def test_some_questions_without_grades_are_refused_rather_than_left_out() -> None:
    some = [*urns()[:300], *(replace(one, correct=(None,) * 8) for one in urns()[300:])]
    with pytest.raises(InputError, match="not fully graded"):
        tune(some, LOSS)


def test_a_question_that_nobody_could_read_needs_no_grade() -> None:
    bare = [replace(one, gold=None, correct=(None,) * 8) for one in urns()]
    silent = bare[0].pool.samples
    silent = tuple(replace(sample, answer=None, unread="cut off") for sample in silent)
    bare[0] = replace(bare[0], pool=replace(bare[0].pool, samples=silent))
    record = tune(bare, Target("loss", 0.1), shuffles=3).certificate
    assert record.truth == "majority"


def test_what_is_certified_is_written_so_that_it_can_be_read_back() -> None:
    for name in STOP_RULES:
        policy = parse_policy(name)
        assert parse_policy(spelled(policy)) == policy
    learnt = Policy(Value(max_samples=8).written(), Abstain(0.5))
    other = Policy(Value(0.05, max_samples=8).written(), Abstain(0.5))
    assert "table=blake2b:" in spelled(learnt)
    assert len(spelled(learnt)) < 120
    assert spelled(replace(other, stop=replace(other.stop, price=0.002))) != spelled(learnt)


def test_one_stated_policy_is_tested_alone_and_a_spend_target_takes_the_least_loss() -> None:
    alone = tune(urns(), LOSS, "beta:threshold=0.99").certificate
    assert [one.policy for one in alone.tested] == ["beta:threshold=0.99,max_samples=8"]
    record = tune(urns(), Target("spend", 4), shuffles=3).certificate
    assert record.certified.samples <= 4
    assert record.certified.samples == max(one.samples for one in record.tested if one.certified)


def test_a_vote_and_signals_of_single_samples_are_followed() -> None:
    from poise.votes import parse_vote

    with_logprobs = pools(150, 8, 3)
    vote = parse_vote("weighted:confidence=logprob")
    assert tune(
        with_logprobs, Target("loss", 0.2), vote=vote, shuffles=3
    ).certificate.vote.startswith("weight")
    with pytest.raises(InputError, match="logprob, which no sample has"):
        tune(urns(), LOSS, vote=vote)


def test_pools_that_are_too_few_or_of_two_prompts_are_refused() -> None:
    with pytest.raises(RefusedError, match="certify at best"):
        tune(urns()[:60], LOSS)
    with pytest.raises(RefusedError, match="leave none for"):
        tune(urns()[:1], LOSS)
    with pytest.raises(InputError, match="no pools"):
        tune([], LOSS)
    two = [urns()[0], replace(urns()[1], pool=replace(urns()[1].pool, model="other"))]
    for seed in range(6):  # one question for each part, whichever it is
        with pytest.raises((UsageError, RefusedError), match=r"2 models|leave none for"):
            tune(two, LOSS, share=0.5, seed=seed)
    other = replace(urns()[0], pool=replace(urns()[0].pool, prompt_hash="1"))
    with pytest.raises(InputError, match="another engine or prompt"):
        tune([*urns()[1:], other], LOSS)


# -- abstaining ---------------------------------------------------------------------------------


def test_a_bar_on_the_profile_s_probability_is_certified_for_the_risk_of_what_is_answered(
    tmp_path: Path,
) -> None:
    made = tune_exit(urns(), Target("risk", 0.35), profile())
    record = made.certificate
    assert made.policy.stop == profile().policy.stop
    assert isinstance(made.policy.exit, Abstain)
    assert record.certified.found is not None
    assert record.certified.found <= 0.35
    assert 0 < record.certified.answered < 1
    assert record.orders == 1
    passed = [one.answered for one in record.tested if one.certified]
    assert passed == sorted(passed)
    after = fitted(made)
    assert after.parent == profile().id
    assert after.version == 2
    assert after.policy == made.policy
    assert after.maps == profile().maps
    assert after.id != profile().id
    after.save(tmp_path / "p.json")
    assert load(tmp_path / "p.json").policy == made.policy


def test_the_profile_s_own_questions_certify_no_bar_and_short_pools_none_either() -> None:
    with pytest.raises(RefusedError, match="fitted on these pools"):
        tune_exit(pools(120, 8, 4, logprobs=False), Target("risk", 0.2), profile())
    with pytest.raises(InputError, match="hold 4 samples and the profile's policy draws up to 8"):
        tune_exit(pools(120, 4, 5, logprobs=False), Target("risk", 0.2), profile())


def test_a_bar_is_certified_on_pools_that_hold_more_than_the_policy_draws() -> None:
    longer = [
        replace(
            one,
            pool=replace(one.pool, samples=(*one.pool.samples, replace(last, index=8))),
            correct=(*one.correct, one.correct[-1]),
        )
        if place % 2
        else one
        for place, one in enumerate(urns())
        for last in one.pool.samples[-1:]
    ]
    target = Target("risk", 0.35)
    made, plain = (tune_exit(each, target, profile()) for each in (longer, urns()))
    assert made.certificate.tested == plain.certificate.tested


def test_a_profile_that_does_not_speak_for_the_pools_says_why() -> None:
    other = [replace(one, pool=replace(one.pool, prompt_hash="1")) for one in urns()]
    with pytest.raises(InputError, match="claims no probability on these pools: .*another arm"):
        tune_exit(other, Target("risk", 0.35), profile())


# -- profiles -----------------------------------------------------------------------------------


def test_a_profile_with_its_certificate_is_fitted_on_the_tuning_questions_alone(
    tmp_path: Path,
) -> None:
    made = tune(urns(), LOSS)
    one = fitted(made, profile())
    assert one.data["questions"] == len(made.tuning)
    assert one.policy == made.policy
    assert one.parent == profile().id
    assert one.certificate is not None
    assert Certificate.from_dict(one.certificate) == made.certificate
    one.save(tmp_path / "p.json")
    again = load(tmp_path / "p.json")
    assert again.certificate == json.loads(json.dumps(one.certificate))
    assert again.policy.exit == Answer()


def test_the_maps_of_a_certified_value_rule_are_fitted_at_the_stops_that_were_certified() -> None:
    made = tune(urns(), Target("loss", 0.2), "value:price=0.002", shuffles=3)
    one = fitted(made)
    tuning = orders(made.tuning, 3, 0)
    assert (follow(tuning, one.policy).n == follow(tuning, made.policy).n).all()
    again, differ = fit(made.tuning, one.policy), {"id", "sha256", "certificate"}
    assert {k for k, v in again.to_dict().items() if v != one.to_dict()[k]} == differ
    assert fit(made.tuning, made.policy).policy != one.policy  # learnt anew, it stops elsewhere


def test_profiles_are_for_majority_votes() -> None:
    from poise.votes import parse_vote

    made = tune(
        pools(300, 8, 3), Target("loss", 0.2), vote=parse_vote("weighted:confidence=logprob")
    )
    with pytest.raises(UsageError, match="majority votes"):
        fitted(made)


# -- the command --------------------------------------------------------------------------------


def test_the_command_shows_the_tests_and_what_they_rest_on(pool: Path) -> None:
    done = call("tune", pool, "--target", "loss<=0.03")
    assert (done.code, done.err) == (0, "")
    assert "certified: loss<=0.03 at 0.9 confidence by beta:threshold=" in done.out
    assert "It assumes: the questions to come are exchangeable" in done.out
    assert "It is void if: the policy" in done.out


def test_the_command_prints_the_certificate_as_json_and_writes_a_profile(
    pool: Path, tmp_path: Path
) -> None:
    output = tmp_path / "p.json"
    done = call("tune", pool, "--target", "loss<=0.03", "--shuffles", "3", "--json", "-o", output)
    assert done.code == 0
    (body,) = done.records
    record = Certificate.from_dict(body["certificate"])
    assert record == tune(urns(), LOSS, shuffles=3).certificate
    written = load(output)
    assert written.id == body["profile"]
    assert written.certificate == body["certificate"]
    assert call("tune", pool, "--target", "loss<=0.03", "-o", output).code == 2


def test_the_command_sweeps_the_bar_of_a_profile(pool: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    profile().save(base)
    words = ("tune", pool, "--target", "risk<=0.35", "--policy", "abstain", "--profile", base)
    done = call(*words, "--json")
    assert done.code == 0
    assert " + abstain:threshold=" in done.records[0]["certificate"]["policy"]
    assert call(*words, "--vote", "majority", "--max-samples", "4").code == 2


def test_a_refusal_is_one_line_and_exit_4(pool: Path) -> None:
    done = call("tune", pool, "--target", "loss<=0.0001")
    assert done.code == 4
    assert done.err.count("\n") == 1
    assert "cannot be certified at 0.9 confidence" in done.err
    assert "Best feasible: loss<=" in done.err
    assert "takes at least 23025" in done.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--target", "loss"], 2, "write loss<=0.01"),
        (["--target", "loss<=2"], 2, "below 1"),
        (["--target", "spend<=9"], 2, "cannot be missed"),
        (["--target", "loss<=0.03", "--delta", "1"], 2, "delta=1"),
        (["--target", "loss<=0.03", "--split", "1"], 2, "--split 1"),
        (["--target", "loss<=0.03", "--policy", "nothing"], 2, "no stop rule"),
        (["--target", "loss<=0.03", "--policy", "abstain"], 2, "name the --profile"),
        (["--target", "loss<=0.03", "--vote", "nobody"], 2, "no vote"),
        (["--target", "loss<=0.03", "--max-samples", "9"], 3, "fewer than 9"),
        (["--target", "loss<=0.03", "-m", "other"], 2, "-m other: the pools are of urn"),
        (["--target", "loss<=0.03", "--profile", "nowhere.json"], 3, "cannot be read"),
        (["--target", "loss<=0.03", "--policy", "cges"], 3, "p_true"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(
    words: list[str], code: int, said: str, pool: Path
) -> None:
    done = call("tune", pool, *words)
    assert (done.code, done.err.count("\n")) == (code, 1)
    assert said in done.err


def test_pools_of_one_sample_are_bad_input(tmp_path: Path) -> None:
    path = write_pool(tmp_path / "one.jsonl", {f"q{i}": ["1"] for i in range(40)})
    done = call("tune", path, "--target", "loss<=0.03")
    assert done.code == 3
    assert "nothing to stop early" in done.err


def test_more_questions_never_certify_less_on_average() -> None:
    """A property of the whole: the samples drawn under the certificate fall with n."""
    spent = []
    for n in (130, 400):
        found = []
        for seed in range(4):
            try:
                found.append(
                    tune(urns()[:n], LOSS, seed=seed, shuffles=5).certificate.certified.samples
                )
            except RefusedError:
                found.append(8.0)
        spent.append(np.mean(found))
    assert spent[1] < spent[0]
