"""What is kept of a decision: numbers and keyed hashes, and content only where that was asked for.

Votes are kept as the cluster of each sample, so that policies can be replayed on real traffic
without a word of it. It does not know how rows are written.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from poise.further import Further
from poise.serve.keys import Caller
from poise.serve.planning import Plan
from poise.store import Decision
from poise.types import Result

__all__ = ["audit_row", "decision_row"]

KNOWN = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "typical_p", "max_tokens", "seed", "n"}
    | {"presence_penalty", "frequency_penalty", "repetition_penalty", "repeat_penalty"}
    | {"reasoning_effort", "parallel_tool_calls", "tools", "tool_choice", "response_format", "stop"}
)
"""Settings of a decoding that are kept; of those that may hold words only that they were stated."""


def decision_row(
    plan: Plan,
    result: Result,
    caller: Caller,
    secret: bytes,
    *,
    created: float,
    mode: str,
    propensity: float | None = None,
    parent: str | None = None,
    content: bool = False,
) -> Decision:
    """The row of one decision; ``propensity``: the chance it had of being drawn to the cap."""
    profile = result.profile or {}
    return Decision(
        id=result.id,
        created=created,
        alias=plan.served.name,
        key=caller.name,
        model=result.model,
        engine=plan.arm.backend.engine,
        kind=None if result.kind is None else result.kind.value,
        mode=mode,
        decision=result.decision,
        stop=result.stop.value,
        probability=result.probability,
        calibrated=result.calibrated,
        reason=_plain(result),
        profile_id=profile.get("id"),
        profile_version=profile.get("version"),
        n_samples=result.n_samples,
        clusters=result.clusters,
        signals=result.signals,
        missing=dict.fromkeys(result.missing, "missing") if not content else result.missing,
        prompt_hmac=_hashed(plan.question.id, secret),
        answer_hmac=_hashed(result.answer, secret),
        decoding=_settings(result.decoding),
        spend=result.spend,
        rounds=result.rounds,
        seconds=result.spend.seconds,
        propensity=propensity,
        parent=parent,
        content=_content(plan, result) if content else None,
    )


def audit_row(live: Decision, id: str, whole: Result, further: Further, *, wanted: int) -> Decision:
    """The row of the same question drawn on to the cap, beside the decision it belongs to.

    ``stop`` says whether it got there: fixed, or budget or error where fewer than ``wanted`` came.
    """
    short = "budget" if further.error is None else "error"
    return replace(
        live,
        id=id,
        mode="audit",
        stop="fixed" if len(further.samples) >= wanted else short,
        parent=live.id,
        n_samples=live.n_samples + len(further.samples),
        clusters=(*live.clusters, *further.clusters),
        probability=None,
        calibrated=False,
        reason="drawn to the cap whatever the policy says",
        spend=further.spend,
        seconds=further.spend.seconds,
        content=None if live.content is None else _texts(live.content, whole, further),
    )


def _plain(result: Result) -> str | None:
    """The reason without what a server may have said: that can hold words of the prompt."""
    if result.error is not None and not result.samples:
        return type(result.error).__name__
    return result.reason


def _hashed(answer: str | None, secret: bytes) -> str | None:
    if answer is None:
        return None
    return hmac.new(secret, answer.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:16]


def _settings(decoding: Mapping[str, Any]) -> dict[str, Any]:
    """A decoding's numbers and switches by known names; of anything else how many there were.

    A client may put anything under any name, so only names from a list are kept.
    """
    kept = {
        name: value if isinstance(value, int | float | bool | None) else "(stated)"
        for name, value in decoding.items()
        if name in KNOWN
    }
    others = len(decoding) - len(kept)
    return {**kept, "(others)": others} if others else kept


def _content(plan: Plan, result: Result) -> dict[str, Any]:
    return {
        "messages": [dict(message) for message in plan.question.messages],
        "options": plan.question.options,
        "answer": result.answer,
        "texts": [sample.text for sample in result.samples],
    }


def _texts(content: Mapping[str, Any], whole: Result, further: Further) -> dict[str, Any]:
    texts = [sample.text for sample in (*whole.samples, *further.samples)]
    return {**content, "texts": texts}
