"""The loop: the prefix in dispatch order decides, whatever finishes first, fails or is cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.answers.clusters import Clusters
from poise.backends import Scripted
from poise.backends.scripted import Fail, Hang, Miscount
from poise.dispatch import derive_seed
from poise.errors import MalformedReply, Rejected, ServerFault, UsageError
from poise.ledger import Ledger
from poise.policies import Beta, Fixed, Policy, StopRule, Window
from poise.solve import Setting, solve, solve_many, solve_sync
from poise.spend import Limits, Price
from poise.types import (
    Arm,
    Capabilities,
    Draw,
    Kind,
    Prompt,
    Question,
    Request,
    Result,
    State,
    Stop,
    StopReason,
)

ASKED = Question.ask("What is 2 + 2?", Kind.NUMBER, id="q")
DECODING = {"temperature": 0.8, "max_tokens": 20}
ONE_A_REQUEST = Capabilities(n=1, logprobs=20, seed=True)


def arm(backend: Scripted) -> Arm:
    return Arm(backend, DECODING)


def solved(
    backend: Scripted,
    stop: StopRule,
    setting: Setting = Setting(),
    question: Question = ASKED,
) -> Result:
    return asyncio.run(solve(question, arm(backend), Policy(stop), setting))


@dataclass(frozen=True)
class FirstTo:
    """A third party's rule: stop when one answer has ``votes``; keeps ``ahead`` draws running."""

    votes: int
    ahead: int
    max_samples: int
    needs: tuple[str, ...] = ()

    def decide(self, state: State) -> Draw | Stop:
        if state.top_two[0] >= self.votes:
            return Stop(StopReason.CONSENSUS)
        if state.n >= self.max_samples:
            return Stop(StopReason.BUDGET)
        return Draw(min(self.ahead, self.max_samples - state.n))

    def stops(self, prefixes: np.ndarray) -> np.ndarray:
        return np.array([self._stop(row) for row in prefixes])

    def _stop(self, row: np.ndarray) -> int:
        for n in range(len(row) + 1):
            if n and np.bincount(row[:n][row[:n] >= 0], minlength=1).max() >= self.votes:
                return n
        return len(row)


# -- the prefix decides -------------------------------------------------------------------------

RULES = st.sampled_from(
    [Fixed(8), Beta(0.9, 12), Beta(0.75, 12), Window(3, 12), FirstTo(3, 7, 12), FirstTo(2, 12, 12)]
)


@given(
    texts=st.lists(st.sampled_from(["1", "2", "3", "who knows"]), min_size=12, max_size=12),
    order=st.permutations(range(12)),
    rule=RULES,
    n=st.sampled_from([1, 3, 12]),
)
@settings(deadline=None, max_examples=60)
def test_the_stop_is_that_of_the_rule_on_the_prefix_whatever_the_finish_order(
    texts: list[str], order: list[int], rule: StopRule, n: int
) -> None:
    backend = Scripted(
        texts,
        latency=lambda _request, index: 0.0005 * order[index],
        capabilities=replace(ONE_A_REQUEST, n=n),
    )
    result = solved(backend, rule)
    clusters = Clusters(Kind.NUMBER)
    for text in texts:
        clusters.add(text if text.isdigit() else None)
    codes = [-1 if c is None else c for c in clusters.clusters]
    expected = int(rule.stops(np.array([codes], dtype=np.int32))[0])
    assert result.n_samples == expected
    assert [s.text for s in result.samples] == texts[:expected]
    votes = {a: sum(t == a for t in texts[:expected]) for a in texts[:expected] if a.isdigit()}
    assert result.votes == votes
    assert result.answer == (max(votes, key=lambda a: votes[a]) if votes else None)


def draws(seed: int, questions: int, k: int) -> dict[str, list[str]]:
    """Draws that are right ("1") four times in ten; the wrong ones agree with each other."""
    rng = random.Random(seed)
    return {
        str(q): ["1" if rng.random() < 0.4 else "2" for _ in range(k)] for q in range(questions)
    }


async def accuracy(script: dict[str, list[str]], order: str) -> float:
    """Share of right answers when right replies finish first, three agreeing samples decide."""

    def latency(request: Request, index: int) -> float:
        return 0.001 if script[request.question_id][index] == "1" else 0.15

    backend = Scripted(script, latency=latency, capabilities=ONE_A_REQUEST)
    questions = [replace(ASKED, id=q) for q in script]
    rule, setting = FirstTo(3, 5, 9), Setting(order=order)  # type: ignore[arg-type]
    stream = solve_many(questions, arm(backend), Policy(rule), setting, concurrency=40)
    return float(np.mean([result.answer == "1" async for _, result in stream]))


def test_completion_order_is_biased_and_dispatch_order_is_not() -> None:
    """Truth: what one would get by drawing one at a time. Right answers finish first here."""
    script = draws(seed=5, questions=200, k=9)

    def sequential(texts: list[str]) -> bool:
        return next(t for i, t in enumerate(texts) if texts[: i + 1].count(t) >= 3 or i == 8) == "1"

    truth = float(np.mean([sequential(texts) for texts in script.values()]))
    assert asyncio.run(accuracy(script, "dispatch")) == truth
    biased = asyncio.run(accuracy(script, "completion"))
    noise = (truth * (1 - truth) / len(script)) ** 0.5
    assert biased > truth + 5 * noise


def test_completion_order_is_another_arm() -> None:
    backend = Scripted("4")
    assert "order" not in solved(backend, Fixed(2)).decoding
    assert solved(backend, Fixed(2), Setting(order="completion")).decoding["order"] == "completion"


# -- draws are draws ----------------------------------------------------------------------------


def test_every_request_has_its_own_seed_and_a_repeated_run_has_the_same_ones() -> None:
    def seeds(seed: int) -> list[int | None]:
        backend = Scripted("4", capabilities=ONE_A_REQUEST)
        solved(backend, Fixed(16), Setting(seed=seed))
        return [call.seed for call in sorted(backend.calls, key=lambda call: call.first_index)]

    assert len(set(seeds(0))) == 16
    assert seeds(0) == seeds(0)
    assert not set(seeds(0)) & set(seeds(1))


@given(st.integers(), st.text(max_size=20), st.integers(0, 10_000))
def test_seeds_fit_the_signed_32_bits_that_servers_take(seed: int, id: str, index: int) -> None:
    assert 0 <= derive_seed(seed, id, index) < 2**31


def test_no_seed_is_sent_where_it_would_not_be_honoured() -> None:
    backend = Scripted("4", capabilities=Capabilities(n=4, seed=False))
    solved(backend, Fixed(4))
    assert [call.seed for call in backend.calls] == [None]


@pytest.mark.parametrize(
    ("decoding", "kind", "word"),
    [
        ({"temperature": 0, "max_tokens": 5}, Kind.NUMBER, "temperature 0"),
        ({"temperature": 1, "seed": 7, "max_tokens": 5}, Kind.NUMBER, "fixed seed"),
        (DECODING, None, "open chat"),
    ],
)
def test_where_agreement_would_mean_nothing_one_sample_is_drawn_and_the_reason_given(
    decoding: dict[str, float], kind: Kind | None, word: str
) -> None:
    backend = Scripted("4")
    question = Question.ask("Well?", kind)
    result = asyncio.run(solve(question, Arm(backend, decoding), Policy(Beta())))
    assert (result.n_samples, result.stop) == (1, StopReason.SINGLE)
    assert result.signals == {"agreement": None}
    assert word in result.missing["agreement"]
    assert (result.text, result.decision) == ("4", "answer")
    assert result.probability is None
    assert not result.calibrated


def test_an_unreadable_sample_is_drawn_and_never_votes() -> None:
    result = solved(Scripted(["no idea", "4", "no idea", "no idea"]), Fixed(4))
    assert (result.answer, result.n_samples, result.votes) == ("4", 4, {"4": 1})
    assert result.signals["agreement"] == 0.25
    assert [s.answer for s in result.samples] == [None, "4", None, None]
    assert all(s.unread for s in result.samples if s.answer is None)


def test_nothing_readable_is_an_abstention_with_the_reason() -> None:
    result = solved(Scripted("no idea"), Fixed(3))
    assert (result.answer, result.text, result.decision) == (None, None, "abstain")
    assert "readable" in str(result.reason)


def test_equivalent_mathematics_votes_together() -> None:
    question = Question.ask("What is one half?", Kind.MATH)
    result = solved(Scripted(["\\frac{1}{2}", "0.5", "2"]), Fixed(3), question=question)
    assert sorted(result.votes.values()) == [1, 2]


def test_the_prompt_of_the_arm_is_what_is_sent() -> None:
    backend = Scripted("4")
    prompt = Prompt("Be brief.", {Kind.NUMBER: (("What is 3 + 4?", "3 + 4 = 7"),)})
    asyncio.run(solve(ASKED, Arm(backend, DECODING, prompt), Policy(Fixed(1))))
    (call,) = backend.calls
    assert [m["role"] for m in call.messages] == ["system", "user", "assistant", "user"]
    assert call.messages[-1]["content"] == "What is 2 + 2?"


# -- cancelling, deadlines ----------------------------------------------------------------------


def test_what_is_no_longer_needed_is_cancelled_and_charged_as_far_as_it_got() -> None:
    backend = Scripted(
        lambda _request, _index: "so it is 4",
        latency=lambda _request, index: 0.01 if index < 2 else 30.0,
        capabilities=ONE_A_REQUEST,
    )
    result = solved(backend, FirstTo(2, 6, 6))
    assert (result.n_samples, backend.cancelled, backend.in_flight) == (2, 4, 0)
    assert result.spend.estimated
    assert result.spend.calls == 6
    assert result.spend.samples == 2
    assert result.spend.cancelled_tokens < 4 * 4


def test_a_rule_that_draws_no_more_than_it_needs_cancels_nothing() -> None:
    backend = Scripted(["4", "5", "4", "4", "4", "4", "4", "4"], capabilities=ONE_A_REQUEST)
    result = solved(backend, Beta(0.95, 40))
    assert (result.n_samples, result.stop, backend.cancelled) == (7, StopReason.SURE, 0)
    assert not result.spend.estimated
    assert result.spend.cancelled_tokens == 0


def test_the_deadline_ends_sampling_with_what_the_prefix_holds() -> None:
    backend = Scripted(
        "4", latency=lambda _r, index: 30.0 if index == 2 else 0.001, capabilities=ONE_A_REQUEST
    )
    setting = Setting(limits=Limits(max_seconds=0.3))
    result = solved(backend, Fixed(8), setting)
    assert (result.stop, result.answer) == (StopReason.DEADLINE, "4")
    assert result.n_samples == 2  # the third is missing, so the five behind it cannot count
    assert result.spend.seconds < 5
    assert backend.in_flight == 0


def test_the_deadline_holds_on_first_contact() -> None:
    class Silent(Scripted):
        async def capabilities(self) -> Capabilities:
            await asyncio.sleep(30)
            return await super().capabilities()

    result = solved(Silent("4"), Fixed(2), Setting(limits=Limits(max_seconds=0.2)))
    assert result.stop is StopReason.DEADLINE
    assert result.spend.seconds < 5


def test_a_back_end_that_hangs_gives_a_result_at_the_deadline() -> None:
    backend = Scripted("4", faults=lambda _request, _tried: Hang())
    result = solved(backend, Beta(), Setting(limits=Limits(max_seconds=0.2)))
    assert (result.stop, result.decision, result.n_samples) == (StopReason.DEADLINE, "abstain", 0)
    assert "deadline" in str(result.reason)


def test_cancelling_solve_cancels_its_calls() -> None:
    backend = Scripted("4", latency=30.0, capabilities=ONE_A_REQUEST)

    async def give_up() -> None:
        task = asyncio.create_task(solve(ASKED, arm(backend), Policy(Fixed(5))))
        await asyncio.sleep(0.05)
        assert backend.in_flight == 5
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert (backend.in_flight, backend.cancelled) == (0, 5)


# -- failures -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_retries")
def test_a_retryable_failure_is_tried_again_and_every_attempt_is_charged() -> None:
    backend = Scripted("4", faults=[Fail(ServerFault), Fail(ServerFault), None])
    result = solved(backend, Fixed(4), Setting(limits=Limits(max_samples=12)))
    assert (result.n_samples, result.stop, len(backend.calls)) == (4, StopReason.FIXED, 3)
    assert result.spend.calls == 3
    assert result.spend.estimated


@pytest.mark.usefixtures("quick_retries")
def test_attempts_of_unknown_fate_use_up_the_cap() -> None:
    """Two attempts may have generated four samples each; a cap of 8 leaves no third."""
    backend = Scripted("4", faults=lambda _request, _tried: Fail(ServerFault))
    result = solved(backend, Fixed(4), Setting(limits=Limits(max_samples=8)))
    assert len(backend.calls) == 2
    assert (result.stop, result.decision) == (StopReason.BUDGET, "abstain")


@pytest.mark.usefixtures("quick_retries")
def test_a_server_that_is_busy_when_asked_what_it_can_do_is_asked_again() -> None:
    class Busy(Scripted):
        asked = 0

        async def capabilities(self) -> Capabilities:
            self.asked += 1
            if self.asked < 3:
                raise ServerFault("starting up")
            return await super().capabilities()

    backend = Busy("4")
    assert solved(backend, Fixed(2)).n_samples == 2
    assert backend.asked == 3


def test_a_rejected_request_is_not_repeated_and_the_reason_is_given() -> None:
    backend = Scripted("4", faults=lambda _request, _tried: Fail(Rejected))
    result = solved(backend, Fixed(4))
    assert len(backend.calls) == 1
    assert (result.stop, result.answer, result.decision) == (StopReason.ERROR, None, "abstain")
    assert "Rejected" in str(result.reason)
    assert isinstance(result.error, Rejected)


def test_one_failed_call_leaves_the_others_and_is_reported() -> None:
    def faults(request: Request, _tried: int) -> Fail | None:
        return Fail(Rejected) if request.first_index == 1 else None

    backend = Scripted("4", faults=faults, capabilities=ONE_A_REQUEST)
    result = solved(backend, Fixed(4))
    assert (result.n_samples, result.answer, result.stop) == (3, "4", StopReason.ERROR)
    assert "Rejected" in result.missing["samples"]


@pytest.mark.usefixtures("quick_retries")
def test_a_draw_that_keeps_failing_is_replaced_by_another() -> None:
    def faults(request: Request, _tried: int) -> Fail | None:
        return Fail(ServerFault) if request.first_index == 1 else None

    backend = Scripted("4", faults=faults, capabilities=ONE_A_REQUEST)
    result = solved(backend, Fixed(4))
    assert (result.n_samples, result.stop) == (4, StopReason.FIXED)
    assert [s.index for s in result.samples] == [0, 2, 3, 4]


def test_a_server_that_gives_fewer_choices_than_asked_is_asked_again_for_the_rest() -> None:
    backend = Scripted("4", faults=lambda request, _t: Miscount(1) if request.n > 1 else None)
    result = solved(backend, Fixed(4))
    assert (result.n_samples, result.stop) == (4, StopReason.FIXED)
    assert isinstance(result.error, MalformedReply)
    assert "asked for" in result.missing["samples"]


@pytest.mark.usefixtures("quick_retries")
def test_more_choices_than_asked_are_not_counted_as_draws() -> None:
    backend = Scripted("4", faults=lambda _request, _tried: Miscount(9))
    assert solved(backend, Fixed(4)).n_samples == 4


@pytest.mark.usefixtures("quick_retries")
def test_an_empty_reply_is_a_failure_not_a_loop() -> None:
    backend = Scripted("4", faults=lambda _request, _tried: Miscount(0))
    result = solved(backend, Fixed(4))
    assert result.stop is StopReason.ERROR
    assert len(backend.calls) <= 12


def test_a_pool_that_runs_out_ends_as_a_budget_does() -> None:
    result = solved(Scripted(["4", "5", "6"]), Fixed(8))
    assert (result.n_samples, result.stop) == (3, StopReason.BUDGET)


# -- caps ---------------------------------------------------------------------------------------


@given(
    faulty=st.sets(st.integers(0, 30), max_size=12),
    cap=st.integers(1, 20),
    tokens=st.integers(50, 3000),
    n=st.sampled_from([1, 4]),
)
@settings(deadline=None, max_examples=60)
def test_no_cap_is_passed_whatever_fails(faulty: set[int], cap: int, tokens: int, n: int) -> None:
    """The script generates a call's maximum even where the call fails: caps hold all the same."""
    backend = Scripted(
        " ".join(["4"] * 20),
        faults=[Fail(ServerFault, after_tokens=3) if i in faulty else None for i in range(31)],
        capabilities=replace(ONE_A_REQUEST, n=n),
    )
    setting = Setting(limits=Limits(max_samples=cap, max_tokens=tokens), attempts=1)
    result = solved(backend, Fixed(16), setting)
    generated = sum(call.n for call in backend.calls)
    prompt = sum(len(str(m["content"]).split()) for m in backend.calls[0].messages) if (
        backend.calls
    ) else 0  # fmt: skip
    assert generated <= cap
    assert generated * (20 + prompt) <= tokens
    assert result.n_samples <= cap


def test_a_cap_in_dollars_needs_the_arm_to_have_a_price() -> None:
    budget = Ledger(Limits(max_usd=1.0), Price("2026-11-01", 1e-6, 1e-6))
    with pytest.raises(UsageError, match="price"):
        asyncio.run(solve(ASKED, arm(Scripted("4")), Policy(Fixed(2)), budget=budget))


@pytest.mark.parametrize(
    ("part", "bounded"),
    [
        ({"type": "text", "text": "What is 7 + 5?"}, True),
        ({"type": "image_url", "image_url": {"url": "data:,"}}, False),
    ],
)
def test_text_in_parts_is_bounded_under_a_cap_and_pictures_are_not(
    part: dict[str, object], bounded: bool
) -> None:
    question = Question("q", ({"role": "user", "content": [part]},), Kind.NUMBER)
    arm = Arm(Scripted("12"), DECODING)
    work = solve(question, arm, Policy(Fixed(2)), Setting(limits=Limits(max_tokens=5000)))
    if bounded:
        assert asyncio.run(work).answer == "12"
        return
    with pytest.raises(UsageError, match="plain text"):
        asyncio.run(work)


def test_tokens_cannot_be_capped_without_a_bound_on_replies() -> None:
    setting = Setting(limits=Limits(max_tokens=100))
    with pytest.raises(UsageError, match="max_tokens"):
        asyncio.run(solve(ASKED, Arm(Scripted("4"), {"temperature": 1}), Policy(Fixed(2)), setting))


def test_the_number_of_draws_is_not_the_decodings_to_say() -> None:
    with pytest.raises(UsageError, match="stop rule"):
        asyncio.run(solve(ASKED, Arm(Scripted("4"), {**DECODING, "n": 3}), Policy(Fixed(2))))


def test_every_call_is_announced_before_it_is_sent() -> None:
    backend = Scripted("4", capabilities=ONE_A_REQUEST)
    seen: list[tuple[str, int, int]] = []
    setting = Setting(
        on_reserve=lambda asked, held: seen.append((asked, held.samples, len(backend.calls)))
    )
    solved(backend, Fixed(3), setting)
    assert [(asked, samples) for asked, samples, _ in seen] == [("q", 1)] * 3
    assert all(sent <= place for place, (_, _, sent) in enumerate(seen))


# -- wrappers -----------------------------------------------------------------------------------


def test_the_blocking_form_works_also_inside_a_running_loop() -> None:
    def ask() -> str | None:
        return solve_sync(ASKED, arm(Scripted("4")), Policy(Fixed(2))).answer

    async def outer(work: Callable[[], str | None]) -> str | None:
        return work()

    assert ask() == "4"
    assert asyncio.run(outer(ask)) == "4"
