"""Labelled pools -> JSON-ready records and Parquet files, such that reading gives them back.

In Parquet the plain columns are text, the nested ones (decoding, messages, options, signals,
samples) JSON text, and everything else goes into one column ``extra`` of JSON objects: so the
columns are the same in every file, whatever the pools carry along.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from poise.files import whole
from poise.pools.fields import logprobs_record
from poise.pools.pool import Labelled, Pool, SampleArm
from poise.pools.reading import NESTED, SCHEMA, UNREAD
from poise.pools.rows import MARK, REST, parquet_modules
from poise.types import FollowUp, Message, Sample

__all__ = ["pool_record", "write_parquet"]

_TEXT = ("dataset", "segment", "model", "engine", "prompt_hash", "run", "question_id", "question")
_COLUMNS = (*_TEXT, "gold", "kind", *sorted(NESTED))
_ROW_GROUP = 1024


def pool_record(labelled: Labelled) -> dict[str, Any]:
    """One line of a pool file as a JSON-ready mapping; absent fields are left out.

    Numbers are written as they are. ``pool_from_record`` gives an equal value back.
    """
    pool = labelled.pool
    known = {
        "schema": SCHEMA,
        "dataset": pool.dataset,
        "segment": pool.segment,
        "model": pool.model,
        "engine": pool.engine,
        "prompt_hash": pool.prompt_hash,
        "decoding": None if pool.decoding is None else dict(pool.decoding),
        "run": pool.run,
        "question_id": pool.question_id,
        **_asked(pool.messages),
        "options": None if pool.options is None else list(pool.options),
        "gold": labelled.gold,
        "kind": None if pool.kind is None else pool.kind.value,
        "signals": dict(pool.signals) or None,
        "followups": _followups(pool.followups),
        "samples": [_sample(labelled, pool, sample) for sample in pool.samples],
    }
    return _stated(known, labelled.extra)


def _asked(messages: tuple[Message, ...] | None) -> dict[str, Any]:
    if messages is None:
        return {}
    first = messages[0]
    if len(messages) == 1 and first.keys() == {"role", "content"} and first["role"] == "user":
        text = first["content"]
        if isinstance(text, str):
            return {"question": text}
    return {"messages": [dict(message) for message in messages]}


def _sample(labelled: Labelled, pool: Pool, sample: Sample) -> dict[str, Any]:
    index = sample.index
    arm = pool.arms[index] if pool.arms else SampleArm()
    known = {
        "correct": labelled.correct[index],
        "text": sample.text,
        "unread": None if sample.unread == UNREAD else sample.unread,
        "tokens": sample.tokens,
        "seconds": sample.seconds,
        "finish": sample.finish,
        "seed": sample.seed,
        "model": arm.model,
        "decoding": None if arm.decoding is None else dict(arm.decoding),
        "signals": dict(sample.signals) or None,
        "followups": _followups(sample.followups),
        "logprobs": None if sample.logprobs is None else logprobs_record(sample.logprobs),
    }
    extra = labelled.sample_extra[index] if labelled.sample_extra else {}
    return {"answer": sample.answer, **_stated(known, extra)}


def _followups(replies: Mapping[str, FollowUp]) -> dict[str, Any] | None:
    return {name: _followup(reply) for name, reply in replies.items()} or None


def _followup(reply: FollowUp) -> dict[str, Any]:
    known = {
        "text": reply.text,
        "logprobs": None if reply.logprobs is None else logprobs_record(reply.logprobs),
    }
    return _stated(known, reply.extra)


def _stated(known: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The known fields that are there, then the others, which never shadow a known one."""
    stated = {name: value for name, value in known.items() if value is not None}
    return stated | {name: value for name, value in extra.items() if name not in known}


def write_parquet(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Pool records (``pool_record``) -> a Parquet file that ``read_pools`` reads.

    Streams in row groups of 1,024 and puts the whole file in place at the end; an existing file
    is replaced. Raises UsageError where it cannot be written or pyarrow is not installed.
    """
    pyarrow, parquet = parquet_modules()
    text = pyarrow.string()
    schema = pyarrow.schema(
        [pyarrow.field(name, text) for name in _COLUMNS]
        + [pyarrow.field(REST, text, metadata=MARK)]
    )
    with whole(path) as stream, parquet.ParquetWriter(stream, schema) as writer:
        rows = (_row(record) for record in records)
        while group := list(itertools.islice(rows, _ROW_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def _row(record: Mapping[str, Any]) -> dict[str, str | None]:
    row = {
        name: _json(value) if name in NESTED else str(value)
        for name, value in record.items()
        if name in _COLUMNS and value is not None
    }
    further = {name: value for name, value in record.items() if name not in _COLUMNS}
    return {**row, REST: _json(further)}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
