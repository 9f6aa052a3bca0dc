"""What training buys in use: rules played, thresholds, gains told apart, and a whole run."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import training_pools
from command import call, write_lines
from poise.backends import Transformers
from poise.cli.train.in_use import show_in_use
from poise.policies import Confident, Fixed
from poise.pools import Labelled, pool_from_record, pool_record, read_pools
from poise.replay import Orders
from poise.train.cost import generation, scoring
from poise.train.early import TAUS, early, joined, ordered, play, stored, thresholds, usable
from poise.train.folder import write_pools
from poise.train.gains import TRAINED, UNTRAINED, gains
from poise.train.in_use import _asked
from poise.train.signs import signs
from poise.votes import BestOfN, FirstConfident, Majority, Weighted
from training_pools import pool, records

torch.set_num_threads(1)

Confidence = Callable[[random.Random, int], float | None]
"""A confidence from luck and whether the sample is right."""


def flat(_rng: random.Random, _right: int) -> float:
    return 0.5


def honest(_rng: random.Random, right: int) -> float:
    return 0.9 if right else 0.2


def inverted(_rng: random.Random, right: int) -> float:
    return 0.2 if right else 0.9


def noisy(rng: random.Random, right: int) -> float:
    return rng.betavariate(2 + 2 * right, 4 - 2 * right)


def marked(
    questions: int,
    samples: int = 16,
    *,
    seed: int = 0,
    accuracy: float = 0.45,
    more: float = 0.0,
    **confidences: Confidence,
) -> list[Labelled]:
    """Pools q0 … of random answers 1 to 3 with these stored numbers; ``more``: extra accuracy."""
    found = []
    for place in range(questions):
        rng = random.Random(f"{seed}:{place}")
        chance = rng.betavariate(2 * accuracy, 2 - 2 * accuracy)
        answers = [
            "1" if rng.random() < chance + more else rng.choice("23") for _ in range(samples)
        ]
        one = pool(f"q{place}", answers)
        columns = {
            name: [[of(rng, int(answer == "1")) for answer in answers]]
            for name, of in confidences.items()
        }
        found += joined([one], columns)
    return found


# -- the rules ------------------------------------------------------------------------------------


def by_hand(held: Orders, name: str, row: tuple[int, int], n: int, rule: str, tau: float) -> Any:
    """(answer cluster, samples) of one order, by loops."""
    codes = held.codes[row][:n].tolist()
    values = held.values[stored(name)][row][:n].tolist()
    voting = [(c, v) for c, v in zip(codes, values, strict=True) if c >= 0 and not math.isnan(v)]
    if rule == "early":
        for place, (code, value) in enumerate(zip(codes, values, strict=True)):
            if code >= 0 and value >= tau:
                return code, place + 1
    if rule == "best" and voting:
        return max(voting, key=lambda pair: pair[1])[0], n
    if rule == "majority" or not voting:
        voting = [(c, 1.0) for c in codes if c >= 0]
    sums: dict[int, float] = {}
    for code, value in voting:
        sums[code] = sums.get(code, 0.0) + value
    return (max(sorted(sums), key=sums.__getitem__) if sums else -1), n


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_played_rules_are_their_definition_on_every_order(data: st.DataObject) -> None:
    answers = st.lists(st.sampled_from(["1", "2", "3", None]), min_size=5, max_size=5)
    levels = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, None]), min_size=5, max_size=5)
    given_ = [
        joined([pool(f"q{k}", data.draw(answers))], {"c": [data.draw(levels)]})[0] for k in range(2)
    ]
    if not any(sample.signals["c"] for one in given_ for sample in one.pool.samples):
        return
    tau, budget = data.draw(st.sampled_from([0.0, 0.5, 0.9])), data.draw(st.integers(1, 5))
    held, signal = ordered(given_, ["c"], 5, seed=3), stored("c")
    rules = {
        "early": (Confident(tau, signal, budget), FirstConfident(tau, signal)),
        "weighted": (Fixed(budget), Weighted(signal)),
        "best": (Fixed(budget), BestOfN(signal)),
        "majority": (Fixed(budget), Majority()),
    }
    for rule, (stop, vote) in rules.items():
        played = play(held, stop, vote)
        for q in range(held.shape[0]):
            found = [by_hand(held, "c", (q, o), budget, rule, tau) for o in range(held.shape[1])]
            grades = [held.right[q, o][code] == 1 for o, (code, _) in enumerate(found) if code >= 0]
            assert played.samples[q] == pytest.approx(np.mean([n for _, n in found]))
            assert played.right[q] * len(found) == pytest.approx(sum(grades))
            assert played.wrong[q] * len(found) == pytest.approx(len(grades) - sum(grades))


def test_sure_and_wrong_is_counted_where_the_confidence_stopped_it() -> None:
    held = ordered(marked(20, c=inverted), ["c"], 16, seed=0)
    sure = early(held, "c", 0.9, 16)
    assert np.allclose(sure.sure_wrong, sure.wrong)
    never = early(held, "c", 0.95, 16)
    assert never.sure.max() == never.sure_wrong.max() == 0
    assert never.samples.min() == 16


@pytest.mark.parametrize(
    ("sizes", "full", "left_out"),
    [
        ([16] * 4, 16, {}),
        ([32] * 4, 16, {}),
        ([16, 16, 16, 5], 16, {"pools of fewer than 16 samples": 1}),
        ([10] * 4, 8, {}),
        ([3] * 4, None, {}),
        ([], None, {}),
    ],
)
def test_the_full_budget_is_what_half_of_the_pools_hold(
    sizes: Sequence[int], full: int | None, left_out: Mapping[str, int]
) -> None:
    found = usable([pool(f"q{k}", ["1"] * size) for k, size in enumerate(sizes)])
    assert (found.full, found.left_out) == (full, left_out)
    assert (found.reason is None) == (full is not None)


def test_arms_are_never_put_together() -> None:
    found = usable([*marked(3), *(pool("q9", ["1"] * 16, model="other"),)])
    assert len(found.pools) == 3
    assert found.left_out == {"pools of other arms": 1}


# -- thresholds -----------------------------------------------------------------------------------


def test_a_threshold_is_the_least_that_keeps_the_votes_accuracy_within_noise_and_a_point() -> None:
    given_ = marked(60, c=noisy)
    found = thresholds(given_, ["c"])
    chosen = found["of"]["c"]
    held = ordered(given_, ["c"], 16, seed=0)
    vote = play(held, Fixed(16), Majority()).right
    assert found["vote"] == pytest.approx(vote.mean())
    for tau in TAUS:
        gap = early(held, "c", tau, 16).right - vote
        noise = gap.std(ddof=1) / math.sqrt(len(gap))
        enough = gap.mean() >= -min(noise, 0.01) - 1e-12
        assert enough <= (tau >= chosen["threshold"])
        assert enough or tau != chosen["threshold"]
    assert "one standard error" in chosen["why"]


def test_an_honest_confidence_stops_early_and_one_that_says_nothing_does_not() -> None:
    found = thresholds(marked(80, honest=honest, flat=flat), ["honest", "flat"])["of"]
    assert 0.2 < found["honest"]["threshold"] <= 0.9
    assert found["honest"]["samples"] < 8
    assert found["flat"]["samples"] == 16


def test_where_every_threshold_loses_the_most_accurate_is_taken_and_it_is_said() -> None:
    found = thresholds(marked(80, c=inverted), ["c"])
    assert "all lose more" in found["of"]["c"]["why"]
    assert found["of"]["c"]["score"] < found["vote"]


def test_without_labels_agreement_with_the_vote_stands_for_accuracy() -> None:
    bare = [
        replace(one, correct=(None,) * len(one.correct), gold=None) for one in marked(40, c=honest)
    ]
    found = thresholds(bare, ["c"])
    assert found["by"].startswith("agreement")
    assert found["vote"] == 1


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ([], "no pools"),
        (marked(5, samples=3, c=flat), "fewer than 4 samples"),
        (marked(1, c=flat), "fewer than two questions"),
    ],
)
def test_thresholds_that_cannot_be_chosen_have_a_reason(given_: Any, said: str) -> None:
    assert said in thresholds(given_, ["c"])["reason"]


def test_a_confidence_that_nothing_states_gets_no_threshold() -> None:
    assert set(thresholds(marked(20, c=honest), ["c", "absent"])["of"]) == {"c"}


# -- gains told apart -----------------------------------------------------------------------------

AT: dict[str, float] = {UNTRAINED: 0.6, TRAINED: 0.6, "logprob": 0.6}


def made(
    untrained: Confidence = noisy,
    trained: Confidence = noisy,
    *,
    fresh: float | None = None,
    questions: int = 60,
    **more: Confidence,
) -> dict[str, Any]:
    """The numbers; ``fresh``: how much more accurate the trained model's samples are."""
    held = marked(questions, untrained=untrained, trained=trained, **more)
    drawn = marked(questions, more=fresh or 0, seed=7, untrained=untrained, trained=trained)
    return gains(held, [] if fresh is None else drawn, AT)


def test_nothing_gained_is_exactly_nothing() -> None:
    """The same confidence twice, and the stored samples once more as fresh ones."""
    held = marked(40, untrained=noisy)
    same = joined(held, {TRAINED: [[s.signals[UNTRAINED] for s in o.pool.samples] for o in held]})
    found = gains(same, same, AT)
    for cells in found["budgets"].values():
        for name in ("selection", "generation", "both"):
            for rule in cells[name].values():
                changes = [each for key, each in rule.items() if key.endswith("_change")]
                assert changes
                assert {(each["value"], *each["interval"]) for each in changes} == {(0, 0, 0)}
    assert {each["samples"]["value"] for each in found["needed"].values()} == {
        found["needed"]["untrained"]["samples"]["value"]
    }


def test_a_better_confidence_is_selection_and_not_generation() -> None:
    found = made(flat, honest, fresh=0.0)
    at = found["budgets"]["16"]
    assert at["selection"]["weighted"]["accuracy_change"]["interval"][0] > 0
    assert at["selection"]["early"]["accuracy_change"]["interval"][0] > 0
    assert at["selection"]["early"]["samples_change"]["interval"][1] < 0
    low, high = at["generation"]["majority"]["accuracy_change"]["interval"]
    assert low < 0 < high
    assert "majority" not in at["selection"]


def test_better_samples_are_generation_and_not_selection() -> None:
    found = made(fresh=0.4)
    for cells in found["budgets"].values():
        assert cells["generation"]["majority"]["accuracy_change"]["interval"][0] > 0
        low, high = cells["selection"]["weighted"]["accuracy_change"]["interval"]
        assert low < 0.05
        assert high > -0.05
        assert cells["both"]["weighted"]["accuracy_change"]["interval"][0] > 0
    assert found["engines"]["fresh"] == ["(not stated)"]


def test_what_another_engine_changes_is_not_what_training_gains() -> None:
    """Fresh samples better than the stored ones by the engine alone, and by training as well."""
    held = marked(60, untrained=noisy, trained=noisy)
    control = marked(60, more=0.3, seed=7, untrained=noisy)
    fresh = joined(
        control, {TRAINED: [[s.signals[UNTRAINED] for s in o.pool.samples] for o in control]}
    )
    for cells in gains(held, fresh, AT, control)["budgets"].values():
        assert cells["redrawn"]["majority"]["accuracy_change"]["interval"][0] > 0
        for name in ("generation", "both"):
            for rule in cells[name].values():
                changes = [each for key, each in rule.items() if key.endswith("_change")]
                assert {(each["value"], *each["interval"]) for each in changes} == {(0, 0, 0)}
    # Without the control the same numbers would have been called a gain.
    bare = gains(held, fresh, AT)["budgets"]["8"]["generation"]["majority"]
    assert bare["accuracy_change"]["interval"][0] > 0
    better = marked(60, more=0.6, seed=7, untrained=noisy, trained=noisy)
    for cells in gains(held, better, AT, control)["budgets"].values():
        assert cells["generation"]["majority"]["accuracy_change"]["interval"][0] > 0


def test_what_fresh_samples_save_is_counted_against_those_of_the_same_engine() -> None:
    held = marked(40, untrained=noisy, trained=noisy, logprob=noisy)
    control = marked(40, more=0.3, seed=7, untrained=inverted, logprob=inverted)
    fresh = marked(40, more=0.3, seed=8, untrained=noisy, trained=noisy)
    found = gains(held, fresh, AT, control)
    assert set(found["against"]["both"]) == {"majority", "untrained", "logprob"}
    alone = gains(control_of(control), [], AT)
    for other in ("majority", "untrained", "logprob"):
        theirs = alone["against"]["selection"][other]["samples_of_it"]
        assert found["against"]["both"][other]["samples_of_it"] == theirs
        kept = gains(held, [], AT)["against"]["selection"][other]
        assert found["against"]["selection"][other] == kept


def control_of(pools: Sequence[Labelled]) -> list[Labelled]:
    """As stored pools: marked with a trained confidence too."""
    return joined(pools, {TRAINED: [[0.5] * len(one.pool.samples) for one in pools]})


def test_budgets_are_those_that_the_samples_hold() -> None:
    assert list(made()["budgets"]) == ["4", "8", "16"]
    few = [replace(one, pool=one.pool) for one in marked(12, 9, untrained=noisy, trained=noisy)]
    assert list(gains(few, [], AT)["budgets"]) == ["4", "8"]
    fresh = marked(12, 5, untrained=noisy, trained=noisy)
    assert list(gains(few, fresh, AT)["budgets"]) == ["4"]


def test_permuting_labels_changes_no_stop() -> None:
    held = marked(40, untrained=noisy, trained=noisy)
    grades = [one.correct for one in held]
    random.Random(0).shuffle(grades)
    swapped = [replace(one, correct=to) for one, to in zip(held, grades, strict=True)]
    first, second = (
        [
            [row["early"]["samples"] for row in cells.values()]
            for cells in gains(given_, [], AT)["budgets"].values()
        ]
        for given_ in (held, swapped)
    )
    assert first == second


def test_what_is_saved_is_counted_against_every_way_that_needs_no_training() -> None:
    found = made(inverted, honest, fresh=0.0, logprob=noisy)["against"]
    assert set(found) == {"selection", "both"}
    assert set(found["selection"]) == {"majority", "untrained", "logprob"}
    vote = found["selection"]["majority"]
    assert vote["samples_of_it"]["value"] == 16
    assert vote["samples"]["value"] + -vote["followups"]["value"] == pytest.approx(16)
    ours = found["selection"]["untrained"]
    assert ours["samples"] == ours["followups"]
    assert vote["tokens"]["reason"] == "samples do not all state their tokens"


def test_the_sweep_goes_from_one_sample_to_all_and_a_true_confidence_needs_fewer() -> None:
    found = made(inverted, noisy, logprob=flat)
    for rows in found["sweep"].values():
        assert [row[0] for row in rows] == list(TAUS)
        samples = [row[1] for row in rows]
        assert samples == sorted(samples)
        assert samples[0] < 1.5
        assert 10 < samples[-1] <= 16
    needed = found["needed"]
    assert needed["selection"]["samples"]["value"] < needed["logprob"]["samples"]["value"]
    assert needed["selection"]["saved"]["logprob"]["interval"][0] > 0
    assert needed["untrained"]["saved"] == {}


def test_what_it_needs_is_never_more_than_the_vote_itself() -> None:
    found = made(inverted, inverted)
    assert found["needed"]["selection"]["samples"]["value"] <= 16


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ([], "no pools"),
        ([pool("q", ["1"] * 16, gold=None)], "no question is graded"),
        (marked(4, 3, untrained=flat, trained=flat), "fewer than 4 samples"),
        (marked(4, untrained=flat), "no sample states a confidence (trained)"),
        (marked(4, trained=flat), "no sample states a confidence (untrained)"),
    ],
)
def test_a_set_that_cannot_be_measured_says_why(held: list[Labelled], said: str) -> None:
    assert said in gains(held, [], AT)["reason"]


def test_without_a_threshold_nothing_is_taken_from_the_held_out_set() -> None:
    held = marked(20, untrained=noisy, trained=noisy)
    assert "no threshold could be chosen" in gains(held, [], {UNTRAINED: 0.5})["reason"]


def test_questions_without_grades_or_fresh_samples_are_left_out_and_counted() -> None:
    held = marked(30, untrained=noisy, trained=noisy)
    held[0] = replace(held[0], correct=(None, *held[0].correct[1:]))
    found = gains(held, marked(25, untrained=noisy, trained=noisy), AT)
    assert found["questions"] == 24
    assert found["left_out"] == {
        "questions that are not graded": 1,
        "questions whose fresh samples are not graded": 5,
    }


# -- signs ----------------------------------------------------------------------------------------


def said_of(found: Mapping[str, Any]) -> list[str]:
    return signs({"stopped": None, "evaluation": {}, "in_use": {"sets": {"facts": found}}})


def test_numbers_in_use_that_are_good_or_missing_have_no_signs() -> None:
    assert said_of({"reason": "no question is graded"}) == []
    assert said_of(made(flat, honest)) == []
    assert signs({"stopped": None, "evaluation": {}}) == []


def test_stopping_confidently_wrong_more_often_is_a_sign() -> None:
    found = said_of(made(flat, inverted, fresh=0.0))
    assert any("facts: early stopping stops confidently wrong more often" in each for each in found)


@pytest.mark.parametrize(("sure", "advice"), [(0.1, "too high: lower it"), (0.9, "too low: raise")])
def test_stopping_early_below_best_of_n_is_a_sign_with_the_fitting_advice(
    sure: float, advice: str
) -> None:
    found = copy.deepcopy(made(flat, honest))
    row = found["budgets"]["4"]["selection"]["early"]
    row["to_best_of_n"] = {"value": -0.1, "interval": [-0.15, -0.05], "reason": None}
    row["sure"]["value"] = sure
    (sign,) = said_of(found)
    assert "at 4 samples early stopping is 0.100 less accurate than best of N" in sign
    assert advice in sign


def test_a_map_of_the_log_probability_that_needs_fewer_samples_is_a_sign() -> None:
    found = said_of(made(flat, flat, logprob=honest))
    assert any("untrained logprob under Platt's map needs" in each for each in found)


# -- cost -----------------------------------------------------------------------------------------


def drawn(*samples: Mapping[str, Any]) -> Labelled:
    record = {**pool_record(pool("q", ["1"])), "samples": [{"answer": "1"} | s for s in samples]}
    return pool_from_record(record)


def test_samples_of_one_request_share_its_seconds() -> None:
    one = drawn(*({"seed": 3, "seconds": 2.0, "tokens": 5},) * 4)
    apart = drawn({"seconds": 1.0, "tokens": 5}, {"seconds": 1.0, "tokens": 7})
    told = generation([one, apart])
    assert told == {"questions": 1, "samples": 6, "tokens": 32, "seconds": 4.0}


def test_tokens_and_seconds_that_some_samples_lack_are_not_known() -> None:
    told = generation([drawn({"tokens": 5, "seconds": 1.0}, {})])
    assert (told["samples"], told["tokens"], told["seconds"]) == (2, None, None)


def test_confidences_asked_for_are_counted_by_their_numbers_and_their_replies() -> None:
    one = drawn({"signals": {"p_true": 0.5}}, {"followups": {"p_true": {"text": "Yes"}}}, {})
    assert scoring([one], "p_true") == 2


# -- a run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_pools.willing(tmp_path_factory.mktemp("model") / "tiny")


def sft(model: Path, *words: str | Path) -> Any:
    flags = ("--batch", "8", "--lr", "0.005", "--rows", "24", "--check-every", "0", "--quiet")
    return call("train", "sft", *words, "-m", model, *flags)


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 20 questions of 8 samples, 8 of them trained on."""
    folder = tmp_path_factory.mktemp("in_use")
    given_ = training_pools.pools(20, 8, kind="text")
    file = write_lines(folder / "p.jsonl", records(given_))
    words = (file, "-o", folder / "run", "--limit", "8", "--held-out", "0.4", "--in-use", "8")
    done = sft(model, *words)
    assert done.code == 0, done.err
    assert "early 8" in done.out
    assert "of the training part" in done.out
    return folder / "run"


def test_a_run_measures_both_confidences_on_stored_and_on_fresh_samples(run: Path) -> None:
    told = json.loads((run / "report.json").read_text())
    use = told["in_use"]
    held = use["sets"]["held_out"]
    assert list(held["budgets"]) == ["4", "8"]
    cells = {"untrained", "selection", "redrawn", "generation", "both"}
    assert set(held["budgets"]["8"]) == cells
    assert held["engines"]["fresh"] == ["transformers"]
    control = list(read_pools(run / "redrawn.held_out.jsonl.gz"))
    assert {one.pool.model for one in control} == {told["model"]["name"]}
    assert all(UNTRAINED in s.signals for one in control for s in one.pool.samples)
    assert told["cost"]["generation"]["questions"] == 8
    assert told["seconds"]["a_confidence"] > 0
    fresh = list(read_pools(run / "fresh.held_out.jsonl.gz"))
    assert {len(one.pool.samples) for one in fresh} == {8}
    assert all(UNTRAINED in s.signals and TRAINED in s.signals for s in fresh[0].pool.samples)


def test_thresholds_come_from_questions_of_the_training_part_not_trained_on_first(
    run: Path,
) -> None:
    told = json.loads((run / "report.json").read_text())
    use, held = told["in_use"]["thresholds"], list(read_pools(run / "before.held_out.jsonl.gz"))
    assert use["questions"] == 20 - len(held)
    assert use["trained_on"] == 8
    assert set(use["of"]) == {UNTRAINED, TRAINED}


def test_its_folder_says_when_training_is_even(run: Path) -> None:
    done = call("report", run)
    assert done.code == 0, done.err
    assert "held_out: not known: the pools do not state the seconds" in done.out


def resumed(model: Path, run: Path) -> dict[str, Any]:
    """The numbers in use of the run, gone on with as if it had been killed while measuring."""
    (run / "report.json").unlink()
    words = (run.parent / "p.jsonl", "-o", run, "--limit", "8", "--held-out", "0.4")
    done = sft(model, *words, "--in-use", "8", "--resume", "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)["in_use"]
    return found


def test_a_run_that_goes_on_draws_and_measures_nothing_again(model: Path, run: Path) -> None:
    first = json.loads((run / "report.json").read_text())["in_use"]
    files = [run / f"{which}.held_out.jsonl.gz" for which in ("fresh", "redrawn", "after")]
    files += [run / "before.json", run / "after.json"]
    kept = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    assert resumed(model, run) == first
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == kept


@pytest.mark.parametrize("which", ["fresh", "redrawn"])
def test_a_run_killed_while_drawing_ends_with_the_same_samples(
    model: Path, run: Path, which: str
) -> None:
    first = json.loads((run / "report.json").read_text())["in_use"]
    fresh = run / f"{which}.held_out.jsonl.gz"
    whole, bare = fresh.read_bytes(), []
    for one in list(read_pools(fresh))[:4]:
        samples = [
            replace(
                s, signals={k: v for k, v in s.signals.items() if k not in (UNTRAINED, TRAINED)}
            )
            for s in one.pool.samples
        ]
        bare.append(replace(one, pool=replace(one.pool, samples=tuple(samples))))
    write_pools(fresh, bare)
    assert resumed(model, run) == first
    assert fresh.read_bytes() == whole


def test_the_price_of_a_confidence_is_of_those_that_were_asked_for() -> None:
    """Equal samples of a question are asked about once, unreadable ones never."""
    texts = ["so 1", "so 1", "yes 1", "what"]
    one = pool("q", ["1", "1", "1", None], texts=texts)
    again = pool("r", ["1", "1", "1", None], texts=texts)
    assert _asked([one, again]) == 4


def test_fresh_samples_are_of_the_arm_that_the_run_is_sampled_as(model: Path, run: Path) -> None:
    fresh = list(read_pools(run / "fresh.held_out.jsonl.gz"))
    assert {one.pool.model for one in fresh} == {Transformers(model, adapter=run).model}


def test_a_set_of_two_decodings_is_drawn_and_measured_as_the_larger_one(
    model: Path, tmp_path: Path
) -> None:
    """Fresh samples of both would end the run where it is measured, when all else is done."""
    cool = training_pools.pools(12, kind="text")
    warm = training_pools.pools(12, kind="text", decoding={"temperature": 1.2, "max_tokens": 4})
    file = write_lines(tmp_path / "p.jsonl", records([*warm[::2], *cool]))
    words = (file, "-o", tmp_path / "run", "--held-out", "0.5", "--in-use", "4", "--json")
    done = sft(model, *words)
    assert done.code == 0, done.err
    held = json.loads(done.out)["in_use"]["sets"]["held_out"]
    assert held["left_out"]["pools of other arms"] > 0
    fresh = list(read_pools(tmp_path / "run" / "fresh.held_out.jsonl.gz"))
    assert {(one.pool.decoding or {})["temperature"] for one in fresh} == {0.8}
    assert len(fresh) == held["questions"]


def test_labels_that_are_all_right_end_no_run_and_make_no_map(model: Path, tmp_path: Path) -> None:
    """The map is fitted when all else is done: it must not cost a run."""
    easy = records([pool(f"q{k}", ["1"] * 4, decoding={"max_tokens": 4}) for k in range(12)])
    text = easy[0]["samples"][0]["text"]
    spelled = {"tokens": list(text), "chosen": [-0.1] * len(text)}
    for record in easy:
        for sample in record["samples"]:
            sample["logprobs"] = spelled
    file = write_lines(tmp_path / "p.jsonl", easy)
    words = ("--held-out", "0.4", "--target", "labels", "--json")
    done = sft(model, file, "-o", tmp_path / "run", *words)
    assert done.code == 0, done.err
    chosen = json.loads(done.out)["in_use"]["thresholds"]["of"]
    assert set(chosen) == {UNTRAINED, TRAINED}


def test_samples_of_two_engines_are_said_to_be(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section = json.loads((run / "report.json").read_text())["in_use"]
    console = Console(highlight=False, width=500)
    show_in_use("held_out", section, console)
    assert "fresh ones by transformers, which drew the untrained" in capsys.readouterr().out


def test_samples_of_one_engine_are_not_drawn_again(model: Path, tmp_path: Path) -> None:
    alike = training_pools.pools(12, 4, kind="text")
    alike = [replace(one, pool=replace(one.pool, engine="transformers")) for one in alike]
    file = write_lines(tmp_path / "p.jsonl", records(alike))
    words = ("--held-out", "0.4", "--in-use", "4", "--json")
    tried = sft(model, file, "-o", tmp_path / "run", *words, "--dry-run")
    done = sft(model, file, "-o", tmp_path / "run", *words)
    assert done.code == 0, done.err
    held = json.loads(done.out)["in_use"]["sets"]["held_out"]
    assert "redrawn" not in held["budgets"]["4"]
    assert not (tmp_path / "run" / "redrawn.held_out.jsonl.gz").exists()
    assert json.loads(tried.out)["in_use"]["fresh_samples"] == 4 * held["questions"]


def test_a_greedy_decoding_has_no_fresh_samples_and_keeps_the_stored_ones(
    model: Path, tmp_path: Path
) -> None:
    greedy = training_pools.pools(12, 4, decoding={"max_tokens": 4})
    file = write_lines(tmp_path / "p.jsonl", records(greedy))
    words = ("--held-out", "0.4", "--target", "labels", "--json")
    done = sft(model, file, "-o", tmp_path / "run", *words)
    assert done.code == 0, done.err
    held = json.loads(done.out)["in_use"]["sets"]["held_out"]
    assert set(held["budgets"]["4"]) == {"untrained", "selection"}
    assert held["without_fresh"] == "no fresh samples could be drawn"
    assert not (tmp_path / "run" / "fresh.held_out.jsonl.gz").exists()


def test_the_section_can_be_left_out_and_too_few_samples_are_refused(
    model: Path, tmp_path: Path
) -> None:
    file = write_lines(tmp_path / "p.jsonl", records(training_pools.pools(8)))
    done = sft(model, file, "-o", tmp_path / "none", "--in-use", "0", "--json")
    assert done.code == 0, done.err
    assert "in_use" not in json.loads(done.out)
    assert "--in-use 16" in call("report", tmp_path / "none").err
    refused = sft(model, file, "-o", tmp_path / "few", "--in-use", "3")
    assert (refused.code, "draw 4 samples or more" in refused.err) == (2, True)
    assert not (tmp_path / "few").exists()


def test_fresh_samples_that_cannot_be_read_are_no_answers_and_no_confidence(
    model: Path, tmp_path: Path
) -> None:
    """The tiny model writes no number: the stored samples' numbers are there all the same."""
    file = write_lines(tmp_path / "p.jsonl", records(training_pools.pools(12)))
    done = sft(model, file, "-o", tmp_path / "run", "--held-out", "0.4")
    assert done.code == 0, done.err
    assert "no fresh sample states a confidence" in done.out
    assert "majority 4" in done.out


def test_a_dry_run_says_how_many_fresh_samples_there_would_be(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p.jsonl", records(training_pools.pools(8)))
    done = sft(model, file, "--dry-run", "--held-out", "0.5", "--questions", "2", "--json")
    # Of both models, for the pools do not state that transformers drew them.
    assert json.loads(done.out)["in_use"] == {"fresh_samples": 2 * 2 * 16}
