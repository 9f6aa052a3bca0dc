"""Preference training: its loss and its loop, what a kill leaves, what is measured and reported."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_model
import training_pools
from command import call, write_lines
from poise.backends import Transformers
from poise.errors import InputError, RefusedError, UsageError
from poise.pools import Labelled, read_pools
from poise.signals.evidence import Evidence
from poise.signals.logprob import Logprob
from poise.train import dpo, lineage, prefs
from poise.train.batches import collate, fill_token, response_logits
from poise.train.dpo import Settings
from poise.train.fresh import SIGNAL, change, fresh, measured
from poise.train.loop import Watch
from poise.train.model import Loaded, load, save_adapter, with_adapter
from poise.train.pairs import PairRow, pairs, rows
from poise.train.recipe import Recipe as SftRecipe
from poise.train.recipe import prepare
from poise.train.replies import replies
from poise.train.sharpening import signs
from poise.types import Prompt
from test_train_pairs import told

torch.set_num_threads(1)

SETTINGS = Settings(lr=5e-3, batch=4, save_every=2, seed=3)


DECODING = {"temperature": 0.8, "max_tokens": 12}


def given(n: int = 16, *, seed: int = 0, name: str = "q", **more: Any) -> list[Labelled]:
    """Questions with five samples each, of random answers and probabilities."""
    rng = random.Random(seed)
    found = []
    for place in range(n):
        drawn = [(rng.choice("123"), rng.uniform(0.05, 0.95)) for _ in range(5)]
        texts = [f"{rng.choice([7, 52, 360])} so {answer}" for answer, _ in drawn]
        more = {"decoding": DECODING, **more}
        found.append(told(f"{name}{place}", drawn, texts=texts, **more))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that says things like "3 so 2"."""
    folder = tiny_model.save_folder(tmp_path_factory.mktemp("model") / "tiny")
    loaded = load(folder, device="cpu")
    items = prepare(loaded, given(8), Prompt(), SftRecipe(threshold=0.0, in_use=0)).items
    batch = collate(items, fill_token(loaded.tokenizer))
    labels = batch["labels"]
    taught = torch.optim.Adam(loaded.model.parameters(), lr=0.01)
    for _ in range(40):
        logits = response_logits(
            loaded.model, batch["response_ids"], batch["response_mask"], labels
        )
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels)
        taught.zero_grad()
        loss.backward()
        taught.step()
    loaded.model.save_pretrained(folder)
    return folder


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    return load(folder, device="cpu")


def adapter_on(folder: Path) -> Loaded:
    return with_adapter(load(folder, device="cpu"), rank=4, alpha=8, dropout=0.0, seed=1)


@pytest.fixture
def adapted(folder: Path) -> Loaded:
    return adapter_on(folder)


@pytest.fixture(scope="module")
def made(folder: Path) -> list[PairRow]:
    found, long = rows(load(folder).tokenizer, pairs(given(9)).pairs, Prompt())
    assert (long, len({row.longest for row in found}) > 1) == (0, True)
    return found[:24]


def weights(loaded: Loaded, *, trained: bool) -> dict[str, torch.Tensor]:
    return {
        name: value.detach().clone()
        for name, value in loaded.model.named_parameters()
        if value.requires_grad == trained
    }


def trained(loaded: Loaded, made: Sequence[PairRow], place: Path, **more: Any) -> Any:
    return dpo.train(loaded, made, more.pop("settings", SETTINGS), place, **more)


def plain(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in step.items() if k != "seconds"} for step in steps]


# -- the loss -------------------------------------------------------------------------------------


def logprob(loaded: Loaded, prompt: Sequence[int], said: Sequence[int]) -> float:
    """Of a response by the formula, computed alone, without filling or mask."""
    with torch.no_grad():
        logs = loaded.model(torch.tensor([[*prompt, *said]])).logits[0].log_softmax(-1)
    start = len(prompt)
    return sum(float(logs[start + t - 1, one]) for t, one in enumerate(said))


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_the_loss_is_the_formula_against_the_base_model(
    adapted: Loaded, made: list[PairRow], tmp_path: Path, beta: float
) -> None:
    """Rows of different lengths share the batch; the adapter has moved, and the base has not."""
    torch.manual_seed(5)
    for name, weight in adapted.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.model.eval()
    expected, margins = [], []
    for row in made:
        new = [logprob(adapted, row.prompt, said) for said in (row.chosen, row.rejected)]
        with adapted.model.disable_adapter():
            old = [logprob(adapted, row.prompt, said) for said in (row.chosen, row.rejected)]
        margins.append(beta * ((new[0] - old[0]) - (new[1] - old[1])))
        expected.append(math.log1p(math.exp(-margins[-1])))
    settings = replace(SETTINGS, lr=1e-12, batch=len(made), beta=beta)
    (step,) = trained(adapted, made, tmp_path, settings=settings).steps
    assert abs(step["loss"] - math.log(2)) > 0.01, "the formula is not told from a new adapter's"
    assert step["loss"] == pytest.approx(sum(expected) / len(expected), rel=1e-3)
    assert step["margin"] == pytest.approx(sum(margins) / len(margins), rel=1e-3, abs=1e-4)
    assert step["pairs_ranked"] == pytest.approx(sum(m > 0 for m in margins) / len(margins))


def test_training_ranks_its_pairs_and_leaves_the_base_alone(
    adapted: Loaded, made: list[PairRow], tmp_path: Path
) -> None:
    base = weights(adapted, trained=False)
    settings = replace(SETTINGS, lr=0.02, epochs=6, save_every=99)
    done = trained(adapted, made, tmp_path, settings=settings)
    assert done.steps[0]["loss"] == pytest.approx(math.log(2))
    assert done.steps[-1]["loss"] < 0.5
    assert sum(step["margin"] for step in done.steps[-6:]) / 6 > 0.5
    assert done.stopped is None
    after = weights(adapted, trained=False)
    assert after.keys() == base.keys()
    assert all(torch.equal(value, base[name]) for name, value in after.items())
    assert all("lora_" in name for name in weights(adapted, trained=True))


def test_the_model_is_itself_again_after_training(
    adapted: Loaded, made: list[PairRow], tmp_path: Path
) -> None:
    trained(adapted, made[:4], tmp_path, settings=replace(SETTINGS, mixed=True))
    assert list(adapted.model.peft_config) == ["default"]
    for model in (adapted.model, adapted.model.get_base_model()):
        assert "forward" not in vars(model)


def test_mixed_training_comes_near_the_full_one_and_keeps_its_weights_whole(
    folder: Path, made: list[PairRow], tmp_path: Path
) -> None:
    runs = []
    for mixed in (False, True):
        fresh_one = adapter_on(folder)
        settings = replace(SETTINGS, mixed=mixed, lr=0.02, epochs=2)
        done = trained(fresh_one, made, tmp_path / str(mixed), settings=settings)
        kept = weights(fresh_one, trained=True).values()
        assert all(value.dtype == torch.float32 for value in kept)
        runs.append([step["margin"] for step in done.steps])
    assert runs[0] != runs[1]
    assert max(runs[0]) > 0.2, "too little happens to tell"
    assert runs[1] == pytest.approx(runs[0], abs=0.1)


# -- the loop -------------------------------------------------------------------------------------


class Killed(Exception):
    """What ends a run in the middle."""


def kill_at(step: int) -> Callable[[Mapping[str, Any], int], None]:
    def heard(record: Mapping[str, Any], _steps: int) -> None:
        if record["step"] == step:
            raise Killed

    return heard


@pytest.mark.parametrize("at", [1, 5])
def test_training_that_was_killed_ends_with_the_same_weights(
    folder: Path, made: list[PairRow], tmp_path: Path, at: int
) -> None:
    whole, first, second = adapter_on(folder), adapter_on(folder), adapter_on(folder)
    straight = trained(whole, made, tmp_path / "whole")
    with pytest.raises(Killed):
        trained(first, made, tmp_path / "cut", told=kill_at(at))
    torch.manual_seed(99)
    resumed = trained(second, made, tmp_path / "cut", resume=True)
    assert resumed.resumed == (None if at == 1 else 4)
    assert plain(resumed.steps) == plain(straight.steps)
    assert len(straight.steps) == SETTINGS.steps(len(made))
    theirs = weights(whole, trained=True)
    ours = weights(second, trained=True)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_training_stops_where_accuracy_falls_and_is_not_gone_on_with(
    folder: Path, made: list[PairRow], tmp_path: Path
) -> None:
    """The kill came behind the last step: while the trained model was being measured."""
    runs = []
    for resume in (False, True):
        fresh_one = adapter_on(folder)
        lost = Watch((1.0,) * 9, lambda: (0.0,) * 9)
        settings = replace(SETTINGS, check_every=3)
        more = {"settings": settings, "watch": lost, "resume": resume}
        done = trained(fresh_one, made, tmp_path, **more)
        runs.append((plain(done.steps), done.stopped, weights(fresh_one, trained=True)))
    assert runs[0][:2] == runs[1][:2]
    assert len(runs[0][0]) == 3
    assert "accuracy fell" in str(runs[0][1])
    assert all(torch.equal(value, runs[1][2][name]) for name, value in runs[0][2].items())


def test_a_loss_that_is_no_number_ends_the_run(
    adapted: Loaded, made: list[PairRow], tmp_path: Path
) -> None:
    with torch.no_grad():
        next(v for n, v in adapted.model.named_parameters() if "lora_A" in n).fill_(math.nan)
    done = trained(adapted, made, tmp_path)
    assert len(done.steps) == 1
    assert "no longer a number" in str(done.stopped)


def test_nobody_is_told_of_a_run(
    adapted: Loaded, made: list[PairRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda **told: sent.append(told))
    trained(adapted, made[:4], tmp_path)
    assert sent == []


def test_nothing_to_train_is_said_before_anything_starts(
    adapted: Loaded, made: list[PairRow], tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match="no pairs"):
        trained(adapted, [], tmp_path)
    for weight in adapted.model.parameters():
        weight.requires_grad_(False)
    with pytest.raises(RefusedError, match="no trainable weights"):
        trained(adapted, made, tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"beta": 0.0}, {"beta": math.inf}, {"batch": 0}, {"lr": 0.0}, {"epochs": 0.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Settings(**wrong)


# -- fresh samples --------------------------------------------------------------------------------


TALK = ({"role": "user", "content": "What is q1?"},)


def test_the_log_probabilities_of_a_reply_are_the_models_own(loaded: Loaded) -> None:
    """Whatever the temperature, and whatever shares the batch."""
    other = ({"role": "user", "content": "And what, if you please, is q2?"},)
    decoding = {"temperature": 1.7, "top_k": 40, "max_tokens": 12}
    said = replies(loaded, [TALK, other], decoding, draws=6, seed=2, logprobs=True)
    prompt = loaded.tokenizer.apply_chat_template(
        list(TALK), add_generation_prompt=True, return_dict=False
    )
    compared = 0
    for reply in said[0]:
        assert reply.logprobs is not None
        assert "".join(reply.logprobs.tokens) == reply.text
        ids = loaded.tokenizer(reply.text, add_special_tokens=False)["input_ids"]
        if len(ids) == len(reply.logprobs.chosen) > 0:
            compared += 1
            total = logprob(loaded, prompt, ids)
            assert sum(reply.logprobs.chosen) == pytest.approx(total, abs=1e-3)
    assert compared >= 3


@pytest.mark.parametrize(
    "decoding",
    [
        {"temperature": 5.0, "top_k": 1},
        {"temperature": 5.0, "min_p": 1.0},
        {"edt": {"t0": 1e-4, "m": 0.8, "gamma": 1.0}},
    ],
)
def test_replies_are_drawn_as_their_decoding_says(loaded: Loaded, decoding: dict[str, Any]) -> None:
    """What leaves the likeliest token alone is greedy; a temperature is not."""
    (greedy,) = replies(loaded, [TALK], {"max_tokens": 10})[0]
    drawn = replies(loaded, [TALK], {**decoding, "max_tokens": 10}, draws=3)[0]
    assert [reply.text for reply in drawn] == [greedy.text] * 3
    edt = {"edt": {"t0": 2.0, "m": 0.9, "gamma": 0.1}, "max_tokens": 10}
    warm = replies(loaded, [TALK], edt, draws=4)[0]
    assert len({reply.text for reply in warm}) > 1


@pytest.mark.parametrize("decoding", [{}, {"temperature": 0.8}])
def test_a_models_own_generation_settings_bend_no_reply(
    loaded: Loaded, adapted: Loaded, decoding: dict[str, Any]
) -> None:
    """Some models' folders ask for a repetition penalty or beams; the back-end does not know it."""
    asked: dict[str, Any] = {"decoding": {**decoding, "max_tokens": 12}, "draws": 3, "seed": 2}
    for each, base in ((loaded, loaded.model), (adapted, adapted.model.get_base_model())):
        plain_ones = [reply.text for reply in replies(each, [TALK], **asked)[0]]
        base.generation_config.repetition_penalty = 9.0
        base.generation_config.num_beams = 2
        assert [reply.text for reply in replies(each, [TALK], **asked)[0]] == plain_ones
        assert base.generation_config.repetition_penalty == 9.0, "it is the model's again"


def test_fresh_samples_are_graded_and_carry_the_probability_of_their_answers(
    loaded: Loaded,
) -> None:
    asked = [*given(3), told("r", [("1", 0.5)], gold=None)]
    more = {"draws": 5, "seed": 1}
    found = fresh(loaded, [*asked, asked[0]], Prompt(), model="mine", **more)
    assert [one.pool.question_id for one in found] == ["q0", "q1", "q2", "r"]
    assert found == fresh(loaded, asked, Prompt(), model="mine", **more)
    pool = found[0].pool
    assert (pool.model, pool.engine, pool.decoding) == (
        "mine",
        "transformers",
        DECODING,
    )
    assert found[-1].correct == (None,) * 5
    known = [
        (sample, label)
        for one in found[:3]
        for sample, label in zip(one.pool.samples, one.correct, strict=True)
    ]
    assert {label for sample, label in known if sample.answer is None} <= {0}
    assert any(sample.answer is not None for sample, _ in known)
    for sample, label in known:
        if sample.answer is not None:
            assert label == int(sample.answer == "1")
        if sample.signals:
            whole = Logprob("sum")(Evidence.single(sample))
            assert math.log(sample.signals[SIGNAL] or 0) >= whole - 1e-9


def test_a_pool_that_hides_its_temperature_is_refused(loaded: Loaded) -> None:
    hidden = given(1, decoding={"max_tokens": 4})
    with pytest.raises(InputError, match="temperature"):
        fresh(loaded, hidden, Prompt(), model="mine", draws=2)


def graded(name: str, drawn: Sequence[tuple[int | None, float | None]]) -> Labelled:
    """A pool of (label, stated probability); a label of None is an unreadable sample, wrong."""
    answers = [None if label is None else ("1" if label else "2") for label, _ in drawn]
    made = training_pools.pool(name, answers)
    samples = tuple(
        replace(sample, signals={} if p is None else {SIGNAL: p})
        for sample, (_, p) in zip(made.pool.samples, drawn, strict=True)
    )
    return replace(made, pool=replace(made.pool, samples=samples))


def test_what_is_measured_is_about_every_sample_and_absence_is_no_number() -> None:
    given = [graded("a", [(1, 0.9), (0, 0.7), (None, None)]), graded("b", [(0, 0.5), (1, None)])]
    found = measured(given)
    assert found["means"] == {
        "wrong": {"samples": 2, "mean": pytest.approx(0.6)},
        "right": {"samples": 1, "mean": 0.9},
        "all": {"samples": 3, "mean": pytest.approx(0.7)},
    }
    assert (found["confidence"]["rows"], found["confidence"]["missing"]) == (3, 1)
    assert found["confidence"]["brier"]["value"] == pytest.approx((0.01 + 0.49 + 0.25) / 3)
    assert found["sampled"]["accuracy"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found["sampled"]["unreadable"] == 1
    assert (found["samples"], found["answers_a_question"]) == (5, 2.0)


def test_a_change_is_between_means_with_its_interval_over_questions() -> None:
    before = [graded(f"q{n}", [(n % 2, 0.5), (1, 0.5)]) for n in range(12)]
    after = [graded(f"q{n}", [(n % 2, 0.9), (0, 0.8)]) for n in range(12)]
    found = change(before, after)
    assert found["questions"] == 12
    assert found["accuracy"]["value"] == pytest.approx(0.25 - 0.75)
    assert found["confidence"]["value"] == pytest.approx(0.35)
    assert found["overconfidence"]["value"] == pytest.approx(0.35 + 0.5)
    low, high = found["overconfidence"]["interval"]
    assert low == pytest.approx(high), "every question changed alike"
    same = change(before, before)
    assert same["overconfidence"] == {"value": 0, "interval": (0, 0), "reason": None}


def test_without_grades_a_change_of_confidence_is_left() -> None:
    before = [replace(graded("q", [(1, 0.5)]), gold=None, correct=(None,))]
    found = change(before, before)
    assert found["confidence"]["value"] == 0
    assert found["accuracy"]["value"] is None
    assert found["accuracy"]["reason"]


# -- signs ----------------------------------------------------------------------------------------


def numbers(ece: float, brier: float, right: list[float], wrong: float) -> dict[str, Any]:
    return {
        "confidence": {
            "ece": ece,
            "ece_floor": {"mean": 0.02, "p95": 0.04},
            "brier": {"value": brier},
            "base_brier": 0.2,
        },
        "means": {"wrong": {"samples": 9, "mean": wrong}},
        "consensus": {"wrong": {"questions": 3, "mean": wrong}},
        "greedy": {"right": right},
        "samples": 100,
        "finish": {"stop": 90, "length": 10},
    }


GOOD: dict[str, Any] = {
    "stopped": None,
    "data": {"grades": {"chosen right": 40, "rejected right": 10, "both wrong": 5}},
    "evaluation": {
        "held_out": {
            "before": numbers(0.1, 0.15, [1.0] * 9, 0.5),
            "after": numbers(0.1, 0.14, [1.0] * 9, 0.5),
            "baselines": {
                "50 labels": {"p + platt": {"brier": {"value": 0.15}}},
                "200 labels": {"reason": "only 60 training questions"},
            },
        }
    },
    "change": {"held_out": {"overconfidence": {"value": 0.1, "interval": (-0.1, 0.3)}}},
}


def test_a_run_that_went_well_has_no_signs() -> None:
    assert signs(GOOD) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"greedy": {"right": [0.0] * 9}}, "9 questions lost and 0 won; raise --beta"),
        ({"confidence": {"ece": 0.2}}, "ECE rose from 0.100 to 0.200 (chance alone: 0.020)"),
        ({"confidence": {"brier": {"value": 0.21}}}, "no better than the base rate's 0.200"),
        ({"confidence": {"brier": {"value": 0.16}}}, "p + platt on 50 labels has Brier 0.150"),
        ({"means": {"wrong": {"mean": 0.6}}}, "in wrong answers rose from 0.50 to 0.60"),
        ({"consensus": {"wrong": {"mean": 0.6}}}, "in wrong majority answers rose"),
        ({"finish": {"length": 30}}, "30 of 100 replies are cut, and 10 of 100 were"),
    ],
)
def test_each_failure_has_its_sentence(after: dict[str, Any], said: str) -> None:
    report = copy.deepcopy(GOOD)
    changed = report["evaluation"]["held_out"]["after"]
    for name, value in after.items():
        changed[name] = {**changed[name], **value}
    found = signs(report)
    assert any(said in sign for sign in found), found
    assert all(sign.startswith("held_out: ") for sign in found)


def test_a_rise_of_over_confidence_is_said_where_chance_does_not_explain_it() -> None:
    report = copy.deepcopy(GOOD)
    report["change"]["held_out"]["overconfidence"]["interval"] = (0.02, 0.2)
    (sign,) = signs(report)
    assert "over-confidence rose by 0.10 (0.02 to 0.20)" in sign


def test_pairs_that_confidence_does_not_rank_are_a_sign_where_there_are_enough() -> None:
    report = copy.deepcopy(GOOD)
    report["data"]["grades"] = {"chosen right": 11, "rejected right": 9}
    (sign,) = signs(report)
    assert "of 20 pairs with one right answer the surer was right in 11" in sign
    report["data"]["grades"] = {"chosen right": 1, "rejected right": 2}
    assert signs(report) == []


def test_sets_that_are_not_graded_have_no_signs() -> None:
    report = copy.deepcopy(GOOD)
    each = report["evaluation"]["held_out"]
    for when in ("before", "after"):
        each[when]["confidence"] = {"rows": 0, "reason": "no sample is graded"}
        each[when]["means"] = each[when]["consensus"] = {"wrong": {"mean": None}}
        each[when]["greedy"] = {"right": []}
    report["change"]["held_out"] = {"overconfidence": {"value": None, "interval": None}}
    assert signs(report) == []


# -- the run --------------------------------------------------------------------------------------

FLAGS = ("--batch", "4", "--lr", "0.005", "--questions", "12", "--save-every", "2")


def write(path: Path, pools: Sequence[Labelled]) -> Path:
    return write_lines(path, training_pools.records(pools))


def run(folder: Path, *words: str | Path) -> Any:
    return call("train", "prefs", *words, "-m", folder, *FLAGS)


def untimed(report: Mapping[str, Any]) -> dict[str, Any]:
    left_out = ("seconds", "resumed_at_step")
    kept = {k: v for k, v in report.items() if k not in left_out}
    return json.loads(json.dumps({**kept, "steps": plain(report["steps"])}))  # type: ignore[no-any-return]


def test_a_run_leaves_its_report_adapter_and_samples(folder: Path, tmp_path: Path) -> None:
    file, place = write(tmp_path / "p.jsonl", given(90)), tmp_path / "run"
    other = write(tmp_path / "facts.jsonl", given(1, name="f", dataset="f"))
    done = run(folder, file, "-o", place, "--held-out", "0.4", "--eval", other, "--limit", "12")
    assert done.code == 0, done.err
    assert "overconfidence changed by" in done.out
    assert "ETA" in done.err
    assert "margin" in done.err
    told = json.loads((place / "report.json").read_text())
    assert set(told["evaluation"]) == set(told["change"]) == {"held_out", "facts"}
    held = told["evaluation"]["held_out"]
    assert held["before"]["samples"] == held["after"]["samples"] == 4 * 12
    assert held["before"]["sampled"]["questions"] == 12
    assert held["before"]["confidence"]["rows"] > 0
    assert held["baselines"]["50 labels"]["p + platt"]["brier"]["value"] > 0
    assert held["baselines"]["200 labels"]["reason"].startswith("only ")
    assert told["data"]["questions"] == 12
    assert len(told["steps"]) == -(-told["data"]["rows"] // 4)
    arms = {}
    for when in ("before", "after"):
        kept = list(read_pools(place / f"{when}.held_out.jsonl.gz"))
        assert any(SIGNAL in sample.signals for one in kept for sample in one.pool.samples)
        arms[when] = {one.pool.model for one in kept}
    assert arms == {"before": {"tiny"}, "after": {Transformers(folder, adapter=place).model}}
    assert (place / "adapter" / "adapter_model.safetensors").is_file()
    trained_on = lineage.seen(place / "adapter")
    assert trained_on is not None
    assert len(trained_on) == 12
    measured_on = {lineage.asked(one) for one in read_pools(place / "after.held_out.jsonl.gz")}
    assert not trained_on & measured_on


def test_a_run_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(
    folder: Path, tmp_path: Path
) -> None:
    recipe = prefs.Recipe(held_out=0.4, questions=5, settings=replace(SETTINGS, check_every=2))
    parts = prefs.parted(given(16), {}, recipe, Prompt())
    whole = prefs.run(load(folder), parts, recipe, tmp_path / "a" / "run")
    cut = tmp_path / "b" / "run"
    with pytest.raises(Killed):
        prefs.run(load(folder), parts, recipe, cut, told=kill_at(3))
    with pytest.raises(UsageError, match="--resume"):
        prefs.run(load(folder), parts, recipe, cut)
    changed = replace(recipe, gap=0.3)
    with pytest.raises(UsageError, match="gap differ"):
        prefs.run(load(folder), parts, changed, cut, resume=True)
    resumed = prefs.run(load(folder), parts, recipe, cut, resume=True)
    assert resumed["resumed_at_step"] == 2
    assert untimed(resumed) == untimed(whole)
    for name in ("adapter/adapter_model.safetensors", "after.held_out.jsonl.gz"):
        assert (cut / name).read_bytes() == (tmp_path / "a" / "run" / name).read_bytes()
    assert untimed(prefs.run(load(folder), parts, recipe, cut, resume=True)) == untimed(whole)


def test_pools_without_gold_answers_are_trained_on_as_well(folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", given(16, gold=None))
    done = run(folder, file, "-o", tmp_path / "run", "--quiet", "--json")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert told["data"]["grades"]["not graded"] == told["data"]["pairs"]
    after = told["evaluation"]["held_out"]["after"]
    assert after["confidence"]["reason"] == "no sample is graded"
    assert after["greedy"]["accuracy"] is None
    assert after["samples"] > 0


def test_a_dry_run_trains_nothing_and_says_what_it_would_take(folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", given(16))
    before = sorted(tmp_path.iterdir())
    done = run(folder, file, "--dry-run", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["estimate"]["steps"] == -(-told["data"]["rows"] // 4)
    assert told["estimate"]["seconds"] > 0
    assert told["estimate"]["bytes"] > told["estimate"]["trained_parameters"] * 12
    assert told["fresh_samples"] > 0
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("more", "words", "code", "said"),
    [
        ({"logprobs": None}, (), 3, "no log-probabilities"),
        ({"text": None}, (), 3, "no text"),
        ({}, ("--gap", "1"), 2, "gap=1.0"),
        ({}, ("--gap", "0.99"), 3, "lower --gap"),
        ({}, ("--beta", "0"), 2, "beta=0.0"),
        ({}, ("--held-out", "1"), 2, "held-out share"),
        ({}, ("--longest", "12"), 3, "--longest"),
        ({}, ("--hold-segment", "hard"), 2, "no segment hard"),
    ],
)
def test_bad_input_is_said_in_one_line_before_anything_is_trained(
    folder: Path, tmp_path: Path, more: dict[str, Any], words: tuple[str, ...], code: int, said: str
) -> None:
    changed = [
        {**record, "samples": [{**sample, **more} for sample in record["samples"]]}
        for record in training_pools.records(given(8))
    ]
    file = write_lines(tmp_path / "p.jsonl", changed)
    done = run(folder, file, "-o", tmp_path / "run", "--quiet", *words)
    assert (done.code, said in done.err) == (code, True), done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_question_that_is_trained_on_is_not_measured_on(folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", given(10))
    same = write(tmp_path / "same.jsonl", given(10, dataset="renamed"))
    done = run(folder, file, "--eval", same, "-o", tmp_path / "run")
    assert done.code == 3
    assert "trained on as well" in done.err


def test_a_run_without_a_folder_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", given(2))
    assert "-o FOLDER" in call("train", "prefs", file).err


def test_an_adapter_on_a_packed_file_is_saved_without_a_warning(
    folder: Path, tmp_path: Path
) -> None:
    packed = load(tiny_model.save_gguf(tmp_path / "tiny.gguf", folder), device="cpu")
    save_adapter(with_adapter(packed, rank=4), tmp_path / "run")
    assert (tmp_path / "run" / "poise_base.json").is_file()
