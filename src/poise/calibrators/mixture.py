"""Several calibrators at once: the weighted mean of what each makes of the score.

How far each is to be trusted is settled beforehand, on questions that its fit has not seen
(``best_weights``). It does not know which these were, nor whether any member suits the data.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from poise.calibrators.calibrator import Calibrator, read_state
from poise.calibrators.constant import Constant
from poise.calibrators.identity import Identity
from poise.calibrators.isotonic import Isotonic
from poise.calibrators.levels import Levels
from poise.calibrators.platt import Platt
from poise.calibrators.quadratic import Quadratic
from poise.calibrators.rows import FloatArray, Rows, Scale
from poise.calibrators.state import Fields
from poise.calibrators.temperature import Temperature
from poise.errors import InputError, UsageError

__all__ = ["CHANCE_EPS", "MEMBERS", "Mixture", "best_weights", "made"]

MEMBERS: dict[str, type[Calibrator]] = {
    kind.name: kind
    for kind in (Constant, Identity, Temperature, Platt, Quadratic, Isotonic, Levels)
}
"""What can be a member, simplest first."""

PRIOR_TRIALS = 2.0
"""What the prior of equal weights is worth; 1 to 4 did alike on the data it was tried on."""

CHANCE_EPS = 1e-6
"""Held-out probabilities are clipped here: a raw 1.0 that is wrong costs 13.8 nats, no more."""

ROOM, MOST_ROUNDS = 1e-4, 2000


class Mixture(Calibrator):
    """P(right) = sum_j weight_j * P_j(right), P_j by the member j, fitted on the same rows.

    ``members``: names out of ``MEMBERS``, each once; ``weights``: one each, above 0, summing to 1.
    Both are settings, so that fitting again keeps them. ``scale``, ``eps``: as for Platt, handed to
    the members that have them; several columns want members that take several.

    The mean is of probabilities and not of log-odds: a member that is certain and wrong costs at
    most log(1 / the others' weights). It rises wherever its members rise. ``fitted_``: the members.
    Raises RefusedError where a member does. Source: linear opinion pool (Stone 1961).
    """

    name: ClassVar[str] = "mixture"
    single_column: ClassVar[bool] = False

    def __init__(
        self,
        scale: Scale | tuple[Scale, ...] = "probability",
        eps: float = 1e-3,
        members: tuple[str, ...] = ("platt", "isotonic"),
        weights: tuple[float, ...] = (0.5, 0.5),
    ):
        self.scale = scale
        self.eps = eps
        self.members = members
        self.weights = weights

    def _learn(self, rows: Rows) -> None:
        self.fitted_ = [
            made(name, self.scale, self.eps).fit(rows.scores, rows.y, rows.weight)
            for name in self.members
        ]

    def _chance(self, scores: FloatArray) -> FloatArray:
        each = np.stack([member.predict_proba(scores)[:, 1] for member in self.fitted_])
        return np.clip(np.array(self.weights) @ each, 0, 1)

    def _check_settings(self) -> None:
        super()._check_settings()
        names, weights = self.members, self.weights
        known = isinstance(names, tuple) and all(name in list(MEMBERS) for name in names)
        if not known or not names or len(set(names)) < len(names):
            raise UsageError(
                f"members={names!r}: must be a tuple of names, each once, out of "
                f"{', '.join(MEMBERS)}"
            )
        numbers = isinstance(weights, tuple) and all(
            isinstance(one, int | float) and not isinstance(one, bool) and 0 < one <= 1
            for one in weights
        )
        if not numbers or len(weights) != len(names) or abs(sum(weights) - 1) > 1e-9:
            raise UsageError(
                f"weights={weights!r}: must be {len(names)} numbers above 0, one a member, "
                "that sum to 1"
            )

    def _params(self) -> dict[str, Any]:
        return {"fitted": [member.state() for member in self.fitted_]}

    def _restore(self, params: Fields) -> int:
        self.fitted_ = [read_state(one, MEMBERS) for one in params.sequence("fitted")]
        own = [(one.name, one.get_params()) for one in self.fitted_]
        wanted = [(name, made(name, self.scale, self.eps).get_params()) for name in self.members]
        if own != wanted:
            raise InputError("mixture: fitted: not the members that the settings name")
        columns = {one.n_features_in_ for one in self.fitted_}
        if len(columns) > 1:
            raise InputError("mixture: fitted: members of different numbers of columns")
        return columns.pop()


def made(name: str, scale: Scale | tuple[Scale, ...], eps: float) -> Calibrator:
    """The calibrator ``name`` out of ``MEMBERS``, unfitted, with the settings that it has."""
    kind = MEMBERS[name]
    alone = isinstance(scale, tuple) and len(scale) == 1
    own = {"scale": scale[0] if alone else scale, "eps": eps}
    taken = kind().get_params(deep=False)
    return kind(**{key: value for key, value in own.items() if key in taken})


def best_weights(chances: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
    """Weights (C,) of the mixture of ``chances`` (C, m) with the least log loss.

    ``chances``: P(right) by each member, fitted on other rows; ``y`` (m,) in [0, 1]; ``weight``
    (m,) > 0. A Dirichlet prior worth two trials, spread evenly, keeps every weight above 0. The
    problem is concave and EM cannot get stuck in it: it ends where no weights whatever would gain
    0.0001 nats a trial (a bound from the slope), or after 2,000 rounds. Source: stacked density
    estimation (Smyth & Wolpert 1999); super learner (van der Laan, Polley & Hubbard 2007).
    """
    clipped = np.clip(chances, CHANCE_EPS, 1 - CHANCE_EPS)
    told = np.concatenate([clipped[:, y > 0], 1 - clipped[:, y < 1]], axis=1)
    times = np.concatenate([(weight * y)[y > 0], (weight * (1 - y))[y < 1]])
    prior = PRIOR_TRIALS / len(chances)
    total = times.sum() + PRIOR_TRIALS
    weights = np.full(len(chances), 1 / len(chances))
    for _ in range(MOST_ROUNDS):
        # The slope of the goal, which is also the factor by which EM changes each weight.
        slope = (told @ (times / (weights @ told)) + prior / weights) / total
        weights = weights * slope
        if slope.max() <= 1 + ROOM:
            break
    found: FloatArray = weights / weights.sum()
    return found
