"""What training a confidence buys in use, parted into what selects and what generates.

::

                         untrained confidence    trained confidence
    stored samples       untrained               selection
    redrawn samples      redrawn
    fresh samples        generation              both

Stored samples are the untrained model's, fresh ones the trained model's; the same rules are played
in every cell, and each is compared with the cell ``untrained`` at the same budget, paired by
question. Where another engine drew the stored samples, the untrained model's are redrawn as the
trained model's are: ``generation`` and ``both`` are compared with those, and ``redrawn`` is what
the engine alone changes. Two more cells stop early by a number that needs no training: the stored
samples' log-probability under Platt's map. Thresholds come from elsewhere. It does not know models
or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from poise.metrics import Estimate
from poise.policies import Fixed
from poise.pools import Labelled
from poise.replay import Orders
from poise.replay.resampling import Resamples
from poise.scoring import FloatArray
from poise.train.early import (
    BUDGETS,
    TAUS,
    Played,
    early,
    is_graded,
    ordered,
    play,
    states,
    stored,
    usable,
)
from poise.votes import BestOfN, Majority, Weighted

__all__ = ["LOGPROBS", "TRAINED", "UNTRAINED", "gains"]

UNTRAINED, TRAINED = "untrained", "trained"
"""Names of the two confidences in pools that are marked with both."""

LOGPROBS = ("logprob", "logprob_sum")
"""Names of the untrained alternatives: log-probabilities under Platt's map."""

FRESH = ("generation", "both")
"""The cells of the trained model's samples."""

REPLICATES = 1000


@dataclass(frozen=True, slots=True)
class _Cell:
    """Some samples and one confidence in them."""

    held: Orders
    confidence: str


@dataclass(frozen=True, slots=True)
class _Given:
    """The cells by name, the thresholds by confidence, and the resamples that all share.

    ``own``: which cell has the untrained model's samples of the engine that drew the fresh ones.
    """

    cells: Mapping[str, _Cell]
    own: str
    thresholds: Mapping[str, float]
    full: int
    draws: Resamples

    def early(self, name: str, budget: int) -> Played:
        cell = self.cells[name]
        return early(cell.held, cell.confidence, self.thresholds[cell.confidence], budget)


def gains(
    pools: Sequence[Labelled],
    fresh: Sequence[Labelled],
    thresholds: Mapping[str, float],
    redrawn: Sequence[Labelled] = (),
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """The numbers of one held-out set; JSON-ready, every estimate with its interval.

    ``pools``: stored samples marked with both confidences and, where there are any, ``LOGPROBS``;
    ``fresh``: the trained model's samples of the same questions, marked with both, empty where none
    could be drawn. ``thresholds`` by confidence. ``redrawn``: the untrained model's samples of the
    questions of ``fresh``, drawn alike and marked as ``pools`` but for the trained confidence; none
    where ``pools`` were drawn alike. ``reason`` in place of numbers where the samples
    are too few, not graded, or without confidences.
    """
    most = min((len(one.pool.samples) for one in fresh), default=BUDGETS[-1])
    had = usable([one for one in pools if is_graded(one)], most)
    told: dict[str, Any] = {"left_out": {**had.left_out}}
    if ungraded := sum(not is_graded(one) for one in pools):
        told["left_out"]["questions that are not graded"] = ungraded
    if had.full is None:
        reason = "no question is graded" if 0 < ungraded == len(pools) else had.reason
        return {**told, "reason": reason}
    drawn = {one.pool.group: one for one in fresh if is_graded(one)}
    kept = [one for one in had.pools if not fresh or one.pool.group in drawn]
    if fresh and (lost := len(had.pools) - len(kept)):
        told["left_out"]["questions whose fresh samples are not graded"] = lost
    beside = [drawn[one.pool.group] for one in kept if fresh]
    alike = {one.pool.group: one for one in redrawn}
    control = [alike[one.pool.group] for one in kept if redrawn]
    cells = _cells(kept, beside, control, thresholds, had.full, seed)
    if isinstance(cells, str):
        return {**told, "reason": cells}
    own = "redrawn" if "redrawn" in cells else "untrained"
    made = _Given(cells, own, thresholds, had.full, Resamples(len(kept), REPLICATES, seed))
    budgets = [budget for budget in BUDGETS if budget <= had.full]
    if "both" not in cells and "generation" not in cells:
        why = "no fresh sample states a confidence" if fresh else "no fresh samples could be drawn"
        told["without_fresh"] = why
    return {
        **told,
        "questions": len(kept),
        "samples": had.full,
        "orders": cells["untrained"].held.shape[1],
        "engines": _engines(kept, fresh),
        "budgets": {str(budget): _budget(made, budget) for budget in budgets},
        "against": _against(made),
        **_sweeps(made),
    }


def _engines(kept: Sequence[Labelled], fresh: Sequence[Labelled]) -> dict[str, list[str]]:
    """Which engines drew the samples: where they differ, so does what ``generation`` gains."""
    return {
        name: sorted({one.pool.engine or "(not stated)" for one in pools})
        for name, pools in (("stored", kept), ("fresh", fresh))
    }


def _cells(
    kept: Sequence[Labelled],
    fresh: Sequence[Labelled],
    redrawn: Sequence[Labelled],
    thresholds: Mapping[str, float],
    full: int,
    seed: int,
) -> dict[str, _Cell] | str:
    """The cells that there are; a reason in words where not even the first two are."""
    if not kept:
        return "no question has graded samples of both models"
    there = [name for name in (UNTRAINED, TRAINED, *LOGPROBS) if states(kept, name)]
    for name in (UNTRAINED, TRAINED):
        if name not in there:
            return f"no sample states a confidence ({name})"
        if name not in thresholds:
            return f"no threshold could be chosen ({name})"
    there = [name for name in there if name in thresholds]
    held = ordered(kept, there, full, seed)
    names = {UNTRAINED: "untrained", TRAINED: "selection", **{name: name for name in LOGPROBS}}
    cells = {names[name]: _Cell(held, name) for name in there}
    if fresh:
        said = [name for name in (UNTRAINED, TRAINED) if states(fresh, name)]
        drawn = ordered(fresh, said, full, seed)
        both = {UNTRAINED: "generation", TRAINED: "both"}
        cells |= {both[name]: _Cell(drawn, name) for name in said}
    if redrawn and states(redrawn, UNTRAINED):
        said = [name for name in (UNTRAINED, *LOGPROBS) if name in there and states(redrawn, name)]
        cells["redrawn"] = _Cell(ordered(redrawn, said, full, seed), UNTRAINED)
    return cells


# -- at one budget --------------------------------------------------------------------------------


def _budget(given: _Given, budget: int) -> dict[str, Any]:
    """Every cell's rules at one budget, compared with the untrained model's own samples."""
    rules = {name: _rules(given, name, budget) for name in given.cells}
    found: dict[str, Any] = {}
    for name, each in rules.items():
        first = rules[given.own if name in FRESH else "untrained"]
        found[name] = {
            rule: _numbers(given.draws, played, None if each is first else first[rule])
            | (_sureness(given.draws, each, first) if rule == "early" else {})
            for rule, played in each.items()
        }
    return found


def _rules(given: _Given, name: str, budget: int) -> dict[str, Played]:
    cell = given.cells[name]
    signal, held, fixed = stored(cell.confidence), cell.held, Fixed(budget)
    rules = {"early": given.early(name, budget)}
    if cell.confidence in LOGPROBS:
        return rules
    rules["weighted"] = play(held, fixed, Weighted(signal))
    rules["best_of_n"] = play(held, fixed, BestOfN(signal))
    if cell.confidence == UNTRAINED:  # it reads no confidence, so it is the samples' alone
        rules["majority"] = play(held, fixed, Majority())
    return rules


def _numbers(draws: Resamples, played: Played, first: Played | None) -> dict[str, Any]:
    made = {
        "accuracy": _told(draws.mean(played.right)),
        "samples": _told(draws.mean(played.samples)),
        "tokens": _known(draws, played.tokens),
        "wrong": _told(draws.mean(played.wrong)),
    }
    if first is not None:
        made["accuracy_change"] = _told(draws.mean(played.right - first.right))
        made["wrong_change"] = _told(draws.mean(played.wrong - first.wrong))
    return made


def _sureness(
    draws: Resamples, rules: Mapping[str, Played], first: Mapping[str, Played]
) -> dict[str, Any]:
    """What only early stopping has: how often it was sure, and its distance to best of N."""
    made, base, best = rules["early"], first["early"], rules.get("best_of_n")
    told = {
        "sure": _told(draws.mean(made.sure)),
        "sure_wrong": _told(draws.mean(made.sure_wrong)),
    }
    if best is not None:
        told["to_best_of_n"] = _told(draws.mean(made.right - best.right))
    if made is not base:
        told["samples_change"] = _told(draws.mean(made.samples - base.samples))
        told["sure_wrong_change"] = _told(draws.mean(made.sure_wrong - base.sure_wrong))
    return told


# -- what is saved --------------------------------------------------------------------------------


def _against(given: _Given) -> dict[str, Any]:
    """Trained early stopping over the full budget against what needs no training.

    Positive is saved: samples, completion tokens, and follow-ups (one a sample where a confidence
    is asked for; voting and log-probabilities ask for none).
    """
    found: dict[str, Any] = {}
    for name in ("selection", "both"):
        if name not in given.cells:
            continue
        ours = given.early(name, given.full)
        found[name] = {
            other: {
                "accuracy": _told(given.draws.mean(ours.right - theirs.right)),
                "samples": _told(given.draws.mean(theirs.samples - ours.samples)),
                "tokens": _known(given.draws, theirs.tokens - ours.tokens),
                "followups": _told(given.draws.mean(theirs.samples * asks - ours.samples)),
                "samples_of_it": _told(given.draws.mean(theirs.samples)),
            }
            for other, (theirs, asks) in _others(given, name).items()
        }
    return found


def _others(given: _Given, name: str) -> dict[str, tuple[Played, bool]]:
    """What a cell is held against, on the untrained model's samples; whether it asks follow-ups."""
    base = given.cells[given.own if name in FRESH else "untrained"].held
    others = {"majority": (play(base, Fixed(given.full), Majority()), False)}
    for other in (UNTRAINED, *LOGPROBS):
        if stored(other) in base.values:
            played = early(base, other, given.thresholds[other], given.full)
            others[other] = played, other == UNTRAINED
    return others


def _sweeps(given: _Given) -> dict[str, Any]:
    """Accuracy against samples as the threshold goes from 0 to 1, and what each confidence needs.

    ``needed``: the fewest samples with which a sweep reaches the accuracy of majority voting over
    the full budget of the stored samples, that budget where none does: at exactly equal accuracy,
    but read off these very questions, so flattering to all alike.
    """
    swept = {
        name: [early(cell.held, cell.confidence, tau, given.full) for tau in TAUS]
        for name, cell in given.cells.items()
    }
    vote = play(given.cells["untrained"].held, Fixed(given.full), Majority())
    need = {name: _need(given, rows, vote.right) for name, rows in swept.items()}
    return {
        "sweep": {
            name: [
                [tau, *(round(float(c.mean()), 4) for c in (row.samples, row.right))]
                for tau, row in zip(TAUS, rows, strict=True)
            ]
            for name, rows in swept.items()
        },
        "needed": {
            name: {
                "samples": _told(given.draws.estimate(value, spread)),
                "saved": {
                    other: _told(given.draws.estimate(need[other][0] - value, theirs - spread))
                    for other, (_, theirs) in need.items()
                    if other != name and name in ("selection", "both")
                },
            }
            for name, (value, spread) in need.items()
        },
    }


def _need(given: _Given, rows: Sequence[Played], vote: FloatArray) -> tuple[float, FloatArray]:
    """The samples a sweep needs for the vote's accuracy: here, and on each resample."""

    def least(means: Callable[[FloatArray], FloatArray]) -> FloatArray:
        goal = means(vote[:, None])
        right = means(np.stack([row.right for row in rows], axis=1))
        samples = means(np.stack([row.samples for row in rows], axis=1))
        reach: FloatArray = np.where(right >= goal - 1e-6, samples, float(given.full)).min(axis=1)
        return reach

    here = least(lambda columns: columns.mean(axis=0, keepdims=True))
    return float(here[0]), least(given.draws.means)


# -- inside ---------------------------------------------------------------------------------------


def _known(draws: Resamples, column: FloatArray) -> dict[str, Any]:
    if np.isnan(column).any():
        return _told(Estimate(None, reason="samples do not all state their tokens"))
    return _told(draws.mean(column))


def _told(one: Estimate) -> dict[str, Any]:
    """JSON-ready, to six digits."""
    ends = one.interval
    return asdict(one) | {
        "value": None if one.value is None else round(one.value, 6),
        "interval": None if ends is None else [round(end, 6) for end in ends],
    }
