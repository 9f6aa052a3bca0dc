"""What was decided when the probabilities were made: the record that a card carries along.

Everything in it is stated by who decided; the card repeats it and checks none of it. It does not
know profiles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from poise.errors import UsageError

__all__ = ["Decision"]


@dataclass(frozen=True, slots=True)
class Decision:
    """The choice of a calibration and its surroundings; every field may be left empty.

    ``profile`` id and ``version``; ``arm``: engine, model, decoding, prompt_hash; ``kind`` of
    answers; ``datasets`` fitted on; ``policy`` in words. ``considered``: one mapping a candidate
    (what, log_loss, log_loss_se, brier, brier_se, gain, gain_se, reason), ``chosen`` and ``why``.
    ``tolerance``: payoff or certificate; None: none was stated. ``limits``: sentences. ``data``:
    fingerprint, questions, samples. ``detection``: task -> share of its questions turned away.
    Raises UsageError for what JSON cannot hold, a number that is not finite included.
    """

    profile: str | None = None
    version: int | None = None
    arm: Mapping[str, Any] = field(default_factory=dict)
    kind: str | None = None
    datasets: tuple[str, ...] = ()
    policy: str | None = None
    considered: tuple[Mapping[str, Any], ...] = ()
    chosen: str | None = None
    why: str | None = None
    tolerance: Mapping[str, Any] | None = None
    limits: tuple[str, ...] = ()
    note: str = ""
    created: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    detection: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in fields(self):
            try:
                json.dumps(_plain(getattr(self, one.name)), allow_nan=False)
            except (TypeError, ValueError) as error:
                raise UsageError(
                    f"decision.{one.name}: JSON cannot hold it ({error}); use plain values, and"
                    " None with a reason for a number that is not there"
                ) from None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return value
