"""Mixing calibrators by what they do on questions they have not seen, and leaving well alone.

Candidates are judged by cross-validated log loss, folds made of whole groups (questions): rows of
one question are alike, and a candidate that has seen one of them is no judge of the others. It
does not know what groups the rows have unless told.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlog1py, xlogy

from poise.calibrators.calibrator import Calibrator, read_state
from poise.calibrators.mixture import CHANCE_EPS, MEMBERS, Mixture, best_weights, made
from poise.calibrators.rows import FloatArray, Rows, Scale
from poise.calibrators.state import Fields
from poise.errors import RefusedError, UsageError

__all__ = ["FEWEST_GROUPS", "Auto", "Considered"]

FEWEST_GROUPS = 20
"""Fewer groups than this say nothing about which calibrator is better."""

MOST_FOLDS = 10

Groups = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Considered:
    """What one candidate did on held-out groups; None where it refused, with the ``reason``.

    ``log_loss`` in nats and ``brier`` (squared error of P(right), in [0, 1]) a trial, each with its
    standard error over groups. ``gain``: log loss of the guard minus this one's, paired by group,
    with its standard error; above 0 = better than the guard.
    """

    name: str
    log_loss: float | None = None
    log_loss_se: float | None = None
    brier: float | None = None
    brier_se: float | None = None
    gain: float | None = None
    gain_se: float | None = None
    reason: str | None = None


class Auto(Calibrator):
    """A mixture of all candidates, weighted by held-out log loss, behind two guards.

    Picking the one that did best throws away what the others know, and on a few hundred questions
    picks at random among equals; the best mixture is never far behind the best single one, and
    often ahead. Two simpler answers go first:

    - the score itself, on a probability: where the mixture does not beat it by more than half the
      standard error of their paired difference, and no score is nearer to 0 or 1 than
      1/(2 (n + 2)), n groups. A surer score is a certainty that n questions cannot bear out: one
      that is wrong costs any number of nats, and none may be among those seen;
    - the constant base rate, where the mixture does not beat it, or all scores are equal.

    Several columns can only be mapped by ``constant`` and ``platt``.

    ``candidates``: names out of ``mixture.MEMBERS``; None: all that suit ``scale``. ``constant``,
    and ``identity`` on one probability, take part whether named or not. ``folds`` in 2..10 for both
    levels of the cross-validation; ``seed`` deals the groups. ``eps``: as for Platt.

    ``chosen_``: "mixture", "identity" or "constant"; ``calibrator_``: it, refitted on all rows;
    ``considered_``: a list of ``Considered``, one a candidate and last the mixture, whose number is
    flattered by its weights, found on the same predictions; ``held_out_``: what this whole
    procedure, weights and guards included, did on groups that had no part in it (the outer level),
    and ``held_out_chance_`` (rows,) what it said of them. Quote those.
    """

    name: ClassVar[str] = "auto"
    single_column: ClassVar[bool] = False

    def __init__(
        self,
        scale: Scale | tuple[Scale, ...] = "probability",
        eps: float = 1e-3,
        candidates: tuple[str, ...] | None = None,
        folds: int = 5,
        seed: int = 0,
    ):
        self.scale = scale
        self.eps = eps
        self.candidates = candidates
        self.folds = folds
        self.seed = seed

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:  # noqa: N803
        """Weighs, chooses, fits; ``groups`` (m,) names each row's question, None: each its own.

        Rows of one question (its samples, or prefixes of its pool) must share a group. With
        ``groups`` the order of the rows does not matter. Raises UsageError as every calibrator
        does; RefusedError for one class only and for fewer than 20 groups.
        """
        rows = self._rows(X, y, sample_weight)
        names = self._names(rows.scores.shape[1])
        members = _numbered(groups, rows)
        if (found := len(np.unique(members))) < FEWEST_GROUPS:
            raise RefusedError(
                f"auto: {found} groups, and a choice wants at least {FEWEST_GROUPS}; label more, "
                "or name the calibrator"
            )
        outer = _dealt(members, self.folds, self.seed)
        chance, guard = np.empty(len(rows.y)), np.empty(len(rows.y))
        for fold in range(self.folds):
            test = outer == fold
            train = rows.where(~test)
            chosen, _ = self._choose(names, train, members[~test])
            for one, held in ((chosen, chance), (self._fitted(_guard(names), train), guard)):
                held[test] = one.predict_proba(rows.scores[test])[:, 1]
        self.held_out_chance_ = chance
        self.held_out_ = _considered("auto", chance, guard, rows, members)
        self.calibrator_, self.considered_ = self._choose(names, rows, members)
        self.chosen_ = self.calibrator_.name
        self._sized(len(rows.y), rows.scores.shape[1])
        return self

    def _choose(
        self, names: list[str], rows: Rows, members: Groups
    ) -> tuple[Calibrator, list[Considered]]:
        """The choice by one level of cross-validation, fitted, and the numbers it rests on."""
        fold = _dealt(members, self.folds, self.seed)
        held: dict[str, FloatArray] = {}
        refused: dict[str, str] = {}
        for name in names:
            try:
                self._fitted(name, rows)  # what refuses all rows may take four fifths of them
                held[name] = self._held_out(name, rows, fold)
            except RefusedError as refusal:
                refused[name] = str(refusal)
        # Rows of one group are not as many trials: all together they count as many as the groups.
        groups = len(np.unique(members))
        share = rows.weight * (groups / rows.weight.sum())
        each = np.stack(list(held.values()))
        weights = best_weights(each, rows.y, share)
        mixed = weights @ each
        raw = _guard(names)
        considered = [
            _considered(name, held[name], held[raw], rows, members)
            if name in held
            else Considered(name, reason=refused[name])
            for name in names
        ]
        considered.append(_considered(Mixture.name, mixed, held[raw], rows, members))
        varied = (rows.scores != rows.scores[0]).any()
        gain, error = _mean(_gains(mixed, held[raw], rows), rows.weight, members)
        if varied and raw == "identity" and _bearable(rows.scores, groups) and gain <= error / 2:
            return self._fitted(raw, rows), considered
        if not varied or rows.weight @ _gains(mixed, held["constant"], rows) <= 0:
            return self._fitted("constant", rows), considered
        mixture = Mixture(self.scale, self.eps, tuple(held), tuple(weights.tolist()))
        return mixture.fit(rows.scores, rows.y, rows.weight), considered

    def _held_out(self, name: str, rows: Rows, fold: Groups) -> FloatArray:
        chance = np.empty(len(rows.y))
        for number in range(self.folds):
            test = fold == number
            fitted = self._fitted(name, rows.where(~test))
            chance[test] = fitted.predict_proba(rows.scores[test])[:, 1]
        return chance

    def _fitted(self, name: str, rows: Rows) -> Calibrator:
        return made(name, self.scale, self.eps).fit(rows.scores, rows.y, rows.weight)

    def _names(self, columns: int) -> list[str]:
        """The candidates that can be fitted to ``columns`` columns on the declared scale."""
        ranged = set(self._scales() or ()) == {"probability"}
        suited = {"constant", "platt"} if columns > 1 else set(MEMBERS)
        if not ranged:
            suited -= {"identity", "temperature"}
        wanted = suited if self.candidates is None else {*self.candidates, "constant", "identity"}
        if self.candidates is not None and (odd := {*self.candidates} - suited):
            raise UsageError(
                f"candidates: {', '.join(sorted(odd))}: not for {columns} columns of "
                f"scale {self.scale!r}"
            )
        return [name for name in MEMBERS if name in wanted & suited]

    def _check_settings(self) -> None:
        super()._check_settings()
        named = () if self.candidates is None else self.candidates
        if not isinstance(named, tuple) or any(name not in list(MEMBERS) for name in named):
            raise UsageError(
                f"candidates={named!r}: must be None or a tuple of names out of "
                f"{', '.join(MEMBERS)}"
            )
        for key, low, high in (("folds", 2, MOST_FOLDS), ("seed", 0, 2**32 - 1)):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise UsageError(f"{key}={value!r}: must be a whole number in {low}..{high}")

    def _chance(self, scores: FloatArray) -> FloatArray:
        chance: FloatArray = self.calibrator_.predict_proba(scores)[:, 1]
        return chance

    def _params(self) -> dict[str, Any]:
        return {
            "chosen": self.calibrator_.state(),
            "considered": [asdict(one) for one in self.considered_],
            "held_out": asdict(self.held_out_),
        }

    def _restore(self, params: Fields) -> int:
        self.calibrator_ = read_state(params.get("chosen"), {**MEMBERS, Mixture.name: Mixture})
        self.chosen_ = self.calibrator_.name
        self.considered_ = [_read(one) for one in params.sequence("considered")]
        self.held_out_ = _read(params.get("held_out"))
        return int(self.calibrator_.n_features_in_)


def _guard(names: list[str]) -> str:
    return "identity" if "identity" in names else "constant"


def _bearable(scores: FloatArray, n: int) -> bool:
    """Whether no probability is surer than ``n`` trials can make it."""
    closest = 1 / (2 * (n + 2))
    return bool(scores.min() >= closest and scores.max() <= 1 - closest)


def _numbered(groups: Any, rows: Rows) -> Groups:
    """Each kept row's group as a number from 0."""
    if groups is None:
        return np.arange(len(rows.y))
    named = np.asarray(groups)
    if named.shape != rows.kept.shape:
        raise UsageError(f"groups: shape {named.shape}; X has {len(rows.kept)} rows")
    return np.asarray(np.unique(named[rows.kept], return_inverse=True)[1], dtype=np.intp)


def _dealt(members: Groups, folds: int, seed: int) -> Groups:
    """Each row's fold, whole groups dealt out evenly."""
    present, place = np.unique(members, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(present))
    return np.asarray((order % folds)[place], dtype=np.intp)


def _log_losses(chance: FloatArray, y: FloatArray) -> FloatArray:
    """Log loss of each row, (m,), in nats a trial."""
    p = np.clip(chance, CHANCE_EPS, 1 - CHANCE_EPS)
    losses: FloatArray = -(xlogy(y, p) + xlog1py(1 - y, -p))
    return losses


def _gains(chance: FloatArray, other: FloatArray, rows: Rows) -> FloatArray:
    """By how much less ``chance`` loses than ``other`` on each row, (m,), in nats a trial."""
    return _log_losses(other, rows.y) - _log_losses(chance, rows.y)


def _briers(chance: FloatArray, y: FloatArray) -> FloatArray:
    """Expected squared error of each row, (m,), over the trials behind its share ``y``."""
    return y * (1 - chance) ** 2 + (1 - y) * chance**2


def _mean(values: FloatArray, weight: FloatArray, members: Groups) -> tuple[float, float]:
    """Weighted mean of ``values`` (m,) and its standard error, groups being the unit."""
    total = weight.sum()
    mean = float(weight @ values / total)
    off = np.bincount(members, weight * (values - mean))
    n = len(np.unique(members))
    return mean, float(np.sqrt(n / (n - 1) * (off @ off)) / total)


def _considered(
    name: str, chance: FloatArray, guard: FloatArray, rows: Rows, members: Groups
) -> Considered:
    log_loss, log_loss_se = _mean(_log_losses(chance, rows.y), rows.weight, members)
    brier, brier_se = _mean(_briers(chance, rows.y), rows.weight, members)
    gain, gain_se = _mean(_gains(chance, guard, rows), rows.weight, members)
    return Considered(name, log_loss, log_loss_se, brier, brier_se, gain, gain_se)


def _read(value: Any) -> Considered:
    keys = {field.name for field in dataclass_fields(Considered)}
    given = Fields.of("auto: considered", value, keys)
    return Considered(
        given.word("name"),
        log_loss=given.optional("log_loss", 0),
        log_loss_se=given.optional("log_loss_se", 0),
        brier=given.optional("brier", 0, 1),
        brier_se=given.optional("brier_se", 0),
        gain=given.optional("gain"),
        gain_se=given.optional("gain_se", 0),
        reason=None if given.get("reason") is None else given.word("reason"),
    )
