"""A pool file served as a model: the right samples, no labels, nothing made up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.backends.stored import Stored, shuffled
from poise.errors import Exhausted, InputError, Rejected, UsageError
from poise.pools import Pool, SampleArm
from poise.types import Backend, Batch, Request, Sample, TokenLogprobs

T = TypeVar("T")
LOGPROBS = TokenLogprobs(("7",), (-0.5,), ((("7", -0.5), ("8", -1.5)),))


def pool(answers: str = "aab", question: str = "q", **more: Any) -> Pool:
    samples = tuple(
        Sample(i, f"text {i}", answer, tokens=i + 1, finish="stop")
        for i, answer in enumerate(answers)
    )
    fields = {"dataset": "d", "model": "m", "samples": samples} | more
    return Pool(question_id=question, **fields)


def request(n: int = 1, first: int = 0, question: str = "q", **more: Any) -> Request:
    return Request((), {"temperature": 0.8}, n=n, first_index=first, question_id=question, **more)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def texts(batch: Batch) -> list[str | None]:
    return [reply.text for reply in batch.replies]


def line(question: str = "q", **more: Any) -> dict[str, Any]:
    samples = [{"answer": "7", "correct": 1}, {"answer": None, "correct": 0, "tokens": 4}]
    fields = {"dataset": "d", "model": "m", "question_id": question, "gold": "SECRET"}
    return fields | {"samples": samples} | more


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(*lines: dict[str, Any]) -> Path:
        path = tmp_path / "pools.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))
        return path

    return written


# -- serving ------------------------------------------------------------------------------------


def test_a_draw_is_the_sample_of_that_number_with_its_stored_answer() -> None:
    backend: Backend = Stored([pool("xyz"), pool("w", "other")])
    (reply,) = run(backend.sample(request(1, 1))).replies
    assert (reply.text, reply.answer, reply.answered) == ("text 1", "y", True)
    assert (reply.tokens, reply.finish) == (2, "stop")
    assert (backend.engine, backend.model) == ("stored", "m")


@given(st.integers(1, 9), st.integers(1, 4), st.none() | st.integers(0, 99))
def test_every_sample_is_served_once_however_requests_are_cut(
    size: int, step: int, seed: int | None
) -> None:
    backend = Stored([pool("a" * size)], shuffle_seed=seed)
    drawn = [t for i in range(0, size, step) for t in texts(run(backend.sample(request(step, i))))]
    assert sorted(map(str, drawn)) == sorted(f"text {i}" for i in range(size))
    if seed is None:
        assert drawn == [f"text {i}" for i in range(size)]
    with pytest.raises(Exhausted, match=f"only {size} samples of question 'q'; draw at most"):
        run(backend.sample(request(1, size)))


def test_a_request_for_more_than_there_is_gets_what_there_is() -> None:
    assert texts(run(Stored([pool("aaa")]).sample(request(8, 1)))) == ["text 1", "text 2"]


def test_an_unknown_question_is_rejected_by_name() -> None:
    with pytest.raises(Rejected, match="'nowhere'"):
        run(Stored([pool()]).sample(request(question="nowhere")))


def test_an_unreadable_answer_stays_unreadable() -> None:
    samples = (Sample(0, None, None, unread="no number"),)
    (reply,) = run(Stored([pool(samples=samples)]).sample(request())).replies
    assert (reply.answer, reply.answered, reply.text) == (None, True, None)


def test_unknown_tokens_are_unknown_and_never_zero() -> None:
    samples = (Sample(0, "a", "a", tokens=3), Sample(1, "b", "b"))
    backend = Stored([pool(samples=samples)])
    assert run(backend.sample(request(1))).usage.completion_tokens == 3
    both = run(backend.sample(request(2))).usage
    assert (both.prompt_tokens, both.completion_tokens, both.cached_tokens) == (None, None, None)


def test_the_meter_hears_of_known_tokens() -> None:
    class Counter:
        total = 0

        def queued(self, waiting: bool) -> None:
            pass

        def received(self, tokens: int) -> None:
            self.total += tokens

    meter = Counter()
    run(Stored([pool("aaa")]).sample(request(3), meter))
    assert meter.total == 6


def test_log_probabilities_are_given_when_asked_for_and_counted_where_absent() -> None:
    samples = (Sample(0, "7", "7", logprobs=LOGPROBS), Sample(1, "8", "8"))
    backend = Stored([pool(samples=samples)])
    known = run(backend.capabilities())
    assert (known.logprobs, known.seed, known.n > 1000) == (2, True, True)
    assert any("1 of 2" in note for note in known.notes)
    assert run(backend.sample(request(logprobs=2))).replies[0].logprobs == LOGPROBS
    assert run(backend.sample(request())).replies[0].logprobs is None
    assert run(Stored([pool()]).capabilities()).logprobs is None


# -- order --------------------------------------------------------------------------------------


@given(st.integers(), st.text(max_size=5), st.text(max_size=5), st.integers(0, 20))
def test_a_shuffled_order_is_a_permutation_fixed_by_its_arguments(
    seed: int, dataset: str, question: str, n: int
) -> None:
    order = shuffled(seed, dataset, question, n)
    assert sorted(order) == list(range(n))
    assert order == shuffled(seed, dataset, question, n)


def test_orders_differ_by_seed_data_set_and_question() -> None:
    orders = {
        shuffled(*of, 12) for of in [(1, "d", "q"), (2, "d", "q"), (1, "e", "q"), (1, "d", "r")]
    }
    assert len(orders) == 4


def test_the_shuffled_order_of_one_seed_never_changes() -> None:
    """Results stored with a seed must stay reproducible across versions."""
    assert shuffled(7, "gsm8k", "1", 8) == (4, 2, 5, 7, 0, 3, 6, 1)


def test_every_sample_comes_first_equally_often_over_seeds() -> None:
    firsts = [shuffled(seed, "d", "q", 4)[0] for seed in range(2000)]
    assert all(
        abs(firsts.count(index) - 500) < 5 * (2000 * 0.25 * 0.75) ** 0.5 for index in range(4)
    )


def test_a_shuffle_seed_serves_in_that_order() -> None:
    backend = Stored([pool("a" * 6)], shuffle_seed=3)
    expected = [f"text {i}" for i in shuffled(3, "d", "q", 6)]
    assert texts(run(backend.sample(request(6)))) == expected


# -- files --------------------------------------------------------------------------------------


def test_a_file_is_served_without_its_labels(write: Any) -> None:
    backend = Stored.open(write(line()))
    assert [reply.answer for reply in run(backend.sample(request(2))).replies] == ["7", None]

    def reachable(value: Any, seen: set[int]) -> str:
        if id(value) in seen:
            return ""
        seen.add(id(value))
        if isinstance(value, dict):
            inside: list[Any] = [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set)):
            inside = list(value)
        elif isinstance(value, Sample):
            inside = [getattr(value, name) for name in value.__slots__]
        else:
            inside = []
        return repr(value) + "".join(reachable(part, seen) for part in inside)

    held = reachable(vars(backend), set())
    assert "text=" in held
    assert "SECRET" not in held
    assert "correct" not in held


def test_several_models_runs_or_data_sets_of_a_question_must_be_chosen_from(write: Any) -> None:
    path = write(
        line(model="a", run="r1"),
        line(model="a", run="r2"),
        line(model="b"),
        line(model="b", dataset="e"),
    )
    with pytest.raises(UsageError, match=r"several models \(a, b\); choose one with model="):
        Stored.open(path)
    with pytest.raises(UsageError, match=r"several runs \(r1, r2\); choose one with run="):
        Stored.open(path, model="a")
    with pytest.raises(UsageError, match=r"several datasets \(d, e\); choose one with dataset="):
        Stored.open(path, model="b")
    assert Stored.open(path, model="a", run="r2").model == "a"
    assert Stored.open(path, model="b", dataset="e").model == "b"


def test_two_decodings_are_two_arms(write: Any) -> None:
    path = write(line(decoding={"temperature": 1.0}), line(decoding={"temperature": 0.5}))
    with pytest.raises(UsageError, match="several decodings"):
        Stored.open(path)
    chosen = Stored.open(path, decoding={"temperature": 1})
    assert chosen.decoding == {"temperature": 1.0}


def test_a_choice_that_nothing_matches_names_what_there_is(write: Any) -> None:
    with pytest.raises(UsageError, match=r"no pool with model=x; the file has model: m"):
        Stored.open(write(line()), model="x")


def test_runs_and_data_sets_without_a_shared_question_are_one_arm(write: Any) -> None:
    path = write(line("q1", run="r1"), line("q2", run="r2", dataset="e"))
    backend = Stored.open(path)
    for question in ("q1", "q2"):
        assert len(run(backend.sample(request(2, 0, question))).replies) == 2


def test_samples_with_models_of_their_own_are_served_only_one_model_at_a_time(write: Any) -> None:
    samples = [{"answer": "1", "model": "a"}, {"answer": "2", "model": "b"}]
    path = write(line(model="2 models", samples=samples))
    with pytest.raises(UsageError, match=r"several models \(a, b\)"):
        Stored.open(path)
    (reply,) = run(Stored.open(path, model="b").sample(request(2))).replies
    assert reply.answer == "2"


def test_a_pool_of_several_arms_is_refused_as_one() -> None:
    arms = (SampleArm("x"), SampleArm("y"), SampleArm("x"))
    with pytest.raises(UsageError, match="models x, y of their own; they are no single arm"):
        Stored([pool(arms=arms)])


def test_the_same_pool_twice_and_no_pool_at_all_are_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        Stored([pool(), pool()])
    with pytest.raises(InputError, match="no pools"):
        Stored([])


def test_closing_twice_does_no_harm() -> None:
    backend = Stored([pool()])

    async def close() -> None:
        await backend.aclose()
        await backend.aclose()

    run(close())
