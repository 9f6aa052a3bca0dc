"""Maps and what they state of questions they have not seen.

Every set of signals gets a state map, cross-fitted (each question's probabilities come from maps
that have not seen it), a final map on those at the policy's stops, and copies of both refitted on
bootstrap draws of the questions. It does not know where the arrays come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from poise.calibrators import Auto, Calibrator, from_state, to_state
from poise.errors import RefusedError
from poise.fit.prefixes import BoolArray, FloatArray, Prefixes
from poise.maps import Maps
from poise.policies import IntArray
from poise.signals import SegmentHistory, asking, signal
from poise.state_map import COUNTS, StateMap

__all__ = [
    "FOLDS",
    "Fitted",
    "cross_fitted",
    "cross_stated",
    "fit_maps",
    "fit_state_map",
    "folds",
    "subsets",
    "with_history",
]

FOLDS = 5
FEWEST = 4 * FOLDS
"""Questions that a map can be fitted and judged on at all."""
REPLICATES = 50


@dataclass(frozen=True, slots=True)
class Fitted:
    """Maps of one set of signals, at the stops of one policy.

    ``usable`` (m,): rows whose signals are all there at the stop; of those k rows: ``chance`` (k,)
    the cross-fitted state map, ``stated`` (k,) what would be reported, by maps that have not seen
    the question, ``right`` (k,), ``group`` (k,). ``final``: the choice among final maps.
    """

    maps: Maps
    final: Auto
    usable: BoolArray
    chance: FloatArray
    stated: FloatArray
    right: IntArray
    group: IntArray


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Sets of signals that may be all there is, the fullest first.

    Signals that come with the same evidence (log-probabilities, one follow-up) are there together
    or not at all. Up to three such groups: every set of them; beyond, all, all but one, and none.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        if name not in COUNTS:
            groups.setdefault(_evidence(name), []).append(name)
    counts = tuple(name for name in COUNTS if name in names)
    sizes = range(len(groups), -1, -1)
    if len(groups) > 3:
        sizes = range(len(groups), len(groups) - 2, -1)
    sets = [chosen for size in sizes for chosen in combinations(groups, size)]
    if len(groups) > 3:
        sets.append(())
    listed = [(*counts, *(name for one in chosen for name in groups[one])) for chosen in sets]
    return [one for one in listed if one]


def folds(group: IntArray, seed: int) -> IntArray:
    """(m,) the fold of each row, whole questions dealt out evenly."""
    known, member = np.unique(group, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(known)) % FOLDS
    return np.asarray(dealt[member], np.int64)


def with_history(
    arrays: Prefixes, segments: Sequence[str | None], fold: IntArray
) -> tuple[Prefixes, SegmentHistory]:
    """The arrays with the history of ``segments`` (m,), of each row as the other folds tell it."""
    share = arrays.grades.mean(axis=1)
    values = SegmentHistory.out_of_fold(segments, share, fold)
    spread = np.repeat(values[:, None], arrays.codes.shape[1], axis=1)
    signals = {**arrays.signals, SegmentHistory.name: spread}
    return replace(arrays, signals=signals), SegmentHistory.fit(segments, share)


def fit_maps(
    arrays: Prefixes, names: Sequence[str], stops: IntArray, fold: IntArray, seed: int
) -> Fitted:
    """Maps that read ``names``, at ``stops`` (m,), places from 0. Raises RefusedError."""
    held_out = cross_fitted(arrays, names, arrays.right, fold)
    every = np.arange(len(stops))
    usable = np.isfinite(held_out[every, stops])
    if usable.sum() < FEWEST:
        raise RefusedError(
            f"at the policy's stops {usable.sum()} of {len(stops)} questions have all of"
            f" {', '.join(names)}; signals of votes need two samples, so let the policy draw more"
        )
    chance = held_out[every, stops][usable]
    right, group = arrays.right[every, stops][usable], arrays.group[usable]
    final = Auto(scale="probability", seed=seed).fit(chance, right, groups=group)
    chosen = final.calibrator_
    state_map = fit_state_map(arrays, names, arrays.right, np.ones(len(stops)))
    return Fitted(
        Maps(state_map, chosen, _replicates(arrays, names, chosen, chance, right, usable, seed)),
        final,
        usable,
        chance,
        final.held_out_chance_,
        right,
        group,
    )


def cross_fitted(
    arrays: Prefixes,
    names: Sequence[str],
    y: npt.NDArray[np.generic],
    fold: IntArray,
    where: BoolArray | None = None,
) -> FloatArray:
    """(m, N) probabilities of ``y`` (m, N) from maps that have not seen the question.

    ``where`` (m, N): the prefixes to fit on, None for all. nan where a signal is missing.
    """
    ready = arrays.ready(names)
    chance = np.full(arrays.codes.shape, np.nan)
    for number in range(FOLDS):
        fitted = fit_state_map(arrays, names, y, (fold != number).astype(np.float64), where)
        test = ready & (fold == number)[:, None]
        if test.any():
            chance[test] = fitted.probability(arrays.n[test], arrays.at(names, test))
    return chance


def fit_state_map(
    arrays: Prefixes,
    names: Sequence[str],
    y: npt.NDArray[np.generic],
    times: FloatArray,
    where: BoolArray | None = None,
) -> StateMap:
    """Fit on all prefixes (of ``where``, if given), row i weighing ``times[i]`` in all."""
    ready = arrays.ready(names) & (times > 0)[:, None]
    if where is not None:
        ready &= where
    weight = times[:, None] * ready / np.maximum(ready.sum(axis=1, keepdims=True), 1)
    ranged = [name for name in names if name in arrays.ranged]
    return StateMap.fit(
        arrays.n[ready], arrays.at(names, ready), y[ready], weight[ready], ranged=ranged
    )


def cross_stated(
    final: Calibrator, chance: FloatArray, right: IntArray, group: IntArray, seed: int
) -> FloatArray:
    """(k,) what ``final`` says of ``chance`` (k,), each question's fit without it.

    Nearly without: the choice of the calibrator is kept, and what gave ``chance`` saw other folds.
    """
    fold = folds(group, seed + 1)
    stated = np.empty(len(chance))
    for number in range(FOLDS):
        test = fold == number
        fresh = from_state(to_state(final)).fit(chance[~test], right[~test])
        stated[test] = fresh.predict_proba(chance[test])[:, 1]
    return stated


# -- inside -------------------------------------------------------------------------------------


def _evidence(name: str) -> str:
    """What a signal comes with."""
    if name == SegmentHistory.name:
        return name
    asked = asking([name])
    if asked:
        return asked[0].name
    needs = [need for need in signal(name).needs if need != "answers"]
    return needs[0].removeprefix("top_") if needs else name


def _replicates(
    arrays: Prefixes,
    names: Sequence[str],
    final: Calibrator,
    chance: FloatArray,
    right: IntArray,
    usable: BoolArray,
    seed: int,
) -> tuple[tuple[StateMap, Calibrator], ...]:
    """Both maps refitted on bootstrap draws of the questions; the choice of map is kept."""
    rng = np.random.default_rng(seed)
    _, member = np.unique(arrays.group, return_inverse=True)
    groups = int(member.max()) + 1
    made = []
    for _ in range(REPLICATES):
        drawn = np.bincount(rng.integers(0, groups, groups), minlength=groups)
        times = drawn[member].astype(np.float64)
        fresh = from_state(to_state(final)).fit(chance, right, times[usable])
        made.append((fit_state_map(arrays, names, arrays.right, times), fresh))
    return tuple(made)
