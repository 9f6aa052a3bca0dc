"""The ledger: what is reserved, settled, forfeited, and that no cap is ever passed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from poise.errors import CapReached, UsageError
from poise.ledger import Ledger, Reservation
from poise.spend import Limits, Price, Spend, Usage, prompt_bound

PRICE = Price("2026-11-01", prompt=1e-6, completion=4e-6, cached=5e-7)

counts = st.none() | st.integers(0, 10_000)
spends = st.builds(
    Spend,
    calls=st.integers(0, 50),
    samples=st.integers(0, 50),
    prompt_tokens=counts,
    completion_tokens=counts,
    cancelled_tokens=st.integers(0, 100),
    estimated=st.booleans(),
)


class CappedLedger(RuleBasedStateMachine):
    """A server may use anything up to the bound; whatever happens, the true use stays capped."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = Ledger(Limits(max_samples=40, max_tokens=9_000, max_usd=0.02), PRICE)
        self.part = Ledger(Limits(max_samples=25, max_tokens=6_000), PRICE, self.whole)
        self.open: list[Reservation] = []
        self.true = {"samples": 0, "tokens": 0, "usd": 0.0}

    @rule(n=st.integers(1, 8), prompt=st.integers(1, 200), reply=st.integers(1, 400))
    def reserve(self, n: int, prompt: int, reply: int) -> None:
        room = self.part.room(n, prompt, reply)
        assert 0 <= room <= n
        if room < n:
            with pytest.raises(CapReached):
                self.part.reserve(n, prompt, reply)
        if room:
            self.open.append(self.part.reserve(room, prompt, reply))

    def _use(self, held: Reservation, share: float) -> Usage:
        prompt, reply = held.prompt_tokens, math.floor(held.completion_tokens * share)
        self.true["samples"] += held.samples
        self.true["tokens"] += prompt + reply
        self.true["usd"] += prompt * PRICE.prompt + reply * PRICE.completion
        return Usage(prompt, reply)

    @precondition(lambda self: self.open)
    @rule(share=st.floats(0, 1), reported=st.booleans())
    def settle(self, share: float, reported: bool) -> None:
        held = self.open.pop()
        usage = self._use(held, share)
        self.part.settle(held, usage if reported else Usage(None, None, None, None, estimated=True),
                         held.samples)  # fmt: skip

    @precondition(lambda self: self.open)
    @rule(share=st.floats(0, 1), seen=st.floats(0, 1))
    def cut(self, share: float, seen: float) -> None:
        held = self.open.pop(0)
        usage = self._use(held, share)
        self.part.forfeit(held, math.floor((usage.completion_tokens or 0) * seen))

    @precondition(lambda self: self.open)
    @rule()
    def refuse(self) -> None:
        self.part.release(self.open.pop())

    @invariant()
    def no_cap_is_passed(self) -> None:
        assert self.true["samples"] <= 25
        assert self.true["tokens"] <= 6_000
        assert self.true["usd"] <= 0.02 + 1e-12

    @invariant()
    def parent_and_part_agree(self) -> None:
        assert self.whole.spend == self.part.spend


TestCappedLedger = CappedLedger.TestCase


@given(spends, spends, spends)
def test_adding_spends_is_associative_and_has_a_neutral_element(
    a: Spend, b: Spend, c: Spend
) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + Spend() == a == Spend() + a


@given(spends)
def test_a_spend_survives_its_json(spend: Spend) -> None:
    assert Spend.from_dict(spend.to_dict()) == spend


def test_an_unknown_count_stays_unknown_when_added() -> None:
    total = Spend(calls=1, completion_tokens=None) + Spend(calls=1, completion_tokens=5)
    assert total.completion_tokens is None
    assert total.tokens is None


def test_the_caps_keep_what_the_report_does_not_charge() -> None:
    """A cancelled call may have generated its maximum; a report counts what was seen of it."""
    ledger = Ledger(Limits(max_tokens=250))
    ledger.forfeit(ledger.reserve(1, 50, 150), received_tokens=30)
    assert ledger.spend.completion_tokens == 30
    assert ledger.spend.cancelled_tokens == 30
    assert ledger.spend.estimated
    assert ledger.room(1, 50, 1) == 0  # 200 of 250 are gone as far as the cap is concerned


def test_a_call_that_was_never_sent_leaves_no_trace() -> None:
    ledger = Ledger(Limits(max_samples=2))
    ledger.release(ledger.reserve(2, 10, 10), sent=False)
    assert ledger.spend == Spend()
    assert ledger.room(2, 10, 10) == 2


def test_settling_gives_unused_room_back() -> None:
    ledger = Ledger(Limits(max_tokens=200))
    ledger.settle(ledger.reserve(1, 50, 150), Usage(20, 10), 1)
    assert ledger.room(1, 50, 120) == 1
    assert ledger.spend == Spend(1, 1, 20, 0, 10)


def test_an_unreported_count_is_charged_in_full() -> None:
    ledger = Ledger(Limits(max_tokens=200))
    ledger.settle(ledger.reserve(1, 50, 150), Usage(20, None, estimated=True), 1)
    assert ledger.room(1, 10, 20) == 1
    assert ledger.room(1, 10, 21) == 0
    assert ledger.spend.completion_tokens is None


def test_a_reservation_is_closed_once() -> None:
    ledger = Ledger()
    held = ledger.reserve(1, 1, 1)
    ledger.release(held)
    with pytest.raises(RuntimeError, match="once"):
        ledger.settle(held, Usage(1, 1), 1)


def test_the_refusal_names_the_tightest_cap() -> None:
    ledger = Ledger(Limits(max_samples=9, max_tokens=100))
    with pytest.raises(CapReached) as caught:
        ledger.reserve(3, 20, 20)
    assert caught.value.cap == "tokens"


def test_a_resumed_run_counts_what_was_spent_and_lost_before() -> None:
    ledger = Ledger(Limits(max_samples=10))
    ledger.absorb(Spend(calls=2, samples=4), held_tokens=0, held_samples=3)
    assert ledger.room(9, 1, 1) == 3


def test_what_may_have_been_taken_survives_a_resume() -> None:
    """A cut call counts in full against the cap, also of the run that goes on later."""
    first = Ledger(Limits(max_samples=8))
    first.forfeit(first.reserve(3, 10, 100), received_tokens=20)
    then = Ledger(Limits(max_samples=8, max_tokens=500))
    then.absorb(Spend.from_dict(first.spend.to_dict()))
    assert then.room(8, 1, 1) == 5
    assert then.room(8, 50, 50) == 1  # 330 of 500 tokens may be gone


def test_cached_prompt_tokens_have_their_own_price() -> None:
    usage = Usage(prompt_tokens=100, completion_tokens=10, cached_tokens=60)
    assert PRICE.usd(usage) == pytest.approx(40 * 1e-6 + 60 * 5e-7 + 10 * 4e-6)
    assert PRICE.usd(Usage(None, 10)) is None


@given(st.text(max_size=200))
def test_the_prompt_bound_covers_a_byte_per_token_and_the_template(text: str) -> None:
    assert prompt_bound([{"role": "user", "content": text}]) >= len(text.encode()) + 64


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_cap_must_be_a_finite_number_above_zero(value: float) -> None:
    with pytest.raises(UsageError, match="max_seconds"):
        Limits(max_seconds=value)


def test_a_cap_in_dollars_needs_a_price() -> None:
    with pytest.raises(UsageError, match="price"):
        Ledger(Limits(max_usd=1.0))
