"""The questions that reinforcement asks, and what is noted of the replies to them, step by step.

It does not know trainers, models or losses.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from poise.errors import InputError
from poise.pools import Labelled
from poise.rewards.judging import judged
from poise.train import sft
from poise.train.stating import READ
from poise.types import Prompt

__all__ = ["LEAST", "collapsed", "noted", "rows_of"]

WINDOW = 10
"""Steps that a run is judged on."""

LEAST = 0.2
"""The least share of replies in the form that leaves something to reinforce."""


def rows_of(
    pools: Sequence[Labelled],
    prompt: Prompt,
    asked: int,
    seed: int,
    reference: Mapping[tuple[str, str], float] | None = None,
) -> list[dict[str, Any]]:
    """``asked`` questions in the order in which they are asked, as TRL's data set has them.

    Every question comes once in a random order before any comes again. ``reference``: accuracy of
    the model before training, by question. Raises InputError for a question without gold or kind,
    and for a gold answer that its kind cannot read.
    """
    known: dict[tuple[str, str], dict[str, Any]] = {}
    for one in pools:
        if one.pool.group not in known:
            known[one.pool.group] = _row(one, prompt)
            if reference is not None:
                known[one.pool.group]["reference_accuracy"] = reference[one.pool.group]
    rng = random.Random(seed)  # noqa: S311 - a seeded draw, not a secret
    names, order = list(known), list[tuple[str, str]]()
    while names and len(order) < asked:
        rng.shuffle(names)
        order += names
    return [known[name] for name in order[:asked]]


def _row(one: Labelled, prompt: Prompt) -> dict[str, Any]:
    pool, question = one.pool, one.pool.question
    for what, there in {"text": question, "gold answer": one.gold, "kind": pool.kind}.items():
        if there is None:
            raise InputError(
                f"question {pool.question_id} of {pool.dataset} has no {what}, and rewards need it;"
                " give pools with gold answers and kinds"
            )
    assert question is not None
    assert pool.kind is not None
    try:
        judged([""], [""], [one.gold], [pool.kind.value], [pool.options], READ)
    except InputError as error:
        raise InputError(f"question {pool.question_id}: {error}") from None
    return {
        "prompt": [dict(message) for message in prompt.messages(question)],
        "gold": one.gold,
        "kind": pool.kind.value,
        "options": None if pool.options is None else list(pool.options),
        "question_id": "\n".join(pool.group),
    }


def noted(
    rows: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
    ids: Sequence[Sequence[int]],
    group: int,
) -> dict[str, float]:
    """What a step's replies (m,) are like, ``group`` of them to each question.

    ``right`` (an unreadable answer is not) and ``in_form`` over all; of those in the form
    (``stated``): mean and mean square of their confidence ``p``, of the accuracy of their question
    (``target``), and Brier; confidence when right and when wrong, where there are such replies.
    """
    read = judged(
        [""] * len(texts),
        texts,
        [row["gold"] for row in rows],
        [row["kind"] for row in rows],
        [row["options"] for row in rows],
        READ,
    )
    right = [float(row is not None and row.correct == 1) for row in read]
    share = [
        math.fsum(right[start : start + group]) / group
        for start in range(0, len(right), group)
        for _ in range(group)
    ]
    stated = [
        (row.confidence, z, target)
        for row, z, target in zip(read, right, share, strict=True)
        if row is not None and row.confidence is not None
    ]
    found: dict[str, float] = {
        "replies": len(texts),
        "stated": len(stated),
        "right": _mean(right),
        "in_form": len(stated) / len(texts),
        "length": _mean([len(row) for row in ids]),
    }
    if stated:
        found |= {
            "p": _mean([c for c, _, _ in stated]),
            "p_square": _mean([c * c for c, _, _ in stated]),
            "target": _mean([target for _, _, target in stated]),
            "target_square": _mean([target * target for _, _, target in stated]),
            "brier": _mean([(c - z) ** 2 for c, z, _ in stated]),
        }
    for name, side in (("p_right", 1.0), ("p_wrong", 0.0)):
        of = [c for c, z, _ in stated if z == side]
        if of:
            found[name] = _mean(of)
    return found


def collapsed(steps: Sequence[Mapping[str, Any]]) -> str | None:
    """Why the run is not worth going on with, judged on its last steps; None: it is.

    Hardly a reply states a confidence, or all state the same while questions differ in how often
    they are answered right (``sft.flat``), when at first they stated twice as differing ones.
    """
    last = steps[-WINDOW:]
    if len(last) == WINDOW and _mean([step["in_form"] for step in last]) < LEAST:
        return "replies no longer state a confidence; give formatted more weight or lower --lr"
    with_rows = [{**step, "rows": step["stated"]} for step in steps if step["stated"]]
    if len(with_rows) < 2 * WINDOW or not sft.flat(with_rows, WINDOW):
        return None
    if sft.spread(with_rows[:WINDOW], "p") > 2 * sft.spread(with_rows[-WINDOW:], "p"):
        return "the stated confidences became constant while questions differ in accuracy"
    return None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
