"""Imports point down: the design's rows, enforced on the source tree without importing it.

``faults`` is a pure function from sources to sentences, so that it can be shown to object.
"""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import poise
from poise.pools import Pool
from poise.types import Question, Reply, Request, Result, Sample, State

ROOT = Path(poise.__file__).parent

ROWS = (
    {"errors", "spend", "ledger", "types"},
    {"scoring", "spelling", "columns", "files", "shapes"},
    {"answers", "pools", "journal", "metrics"},
    {"tasks", "grading", "backends", "signals", "calibrators", "policies", "votes"}
    | {"store", "rewards"},
    {"profile", "maps", "state_map", "capability", "domain", "segmenter", "wording"} | {"content"},
    {"attempts", "dispatch", "asking", "prefix", "verdict", "solve", "score", "config"}
    | {"labelling", "report", "replay", "arms", "further"},
    {"fit", "plan"},
    {"tune"},
    {"serve", "train"},
    {"cli", "poise"},
)
"""Bottom to top; ``poise`` is the package's own ``__init__``. A new file has to be placed here."""

WITHIN = {
    # Three files of nouns, each made of the one before.
    ("spend", "errors"),
    ("types", "errors"),
    ("types", "spend"),
    ("ledger", "errors"),
    ("ledger", "spend"),
    # The loop is one concept in four files: solve runs it, the others are its parts.
    ("solve", "dispatch"),
    ("solve", "prefix"),
    ("solve", "verdict"),
    ("verdict", "prefix"),
    ("prefix", "dispatch"),
    ("solve", "attempts"),
    ("solve", "asking"),
    ("dispatch", "attempts"),
    ("asking", "attempts"),
    ("asking", "dispatch"),
    # The profile is made of its maps, its capability, its segments and its domain test.
    ("profile", "maps"),
    ("profile", "state_map"),
    ("profile", "capability"),
    ("profile", "domain"),
    ("profile", "segmenter"),
    ("profile", "content"),
    ("segmenter", "wording"),
    ("maps", "state_map"),
    ("capability", "state_map"),
    ("further", "attempts"),
    ("further", "dispatch"),
    ("further", "prefix"),
    # An arm is what the configuration says it is.
    ("arms", "config"),
}
"""The only imports inside a row."""

BLIND = {
    *(
        "serve",
        "store",
        "further",
        "solve",
        "attempts",
        "dispatch",
        "asking",
        "prefix",
        "verdict",
        "score",
        "profile",
    ),
    *("maps", "state_map", "capability", "domain", "segmenter"),
    *("policies", "votes", "signals", "calibrators", "answers", "backends"),
}
LABELS = {"grading", "tasks"}
"""What the serving path must not see, not even through others."""

HEAVY = {
    *("xllamacpp", "pyarrow", "duckdb", "math_verify", "sympy", "sklearn", "matplotlib", "ray"),
    *("torch", "transformers", "peft", "trl", "datasets", "fastapi", "uvicorn", "sqlalchemy"),
}
"""Optional or slow packages: imported inside the function that needs them, never on import."""

HOMES = {
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "prometheus_client"), "serve"),
    "sqlalchemy": "store",
    **dict.fromkeys(("torch", "transformers", "peft", "trl", "datasets"), "train"),
}
"""Optional packages with a package of ours to themselves, which may load them on import."""

LIGHT = (
    *("numpy", "scipy", "sklearn", "httpx2", "pydantic"),
    *("rich", "stamina", "anyio", "aiolimiter"),
)
"""What even ``import poise`` and ``poise --help`` must not load."""

Import = tuple[str, int, bool]
"""Dotted name, line, and whether it happens when the module is loaded."""


def sources() -> dict[str, str]:
    """Dotted module name -> source text, for every file of the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("poise", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path.read_text("utf-8")
    return found


def imports(module: str, text: str, *, package: bool) -> Iterator[Import]:
    """Every import in ``text``, inside functions and ``if TYPE_CHECKING`` too."""

    def visit(node: ast.AST, on_load: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            if isinstance(child, ast.Import):
                yield from ((alias.name, child.lineno, on_load) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                above = module.split(".")[: len(module.split(".")) + package - child.level]
                base = ".".join([*(above if child.level else []), child.module or ""]).strip(".")
                for alias in child.names:
                    yield f"{base}.{alias.name}", child.lineno, on_load
            elif isinstance(child, ast.Call):
                yield from ((name, child.lineno, on_load) for name in imported_by(child))
            yield from visit(child, on_load and not inside and not typing)

    return visit(ast.parse(text), on_load=True)


def imported_by(call: ast.Call) -> list[str]:
    """What ``import_module("…")`` names; a name made at run time is out of reach."""
    if not ast.unparse(call.func).endswith("import_module"):
        return []
    return [str(given.value) for given in call.args[:1] if isinstance(given, ast.Constant)]


def concept(name: str, modules: Mapping[str, str]) -> str | None:
    """The concept (top-level file or package) a dotted name belongs to; None: not ours."""
    first, _, rest = name.partition(".")
    if first != "poise":
        return None
    named = rest.partition(".")[0]
    known = any(f"{module}.".startswith(f"poise.{named}.") for module in modules)
    return named if named and known else "poise"


def faults(modules: Mapping[str, str]) -> list[str]:
    """What is wrong with the imports of ``modules`` (dotted name -> source), one line each."""
    rows = {name: place for place, row in enumerate(ROWS) for name in row}
    found: list[str] = []
    reached: dict[str, set[str]] = {}
    for module, text in modules.items():
        own = concept(module, modules)
        assert own is not None
        if own not in rows:
            found.append(f"{module} is in no row")
            continue
        package = any(other.startswith(f"{module}.") for other in modules)
        for name, line, on_load in imports(module, text, package=package):
            where = f"{module}:{line}"
            target = concept(name, modules)
            if target is None:
                loaded = name.partition(".")[0]
                if on_load and loaded in HEAVY and HOMES.get(loaded) != own:
                    found.append(f"{where} loads {name} on import")
                continue
            reached.setdefault(own, set()).add(target)
            if target == own or target not in rows or (own, target) in WITHIN:
                continue
            if rows[target] >= rows[own]:
                found.append(f"{where} imports {target}, which is not below {own}")
    return found + [
        f"{blind} reaches {label}"
        for blind in sorted(BLIND & reached.keys())
        for label in sorted(LABELS & closure(blind, reached))
    ]


def closure(start: str, reached: Mapping[str, set[str]]) -> set[str]:
    """Everything ``start`` imports, directly or through others."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        new = reached.get(todo.pop(), set()) - seen
        seen |= new
        todo += new
    return seen


def test_every_import_points_down_and_no_label_is_in_reach_of_the_serving_path() -> None:
    assert faults(sources()) == []


def test_every_row_holds_only_concepts_that_exist() -> None:
    existing = {concept(module, sources()) for module in sources()}
    assert set().union(*ROWS) == existing
    assert {name for pair in WITHIN for name in pair} | BLIND | LABELS <= existing


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        ("poise.errors", "import poise.types", "types, which is not below errors"),
        ("poise.errors", "from poise import types", "types, which is not below errors"),
        ("poise.errors", "from . import types", "types, which is not below errors"),
        ("poise.pools.rows", "from ..journal import Journal", "journal, which is not below pools"),
        ("poise.votes.borda", "from poise.policies import Beta", "policies, which is not below"),
        ("poise.dispatch", "from poise.solve import solve", "solve, which is not below dispatch"),
        ("poise.solve", "def f():\n from poise.cli import main", "cli, which is not below solve"),
        ("poise.spend", "from poise import Arm", "poise, which is not below spend"),
        ("poise.cli.run", "import poise", "poise, which is not below cli"),
        (
            "poise.backends.http",
            "if TYPE_CHECKING:\n from poise.grading import grade",
            "backends reaches grading",
        ),
        ("poise.policies.beta", "import poise.tasks.gold", "policies reaches tasks"),
        ("poise.helpers", "", "poise.helpers is in no row"),
        ("poise.pools.rows", "import pyarrow.parquet", "loads pyarrow.parquet on import"),
        ("poise.answers.math", "try:\n from math_verify import parse\nfinally:\n ...", "on import"),
        (
            "poise.backends.hidden",
            "class A:\n import torch",
            "poise.backends.hidden:2 loads torch on import",
        ),
        ("poise.store", "import fastapi", "poise.store:1 loads fastapi on import"),
        ("poise.answers.math", "m = importlib.import_module('sympy')", "loads sympy on import"),
    ],
)
def test_a_wrong_import_is_found(module: str, text: str, said: str) -> None:
    found = faults({**sources(), module: text})
    assert any(said in fault for fault in found), found


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("poise.pools.rows", "def f():\n import pyarrow"),
        ("poise.backends.hidden", "if TYPE_CHECKING:\n import torch"),
        ("poise.journal", "from poise.errors import InputError"),
        ("poise.pools.rows", "from .fields import Fields"),
        ("poise.verdict", "from poise.prefix import Prefix"),
    ],
)
def test_a_right_import_is_left_alone(module: str, text: str) -> None:
    assert faults({**sources(), module: text}) == []


def test_a_label_is_found_behind_an_innocent_file() -> None:
    """The row rule alone would let votes reach grading through a new file of a row between."""
    reached = {"votes": {"answers"}, "answers": {"types", "grading"}}
    assert closure("votes", reached) == {"answers", "types", "grading"}


def test_importing_the_package_and_the_command_loads_nothing_heavy() -> None:
    named = sorted({*LIGHT, *HEAVY})
    code = f"import sys, poise, poise.cli; print([m for m in {named} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_using_the_whole_package_loads_no_optional_package() -> None:
    code = (
        "import sys, poise, poise.cli.run, poise.cli.sample, poise.cli.ask\n"
        "[getattr(poise, name) for name in poise.__all__]\n"
        f"print([m for m in {sorted(HEAVY)} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("noun", [Question, Request, Reply, Sample, State, Pool, Result])
def test_no_noun_of_the_serving_path_has_a_field_for_a_label(noun: type) -> None:
    fields = {field.name for field in dataclasses.fields(noun)}
    assert not fields & {"gold", "correct", "label", "labels", "outcome", "grade", "target"}
