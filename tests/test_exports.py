"""The public names: pinned, each there, and none of them loaded before it is asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import poise

PINNED = [
    *("Answer", "Arm", "Beta", "Fixed", "Http", "Kind", "Ledger", "Limits", "LlamaCpp", "Majority"),
    *("PoiseError", "Policy", "Price", "Prompt", "Question", "Result", "Sample", "Scripted"),
    *("Setting", "Spend", "StopReason", "Stored", "Usage", "Window"),
    *("embedded", "parse_policy", "solve_many", "solve_sync"),
]
"""Taking one away or renaming one breaks users: that needs a new major version."""

MODULES = sorted(
    ".".join(("poise", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
    for root in [Path(poise.__file__).parent]
    for path in root.rglob("*.py")
    if path.stem not in {"__main__", "equivalence_child"}
)


def test_the_public_names_are_pinned() -> None:
    assert poise.__all__ == PINNED


@pytest.mark.parametrize("name", PINNED)
def test_a_public_name_is_what_its_home_defines(name: str) -> None:
    found = getattr(poise, name)
    assert found is getattr(importlib.import_module(found.__module__), name)
    assert found.__doc__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'poise' has no attribute 'nothing'"):
        _ = poise.nothing  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="nothing"):
        from poise import nothing  # type: ignore[attr-defined]  # noqa: F401


def test_a_star_import_gives_the_public_names_and_no_others() -> None:
    names: dict[str, object] = {}
    exec("from poise import *", names)  # noqa: S102 - a star import only works at module level
    assert sorted(names.keys() - {"__builtins__"}) == sorted(PINNED)


@pytest.mark.parametrize("module", MODULES)
def test_every_name_a_module_lists_is_there(module: str) -> None:
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", ()):
        assert hasattr(loaded, name)


def test_a_name_costs_only_its_own_home() -> None:
    code = "import sys, poise; poise.Limits; print(sorted(m for m in sys.modules if 'poise' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['poise', 'poise.errors', 'poise.spend']"


def test_the_package_is_typed() -> None:
    assert (Path(poise.__file__).parent / "py.typed").is_file()
