"""Pool files: read strictly, written faithfully, labels and arms kept apart."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from poise.errors import InputError, UsageError
from poise.pools import (
    Labelled,
    Pool,
    SampleArm,
    SkipCount,
    canonical,
    logprobs_record,
    pool_from_record,
    pool_record,
    read_logprobs,
    read_pools,
    write_parquet,
)
from poise.types import FollowUp, Kind, Sample, TokenLogprobs

RICH: dict[str, Any] = {
    "schema": 1,
    "dataset": "toy",
    "segment": "sums",
    "model": "small",
    "engine": "llama.cpp",
    "prompt_hash": "0123456789ab",
    "decoding": {"temperature": 0.8, "stop": ["\n"]},
    "run": "3",
    "question_id": "q-1",
    "question": "What is 3 + 4?\nAnswer in digits, “plainly”.",
    "options": ["seven", "eight"],
    "gold": "7",
    "kind": "number",
    "signals": {"agreement": 0.5, "p_true": None},
    "followups": {"stated_band": {"text": "8"}},
    "samples": [
        {
            "answer": "7",
            "correct": 1,
            "text": "It is 7.",
            "tokens": 5,
            "seconds": 0.25,
            "finish": "stop",
            "seed": 11,
            "signals": {"logprob": -0.5},
            "followups": {
                "p_true": {"text": "Yes", "logprobs": {"tokens": ["Yes"], "chosen": [-0.1]}, "t": 1}
            },
            "logprobs": {
                "tokens": ["It", " is"],
                "chosen": [-0.1, 0.0],
                "top": [[["It", -0.1], ["So", -2.5]], []],
            },
            "chars": 8,
        },
        {"answer": None, "correct": 0, "unread": "no number"},
        {"answer": "8", "model": "large", "decoding": {"temperature": 1}},
    ],
    "source": {"url": "https://example.org", "n": [1, 2.5, None]},
}


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def refusal(read: Callable[..., Any], path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        list(read(path))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return caught.value


def test_a_pool_keeps_labels_apart_from_samples() -> None:
    labelled = pool_from_record(RICH)
    pool = labelled.pool
    assert labelled.correct == (1, 0, None)
    assert labelled.gold == "7"
    assert pool.key == ("toy", "small", canonical(RICH["decoding"]), "3", "q-1")
    assert pool.question is not None
    assert (pool.question.kind, pool.question.options) == (Kind.NUMBER, ("seven", "eight"))
    assert [sample.index for sample in pool.samples] == [0, 1, 2]
    assert [sample.unread for sample in pool.samples] == [None, "no number", None]
    assert pool.samples[0].logprobs == TokenLogprobs(
        ("It", " is"), (-0.1, 0.0), ((("It", -0.1), ("So", -2.5)), ())
    )
    assert pool.arms == (SampleArm(), SampleArm(), SampleArm("large", {"temperature": 1}))
    p_true = FollowUp("Yes", TokenLogprobs(("Yes",), (-0.1,)), {"t": 1})
    assert [sample.followups for sample in pool.samples] == [{"p_true": p_true}, {}, {}]
    assert pool.followups == {"stated_band": FollowUp("8")}
    assert labelled.extra == {"source": RICH["source"]}
    assert labelled.sample_extra == ({"chars": 8}, {}, {})
    assert "correct" not in repr(pool)


def test_a_pool_without_its_question_or_reason_still_says_so() -> None:
    row = {"dataset": "d", "model": "m", "question_id": 3, "samples": [{"answer": None}]}
    pool = pool_from_record(row).pool
    assert pool.question is None
    assert pool.key == ("d", "m", "", "", "3")
    assert pool.samples[0].unread is not None
    assert pool.signals == {}


def test_a_record_written_and_read_is_the_same_record() -> None:
    assert pool_record(pool_from_record(RICH)) == RICH
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi", "n": 1}]
    row = {key: value for key, value in RICH.items() if key != "question"} | {"messages": chat}
    assert pool_record(pool_from_record(row)) == row


names = st.text(min_size=1, max_size=8).filter(lambda name: "\0" not in name)
texts = st.text(max_size=12)
amounts = st.floats(0, 1e9)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
extras = st.dictionaries(st.text("xyz", min_size=2, max_size=4), json_values, max_size=2)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def token_logprobs(draw: st.DrawFn) -> TokenLogprobs:
    tokens = draw(st.lists(texts, max_size=4))
    chosen = st.floats(-50, 0)
    pairs = st.lists(st.tuples(texts, chosen), max_size=3).map(tuple)
    size = {"min_size": len(tokens), "max_size": len(tokens)}
    return TokenLogprobs(
        tuple(tokens),
        tuple(draw(st.lists(chosen, **size))),
        draw(optional(st.lists(pairs, **size).map(tuple))),
    )


@st.composite
def labelled_pools(draw: st.DrawFn) -> Labelled:
    n = draw(st.integers(1, 4))
    follow_up = st.builds(FollowUp, optional(texts), optional(token_logprobs()), extras)

    def column(strategy: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        values = draw(st.lists(strategy, min_size=n, max_size=n))
        return tuple(values) if any(values) else ()

    samples = []
    for index in range(n):
        answer = draw(optional(names))
        samples.append(
            Sample(
                index,
                draw(optional(texts)),
                answer,
                None if answer is not None else draw(names),
                draw(optional(texts)),
                draw(optional(st.integers(0, 9999))),
                draw(optional(amounts)),
                draw(optional(st.integers(0, 2**63))),
                draw(optional(token_logprobs())),
                draw(st.dictionaries(texts, optional(finite), max_size=2)),
                draw(st.dictionaries(texts, follow_up, max_size=2)),
            )
        )
    decodings = optional(st.dictionaries(names, json_values, max_size=2))
    arms = draw(st.lists(st.builds(SampleArm, optional(names), decodings), min_size=n, max_size=n))
    pool = Pool(
        dataset=draw(names),
        model=draw(names),
        question_id=draw(names),
        samples=tuple(samples),
        messages=draw(optional(names.filter(str.strip).map(asked))),
        kind=draw(optional(st.sampled_from(Kind))),
        options=draw(optional(st.lists(texts, min_size=2, max_size=4).map(tuple))),
        segment=draw(optional(names)),
        decoding=draw(decodings),
        run=draw(optional(names)),
        signals=draw(st.dictionaries(texts, optional(finite), max_size=2)),
        arms=tuple(arms) if any(arm != SampleArm() for arm in arms) else (),
        followups=draw(st.dictionaries(texts, follow_up, max_size=2)),
    )
    correct = draw(st.lists(st.sampled_from([0, 1, None]), min_size=n, max_size=n))
    return Labelled(pool, draw(optional(texts)), tuple(correct), draw(extras), column(extras))


def asked(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


@settings(deadline=None, max_examples=40)
@given(st.lists(labelled_pools(), min_size=1, max_size=3, unique_by=lambda one: one.pool.key))
def test_any_pools_survive_both_formats(
    tmp_path_factory: pytest.TempPathFactory, pools: list[Labelled]
) -> None:
    records = [pool_record(labelled) for labelled in pools]
    folder = tmp_path_factory.mktemp("pools")
    assert list(read_pools(lines(folder / "p.jsonl", *records))) == pools
    write_parquet(folder / "p.parquet", records)
    assert list(read_pools(folder / "p.parquet")) == pools
    assert sorted(path.name for path in folder.iterdir()) == ["p.jsonl", "p.parquet"]


def test_parquet_with_lists_and_structs_is_read_like_json_lines(tmp_path: Path) -> None:
    plain = {key: value for key, value in RICH.items() if key not in {"decoding", "source"}}
    plain["samples"] = [
        {key: sample.get(key) for key in ("answer", "correct", "tokens", "signals")}
        for sample in RICH["samples"]
    ]
    plain["samples"][0]["followups"] = {"p_true": {"text": "Yes"}}
    path = tmp_path / "p.parquet"
    parquet.write_table(pa.Table.from_pylist([plain]), path)
    assert list(read_pools(path)) == list(read_pools(lines(tmp_path / "p.jsonl", plain)))


def test_parquet_is_put_in_place_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_text("old")

    def breaking() -> Any:
        yield RICH
        raise KeyError("gone")

    with pytest.raises(KeyError):
        write_parquet(path, breaking())
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("p.parquet", "old")]
    with pytest.raises(UsageError, match="cannot be written"):
        write_parquet(tmp_path / "nowhere" / "p.parquet", [RICH])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema is 2"),
        ({"dataset": None}, "dataset is missing"),
        ({"model": ""}, "model is ''"),
        ({"question_id": 0.5}, "question_id is 0.5"),
        ({"question": ""}, "question is empty"),
        ({"messages": []}, "keep one"),
        ({"decoding": "hot"}, "decoding is 'hot'"),
        ({"signals": {"a": "high"}}, "signals.a is 'high'"),
        ({"signals": {"a": True}}, "signals.a is True"),
        ({"signals": {"a": 10**400}}, "signals.a"),
        ({"gold": ["7"]}, "gold is ['7']"),
        ({"samples": []}, "at least one sample"),
        ({"samples": {"answer": "7"}}, "at least one sample"),
        ({"samples": ["7"]}, "samples[0] should be a JSON object"),
        ({"samples": [{"correct": 1}]}, "samples[0] has no answer"),
        ({"samples": [{"answer": ""}]}, "samples[0].answer is ''"),
        ({"samples": [{"answer": "7", "correct": 0.5}]}, "samples[0].correct is 0.5"),
        ({"samples": [{"answer": "7", "correct": "1"}]}, "samples[0].correct is '1'"),
        ({"samples": [{"answer": "7", "tokens": -1}]}, "samples[0].tokens is -1"),
        ({"samples": [{"answer": "7", "tokens": 1.5}]}, "samples[0].tokens is 1.5"),
        ({"samples": [{"answer": "7", "seconds": -0.5}]}, "samples[0].seconds is -0.5"),
        ({"samples": [{"answer": "7", "text": 3}]}, "samples[0].text is 3"),
        ({"samples": [{"answer": "7", "followups": {"p": "Yes"}}]}, "samples[0].followups.p"),
        (
            {"samples": [{"answer": "7", "followups": {"p": {"logprobs": []}}}]},
            "samples[0].followups.p.logprobs should be an object",
        ),
        ({"samples": [{"answer": "7", "logprobs": {"tokens": ["7"]}}]}, "samples[0].logprobs"),
    ],
)
def test_a_bad_pool_is_refused_with_its_place(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    other = {**RICH, "question_id": "before"}
    error = refusal(read_pools, lines(tmp_path / "p.jsonl", other, {**RICH, **change}))
    assert words in str(error)
    assert error.line == 2


def test_the_key_is_unique_and_made_of_all_its_parts(tmp_path: Path) -> None:
    different: list[dict[str, Any]] = [
        {},
        {"dataset": "other"},
        {"model": "other"},
        {"run": "4"},
        {"run": None},
        {"decoding": {"temperature": 0.9}},
        {"decoding": None},
        {"question_id": 1},
    ]
    rows = [{**RICH, **change} for change in different]
    assert len(list(read_pools(lines(tmp_path / "p.jsonl", *rows)))) == len(rows)
    again = {**RICH, "decoding": {"stop": ["\n"], "temperature": 0.8}, "run": 3}
    path = lines(tmp_path / "p.jsonl", *rows, again)
    assert "appeared before" in str(refusal(read_pools, path))
    skipped = SkipCount()
    assert len(list(read_pools(path, skip_bad=skipped))) == len(rows)
    assert skipped.count == 1


def test_equal_decodings_have_one_text() -> None:
    assert canonical({"b": 1.0, "a": [2.0, {"c": 0.5}]}) == canonical(
        {"a": [2, {"c": 0.5}], "b": 1}
    )
    assert canonical({"a": 1}) != canonical({"a": "1"})
    assert canonical({"a": True}) != canonical({"a": 1})


def test_arms_are_parted_and_nothing_else_changes() -> None:
    labelled = pool_from_record(RICH)
    small, large = labelled.by_arm()
    assert (small.pool.model, small.pool.decoding) == ("small", RICH["decoding"])
    assert (large.pool.model, large.pool.decoding) == ("large", {"temperature": 1})
    assert small.correct + large.correct == labelled.correct
    assert [sample.index for sample in small.pool.samples] == [0, 1]
    assert [sample.index for sample in large.pool.samples] == [0]
    assert large.pool.samples[0].answer == "8"
    assert small.sample_extra == ({"chars": 8}, {})
    assert "p_true" in small.pool.samples[0].followups
    assert (small.gold, small.pool.group) == (labelled.gold, labelled.pool.group)
    assert small.by_arm() == (small,)


def test_labels_have_one_place_a_sample() -> None:
    labelled = pool_from_record(RICH)
    with pytest.raises(ValueError, match="2 values for 3 samples"):
        replace(labelled, correct=(1, 0))


@given(token_logprobs())
def test_logprobs_survive_their_compact_form(logprobs: TokenLogprobs) -> None:
    assert read_logprobs(json.loads(json.dumps(logprobs_record(logprobs)))) == logprobs


@pytest.mark.parametrize(
    "record",
    [
        None,
        {"tokens": []},
        {"tokens": [], "chosen": [], "bytes": []},
        {"tokens": "a", "chosen": [-1]},
        {"tokens": [1], "chosen": [-1]},
        {"tokens": ["a"], "chosen": []},
        {"tokens": ["a"], "chosen": [0.1]},
        {"tokens": ["a"], "chosen": [None]},
        {"tokens": ["a"], "chosen": [-math.inf]},
        {"tokens": ["a"], "chosen": [-(10**400)]},
        {"tokens": ["a"], "chosen": [-1], "top": []},
        {"tokens": ["a"], "chosen": [-1], "top": ["a"]},
        {"tokens": ["a"], "chosen": [-1], "top": [["a"]]},
        {"tokens": ["a"], "chosen": [-1], "top": [[["a", 1]]]},
        {"tokens": ["a"], "chosen": [-1], "top": [[["a", -1, 2]]]},
        {"tokens": ["a"], "chosen": [-1], "top": [[[2, -1]]]},
    ],
)
def test_odd_logprobs_are_refused(record: object) -> None:
    with pytest.raises(InputError, match=r"^logprobs"):
        read_logprobs(record)
