"""Lines to stdout, or to a file that appears whole or not at all."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from poise.errors import UsageError

__all__ = ["refuse_existing", "write_lines"]


def refuse_existing(output: Path | None, *, overwrite: bool) -> None:
    """Raise UsageError where the output is there already, or its folder is not."""
    if output is None:
        return
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists; name another output or pass --overwrite")
    if not output.parent.is_dir():
        raise UsageError(f"{output.parent}: no such folder")


def write_lines(lines: Iterable[str], output: Path | None) -> None:
    """Write each line as it comes; a file is put in place at the end. Raises UsageError."""
    if output is None:
        for line in lines:
            sys.stdout.write(line + "\n")
        return
    partial = output.with_name(output.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.writelines(line + "\n" for line in lines)
        partial.replace(output)
    except OSError as error:
        raise UsageError(f"{output}: cannot be written ({error.strerror})") from None
    finally:
        partial.unlink(missing_ok=True)
