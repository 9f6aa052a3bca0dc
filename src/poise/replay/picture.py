"""The frontier picture: accuracy against samples, readable in black and white.

Lines differ in dashes and markers, not in colour alone. Matplotlib is loaded when a picture is
drawn. It does not know where the numbers come from.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from poise.errors import UsageError
from poise.metrics import Estimate
from poise.replay.frontier import Frontier, Point, Replay

__all__ = ["png"]

DPI = 160
SIZE = (6.4, 4.8)
INK, GREY, PALE = "black", "0.45", "0.86"
LINES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LONGEST_NAME = 40

STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "savefig.facecolor": "white",
}


def png(replay: Replay) -> bytes:
    """Frontiers with bands, fixed-N voting and the oracle stop, as a PNG file.

    Up is better and left is cheaper; a filled mark is the policy that was chosen. Bands are those
    of the difference to majority voting over all samples, paired by question: how hard the
    questions are by chance moves all lines together. Agreement stands for accuracy where nothing is
    graded. Raises UsageError without matplotlib.
    """
    with _drawing():
        figure = import_module("matplotlib.figure").Figure(SIZE, layout="constrained")
        axes = figure.subplots()
        _fixed(axes, replay)
        for place, frontier in enumerate(replay.frontiers):
            _frontier(axes, frontier, replay, place)
        _oracle(axes, replay)
        what = "share right" if replay.gold else "share that agrees with all N"
        band = "bands: 95 % of the difference to the majority of all, paired by question"
        axes.set(xlabel=f"samples a question (mean)\n{band}", ylabel=what, xlim=(0, None))
        axes.set_title(
            f"{replay.questions:,} questions, {replay.orders} orders of {replay.max_samples}"
        )
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
        for text in axes.legend(loc="lower right").get_texts():
            text.set_parse_math(False)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


# -- parts ----------------------------------------------------------------------------------------


def _fixed(axes: Any, replay: Replay) -> None:
    spent, value, low, high = _line(replay.fixed, replay)
    axes.fill_between(spent, low, high, color=PALE, lw=0)
    axes.plot(spent, value, color=GREY, lw=1.5, label="majority of the first n")


def _frontier(axes: Any, frontier: Frontier, replay: Replay, place: int) -> None:
    look = {"color": INK, "marker": MARKERS[place % len(MARKERS)], "mec": INK}
    spent, value, low, high = _line(frontier.points, replay)
    name = frontier.policy if len(frontier.policy) <= LONGEST_NAME else frontier.policy[:39] + "…"
    if len(frontier.points) == 1:
        axes.vlines(spent, low, high, color=INK, lw=1)
        axes.plot(spent, value, mfc=INK, ms=7, ls="", label=name, **look)
        return
    for edge in (low, high):
        axes.plot(spent, edge, color=INK, lw=0.4, ls=LINES[place % len(LINES)])
    line = LINES[place % len(LINES)]
    axes.plot(spent, value, ls=line, lw=1.5, ms=3.5, mfc="white", label=name, **look)
    if frontier.chosen is not None:
        at = _line(frontier.points[frontier.chosen : frontier.chosen + 1], replay)
        axes.plot(at[0], at[1], mfc=INK, ms=8, ls="", **look)


def _oracle(axes: Any, replay: Replay) -> None:
    spent, value, *_ = _line((replay.oracle,), replay)
    axes.plot(spent, value, ls="", marker="*", ms=13, mfc="white", mec=INK, label="oracle stop")


def _line(points: Sequence[Point], replay: Replay) -> tuple[list[float], ...]:
    """Samples, score and its band, by samples."""
    rows = []
    for point in points:
        value = _value(point.accuracy if replay.gold else point.agreement)
        difference = point.score_to_majority
        every = value - _value(difference)
        low, high = difference.interval or (value - every, value - every)
        rows.append((_value(point.samples), value, every + low, every + high))
    rows.sort()
    return tuple([row[k] for row in rows] for k in range(4))


def _value(one: Estimate) -> float:
    assert one.value is not None
    return one.value


@contextmanager
def _drawing() -> Iterator[None]:
    """Matplotlib's own defaults and ours, whatever the user's settings are."""
    try:
        style = import_module("matplotlib.style")
    except ImportError:
        raise UsageError("pictures need matplotlib: pip install 'poise[report]'") from None
    with style.context(STYLE, after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
