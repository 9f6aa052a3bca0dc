"""A pool file served as if it were a model: the draws are the samples somebody already paid for.

The draw for (question, index) is sample number ``index`` of the question's pool, in the pool's
order or in a seeded one; seeds and decoding of a request change nothing. A follow-up gets the reply
that is stored under its name, whatever it asks now. One ``Stored`` is one arm:
pools of several models, decodings or runs of a question are refused until one is chosen.

It does not know: gold answers and grades (``pools.Labelled`` is left at the door), texts of
questions, prices. What a pool does not state, prompt tokens first of all, stays unknown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from poise.errors import Exhausted, InputError, Rejected, UsageError
from poise.pools import Pool, canonical, read_pools
from poise.types import Batch, Capabilities, FollowUp, Meter, Reply, Request, Sample, Usage

__all__ = ["Stored", "shuffled"]

MOST = 1_000_000
"""Draws in one request: serving from memory has no better size, so whatever is asked for."""


def shuffled(seed: int, dataset: str, question_id: str, n: int) -> tuple[int, ...]:
    """A permutation of ``range(n)`` that depends on nothing but these four.

    Indices sorted by the SHA-256 of (seed, dataset, question_id, index) as JSON: the same on every
    machine and version, and uniform over seeds.
    """

    def place(index: int) -> bytes:
        return hashlib.sha256(json.dumps([seed, dataset, question_id, index]).encode()).digest()

    return tuple(sorted(range(n), key=place))


class Stored:
    """A ``Backend`` over ``pools``, which must be one arm with one pool for each question.

    ``shuffle_seed`` None serves samples in the pool's order, otherwise in the order of
    ``shuffled(shuffle_seed, dataset, question_id, n)``. Raises UsageError, naming the choices,
    where the pools hold several models, decodings, or pools for a question id, or samples that
    name arms of their own; InputError where there is no pool at all.
    """

    engine = "stored"

    def __init__(self, pools: Iterable[Pool], *, shuffle_seed: int | None = None):
        served = tuple(pools)
        if not served:
            raise InputError("there are no pools to draw from")
        _one_arm(served)
        self.model = served[0].model
        self.decoding: Mapping[str, Any] | None = served[0].decoding
        self._samples = {pool.question_id: _ordered(pool, shuffle_seed) for pool in served}
        self._followups = {pool.question_id: pool.followups for pool in served}
        self._capabilities = _capabilities(served)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        dataset: str | None = None,
        model: str | None = None,
        run: str | None = None,
        decoding: Mapping[str, Any] | None = None,
        shuffle_seed: int | None = None,
    ) -> Stored:
        """Serve those pools of a file that match every argument given.

        Pools whose samples name arms of their own are parted by arm first, so that ``model`` and
        ``decoding`` choose among those too.

        Raises InputError (with path and line) for an unreadable file, UsageError where nothing
        matches or what matches is not one arm.
        """
        wanted = {"dataset": dataset, "model": model, "run": run, "decoding": _shown(decoding)}
        asked = {name: value for name, value in wanted.items() if value is not None}
        offered: dict[str, set[str]] = {name: set() for name in asked}

        def matching() -> Iterator[Pool]:
            for pool in (part.pool for line in read_pools(path) for part in line.by_arm()):
                stated = {name: STATED[name](pool) for name in asked}
                for name, value in stated.items():
                    offered[name].add(value)
                if stated == asked:
                    yield pool

        chosen = tuple(matching())
        if not chosen:
            want = ", ".join(f"{name}={value}" for name, value in asked.items())
            have = "; ".join(f"{name}: {_listed(values)}" for name, values in offered.items())
            raise UsageError(f"{path}: no pool with {want}; the file has {have}")
        return cls(chosen, shuffle_seed=shuffle_seed)

    async def capabilities(self) -> Capabilities:
        """What the pools hold; ``seed`` is true as every draw is fixed."""
        return self._capabilities

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        """The stored samples ``first_index`` to ``first_index + n - 1`` of the question.

        Where only the first of them exist the batch is short: what is there is served, and only
        a call that finds nothing raises Exhausted. Raises Rejected for an unknown question id.
        Prompt tokens are not stored, hence unknown; completion tokens are known when every
        sample served states its own.
        """
        stored = self._samples.get(request.question_id)
        if stored is None:
            raise Rejected(
                f"no stored pool for question {request.question_id!r}; "
                f"ask one of the {len(self._samples)} questions in the pools of {self.model}"
            )
        if request.follow_up is not None:
            return Batch((self._follow_up(request, stored),), Usage(None, None, None, None))
        drawn = stored[request.first_index : request.first_index + request.n]
        if not drawn:
            raise Exhausted(
                f"the pool holds only {len(stored)} samples of question {request.question_id!r}; "
                f"draw at most {len(stored)}"
            )
        known = [sample.tokens for sample in drawn if sample.tokens is not None]
        completion = sum(known) if len(known) == len(drawn) else None
        if meter is not None and known:
            meter.received(sum(known))
        replies = tuple(_reply(sample, request.logprobs) for sample in drawn)
        return Batch(replies, Usage(None, completion, None, None))

    async def aclose(self) -> None:
        """Nothing to give back: the file was closed once read."""

    def _follow_up(self, request: Request, samples: tuple[Sample, ...]) -> Reply:
        assert request.follow_up is not None
        name, about = request.follow_up
        if about is None:
            kept = self._followups[request.question_id]
        else:
            kept = samples[about].followups if about < len(samples) else {}
        if name not in kept:
            where = "the question" if about is None else f"sample {about}"
            raise Rejected(f"the pool holds no reply to {name} about {where}")
        reply = kept[name]
        return Reply(reply.text, logprobs=reply.logprobs, answered=True, extra=reply.extra)


def _reply(sample: Sample, top: int | None) -> Reply:
    return Reply(
        text=sample.text,
        finish=sample.finish,
        tokens=sample.tokens,
        logprobs=None if top is None else sample.logprobs,
        answer=sample.answer,
        answered=True,
        signals=sample.signals,
    )


def _ordered(pool: Pool, seed: int | None) -> tuple[Sample, ...]:
    if seed is None:
        return pool.samples
    order = shuffled(seed, pool.dataset, pool.question_id, len(pool.samples))
    return tuple(pool.samples[index] for index in order)


def _replies(pool: Pool) -> Iterator[FollowUp]:
    """All follow-ups' replies that the pool holds."""
    for kept in (pool.followups, *(sample.followups for sample in pool.samples)):
        yield from kept.values()


def _capabilities(pools: tuple[Pool, ...]) -> Capabilities:
    logprobs = [sample.logprobs for pool in pools for sample in pool.samples]
    kept = [found for found in logprobs if found is not None]
    asked = [reply.logprobs for pool in pools for reply in _replies(pool)]
    every = [*kept, *(found for found in asked if found is not None)]
    ranks = (len(alternatives) for found in every for alternatives in found.top or ())
    notes = ["seed: every draw is stored; a request's seed and decoding change nothing"]
    if len(kept) < len(logprobs):
        absent = len(logprobs) - len(kept)
        notes.append(f"logprobs: {absent} of {len(logprobs)} stored samples have none")
    top = max(ranks, default=0) if every else None
    return Capabilities(n=MOST, logprobs=top, seed=True, notes=tuple(notes))


# -- one arm ------------------------------------------------------------------------------------


def _shown(decoding: Mapping[str, Any] | None) -> str | None:
    return None if decoding is None else canonical(decoding)


STATED: Mapping[str, Callable[[Pool], str]] = {
    "dataset": lambda pool: pool.dataset,
    "model": lambda pool: pool.model,
    "run": lambda pool: pool.run or "(not stated)",
    "decoding": lambda pool: _shown(pool.decoding) or "(not stated)",
}
"""What tells pools of a question apart, as it is shown and chosen by."""


def _one_arm(pools: tuple[Pool, ...]) -> None:
    """Raise UsageError unless the pools are one model and decoding, and one pool a question."""
    for pool in pools:
        if pool.arms:
            named = {arm.model for arm in pool.arms if arm.model is not None}
            whose = f"models {_listed(named)}" if named else "decodings"
            raise UsageError(
                f"the samples of question {pool.question_id!r} name {whose} of their own; "
                "they are no single arm; part them with Labelled.by_arm and serve one of the parts"
            )
    for name in ("model", "decoding"):
        _single(name, pools, "the pools")
    first: dict[str, Pool] = {}
    for pool in pools:
        other = first.setdefault(pool.question_id, pool)
        if other is not pool:
            for name in ("dataset", "run"):
                alike = tuple(p for p in pools if p.question_id == pool.question_id)
                _single(name, alike, f"question {pool.question_id!r}")
            raise UsageError(f"question {pool.question_id!r} has the same pool twice")


def _single(name: str, pools: tuple[Pool, ...], whose: str) -> None:
    values = {STATED[name](pool) for pool in pools}
    if len(values) > 1:
        raise UsageError(f"{whose}: several {name}s ({_listed(values)}); choose one with {name}=…")


def _listed(values: set[str]) -> str:
    shown = sorted(values)
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return ", ".join(shown[:8]) + more
