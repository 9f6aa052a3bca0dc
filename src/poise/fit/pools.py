"""What pools must have in common to be fitted on, and what a profile notes about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from poise.errors import InputError, RefusedError
from poise.policies import Policy
from poise.pools import Labelled, canonical
from poise.types import Kind

__all__ = ["FEWEST_QUESTIONS", "check_size", "fingerprint", "one_arm", "texts"]

FEWEST_QUESTIONS = 100
"""Fewer say too little: at 100 the noise floor of a ten-bin ECE is already a tenth."""


def check_size(pools: Sequence[Labelled], policy: Policy) -> None:
    """Raise RefusedError where the pools are shorter than the policy, or too few."""
    drawn = min((len(one.pool.samples) for one in pools), default=0)
    wanted = policy.stop.max_samples
    if pools and drawn < wanted:
        raise RefusedError(
            f"the pools hold {drawn} samples and the policy draws up to {wanted}: nothing is known"
            f" beyond; fit with --max-samples {drawn}, or draw more"
        )
    questions = len({one.pool.group for one in pools})
    if questions < FEWEST_QUESTIONS:
        raise RefusedError(f"{questions} questions; a profile takes at least {FEWEST_QUESTIONS}")


def one_arm(pools: Sequence[Labelled], policy: Policy) -> tuple[dict[str, Any], Kind]:
    """The key of the pools' arm, and their answer kind.

    Raises InputError where they are of several or do not state it; RefusedError where there are no
    pools, or where their samples are one draw repeated.
    """
    if not pools:
        raise RefusedError("there are no pools to fit on")
    first = pools[0].pool
    for one in pools:
        pool = one.pool
        if pool.arms or _arm_key(one) != _arm_key(pools[0]) or pool.kind is not first.kind:
            raise InputError(
                f"question {pool.question_id!r} is of another arm or kind than"
                f" {first.question_id!r}; a profile speaks for one"
            )
    if first.kind is None:
        raise InputError("the pools do not state the kind of their answers")
    arm = {
        "engine": first.engine,
        "model": first.model,
        "decoding": None if first.decoding is None else dict(first.decoding),
        "prompt_hash": first.prompt_hash,
    }
    decoding = first.decoding or {}
    repeated = decoding.get("temperature") == 0 or decoding.get("top_k") == 1 or "seed" in decoding
    if repeated and policy.stop.max_samples > 1:
        raise RefusedError("the pools repeat one draw (temperature 0, top_k 1 or a fixed seed)")
    if None in arm.values():
        unknown = ", ".join(name for name, value in arm.items() if value is None)
        raise InputError(f"the pools do not state {unknown}; an unknown arm matches none")
    return arm, first.kind


def texts(pools: Sequence[Labelled]) -> list[str]:
    """The questions' texts. Raises InputError where a pool leaves its question out."""
    found = [one.pool.question.text for one in pools if one.pool.question is not None]
    if len(found) < len(pools):
        raise InputError("some pools leave their question out; the domain cannot be learnt")
    return found


def fingerprint(pools: Sequence[Labelled]) -> str:
    """SHA-256 over questions, answers and grades, in order."""
    digest = hashlib.sha256()
    for one in pools:
        answers = [sample.answer for sample in one.pool.samples]
        digest.update(repr((one.pool.key, answers, one.correct)).encode())
    return digest.hexdigest()


def _arm_key(one: Labelled) -> tuple[str | None, ...]:
    pool = one.pool
    decoding = "" if pool.decoding is None else canonical(pool.decoding)
    return pool.engine, pool.model, decoding, pool.prompt_hash
