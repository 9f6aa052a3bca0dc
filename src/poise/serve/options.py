"""What a request may say in its ``poise`` object, beside OpenAI's fields.

Unknown keys are refused, so that a misspelt cap is not taken for none. It does not know which
tiers, policies and caps the gateway has: those are checked where they are looked up.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

from poise.serve.refusals import invalid
from poise.types import Kind

__all__ = ["MOST_WHOLE", "Options", "read_options"]

MOST_WHOLE = 2**31 - 1
"""Most samples or tokens a request may speak of; more is a slip, and no float holds all of it."""

Whole = Annotated[int, Strict(), Field(ge=1, le=MOST_WHOLE)]
Positive = Annotated[float, Strict(), Field(gt=0)]
Name = Annotated[str, Field(min_length=1)]


class Options(BaseModel):
    """A request's options; None: as the alias has it.

    ``kind``: what sort of answer is wanted. ``options``: the texts of a choice, first = A.
    ``tier`` and ``policy`` by name. ``abstain``: answer only where the probability reaches it, from
    0 to 1. ``max_*``: caps of this request, no higher than the gateway's own. ``stream``: send the
    answer once it is decided, or the first sample as it comes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Kind | None = None
    options: tuple[Name, ...] | None = Field(None, min_length=2, max_length=26)
    tier: Name | None = None
    policy: Name | None = None
    abstain: Annotated[float, Strict(), Field(ge=0, le=1)] | None = None
    max_samples: Whole | None = None
    max_tokens: Whole | None = None
    max_seconds: Positive | None = None
    max_usd: Positive | None = None
    stream: Literal["decided", "first"] = "decided"

    @model_validator(mode="before")
    @classmethod
    def _options_make_a_choice(cls, given: Any) -> Any:
        """A question with options is a choice, and no other kind has any."""
        if not isinstance(given, dict) or given.get("options") is None:
            return given
        kind = given.get("kind")
        if kind is not None and kind != Kind.CHOICE:
            raise ValueError("options belong to the kind choice")
        return {**given, "kind": Kind.CHOICE}


NONE = Options()


def read_options(stated: Any) -> Options:
    """The ``poise`` object of a request. Raises Refusal naming the key."""
    if stated is None:
        return NONE
    if not isinstance(stated, dict):
        raise invalid("poise must be an object of options", "poise")
    try:
        return Options.model_validate(stated)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in ("poise", *first["loc"]))
    if first["type"] == "extra_forbidden":
        have, named = ", ".join(Options.model_fields), str(first["loc"][0])[:60]
        raise invalid(f"poise has no option {named!r}; it has {have}", f"poise.{named}")
    said = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    raise invalid(f"{where}: {said}", where)
