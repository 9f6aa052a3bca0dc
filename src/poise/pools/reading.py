"""Pool files and records -> labelled pools, checked.

The format is the one of ``writing``. It does not know what answers, labels or signals mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from poise.errors import InputError
from poise.pools.fields import Fields
from poise.pools.pool import Labelled, Pool, SampleArm
from poise.pools.questions import gold_text
from poise.pools.rows import Row, SkipCount, read
from poise.types import FollowUp, Sample

__all__ = ["pool_from_record", "read_pools"]

SCHEMA = 1
"""Version of the pool format."""

UNREAD = "the pool file holds no answer"
"""Why a stored sample has no answer, where the file gives no reason of its own."""

NESTED = frozenset({"decoding", "messages", "options", "signals", "followups", "samples"})
"""Columns that Parquet carries as JSON text."""


def read_pools(path: str | Path, *, skip_bad: SkipCount | None = None) -> Iterator[Labelled]:
    """The pools of a file, in its order, as they are read; ``-`` is stdin (JSON lines).

    JSON lines, plain or gzipped, or Parquet (nested columns as JSON text or as lists and structs).
    Raises InputError with file, line and reason at the first bad line (a repeated key is one), or
    counts it in ``skip_bad``; InputError for a damaged file or one without pools; UsageError for
    Parquet without pyarrow.
    """
    return read(path, _keyed, noun="pools", nested=NESTED, skip_bad=skip_bad)


def _keyed(row: Row, _number: int) -> tuple[str, Labelled]:
    labelled = pool_from_record(row)
    dataset, model, decoding, run, question_id = labelled.pool.key
    key = [dataset, model, decoding, run, question_id]
    return "the pool " + json.dumps(key, ensure_ascii=False), labelled


def pool_from_record(row: Mapping[str, Any]) -> Labelled:
    """One JSON object of a pool file, checked. Raises InputError without a place."""
    fields = Fields(row)
    schema = fields.take("schema")
    if schema is not None and schema != SCHEMA:
        raise fields.wrong("schema", schema, f"{SCHEMA}, the one this version of Poise reads")
    kind = fields.kind()
    drawn = _Drawn(fields.take("samples"))
    pool = Pool(
        dataset=fields.required("dataset"),
        model=fields.required("model"),
        question_id=fields.required("question_id"),
        samples=tuple(drawn.samples),
        messages=fields.messages(),
        kind=kind,
        options=fields.options(),
        segment=fields.name("segment"),
        decoding=fields.mapping("decoding"),
        run=fields.name("run"),
        engine=fields.name("engine"),
        prompt_hash=fields.name("prompt_hash"),
        signals=fields.signals(),
        arms=tuple(drawn.arms) if any(arm != SampleArm() for arm in drawn.arms) else (),
        followups=_followups(fields),
    )
    return Labelled(
        pool,
        gold_text(fields, kind),
        tuple(drawn.correct),
        fields.rest(),
        tuple(drawn.extra) if any(drawn.extra) else (),
    )


class _Drawn:
    """The columns of ``samples``: the draws, and beside them what does not belong in a draw."""

    def __init__(self, samples: Any):
        if not isinstance(samples, list) or not samples:
            raise InputError("samples should be a list of at least one sample")
        self.samples: list[Sample] = []
        self.correct: list[int | None] = []
        self.arms: list[SampleArm] = []
        self.extra: list[dict[str, Any]] = []
        for index, sample in enumerate(samples):
            if not isinstance(sample, dict):
                raise InputError(f"samples[{index}] should be a JSON object")
            self._add(index, Fields(sample, f"samples[{index}]."))

    def _add(self, index: int, fields: Fields) -> None:
        if not fields.states("answer"):
            raise InputError(f"samples[{index}] has no answer; null says it could not be read")
        answer, unread = fields.name("answer"), fields.text("unread")
        self.samples.append(
            Sample(
                index=index,
                text=fields.text("text"),
                answer=answer,
                unread=unread or (UNREAD if answer is None else None),
                finish=fields.text("finish"),
                tokens=fields.whole("tokens"),
                seconds=fields.amount("seconds"),
                seed=fields.whole("seed"),
                logprobs=fields.logprobs(),
                signals=fields.signals(),
                followups=_followups(fields, f"samples[{index}]."),
            )
        )
        self.correct.append(_label(fields))
        self.arms.append(SampleArm(fields.name("model"), fields.mapping("decoding")))
        self.extra.append(fields.rest())


def _label(fields: Fields) -> int | None:
    value = fields.take("correct")
    if value is None:
        return None
    if isinstance(value, (int, float)) and value in {0, 1}:
        return int(value)
    raise fields.wrong("correct", value, "0, 1 or null")


def _followups(fields: Fields, where: str = "") -> dict[str, FollowUp]:
    found: dict[str, FollowUp] = {}
    for name, reply in (fields.mapping("followups") or {}).items():
        if reply is None:
            continue  # a struct column of Parquet names every follow-up in every row
        if not isinstance(reply, dict):
            raise fields.wrong(f"followups.{name}", reply, 'an object with "text"')
        inner = Fields(reply, f"{where}followups.{name}.")
        found[name] = FollowUp(inner.text("text"), inner.logprobs(), inner.rest())
    return found
