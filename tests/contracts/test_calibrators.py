"""What every calibrator promises, whatever its map."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone, is_classifier
from sklearn.metrics import roc_auc_score

from poise import calibrators
from poise.calibrators import CALIBRATORS, ClassTemperature, from_state, to_state
from poise.errors import InputError, RefusedError, UsageError

SETTINGS = {
    "constant": [{}],
    "identity": [{}],
    "temperature": [{}, {"scale": "real"}, {"eps": 1e-6}],
    "platt": [{}, {"scale": "real"}, {"ridge": 1.0}],
    "quadratic": [{}, {"scale": "real"}],
    "isotonic": [{}, {"scale": "real"}, {"strength": 5.0}],
    "levels": [{}, {"scale": "real"}],
    "mixture": [{}, {"scale": "real"}, {"members": ("levels",), "weights": (1.0,)}],
    "auto": [{}, {"scale": "real", "folds": 3}, {"candidates": ("platt",), "seed": 4}],
}
BINARY = [CALIBRATORS[name](**given) for name, many in SETTINGS.items() for given in many]
every_calibrator = pytest.mark.parametrize("calibrator", BINARY, ids=repr)
NESTING = [one for one in BINARY if one.name in {"temperature", "platt", "quadratic"}]
LEAVING_WELL_ALONE = [
    one for one in NESTING if one.scale == "probability" or one.name == "temperature"
]
"""On a real score the others' prior has slope 0 and does not favour the score itself."""
LENIENT = {"constant", "identity"}


def data(calibrator, m=120, seed=0):
    """Twenty distinct scores on the calibrator's scale, their labels, and weights 1 to 3."""
    rng = np.random.default_rng(seed)
    chance = rng.integers(1, 21, m) / 21
    y = (rng.random(m) < chance**1.5).astype(float)
    real = getattr(calibrator, "scale", None) == "real"
    return 3 * chance - 1 if real else chance, y, rng.integers(1, 4, m).astype(float)


def fitted(calibrator, *given, **named):
    return clone(calibrator).fit(*given, **named)


def right(calibrator, x):
    return calibrator.predict_proba(x)[:, 1]


def by_value(calibrator, x):
    """Groups that repeated and reordered rows keep: ``auto`` deals these, the others take none."""
    return {"groups": x} if calibrator.name == "auto" else {}


def test_every_binary_calibrator_in_the_table_is_under_this_contract():
    assert {*SETTINGS, ClassTemperature.name} == set(CALIBRATORS)
    assert all(kind.name == name for name, kind in CALIBRATORS.items())


def test_the_table_in_the_docs_lists_every_calibrator_with_its_defaults():
    lines = calibrators.__doc__.splitlines()
    _, head, foot = (place for place, line in enumerate(lines) if line[:2] == "==")
    rule, rows = lines[head], lines[head + 1 : foot]
    assert {row.split("``")[1] for row in rows} == set(CALIBRATORS)
    for row in rows:
        name, told = row.split("``")[1], row[rule.rindex(" =") + 1 :].split(", ")
        defaults = CALIBRATORS[name]().get_params()
        for setting in filter(None, told):
            key, _, value = setting.partition(" ")
            assert not value or float(value) == defaults[key], setting


@every_calibrator
def test_every_row_is_two_probabilities_that_sum_to_one(calibrator):
    x, y, _ = data(calibrator)
    chances = fitted(calibrator, x, y).predict_proba(np.linspace(x.min(), x.max(), 60))
    assert chances.shape == (60, 2)
    assert chances.dtype == np.float64
    assert ((chances >= 0) & (chances <= 1)).all()
    assert np.allclose(chances.sum(axis=1), 1, atol=1e-15)
    assert fitted(calibrator, x, y).predict_proba(np.empty(0)).shape == (0, 2)


@every_calibrator
def test_json_brings_back_the_same_calibrator_to_the_last_bit(calibrator):
    x, y, weight = data(calibrator)
    one = fitted(calibrator, x, y, weight)
    text = json.dumps(to_state(one), allow_nan=False)
    other = from_state(json.loads(text))
    assert type(other) is type(one)
    assert (other.predict_proba(x) == one.predict_proba(x)).all()
    assert json.dumps(to_state(other)) == text
    assert (other.n_, other.n_features_in_) == (120, 1)
    assert other.classes_.tolist() == [0, 1]
    assert to_state(other)["n"] == 120


@every_calibrator
def test_the_constructor_keeps_settings_and_clone_forgets_what_was_learned(calibrator):
    x, y, _ = data(calibrator)
    one = fitted(calibrator, x, y)
    before = one.get_params()
    assert clone(one).get_params() == before
    assert not [key for key in vars(clone(one)) if key.endswith("_")]
    assert set(vars(clone(one))) == set(before)
    assert is_classifier(one)
    with pytest.raises(UsageError, match=f"{calibrator.name} is not fitted"):
        clone(one).predict_proba(x)
    with pytest.raises(UsageError, match="is not fitted"):
        to_state(clone(one))


@every_calibrator
def test_a_setting_can_be_changed_by_name_and_an_unknown_one_is_refused(calibrator):
    one = clone(calibrator)
    for name, value in type(calibrator)().get_params().items():
        assert one.set_params(**{name: value}) is one
    assert one.get_params() == type(calibrator)().get_params()
    with pytest.raises(UsageError, match="there is no setting 'odd'"):
        one.set_params(odd=1)


@every_calibrator
def test_fitting_again_forgets_the_first_fit_and_fit_returns_itself(calibrator):
    x, y, weight = data(calibrator)
    one = clone(calibrator)
    assert one.fit(x[::-1] / 2, 1 - y) is one
    one.fit(x, y, weight)
    assert to_state(one) == to_state(fitted(calibrator, x, y, weight))


@every_calibrator
def test_a_weight_of_k_is_k_equal_rows_and_a_weight_of_0_is_no_row(calibrator):
    x, y, weight = data(calibrator)
    weight[::7] = 0
    times = weight.astype(int)
    many = [np.repeat(values, times) for values in (x, y)]
    one = fitted(calibrator, x, y, weight, **by_value(calibrator, x))
    other = fitted(calibrator, *many, **by_value(calibrator, many[0]))
    assert np.allclose(right(one, x), right(other, x), atol=1e-6)
    assert one.n_ == (weight > 0).sum()


@every_calibrator
def test_a_share_of_one_half_with_weight_2_is_one_wrong_and_one_right(calibrator):
    x, y, _ = data(calibrator)
    shares = np.where(np.arange(120) % 3 == 0, 0.5, y)
    weight = np.where(shares == 0.5, 2.0, 1.0)
    split = np.repeat(x, weight.astype(int))
    labels = np.concatenate([[0, 1] if share == 0.5 else [share] for share in shares])
    one = fitted(calibrator, x, shares, weight, **by_value(calibrator, x))
    other = fitted(calibrator, split, labels, **by_value(calibrator, split))
    assert np.allclose(right(one, x), right(other, x), atol=1e-6)


@every_calibrator
def test_the_order_of_the_rows_does_not_matter(calibrator):
    x, y, weight = data(calibrator)
    order = np.random.default_rng(1).permutation(120)
    one = fitted(calibrator, x, y, weight, **by_value(calibrator, x))
    moved = by_value(calibrator, x[order])
    other = fitted(calibrator, x[order], y[order], weight[order], **moved)
    assert np.allclose(right(one, x), right(other, x), atol=1e-6)


@every_calibrator
def test_lists_columns_strides_and_float32_are_read_alike(calibrator):
    x, y, weight = data(calibrator)
    expected = right(fitted(calibrator, x, y, weight), x)
    strided = np.stack([x, -x], axis=1)[:, 0]
    assert not strided.flags.c_contiguous
    for same in (x.tolist(), x[:, None], strided, strided[:, None]):
        one = fitted(calibrator, same, y.tolist(), weight.tolist())
        assert (right(one, same) == expected).all()
    narrow = x.astype(np.float32)
    one = fitted(calibrator, narrow, y.astype(np.float32), weight.astype(np.float32))
    assert np.allclose(right(one, narrow), expected, atol=1e-4)
    assert (right(fitted(calibrator, x, y.astype(bool), weight), x) == expected).all()


@every_calibrator
def test_input_is_left_alone(calibrator):
    given = data(calibrator)
    copies = [values.copy() for values in given]
    for values in given:
        values.flags.writeable = False
    right(fitted(calibrator, *given), given[0])
    assert all((a == b).all() for a, b in zip(given, copies, strict=True))


@pytest.mark.parametrize("calibrator", LEAVING_WELL_ALONE, ids=repr)
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0, 1)), min_size=3, max_size=40),
)
def test_where_the_score_itself_is_one_of_the_maps_the_fit_is_never_worse(calibrator, rows):
    chance, y = np.array(rows).T
    x = np.log(chance / (1 - chance)) if calibrator.scale == "real" else chance
    try:
        got = right(fitted(calibrator, x, y), x)
    except RefusedError:
        assert set(y) in ({0.0}, {1.0}) or (chance == 0.5).all()
        return
    losses = [-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean() for p in (got, chance)]
    assert losses[0] <= losses[1] + 1e-6


@pytest.mark.parametrize("calibrator", NESTING, ids=repr)
def test_a_rising_map_leaves_the_ranking_as_it_was(calibrator):
    x, y, _ = data(calibrator)
    one = fitted(calibrator, x, y)
    assert roc_auc_score(y, right(one, x)) == pytest.approx(roc_auc_score(y, x), abs=1e-12)
    assert (np.diff(right(one, np.unique(x))) > 0).all()


@every_calibrator
def test_one_class_is_refused_where_a_fit_wants_two(calibrator):
    x, _, _ = data(calibrator)
    for label in (0.0, 1.0):
        y = np.full(120, label)
        if calibrator.name in LENIENT:
            fitted(calibrator, x, y)
            continue
        with pytest.raises(RefusedError, match=r"all 120 rows are (right|wrong)"):
            fitted(calibrator, x, y)


@every_calibrator
def test_a_constant_score_gives_the_base_rate_or_is_refused(calibrator):
    y = np.array([0.0, 1, 1, 0, 1] * 6)
    one = clone(calibrator)
    if calibrator.name == "temperature":
        with pytest.raises(RefusedError, match="every score is one half"):
            one.fit(np.full(30, 0.0 if calibrator.scale == "real" else 0.5), y)
        return
    got = right(one.fit(np.full(30, 0.7), y), np.array([0.7]))[0]
    assert got == pytest.approx(0.7 if calibrator.name == "identity" else 0.6, abs=1e-6)


BAD = {
    "NaN": ({"x": (0, np.nan)}, "X: 1 of 120 rows are not finite"),
    "None": ({"x": (0, None)}, "X: 1 of 120 rows are not finite"),
    "infinity": ({"x": (0, -np.inf)}, "X: 1 of 120 rows are not finite"),
    "too large": ({"x": (0, 1e200)}, "X: 1 of 120 rows are beyond 1e\\+100"),
    "word": ({"x": (0, "high")}, "X: cannot be read"),
    "label above 1": ({"y": (3, 1.5)}, "y: 1 of 120 rows are outside \\[0, 1\\]"),
    "label below 0": ({"y": (3, -1)}, "y: 1 of 120 rows are outside \\[0, 1\\]"),
    "label missing": ({"y": (3, np.nan)}, "y: 1 of 120 rows are not finite"),
    "negative weight": ({"w": (3, -1)}, "sample_weight: 1 of 120 rows are below 0"),
    "weight missing": ({"w": (3, np.nan)}, "sample_weight: 1 of 120 rows are not finite"),
}


@every_calibrator
@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_a_bad_value_is_refused_by_argument_and_count(calibrator, change, said):
    given = dict(zip("xyw", (values.tolist() for values in data(calibrator)), strict=True))
    for key, (place, value) in change.items():
        given[key][place] = value
    with pytest.raises(UsageError, match=said):
        fitted(calibrator, given["x"], given["y"], given["w"])


@every_calibrator
def test_wrong_shapes_and_too_few_rows_are_refused(calibrator):
    x, y, weight = data(calibrator)
    for wrong, said in [
        ((x, y[:-1]), r"y: shape \(119,\); X has 120 rows"),
        ((x, y[:, None]), r"y: shape \(120, 1\)"),
        ((x, y, weight[1:]), r"sample_weight: shape \(119,\)"),
        ((x[:2], [0, 1]), "X: 2 of 2 rows have a weight above 0"),
        ((x, y, np.eye(120)[0]), "X: 1 of 120 rows have a weight above 0"),
        ((x[:, None, None], y), r"X: shape \(120, 1, 1\)"),
        ((np.empty((120, 0)), y), r"X: shape \(120, 0\)"),
        ((0.5, 1), r"X: shape \(\)"),
    ]:
        with pytest.raises(UsageError, match=said):
            fitted(calibrator, *wrong)
    with pytest.raises(UsageError, match="X: 2 columns"):
        fitted(calibrator, x, y).predict_proba(np.full((4, 2), 0.5))
    if calibrator.single_column:
        with pytest.raises(UsageError, match=f"X: 2 columns; {calibrator.name} takes one"):
            fitted(calibrator, np.stack([x, x], axis=1), y)


@every_calibrator
def test_a_score_outside_the_declared_range_is_refused_and_never_guessed(calibrator):
    x, y, _ = data(calibrator)
    one = fitted(calibrator, x, y)
    outside = np.array([0.5, 1.5, -0.5])
    if calibrator.name == "constant" or getattr(calibrator, "scale", "") == "real":
        assert one.predict_proba(outside).shape == (3, 2)
        return
    with pytest.raises(UsageError, match=r"X: 2 of 3 rows are outside \[0, 1\]"):
        one.predict_proba(outside)
    with pytest.raises(UsageError, match="outside"):
        fitted(calibrator, 1 - 2 * x, y)


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - {"constant", "identity"}))
@pytest.mark.parametrize("scale", ["logit", None, 1, ("probability", "odd"), ()])
def test_an_unknown_scale_is_refused_when_fitting(name, scale):
    with pytest.raises(UsageError, match="scale"):
        CALIBRATORS[name](scale=scale).fit([0.1, 0.5, 0.9], [0, 1, 1])


@pytest.mark.parametrize("name", ["temperature", "quadratic", "isotonic", "levels"])
def test_a_calibrator_of_one_column_takes_one_scale_and_no_tuple(name):
    with pytest.raises(UsageError, match="scale"):
        CALIBRATORS[name](scale=("probability",)).fit([0.1, 0.5, 0.9], [0, 1, 1])


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("temperature", {"eps": 0.5}, "eps=0.5"),
        ("platt", {"eps": 0}, "eps=0"),
        ("platt", {"ridge": 0.0}, "ridge=0.0"),
        ("quadratic", {"ridge": math.nan}, "ridge=nan"),
        ("isotonic", {"strength": 0}, "strength=0"),
        ("auto", {"folds": 1}, "folds=1"),
        ("auto", {"folds": True}, "folds=True"),
        ("auto", {"seed": -1}, "seed=-1"),
        ("auto", {"candidates": ("plat",)}, "a tuple of names out of constant, id"),
        ("auto", {"candidates": "platt"}, "candidates='platt': must be None or a tuple"),
        ("auto", {"scale": "real", "candidates": ("temperature",)}, "not for 1 columns"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name, wrong, said):
    with pytest.raises(UsageError, match=said):
        CALIBRATORS[name](**wrong).fit([0.1, 0.5, 0.9], [0, 1, 1])


def numbers_in(value, path=()):
    """Paths to every number and list in a JSON value."""
    if isinstance(value, dict | list):
        if isinstance(value, list):
            yield path
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers_in(inner, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def spoilt(state, path, value):
    copy = json.loads(json.dumps(state))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


@every_calibrator
def test_no_number_of_a_state_can_be_replaced_by_what_is_no_number(calibrator):
    x, y, weight = data(calibrator)
    state = to_state(fitted(calibrator, x, y, weight))
    paths = list(numbers_in(state))
    for path in paths:
        for value in (math.nan, math.inf, "1", {}, True, 10**400, [[1.0]]):
            with pytest.raises(InputError):
                from_state(spoilt(state, path, value))


@every_calibrator
def test_a_state_with_another_name_schema_or_set_of_keys_is_refused(calibrator):
    x, y, _ = data(calibrator)
    state = to_state(fitted(calibrator, x, y))
    for key in state:
        with pytest.raises(InputError, match=key):
            from_state({name: value for name, value in state.items() if name != key})
        with pytest.raises(InputError):
            from_state({**state, key: None})
    for key in state["params"]:
        less = {name: value for name, value in state["params"].items() if name != key}
        with pytest.raises(InputError, match=key):
            from_state({**state, "params": less})
    for wrong, said in [
        ({"calibrator": "spline"}, "'spline', not one of"),
        ({"schema": 2}, "schema 2, and this Poise reads 1"),
        ({"n": 2}, "n is 2"),
        ({"n": 4.5}, "n is 4.5"),
        ({"extra": 1}, "extra"),
        ({"settings": {**state["settings"], "odd": 1}}, "odd"),
        ({"params": {**state["params"], "odd": 1}}, "odd"),
    ]:
        with pytest.raises(InputError, match=said):
            from_state({**state, **wrong})


@pytest.mark.parametrize("state", [None, [], "constant", 3, {}])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(InputError):
        from_state(state)
