"""What a certificate is asked to hold down, as people write it: ``loss<=0.01``.

=========  ==============================================================  ===============
kind       what is at most so much                                         range of it
=========  ==============================================================  ===============
``loss``   share of questions that majority@N gets right and the policy    (0, 1)
           does not
``net``    the same less the share that only the policy gets right         (-1, 1)
``risk``   share of wrong answers among those that are given               (0, 1)
``spend``  samples a question, on average                                  from 1
=========  ==============================================================  ===============

It does not know how any of them is measured or tested.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from poise.errors import UsageError

__all__ = ["Bounded", "Target", "parse_target"]

Bounded = Literal["loss", "net", "risk", "spend"]
"""What a target bounds."""

LEAST = 1e-6
"""A share below that is not certified by any number of labels that can be had."""

WRITTEN = re.compile(r"\s*([a-z]+)\s*<=\s*([-+.\de]+)\s*([a-z]*)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """``kind`` is to be at most ``at_most``; ranges as above. Raises UsageError outside them."""

    kind: Bounded
    at_most: float

    def __post_init__(self) -> None:
        if self.kind not in get_args(Bounded):
            raise UsageError(
                f"target {self.kind!r}: there is {', '.join(get_args(Bounded))}, as in loss<=0.01"
            )
        value = self.at_most
        if self.kind == "spend":
            inside, span = 1 <= value < float("inf"), "at least 1 sample"
        elif self.kind == "net":
            inside, span = -1 < value < 1, "above -1 and below 1"
        else:
            inside, span = LEAST <= value < 1, f"at least {LEAST:g} and below 1"
        if not inside:
            raise UsageError(f"target {self.kind}<={value:g}: must be {span}")

    def __str__(self) -> str:
        return f"{self.kind}<={self.at_most:g}{'samples' if self.kind == 'spend' else ''}"


def parse_target(text: str) -> Target:
    """The target that ``text`` names: ``loss<=0.01``, ``net<=0.005``, ``spend<=4samples``.

    Raises UsageError.
    """
    read = WRITTEN.fullmatch(text)
    if read is None:
        raise UsageError(
            f"target {text!r}: write loss<=0.01, net<=0.005, risk<=0.05 or spend<=4samples"
        )
    kind, number, unit = read.group(1).lower(), read.group(2), read.group(3).lower()
    if unit not in ({"", "sample", "samples"} if kind == "spend" else {""}):
        raise UsageError(f"target {text!r}: spend is counted in samples, all else is a share")
    try:
        value = float(number)
    except ValueError:
        raise UsageError(f"target {text!r}: {number!r} is not a number") from None
    return Target(kind, value)  # type: ignore[arg-type]  # checked there
