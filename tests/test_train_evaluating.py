"""Before and after: the numbers are about every row, and absence is never one of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import training_pools
from poise.errors import MissingEvidence
from poise.pools import Labelled
from poise.signals.evidence import Evidence
from poise.signals.p_true import PTrue
from poise.train.batches import last_logits
from poise.train.evaluating import (
    Graded,
    baselines,
    changes,
    column,
    confidence,
    consensus,
    graded,
    marked,
    numbers,
)
from poise.train.losses import Levels
from poise.train.model import Loaded, load
from poise.train.prefill import behind
from poise.train.recipe import levels_of
from poise.train.replies import accuracy, replies
from poise.train.rows import confidence_row
from poise.types import Kind, Prompt, Question
from training_pools import pool, pools

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = training_pools.willing(tmp_path_factory.mktemp("model") / "tiny")
    return load(folder, device="cpu")


@pytest.fixture
def levels(loaded: Loaded) -> Levels:
    return levels_of(loaded, "own")


def rows_of(loaded: Loaded, given: list[Labelled]) -> list[tuple[int, ...]]:
    return [
        confidence_row(loaded.tokenizer, one.pool.question, sample)
        for one in given
        for sample in one.pool.samples
        if one.pool.question is not None and sample.answer is not None
    ]


def rows(y: list[float], p: list[float], question: list[str] | None = None) -> Graded:
    names = question or [str(n) for n in range(len(y))]
    nothing = np.full(len(y), math.nan)
    groups = tuple(("d", name) for name in names)
    return Graded(np.array(y), groups, np.array(p), nothing, nothing)


# -- one pass a row -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        [(5, 6, 7, 8, 9), (5, 6, 7, 1), (5, 6, 7, 8, 9, 10, 11)],
        [(5, 6, 7), (5, 6, 7, 8), (5, 6)],
        [(5, 6, 7), (5, 6, 7)],
        [(1, 2, 3), (4, 5)],
        [(1,), (1, 2, 3)],
        [(7, 8, 9, 10)],
    ],
    ids=["a start", "one is the start of another", "equal", "nothing", "one token", "one row"],
)
def test_what_rows_share_is_computed_once_and_changes_nothing(
    loaded: Loaded, rows: list[tuple[int, ...]]
) -> None:
    loaded.model.eval()
    with torch.inference_mode():
        together = behind(loaded.model, rows, 0, loaded.device)
        for place, row in enumerate(rows):
            ids = torch.tensor([row])
            alone = last_logits(loaded.model, ids, torch.ones_like(ids))[0, -1]
            torch.testing.assert_close(together[place], alone, atol=1e-5, rtol=1e-4)


def test_a_confidence_does_not_depend_on_what_shares_its_batch(
    loaded: Loaded, levels: Levels
) -> None:
    """The published code filled rows on the left and passed no attention mask."""
    asked = rows_of(loaded, pools(5))
    asked += [(*asked[0][:8], *row) for row in asked[:3]]
    assert len({len(row) for row in asked}) > 2
    together, mass = confidence(loaded, asked, levels, batch=16)
    for place, row in enumerate(asked):
        alone, alone_mass = confidence(loaded, [row], levels)
        assert together[place] == pytest.approx(float(alone[0]), abs=1e-5)
        assert mass[place] == pytest.approx(float(alone_mass[0]), abs=1e-5)
    backwards, _ = confidence(loaded, asked[::-1], levels, batch=3)
    assert backwards[::-1] == pytest.approx(together, abs=1e-5)


def test_asking_leaves_the_model_in_the_mode_it_was_in(loaded: Loaded, levels: Levels) -> None:
    for training in (True, False):
        loaded.model.train(training)
        confidence(loaded, rows_of(loaded, pools(1)), levels)
        assert loaded.model.training is training
    assert confidence(loaded, [], levels)[0].shape == (0,)


def test_a_stored_confidence_is_what_the_signal_then_reads(loaded: Loaded, levels: Levels) -> None:
    given = [*pools(3), pool("z", ["1", None])]
    found = marked(loaded, given, "own", levels)
    stated, mass = confidence(loaded, rows_of(loaded, given), levels)
    assert (mass > 0.1).all()
    read = [
        PTrue("own")(Evidence.single(sample))
        for one in found
        for sample in one.pool.samples
        if sample.answer is not None
    ]
    assert read == pytest.approx(list(stated))
    assert found[-1].pool.samples[1].signals == {"p_true_own": None}


def test_tokens_that_say_neither_give_no_confidence(loaded: Loaded) -> None:
    unsaid = Levels(((5,), (6,)), (1.0, 0.0))
    _, mass = confidence(loaded, rows_of(loaded, pools(1)), unsaid)
    assert (mass < 0.1).all()
    found = marked(loaded, pools(1), "own", unsaid)
    assert {sample.signals["p_true_own"] for sample in found[0].pool.samples} == {None}
    with pytest.raises(MissingEvidence):
        PTrue("own")(Evidence.single(found[0].pool.samples[0]))


def test_a_row_too_long_and_a_question_left_out_are_missing_not_shortened(
    loaded: Loaded, levels: Levels
) -> None:
    unsaid = replace(pool("b", ["1"]), pool=replace(pool("b", ["1"]).pool, messages=None))
    found = marked(loaded, [pool("a", ["1"]), unsaid], "own", levels, longest=20)
    assert [one.pool.samples[0].signals["p_true_own"] for one in found] == [None, None]


def test_digits_are_read_as_their_mean(loaded: Loaded) -> None:
    levels = levels_of(loaded, "digit")
    assert levels.values == tuple(k / 9 for k in range(10))
    stated, _ = confidence(loaded, rows_of(loaded, pools(2)), levels)
    assert ((stated > 0) & (stated < 1)).all()
    assert column("digit") not in {column(wording) for wording in ("own", "user", "proposed")}


# -- numbers --------------------------------------------------------------------------------------


def test_a_confidence_of_exactly_one_counts_in_the_calibration_error() -> None:
    """The published binning never visited the bin of 1.0, so the surest rows had no error."""
    found = numbers(rows([0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]))
    assert found["ece"] == pytest.approx(0.75)
    assert found["rows"] == 4


def test_rows_without_a_confidence_are_counted_and_left_out() -> None:
    found = numbers(rows([1.0, 0.0, 1.0], [0.9, 0.2, math.nan]))
    assert (found["rows"], found["missing"]) == (2, 1)
    assert found["mean"] == pytest.approx(0.55)
    json.dumps(found, allow_nan=False)


def test_nothing_to_measure_is_a_reason_not_a_number() -> None:
    assert numbers(rows([1.0], [math.nan]))["reason"] == "no row states a confidence"
    assert numbers(graded([], "own"))["reason"] == "no sample is graded"
    assert numbers(graded([pool("q", ["1", "2"], gold=None)], "own"))["rows"] == 0


def test_graded_rows_are_the_readable_graded_samples_in_order() -> None:
    one = pool("q", ["1", None, "2"], p_true=[0.9, 0.8, None])
    found = graded([replace(one, correct=(1, 0, 0))], "own")
    assert found.y.tolist() == [1.0, 0.0]
    assert found.p[0] == 0.9
    assert found.missing == 1


def test_a_change_is_taken_over_the_rows_that_state_both() -> None:
    y = [1.0, 0.0, 1.0, 0.0]
    found = changes(rows(y, [0.5, 0.5, 0.5, math.nan]), rows(y, [0.9, 0.1, math.nan, 0.1]))
    assert found["rows"] == 2
    assert found["brier"]["value"] == pytest.approx(0.01 - 0.25)
    assert changes(rows([1.0], [math.nan]), rows([1.0], [0.5]))["rows"] == 0


def test_confidence_in_wrong_majorities_is_told_apart_from_that_in_right_ones() -> None:
    given = [
        pool("wrong", ["2", "2", "1"], p_true=[0.8, 0.6, 0.1]),
        pool("right", ["1", "1", "2"], p_true=[0.9, None, 0.1]),
        pool("tied", ["1", "2"], p_true=[0.9, 0.9]),
        pool("ungraded", ["1", "1"], gold=None, p_true=[0.9, 0.9]),
        pool("silent", ["1", "1"], p_true=[None, None]),
    ]
    found = consensus(given, column("own"))
    assert found["wrong"] == {"questions": 1, "mean": pytest.approx(0.7)}
    assert found["right"] == {"questions": 1, "mean": pytest.approx(0.9)}
    assert sum(found["left_out"].values()) == 3


def test_baselines_are_fitted_on_labels_of_other_questions_and_few_of_them() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=80)
    y = (rng.uniform(size=80) < p).astype(float)
    labels, held = rows(list(y[:60]), list(p[:60])), rows(list(y[60:]), list(p[60:]))
    found = baselines(labels, held)
    assert found["200 labels"]["reason"] == "only 60 training questions"
    fifty = found["50 labels"]
    assert fifty["constant"]["mean"] == pytest.approx(y[:50].mean(), abs=0.02)
    assert fifty["p + platt"]["brier"]["value"] < fifty["constant"]["brier"]["value"]
    assert "reason" in fifty["logprob + platt"]
    unlabelled = baselines(labels, replace(held, y=1 - held.y))
    assert unlabelled["50 labels"]["p + platt"]["mean"] == fifty["p + platt"]["mean"]


def test_labels_that_are_all_alike_make_no_map() -> None:
    labels, held = rows([1.0] * 50, [0.5] * 50), rows([0.0, 1.0], [0.2, 0.9])
    fifty = baselines(labels, held)["50 labels"]
    assert fifty["p + platt"] == {"reason": "the labels are all alike"}
    assert fifty["constant"]["rows"] == 2


# -- fresh replies --------------------------------------------------------------------------------

TALKS = [[{"role": "user", "content": text}] for text in ("Say a word", "No", "What is 3 + 4 + 5?")]


def test_replies_do_not_depend_on_the_batch_and_greedy_ones_not_on_the_seed(
    loaded: Loaded,
) -> None:
    decoding = {"max_tokens": 5}
    one = replies(loaded, TALKS, decoding, seed=1, batch=1)
    assert one == replies(loaded, TALKS, decoding, seed=2, batch=3)
    assert [len(each) for each in one] == [1, 1, 1]


def test_drawn_replies_repeat_with_their_seed_and_leave_the_random_state_alone(
    loaded: Loaded,
) -> None:
    decoding = {"temperature": 1.5, "top_k": 50, "top_p": 0.99, "min_p": 0.01, "max_tokens": 6}
    state = torch.random.get_rng_state()
    first = replies(loaded, TALKS, decoding, draws=3, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    assert first == replies(loaded, TALKS, decoding, draws=3, seed=1)
    assert first != replies(loaded, TALKS, decoding, draws=3, seed=2)
    assert [len(each) for each in first] == [3, 3, 3]
    assert len({reply.text for each in first for reply in each}) > 3


def test_an_unreadable_reply_is_not_right_and_is_counted(loaded: Loaded) -> None:
    given = [*pools(3), pool("nogold", ["1"], gold=None), *pools(1)]
    found = accuracy(loaded, given, Prompt(), {"max_tokens": 3}, draws=2)
    assert len(found.right) == 3
    assert found.draws == 1, "greedy replies are all alike"
    told = found.to_dict()
    assert told["questions"] == 3
    assert told["accuracy"] == pytest.approx(sum(found.right) / 3)
    empty = accuracy(loaded, [], Prompt(), {})
    assert empty.to_dict()["accuracy"] is None


def test_right_replies_are_graded_right(loaded: Loaded) -> None:
    question = Question.ask("Is it?", Kind.YESNO, id="y")
    said = replies(loaded, [Prompt().messages(question)], {"max_tokens": 1})[0][0].text
    assert said is not None
    word = said.strip().casefold()
    assert word in ("yes", "no", "true", "false"), "the fixture's model answers with one of them"
    gold = "yes" if word in ("yes", "true") else "no"
    asked: dict[str, Any] = {"kind": "yesno", "question": "Is it?"}
    right = accuracy(loaded, [pool("y", [gold], gold=gold, **asked)], Prompt(), {"max_tokens": 1})
    assert right.right == (1.0,)
    other = "no" if gold == "yes" else "yes"
    wrong = accuracy(loaded, [pool("y", [gold], gold=other, **asked)], Prompt(), {"max_tokens": 1})
    assert wrong.right == (0.0,)


def test_the_marked_pools_survive_being_written(
    loaded: Loaded, levels: Levels, tmp_path: Path
) -> None:
    from poise.pools import read_pools
    from poise.train.folder import write_pools

    found = marked(loaded, pools(2), "own", levels)
    write_pools(tmp_path / "a.jsonl.gz", found)
    again = list(read_pools(tmp_path / "a.jsonl.gz"))
    assert [one.pool.samples for one in again] == [one.pool.samples for one in found]
