"""Words, numbers and tables as HTML, and the page's look. Everything that comes in is escaped.

It does not know what a card holds.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from poise.metrics import Estimate

__all__ = [
    "ABSENT",
    "STYLE",
    "described",
    "interval",
    "listed",
    "number",
    "section",
    "signed",
    "table",
    "text",
]

ABSENT = "–"
"""In the place of a number that does not exist."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: #fff; color: #111;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #999; }
.verdict { font-size: 1.1rem; font-weight: 600; margin: 0 0 1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  gap: .5rem; margin: 0; padding: 0; }
.tiles div { border: 1px solid #999; padding: .4rem .6rem; }
.tiles dt { font-size: .85rem; }
.tiles dd { margin: 0; font-size: .85rem; color: #333; }
.tiles dd.number { font-size: 1.6rem; line-height: 1.2; color: #111; font-weight: 600;
  font-variant-numeric: tabular-nums; }
ul { padding-left: 1.2rem; margin: .5rem 0; }
li { margin: .35rem 0; overflow-wrap: anywhere; }
.pictures { display: flex; flex-wrap: wrap; gap: 1.5rem 1rem; align-items: flex-start; }
figure { margin: 0; flex: 1 1 20rem; max-width: 28rem; break-inside: avoid; }
figure img { display: block; width: 100%; height: auto; }
figcaption, .small { font-size: .85rem; color: #333; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
p.small { margin: 0 0 .3rem; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ccc;
  vertical-align: top; white-space: nowrap; }
thead th { border-bottom: 2px solid #111; vertical-align: bottom; }
th:first-child { text-align: left; white-space: normal; min-width: 8rem; max-width: 14rem;
  overflow-wrap: anywhere; position: sticky; left: 0; background: #fff; font-weight: 400; }
td.text { text-align: left; white-space: normal; min-width: 12rem; }
tr.marked th, tr.marked td { font-weight: 700; }
.facts { display: grid; grid-template-columns: minmax(6rem, auto) 1fr; gap: .2rem .8rem; }
.facts dt { font-weight: 600; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 30rem) {
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .5rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll { overflow: visible; }
  th:first-child { position: static; }
  table { font-size: 8pt; }
  tr, li, .tiles div { break-inside: avoid; }
  thead { display: table-header-group; }
}
"""


def text(words: str) -> str:
    """``words`` such that they mean themselves, in an attribute too."""
    return html.escape(words, quote=True)


def number(value: object) -> str:
    """Three decimals, or a dash for what is no number."""
    return f"{value:.3f}" if isinstance(value, int | float) else ABSENT


def signed(value: float | None) -> str:
    """Three decimals and the sign, or a dash for None."""
    return ABSENT if value is None else f"{value:+.3f}".replace("-", "−")


def interval(one: Estimate, *, with_sign: bool = False) -> str:
    """An estimate's interval, or the reason why it has none."""
    if one.interval is None:
        return one.reason or ABSENT
    low, high = one.interval
    return f"{signed(low)} to {signed(high)}" if with_sign else f"{low:.3f} to {high:.3f}"


def section(title: str, content: str) -> str:
    """A headed section; ``content`` is HTML."""
    return f"<section><h2>{text(title)}</h2>{content}</section>"


def listed(lines: Iterable[str]) -> str:
    """Plain lines as a list."""
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>"


def described(facts: Mapping[str, str]) -> str:
    """Plain facts by name."""
    said = "".join(f"<dt>{text(name)}</dt><dd>{text(fact)}</dd>" for name, fact in facts.items())
    return f'<dl class="facts">{said}</dl>'


def table(head: Sequence[str], rows: Iterable[tuple[list[str], bool]], caption: str) -> str:
    """Cells are plain text, the first a row's name; a short row's last cell fills the rest."""
    top = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    body = "".join(_row(head, cells, marked=marked) for cells, marked in rows)
    # A paragraph, and no caption: that is as wide as its table and scrolls away with it.
    return (
        f'<p class="small">{text(caption)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(head: Sequence[str], cells: Sequence[str], *, marked: bool) -> str:
    last = len(cells) - 1
    row = f'<th scope="row">{text(cells[0])}</th>'
    for place, cell in enumerate(cells[1:], start=1):
        wide = len(head) - last if place == last else 1
        span = f' colspan="{wide}"' if wide > 1 else ""
        words = ' class="text"' if head[place] == "reason" or wide > 1 else ""
        row += f"<td{span}{words}>{text(cell)}</td>"
    return f'<tr class="marked">{row}</tr>' if marked else f"<tr>{row}</tr>"
