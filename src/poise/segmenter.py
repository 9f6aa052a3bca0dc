"""Which segment an incoming question belongs to: rules first, then its wording.

Rules are regular expressions that people write; the classifier is learned from questions whose
segments are known, and keeps silent where it is not sure. Questions that neither places are a
segment of their own. Nothing here is the domain test: a question from elsewhere may look like one.

It does not know outcomes, samples or what a segment is used for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from poise.errors import InputError, UsageError
from poise.types import Question
from poise.wording import Classifier

__all__ = ["UNPLACED", "Rules", "Segmenter"]

UNPLACED = "(unplaced)"
"""The segment of questions that no rule and no wording places."""


@dataclass(frozen=True, slots=True)
class Rules:
    """``(segment, regular expression)`` pairs; the first that is found in the text names it.

    Expressions are Python's, searched anywhere, with case (write ``(?i)`` for without). Raises
    UsageError for one that is not an expression and for an empty segment.
    """

    rules: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for segment, pattern in self.rules:
            if not segment:
                raise UsageError(f"the rule {pattern!r} names no segment")
            try:
                re.compile(pattern)
            except re.error as error:
                raise UsageError(
                    f"the rule for segment {segment!r}, {pattern!r}, is no regular expression: "
                    f"{error}"
                ) from None

    def segment(self, text: str) -> str | None:
        """The first rule's segment; None where none is found."""
        return next((name for name, pattern in self.rules if re.search(pattern, text)), None)


@dataclass(frozen=True, slots=True)
class Segmenter:
    """The first rule's segment, else the classifier's, else ``UNPLACED``.

    What a question states as its segment is not asked: callers use that word for their own reports,
    and history was gathered by what is found here.
    """

    rules: Rules = Rules()
    classifier: Classifier | None = None

    def segment(self, question: Question) -> str:
        """Where the question belongs; read from its last message's text."""
        found = self.rules.segment(question.text)
        if found is None and self.classifier is not None:
            found = self.classifier.segment(question.text)
        return UNPLACED if found is None else found

    def state(self) -> dict[str, Any]:
        """JSON-ready."""
        learned = None if self.classifier is None else self.classifier.state()
        return {"rules": [list(rule) for rule in self.rules.rules], "classifier": learned}

    @classmethod
    def from_state(cls, state: Any) -> Self:
        """Inverse of ``state``. Raises InputError for anything else."""
        if not isinstance(state, Mapping) or state.keys() != {"rules", "classifier"}:
            raise InputError("segmenter: not an object of rules and classifier")
        rules, learned = state["rules"], state["classifier"]
        if not isinstance(rules, list):
            raise InputError("segmenter: rules are not a list")
        for rule in rules:
            if not isinstance(rule, list) or [type(part) for part in rule] != [str, str]:
                raise InputError(f"segmenter: {rule!r} is not a segment and an expression")
        try:
            made = Rules(tuple((segment, pattern) for segment, pattern in rules))
        except UsageError as error:
            raise InputError(f"segmenter: {error}") from None
        return cls(made, None if learned is None else Classifier.from_state(learned))
