"""From a policy as people write it to the policies that its threshold sweeps over.

It does not know which of them is good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from poise.errors import UsageError
from poise.policies import Answer, Policy, parse_policy
from poise.spelling import SHORT

__all__ = ["GRIDS", "Sweep", "sweep"]

GRIDS: dict[str, tuple[float, ...] | tuple[int, ...]] = {
    "threshold": (
        *(step / 100 for step in range(5, 75, 5)),
        *(step / 1000 for step in range(750, 1000, 25)),
        *(0.985, 0.99, 0.995, 0.999),
    ),
    "width": tuple(range(1, 21)),
    "price": (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.02, 0.05, 0.1),
}
"""Parameters that are swept, in order of preference, and the values tried where a rule allows."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Policies that differ in ``parameter`` alone, by ascending ``settings``; one if it is None.

    ``labels`` name them as commands do.
    """

    name: str
    parameter: str | None
    settings: tuple[float | int | None, ...]
    policies: tuple[Policy, ...]
    labels: tuple[str, ...]


def sweep(text: str, max_samples: int) -> Sweep:
    """The sweep that ``text`` asks for over pools of ``max_samples``.

    ``beta`` sweeps its threshold over the part of ``GRIDS`` that the rule allows, its default
    included; ``beta:threshold=0.9`` is one policy; ``fixed`` sweeps 1 to ``max_samples``. Raises
    UsageError as ``parse_policy``, and for an exit rule that wants probabilities.
    """
    policy = parse_policy(text, max_samples)
    if not isinstance(policy.exit, Answer):
        raise UsageError(
            f"policy {text!r}: replay has no probabilities to abstain by; compare the stop rule "
            "alone"
        )
    written = text.partition("+")[0].strip()
    parameters = written.partition(":")[2].split(",")
    stated = {part.partition("=")[0].strip() for part in parameters}
    rule: Any = policy.stop
    swept, values = _swept(rule, max_samples)
    if swept is None or swept in {SHORT.get(name, name) for name in stated}:
        return Sweep(text, None, (None,), (policy,), (text,))
    found = list(_allowed(rule, swept, values))
    joint = "," if ":" in written else ":"
    return Sweep(
        name=text,
        parameter=swept,
        settings=tuple(value for value, _ in found),
        policies=tuple(Policy(one) for _, one in found),
        labels=tuple(f"{written}{joint}{swept}={value:g}" for value, _ in found),
    )


def _swept(rule: Any, max_samples: int) -> tuple[str | None, tuple[float | int, ...]]:
    own = [field.name for field in fields(rule)] if is_dataclass(rule) else []
    if own == ["max_samples"]:
        return "max_samples", tuple(range(1, max_samples + 1))
    name = next((name for name in GRIDS if name in own), None)
    return name, () if name is None else tuple(sorted({*GRIDS[name], getattr(rule, name)}))


def _allowed(rule: Any, name: str, values: tuple[float | int, ...]) -> Iterator[tuple[Any, Any]]:
    for value in values:
        try:
            yield value, replace(rule, **{name: value})
        except UsageError:
            continue  # outside of what this rule allows
