"""The command ``poise`` as tests call it, and small files for it to read.

``call`` runs it in this process, in milliseconds; ``program`` runs the installed program, as a user
does. Both give the exit code and what was written to stdout and stderr.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise.cli import main

POISE = str(Path(sys.executable).parent / "poise")


@dataclass(frozen=True, slots=True)
class Done:
    """How the command ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Stdout as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def call(*words: str | Path, stdin: bytes = b"") -> Done:
    """``poise WORDS`` in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    kept = sys.argv, sys.stdin, sys.stdout, sys.stderr
    sys.argv = ["poise", *map(str, words)]
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
    sys.stdout, sys.stderr = out, err
    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr = kept
    written, said = (stream.detach() for stream in (out, err))
    assert isinstance(written, io.BytesIO)
    assert isinstance(said, io.BytesIO)
    return Done(code or 0, written.getvalue().decode(), said.getvalue().decode())


def program(*words: str | Path, stdin: bytes = b"") -> Done:
    """``poise WORDS`` as a program of its own."""
    done = subprocess.run([POISE, *map(str, words)], input=stdin, capture_output=True, check=False)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def lines(path: Path) -> list[dict[str, Any]]:
    """A file of JSON lines; each must be whole, the last one too."""
    text = path.read_text("utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """The records as a file of JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def write_questions(path: Path, n: int, **more: Any) -> Path:
    """Questions q1 to qn, "What is i + 1?"; ``more`` columns are the same for all."""
    asked = [{"id": f"q{i}", "question": f"What is {i} + 1?", **more} for i in range(1, n + 1)]
    return write_lines(path, asked)


def write_pool(path: Path, answers: Mapping[str, Sequence[str | None]], **more: Any) -> Path:
    """A pool for each question id, with these answers; ``more`` columns are the same for all."""
    stated = {"dataset": "d", "model": "m", "decoding": {"temperature": 0.8, "max_tokens": 4}}
    pools = [
        {
            **stated,
            "question_id": name,
            "samples": [
                {"answer": answer, "text": f"It is {answer}.", "tokens": 3} for answer in given
            ],
            **more,
        }
        for name, given in answers.items()
    ]
    return write_lines(path, pools)
