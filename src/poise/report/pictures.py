"""The card's pictures: reliability, risk-coverage, and gaps by segment; apart, or all in one.

Every line differs from the others in more than colour, text is black on white, and apart each
picture is as wide as a telephone's page, with no letter under nine points there. Matplotlib is
loaded when the first picture is drawn. It does not know where the numbers come from.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from poise.errors import UsageError
from poise.report.card import Card
from poise.report.columns import Column
from poise.report.parts import Segment

__all__ = ["MOST_SEGMENTS", "png", "svgs"]

MOST_SEGMENTS = 15
MOST_FINDINGS = 4
LONGEST_NAME = 18
LONGEST_IN_LEGEND = 14
DPI = 160
WIDTH = 3.7
"""Inches of a picture apart: a page of 390 pixels less its margins."""

LINE = 0.19
"""Inches from one line of text to the next."""

FEW_POINTS = 25
"""Up to so many points of a curve are marked: they are then values that the signal takes."""

TICKS = {0: "0", 0.2: ".2", 0.4: ".4", 0.6: ".6", 0.8: ".8", 1: "1"}
INK, GREY, PALE = "black", "0.4", "0.83"
DASHED, DOTTED, MIXED = (0, (5, 2)), (0, (1, 1.8)), (0, (6, 2, 1, 2))

STYLE = {
    "font.size": 9.5,
    "figure.titlesize": 11,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "hatch.linewidth": 0.6,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "poise",
}

Draw = Callable[[Any, Card], None]
"""Draws one picture of a card on a figure or a part of one."""


def svgs(card: Card) -> dict[str, str]:
    """Each picture as SVG text, without an XML header, by name: raw, stated, coverage, segments.

    A picture that has nothing to show is left out. Raises UsageError without matplotlib.
    """
    drawn = {}
    with _drawing():
        for name, (height, draw) in _pictures(card).items():
            figure = _figure(WIDTH, height)
            draw(figure, card)
            _settle(figure)
            file = io.StringIO()
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
            text = file.getvalue()
            drawn[name] = text[text.index("<svg") :]
    return drawn


def png(card: Card) -> bytes:
    """All pictures in one, below the verdict, the headline numbers and the gravest findings.

    Raises UsageError without matplotlib.
    """
    with _drawing():
        pictures = _pictures(card)
        names = list(pictures)
        rows = [names[place : place + 2] for place in range(0, len(names), 2)]
        lines = _headline(card)
        heights = [LINE * (sum(line[0] for line in lines) + 0.5)]
        heights += [max(pictures[name][0] for name in row) for row in rows]
        figure = _figure(2 * WIDTH + 0.2, sum(heights))
        bands = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        _write(bands[0], lines)
        for band, row in zip(bands[1:], rows, strict=True):
            places = band.subfigures(1, len(row), squeeze=False)[0]
            for place, name in zip(places, row, strict=True):
                pictures[name][1](place, card)
        _settle(figure)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


# -- the pictures -------------------------------------------------------------------------------


def _pictures(card: Card) -> Mapping[str, tuple[float, Draw]]:
    """Height in inches and way to draw, of every picture that has something to show."""
    found: dict[str, tuple[float, Draw]] = {}
    raw = card.raw
    if raw is not None and raw.report is not None:
        title = f"Raw {_name(raw.name, 30)}"
        found["raw"] = (4.6, lambda figure, _: _reliability(figure, raw, title))
    stated = card.columns[0]
    found["stated"] = (4.6, lambda figure, _: _reliability(figure, stated, "Stated probability"))
    found["coverage"] = (4.0, _coverage)
    if judged := _judged(card):
        found["segments"] = (max(2.2, 1.5 + 0.24 * min(len(judged), MOST_SEGMENTS)), _segments)
    return found


def _reliability(figure: Any, column: Column, title: str) -> None:
    line, spread, report = column.reliability, column.density, column.report
    assert line is not None
    assert spread is not None
    assert report is not None
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[4.2, 1])
    _title(figure, title)
    top.set_title(
        f"Brier {report.brier.value:.3f}, ECE {report.ece:.3f}"
        f" (chance < {report.ece_floor.p95:.3f})"
    )
    if len(line.stated) == 1:
        top.vlines(line.stated, line.low, line.high, color=PALE, lw=8)
    top.fill_between(line.stated, line.low, line.high, color=PALE, lw=0)
    top.plot([0, 1], [0, 1], color=GREY, ls=DASHED, lw=1)
    marker = "o" if len(line.stated) <= FEW_POINTS else ""
    top.plot(line.stated, line.right, color=INK, lw=1.8, marker=marker, ms=4.5)
    top.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share right")
    top.set_yticks(list(TICKS), list(TICKS.values()))
    below.bar(
        spread.edges[:-1],
        spread.share,
        spread.edges[1],
        align="edge",
        color="white",
        edgecolor=INK,
        hatch="////",
        lw=0.7,
    )
    below.set_xticks(list(TICKS), list(TICKS.values()))
    below.set(xlabel="what it says", ylabel="rows")
    below.locator_params(axis="y", nbins=3)
    below.yaxis.set_major_formatter(_percent)


def _coverage(figure: Any, card: Card) -> None:
    axes = figure.subplots()
    _title(figure, "Risk by share answered")
    stated, raw = card.columns[0].coverage, card.raw
    lines = [
        ("stated", stated, {"color": INK, "lw": 2}),
        ("oracle", card.oracle, {"color": GREY, "lw": 1.3, "ls": MIXED}),
    ]
    if raw is not None:
        name = f"raw {_name(raw.name, LONGEST_IN_LEGEND)}"
        lines.append((name, raw.coverage, {"color": INK, "lw": 1.4, "ls": DASHED}))
    for name, line, look in lines:
        axes.plot(line.coverage, line.risk, label=name, **look)
    axes.axhline(card.random, color=GREY, ls=DOTTED, lw=1.5, label="no signal")
    highest = max(card.random, 0.1, *(risk for _, line, _ in lines for risk in line.risk))
    axes.set(xlim=(0, 1.01), ylim=(-0.02 * highest, 1.04 * highest))
    axes.set(xlabel="share answered, surest first", ylabel="share of these that is wrong")
    axes.xaxis.set_major_formatter(_percent)
    axes.yaxis.set_major_formatter(_percent)
    legend = axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        handlelength=3,
        columnspacing=1.2,
        borderaxespad=0.2,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _segments(figure: Any, card: Card) -> None:
    judged = _judged(card)
    shown, small = judged[:MOST_SEGMENTS], len(card.parts.segments or ()) - len(judged)
    axes = figure.subplots()
    _title(figure, "Stated minus right, by segment")
    axes.axvline(0, color=GREY, ls=DASHED, lw=1)
    for place, one in enumerate(shown):
        interval = one.gap.difference.interval
        assert interval is not None
        axes.plot(interval, (place, place), color=INK, lw=1.3, solid_capstyle="butt")
        fill = INK if one.gap.beyond_chance else "white"
        size = one.gap.stated - one.gap.right
        axes.plot(size, place, marker="o", ms=6, mfc=fill, mec=INK, ls="")
    names = [f"{_name(one.name, LONGEST_NAME)}  {one.gap.rows:,}" for one in shown]
    axes.set_yticks(range(len(shown)), names, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.locator_params(axis="x", nbins=5)
    more = [f"{len(judged) - len(shown)} more" if len(judged) > len(shown) else ""]
    more += [f"{small} too small to judge" if small else ""]
    lines = ["under-confident  ←  0  →  over-confident", "filled: beyond chance"]
    lines += ["not shown: " + ", ".join(filter(None, more))] if any(more) else []
    figure.supxlabel("\n".join(lines), size=9)


def _headline(card: Card) -> list[tuple[float, float, str, str]]:
    """Lines of text: height in ``LINE``, size in points, weight, text."""
    stated = card.stated
    auroc = "none" if stated.auroc.value is None else f"{stated.auroc.value:.3f}"
    numbers = (
        f"Brier {stated.brier.value:.3f} (base rate {stated.base_brier:.3f})    AUROC {auroc}"
        f"    stated {card.parts.overall.stated:.3f}    right {stated.base_rate:.3f}"
        f"    n {card.rows:,}"
    )
    lines = [(1.5, 14.0, "bold", _name(card.name or "Card", 62))]
    lines += [
        (1.2, 10.5, "bold", line)
        for line in textwrap.wrap(card.verdict, 86, break_on_hyphens=False)
    ]
    lines += [(1.25, 10.5, "normal", numbers)]
    for one in card.findings[:MOST_FINDINGS]:
        mark, text = "! " if one.grave else "- ", _name(one.text, 300)
        wrapped = textwrap.wrap(text, 107, initial_indent=mark, subsequent_indent="  ")
        lines += [(1.0, 9.5, "normal", line) for line in wrapped]
    return lines


def _write(figure: Any, lines: list[tuple[float, float, str, str]]) -> None:
    total = place = sum(line[0] for line in lines) + 0.5
    for step, size, weight, text in lines:
        place -= step
        look = {"size": size, "weight": weight, "va": "bottom", "parse_math": False}
        figure.text(0.012, place / total, text, **look)


# -- inside -------------------------------------------------------------------------------------


def _judged(card: Card) -> list[Segment]:
    return [one for one in card.parts.segments or () if not one.too_small]


def _name(text: str, most: int) -> str:
    """``text`` on one line and cut to ``most`` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _title(figure: Any, text: str) -> None:
    figure.suptitle(text, x=0.012, ha="left", weight="bold", parse_math=False)


def _percent(value: float, _: int) -> str:
    return f"{value:.0%}"


def _figure(width: float, height: float) -> Any:
    return import_module("matplotlib.figure").Figure((width, height), layout="constrained")


def _settle(figure: Any) -> None:
    """Lay out once and keep it to five digits: the solver's last ones change from call to call."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.get_axes():
        axes.set_position([round(number, 5) for number in axes.get_position().bounds])
    parts = [figure]
    for part in parts:
        parts.extend(part.subfigs)
        for text in part.texts:
            text.set_position([round(number, 5) for number in text.get_position()])


@contextmanager
def _drawing() -> Iterator[None]:
    """Matplotlib's own defaults and ours, whatever the user's settings are."""
    try:
        style = import_module("matplotlib.style")
    except ImportError:
        raise UsageError("pictures need matplotlib: pip install 'poise[report]'") from None
    with style.context(STYLE, after_reset=True), warnings.catch_warnings():
        # A letter that the font lacks becomes a box; the page has the name in full.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
