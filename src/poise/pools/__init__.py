"""Question files and pool files: read, validated line by line, written, split by question.

``rows`` turns a file of any format into rows, ``fields`` checks what a row holds, ``questions``
and ``reading`` make the nouns (``Pool``, ``Labelled``) of them, ``writing`` turns pools back into
records, ``split`` parts them by question. Labels live in ``Labelled``, never in ``Pool``.

It does not know: how answers are read or graded, what a signal means, which policy asks.
"""

from __future__ import annotations

from poise.pools.fields import logprobs_record, read_logprobs
from poise.pools.pool import Labelled, Pool, SampleArm, canonical
from poise.pools.questions import QuestionLine, read_questions
from poise.pools.reading import pool_from_record, read_pools
from poise.pools.rows import SkipCount
from poise.pools.split import part_of, split
from poise.pools.writing import pool_record, write_parquet

__all__ = [
    "Labelled",
    "Pool",
    "QuestionLine",
    "SampleArm",
    "SkipCount",
    "canonical",
    "logprobs_record",
    "part_of",
    "pool_from_record",
    "pool_record",
    "read_logprobs",
    "read_pools",
    "read_questions",
    "split",
    "write_parquet",
]
