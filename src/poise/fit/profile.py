"""From pools to a profile, in the order that keeps its numbers honest.

1. **State maps**, on all prefixes of the pools, cross-fitted.
2. **Policy**: given by the caller; its stops on the pools are computed, nothing is tuned here.
3. **Final maps**, on the cross-fitted probabilities at those stops, chosen by nested
   cross-validation among the calibrators, behind the guards of ``Auto``.

What was considered is kept with held-out numbers, baselines beside it. It refuses where there is
too little data, one class only, no signal, or pools that are no draws of one arm and kind.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import replace

from poise.domain import QuestionTest
from poise.errors import InputError, RefusedError
from poise.fit.capability import FEWEST_AFTER, fit_capability
from poise.fit.maps import fit_maps, folds, subsets, with_history
from poise.fit.policy import stops_of
from poise.fit.pools import check_size, fingerprint, one_arm
from poise.fit.pools import texts as texts_of
from poise.fit.prefixes import MOST_MISSING, Prefixes, prefixes
from poise.fit.records import check_classes, check_signal, considered, kept_rows, report, sizes
from poise.fit.segments import how_found, learnt, placed
from poise.policies import IntArray, Policy
from poise.pools import Labelled
from poise.profile import Profile
from poise.segmenter import Rules, Segmenter
from poise.signals import SegmentHistory
from poise.state_map import COUNTS

__all__ = ["fit"]


def fit(
    pools: Iterable[Labelled],
    policy: Policy,
    *,
    signals: Sequence[str] | None = None,
    rules: Rules = Rules(),
    seed: int = 0,
    note: str = "",
    others: Iterable[tuple[str, Sequence[str]]] = (),
) -> Profile:
    """A profile for ``policy`` from labelled pools of one arm and kind, at least 100 questions.

    ``signals`` beside the votes; None: those that cost nothing, which are the leader's mean
    log-probability where the samples have them, and the segments' history where the pools state
    segments. ``rules`` find the segment of a question that does not state it, before the classifier
    that is fitted here. ``others``: named lists of questions of other tasks, to say how many the
    domain test turns away. Raises RefusedError where the data cannot carry a profile, InputError
    where the pools do not belong together or lack a signal, UsageError for an unknown signal.
    Pools that are not fully graded are left out and counted.
    """
    given = list(pools)
    listed = _graded(given, rules)
    arm, kind = one_arm(listed, policy)
    asked = texts_of(listed)
    arrays, fold, history, segmenter = _arrays(listed, policy, signals, rules, seed)
    names = _order(arrays)
    policy, stops = stops_of(policy, listed, arrays, fold, seed)
    fitted = [fit_maps(arrays, one, stops, fold, seed) for one in subsets(names)]
    check_signal(fitted[0])
    able = arrays.codes.shape[1] >= 2 * FEWEST_AFTER
    capability, told = fit_capability(arrays, names, fold) if able else (None, None)
    domain = QuestionTest.fit(asked, seed)
    profile = Profile(
        id="",
        version=1,
        arm=arm,
        kind=kind,
        datasets=tuple(sorted({one.pool.dataset for one in listed})),
        policy=policy,
        maps=tuple(one.maps for one in fitted),
        domain=domain,
        history=history,
        segmenter=segmenter,
        capability=capability,
        detection={name: round(domain.detected(other), 4) for name, other in others},
        data={
            "fingerprint": fingerprint(listed),
            **sizes(arrays, fitted[0], stops),
            "seed": seed,
            "held_out": report(fitted[0], seed),
            "capability": told,
            "ungraded": len(given) - len(listed),
            "segmenter": None if segmenter is None else how_found(segmenter, given),
        },
        held_out=kept_rows(arrays, fitted[0], stops, seed),
        considered=considered(arrays, fitted, stops, seed),
        note=note,
        created=dt.datetime.now(dt.UTC).date().isoformat(),
    )
    return replace(profile, id=profile.to_dict()["sha256"][:12])


# -- inside -------------------------------------------------------------------------------------


def _graded(pools: Sequence[Labelled], rules: Rules) -> list[Labelled]:
    """The pools that are fully graded, in their segments."""
    listed = [placed(one, rules) for one in pools if None not in one.correct]
    if pools and not listed:
        raise RefusedError("no pool is fully graded; label with gold answers")
    return listed


def _arrays(
    pools: Sequence[Labelled],
    policy: Policy,
    signals: Sequence[str] | None,
    rules: Rules,
    seed: int,
) -> tuple[Prefixes, IntArray, SegmentHistory | None, Segmenter | None]:
    """Everything that can be read at every prefix, the folds, and the segments' history."""
    single = policy.stop.max_samples == 1
    arrays = prefixes(pools, signals, single=single, needs=policy.stop.needs)
    check_size(pools, policy)
    check_classes(arrays, policy)
    fold = folds(arrays.group, seed)
    size = len(pools[0].pool.samples) if single else 1
    segmenter, found = learnt(pools, rules, fold[::size].tolist(), seed)
    found = tuple(segment for segment in found for _ in range(size))
    history = None
    if _wants_history(found, signals):
        arrays, history = with_history(arrays, found, fold)
    if not arrays.signals:
        raise RefusedError("there is no signal to fit on: name one with --signals")
    return arrays, fold, history, segmenter


def _wants_history(found: Sequence[str | None], signals: Sequence[str] | None) -> bool:
    """Whether segments are there to have a history. Raises InputError where they are named and not.

    Segments that nothing but the caller states have to be stated nearly always.
    """
    able = found.count(None) <= MOST_MISSING * len(found) and len(set(found)) > 1
    if signals is None:
        return able
    if SegmentHistory.name in signals and not able:
        raise InputError(
            "segment_history: the pools state no segments, or too few; give rules, or leave it out"
        )
    return SegmentHistory.name in signals


def _order(arrays: Prefixes) -> tuple[str, ...]:
    """Signals by name, the votes first."""
    further = (name for name in arrays.signals if name not in COUNTS)
    return (*(name for name in COUNTS if name in arrays.signals), *further)
