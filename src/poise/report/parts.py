"""Where the gaps are: over all rows, by stated probability, and by segment, judged together.

It does not know what a gap means for anybody, nor how to draw one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from poise import metrics
from poise.metrics import Estimate, Floor
from poise.metrics.calibration import BINS, in_bins
from poise.metrics.rows import Rows, codes
from poise.report.evaluation import Evaluation
from poise.report.gaps import LEAST_QUESTIONS, Gap, gap, marked

__all__ = ["Bin", "Parts", "Segment", "parts"]

DRAWS = 300


@dataclass(frozen=True, slots=True)
class Bin:
    """The gap where the stated probability lies in [``low``, ``high``), the last bin closed."""

    low: float
    high: float
    gap: Gap


@dataclass(frozen=True, slots=True)
class Segment:
    """The numbers of one segment; ``too_small``: it cannot be judged, and Brier and ECE are None.

    ``ece_floor``: the ECE that its probabilities would show by chance if they were true.
    """

    name: str
    gap: Gap
    brier: Estimate
    ece: Estimate
    ece_floor: Floor | None
    too_small: bool


@dataclass(frozen=True, slots=True)
class Parts:
    """``overall``, the bins that hold rows, and ``segments`` worst first (None: none named)."""

    overall: Gap
    bins: tuple[Bin, ...]
    segments: tuple[Segment, ...] | None


def parts(evaluation: Evaluation, rows: Rows, seed: int) -> Parts:
    """Gaps of ``rows`` (those of ``evaluation``, weights 1) over all, by bin and by segment."""
    place = in_bins(rows.p, BINS)
    filled = np.unique(place)
    gaps = [gap(rows), *(gap(rows.take(place == one)) for one in filled)]
    segments = [] if evaluation.segment is None else _segments(evaluation, rows, seed)
    judged = marked([*gaps, *(one.gap for one in segments)])
    settled = [
        replace(one, gap=found) for one, found in zip(segments, judged[len(gaps) :], strict=True)
    ]
    return Parts(
        overall=judged[0],
        bins=tuple(
            Bin(float(one / BINS), float((one + 1) / BINS), found)
            for one, found in zip(filled, judged[1 : len(gaps)], strict=True)
        ),
        segments=None if evaluation.segment is None else tuple(sorted(settled, key=_worst_first)),
    )


def _segments(evaluation: Evaluation, rows: Rows, seed: int) -> list[Segment]:
    assert evaluation.segment is not None
    named = evaluation.segment
    question = None if rows.single else rows.question
    table = metrics.segments(
        "brier", rows.y, rows.p, named, question, least=LEAST_QUESTIONS, seed=seed
    )
    number, names = codes("segment", named)
    place = {name: code for code, name in enumerate(names)}
    made = []
    for one in table:
        inside = rows.take(number == place[one.name])
        reason = one.estimate.reason if one.estimate.value is None else None
        floor = None
        if reason is None:
            of = None if inside.single else inside.question
            floor = metrics.noise_floor(inside.p, None, of, draws=DRAWS, seed=seed)
        ece = None if floor is None else metrics.ece(inside.y, inside.p)
        made.append(
            Segment(
                name=str(one.name),
                gap=gap(inside),
                brier=one.estimate,
                ece=Estimate(ece, reason=reason),
                ece_floor=floor,
                too_small=reason is not None,
            )
        )
    return made


def _worst_first(one: Segment) -> tuple[bool, bool, float, int, str]:
    """Gaps beyond chance, then the others, the largest first; then what is too small to judge."""
    size = abs(one.gap.difference.value or 0.0)
    return one.too_small, not one.gap.beyond_chance, -size, -one.gap.rows, one.name
