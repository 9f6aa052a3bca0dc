"""Further questions: asked once where they are equal, charged like any call, never an error."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from poise.asking import Asked, Asker, follow_up_decoding
from poise.backends import Scripted, Stored
from poise.backends.scripted import Fail, Hang, NoLogprobs
from poise.errors import RateLimited, Unauthorized
from poise.ledger import Ledger
from poise.policies import Confident, Fixed, Policy
from poise.pools import Pool
from poise.signals import SIGNALS, AskingSignal, Evidence, asking, compute
from poise.solve import Setting, solve
from poise.spend import Limits, Price
from poise.types import (
    Arm,
    Backend,
    Batch,
    Capabilities,
    FollowUp,
    Kind,
    Meter,
    Question,
    Reply,
    Request,
    Sample,
    TokenLogprobs,
    Usage,
)

ASKED = Question.ask("What is 3 + 4?", Kind.NUMBER, id="q")
YES = Reply("Yes", tokens=1, logprobs=TokenLogprobs(("Yes",), (-0.1,), ((("Yes", -0.1),),)))
TOP = ((("Yes", -0.1), ("No", -2.4)),)
ABLE = Capabilities(n=8, logprobs=20, seed=True)
SAMPLES = tuple(Sample(i, text, text) for i, text in enumerate(["7", "7", "8"]))


SHAPING = (
    *("guided_json", "guided_choice", "structured_outputs", "grammar", "functions", "mirostat"),
    *("repetition_penalty", "dry_multiplier", "min_tokens", "n_predict", "max_new_tokens"),
    *("logit_bias", "seed", "anything_a_server_adds_next"),
)
"""Settings of several servers that would give a follow-up the form of an answer."""


class Sudden(Scripted):
    """Raises what no back-end should at the first follow-up; the others take their time."""

    def __init__(self, error: Exception):
        super().__init__("7", follow_ups={"p_true": YES})
        self._error, self.started, self.ended = error, 0, 0

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        if not request.follow_up:
            return await super().sample(request, meter)
        self.started += 1
        if self.started == 1:
            await asyncio.sleep(0.01)
            raise self._error
        await asyncio.sleep(0.2)
        self.ended += 1
        return await super().sample(request, meter)


@pytest.mark.parametrize("error", [RuntimeError("boom"), TimeoutError("inner")])
def test_a_defect_of_the_back_end_is_raised_when_no_call_is_under_way_any_more(
    error: Exception,
) -> None:
    async def run() -> None:
        backend, ledger = Sudden(error), Ledger(Limits(max_tokens=10_000))
        asker = Asker(ASKED, Arm(backend, {"temperature": 1}), ABLE, ledger, attempts=1)
        with pytest.raises(type(error), match=str(error)):
            await asker.ask(named("p_true"), SAMPLES, 60.0)
        assert backend.started == 2
        assert len(asyncio.all_tasks()) == 1
        assert ledger.spend.calls == 2  # both are closed, in full, as nobody knows their fate
        assert ledger.room(9_999, 0, 1) == ledger.room(9_999, 0, 1, once_settled=True) > 0
        await asyncio.sleep(0.25)
        assert backend.ended == 0

    asyncio.run(run())


def test_room_that_other_questions_hold_is_waited_for() -> None:
    async def run() -> Asked:
        budget = Ledger(Limits(max_tokens=400))
        held = budget.reserve(1, 100, 250)
        backend = Scripted("7", follow_ups={"p_true": YES})
        arm = Arm(backend, {"temperature": 1})
        asker = Asker(ASKED, arm, ABLE, Ledger(parent=budget), attempts=1)
        asking_now = asyncio.create_task(asker.ask(named("p_true"), SAMPLES[:1]))
        await asyncio.sleep(0.05)
        assert not asking_now.done()
        assert backend.calls == []
        budget.settle(held, Usage(10, 10), 1)
        return await asking_now

    asked = asyncio.run(run())
    assert asked.missing == {}
    assert asked.samples[0].followups["p_true"].text == "Yes"


def test_room_that_nobody_will_give_back_is_not_waited_for_and_the_deadline_ends_waiting() -> None:
    spent = Ledger(Limits(max_tokens=400))
    spent.settle(spent.reserve(1, 100, 250), Usage(100, 250), 1)
    backend = Scripted("7", follow_ups={"p_true": YES})
    asked = ask(backend, "p_true", ledger=Ledger(parent=spent))
    assert "cap on tokens" in asked.missing["p_true"]
    held = Ledger(Limits(max_tokens=400))
    held.reserve(1, 100, 250)
    asked = ask(backend, "p_true", ledger=Ledger(parent=held), seconds_left=0.05)
    assert asked.missing == {"p_true": "the deadline came first"}


@pytest.mark.parametrize("listed", [0, 1])
def test_a_server_that_lists_fewer_than_two_alternatives_is_not_asked_for_them(listed: int) -> None:
    backend = Scripted("7", follow_ups={"p_true": YES, "stated": "85"})
    asked = ask(backend, "p_true", "stated", able=replace(ABLE, logprobs=listed))
    assert asked.missing == {
        "p_true": f"the server lists {listed} alternatives a token, and two are needed"
    }
    assert {call.follow_up[0] for call in backend.calls if call.follow_up} == {"stated"}


@pytest.mark.parametrize("kept", [{"version": 99}, {}, {"version": 1, "asked": "yesterday"}])
def test_a_stored_reply_keeps_what_is_stored_with_it_and_gets_no_version(
    kept: dict[str, Any],
) -> None:
    reply = FollowUp("Yes", TokenLogprobs(("Yes",), (-0.1,), TOP), kept)
    pool = Pool("d", "m", "q", (replace(SAMPLES[0], followups={"p_true": reply}),))
    stored = Stored([pool])
    assert asyncio.run(stored.capabilities()).logprobs == 2
    asked = ask(stored, "p_true", samples=SAMPLES[:1], able=asyncio.run(stored.capabilities()))
    assert asked.samples[0].followups["p_true"].extra == kept
    values, missing = compute(["p_true"], Evidence.single(asked.samples[0]))
    assert (values["p_true"] is None) == (kept.get("version") == 99)
    assert ("wording 99" in missing.get("p_true", "")) == (kept.get("version") == 99)


def named(*names: str) -> tuple[AskingSignal, ...]:
    return asking(names)


def ask(
    backend: Backend,
    *names: str,
    samples: tuple[Sample, ...] = SAMPLES,
    ledger: Ledger | None = None,
    able: Capabilities = ABLE,
    **more: Any,
) -> Asked:
    asker = Asker(ASKED, Arm(backend, {"temperature": 1}), able, ledger or Ledger(), attempts=3)
    return asyncio.run(asker.ask(named(*names), samples, **more))


def test_equal_questions_are_asked_once_and_the_reply_is_shared() -> None:
    backend, ledger = Scripted("7", follow_ups={"p_true": YES}), Ledger()
    asked = ask(backend, "p_true", ledger=ledger)
    assert len(backend.calls) == 2
    assert [sample.followups["p_true"].text for sample in asked.samples] == ["Yes"] * 3
    assert (ledger.spend.calls, ledger.spend.samples) == (2, 0)
    assert asked.missing == {}
    about = {call.follow_up for call in backend.calls}
    assert about == {("p_true", 0), ("p_true", 2)}


def test_a_follow_up_is_decoded_greedily_and_keeps_the_servers_own_switches() -> None:
    decoding = {
        "temperature": 0.8,
        "top_p": 0.9,
        "stop": ["\n"],
        "max_tokens": 512,
        "response_format": {"type": "json_object"},
        "chat_template_kwargs": {"enable_thinking": False},
        **dict.fromkeys(SHAPING, 1),
    }
    assert follow_up_decoding(decoding, 1) == {
        "temperature": 0.0,
        "max_tokens": 1,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_what_was_replied_is_not_asked_again() -> None:
    known = {"p_true": FollowUp("Yes", YES.logprobs, {"version": 1})}
    backend = Scripted("7", follow_ups={"p_true": YES})
    asked = ask(backend, "p_true", samples=tuple(replace(s, followups=known) for s in SAMPLES))
    assert backend.calls == []
    assert asked.samples[0].followups == known


def test_unreadable_samples_are_not_asked_about() -> None:
    backend = Scripted("7", follow_ups={"p_true": YES})
    unread = (Sample(0, "?", None, "no number"),)
    assert ask(backend, "p_true", samples=unread).samples == unread
    assert backend.calls == []


def test_a_cap_on_samples_does_not_count_them_and_a_cap_on_tokens_does() -> None:
    backend = Scripted("7", follow_ups={"p_true": YES})
    free = ask(backend, "p_true", ledger=Ledger(Limits(max_samples=1)))
    assert free.missing == {}
    tight = ask(backend, "p_true", ledger=Ledger(Limits(max_tokens=50)))
    assert "cap on tokens" in tight.missing["p_true"]
    assert all(not sample.followups for sample in tight.samples)


def test_a_cap_above_holds_as_well() -> None:
    parent = Ledger(Limits(max_usd=1e-9), Price("2026-01-01", 1.0, 1.0))
    ledger = Ledger(price=Price("2026-01-01", 1.0, 1.0), parent=parent)
    backend = Scripted("7", follow_ups={"p_true": YES})
    assert "cap on usd" in ask(backend, "p_true", ledger=ledger).missing["p_true"]
    assert backend.calls == []


def test_a_server_without_log_probabilities_is_not_asked_for_them() -> None:
    backend = Scripted("7", follow_ups={"p_true": YES})
    asked = ask(backend, "p_true", able=replace(ABLE, logprobs=None))
    assert asked.missing == {"p_true": "the server returns no log-probabilities"}
    assert backend.calls == []


def test_a_failure_is_tried_again_and_in_the_end_missing() -> None:
    one = (Sample(0, "7", "7"),)
    ledger = Ledger()
    once = Scripted("7", follow_ups={"p_true": YES}, faults=[Fail(RateLimited, retry_after=0.001)])
    assert ask(once, "p_true", samples=one, ledger=ledger).missing == {}
    assert ledger.spend.calls == 2
    never = Scripted("7", follow_ups={"p_true": YES}, faults=lambda *_: Fail(Unauthorized))
    assert "Unauthorized" in ask(never, "p_true", samples=one).missing["p_true"]


def test_the_deadline_cuts_them_and_what_was_sent_is_charged() -> None:
    ledger = Ledger(Limits(max_tokens=10_000))
    backend = Scripted("7", follow_ups={"p_true": YES}, faults=lambda *_: Hang())
    asked = ask(backend, "p_true", ledger=ledger, seconds_left=0.05)
    assert asked.missing == {"p_true": "the deadline came first"}
    assert backend.in_flight == 0
    assert backend.cancelled == 2
    assert ledger.spend.estimated


def test_a_stored_pool_serves_the_replies_it_holds_and_no_others() -> None:
    kept = {"p_true": FollowUp("Yes", YES.logprobs)}
    samples = (replace(SAMPLES[0], followups=kept), SAMPLES[2])
    pool = Pool("d", "m", "q", tuple(replace(s, index=i) for i, s in enumerate(samples)))
    drawn = (Sample(0, "7", "7"), Sample(1, "8", "8"))
    asked = ask(Stored([pool]), "p_true", samples=drawn)
    assert asked.samples[0].followups["p_true"].text == "Yes"
    assert "holds no reply to p_true about sample 1" in asked.missing["p_true"]


def test_solve_asks_about_every_sample_where_it_is_told_to() -> None:
    backend = Scripted(
        ["7", "8", "7"], follow_ups={"p_true": YES, "stated_band": "8", "stated": "85"}
    )
    setting = Setting(ask=named("p_true", "stated_band", "stated"))
    arm = Arm(backend, {"temperature": 1})
    result = asyncio.run(solve(ASKED, arm, Policy(Fixed(3)), setting))
    assert [set(sample.followups) for sample in result.samples] == [{"p_true", "stated"}] * 3
    assert result.followups["stated_band"].text == "8"
    follow_ups = [call for call in backend.calls if call.follow_up]
    assert len(follow_ups) == 2 + 2 + 1
    assert result.spend.calls == len(backend.calls)
    assert result.n_samples == result.spend.samples == 3


def test_no_fault_of_a_follow_up_costs_the_answer() -> None:
    def faults(request: Request, _: int) -> Any:
        return Fail(Unauthorized) if request.follow_up else None

    backend = Scripted("7", follow_ups={"p_true": YES}, faults=faults)
    setting = Setting(ask=named("p_true"), attempts=1)
    result = asyncio.run(solve(ASKED, Arm(backend, {"temperature": 1}), Policy(Fixed(2)), setting))
    assert (result.answer, result.stop.value) == ("7", "fixed")
    assert result.error is None


def test_a_reply_without_the_log_probabilities_is_kept_and_reads_as_missing() -> None:
    backend = Scripted("7", follow_ups={"p_true": "Yes"}, faults=lambda *_: NoLogprobs())
    asked = ask(backend, "p_true")
    assert asked.samples[0].followups["p_true"].logprobs is None


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_a_signal_is_asked_for_exactly_where_it_needs_a_reply(name: str) -> None:
    found = asking([name])
    assert [one.name for one in found if one.name not in SIGNALS[name].needs] == []
    own = SIGNALS[name.removeprefix("leader_")]
    assert bool(found) == (isinstance(own, AskingSignal) or name == "soft_self_consistency")


def test_a_rule_that_reads_p_true_asks_once_for_samples_that_agree() -> None:
    top = (("Yes", math.log(0.95)), ("No", math.log(0.05)))
    sure_reply = Reply("Yes", tokens=1, logprobs=TokenLogprobs(("Yes",), (top[0][1],), (top,)))
    backend = Scripted(["7", "8", "7", "7"], follow_ups={"p_true": sure_reply})
    policy = Policy(Confident(threshold=0.9999, max_samples=4))
    arm = Arm(backend, {"temperature": 1})
    result = asyncio.run(solve(ASKED, arm, policy))
    assert result.n_samples == 4
    assert [call.follow_up for call in backend.calls if call.follow_up] == [
        ("p_true", 0),
        ("p_true", 1),
    ]
    assert all("p_true" in sample.followups for sample in result.samples)
    sure = asyncio.run(solve(ASKED, arm, Policy(Confident(threshold=0.9, max_samples=4))))
    assert sure.n_samples == 1
