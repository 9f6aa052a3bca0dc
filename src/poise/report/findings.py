"""What the numbers say, in words: warnings first, then what cannot be told, then the limits.

A *warning* is something that a reader should act on; a *note* is something to know. Whether a gap
is more than chance was decided in ``gaps``; here it is only put into words. It does not compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from poise.metrics import Report
from poise.report.columns import Column, Difference
from poise.report.decision import Decision
from poise.report.evaluation import BASE_RATE, Evaluation
from poise.report.gaps import LEAST_QUESTIONS, Gap
from poise.report.parts import Parts

__all__ = ["Finding", "findings", "limits", "verdict"]

FEW_QUESTIONS = 100
"""Fewer say little: at 100 the ECE of true probabilities is already about a tenth."""

SMALL_GAP = 0.02
"""A smaller over-confidence is told, even where it is beyond chance, but warns nobody."""

MANY_LEFT_OUT = 0.05
MANY_TIED = 0.25
MOST_NAMED = 5
"""Bins, and segments, that are put into words; the tables hold all of them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind`` for programs, ``level`` warning or note, ``text`` one sentence or two for people.

    ``gap``: the numbers behind it where it speaks of one.
    """

    kind: str
    level: str
    text: str
    gap: Gap | None = None

    @property
    def grave(self) -> bool:
        """Whether it is a warning."""
        return self.level == "warning"


def findings(
    evaluation: Evaluation,
    columns: Sequence[Column],
    differences: Sequence[Difference],
    found: Parts,
) -> tuple[Finding, ...]:
    """Everything worth a sentence, warnings first."""
    stated = columns[0]
    assert stated.report is not None
    said = [
        *(Finding("unfair_sample", "warning", text) for text in evaluation.caveats),
        *_named([("over all rows", found.overall)]),
        *_error(stated.report),
        *_worth(stated.report, differences),
        *_rows(stated.report, evaluation.left_out),
        *_gaps(found),
        *_ties(columns),
        *_segments(found),
    ]
    return tuple(sorted(said, key=lambda one: not one.grave))


def verdict(found: Iterable[Finding], report: Report, parts: Parts) -> str:
    """The card in one sentence or two; ``report`` is the stated probability's."""
    kinds = {one.kind for one in found if one.grave}
    over = sum(one.gap.over_confident for one in parts.segments or ())
    wide = (parts.overall, *(one.gap for one in parts.bins))
    broad = any(one.over_confident for one in wide)
    hidden = report.ece_detectable.value
    unseen = "" if hidden is None else f"; an error below {hidden:.2f} could stay hidden"
    if "over_confident" in kinds and broad:
        said = "Over-confident: more is promised than is kept"
    elif "miscalibrated" in kinds:
        said = "Not calibrated: what is stated and what is right differ by more than chance"
    elif "few_questions" in kinds:
        said = f"Too few questions to judge: {report.questions}"
    elif any(one.beyond_chance for one in wide):
        said = "Nearly calibrated: the ECE could be chance, but not every gap is"
    else:
        said = f"No miscalibration found over {report.questions:,} questions{unseen}"
    if over and not broad:
        said += f". Over-confident in {over} of {len(parts.segments or ())} segments"
    useless = " No better than stating the base rate." if "no_skill" in kinds else ""
    return f"{said}.{useless}"


def limits(
    evaluation: Evaluation, decision: Decision | None, columns: Sequence[Column]
) -> tuple[str, ...]:
    """What the card cannot say, in sentences; those of ``decision`` last."""
    report = columns[0].report
    assert report is not None
    said = []
    if evaluation.held_out is None:
        said.append(
            "It is not stated whether these questions were kept out of the fit. If they were not,"
            " the numbers flatter."
        )
    elif not evaluation.held_out:
        said.append("The probabilities were fitted on these questions: the numbers flatter.")
    said.append(
        "The numbers are about questions like these, asked of the same model in the same way."
        " Intervals cover the chance of having drawn these questions, not a change of task, model"
        " or prompt."
    )
    said.append(
        f"The base rate ({report.base_rate:.3f}) is taken from these very rows, which favours it."
    )
    if report.log_infinite:
        said.append(
            f"Log loss holds probabilities within [{report.log_floor:g}, 1 - {report.log_floor:g}]."
        )
    said.extend(one.reason for one in columns if one.reason is not None)
    if decision is not None:
        if decision.tolerance is None:
            said.append(
                "No risk tolerance was stated, so the card does not say where to stop answering."
            )
        said.extend(decision.limits)
    return tuple(said)


# -- inside -------------------------------------------------------------------------------------


def _gaps(found: Parts) -> Iterator[Finding]:
    """Gaps beyond chance in bins, then in segments, over-confident ones first."""
    bins = [(f"where it states {one.low:.1f} to {one.high:.1f}", one.gap) for one in found.bins]
    yield from _named(bins)
    segments = [(f"in segment {one.name!r}", one.gap) for one in found.segments or ()]
    yield from _named(segments)


def _named(places: Iterable[tuple[str, Gap]]) -> Iterator[Finding]:
    beyond = [(place, one) for place, one in places if one.beyond_chance]
    for over in (True, False):
        ordered = sorted(
            ((place, one) for place, one in beyond if one.over_confident is over),
            key=lambda named: -abs(named[1].stated - named[1].right),
        )
        kind = "over_confident" if over else "under_confident"
        for place, one in ordered[:MOST_NAMED]:
            grave = over and one.stated - one.right >= SMALL_GAP
            yield Finding(kind, "warning" if grave else "note", _sentence(place, one), one)
        if more := ordered[MOST_NAMED:]:
            what = "segments" if "segment" in more[0][0] else "bins"
            worst = abs(more[0][1].stated - more[0][1].right)
            text = f"The same in {len(more)} more {what}, by up to {worst:.2f}; see the table."
            yield Finding(kind, "warning" if over and worst >= SMALL_GAP else "note", text)


def _sentence(place: str, one: Gap) -> str:
    side = "Over-confident" if one.over_confident else "Under-confident"
    of = "" if one.rows == one.questions else f" of {one.questions:,} questions"
    said = f"says {one.stated:.2f} on average, right {one.right:.2f} of the time"
    return f"{side} {place}: {said}, n = {one.rows:,}{of}."


def _error(report: Report) -> Iterator[Finding]:
    floor, hidden = report.ece_floor, report.ece_detectable
    if report.questions < FEW_QUESTIONS:
        yield Finding(
            "few_questions",
            "warning",
            f"Only {report.questions} questions: probabilities that are exactly true would show an"
            f" ECE of {floor.mean:.2f} here by chance alone.",
        )
    if report.ece > floor.p95:
        yield Finding(
            "miscalibrated",
            "warning",
            f"ECE {report.ece:.3f} is more than chance: true probabilities would stay below"
            f" {floor.p95:.3f} nineteen times in twenty.",
        )
        return
    unseen = (
        f"An error below {hidden.value:.2f} would most likely stay hidden."
        if hidden.value is not None
        else "No shift of these probabilities could be seen with these rows."
    )
    yield Finding(
        "within_noise",
        "note",
        f"ECE {report.ece:.3f} cannot be told from calibrated: true probabilities show"
        f" {floor.mean:.3f} on average and up to {floor.p95:.3f}. {unseen}",
    )


def _worth(report: Report, differences: Iterable[Difference]) -> Iterator[Finding]:
    rate = report.base_rate
    if not 0 < rate < 1:
        every = "right" if rate else "wrong"
        yield Finding(
            "one_class",
            "warning",
            f"All {report.rows:,} rows are {every}: whether the probabilities tell right from wrong"
            " cannot be measured.",
        )
    elif not report.beats_base_rate:
        yield Finding(
            "no_skill",
            "warning",
            f"Brier {report.brier.value:.3f} is not below the base rate's {report.base_brier:.3f}:"
            f" stating {rate:.2f} every time would be no worse, so a low ECE is no merit.",
        )
    for one in differences:
        if one.metric != "brier" or one.estimate.interval is None:
            continue
        if one.against == BASE_RATE and not (0 < rate < 1 and report.beats_base_rate):
            continue
        low, high = one.estimate.interval
        interval = f"Brier difference {one.estimate.value:+.3f}, {low:+.3f} to {high:+.3f}"
        if low > 0:
            text = f"Worse than {one.against}: {interval}."
            yield Finding("worse_than_baseline", "warning", text)
        elif high >= 0:
            text = f"Not shown to be better than {one.against}: {interval}."
            yield Finding("not_better", "note", text)


def _rows(report: Report, left_out: Mapping[str, int]) -> Iterator[Finding]:
    if report.log_infinite:
        yield Finding(
            "certain_and_wrong",
            "warning",
            f"{report.log_infinite:,} rows were stated as certain and turned out otherwise: their"
            " log loss is infinite and is shown with a floor.",
        )
    lost = sum(left_out.values())
    if lost:
        share = lost / (lost + report.rows)
        reasons = "; ".join(f"{why}: {n:,}" for why, n in left_out.items() if n)
        yield Finding(
            "left_out",
            "warning" if share > MANY_LEFT_OUT else "note",
            f"{lost:,} of {lost + report.rows:,} rows ({share:.1%}) are left out ({reasons})."
            " The numbers are about the rest.",
        )


def _ties(columns: Iterable[Column]) -> Iterator[Finding]:
    for one in columns:
        whose = "The stated probability" if one.role == "stated" else one.name
        if one.distinct == 1:
            yield Finding(
                "constant",
                "warning" if one.role == "stated" else "note",
                f"{whose} is the same on every row: it cannot tell right from wrong.",
            )
        elif one.most_tied >= MANY_TIED and one.role != "baseline":
            yield Finding(
                "ties",
                "note",
                f"{whose} takes {one.distinct:,} values, and {one.most_tied:.0%} of the rows share"
                " one: among those it cannot rank.",
            )


def _segments(found: Parts) -> Iterator[Finding]:
    small = sum(one.too_small for one in found.segments or ())
    if small:
        yield Finding(
            "small_segments",
            "note",
            f"{small} of {len(found.segments or ())} segments have fewer than {LEAST_QUESTIONS}"
            " questions: too small to judge.",
        )
