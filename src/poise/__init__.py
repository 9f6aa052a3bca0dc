"""Poise: a probability you can trust on a language model's answer, and compute spent by it.

::

    from poise import Beta, Policy, Question, embedded, solve_sync

    question = Question.ask("What is 6 * 7?", "number")
    result = solve_sync(question, embedded(), Policy(Beta(0.95)))
    print(result.answer, result.n_samples, result.stop)

In async code: ``from poise.solve import solve``. Names are loaded when first used, so that
importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poise.backends import Http, LlamaCpp, Scripted, Stored, embedded
    from poise.errors import PoiseError
    from poise.ledger import Ledger
    from poise.policies import Answer, Beta, Fixed, Policy, Window, parse_policy
    from poise.solve import Setting, solve_many, solve_sync
    from poise.spend import Limits, Price, Spend, Usage
    from poise.types import Arm, Kind, Prompt, Question, Result, Sample, StopReason
    from poise.votes import Majority

__all__ = [
    "Answer",
    "Arm",
    "Beta",
    "Fixed",
    "Http",
    "Kind",
    "Ledger",
    "Limits",
    "LlamaCpp",
    "Majority",
    "PoiseError",
    "Policy",
    "Price",
    "Prompt",
    "Question",
    "Result",
    "Sample",
    "Scripted",
    "Setting",
    "Spend",
    "StopReason",
    "Stored",
    "Usage",
    "Window",
    "embedded",
    "parse_policy",
    "solve_many",
    "solve_sync",
]

_HOMES = {
    "backends": ("Http", "LlamaCpp", "Scripted", "Stored", "embedded"),
    "errors": ("PoiseError",),
    "policies": ("Answer", "Beta", "Fixed", "Policy", "Window", "parse_policy"),
    "solve": ("Setting", "solve_many", "solve_sync"),
    "ledger": ("Ledger",),
    "spend": ("Limits", "Price", "Spend", "Usage"),
    "types": ("Arm", "Kind", "Prompt", "Question", "Result", "Sample", "StopReason"),
    "votes": ("Majority",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"poise.{module}"), name)
    raise AttributeError(f"module 'poise' has no attribute {name!r}")
