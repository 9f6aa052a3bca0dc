"""Reinforcement of stated confidences: advantages, the loop, the whole run, what is refused."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import stating_model
import tiny_model
import training_pools
from command import call, write_lines
from poise.errors import InputError, RefusedError, UsageError
from poise.rewards import REWARDS
from poise.train import lineage, rl, rl_recipe
from poise.train.advantages import by_token, centred, statement_mask
from poise.train.episodes import collapsed, noted, rows_of
from poise.train.loop import Trained, Watch
from poise.train.model import Loaded, load, save_adapter, with_adapter
from poise.train.prefill import following
from poise.train.rl import Settings
from poise.train.rl_signs import changes, signs
from poise.train.rows import padded
from poise.train.stating import line_of, stating
from poise.types import Prompt

torch.set_num_threads(1)

PROMPT = stating(Prompt())
SMALL = Settings(
    group=4, questions=2, steps=4, tokens=12, lr=0.01, save_every=2, seed=3, warmup=0.0
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stating_model.save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    return load(folder, device="cpu")


def started(folder: Path) -> Loaded:
    return with_adapter(load(folder, device="cpu"), rank=4, alpha=8, seed=1)


def asked(steps: int = 4, questions: int = 2) -> list[dict[str, Any]]:
    return rows_of(training_pools.pools(5), PROMPT, steps * questions, 0)


def weights(loaded: Loaded) -> dict[str, torch.Tensor]:
    named = loaded.model.named_parameters()
    return {name: value.detach().clone() for name, value in named if value.requires_grad}


# -- advantages -----------------------------------------------------------------------------------

REWARD = st.one_of(st.just(math.nan), st.sampled_from([0.0, 0.25, 1.0]))


@given(st.lists(st.tuples(REWARD, REWARD), min_size=6, max_size=6))
def test_an_advantage_is_the_distance_from_the_groups_mean_and_is_not_divided(
    rows: list[tuple[float, float]],
) -> None:
    """Two groups of three, against arithmetic on lists."""
    made = centred(rows, [1.0, 0.5], 3)
    for start in (0, 3):
        totals = [
            None
            if math.isnan(a) and math.isnan(b)
            else sum(w * r for w, r in ((1.0, a), (0.5, b)) if not math.isnan(r))
            for a, b in rows[start : start + 3]
        ]
        known = [total for total in totals if total is not None]
        for place, total in enumerate(totals):
            right = 0.0 if total is None else total - statistics.fmean(known)
            assert made[start + place] == pytest.approx(right, abs=1e-12)


def test_twice_the_spread_is_twice_the_advantage() -> None:
    rewards = np.array([[0.0], [1.0], [0.0], [0.5]])
    assert centred(2 * rewards, [1.0], 4) == pytest.approx(2 * centred(rewards, [1.0], 4))


NAMES = ("correctness", "brier", "formatted")
TABLE = np.array([[1, 0.9, 1], [0, 0.2, 1], [1, 0.3, 1], [0, 0.0, 0]])
STATES = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], bool)


def test_split_advantages_reach_only_their_tokens() -> None:
    made = by_token(TABLE, NAMES, (1.0, 1.0, 0.0), 4, STATES)
    answer = TABLE[:, 0] - TABLE[:, 0].mean()
    stated = TABLE[:3, 1] - TABLE[:3, 1].mean()
    for row in range(4):
        assert made[row][~STATES[row]] == pytest.approx(answer[row])
        if row < 3:
            assert made[row][STATES[row]] == pytest.approx(stated[row])


def test_no_confidence_reward_moves_an_answer_and_no_answer_reward_a_confidence() -> None:
    base = by_token(TABLE, NAMES, (1.0, 1.0, 0.1), 4, STATES)
    other = TABLE.copy()
    other[:, 1] = [0.1, 0.7, 0.6, 0.0]
    moved = by_token(other, NAMES, (1.0, 1.0, 0.1), 4, STATES) != base
    assert not moved[~STATES].any()
    assert moved[STATES].any()
    other = TABLE.copy()
    other[:, 0] = [0, 1, 1, 1]
    moved = by_token(other, NAMES, (1.0, 1.0, 0.1), 4, STATES) != base
    assert not moved[STATES].any()
    assert moved[~STATES].any()


def test_the_form_is_learnt_by_both_parts() -> None:
    made = by_token(TABLE, NAMES, (0.0, 0.0, 1.0), 4, STATES)
    assert made[0][~STATES[0]] == pytest.approx(0.25)
    assert made[3] == pytest.approx(-0.75)
    broken = TABLE.copy()
    broken[2, 2] = 0.0
    made = by_token(broken, NAMES, (0.0, 0.0, 1.0), 4, STATES)
    assert made[2][STATES[2]] == pytest.approx(-2 / 3)


@pytest.mark.parametrize("before", ["It is 7.", "", "…Ä 7"])
def test_the_statements_tokens_are_found_in_what_was_generated(before: str) -> None:
    tokenizer = tiny_model.tokenizer(stating_model.WORDS)
    line, end = line_of(tokenizer), tokenizer.eos_token_id
    answer = tokenizer(before)["input_ids"] if before else []
    ids = [*answer, *line.states(0.7), end]
    (mask,) = statement_mask(tokenizer, [ids], len(ids) + 2)
    newline = 1  # the line's first token stands before the statement itself
    start = len(answer) + newline
    assert mask.tolist() == [False] * start + [True] * (len(ids) - start) + [False] * 2
    assert not statement_mask(tokenizer, [answer or [end]], 4).any()


# -- shared prompts -------------------------------------------------------------------------------


def test_a_prompt_computed_once_gives_the_logits_and_gradients_of_whole_rows(
    folder: Path,
) -> None:
    model = started(folder).model.eval()
    rng = torch.Generator().manual_seed(0)
    prompts = [[5, 6, 7, 8, 9], [5, 6, 7, 8, 9], [10, 11, 12], [5, 6, 7, 8, 9]]
    filled = padded(prompts, 0)
    ids, mask = torch.tensor(filled.ids), torch.tensor(filled.mask)
    said = torch.randint(3, 200, (4, 6), generator=rng)
    shown = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 6, [0] * 6])
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(generator=rng)
    found = []
    for shared in (True, False):
        if shared:
            logits = following(model, (ids, mask), (said, shown))
        else:
            logits = model(
                input_ids=torch.cat([ids, said], 1), attention_mask=torch.cat([mask, shown], 1)
            ).logits[:, ids.shape[1] - 1 : -1]
        chosen = logits.log_softmax(-1).gather(-1, said[..., None])[..., 0] * shown
        model.zero_grad()
        chosen.sum().backward()
        grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        found.append((chosen.detach(), grads))
    (ours, gradients), (whole, theirs) = found
    assert torch.allclose(ours, whole, atol=1e-4)
    assert len(gradients) == len(theirs) > 0
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(gradients, theirs, strict=True))


# -- the loop -------------------------------------------------------------------------------------


def trained(loaded: Loaded, place: Path, settings: Settings = SMALL, **more: Any) -> Trained:
    rows = asked(settings.steps, settings.questions)
    return rl.train(loaded, rows, settings, place, **more)


def untimed(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in step.items() if k not in ("seconds", "step_time")} for step in steps]


class Recorded(rl._Trainer):
    """Keeps what TRL was about to learn from."""

    seen: list[dict[str, Any]]

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        made = super()._generate_and_score_completions(inputs)
        type(self).seen.append(
            {**made, "rewards": self._rewards.clone(), "said": self._said, "inputs": inputs}
        )
        return made


@pytest.mark.parametrize("split", [False, True])
def test_what_is_learnt_from_is_the_reward_less_its_groups_mean(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: bool
) -> None:
    Recorded.seen = []
    monkeypatch.setattr(rl, "_Trainer", Recorded)
    three = (("correctness", 1.0), ("brier", 0.5), ("formatted", 0.1))
    loaded = started(folder)
    trained(loaded, tmp_path, replace(SMALL, weights=three, steps=2, split=split))
    for made in Recorded.seen:
        texts = loaded.tokenizer.batch_decode(made["said"], skip_special_tokens=True)
        columns = {k: [row[k] for row in made["inputs"]] for k in ("gold", "kind", "options")}
        chat = [[{"role": "assistant", "content": text}] for text in texts]
        table = np.array(
            [reward(prompts=chat, completions=chat, **columns) for reward in SMALL.functions()]
        ).T
        assert made["rewards"].numpy() == pytest.approx(table)
        if not split:
            total = (table @ [1.0, 0.5, 0.1]).reshape(-1, 4)
            right = (total - total.mean(axis=1, keepdims=True)).reshape(-1)
            assert made["advantages"].numpy() == pytest.approx(right, abs=1e-5)
            continue
        ids = made["completion_ids"]
        mask = statement_mask(loaded.tokenizer, made["said"], ids.shape[1])
        assert mask.any(axis=1).mean() > 0.7
        right = by_token(table, NAMES, (1.0, 0.5, 0.1), 4, mask)
        assert made["advantages"].shape == ids.shape
        assert made["advantages"].numpy() == pytest.approx(right, abs=1e-5)


def test_log_probabilities_are_those_of_the_temperature_that_was_drawn_at(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against TRL's own, which computes whole rows."""
    compared: list[float] = []

    class Compared(rl._Trainer):
        def _get_per_token_logps_and_entropies(self, *given: Any, **more: Any) -> Any:
            ours = super()._get_per_token_logps_and_entropies(*given, **more)
            theirs = rl.GRPOTrainer._get_per_token_logps_and_entropies(self, *given, **more)
            shown = given[2][:, -given[3] :].bool()
            for a, b in zip(ours[:2], theirs[:2], strict=True):
                assert torch.allclose(a[shown], b[shown], atol=1e-4)
            compared.append(float(ours[0].detach()[shown].min()))
            return ours

    monkeypatch.setattr(rl, "_Trainer", Compared)
    trained(started(folder), tmp_path, replace(SMALL, steps=1, temperature=0.5))
    assert min(compared) < -0.5


@pytest.mark.parametrize("own", [{"min_p": 1.0}, {"no_repeat_ngram_size": 1}])
def test_a_models_own_way_of_drawing_does_not_shape_what_it_learns_from(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: dict[str, Any]
) -> None:
    monkeypatch.setattr(rl, "_Trainer", Recorded)
    said = []
    for name, its_own in (("plain", {}), ("own", own)):
        Recorded.seen = []
        loaded = started(folder)
        config = loaded.model.get_base_model().generation_config
        config.update(**its_own)
        trained(loaded, tmp_path / name, replace(SMALL, steps=1))
        said.append(Recorded.seen[0]["said"])
        assert loaded.model.get_base_model().generation_config is config
    assert said[0] == said[1]


def test_a_step_of_equal_advantages_changes_nothing_and_others_do(
    folder: Path, tmp_path: Path
) -> None:
    """Brier of a reply that is never right differs; correctness of it does not."""
    impossible = [{**row, "gold": "77"} for row in asked(1)]
    for weighed, moves in ((("correctness", 1.0), False), (("brier", 1.0), True)):
        loaded = started(folder)
        start = weights(loaded)
        one = replace(SMALL, weights=(weighed,), steps=1, save_every=9, forced=True)
        rl.train(loaded, impossible, one, tmp_path / weighed[0])
        same = all(torch.equal(value, start[name]) for name, value in weights(loaded).items())
        assert same is not moves


def test_training_makes_replies_right_and_confidences_true(folder: Path, tmp_path: Path) -> None:
    """Gold is always 1, which the model starts to say a third of the time, with any digit."""
    loaded = started(folder)
    more = replace(SMALL, steps=24, questions=4, group=8, save_every=99)
    done = trained(loaded, tmp_path, more)
    first, last = done.steps[:5], done.steps[-5:]
    for name in ("right", "reward"):
        old, new = (statistics.fmean(step[name] for step in part) for part in (first, last))
        assert new > old + 0.2
    brier = [statistics.fmean(step["brier"] for step in part) for part in (first, last)]
    assert brier[1] < brier[0]


class Killed(Exception):
    """What ends a run in the middle."""


def kill_at(step: int) -> Any:
    def told(record: Mapping[str, Any], _steps: int) -> None:
        if record["step"] == step:
            raise Killed

    return told


@pytest.mark.parametrize(
    "how",
    [
        SMALL,
        replace(SMALL, split=True, kl=0.2, batch=4, steps=5),
        replace(SMALL, mixed=True, weights=(("correctness", 1.0), ("capability", 1.0)), mix=0.5),
    ],
)
def test_a_run_that_was_killed_ends_with_the_same_weights(
    folder: Path, tmp_path: Path, how: Settings
) -> None:
    whole, first, second = started(folder), started(folder), started(folder)
    straight = trained(whole, tmp_path / "whole", how)
    with pytest.raises(Killed):
        trained(first, tmp_path / "cut", how, told=kill_at(3))
    torch.manual_seed(99)
    resumed = trained(second, tmp_path / "cut", how, resume=True)
    assert (straight.resumed, resumed.resumed) == (None, 2)
    assert untimed(resumed.steps) == untimed(straight.steps)
    ours, theirs = weights(second), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert set(second.model.peft_config) == {"default"}
    again = trained(second, tmp_path / "cut", how, resume=True)
    assert untimed(again.steps) == untimed(straight.steps)


def test_every_step_says_what_its_replies_were_like(folder: Path, tmp_path: Path) -> None:
    heard: list[Mapping[str, Any]] = []
    trained(started(folder), tmp_path, told=lambda record, _steps: heard.append(dict(record)))
    assert [record["step"] for record in heard] == [1, 2, 3, 4]
    for record in heard:
        assert record["replies"] == 8
        assert record["in_form"] == record["stated"] / 8
        parts = {"correctness": 1.0, "brier": 1.0, "formatted": 0.1}
        total = sum(w * record[f"rewards/{name}/mean"] for name, w in parts.items())
        assert record["reward"] == pytest.approx(total, abs=1e-5)
        assert record["right"] == pytest.approx(record["rewards/correctness/mean"])
        assert {"p", "p_right", "length", "seconds", "entropy", "grad_norm"} & record.keys()


def test_a_run_stops_where_accuracy_falls(folder: Path, tmp_path: Path) -> None:
    watch = Watch((1.0,) * 9, lambda: (0.0,) * 9)
    done = trained(started(folder), tmp_path, replace(SMALL, check_every=2), watch=watch)
    assert len(done.steps) == 2
    assert done.stopped is not None
    assert "accuracy fell" in done.stopped


def test_what_was_wrong_at_the_last_step_is_known_after_resuming(
    folder: Path, tmp_path: Path
) -> None:
    watch, how = Watch((1.0,) * 9, lambda: (0.0,) * 9), replace(SMALL, check_every=4)
    done = trained(started(folder), tmp_path, how, watch=watch)
    again = trained(started(folder), tmp_path, how, watch=watch, resume=True)
    assert len(done.steps) == 4
    assert done.stopped == again.stopped is not None


def test_nothing_to_train_is_said_before_anything_starts(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="7 rows for 8"):
        rl.train(started(folder), asked()[:7], SMALL, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weights": (("correctness", 1.0), ("brier", 1.5))}, "ratio of 1.5"),
        ({"weights": (("correctness", 1.0), ("bounded_log", 0.5))}, "log score is refused"),
        ({"weights": (("brier", 1.0),)}, "ratio"),
        ({"weights": (("briar", 1.0),)}, "no reward 'briar'"),
        ({"weights": (("correctness", 0.0),)}, "nothing would be learnt"),
        ({"weights": (("correctness", 1.0), ("correctness", 1.0))}, "named twice"),
        ({"weights": (("correctness", 1.0),), "split": True}, "nothing to part"),
        ({"weights": (("self_certainty", 1.0),)}, "log-probabilities as columns"),
        ({"weights": (("thresholded", 1.0),)}, "state a threshold"),
        ({"mix": 0.5}, "capability"),
        ({"weights": (("correctness", 1.0), ("capability", 1.0)), "mix": 1.5}, "mix=1.5"),
        ({"group": 1}, "group=1"),
        ({"batch": 3}, "batch=3"),
        ({"batch": 0}, "batch=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"kl": -1.0}, "kl=-1.0"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"steps": 0}, "steps=0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        replace(SMALL, **wrong)


@pytest.mark.parametrize(
    "right",
    [
        {"weights": (("correctness", 1.0), ("brier", 1.5)), "forced": True},
        {"weights": (("correctness", 1.0), ("bounded_log", 2.0)), "split": True},
    ],
)
def test_a_gameable_sum_is_trained_where_it_cannot_be_gamed_or_is_forced(
    right: dict[str, Any],
) -> None:
    assert replace(SMALL, **right).names


# -- questions and notes --------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(0, 5))
@settings(max_examples=20)
def test_every_question_comes_before_any_comes_again(count: int, seed: int) -> None:
    order = [row["question_id"] for row in rows_of(training_pools.pools(7), PROMPT, count, seed)]
    assert len(order) == count
    for start in range(0, count, 7):
        part = order[start : start + 7]
        assert len(set(part)) == len(part)
    assert order == [
        row["question_id"] for row in rows_of(training_pools.pools(7), PROMPT, count, seed)
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"gold": None}, "question q0 of d has no gold answer"),
        ({"kind": None}, "question q0 of d has no kind"),
        ({"gold": "many"}, "question q0: gold answer 'many'"),
    ],
)
def test_a_question_that_cannot_be_rewarded_is_named(more: dict[str, Any], said: str) -> None:
    pool = training_pools.pool("q0", ["1"], **more)
    with pytest.raises(InputError, match=said):
        rows_of([pool], PROMPT, 0, 0)


def test_a_steps_note_is_about_replies_as_rewards_read_them() -> None:
    rows = [{"gold": "1", "kind": "number", "options": None}] * 4
    texts = ["1\nConfidence: 9", "2\nConfidence: 0", "1", "x\nConfidence: 4"]
    told = noted(rows, texts, [[1]] * 4, 2)
    assert told["right"] == 0.5
    assert (told["stated"], told["in_form"]) == (3, 0.75)
    assert told["p"] == pytest.approx((0.95 + 0.05 + 0.45) / 3)
    assert told["p_right"] == pytest.approx(0.95)
    assert told["p_wrong"] == pytest.approx(0.25)
    assert told["brier"] == pytest.approx((0.05**2 + 0.05**2 + 0.45**2) / 3)
    assert told["target"] == pytest.approx(0.5)
    assert "p" not in noted(rows[:2], ["1", "2"], [[1]] * 2, 2)


def steps(spreads: Sequence[float], in_form: float = 1.0) -> list[dict[str, float]]:
    return [
        {"in_form": in_form, "stated": 8, "p": 0.5, "p_square": 0.25 + s * s}
        | {"target": 0.5, "target_square": 0.25 + 0.3**2}
        for s in spreads
    ]


def test_a_collapse_is_seen_and_said() -> None:
    assert collapsed(steps([0.3] * 20)) is None
    assert collapsed(steps([0.02] * 20)) is None, "it started flat"
    flat = collapsed(steps([0.3] * 10 + [0.01] * 10))
    assert flat is not None
    assert "became constant" in flat
    silent = collapsed([*steps([0.3] * 10), *steps([0.3] * 10, in_form=0.1)])
    assert silent is not None
    assert "no longer state" in silent
    none = [{"in_form": 0.0, "stated": 0}] * 9
    assert collapsed(none) is None, "too few steps to judge"


# -- signs ----------------------------------------------------------------------------------------


def rate(count: int, error: float | None = 0.04) -> dict[str, Any]:
    """A share of 100 replies, with its standard error over questions."""
    return {"replies": 100, "count": count, "share": count / 100, "standard_error": error}


def measured(accuracy: float = 0.5, brier: float = 0.15, **more: Any) -> dict[str, Any]:
    share = rate(20)
    return {
        "accuracy": {"by_question": [accuracy] * 19 + [accuracy + 0.1]},
        "in_form": {"share": 1.0},
        "spread": {"deviation": 0.3},
        "confidence": {
            "brier": {"value": brier},
            "base_brier": 0.25,
            "ece": 0.05,
            "ece_floor": {"p95": 0.06},
        },
        "threshold": 0.5,
        "over_abstention": share,
        "under_abstention": share,
        **more,
    }


def told(
    before: Mapping[str, Any], after: Mapping[str, Any], **baselines: Mapping[str, float]
) -> list[str]:
    maps = {
        name: {"brier": {"value": brier}, "base_brier": base}
        for name, each in baselines.items()
        for brier, base in [each.values()]
    }
    each = {"before": before, "after": after, "baselines": {"50 labels": maps}}
    report = {"stopped": None, "evaluation": {"s": each}, "change": {"s": changes(each)}}
    return signs({**report, "start": {"adapter": False, "questions_seen": None}})


def test_a_run_that_went_well_has_no_signs() -> None:
    assert told(measured(), measured(0.6, 0.1)) == []


def test_replies_to_few_questions_are_not_many_opinions() -> None:
    """The same shares of the same replies: a sign where each is of its own question, else none."""
    assert told(measured(), measured(over_abstention=rate(40)))
    few = {"over_abstention": rate(20, error=0.12)}
    assert told(measured(**few), measured(over_abstention=rate(40, error=0.12))) == []
    assert told(measured(), measured(over_abstention=rate(60, error=None))) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (measured(0.6), measured(0.3, 0.1), "hedging: accuracy fell by 0.300 while Brier improved"),
        (measured(0.6), measured(0.3, 0.2), "accuracy fell by 0.300"),
        (
            measured(),
            measured(over_abstention=rate(60)),
            "right answers that would be withheld rose from 20% of 100 to 60% of 100",
        ),
        (
            measured(),
            measured(under_abstention=rate(60)),
            "wrong answers that would be given rose",
        ),
        (measured(), measured(in_form={"share": 0.7}), "now 70% do"),
        (measured(), measured(spread={"deviation": 0.01}), "nearly the same confidence"),
        (measured(), measured(brier=0.3), "no better than the base rate"),
    ],
)
def test_each_sign_of_failure_is_said_and_alone(
    before: dict[str, Any], after: dict[str, Any], said: str
) -> None:
    (sentence,) = told(before, after)
    assert sentence.startswith("s: ")
    assert said in sentence


def test_a_map_of_the_start_is_compared_on_how_hard_its_own_replies_were_to_judge() -> None:
    """Brier .15 where the base rate has .25 tells more than .09 where it has .09."""
    hard, better = {"brier": 0.09, "base": 0.09}, {"brier": 0.05, "base": 0.09}
    assert told(measured(), measured(), constant=hard) == []
    (sentence,) = told(measured(), measured(), constant=hard, logprob=better)
    assert "logprob on 50 labels has 56% of the Brier" in sentence
    assert "confidence 60%" in sentence


# -- the whole run --------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "p.jsonl", training_pools.records(training_pools.pools(14)))


FLAGS = (
    *("--steps", "4", "--group", "4", "--questions-per-step", "2", "--save-every", "2"),
    *("--questions", "4", "--lr", "0.01"),
)


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    left_out = ("seconds", "resumed_at_step")
    return {k: v for k, v in found.items() if k not in left_out} | {
        "steps": untimed(found["steps"])
    }


def test_a_run_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(
    folder: Path, file: Path, tmp_path: Path
) -> None:
    words = ("train", "rl", file, "-m", folder, *FLAGS, "--check-every", "2")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = call(*words, "-o", whole)
    assert done.code == 0, done.err
    assert "stated ECE" in done.out
    assert "ETA" in done.err
    kill = (
        "import os, sys, poise.cli.train\n"
        "sft = sys.modules['poise.cli.train.sft']\n"
        "step = sft.Steps.step\n"
        "def told(self, record, steps):\n"
        "    step(self, record, steps)\n"
        "    if record['step'] == 3: os.kill(os.getpid(), 9)\n"
        "sft.Steps.step = told\n"
        "from poise.cli import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", kill, *map(str, words), "-o", str(cut)],
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == -9, ended.stderr.decode()
    assert "--resume" in call(*words, "-o", cut).err
    assert "steps differ" in call(*words, "-o", cut, "--resume", "--steps", "5").err
    done = call(*words, "-o", cut, "--resume", "--json", "--quiet")
    assert done.code == 0, done.err
    assert json.loads(done.out)["resumed_at_step"] == 2
    assert report(cut) == report(whole)
    kept = [(f / "adapter" / "adapter_model.safetensors").read_bytes() for f in (whole, cut)]
    assert kept[0] == kept[1]
    held = report(whole)["evaluation"]["held_out"]
    assert held["before"]["replies"] == held["after"]["replies"] > 0
    assert "reason" in held["baselines"]["50 labels"]


def test_it_starts_from_a_warm_start_and_remembers_what_was_seen(
    folder: Path, file: Path, tmp_path: Path
) -> None:
    sft = ("train", "sft", file, "-m", folder, "--wording", "stated", "--questions", "4", "--quiet")
    assert call(*sft, "-o", tmp_path / "warm").code == 0
    words = ("train", "rl", file, "-m", folder, *FLAGS, "--adapter", tmp_path / "warm", "--json")
    reference = ("--reward", "reference_accuracy=1", "--reward", "brier=1")
    done = call(*words, *reference, "-o", tmp_path / "run", "--limit", "5")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    first, then = (lineage.seen(tmp_path / name / "adapter") for name in ("warm", "run"))
    assert first is not None
    assert first == then
    assert found["start"]["questions_seen"] == len(first)
    assert found["data"]["reference_accuracy"] == "4 fresh replies each"
    assert found["data"]["questions"] == 5
    leak = call(*words, "-o", tmp_path / "leak", "--seed", "5")
    assert leak.code == 3
    assert "the adapter was trained on" in leak.err
    assert not (tmp_path / "leak").exists()


def test_what_an_unknown_adapter_has_seen_stays_unknown(
    folder: Path, file: Path, tmp_path: Path
) -> None:
    save_adapter(started(folder), tmp_path / "other")
    words = ("--adapter", tmp_path / "other", "--json", "--quiet", "-o", tmp_path / "run")
    done = call("train", "rl", file, "-m", folder, *FLAGS, *words, "--steps", "1")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["start"]["questions_seen"] is None
    assert "had seen is not known" in found["signs"][0]
    assert lineage.seen(tmp_path / "run" / "adapter") is None
    assert found["data"]["questions"] == 2, "one step asks two of the training questions"
    assert {"completions/clipped_ratio", "frac_reward_zero_std"} <= found["steps"][0].keys()


def test_pools_grade_the_reference_of_a_model_that_was_not_trained(
    folder: Path, file: Path, tmp_path: Path
) -> None:
    words = ("--reward", "correctness=1", "--reward", "reference_accuracy=.5", "--json", "--quiet")
    done = call("train", "rl", file, "-m", folder, *FLAGS, *words, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    assert json.loads(done.out)["data"]["reference_accuracy"] == "pools"
    kept = json.loads((tmp_path / "run" / "before.json").read_text())["reference"]
    shares = {name: share for _, name, share in kept}
    pools = {one.pool.question_id: one.correct for one in training_pools.pools(14)}
    assert shares == {name: sum(map(bool, pools[name])) / 4 for name in shares}


def test_a_model_that_states_nothing_is_sent_to_its_warm_start(file: Path, tmp_path: Path) -> None:
    silent = tiny_model.save_folder(tmp_path / "silent", words=stating_model.WORDS)
    words = ("train", "rl", file, "-m", silent, *FLAGS, "--quiet", "-o", tmp_path / "run")
    done = call(*words)
    assert done.code == 4
    assert "poise train sft --wording stated" in done.err
    assert done.err.count("\n") == 1
    again = call(*words)
    assert again.code == 4, "the folder is free again"


def test_a_model_that_always_states_the_same_has_nothing_to_learn_from(
    loaded: Loaded, file: Path, tmp_path: Path
) -> None:
    others = line_of(loaded.tokenizer).digits[:-1]
    with torch.no_grad():
        loaded.model.lm_head.weight[list(others)] *= -1
    loaded.model.save_pretrained(tmp_path / "sure")
    loaded.tokenizer.save_pretrained(tmp_path / "sure")
    words = ("-m", tmp_path / "sure", *FLAGS, "--quiet", "-o", tmp_path / "run")
    done = call("train", "rl", file, *words)
    assert (done.code, "the same confidence, 0.95" in done.err) == (4, True), done.err


def test_a_dry_run_trains_nothing_that_stays_and_says_what_it_would_take(
    folder: Path, file: Path, tmp_path: Path
) -> None:
    there = sorted(tmp_path.iterdir())
    done = call("train", "rl", file, "-m", folder, "--dry-run", "--json", "--quiet", *FLAGS)
    assert done.code == 0, done.err
    found = json.loads(done.out)["estimate"]
    assert found["seconds"] == pytest.approx(found["seconds_per_step"] * 4)
    assert found["replies_per_step"] == 8
    assert found["bytes"] > found["trained_parameters"] * 12
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.parametrize(
    ("more", "words", "code", "said"),
    [
        ({"gold": None}, (), 3, "has no gold answer"),
        ({}, ("--reward", "brier"), 2, "NAME=WEIGHT"),
        ({}, ("--reward", "brier=lots"), 2, "NAME=WEIGHT"),
        ({}, ("--reward", "correctness=1", "--reward", "brier=2"), 2, "ratio of 2"),
        ({}, ("--mix", "0.5"), 2, "capability=1"),
        ({}, ("--batch", "5"), 2, "batch=5"),
        ({}, ("--adapter", "nowhere"), 3, "adapter_config.json"),
        ({"decoding": {"temperature": 1.0}}, (), 2, "--reply-tokens"),
    ],
)
def test_bad_input_is_said_in_one_line_before_anything_is_trained(
    folder: Path, tmp_path: Path, more: dict[str, Any], words: tuple[str, ...], code: int, said: str
) -> None:
    given = [{**record, **more} for record in training_pools.records(training_pools.pools(6))]
    file = write_lines(tmp_path / "p.jsonl", given)
    done = call("train", "rl", file, "-m", folder, "-o", tmp_path / "run", "--quiet", *words)
    assert (done.code, said in done.err) == (code, True), done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ({"gold": "many"}, 3, "question other: gold answer 'many'"),
        ({"decoding": {"temperature": 1.0}}, 2, "--reply-tokens"),
    ],
)
def test_a_set_that_cannot_be_measured_is_said_before_anything_is_drawn(
    folder: Path, file: Path, tmp_path: Path, more: dict[str, Any], code: int, said: str
) -> None:
    one = training_pools.records([training_pools.pool("other", ["1"])])
    bad = write_lines(tmp_path / "bad.jsonl", [{**one[0], **more}])
    words = ("-m", folder, "-o", tmp_path / "run", "--quiet", "--eval", bad)
    done = call("train", "rl", file, *words)
    assert (done.code, said in done.err) == (code, True), done.err
    assert not (tmp_path / "run").exists()


def test_every_reward_that_is_read_has_its_columns() -> None:
    """What a data set offers is what rewards ask for, but for those that are refused."""
    rows = rows_of(training_pools.pools(2), PROMPT, 4, 0, {("d", "q0"): 0.5, ("d", "q1"): 1.0})
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "prompt"}
    prompts = [row["prompt"] for row in rows]
    for name, reward in REWARDS.items():
        if name in rl.WANTING:
            continue
        made = reward(prompts=prompts, completions=["1"] * 4, completion_ids=[[1]] * 4, **columns)
        assert all(value is not None for value in made), name


def test_the_recipe_takes_an_adapter_or_the_run_that_wrote_it(tmp_path: Path) -> None:
    assert rl_recipe.Recipe().start is None
    assert rl_recipe.Recipe(adapter=tmp_path).start == tmp_path
    (tmp_path / "adapter").mkdir()
    assert rl_recipe.Recipe(adapter=tmp_path).start == tmp_path / "adapter"
