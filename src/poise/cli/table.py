"""Results as a table for people, on stdout."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from poise.cli.batch import Summary
from poise.cli.progress import count
from poise.pools import QuestionLine
from poise.types import Result

__all__ = ["Table"]

WIDEST = 34
LONGEST = 10
"""Characters of a question and of an answer; the table fits in 80 columns."""


class Table:
    """Collects one row a question; ``print`` shows them all, with the reasons below."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, tuple[str, ...]]] = []
        self._reasons: dict[str, int] = {}

    def add(self, line: QuestionLine, result: Result) -> None:
        """Note one finished question."""
        if result.probability is None:
            sure = "not calibrated"
            reason = result.reason or "no reason given"
            self._reasons[reason] = self._reasons.get(reason, 0) + 1
        else:
            sure = f"{result.probability:.2f}"
        answer = result.answer if result.kind is not None else result.text
        asked = " ".join(line.question.text.split())
        cells = (
            asked if len(asked) <= WIDEST else asked[: WIDEST - 1] + "…",
            "(none)" if answer is None else " ".join(answer.split())[:LONGEST],
            sure,
            str(result.n_samples),
            result.stop.value,
        )
        self._rows.append((line.number, cells))

    def print(self, summary: Summary) -> None:
        """Write the table, why probabilities are missing, and the total spend."""
        console = Console(highlight=False)
        grid = Grid(box=None, header_style="bold", pad_edge=False)
        grid.add_column("question", no_wrap=True)
        grid.add_column("answer", justify="right")
        grid.add_column("probability", no_wrap=True)
        grid.add_column("samples", justify="right")
        grid.add_column("stopped")
        for _, row in sorted(self._rows):
            grid.add_row(*(Text(cell) for cell in row))
        console.print(grid)
        for reason, times in self._reasons.items():
            console.print(Text(f"not calibrated ({times}): {reason}"), soft_wrap=True)
        spend = summary.spend
        tokens = "unknown" if spend.tokens is None else count(spend.tokens)
        console.print(
            Text(
                f"{summary.written} questions, {summary.answered} answered;"
                f" {spend.samples} samples, {tokens} tokens in {spend.calls} calls"
            )
        )
