"""Rewards without gold: agreeing with the other completions of the same question.

They sharpen a policy towards what it already says most, right or wrong, and confidence in it rises
with them: a model trained on them is measured for over-confidence. All completions of a question
must be in one call. It does not know: which answer is right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

from poise.answers.clusters import Clusters
from poise.errors import UsageError
from poise.rewards.judging import Prompts, Rewards, Rows, given, groups
from poise.rewards.statement import Completion, Reader, line
from poise.types import Kind

__all__ = ["majority", "semantic_frequency"]


def majority(
    prompts: Prompts,
    completions: Sequence[Completion],
    *,
    kind: str | Rows = None,
    options: Rows = None,
    question_id: Rows = None,
    read: Reader = line,
    **_columns: Any,
) -> Rewards:
    """1 for the question's most frequent answer, else 0; among equals the first seen.

    Completions belong together by ``question_id``, else by prompt. An unreadable answer has no vote
    and earns 0; where no answer of a question can be read there is no majority, and all its rows
    are None. Raises UsageError for an unknown kind or mixed kinds of one question.

    Source: TTRL, 2504.16084 (which takes the label from more samples than it trains on).
    """
    found: Rewards = []
    for own, counts, _ in _votes(prompts, completions, kind, options, question_id, read):
        leader = counts.index(max(counts)) if counts else None
        found.append(None if leader is None else float(own == leader))
    return found


def semantic_frequency(
    prompts: Prompts,
    completions: Sequence[Completion],
    *,
    kind: str | Rows = None,
    options: Rows = None,
    question_id: Rows = None,
    read: Reader = line,
    **_columns: Any,
) -> Rewards:
    """The share of the question's completions, in [0, 1], that give the same answer, itself one.

    Otherwise as ``majority``.

    Source: EMPO, 2504.05812, with same-answer clusters for its meanings and without its filter of
    questions by entropy.
    """
    votes = _votes(prompts, completions, kind, options, question_id, read)
    return [
        None if not counts else 0.0 if own is None else counts[own] / drawn
        for own, counts, drawn in votes
    ]


def _votes(
    prompts: Prompts,
    completions: Sequence[Completion],
    kind: str | Rows,
    options: Rows,
    question_id: Rows,
    read: Reader,
) -> list[tuple[int | None, tuple[int, ...], int]]:
    """For each completion its cluster, the votes by cluster and the completions of its question."""
    rows = given(prompts, completions, kind, options, read)
    names = groups(prompts, question_id)
    of: dict[Hashable, tuple[Kind, Clusters]] = {}
    own: list[int | None] = []
    drawn: defaultdict[Hashable, int] = defaultdict(int)
    for name, row in zip(names, rows, strict=True):
        first, clusters = of.setdefault(name, (row.kind, Clusters(row.kind)))
        if first != row.kind:
            raise UsageError(
                f"one question has the answer kinds {first.value} and {row.kind.value}: give each "
                "question one kind, or tell equal prompts apart by a column 'question_id'"
            )
        own.append(clusters.add(row.answer))
        drawn[name] += 1
    return [
        (cluster, of[name][1].counts, drawn[name]) for name, cluster in zip(names, own, strict=True)
    ]
