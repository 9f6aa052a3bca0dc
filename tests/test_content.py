"""A sealed profile whose fields have other types is refused in one line, or works as it is."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from poise.cli.report import decision_of, of_profile
from poise.errors import InputError, PoiseError
from poise.fit import fit
from poise.policies import Beta, Policy
from poise.profile import Profile, _seal, load
from poise.score import score
from two_worlds import pools

ODD: tuple[Any, ...] = (None, True, -1, 1e308, 10**30, "x", "", [], {}, [None], [[1]], {"a": 1})


@pytest.fixture(scope="module")
def profile() -> Profile:
    return fit(pools(150, 6, 1), Policy(Beta(0.95, 6)))


@pytest.fixture(scope="module")
def body(profile: Profile) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(profile.to_dict()))
    for one in made["maps"]:
        one["replicates"] = one["replicates"][:1]
    return made


def read(body: dict[str, Any], folder: Path) -> Profile:
    """What ``load`` makes of ``body``, well sealed."""
    sealed = {name: value for name, value in body.items() if name != "sha256"}
    path = folder / "profile.json"
    path.write_text(json.dumps({**sealed, "sha256": _seal(sealed)}))
    return load(path)


def changed(body: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(body)
    inner = made
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return made


def test_a_fitted_profile_has_the_content(profile: Profile, tmp_path: Path) -> None:
    assert read(profile.to_dict(), tmp_path).to_dict() == profile.to_dict()


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("signals", 0, "name"), 3.5, "signals[0].name is 3.5, not a text"),
        (("signals", 0, "name"), "margin", "its maps read others"),
        (("arm",), None, "arm is None, not an object"),
        (("domain", "datasets"), [None], "datasets[0] is None, not a text"),
        (("data",), [], "data is [], not an object"),
        (("data",), {}, "data has no fingerprint"),
        (("data", "samples"), "many", "data.samples is 'many'"),
        (("held_out", "stated"), [], "held_out.stated has 0 rows"),
        (("held_out", "right", 0), 2, "held_out.right[0] is 2, not from 0 to 1"),
        (("held_out", "segment"), 1, "held_out.segment is 1, not a list"),
        (("considered", 0, "log_loss"), "low", "log_loss is 'low', not a finite number"),
        (("note",), "\ud800", "half of a surrogate pair"),
        (("version",), True, "version is True"),
        (("maps",), [], "maps is [], not a list of 1 or more"),
        (("maps", 0, "replicates", 0, 0, "further", 0, "name"), "x", "a replicate reads"),
        (("maps", 0, "replicates", 0), [], "a replicate is not a pair"),
    ],
)
def test_a_field_of_another_type_is_named(
    place: tuple[Any, ...], value: Any, said: str, body: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        read(changed(body, place, value), tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where everything stands, at most two entries of a list looked at."""
    if above:
        yield above
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*above, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:2]):
            yield from places(inner, (*above, number))


def test_any_change_is_one_line_or_leaves_a_profile_that_works(
    body: dict[str, Any], tmp_path: Path
) -> None:
    pool = pools(1, 6, 2)[0].pool
    known = [place for place in places(body) if place[0] not in {"schema", "sha256"}]
    rng = random.Random(0)
    loaded, refused = 0, []
    for _ in range(400):
        odd = changed(body, rng.choice(known), rng.choice(ODD))
        try:
            made = read(odd, tmp_path)
            json.dumps(score(pool, None, made).to_dict())
            of_profile(made)
            decision_of(made)
            loaded += 1
        except PoiseError as error:
            refused.append(str(error))
    assert loaded > 0
    assert refused
    assert not any("\n" in said for said in refused)
