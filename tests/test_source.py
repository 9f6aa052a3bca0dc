"""House rules about the files themselves: sizes, names, docstrings, no machine's paths."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

MOST_LINES = 400
MOST_FUNCTION_LINES = 60
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core"}
"""Names that say nothing about what is inside."""

MACHINE_PATH = re.compile(r"(?<![\w.~$})/])/(?:work|root|tmp|home)(?=/)")
"""An absolute path of one machine (not ``a/work/b``, not ``~/work``, not ``https://host/home``)."""

LEFT_OUT = {".venv", "build", "dist", ".git", "__pycache__", "shared"}


def tracked() -> list[Path]:
    """The files git knows; without a checkout (an unpacked release), every file that is there."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        return list(walked())
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def walked() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        folders = path.relative_to(ROOT).parts[:-1]
        hidden = any(part in LEFT_OUT or part.startswith(".") for part in folders)
        if path.is_file() and not hidden:
            yield path


def functions(text: str) -> Iterator[tuple[str, int]]:
    """Name and length in lines of each function, decorators and docstring included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield node.name, (node.end_lineno or first) - first + 1


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_sources_to_look_at() -> None:
    assert len(SOURCES) > 40
    assert {Path(__file__), ROOT / "pyproject.toml"} <= set(walked())


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) < MOST_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_function_is_too_long(path: Path) -> None:
    long = {name: n for name, n in functions(path.read_text()) if n > MOST_FUNCTION_LINES}
    assert long == {}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert said is not None
    assert len(said.splitlines()[0]) > 20


def test_every_file_is_named_for_what_it_holds() -> None:
    named = {path.stem for path in SOURCES} | {path.parent.name for path in SOURCES}
    assert not named & EMPTY_NAMES


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # not text
        if path != Path(__file__):
            lines = enumerate(text.splitlines(), start=1)
            found += [f"{name_of(path)}:{n}" for n, line in lines if MACHINE_PATH.search(line)]
    assert found == []


@pytest.mark.parametrize("line", ["cd /work/x", 'open("/tmp/a")', "(/root/.cache)", "=/home/me/a"])
def test_a_machines_path_is_recognised(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize(
    "line", ["https://host.org/home/page", "~/work/x", "src/work/x", "$HOME/tmp/", "a/tmp/b"]
)
def test_other_slashes_are_no_machines_path(line: str) -> None:
    assert not MACHINE_PATH.search(line)


def test_the_length_of_a_function_counts_its_decorators() -> None:
    assert list(functions("@a\n@b\ndef f():\n    x = 1\n    return x\n")) == [("f", 5)]
