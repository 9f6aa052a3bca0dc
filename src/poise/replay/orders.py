"""Stored pools as arrays: shuffled orders of the same samples, with what each would have cost.

Answers are compared as when serving, once for each pool. Where equality is not transitive (see
``answers.clusters``) serving a shuffled pool may part them a little differently.

It does not know stop rules or votes, only which signals they need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from poise.answers.clusters import Clusters
from poise.errors import InputError, UsageError
from poise.pools import Labelled, canonical
from poise.replay.shuffling import permutations, renumbered
from poise.signals import AskingSignal, Evidence, compute, signal
from poise.spend import MESSAGE_TOKENS
from poise.types import Question

__all__ = ["FloatArray", "Orders", "orders"]

FloatArray = npt.NDArray[np.float64]

BYTES_A_TOKEN = 4
"""Of English text under current byte-pair vocabularies, as a rule of thumb."""


@dataclass(frozen=True, slots=True)
class Orders:
    """q questions in o orders of N samples each.

    ``codes`` (q, o, N) answer clusters numbered by first appearance in their order, -1 unreadable;
    ``right`` (q, o, N) whether the cluster of that number is right by its first member's grade: 1,
    0, or -1 where not known. ``tokens`` completion tokens and ``seconds`` of each sample
    (q, o, N), nan where not known. ``prompt_tokens`` (q,) estimated from the question's length,
    nan without its text. ``values`` (q, o, N) by sample signal, nan where missing; ``asks``
    (q, o, N) by signal that asks follow-ups: equal numbers share one call, -1 asks nothing.
    ``group`` (dataset, question id) of each question. ``graded`` (q,) whether every readable
    sample of the question has a grade; without a readable sample none is missing.
    """

    codes: npt.NDArray[np.int16]
    right: npt.NDArray[np.int8]
    tokens: FloatArray
    seconds: FloatArray
    prompt_tokens: FloatArray
    values: Mapping[str, FloatArray]
    asks: Mapping[str, npt.NDArray[np.int16]]
    group: tuple[tuple[str, str], ...]
    graded: npt.NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(q, o, N)."""
        q, o, n = self.codes.shape
        return q, o, n

    @property
    def gold(self) -> bool:
        """Whether any question is graded, and has an answer that this could be said of."""
        return bool((self.graded & (self.right >= 0).any(axis=(1, 2))).any())

    @property
    def read(self) -> bool:
        """Whether any answer of any question could be read."""
        return bool((self.codes >= 0).any())

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Orders:
        """The questions at ``rows``, numbers or a mask (q,)."""
        places = np.arange(len(self.group))[rows]
        taken: dict[str, Any] = {"group": tuple(self.group[place] for place in places)}
        for name in (each.name for each in fields(self) if each.name != "group"):
            column = getattr(self, name)
            taken[name] = (
                {key: array[places] for key, array in column.items()}
                if isinstance(column, Mapping)
                else column[places]
            )
        return Orders(**taken)


def orders(
    pools: Sequence[Labelled],
    shuffles: int,
    seed: int,
    needs: Sequence[str] = (),
    *,
    max_samples: int | None = None,
    own_order: bool = False,
) -> Orders:
    """``shuffles`` seeded orders of every pool, cut to its first N samples.

    N is the pools' size, or ``max_samples``, drawn from all samples of a larger pool.
    ``own_order``: the pool's own order comes first, beside the shuffled ones. An order depends on
    (seed, dataset, question id, pool size) alone. ``needs``: sample signals to read. Raises
    UsageError for pools of several arms, an order count below 1, or a signal that is not of single
    samples; InputError where there is no pool, where pools differ in size or hold fewer than two
    samples, or where no sample carries a signal.
    """
    if shuffles + own_order < 1:
        raise UsageError(f"shuffles={shuffles}: replay at least one order")
    _one_arm(pools)
    size = _size(pools, max_samples)
    index = [_indices(one, shuffles, seed, size, own=own_order) for one in pools]
    labels = _gathered([_labels(one) for one in pools], index, np.int16)
    grades = _gathered([_grades(one) for one in pools], index, np.int8)
    q, o, _ = labels.shape
    codes, right = renumbered(labels.reshape(-1, size), grades.reshape(-1, size))
    return Orders(
        codes=codes.reshape(q, o, size),
        right=right.reshape(q, o, size),
        tokens=_numbers([_stated(one, "tokens") for one in pools], index),
        seconds=_numbers([_stated(one, "seconds") for one in pools], index),
        prompt_tokens=np.array([_prompt(one) for one in pools]),
        values={name: _numbers(_values(name, pools), index) for name in needs},
        asks={
            name: _asks(name, pools, index)
            for name in needs
            if isinstance(signal(name), AskingSignal)
        },
        group=tuple(one.pool.group for one in pools),
        graded=np.array([_is_graded(one) for one in pools], np.bool_),
    )


# -- what pools must have in common ---------------------------------------------------------------


def _one_arm(pools: Sequence[Labelled]) -> None:
    """Raise where the pools are of several arms, or a question has several."""
    if not pools:
        raise InputError("there are no pools to replay")
    stated: dict[str, set[str]] = {"model": set(), "decoding": set(), "run": set()}
    for one in pools:
        if one.pool.arms:
            raise UsageError(
                f"the samples of question {one.pool.question_id!r} name models or decodings of "
                "their own; part them with Labelled.by_arm and choose one with -m"
            )
        stated["model"].add(one.pool.model)
        stated["decoding"].add(
            "(not stated)" if one.pool.decoding is None else canonical(one.pool.decoding)
        )
        stated["run"].add(one.pool.run or "(not stated)")
    flags = {"model": "-m", "decoding": "--run", "run": "--run"}
    for name in ("model", "decoding"):
        if len(stated[name]) > 1:
            raise UsageError(_several(name, stated[name], flags[name]))
    groups = {one.pool.group for one in pools}
    if len(groups) < len(pools):
        if len(stated["run"]) > 1:
            raise UsageError(_several("run", stated["run"], flags["run"]))
        raise InputError("a question has the same pool twice; name each file once")


def _several(name: str, found: set[str], flag: str) -> str:
    shown = sorted(found)
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return (
        f"the pools are of {len(shown)} {name}s ({', '.join(shown[:8])}{more}), which are never "
        f"voted together; choose one with {flag}"
    )


def _size(pools: Sequence[Labelled], wanted: int | None) -> int:
    sizes = np.array([len(one.pool.samples) for one in pools])
    least, most = int(sizes.min()), int(sizes.max())
    if wanted is None and least < most:
        raise InputError(
            f"the pools hold from {least} to {most} samples "
            f"({int((sizes < most).sum())} of {len(sizes)} hold fewer than {most}); "
            f"say how many to replay with --max-samples"
        )
    size = most if wanted is None else wanted
    if size < 2:
        raise InputError(
            f"{size} sample a question: there is nothing to stop early; replay pools of two or more"
        )
    if least < size:
        short = pools[int(sizes.argmin())].pool.question_id
        raise InputError(
            f"{int((sizes < size).sum())} of {len(sizes)} pools hold fewer than {size} samples "
            f"(question {short!r} holds {least}); pass --max-samples {max(2, least)}, or "
            "--skip-bad to leave the short ones out"
        )
    return size


# -- one pool's columns, (n,) in its own order ----------------------------------------------------


def _labels(one: Labelled) -> npt.NDArray[np.int64]:
    clusters = Clusters(one.pool.kind)
    for sample in one.pool.samples:
        clusters.add(sample.answer)
    return np.array([-1 if c is None else c for c in clusters.clusters], np.int64)


def _grades(one: Labelled) -> npt.NDArray[np.int64]:
    return np.array([-1 if grade is None else grade for grade in one.correct], np.int64)


def _is_graded(one: Labelled) -> bool:
    pairs = zip(one.pool.samples, one.correct, strict=True)
    return all(grade is not None for sample, grade in pairs if sample.answer is not None)


def _stated(one: Labelled, name: str) -> FloatArray:
    found = [getattr(sample, name) for sample in one.pool.samples]
    return np.array([np.nan if number is None else number for number in found], np.float64)


def _prompt(one: Labelled) -> float:
    if one.pool.messages is None:
        return np.nan
    texts = (str(part) for message in one.pool.messages for part in message.values())
    told = sum(len(text.encode()) for text in texts) / BYTES_A_TOKEN
    return told + MESSAGE_TOKENS * len(one.pool.messages)


def _values(name: str, pools: Sequence[Labelled]) -> list[FloatArray]:
    """The signal of every sample, (n,) a pool. Raises where no sample has it."""
    read = signal(name)
    if read.level != "sample":
        raise UsageError(f"{name} is a signal of the {read.level}; policies read single samples'")
    columns, why = [], ""
    for one in pools:
        values = []
        for sample in one.pool.samples:
            found, missing = compute([read], Evidence.single(sample))
            value = found[name]
            values.append(np.nan if value is None else value)
            why = missing.get(name, why)
        columns.append(np.array(values, np.float64))
    if all(np.isnan(column).all() for column in columns):
        raise InputError(f"the policy or vote needs {name}, which no sample has: {why}")
    return columns


def _asked(name: str, one: Labelled) -> npt.NDArray[np.int64]:
    """Which follow-up each sample needs, (n,): equal ones share a number, -1 none."""
    asking = signal(name)
    assert isinstance(asking, AskingSignal)
    pool = one.pool
    question = pool.question or Question.ask("", pool.kind, id=pool.question_id)
    known: dict[str, int] = {}
    asks = (asking.ask(question, sample) for sample in pool.samples)
    return np.array(
        [-1 if ask is None else known.setdefault(repr(ask.messages), len(known)) for ask in asks],
        np.int64,
    )


# -- gathered over orders -------------------------------------------------------------------------


def _indices(
    one: Labelled, count: int, seed: int, size: int, *, own: bool
) -> npt.NDArray[np.int64]:
    pool = one.pool
    n = len(pool.samples)
    drawn = permutations(seed, pool.dataset, pool.question_id, n, count)
    return np.concatenate([np.arange(n)[None], drawn] if own else [drawn])[:, :size]


def _gathered(columns: Sequence[Any], index: Sequence[Any], kind: Any) -> Any:
    return np.stack(
        [column.astype(kind)[at] for column, at in zip(columns, index, strict=True)], dtype=kind
    )


def _numbers(columns: list[FloatArray], index: Sequence[Any]) -> FloatArray:
    if all(np.isnan(column).all() for column in columns):
        return np.broadcast_to(np.nan, (len(index), *index[0].shape))
    found: FloatArray = _gathered(columns, index, np.float64)
    return found


def _asks(name: str, pools: Sequence[Labelled], index: Sequence[Any]) -> npt.NDArray[np.int16]:
    labels = _gathered([_asked(name, one) for one in pools], index, np.int16)
    rows = labels.reshape(-1, labels.shape[2])
    return renumbered(rows, np.zeros(rows.shape, np.int8))[0].reshape(labels.shape)
