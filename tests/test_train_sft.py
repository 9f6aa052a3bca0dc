"""The training loop: its loss, its gradients, what a kill leaves, and when it gives up."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

import training_pools
from poise.errors import RefusedError, UsageError
from poise.pools import Labelled
from poise.train import sft
from poise.train.batches import Item, collate, fill_token
from poise.train.losses import Levels
from poise.train.model import Loaded, load, with_adapter
from poise.train.recipe import Recipe, data, prepare
from poise.train.sft import Settings, Watch
from poise.types import Prompt

torch.set_num_threads(1)  # threads only wait for each other over matrices this small

SETTINGS = Settings(lr=5e-3, batch=4, save_every=2, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_pools.willing(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    return load(folder, device="cpu")


@pytest.fixture
def adapted(loaded: Loaded) -> Loaded:
    return with_adapter(loaded, rank=4, alpha=8, seed=1)


@pytest.fixture(scope="module")
def items(folder: Path) -> tuple[Item, ...]:
    return prepare(load(folder), training_pools.pools(7), Prompt(), Recipe(rows=24)).items


def levels(loaded: Loaded) -> Levels:
    return Levels((loaded.yes, loaded.no), (1.0, 0.0))


def weights(loaded: Loaded, *, trained: bool) -> dict[str, torch.Tensor]:
    return {
        name: value.detach().clone()
        for name, value in loaded.model.named_parameters()
        if value.requires_grad == trained
    }


def batch(loaded: Loaded, items: Sequence[Item]) -> dict[str, torch.Tensor]:
    return collate(items, fill_token(loaded.tokenizer))


# -- the loss -------------------------------------------------------------------------------------


def one_row(loaded: Loaded, item: Item, weight: float) -> tuple[float, float]:
    """Loss and P(True) of a row by the formula, computed alone, without filling or mask."""
    with torch.no_grad():
        last = loaded.model(torch.tensor([item.confidence])).logits[0, -1].log_softmax(-1)
        yes, no = (float(last[list(ids)].exp().sum()) for ids in (loaded.yes, loaded.no))
        p = yes / (yes + no)
        gap = abs(p - item.target)
        loss = gap * gap / 0.5 if gap < 0.25 else gap - 0.125
        if item.response is not None:
            ids, n = item.response.ids, item.response.response
            logs = loaded.model(torch.tensor([ids])).logits[0].log_softmax(-1)
            places = range(len(ids) - n, len(ids))
            loss -= weight * sum(float(logs[t - 1, ids[t]]) for t in places) / n
    return loss, p


def test_the_loss_of_a_batch_is_the_formula_row_by_row(
    loaded: Loaded, items: tuple[Item, ...]
) -> None:
    """Rows of different lengths share a batch: without mask and positions they would not agree."""
    rows = sorted(items, key=lambda item: len(item.confidence))[::3]
    assert len({len(item.confidence) for item in rows}) > 1
    assert {item.response is None for item in rows} == {True, False}
    loaded.model.eval()
    made = batch(loaded, rows)
    with torch.no_grad():
        loss, parts = sft.batch_loss(loaded.model, made, levels(loaded), Settings())
    alone = [one_row(loaded, item, 0.1) for item in rows]
    assert float(loss) == pytest.approx(sum(each for each, _ in alone) / len(rows), rel=1e-4)
    assert parts["p"].tolist() == pytest.approx([p for _, p in alone], abs=1e-5)


def test_the_response_is_kept_above_the_threshold_alone(folder: Path) -> None:
    given = training_pools.pools(7)
    made = prepare(load(folder), given, Prompt(), Recipe(threshold=0.6, rows=24)).items
    assert {item.target > 0.6 for item in made if item.response is not None} == {True}
    assert {item.target > 0.6 for item in made if item.response is None} == {False}


def test_without_weight_no_response_is_computed(loaded: Loaded, items: tuple[Item, ...]) -> None:
    _, parts = sft.batch_loss(
        loaded.model, batch(loaded, items), levels(loaded), Settings(loss="mse", weight=0.0)
    )
    assert "generation_loss" not in parts
    none = prepare(loaded, training_pools.pools(7), Prompt(), Recipe(settings=Settings(weight=0.0)))
    assert {item.response for item in none.items} == {None}


def test_gradients_reach_the_adapter_and_nothing_else(
    adapted: Loaded, items: tuple[Item, ...]
) -> None:
    loss, _ = sft.batch_loss(adapted.model, batch(adapted, items), levels(adapted), Settings())
    loss.backward()
    reached = {name for name, value in adapted.model.named_parameters() if value.grad is not None}
    assert reached == set(weights(adapted, trained=True))
    assert all("lora_" in name and ("q_proj" in name or "v_proj" in name) for name in reached)
    moved = [value.grad for name, value in adapted.model.named_parameters() if "lora_B" in name]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in moved)


# -- the loop -------------------------------------------------------------------------------------


def trained(loaded: Loaded, items: Sequence[Item], folder: Path, **more: Any) -> sft.Trained:
    settings = more.pop("settings", SETTINGS)
    return sft.train(loaded, items, levels(loaded), settings, folder, **more)


def plain(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in step.items() if k != "seconds"} for step in steps]


def test_training_moves_confidences_towards_their_targets_and_leaves_the_base_alone(
    adapted: Loaded, items: tuple[Item, ...], tmp_path: Path
) -> None:
    base = weights(adapted, trained=False)
    surer = [replace(item, target=0.95) for item in items]
    settings = replace(SETTINGS, lr=0.02, epochs=3, weight=0.0, save_every=99)
    done = trained(adapted, surer, tmp_path, settings=settings)
    stated = [step["p"] for step in done.steps]
    assert stated[0] < 0.7
    assert sum(stated[-4:]) / 4 > 0.85
    assert done.stopped is None
    assert all(
        torch.equal(value, base[name]) for name, value in weights(adapted, trained=False).items()
    )


def test_every_step_is_recorded_with_what_its_loss_is_made_of(
    adapted: Loaded, items: tuple[Item, ...], tmp_path: Path
) -> None:
    heard: list[tuple[int, int]] = []
    done = trained(
        adapted,
        items,
        tmp_path,
        settings=replace(SETTINGS, accumulation=2),
        told=lambda record, steps: heard.append((record["step"], steps)),
    )
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert [step["rows"] for step in done.steps] == [8, 8, 8]
    for step in done.steps:
        kept = step.get("generation_loss", 0.0) * step["generation_rows"] / step["rows"]
        assert step["loss"] == pytest.approx(step["confidence_loss"] + 0.1 * kept, rel=1e-3)
        assert 0 <= step["p"] <= 1
        assert {"learning_rate", "grad_norm", "mass", "seconds"} <= step.keys()


def test_the_number_of_steps_said_beforehand_is_that_of_the_run(
    adapted: Loaded, items: tuple[Item, ...], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, batch=5, accumulation=2, epochs=1.5)
    done = trained(adapted, items, tmp_path, settings=settings)
    assert len(done.steps) == settings.steps(len(items))


def test_mixed_training_sees_each_steps_weights_and_comes_near_the_full_one(
    folder: Path, items: tuple[Item, ...], tmp_path: Path
) -> None:
    runs = []
    surer = [replace(item, target=0.95) for item in items]
    for mixed in (False, True):
        fresh = with_adapter(load(folder, device="cpu"), rank=4, alpha=8, dropout=0.0, seed=1)
        settings = replace(SETTINGS, mixed=mixed, lr=0.02, epochs=2)
        done = trained(fresh, surer, tmp_path / str(mixed), settings=settings)
        assert all(value.dtype == torch.float32 for value in weights(fresh, trained=True).values())
        runs.append([step["p"] for step in done.steps])
    assert runs[0] != runs[1]
    assert max(runs[0]) - min(runs[0]) > 0.1, "too little happens to tell"
    assert runs[1] == pytest.approx(runs[0], abs=0.05)


class Killed(Exception):
    """What ends a run in the middle."""


def kill_at(step: int) -> Any:
    def told(record: Mapping[str, Any], _steps: int) -> None:
        if record["step"] == step:
            raise Killed

    return told


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_run_that_was_killed_ends_with_the_same_weights(
    folder: Path, items: tuple[Item, ...], tmp_path: Path, at: int
) -> None:
    """Adapter dropout is on, so that rows, optimizer and random state all have to come back."""
    whole = with_adapter(load(folder, device="cpu"), rank=4, alpha=8, seed=1)
    straight = trained(whole, items, tmp_path / "whole")
    first = with_adapter(load(folder, device="cpu"), rank=4, alpha=8, seed=1)
    with pytest.raises(Killed):
        trained(first, items, tmp_path / "cut", told=kill_at(at))
    torch.manual_seed(99)
    second = with_adapter(load(folder, device="cpu"), rank=4, alpha=8, seed=1)
    resumed = trained(second, items, tmp_path / "cut", resume=True)
    assert resumed.resumed == (None if at == 1 else at - 1)
    assert plain(resumed.steps) == plain(straight.steps)
    ours, theirs = weights(second, trained=True), weights(whole, trained=True)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_checkpoint_that_was_being_written_is_passed_over(
    adapted: Loaded, items: tuple[Item, ...], tmp_path: Path
) -> None:
    trained(adapted, items, tmp_path)
    assert sft.last_checkpoint(tmp_path) == tmp_path / "checkpoint-6"
    half = tmp_path / "checkpoint-8"
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "checkpoint-6" / "trainer_state.json").write_text('{"global_st')
    assert sft.last_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    assert sft.last_checkpoint(tmp_path / "nowhere") is None


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    folder: Path, items: tuple[Item, ...], tmp_path: Path
) -> None:
    runs = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        fresh = with_adapter(load(folder, device="cpu"), rank=4, alpha=8, seed=1)
        settings = replace(SETTINGS, seed=seed)
        runs.append(plain(trained(fresh, items, tmp_path / name, settings=settings).steps))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_nothing_to_train_is_said_before_anything_starts(
    loaded: Loaded, items: tuple[Item, ...], tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match="nothing to train"):
        trained(loaded, [], tmp_path)
    for weight in loaded.model.parameters():
        weight.requires_grad_(False)
    with pytest.raises(RefusedError, match="no trainable weights"):
        trained(loaded, items, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "hinge"},
        {"batch": 0},
        {"accumulation": 0},
        {"save_every": 0},
        {"lr": 0.0},
        {"lr": math.inf},
        {"epochs": 0.0},
        {"weight": -1.0},
        {"warmup": 1.0},
        {"check_every": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Settings(**wrong)


# -- giving up ------------------------------------------------------------------------------------


def steps(spreads: Sequence[float], target: float = 0.3) -> list[dict[str, float]]:
    """One record a step: confidences half at .5 - s, half at .5 + s, targets likewise."""
    return [
        {
            "rows": 8,
            "p": 0.5,
            "p_square": 0.25 + s * s,
            "target": 0.5,
            "target_square": 0.25 + target * target,
        }
        for s in spreads
    ]


def test_confidences_that_stay_constant_are_a_collapse() -> None:
    assert sft.flat(steps([0.2] * 10 + [0.01] * 100))
    assert not sft.flat(steps([0.2] * 120))


def test_finding_the_base_rate_first_is_none() -> None:
    assert not sft.flat(steps([0.03] * 60 + [0.2] * 40))


def test_what_moves_all_rows_alike_tells_none_apart() -> None:
    moving = [
        {**step, "p": n / 100, "p_square": (n / 100) ** 2 + 1e-4}
        for n, step in enumerate(steps([0.0] * 100))
    ]
    assert sft.flat(moving)


def test_constant_targets_are_no_reason_to_stop() -> None:
    assert not sft.flat(steps([0.2] * 10 + [0.01] * 100, target=0.0))


def test_a_collapse_is_not_judged_on_few_steps() -> None:
    assert not sft.flat(steps([0.01] * 99))


def test_more_answers_lost_than_chance_explains_are_seen() -> None:
    watch = Watch((1.0,) * 12, lambda: ())
    assert watch.lost((0.0,) * 6 + (1.0,) * 6)
    assert not watch.lost((0.0,) * 3 + (1.0,) * 9)
    assert not Watch((0.0, 1.0) * 6, lambda: ()).lost((1.0, 0.0) * 6)


def test_training_stops_where_accuracy_falls_and_says_so(
    adapted: Loaded, items: tuple[Item, ...], tmp_path: Path
) -> None:
    done = trained(
        adapted,
        items,
        tmp_path,
        settings=replace(SETTINGS, check_every=2),
        watch=Watch((1.0,) * 9, lambda: (0.0,) * 9),
    )
    assert len(done.steps) == 2
    assert done.stopped is not None
    assert "accuracy fell" in done.stopped
    assert done.steps[-1]["accuracy"] == 0
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["global_step"] == 2


@pytest.mark.parametrize("stops", [True, False])
def test_training_that_had_ended_is_not_gone_on_with(
    folder: Path, items: tuple[Item, ...], tmp_path: Path, *, stops: bool
) -> None:
    """The kill came behind the last step: while the trained model was being measured."""
    runs = []
    for resume in (False, True):
        fresh = with_adapter(load(folder, device="cpu"), rank=4, alpha=8, seed=1 + resume)
        lost = Watch((1.0,) * 9, lambda: (0.0,) * 9) if stops else None
        settings = replace(SETTINGS, check_every=3)
        done = trained(fresh, items, tmp_path, settings=settings, watch=lost, resume=resume)
        runs.append((plain(done.steps), done.stopped, weights(fresh, trained=True)))
    assert runs[0][:2] == runs[1][:2]
    assert len(runs[1][0]) == (3 if stops else 6)
    assert all(torch.equal(value, runs[1][2][name]) for name, value in runs[0][2].items())


def test_a_loss_that_is_no_number_ends_the_run(
    adapted: Loaded, items: tuple[Item, ...], tmp_path: Path
) -> None:
    with torch.no_grad():
        next(v for n, v in adapted.model.named_parameters() if "lora_A" in n).fill_(math.nan)
    done = trained(adapted, items, tmp_path)
    assert len(done.steps) == 1
    assert done.stopped is not None
    assert "no longer a number" in done.stopped


def test_an_accuracy_that_holds_lets_the_run_finish(
    adapted: Loaded, items: tuple[Item, ...], tmp_path: Path
) -> None:
    watch = Watch((1.0, 0.0), lambda: (1.0, 1.0))
    settings = replace(SETTINGS, check_every=3)
    done = trained(adapted, items, tmp_path, settings=settings, watch=watch)
    assert len(done.steps) == 6
    assert [step.get("accuracy") for step in done.steps] == [None, None, 1.0, None, None, 1.0]


def test_no_question_that_is_measured_chooses_a_threshold_or_fits_a_map() -> None:
    """It stands under another name among those that are left over by ``limit``."""
    given = training_pools.pools(30)
    first = data(given, {}, Recipe(limit=5), Prompt())
    assert len(first.labels) > 5
    left_over = next(one for one in first.labels if one.pool.group not in groups(first.train))
    same = training_pools.pool(left_over.pool.question_id, ["1", "2"], dataset="renamed")
    made = data(given, {"more": [same]}, Recipe(limit=5), Prompt())
    for part in ("labels", "thresholds"):
        lost = groups(getattr(first, part)) - groups(getattr(made, part))
        assert left_over.pool.group in lost, part
    assert groups(made.train) == groups(first.train)


def groups(pools: Sequence[Labelled]) -> set[tuple[str, str]]:
    return {one.pool.group for one in pools}


def test_a_tracker_that_is_not_installed_is_said_before_anything_starts() -> None:
    absent = {*INTEGRATION_TO_CALLBACK} - {*get_available_reporting_integrations()}
    with pytest.raises(UsageError, match="is not installed"):
        Settings(report_to=(min(absent),))
