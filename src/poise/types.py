"""The nouns that flow through Poise, as frozen values.

In the order of the river: ``Kind`` · ``Question`` · ``Prompt`` · ``Price`` · ``Arm`` · ``Request``
· ``TokenLogprobs`` · ``Usage`` · ``Reply`` · ``Batch`` · ``Sample`` · ``State`` · ``Draw``,
``Stop`` (what a stop rule decides) · ``Limits`` · ``Result``. Two protocols say what the
ends of the river must offer: ``Backend`` and ``Meter``.

No noun here carries a label: gold answers and outcomes live in arrays of their own (``grading``,
``pools.Labelled``), so that nothing on the serving path can see them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from poise.spend import Limits, Price, Spend, Usage

__all__ = [
    "Arm",
    "Backend",
    "Batch",
    "Capabilities",
    "Draw",
    "Kind",
    "Limits",
    "Message",
    "Meter",
    "Price",
    "Prompt",
    "Question",
    "Reply",
    "Request",
    "Result",
    "Sample",
    "Spend",
    "State",
    "Stop",
    "StopReason",
    "TokenLogprobs",
    "Usage",
]

Message = Mapping[str, Any]
"""One chat message in OpenAI's shape: ``{"role": …, "content": …}``."""


class Kind(StrEnum):
    """What sort of answer a question wants; it decides how text is read and answers compared."""

    NUMBER = "number"
    MATH = "math"
    CHOICE = "choice"
    YESNO = "yesno"
    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Question:
    """One question, without its gold answer.

    ``kind`` None: open chat, which is never sampled adaptively. ``options``: the texts of a
    choice, first option = A. ``segment``: a group of questions that reports keep apart.
    """

    id: str
    messages: tuple[Message, ...]
    kind: Kind | None = None
    options: tuple[str, ...] | None = None
    segment: str | None = None

    @classmethod
    def ask(
        cls,
        text: str,
        kind: Kind | str | None = None,
        *,
        id: str = "1",
        options: tuple[str, ...] | None = None,
        segment: str | None = None,
    ) -> Question:
        """A question of a single user turn."""
        messages = ({"role": "user", "content": text},)
        return cls(id, messages, None if kind is None else Kind(kind), options, segment)

    @property
    def text(self) -> str:
        """The last message's text: what is being asked."""
        content = self.messages[-1].get("content")
        return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an arm puts around a question: a system message and worked examples by answer kind."""

    system: str | None = None
    examples: Mapping[Kind, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    def messages(self, question: Question) -> tuple[Message, ...]:
        """The whole conversation to send for ``question``."""
        head: list[Message] = []
        if self.system is not None:
            head.append({"role": "system", "content": self.system})
        for asked, answered in self._shown(question.kind):
            head.append({"role": "user", "content": asked})
            head.append({"role": "assistant", "content": answered})
        *earlier, last = question.messages
        if question.options is not None:
            listed = "\n".join(
                f"{chr(65 + i)}) {option}" for i, option in enumerate(question.options)
            )
            last = {**last, "content": _with_line(last["content"], listed)}
        return (*head, *earlier, last)

    def hash(self, kind: Kind | None) -> str:
        """Twelve hexadecimal digits that name this prompt as questions of ``kind`` see it."""
        seen = json.dumps([self.system, self._shown(kind)], ensure_ascii=False)
        return hashlib.sha256(seen.encode()).hexdigest()[:12]

    def _shown(self, kind: Kind | None) -> tuple[tuple[str, str], ...]:
        return self.examples.get(kind, ()) if kind is not None else ()


def _with_line(content: Any, line: str) -> Any:
    """A message's content, text or a list of parts, with one more text at its end."""
    if isinstance(content, str):
        return f"{content}\n{line}"
    return [*content, {"type": "text", "text": line}]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a back-end can do, probed once; ``notes`` name every degradation in words.

    ``n``: most samples one request may draw. ``logprobs``: most top log-probabilities a token
    (0: the chosen token's only; None: none at all). ``seed``: whether a seed fixes the draw.
    ``usage_per_choice``: the server's completion count covers one choice, not all of them.
    """

    n: int = 1
    logprobs: int | None = None
    seed: bool = False
    usage_per_choice: bool = False
    notes: tuple[str, ...] = ()
    spend: Spend = Spend()


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a back-end: ``n`` draws for one conversation.

    ``logprobs``: None asks for none, 0 for the chosen token's, k for the top k as well.
    ``question_id`` and ``first_index`` place the draws: stored pools are addressed by them.
    """

    messages: tuple[Message, ...]
    decoding: Mapping[str, Any]
    n: int = 1
    seed: int | None = None
    logprobs: int | None = None
    question_id: str = ""
    first_index: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural-log probabilities of one reply, token by token (T tokens).

    ``tokens`` (T,) texts; ``chosen`` (T,) log-probability of each token drawn, <= 0; ``top`` (T,)
    alternatives as ``(text, logprob)`` pairs, best first, or None when none were asked for.
    """

    tokens: tuple[str, ...]
    chosen: tuple[float, ...]
    top: tuple[tuple[tuple[str, float], ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One generated text as the back-end gave it.

    ``finish``: the server's reason (stop, length, tool_calls, …). ``tokens`` None: not known.
    ``answered``: the back-end serves stored answers, and ``answer`` is the canonical one (None:
    it was unreadable); otherwise ``solve`` reads the answer out of ``text``.
    """

    text: str | None
    finish: str | None = None
    tokens: int | None = None
    logprobs: TokenLogprobs | None = None
    tool_calls: tuple[Mapping[str, Any], ...] | None = None
    answer: str | None = None
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """All replies to one request, in the server's order, and what they cost."""

    replies: tuple[Reply, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Sample:
    """One draw: the reply's text and the answer read from it.

    ``index`` is its place in dispatch order. ``answer`` is canonical, or None with ``unread``
    saying why; such a sample counts as drawn and never as a vote.
    """

    index: int
    text: str | None
    answer: str | None
    unread: str | None = None
    finish: str | None = None
    tokens: int | None = None
    seconds: float | None = None
    seed: int | None = None
    logprobs: TokenLogprobs | None = None
    signals: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """What a stop rule may look at: one prefix of the samples in dispatch order.

    ``clusters`` (n,) the cluster of each sample, numbered by first appearance, None where the
    answer was unreadable; ``counts`` votes by cluster; ``answers`` each cluster's canonical form.
    ``seconds_left`` None: no deadline.
    """

    clusters: tuple[int | None, ...] = ()
    counts: tuple[int, ...] = ()
    answers: tuple[str, ...] = ()
    signals: Mapping[str, float | None] = field(default_factory=dict)
    spend: Spend = Spend()
    seconds_left: float | None = None

    @property
    def n(self) -> int:
        """Samples drawn, readable or not."""
        return len(self.clusters)

    @property
    def top_two(self) -> tuple[int, int]:
        """Votes of the leader and of the runner-up (0 where there is none)."""
        first, second, *_ = (*sorted(self.counts, reverse=True), 0, 0)
        return first, second


@dataclass(frozen=True, slots=True)
class Draw:
    """Have ``n`` more samples under way beyond the prefix that was looked at."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"Draw({self.n}): a rule that wants no more samples says Stop")


class StopReason(StrEnum):
    """Why sampling ended."""

    SURE = "sure"
    FUTILE = "futile"
    CONSENSUS = "consensus"
    BUDGET = "budget"
    DEADLINE = "deadline"
    FIXED = "fixed"
    SINGLE = "single"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Stop:
    """Draw no more."""

    reason: StopReason


class Meter(Protocol):
    """Told how far a running call has got, in case it is cancelled."""

    def queued(self, waiting: bool) -> None:  # noqa: FBT001 - a state
        """Whether the call still waits its turn, so that nothing has been sent."""

    def received(self, tokens: int) -> None:
        """``tokens`` more completion tokens have arrived."""


class Backend(Protocol):
    """The only thing that calls a model.

    One attempt a call: retries belong to ``solve``, where each is reserved and charged. Cancelling
    the awaiting task ends generation upstream where the server can.
    """

    @property
    def engine(self) -> str:
        """What runs the model (``llama.cpp``, ``openai``, ``stored``, …); part of an arm's key."""

    @property
    def model(self) -> str:
        """The model's name."""

    async def capabilities(self) -> Capabilities:
        """What this back-end can do; probes on first use. Raises BackendError."""

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        """Draw ``request.n`` replies in one attempt. Raises BackendError."""

    async def aclose(self) -> None:
        """Give back connections and processes. Calling it twice does no harm."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A model, how it is decoded, what it is told, and what it costs."""

    backend: Backend
    decoding: Mapping[str, Any] = field(
        default_factory=lambda: {"temperature": 0.8, "max_tokens": 512}
    )
    prompt: Prompt = Prompt()
    price: Price | None = None

    def key(self, kind: Kind | None) -> dict[str, Any]:
        """Identity of the arm for questions of ``kind``: two arms are one when all of it agrees."""
        return {
            "engine": self.backend.engine,
            "model": self.backend.model,
            "decoding": dict(self.decoding),
            "prompt_hash": self.prompt.hash(kind),
        }


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one question, with what is known about it; ``to_dict`` is the wire form.

    ``probability`` is None unless ``calibrated``; ``reason`` then says why. ``missing`` names
    absent evidence and why. ``samples``: the prefix decided on. ``error``: the last call's failure.
    """

    id: str
    question_id: str
    answer: str | None
    text: str | None
    decision: str
    stop: StopReason
    model: str
    decoding: Mapping[str, Any]
    spend: Spend
    samples: tuple[Sample, ...] = ()
    votes: Mapping[str, int] = field(default_factory=dict)
    kind: Kind | None = None
    probability: float | None = None
    interval: tuple[float, float] | None = None
    interval_kind: str | None = None
    calibrated: bool = False
    reason: str | None = None
    profile: Mapping[str, Any] | None = None
    signals: Mapping[str, float | None] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    route: tuple[str, ...] = ()
    rounds: int = 0
    error: Exception | None = None

    @property
    def n_samples(self) -> int:
        """Samples in the prefix that was decided on."""
        return len(self.samples)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, schema 1 of the design's section 5 (samples are left to pool files)."""
        plain = "id question_id answer text decision probability interval_kind calibrated reason"
        return {
            "schema": 1,
            **{name: getattr(self, name) for name in (plain + " n_samples rounds model").split()},
            "kind": None if self.kind is None else self.kind.value,
            "about": "response",
            "interval": None if self.interval is None else list(self.interval),
            "profile": None if self.profile is None else dict(self.profile),
            "signals": dict(self.signals),
            "missing": dict(self.missing),
            "votes": dict(self.votes),
            "stop": self.stop.value,
            "decoding": dict(self.decoding),
            "route": list(self.route),
            "spend": self.spend.to_dict(),
        }
