"""What was certified, on which questions, under which assumptions, and what makes it void.

A record to be kept in a profile or a file of its own, as versioned JSON. It is not sealed by
itself; a profile seals what it holds. It does not know how it came about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from poise.errors import InputError
from poise.tune.sequence import Step
from poise.tune.target import Target

__all__ = ["ASSUMES", "SCHEMA", "VOID_IF", "Certificate"]

SCHEMA = 1

ASSUMES = (
    "the questions to come are exchangeable with those of the certification: one stream, unpicked",
    "the unit is the question; orders of one question's samples are not independent rows",
    "samples of a question are independent draws of this arm",
    "the policies tried, and any map they read, were fixed before certification was looked at",
    "the certification questions were used for nothing else",
    "the statement is about the mean over questions, not about any one question or segment",
)
"""What a certificate rests on, in words."""

VOID_IF = (
    "the policy, one of its parameters, its vote or the most samples change: so do the stops",
    "a map that the policy reads is fitted again",
    "the arm changes: engine, model, decoding or prompt",
    "the questions come from another stream, or their mixture changes",
    "the certification questions are used to choose anything else, or another target on them",
)
"""What makes a certificate worth nothing, in words."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """``policy`` keeps to ``target``, with confidence 1 - ``delta`` over the draw of questions.

    ``policy``: as ``parse_policy`` reads it (a learnt table by its digest); ``vote``: by whom
    answers were elected. ``truth``: what right means, ``gold`` or ``majority`` (the answer that
    most of all samples give). ``questions``: how many for ``tuning`` and for ``certification``;
    ``orders`` of each question's ``max_samples`` samples, random ones but for a bar on a profile's
    probability, which is tried on the pool's own. ``tested``: every test made, in order. ``seed``:
    of the split and the orders; ``share``: of the questions that tuning was given.
    ``fingerprint``: SHA-256 of the pools. ``arm``: engine, model, decoding and prompt_hash, None
    where not stated. ``created``: ISO date.
    """

    target: Target
    delta: float
    policy: str
    vote: str
    truth: str
    questions: Mapping[str, int]
    orders: int
    max_samples: int
    candidates: int
    tested: tuple[Step, ...]
    seed: int
    share: float
    fingerprint: str
    arm: Mapping[str, Any]
    datasets: tuple[str, ...]
    created: str
    assumes: tuple[str, ...] = ASSUMES
    void_if: tuple[str, ...] = VOID_IF

    @property
    def certified(self) -> Step:
        """The test of ``policy``."""
        return next(one for one in self.tested if one.policy == self.policy)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in self.__slots__},
            "target": asdict(self.target),
            "questions": dict(self.questions),
            "tested": [asdict(one) for one in self.tested],
            "arm": dict(self.arm),
            **{name: list(getattr(self, name)) for name in ("datasets", "assumes", "void_if")},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Certificate:
        """Inverse of ``to_dict``. Raises InputError for anything else, or a newer schema."""
        try:
            schema, stated = data["schema"], {name: data[name] for name in cls.__slots__}
            if schema != SCHEMA:
                raise InputError(f"certificate of schema {schema}; this Poise reads {SCHEMA}")
            lists = {name: tuple(stated[name]) for name in ("datasets", "assumes", "void_if")}
            lists["tested"] = tuple(Step(**one) for one in stated["tested"])
            made = cls(**(stated | lists | {"target": Target(**stated["target"])}))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"not a certificate ({type(error).__name__}: {error})") from None
        if not any(one.policy == made.policy and one.certified for one in made.tested):
            raise InputError(f"not a certificate: {made.policy!r} passed no test in it")
        return made
