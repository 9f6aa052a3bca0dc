"""The card of a set of probabilities: every number that the page and the pictures show.

``make_card`` measures the stated probabilities, the raw signal and the baselines on the same rows,
compares them in pairs, looks for gaps in bins and segments, and says in words what was found. A
number that does not exist is None with a reason. It does not draw, write files or know profiles.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from poise.metrics import Report
from poise.metrics.rows import read
from poise.report.columns import Column, Difference, columns, differences
from poise.report.curves import Coverage, coverage
from poise.report.decision import Decision
from poise.report.evaluation import Evaluation
from poise.report.findings import Finding, findings, limits, verdict
from poise.report.parts import Parts, parts

__all__ = ["SCHEMA", "Card", "make_card"]

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Card:
    """What is known about a set of probabilities, for people.

    ``verdict``: the card in a sentence. ``columns``: the stated probability first, then raw signal
    and baselines; ``differences``: stated minus each of them. ``oracle`` and ``random``:
    risk-coverage where wrong rows are known, and the risk where nothing is. ``parts``: gaps over
    all, by bin and by segment. ``findings``: what is wrong or cannot be told, gravest first.
    """

    name: str
    verdict: str
    rows: int
    questions: int
    left_out: dict[str, int]
    held_out: bool | None
    columns: tuple[Column, ...]
    differences: tuple[Difference, ...]
    oracle: Coverage
    random: float
    parts: Parts
    findings: tuple[Finding, ...]
    limits: tuple[str, ...]
    decision: Decision | None
    seed: int

    @property
    def stated(self) -> Report:
        """The numbers of the stated probabilities."""
        report = self.columns[0].report
        assert report is not None
        return report

    @property
    def raw(self) -> Column | None:
        """The raw signal's column; None where none was given."""
        return next((one for one in self.columns if one.role == "raw"), None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; every number finite, every absent one null beside its reason."""
        body = {"schema": SCHEMA, **_fields(self)}
        plain: dict[str, Any] = json.loads(json.dumps(body, default=_fields, allow_nan=False))
        return plain


def make_card(evaluation: Evaluation, decision: Decision | None = None, *, seed: int = 0) -> Card:
    """Measure, compare and judge. Equal rows in equal order and equal seeds give equal cards."""
    rows = read(evaluation.right, evaluation.stated, None, evaluation.group)
    measured = columns(evaluation, seed)
    compared = differences(evaluation, seed)
    found = parts(evaluation, rows, seed)
    said = findings(evaluation, measured, compared, found)
    stated = measured[0].report
    assert stated is not None
    return Card(
        name=evaluation.name,
        verdict=verdict(said, stated, found),
        rows=rows.y.size,
        questions=rows.questions,
        left_out=dict(evaluation.left_out),
        held_out=evaluation.held_out,
        columns=measured,
        differences=compared,
        oracle=coverage(rows.y, rows.y),
        random=float(1 - rows.y.mean()),
        parts=found,
        findings=said,
        limits=limits(evaluation, decision, measured),
        decision=decision,
        seed=seed,
    )


def _fields(value: Any) -> dict[str, Any]:
    """What JSON does not know is one of our records, or a defect."""
    if isinstance(value, Decision):
        return value.to_dict()
    assert is_dataclass(value)
    return {one.name: getattr(value, one.name) for one in fields(value)}
