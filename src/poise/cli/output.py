"""Lines to stdout, or to a file that appears whole or not at all."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from poise import files

__all__ = ["refuse_existing", "write_lines"]


def refuse_existing(output: Path | None, *, overwrite: bool) -> None:
    """Raise UsageError where a file that was named cannot be the output; None is stdout."""
    if output is not None:
        files.refuse_existing(output, overwrite=overwrite)


def write_lines(lines: Iterable[str], output: Path | None) -> None:
    """Write each line as it comes; a file is put in place at the end. Raises UsageError."""
    if output is None:
        for line in lines:
            sys.stdout.write(line + "\n")
        return
    with files.whole(output) as stream:
        stream.writelines(f"{line}\n".encode() for line in lines)
