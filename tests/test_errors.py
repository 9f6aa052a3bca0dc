"""The error tree is the one that is drawn, and every error says what its caller must know."""

from __future__ import annotations

import builtins
import copy
import inspect
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise import errors
from poise.errors import BackendError, CapReached, ConfigError, InputError, PoiseError

TREE = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, PoiseError)
}

DRAWN = re.compile(
    r"^ {4}(?P<bars>[│ ]*)(?:[├└]── )?(?P<name>[A-Z]\w+)(?: +(?P<also>[A-Z]\w*Error))?"
    r"(?: {2,}(?P<code>\d)(?= {2,}|$))?(?: {2,}(?P<said>\S.*))?$"
)


def drawing() -> dict[str, dict[str, str | None]]:
    """What the docstring draws: by error its parent, standard-library parent, code and words."""
    found: dict[str, dict[str, str | None]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = DRAWN.match(line)
        if match is None or (match["name"] not in TREE and not above):
            continue
        joint = line.find("── ")
        depth = 0 if joint < 0 else (joint - 5) // 4 + 1
        above = [*above[:depth], match["name"]]
        found[match["name"]] = {**match.groupdict(), "parent": above[-2] if depth else None}
    return found


def make(kind: type[PoiseError]) -> PoiseError:
    """An error of this kind with every attribute set to something telling."""
    if issubclass(kind, InputError):
        return kind("broken JSON", Path("pools") / "a.jsonl", 7)
    if issubclass(kind, BackendError):
        return kind("http://x: it failed; try again", retry_after=2.5)
    if issubclass(kind, CapReached):
        return kind("tokens", "the cap on tokens leaves no room")
    return kind("--limit 0: must be at least 1")


every = pytest.mark.parametrize("kind", TREE.values(), ids=TREE)
backend = pytest.mark.parametrize(
    "kind", [kind for kind in TREE.values() if issubclass(kind, BackendError)]
)


def test_every_error_is_drawn_and_every_drawn_error_exists() -> None:
    assert drawing().keys() == TREE.keys() == set(errors.__all__)
    assert len(TREE) == 19


@every
def test_an_error_hangs_where_it_is_drawn(kind: type[PoiseError]) -> None:
    parent = drawing()[kind.__name__]["parent"]
    assert kind.__bases__[0] is (Exception if parent is None else TREE[parent])


@every
def test_an_error_is_the_standard_library_error_that_is_drawn(kind: type[PoiseError]) -> None:
    also = drawing()[kind.__name__]["also"]
    further = [base.__name__ for base in kind.__bases__[1:]]
    assert further == ([] if also is None else [also])
    assert all(hasattr(builtins, name) for name in further)


@every
def test_an_exit_code_is_the_one_drawn_or_the_parents(kind: type[PoiseError]) -> None:
    drawn = drawing()
    name: str | None = kind.__name__
    while name is not None and drawn[name]["code"] is None:
        name = drawn[name]["parent"]
    assert kind.exit_code == (int(drawn[name]["code"] or 1) if name else PoiseError.exit_code)


def test_exit_codes_are_those_of_the_design() -> None:
    assert {kind.exit_code for kind in TREE.values()} <= {1, 2, 3, 4, 5}
    assert all(TREE[name].exit_code == code for name, code in (
        ("UsageError", 2), ("InputError", 3), ("ConfigError", 3), ("RefusedError", 4),
        ("Unavailable", 5), ("ModelMissing", 5),
    ))  # fmt: skip


@backend
def test_a_back_end_error_says_whether_a_retry_helps_and_whether_its_fate_is_known(
    kind: type[BackendError],
) -> None:
    assert kind.retryable in {True, False}
    assert kind.fate_known in {True, False}
    said = drawing()[kind.__name__]["said"] or ""
    if kind is not BackendError:
        assert kind.retryable == said.endswith("; retry helps")
        assert kind.fate_known == ("fate unknown" not in said)


@backend
def test_an_error_of_unknown_fate_is_worth_a_retry(kind: type[BackendError]) -> None:
    assert kind.fate_known or kind.retryable


@every
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling_with_all_it_knows(
    kind: type[PoiseError], protocol: int
) -> None:
    error = make(kind)
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert copy.copy(error).args == error.args


@every
def test_a_message_is_one_line_and_says_what_was_given(kind: type[PoiseError]) -> None:
    said = str(make(kind))
    assert len(said.splitlines()) == 1
    assert said.strip() == said != ""


@given(st.text(min_size=1), st.none() | st.just("a.jsonl"), st.none() | st.integers(1, 10**9))
def test_a_place_is_shown_as_editors_read_it(
    problem: str, path: str | None, line: int | None
) -> None:
    said = str(InputError(problem, path, line))
    place = "" if path is None else f"{path}:{line}: " if line is not None else f"{path}: "
    assert said == place + problem


@every
def test_an_error_can_be_caught_as_its_standard_library_kin(kind: type[PoiseError]) -> None:
    for base in kind.__bases__:
        with pytest.raises(base):
            raise make(kind)


@every
def test_an_error_has_a_sentence_of_its_own(kind: type[PoiseError]) -> None:
    assert "__doc__" in vars(kind)
    assert (kind.__doc__ or "").splitlines()[0].endswith((".", "…)."))


def test_a_configuration_error_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"^poise\.toml: alias\.0: there is no such key$"):
        raise ConfigError("alias.0: there is no such key", "poise.toml")
