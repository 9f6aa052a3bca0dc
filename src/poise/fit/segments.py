"""The segments of pools, and what will find those of questions to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from poise.errors import RefusedError
from poise.pools import Labelled
from poise.segmenter import Rules, Segmenter
from poise.wording import Classifier

__all__ = ["how_found", "learnt", "placed"]


def placed(one: Labelled, rules: Rules) -> Labelled:
    """The pool in the segment that it states, or that the rules find."""
    pool = one.pool
    if pool.segment is not None or pool.question is None:
        return one
    return replace(one, pool=replace(pool, segment=rules.segment(pool.question.text)))


def learnt(
    pools: Sequence[Labelled], rules: Rules, fold: Sequence[int], seed: int
) -> tuple[Segmenter | None, tuple[str | None, ...]]:
    """What will place questions, and where it places those of ``pools`` (m,), ``fold`` (m,) each.

    Rules place a question of a pool as they will place any; the classifier that places it has not
    seen its fold. So history is gathered, and judged, by the same means that will be used. Without
    rules or segments that wording can tell, there is no segmenter, and they are as stated.
    """
    classifier = _classifier(pools, seed)
    if classifier is None and not rules.rules:
        return None, tuple(one.pool.segment for one in pools)
    found: list[str | None] = [None] * len(pools)
    for number in sorted(set(fold)):
        others = [one for one, of in zip(pools, fold, strict=True) if of != number]
        unseen = Segmenter(rules, _classifier(others, seed))
        for place, one in enumerate(pools):
            if fold[place] == number and one.pool.question is not None:
                found[place] = unseen.segment(one.pool.question)
    return Segmenter(rules, classifier), tuple(found)


def how_found(segmenter: Segmenter, pools: Sequence[Labelled]) -> dict[str, Any]:
    """How rules and classifier do on the questions of ``pools`` that state their segment."""
    known = [
        (one.pool.question, one.pool.segment)
        for one in pools
        if one.pool.question is not None and one.pool.segment is not None
    ]
    ruled = [(segmenter.rules.segment(question.text), segment) for question, segment in known]
    named = [found == segment for found, segment in ruled if found is not None]
    classifier = segmenter.classifier
    return {
        "rules": {
            "questions": len(known),
            "named": len(named) / len(known) if known else 0.0,
            "accuracy": sum(named) / len(named) if named else None,
        },
        "wording": None if classifier is None else asdict(classifier.held_out),
    }


# -- inside ---------------------------------------------------------------------------------------


def _classifier(pools: Sequence[Labelled], seed: int) -> Classifier | None:
    """Finds segments by wording; None where they cannot be told apart by it."""
    known = [
        (one.pool.question.text, one.pool.segment)
        for one in pools
        if one.pool.segment is not None and one.pool.question is not None
    ]
    if not known:
        return None
    texts, segments = zip(*known, strict=True)
    try:
        return Classifier.fit(texts, segments, seed=seed)
    except RefusedError:
        return None
