"""How far the labels reach: segment by segment, and within each over the probabilities.

It does not know which answers should be labelled next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from poise.labelling.candidate import Candidate, band_of

__all__ = ["Coverage", "coverage"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Labels in one segment (None: answers without a segment), or ``overall``.

    Of ``total`` answers ``labelled`` have a label; of those ``graded`` are known as right or
    wrong and ``right`` are right. ``bands``: bands of probability that hold answers (no
    probability is a band); ``bands_covered``: those with a label. The graded are no random
    sample, so right / graded is no estimate of accuracy.
    """

    segment: str | None
    total: int
    labelled: int
    graded: int
    right: int
    bands: int
    bands_covered: int
    overall: bool = False

    @property
    def share(self) -> float:
        """Labelled of total, in [0, 1]."""
        return self.labelled / self.total

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def coverage(candidates: Iterable[Candidate]) -> tuple[Coverage, ...]:
    """One row a segment, worst covered first, then the overall row; () without candidates.

    Worst: the smallest share labelled, then of bands covered, then the most answers.
    """
    listed = list(candidates)
    if not listed:
        return ()
    segments: dict[str | None, list[Candidate]] = {}
    for candidate in listed:
        segments.setdefault(candidate.segment, []).append(candidate)
    rows = [_row(name, members) for name, members in segments.items()]
    rows.sort(key=lambda row: (row.share, row.bands_covered / row.bands, -row.total, _name(row)))
    return *rows, _row(None, listed, overall=True)


def _row(segment: str | None, members: Sequence[Candidate], *, overall: bool = False) -> Coverage:
    grades = [member.correct for member in members if member.correct is not None]
    return Coverage(
        segment=segment,
        total=len(members),
        labelled=sum(member.labelled for member in members),
        graded=len(grades),
        right=sum(grades),
        bands=len({band_of(member) for member in members}),
        bands_covered=len({band_of(member) for member in members if member.labelled}),
        overall=overall,
    )


def _name(row: Coverage) -> str:
    return row.segment or ""
