"""What all calibrators share: reading their input, the shape of their output, their JSON state.

A calibrator adds its constructor, ``_learn``, ``_chance`` and the pair ``_params``, ``_restore``.
It does not know how any of them maps a score to a probability.
"""

from __future__ import annotations

from inspect import signature
from typing import Any, ClassVar, Self

import numpy as np

from poise.calibrators.rows import (
    FEWEST_ROWS,
    FloatArray,
    Rows,
    Scale,
    check_eps,
    check_scale,
    read_rows,
    read_scores,
)
from poise.calibrators.state import SCHEMA, Fields
from poise.errors import InputError, RefusedError, UsageError

__all__ = ["Calibrator", "read_state"]


class Calibrator:
    """A map from scores to P(right), by scikit-learn's rules: settings in, ``fit`` learns.

    The rules are kept without inheriting them: importing scikit-learn takes longer than answering
    a question, and only those who use it need it.

    After ``fit``: ``n_`` rows it was fitted on (weights above 0), ``n_features_in_`` columns,
    ``classes_`` = [0, 1]. A row's label may be a share y in [0, 1] with the number of trials as
    its weight: the same as that many rows of 0 and 1.
    """

    scale: Scale | tuple[Scale, ...]

    name: ClassVar[str]
    """Under which tables, configuration and state know it."""

    single_column: ClassVar[bool] = True
    both_classes: ClassVar[bool] = True
    """Whether it refuses data in which every answer is right, or every answer wrong."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Learns from ``X`` (m, d) or (m,), ``y`` (m,) in [0, 1], ``sample_weight`` (m,) >= 0.

        Raises UsageError for settings, shapes and values that make no sense, fewer than 3 rows
        among them; RefusedError where the data cannot carry the fit.
        """
        self._settle(self._rows(X, y, sample_weight))
        return self

    def predict_proba(self, X: Any) -> FloatArray:  # noqa: N803
        """Columns P(wrong), P(right), (m, 2), for ``X`` (m, d) or (m,). Raises UsageError."""
        chance = self._chance(self._scores(X))
        return np.column_stack([1 - chance, chance])

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002
        """The constructor's settings by name."""
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Change settings; what was learned stays until the next ``fit``. Raises UsageError."""
        for name, value in params.items():
            if name not in self.get_params():
                raise UsageError(f"{self.name}: there is no setting {name!r}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        stated = (f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({', '.join(stated)})"

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Accuracy of ``predict``, as scikit-learn's tools expect of a classifier."""
        return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import (  # type: ignore[import-untyped] # noqa: PLC0415 - see above
            ClassifierTags,
            Tags,
            TargetTags,
        )

        required = TargetTags(required=True)
        return Tags("classifier", target_tags=required, classifier_tags=ClassifierTags())

    def predict(self, X: Any) -> Any:  # noqa: N803
        """The likelier class, (m,); ties go to the first. Raises UsageError."""
        return self.classes_[np.argmax(self.predict_proba(X), axis=1)]

    def state(self) -> dict[str, Any]:
        """JSON-ready: name, schema, settings, learned numbers, rows. Raises UsageError unfitted."""
        self._check_fitted()
        settings = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in self.get_params(deep=False).items()
        }
        return {
            "calibrator": self.name,
            "schema": SCHEMA,
            "settings": settings,
            "params": self._params(),
            "n": self.n_,
        }

    def _rows(self, X: Any, y: Any, sample_weight: Any) -> Rows:  # noqa: N803
        self._check_settings()
        rows = read_rows(X, y, sample_weight, self._scales())
        columns = rows.scores.shape[1]
        if self.single_column and columns != 1:
            raise UsageError(f"X: {columns} columns; {self.name} takes one")
        if self.both_classes and rows.one_class:
            kind = "right" if rows.y[0] else "wrong"
            raise RefusedError(
                f"{self.name}: all {len(rows.y)} rows are {kind}; it wants both classes "
                "(label more, or take constant)"
            )
        return rows

    def _settle(self, rows: Rows) -> None:
        self._learn(rows)
        self._sized(len(rows.y), rows.scores.shape[1])

    def _sized(self, n: int, columns: int) -> None:
        self.n_ = n
        self.n_features_in_ = columns
        self.classes_ = np.array([0, 1])

    def _scores(self, X: Any) -> FloatArray:  # noqa: N803
        self._check_fitted()
        scores = read_scores(X, self._scales())
        if scores.shape[1] != self.n_features_in_:
            raise UsageError(
                f"X: {scores.shape[1]} columns; {self.name} was fitted on {self.n_features_in_}"
            )
        return scores

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_"):
            raise UsageError(f"{self.name} is not fitted: call fit(X, y) first")

    def _scales(self) -> tuple[Scale, ...] | None:
        """One scale for all columns, one per column, or None: any finite numbers."""
        scale: Any = self.scale
        return scale if isinstance(scale, tuple) and not self.single_column else (scale,)

    def _check_settings(self) -> None:
        for scale in self._scales() or ():
            check_scale(scale)
        if hasattr(self, "eps"):
            check_eps(self.eps)

    def _learn(self, rows: Rows) -> None:
        """Sets the attributes that ``_params`` shows."""
        raise NotImplementedError

    def _chance(self, scores: FloatArray) -> FloatArray:
        """P(right), (m,), for scores (m, d) on the declared scale."""
        raise NotImplementedError

    def _params(self) -> dict[str, Any]:
        """What was learned, JSON-ready."""
        raise NotImplementedError

    def _restore(self, params: Fields) -> int:
        """Sets what ``_params`` showed and returns the number of columns. Raises InputError."""
        raise NotImplementedError


def read_state(state: Any, known: dict[str, type[Calibrator]]) -> Calibrator:
    """The calibrator that ``state`` describes, one of ``known``. Raises InputError."""
    keys = {"calibrator", "schema", "settings", "params", "n"}
    schema = Fields.of("calibrator state", state).number("schema")
    if schema != SCHEMA:
        raise InputError(
            f"calibrator state: schema {schema:g}, and this Poise reads {SCHEMA}; "
            "fit again, or update Poise"
        )
    fields = Fields.of("calibrator state", state, keys)
    name = fields.word("calibrator", sorted(known))
    settings = Fields.of(f"{name}: settings", fields.get("settings")).values
    calibrator = _set_up(known[name], settings)
    params = Fields.of(f"{name}: params", fields.get("params"))
    columns = calibrator._restore(params)
    calibrator._sized(fields.count("n", FEWEST_ROWS), columns)
    Fields.of(params.where, params.values, set(calibrator._params()))
    return calibrator


def _set_up(kind: type[Calibrator], settings: Any) -> Calibrator:
    Fields.of(f"{kind.name}: settings", settings, set(kind().get_params(deep=False)))
    given = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    calibrator = kind(**given)
    try:
        calibrator._check_settings()
    except UsageError as error:
        raise InputError(f"{kind.name}: settings: {error}") from error
    return calibrator
