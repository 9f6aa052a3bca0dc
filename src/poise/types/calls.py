"""What goes to a model and comes back; what a back-end and an arm are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from poise.spend import Price, Spend, Usage
from poise.types.questions import Kind, Message, Prompt

__all__ = [
    "Arm",
    "Backend",
    "Batch",
    "Capabilities",
    "Meter",
    "Relay",
    "Reply",
    "Request",
    "TokenLogprobs",
]


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
    ``follow_up``: this is no draw but a further question, asked for the signal of that name about
    the sample of that index (None: about the question itself).
    """

    messages: tuple[Message, ...]
    decoding: Mapping[str, Any]
    n: int = 1
    seed: int | None = None
    logprobs: int | None = None
    question_id: str = ""
    first_index: int = 0
    follow_up: tuple[str, int | None] | None = None


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
    it was unreadable); otherwise ``solve`` reads the answer out of ``text``. ``signals``: numbers
    stored with it; ``extra``: what else is stored with the reply to a follow-up. ``raw``: the
    choice in the server's own words (message, finish reason, log-probabilities), streamed or not.
    """

    text: str | None
    finish: str | None = None
    tokens: int | None = None
    logprobs: TokenLogprobs | None = None
    tool_calls: tuple[Mapping[str, Any], ...] | None = None
    answer: str | None = None
    answered: bool = False
    signals: Mapping[str, float | None] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Batch:
    """All replies to one request, in the server's order, and what they cost."""

    replies: tuple[Reply, ...]
    usage: Usage


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


@runtime_checkable
class Relay(Protocol):
    """What a back-end may offer beside ``Backend``: its reply while it is still being said."""

    async def relay(
        self,
        request: Request,
        meter: Meter | None,
        listen: Callable[[Mapping[str, Any]], None],
    ) -> Batch:
        """As ``sample``, and ``listen`` hears each chunk as it arrives. Raises BackendError.

        A chunk is the server's own (the parsed JSON of one event, with choices), in order; a
        server that answers whole is heard once, in one chunk made from its reply. What ``listen``
        raises ends the call.
        """


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
