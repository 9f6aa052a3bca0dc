"""The capability probe: finds what is in the states, and claims nothing that is not there."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

import tiny_model
from command import call
from poise.backends import Transformers
from poise.errors import InputError, RefusedError, UsageError
from poise.pools import Labelled, pool_from_record, pool_record, read_pools
from poise.score import score
from poise.train import probe as probing
from poise.train.probe import Graded, Probe
from poise.types import Prompt

WIDTH, LAYERS, SAMPLES = 12, 3, 16


def one(name: str, right: int, n: int = SAMPLES, **more: Any) -> Labelled:
    samples = [
        {"answer": str(int(place < right)), "correct": int(place < right)} for place in range(n)
    ]
    record = {"dataset": "d", "model": "m", "question_id": name, "question": f"What is {name}?"}
    return pool_from_record({**record, "kind": "number", "samples": samples, **more})


def world(m: int, seed: int = 0) -> tuple[Graded, NDArray[np.float32], NDArray[np.float64]]:
    """Questions whose mu stands in layer 1 alone; the states (m, layers, width); the true mu."""
    rng = np.random.default_rng(seed)
    states = rng.normal(3, 2, (m, LAYERS, WIDTH)).astype(np.float32)
    truth = expit((states[:, 1, 0] - 3.0) + (states[:, 1, 1] - 3.0) / 2)
    right = rng.binomial(SAMPLES, truth)
    pools = tuple(one(f"q{place}", int(k)) for place, k in enumerate(right))
    return probing.graded(pools), states, truth


def fitted(given: Graded, states: NDArray[np.float32], **more: Any) -> Probe:
    return probing.fit(given, states, model="m", sha256="a" * 64, prompt_hash="p", **more)


@pytest.fixture(scope="module")
def made() -> tuple[Probe, Graded, NDArray[np.float32], NDArray[np.float64]]:
    given, states, truth = world(500)
    return fitted(given, states), given, states, truth


# -- fitting --------------------------------------------------------------------------------------


def test_it_finds_the_layer_that_knows_and_predicts_mu(made: Any) -> None:
    probe, given, states, truth = made
    assert probe.layer == 1
    unseen = np.array([not probe.knows(pool) for pool in given.pools])
    error = np.mean((probe.predict(states[unseen, 1]) - truth[unseen]) ** 2)
    assert error < 0.01 < np.var(truth[unseen])
    held = probe.report["held_out"]
    assert held["questions"] == unseen.sum()
    assert held["mse"] == pytest.approx(error, abs=0.005)
    assert held["base_mse"] == pytest.approx(np.var(truth[unseen]), abs=0.02)
    assert held["log_loss"] < held["base_log_loss"]
    assert held["spearman"] > 0.85


def test_from_noise_it_learns_that_there_is_nothing_to_learn() -> None:
    given, states, _ = world(400, seed=1)
    noise = np.random.default_rng(2).normal(size=states.shape).astype(np.float32)
    probe = fitted(given, noise)
    held = probe.report["held_out"]
    assert held["mse"] < held["base_mse"] + 0.02
    assert abs(held["spearman"]) < 0.3
    assert probe.report["ridge"] >= 100


def test_its_numbers_come_from_questions_that_had_no_part_in_it(made: Any) -> None:
    """Other grades of the measured questions change its numbers and nothing else."""
    probe, given, states, _ = made
    unseen = np.array([not probe.knows(pool) for pool in given.pools])
    turned = replace(given, mu=np.where(unseen, 1 - given.mu, given.mu))
    other = fitted(turned, states)
    assert (other.layer, other.intercept) == (probe.layer, probe.intercept)
    np.testing.assert_array_equal(other.coef, probe.coef)
    assert other.report["held_out"]["mse"] > probe.report["held_out"]["mse"] + 0.1


def test_the_same_seed_gives_the_same_probe_and_another_parts_anew(made: Any) -> None:
    probe, given, states, _ = made
    assert fitted(given, states).to_dict() == probe.to_dict()
    assert fitted(given, states, seed=1).questions != probe.questions


def test_neither_scale_nor_place_of_the_states_matters(made: Any) -> None:
    probe, given, states, _ = made
    other = fitted(given, states * np.float32(100) - np.float32(50))
    np.testing.assert_allclose(
        other.predict(states[:9, 1] * 100.0 - 50.0), probe.predict(states[:9, 1]), atol=1e-3
    )


def test_a_state_that_never_changes_does_no_harm(made: Any) -> None:
    probe, given, states, _ = made
    still = states.copy()
    still[:, :, 5] = 7.0
    other = fitted(given, still)
    assert other.layer == probe.layer
    assert np.isfinite(other.coef).all()


def test_a_question_with_more_grades_counts_more() -> None:
    """Two groups of equal states: the one that was graded more often draws the line to it."""
    given, states, _ = world(200, seed=3)
    flat = np.zeros_like(states)
    mu = np.where(np.arange(200) % 2 == 0, 0.9, 0.1)
    n = np.where(np.arange(200) % 2 == 0, 30.0, 10.0)
    chances = fitted(replace(given, mu=mu, n=n), flat).predict(flat[:1, 0])
    assert 0.68 < chances[0] < 0.72


# -- what is refused ------------------------------------------------------------------------------


def test_pools_without_grades_or_text_are_left_out_and_counted() -> None:
    pools = [one(f"q{place}", place % 9) for place in range(probing.FEWEST)]
    bare = one("bare", 3)
    ungraded = replace(bare, correct=(None,) * SAMPLES)
    half = replace(one("half", 4), correct=(1, 0, *(None,) * (SAMPLES - 2)))
    silent = replace(one("silent", 3), pool=replace(one("silent", 3).pool, messages=None))
    given = probing.graded([*pools, ungraded, half, silent])
    assert (len(given.pools), given.left_out) == (probing.FEWEST + 1, 2)
    assert (given.mu[-1], given.n[-1]) == (0.5, 2)


def test_too_few_questions_and_one_that_is_there_twice_are_refused() -> None:
    pools = [one(f"q{place}", place % 9) for place in range(probing.FEWEST)]
    with pytest.raises(RefusedError, match="59 of 59 pools .* at least 60 questions"):
        probing.graded(pools[1:])
    with pytest.raises(InputError, match="several pools"):
        probing.graded([*pools, pools[0]])


@pytest.mark.parametrize("right", [0, SAMPLES])
def test_nothing_is_learnt_where_all_is_right_or_all_wrong(right: int) -> None:
    given = probing.graded([one(f"q{place}", right) for place in range(100)])
    with pytest.raises(RefusedError, match="nothing to learn"):
        fitted(given, np.random.default_rng(0).normal(size=(100, 1, 4)).astype(np.float32))


def test_states_of_another_number_are_refused(made: Any) -> None:
    _, given, states, _ = made
    with pytest.raises(UsageError, match="states"):
        fitted(given, states[:-1])
    with pytest.raises(UsageError, match="2 layers"):
        fitted(given, states, layers=[0, 1])


# -- saving and applying --------------------------------------------------------------------------


def test_it_comes_back_from_its_file(made: Any, tmp_path: Path) -> None:
    probe, _, states, _ = made
    probe.save(tmp_path / "probe.json")
    again = probing.load(tmp_path / "probe.json")
    assert again.to_dict() == probe.to_dict()
    np.testing.assert_allclose(again.predict(states[:, 1]), probe.predict(states[:, 1]), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "of schema 2"),
        ({"layer": -1}, "probe.layer is -1"),
        ({"mean": "!"}, "no probe"),
        ({"mean": "AACAfw=="}, "not finite"),
        ({"mean": "AACAPw=="}, "do not fit together"),
        ({"scale": None}, "probe.scale is None"),
        ({"questions": "q"}, "a list"),
    ],
)
def test_a_file_that_is_no_probe_is_named(
    made: Any, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "probe.json"
    path.write_text(json.dumps({**made[0].to_dict(), **change}))
    with pytest.raises(InputError, match=said) as caught:
        probing.load(path)
    assert len(str(caught.value).splitlines()) == 1
    path.write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        probing.load(path)
    with pytest.raises(InputError, match="not readable"):
        probing.load(tmp_path / "none.json")


def test_what_it_says_is_the_questions_signal_and_none_where_it_was_fitted(made: Any) -> None:
    probe, given, states, _ = made
    new = one("new", 3, signals={"length": 4.0})
    said = probing.applied(probe, [*given.pools, new], np.vstack([states[:, 1], states[:1, 1]]))
    for before, after, chance in zip(given.pools, said, probe.predict(states[:, 1]), strict=False):
        assert after.pool.signals["probe"] == (None if probe.knows(before) else chance)
        assert replace(after, pool=replace(after.pool, signals=before.pool.signals)) == before
    assert said[-1].pool.signals == {"length": 4.0, "probe": probe.predict(states[:1, 1])[0]}
    again = pool_from_record(json.loads(json.dumps(pool_record(said[-1]))))
    read = score(again.pool, ["stored_question:probe"]).stated
    assert read.signals["stored_question:probe"] == said[-1].pool.signals["probe"]
    known = next(after for after in said if after.pool.signals["probe"] is None)
    assert "stored_question:probe" in score(known.pool, ["stored_question:probe"]).stated.missing


def test_states_are_those_of_the_back_end_under_the_arms_prompt(tmp_path: Path) -> None:
    folder = tiny_model.save_folder(tmp_path / "tiny")
    pools = [one(f"q{place}", 1) for place in range(3)]
    heard: list[int] = []

    async def work() -> None:
        backend = Transformers(folder, device="cpu")
        prompt = Prompt("Be brief.")
        found = await probing.states(backend, pools, prompt, [1, 2], heard.append)
        assert found.shape == (3, 2, 32)
        question = pools[1].pool.question
        assert question is not None
        alone = await backend.hidden(prompt.messages(question), [1, 2])
        np.testing.assert_array_equal(found[1], alone)
        await backend.aclose()

    asyncio.run(work())
    assert heard == [1, 2, 3]


def test_the_verb_fits_a_probe_and_keeps_what_it_says_in_pools(tmp_path: Path) -> None:
    folder = tiny_model.save_folder(tmp_path / "tiny")
    lines = [json.dumps(pool_record(one(f"q{place}", place % 17))) for place in range(80)]
    (tmp_path / "fit.jsonl").write_text("\n".join(lines[:70]) + "\n")
    (tmp_path / "all.jsonl").write_text("\n".join(lines) + "\n")
    base = ["-m", str(folder)]
    probe = tmp_path / "probe.json"
    done = call("train", "probe", str(tmp_path / "fit.jsonl"), "-o", str(probe), *base, "--json")
    assert done.code == 0, done.err
    assert "70 of 70 questions" in done.err
    assert json.loads(done.out) == dict(probing.load(probe).report)
    out = tmp_path / "said.jsonl"
    applying = ["train", "probe", str(tmp_path / "all.jsonl"), "--apply", str(probe)]
    done = call(*applying, "-o", str(out), *base)
    assert done.code == 0, done.err
    fitted_on = len(probing.load(probe).questions)
    assert f"80 pools; {fitted_on} of questions that it was fitted on" in done.err
    values = [labelled.pool.signals["probe"] for labelled in read_pools(out)]
    assert values.count(None) == fitted_on
    assert all(0 < value < 1 for value in values if value is not None)
    other = ["--system", "Be brief."]
    done = call(*applying, "-o", str(tmp_path / "no.jsonl"), *base, *other)
    assert done.code == 3
    assert "the probe was fitted on the prompt" in done.err
    assert not (tmp_path / "no.jsonl").exists()
