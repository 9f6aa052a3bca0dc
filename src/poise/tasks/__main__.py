"""``python -m poise.tasks NAME [PATH]``: a task's questions as a question file.

Knows the command line only; what a task reads and makes is in its own file.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import islice
from random import Random
from typing import Any, NoReturn

from poise.errors import PoiseError, UsageError
from poise.tasks import TASKS, Labelled, Task, write

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the questions that ``argv`` asks for; returns the exit code of the design's list."""
    try:
        options = _parser().parse_args(argv)
        rows = _rows(options)
        if options.output is None:
            sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
            sys.stdout.writelines(row.to_line() for row in rows)
            sys.stdout.flush()
        else:
            write(rows, options.output, overwrite=options.overwrite)
    except PoiseError as error:
        print(f"poise.tasks: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except BrokenPipeError:
        # The reader has seen enough. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line as every other error is reported: in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def _rows(options: argparse.Namespace) -> Iterator[Labelled]:
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit {options.limit}: take at least 1 question")
    chosen = TASKS[options.task]
    given: dict[str, Any] = vars(options)
    settings = {
        field.name: given[field.name]
        for field in fields(chosen)  # type: ignore[arg-type]
        if given.get(field.name) is not None
    }
    rows = chosen(**settings).load()
    if options.seed is not None and "seed" not in settings:
        shuffled = list(rows)
        Random(options.seed).shuffle(shuffled)  # noqa: S311
        rows = iter(shuffled)
    return islice(rows, options.limit)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m poise.tasks", description="Questions with gold answers, as JSONL."
    )
    tasks = parser.add_subparsers(dest="task", required=True, metavar="NAME")
    for name, task in TASKS.items():
        about = (task.__doc__ or "").partition("\n")[0]
        _add_options(tasks.add_parser(name, help=about, description=about), task)
    return parser


def _add_options(parser: argparse.ArgumentParser, task: type[Task]) -> None:
    takes = {field.name for field in fields(task)}  # type: ignore[arg-type]
    if "path" in takes:
        parser.add_argument("path", metavar="PATH", help="a local file, optionally gzipped")
    if "count" in takes:
        parser.add_argument("-n", "--count", type=int, metavar="N", help="how many questions")
    if "part" in takes:
        parser.add_argument("--part", help="fit, test (no question in common) or all")
    if "kind" in takes:
        parser.add_argument("--kind", help="the answer kind of lines that state none")
    if "grades" in takes:
        parser.add_argument(
            "--grades",
            type=lambda text: tuple(name.strip() for name in text.split(",")),
            metavar="A,B",
            help="grades by name, separated by commas (default: all)",
        )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="S",
        help="random order; what is drawn" if "path" not in takes else "random order by this seed",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N questions only")
    parser.add_argument("-o", "--output", metavar="FILE", help="gzipped when it ends in .gz")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")


if __name__ == "__main__":
    sys.exit(main())
