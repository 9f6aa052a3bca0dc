"""The card as one HTML file that needs nothing else: no network, no script, no font.

Headline numbers, what was found, pictures, segments, baselines, the decision, limits: in this
order, for a telephone, a screen and paper. Whatever users named is escaped. It does not compute.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from poise.report.card import Card
from poise.report.columns import Column, Difference
from poise.report.curves import BAND
from poise.report.decision import Decision
from poise.report.evaluation import BASE_RATE
from poise.report.gaps import LEVEL, Gap
from poise.report.markup import (
    ABSENT,
    STYLE,
    described,
    interval,
    listed,
    number,
    section,
    signed,
    table,
    text,
)
from poise.report.pictures import MOST_SEGMENTS, svgs

__all__ = ["page"]


def page(card: Card) -> str:
    """The whole page. Raises UsageError without matplotlib."""
    name = text(card.name or "Card")
    parts = [
        f'<header><h1>{name}</h1><p class="verdict">{text(card.verdict)}</p>',
        f"{_tiles(card)}</header>",
        section("What was found", _findings(card)),
        section("Pictures", _figures(card)),
        section("Segments, worst first", _segments(card)) if card.parts.segments else "",
        section("Beside other ways to state a probability", _methods(card)),
        section("By stated probability", _bins(card)),
        "" if card.decision is None else section("What was decided", _decision(card.decision)),
        section("Limits", listed(card.limits)),
        section("How it was measured", _measured(card)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(filter(None, parts))
        + "\n</body>\n</html>\n"
    )


# -- sections -----------------------------------------------------------------------------------


def _tiles(card: Card) -> str:
    stated = card.stated
    lost = sum(card.left_out.values())
    hidden = stated.ece_detectable.value
    unseen = "" if hidden is None else f"; below {hidden:.2f} could hide"
    tiles = [
        (
            "Brier",
            number(stated.brier.value),
            f"base rate {stated.base_brier:.3f}; lower is better",
        ),
        ("AUROC", number(stated.auroc.value), interval(stated.auroc) + "; 0.5 says nothing"),
        ("ECE", number(stated.ece), f"chance alone: up to {stated.ece_floor.p95:.3f}{unseen}"),
        ("Stated", number(card.parts.overall.stated), "mean over the rows"),
        ("Right", number(stated.base_rate), "share of the rows"),
        ("Rows", f"{card.rows:,}", f"of {card.questions:,} questions; {lost:,} left out"),
    ]
    cells = "".join(
        f'<div><dt>{what}</dt><dd class="number">{shown}</dd><dd>{text(more)}</dd></div>'
        for what, shown, more in tiles
    )
    return f'<dl class="tiles">{cells}</dl>'


def _findings(card: Card) -> str:
    items = "".join(
        f"<li><strong>{'Warning' if one.grave else 'Note'}:</strong> {text(one.text)}</li>"
        for one in card.findings
    )
    return f"<ul>{items}</ul>"


def _figures(card: Card) -> str:
    drawn = svgs(card)
    said = {
        "stated": _reliability_words(card.columns[0]),
        "coverage": _coverage_words(card),
        "segments": _segment_words(),
    }
    if "raw" in drawn and card.raw is not None:
        said["raw"] = _reliability_words(card.raw)
    figures = ""
    for name, svg in drawn.items():
        alt, caption = said[name]
        source = base64.b64encode(svg.encode()).decode()
        figures += (
            f'<figure><img alt="{text(alt)}" src="data:image/svg+xml;base64,{source}">'
            f"<figcaption>{text(caption)}</figcaption></figure>"
        )
    return f'<div class="pictures">{figures}</div>'


def _coverage_words(card: Card) -> tuple[str, str]:
    """Alternative text and caption."""
    return (
        f"Risk-coverage curve. Area {card.columns[0].aurc:.3f} for the stated probability, lower is"
        f" better; of all rows {card.random:.1%} are wrong."
    ), (
        "How much is wrong if only the surest share of the rows is answered. The oracle knows which"
        " are right; the dotted line is a signal that says nothing."
    )


def _segment_words() -> tuple[str, str]:
    """Alternative text and caption."""
    return ("Stated minus right for each segment; the numbers are in the table of segments."), (
        f"Worst first, at most {MOST_SEGMENTS}, each name with its rows. Filled: beyond chance,"
        " though many were looked at. Lines: 95% intervals."
    )


def _reliability_words(column: Column) -> tuple[str, str]:
    """Alternative text and caption."""
    report, line = column.report, column.reliability
    assert report is not None
    assert line is not None
    whose = "the stated probability" if column.role == "stated" else column.name
    middle = len(line.stated) // 2
    points = ", ".join(
        f"{line.right[i]:.2f} where it says {line.stated[i]:.2f}"
        for i in sorted({0, middle, len(line.stated) - 1})
    )
    alt = f"Reliability diagram of {whose}: right {points}. ECE {report.ece:.3f}."
    caption = (
        f"Line: share right at each value of {whose}. Grey: where {BAND:.0%} of such lines lie if"
        " it is exactly true. An ECE below the number in brackets can be chance."
        " Below: how the rows are spread."
    )
    return alt, caption


def _segments(card: Card) -> str:
    head = ["segment", "rows", "right", "stated", "gap", "95% interval", "Brier", "ECE", "chance"]
    rows = []
    for one in card.parts.segments or ():
        cells = [one.name, f"{one.gap.rows:,}", *_gap_cells(one.gap)]
        if not one.too_small:
            assert one.ece_floor is not None
            cells += [number(one.brier.value), number(one.ece.value)]
            cells.append(f"< {one.ece_floor.p95:.3f}")
        rows.append((cells, one.gap.beyond_chance))
    return table(
        head,
        rows,
        "Gap: stated minus right; above 0 is over-confident. Bold: beyond chance.",
    )


def _gap_cells(one: Gap) -> list[str]:
    shown = [number(one.right), number(one.stated)]
    if one.difference.value is None:
        return [*shown, "too few to judge"]
    return [*shown, signed(one.difference.value), interval(one.difference, with_sign=True)]


def _methods(card: Card) -> str:
    head = [
        "method",
        "Brier",
        "stated minus it",
        "95% interval",
        "log loss",
        "ECE",
        "chance",
        "AUROC",
        "AURC",
    ]
    against = {(one.against, one.metric): one for one in card.differences}
    stated = card.stated
    rows = []
    for column in card.columns:
        cells = [column.name, *_method_cells(column, against.get((column.name, "brier")))]
        rows.append((cells, column.role == "stated"))
    compared = _difference_cells(against[BASE_RATE, "brier"])
    base = [number(stated.base_brier), *compared, number(stated.base_log_loss)]
    base_row = [BASE_RATE, *base, ABSENT, ABSENT, "0.500", number(card.random)]
    return table(
        head,
        [rows[0], (base_row, False), *rows[1:]],
        "Stated minus it: difference in Brier on the same rows; below 0, the stated probability is"
        " better. AURC: area under risk-coverage, lower is better.",
    )


def _method_cells(column: Column, difference: Difference | None) -> list[str]:
    report = column.report
    ranking = [number(column.auroc.value), number(column.aurc)]
    if report is None:
        return ["no probability", *[""] * 5, *ranking]
    return [
        number(report.brier.value),
        *(["", ""] if difference is None else _difference_cells(difference)),
        number(report.log_loss.value),
        number(report.ece),
        f"< {report.ece_floor.p95:.3f}",
        *ranking,
    ]


def _difference_cells(one: Difference) -> list[str]:
    return [signed(one.estimate.value), interval(one.estimate, with_sign=True)]


def _bins(card: Card) -> str:
    rows = [
        (
            [f"{one.low:.1f} to {one.high:.1f}", f"{one.gap.rows:,}", *_gap_cells(one.gap)],
            one.gap.beyond_chance,
        )
        for one in card.parts.bins
    ]
    overall = card.parts.overall
    rows.append((["all", f"{overall.rows:,}", *_gap_cells(overall)], overall.beyond_chance))
    head = ["stated", "rows", "right", "mean stated", "gap", "95% interval"]
    return table(head, rows, "Gap: stated minus right. Bold: beyond chance.")


def _decision(one: Decision) -> str:
    version = "" if one.version is None else f", version {one.version}"
    facts = {
        "Profile": None if one.profile is None else f"{one.profile}{version}",
        "Created": one.created,
        "Arm": one.arm,
        "Answers": one.kind,
        "Fitted on": ", ".join(one.datasets),
        "Policy": one.policy,
        "Chosen": one.chosen,
        "Why": one.why,
        "Risk tolerance": one.tolerance if one.tolerance is not None else "none was stated",
        "Data": {name: fact for name, fact in one.data.items() if not isinstance(fact, Mapping)},
        "Other tasks turned away": {task: f"{share:.0%}" for task, share in one.detection.items()},
        "Note": one.note,
    }
    said = {name: _words(value) for name, value in facts.items() if value}
    return described(said) + (_considered(one) if one.considered else "")


def _considered(one: Decision) -> str:
    head = ["considered", "log loss", "± se", "Brier", "± se", "gain", "± se", "reason"]
    names = ("log_loss", "log_loss_se", "brier", "brier_se", "gain", "gain_se")
    rows = []
    for candidate in one.considered:
        what = str(candidate.get("what") or candidate.get("name") or "")
        numbers = [number(candidate.get(name)) for name in names]
        rows.append(([what, *numbers, str(candidate.get("reason") or "")], what == one.chosen))
    return table(head, rows, "Held-out numbers. Gain: log loss of the guard minus its own.")


def _measured(card: Card) -> str:
    stated = card.stated
    split = stated.corp_brier
    kept = {None: "not stated", True: "yes", False: "no"}[card.held_out]
    facts = {
        "Questions kept out of the fit": kept,
        "Intervals": f"{stated.level:.0%}, over questions; seed {card.seed}",
        "ECE": (
            f"over {stated.bins} bins of equal width; debiased"
            f" {number(stated.ece_debiased.value)}, without bins {stated.smooth_ece:.3f}"
        ),
        "Brier": (
            f"{split.score:.3f} = {split.mcb:.3f} (miscalibration) - {split.dsc:.3f}"
            f" (discrimination) + {split.unc:.3f} (base rate)"
        ),
        "Beyond chance": (
            "Holm's rule over all rows, bins and segments together: were every stated probability"
            f" true, the chance of any mark would be at most {LEVEL:.0%}"
        ),
        "Left out": "; ".join(f"{why}: {n:,}" for why, n in card.left_out.items()) or "nothing",
    }
    return described(facts)


def _words(value: object) -> str:
    """A value of the decision record in words."""
    if isinstance(value, Mapping):
        return "; ".join(
            f"{key} ({_words(inner)})" if isinstance(inner, Mapping) else f"{key} {_words(inner)}"
            for key, inner in value.items()
        )
    if isinstance(value, list | tuple):
        return ", ".join(_words(inner) for inner in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
