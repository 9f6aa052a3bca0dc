"""The nouns of the store: a decision, a later outcome of it, and amounts that keys may spend.

Frozen values without behaviour beyond their own ranges. They do not know tables or files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from poise.errors import InputError, UsageError
from poise.spend import Spend

__all__ = ["Amounts", "Decision", "Outcome", "decision_id"]

SHOWN = ("chatcmpl-", "cmpl-")
"""What stands before an id in a reply, because clients expect it."""

LATEST = 1e11
"""Unix seconds beyond which a time is in other units."""

LONGEST = 200
"""Characters of an id or a source."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decided question as it is kept. ``created`` in unix seconds, ``seconds`` of wall clock.

    ``alias`` is the name that was asked for, ``key`` the name of who asked (None: nobody had to say
    so). ``mode``: live, shadow or audit; ``parent``: the decision that an audit belongs to;
    ``propensity``, in (0, 1]: how likely this question was to be treated as it was. ``clusters``:
    the cluster of each sample in dispatch order, None where the answer was unreadable.
    ``decoding`` holds no content of the request. ``content`` (prompt, answers, replies) is kept
    only by a store that was opened for it; everything else is kept by every store.
    """

    id: str
    created: float
    alias: str
    model: str
    engine: str
    decision: str
    stop: str
    spend: Spend
    key: str | None = None
    kind: str | None = None
    mode: str = "live"
    probability: float | None = None
    calibrated: bool = False
    reason: str | None = None
    profile_id: str | None = None
    profile_version: int | None = None
    n_samples: int = 0
    clusters: tuple[int | None, ...] = ()
    signals: Mapping[str, float | None] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    prompt_hmac: str | None = None
    answer_hmac: str | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 0
    seconds: float = 0.0
    propensity: float | None = None
    parent: str | None = None
    content: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The later truth about the decision ``id``: ``value`` in [0, 1], who says so, and since when.

    ``source`` names the judge; each source's latest word on a decision counts. ``time`` in unix
    seconds, None where the source does not say. Raises InputError where a field is out of range.
    """

    id: str
    value: float
    source: str
    time: float | None = None

    def __post_init__(self) -> None:
        _check_text("id", self.id)
        _check_text("source", self.source)
        if not (_is_number(self.value) and 0 <= self.value <= 1):
            raise InputError(f"outcome of {self.id}: value must be a number from 0 to 1")
        if self.time is not None and not (_is_number(self.time) and abs(self.time) <= LATEST):
            raise InputError(f"outcome of {self.id}: time must be in unix seconds, or absent")


@dataclass(frozen=True, slots=True)
class Amounts:
    """Samples, tokens and US dollars, each finite and >= 0. Raises UsageError."""

    samples: int = 0
    tokens: int = 0
    usd: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0 <= value < math.inf:  # so that nan is refused too
                raise UsageError(f"{name}={value}: an amount must be a number of 0 or more")


def decision_id(of_reply: str) -> str:
    """The decision's id, from the id of the reply or as it is."""
    for shown in SHOWN:
        if of_reply.startswith(shown):
            return of_reply.removeprefix(shown)
    return of_reply


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _check_text(name: str, value: object) -> None:
    """Raise InputError for what not every database takes as text."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
        raise InputError(f"an outcome's {name} must be a text of 1 to {LONGEST} characters")
    try:
        whole = "\0" not in value and bool(value.encode())
    except UnicodeEncodeError:
        whole = False
    if not whole:
        raise InputError(f"an outcome's {name} holds a character that is no text; leave it out")
