"""Comparing policies: matched spend, thresholds tuned elsewhere, intervals and the picture."""

from __future__ import annotations

import numpy as np
import pytest

from poise.errors import InputError, UsageError
from poise.metrics import Estimate
from poise.policies import STOP_RULES, Beta, Fixed, Policy
from poise.replay import Orders, Replay, compare, follow, png, sweep, walk
from poise.replay.resampling import Resamples
from poise.replay.shuffling import renumbered
from poise.replay.sweeping import Sweep

PNG = b"\x89PNG\r\n"


def world(questions: int = 60, shuffles: int = 6, n: int = 12, seed: int = 0) -> Orders:
    """Questions of all difficulties; answer 0 is right, the wrong ones agree at times."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(2, 1, (questions, 1, 1))
    shape = (questions, shuffles, n)
    answers = np.where(rng.random(shape) < chance, 0, rng.integers(1, 4, shape))
    answers[rng.random(shape) < 0.05] = -1
    flat = answers.reshape(-1, n)
    codes, right = renumbered(flat, (flat == 0).astype(np.int8))
    seconds = rng.exponential(1, shape)
    return Orders(
        codes=codes.reshape(shape),
        right=right.reshape(shape),
        tokens=np.ceil(50 * seconds),
        seconds=seconds,
        prompt_tokens=np.full(questions, 20.0),
        values={},
        asks={},
        group=tuple(("d", str(k)) for k in range(questions)),
        graded=np.ones(questions, np.bool_),
    )


def value(one: Estimate) -> float:
    assert one.value is not None
    return one.value


def points(result: Replay) -> list[tuple[float, float]]:
    return [(value(p.samples), value(p.accuracy)) for p in result.frontiers[0].points]


# -- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*STOP_RULES, "value:round_price=0.01"])
def test_a_frontier_is_what_following_each_of_its_policies_gives(name: str) -> None:
    one, asked = world(20), sweep(name, 12)
    needs = {need for each in asked.policies for need in each.stop.needs}
    rng = np.random.default_rng(1)
    values = {need: rng.random(one.shape) for need in needs}
    held = Orders(**{**{f: getattr(one, f) for f in Orders.__slots__}, "values": values})
    found = compare(held, [asked], replicates=20).frontiers[0].points
    assert [point.policy for point in found] == list(asked.labels)
    for point, policy in zip(found, asked.policies, strict=True):
        followed = follow(held, policy)
        assert value(point.samples) == pytest.approx(followed.samples.mean())
        assert value(point.accuracy) == pytest.approx(followed.right.mean())
        assert value(point.agreement) == pytest.approx(followed.same_as_majority.mean())
        assert value(point.tokens) == pytest.approx(followed.tokens.mean())


@pytest.mark.parametrize("n", [1, 5, 12])
def test_a_fixed_number_is_no_better_than_itself_at_equal_spend(n: int) -> None:
    (found,) = compare(world(), [sweep(f"fixed:n={n}", 12)]).comparisons
    assert found.score_to_fixed == Estimate(0.0, (0.0, 0.0))
    assert value(found.samples_to_majority) == pytest.approx(n / 12)
    assert value(found.rounds) == 1


def test_equal_spend_between_two_whole_numbers_mixes_the_two() -> None:
    one = world()
    (found,) = compare(one, [sweep("beta:threshold=0.9", 12)]).comparisons
    spent = follow(one, Policy(Beta(0.9, 12))).n.mean()
    low = int(spent)
    by_n = walk(one).right.mean(axis=(0, 1))
    mixed = by_n[low - 1] + (spent - low) * (by_n[low] - by_n[low - 1])
    assert 0 < spent - low < 1
    assert value(found.score_to_fixed) == pytest.approx(value(found.accuracy) - mixed)
    assert value(found.score_to_majority) == pytest.approx(value(found.accuracy) - by_n[-1])


def test_the_oracle_is_as_right_as_the_majority_of_all_and_no_policy_as_right_is_cheaper() -> None:
    result = compare(world(), [sweep("beta", 12)])
    assert result.oracle.accuracy.value == result.fixed[-1].accuracy.value
    assert result.oracle.agreement.value == 1
    assert result.oracle.score_to_majority == Estimate(0.0, (0.0, 0.0))
    for point in result.frontiers[0].points:
        if point.agreement.value == 1:
            assert value(point.samples) >= value(result.oracle.samples)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(200):
        drawn = rng.random((80, 1)) < 0.7
        low, high = Resamples(80, 300, seed).mean(drawn.astype(float)).interval or (1, 0)
        covered += low <= 0.7 <= high
    assert 180 <= covered <= 200


def test_a_frontier_counts_what_a_rule_that_prices_rounds_draws_in_vain() -> None:
    one = world()
    asked = sweep("value:round_price=0.02", 12)
    result = compare(one, [asked], tuning=world(seed=1), net=0.05)
    runs = [follow(one, policy) for policy in asked.policies]
    spent = [run.samples.mean() for run in runs]
    assert any(run.n.mean() < drawn - 0.1 for run, drawn in zip(runs, spent, strict=True))
    assert [value(point.samples) for point in result.frontiers[0].points] == pytest.approx(spent)
    (found,), chosen = result.comparisons, result.frontiers[0].chosen
    assert chosen is not None
    assert value(found.samples) == pytest.approx(spent[chosen])
    tuned = [follow(world(seed=1), policy) for policy in asked.policies]
    goal = walk(world(seed=1)).right[..., -1].mean() - 0.05
    kept = [run.samples.mean() for run in tuned if run.right.mean() >= goal]
    assert tuned[chosen].samples.mean() == pytest.approx(min(kept))


def test_differences_are_paired_by_question() -> None:
    """One policy that copies another is known not to differ, however uncertain both are."""
    result = compare(world(), [sweep("fixed:n=12", 12)])
    (found,) = result.comparisons
    assert result.fixed[-1].score_to_majority == Estimate(0.0, (0.0, 0.0))
    assert found.score_to_majority == Estimate(0.0, (0.0, 0.0))
    low, high = found.accuracy.interval or (0, 0)
    assert high - low > 0.05


def test_few_questions_get_no_interval_and_the_reason() -> None:
    result = compare(world(9), [sweep("fixed:n=3", 12)])
    assert result.oracle.samples.interval is None
    assert "needs 10" in (result.oracle.samples.reason or "")


def test_equal_seeds_give_equal_numbers_and_others_other_intervals() -> None:
    one, asked = world(), [sweep("beta", 12)]
    first = compare(one, asked, seed=1).to_dict()
    assert compare(one, asked, seed=1).to_dict() == first
    assert compare(one, asked, seed=2).to_dict() != first


def test_spend_that_is_not_known_is_none_with_the_reason() -> None:
    one = world()
    seconds = one.seconds.copy()
    seconds[3, 2, 0] = np.nan
    held = Orders(**{**{f: getattr(one, f) for f in Orders.__slots__}, "seconds": seconds})
    (found,) = compare(held, [sweep("fixed:n=3", 12)]).comparisons
    assert found.latency_p50 == Estimate(None, reason="samples do not all state their seconds")
    (known,) = compare(one, [sweep("fixed:n=3", 12)]).comparisons
    slowest = one.seconds[..., :3].max(axis=2)
    assert value(known.latency_p50) == pytest.approx(np.quantile(slowest, 0.5))
    assert value(known.latency_p99) == pytest.approx(np.quantile(slowest, 0.99))


# -- tuning ---------------------------------------------------------------------------------------


def test_the_threshold_is_the_cheapest_that_keeps_what_was_asked_for() -> None:
    tuning, asked = world(200, seed=1), sweep("beta", 12)
    for net in (0.0, 0.01, 0.05):
        frontier = compare(world(), [asked], tuning=tuning, net=net).frontiers[0]
        runs = [follow(tuning, policy) for policy in asked.policies]
        goal = walk(tuning).right[..., -1].mean() - net
        kept = [k for k, run in enumerate(runs) if run.right.mean() >= goal - 1e-12]
        assert frontier.chosen is not None
        assert frontier.chosen in kept
        assert runs[frontier.chosen].n.mean() == min(runs[k].n.mean() for k in kept)


def test_tuning_never_looks_at_the_questions_that_are_judged() -> None:
    tuning, asked = world(seed=1), [sweep("beta", 12), sweep("window", 12)]
    chosen = [f.chosen for f in compare(world(seed=2), asked, tuning=tuning).frontiers]
    assert [f.chosen for f in compare(world(seed=3), asked, tuning=tuning).frontiers] == chosen
    spread = {
        tuple(f.chosen for f in compare(world(), asked, tuning=world(20, seed=s)).frontiers)
        for s in range(6)
    }
    assert len(spread) > 1


def test_without_questions_to_tune_on_a_sweep_has_no_chosen_policy() -> None:
    result = compare(world(), [sweep("beta", 12)])
    assert result.frontiers[0].chosen is None
    assert result.comparisons == ()


def test_where_no_threshold_keeps_it_the_closest_is_taken_and_it_is_said() -> None:
    hasty = Sweep("fixed", "max_samples", (1, 2), (Policy(Fixed(1)), Policy(Fixed(3))), ("a", "b"))
    frontier = compare(world(), [hasty], tuning=world(seed=1), net=0.0).frontiers[0]
    assert frontier.chosen == 1
    assert "all lose more than 0 accuracy" in (frontier.why or "")


def test_without_gold_agreement_stands_for_accuracy() -> None:
    one, tuning = world(), world(seed=1)
    bare = [
        Orders(**{**{f: getattr(o, f) for f in Orders.__slots__}, "graded": o.graded & False})
        for o in (one, tuning)
    ]
    result = compare(bare[0], [sweep("beta", 12)], tuning=bare[1])
    assert not result.gold
    assert result.fixed[-1].accuracy.value is None
    (found,) = result.comparisons
    assert found.accuracy.value is None
    assert value(found.score_to_majority) == pytest.approx(value(found.agreement) - 1)


def test_where_nothing_can_be_read_all_policies_agree_with_the_majority() -> None:
    one = world(20)
    codes, right = one.codes.copy(), one.right.copy()
    codes[:5], right[:5] = -1, -1
    kept = {f: getattr(one, f) for f in Orders.__slots__}
    held = Orders(**{**kept, "codes": codes, "right": right, "graded": one.graded & False})
    (found,) = compare(held, [sweep("fixed:n=12", 12)]).comparisons
    assert found.score_to_majority == found.score_to_fixed == Estimate(0.0, (0.0, 0.0))
    assert value(found.answered) == pytest.approx(0.75)


def test_questions_without_grades_are_left_out_and_counted() -> None:
    one = world()
    graded = np.arange(60) % 3 > 0
    held = Orders(**{**{f: getattr(one, f) for f in Orders.__slots__}, "graded": graded})
    result = compare(held, [sweep("beta", 12)])
    assert (result.questions, result.left_out) == (40, 20)
    assert points(result) == points(compare(one.take(graded), [sweep("beta", 12)]))


def test_thresholds_are_chosen_on_graded_questions_alone() -> None:
    tuning, asked = world(120, seed=1), [sweep("beta", 12)]
    graded = np.arange(120) % 4 == 0
    right = np.where(graded[:, None, None], tuning.right, -1).astype(np.int8)
    kept = {f: getattr(tuning, f) for f in Orders.__slots__}
    partly = Orders(**{**kept, "graded": graded, "right": right})
    found = compare(world(), asked, tuning=partly)
    alone = compare(world(), asked, tuning=tuning.take(graded))
    assert found.tuning_questions == 30
    assert found.to_dict() == alone.to_dict()


def test_no_question_to_judge_on_is_refused() -> None:
    with pytest.raises(InputError, match="no question is left"):
        compare(world().take(np.zeros(60, np.bool_)), [sweep("beta", 12)])


# -- sweeps and pictures --------------------------------------------------------------------------


def test_a_policy_without_its_threshold_is_swept_and_with_it_is_one() -> None:
    swept = sweep("beta", 10)
    assert swept.parameter == "threshold"
    assert list(swept.settings) == sorted(set(swept.settings))
    assert 0.95 in swept.settings
    assert all(each.stop.max_samples == 10 for each in swept.policies)
    assert swept.policies[swept.settings.index(0.9)] == Policy(Beta(0.9, 10))
    assert swept.labels[swept.settings.index(0.9)] == "beta:threshold=0.9"
    assert sweep("beta:threshold=0.9", 10).policies == (Policy(Beta(0.9, 10)),)
    capped = sweep("beta:n=6", 10)
    assert {each.stop.max_samples for each in capped.policies} == {6}
    assert capped.labels[0].startswith("beta:n=6,threshold=")


def test_fixed_sweeps_every_number_and_a_stated_one_is_itself() -> None:
    assert sweep("fixed", 5).settings == (1, 2, 3, 4, 5)
    assert sweep("fixed:n=3", 5).policies == (Policy(Fixed(3)),)


def test_replay_refuses_to_abstain_by_probabilities_it_does_not_have() -> None:
    with pytest.raises(UsageError, match="no probabilities to abstain by"):
        sweep("beta + abstain:threshold=0.5", 8)


def test_the_picture_is_the_same_for_the_same_numbers_and_differs_for_others() -> None:
    asked = [sweep("beta", 12), sweep("window", 12), sweep("fixed:n=3", 12)]
    one = compare(world(), asked, tuning=world(seed=1), replicates=100)
    assert png(one).startswith(PNG)
    assert png(one) == png(one)
    assert png(one) != png(compare(world(seed=4), asked, replicates=100))
