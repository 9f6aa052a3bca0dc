"""The segments of pools, and what will find those of questions to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from poise.errors import RefusedError
from poise.pools import Labelled
from poise.segmenter import Classifier, Rules, Segmenter

__all__ = ["how_found", "learnt", "placed"]


def placed(one: Labelled, rules: Rules) -> Labelled:
    """The pool in the segment that it states, or that the rules find."""
    pool = one.pool
    if pool.segment is not None or pool.question is None:
        return one
    return replace(one, pool=replace(pool, segment=rules.segment(pool.question.text)))


def learnt(pools: Sequence[Labelled], texts: Sequence[str], rules: Rules, seed: int) -> Segmenter:
    """Rules first, then a classifier of the wording, where segments can be told by it."""
    return Segmenter(rules, _classifier(pools, texts, seed))


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


def _classifier(pools: Sequence[Labelled], asked: Sequence[str], seed: int) -> Classifier | None:
    """Finds segments by wording; None where they cannot be told apart by it."""
    known = [
        (text, one.pool.segment)
        for one, text in zip(pools, asked, strict=True)
        if one.pool.segment is not None
    ]
    if not known:
        return None
    texts, segments = zip(*known, strict=True)
    try:
        return Classifier.fit(texts, segments, seed=seed)
    except RefusedError:
        return None
