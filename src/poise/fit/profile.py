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
from poise.errors import RefusedError
from poise.fit.capability import FEWEST_AFTER, fit_capability
from poise.fit.maps import fit_maps, folds, subsets, with_history
from poise.fit.pools import check_size, fingerprint, one_arm
from poise.fit.pools import texts as texts_of
from poise.fit.prefixes import Prefixes, prefixes
from poise.fit.records import check_signal, considered, kept_rows, report, sizes
from poise.fit.segments import how_found, learnt, placed
from poise.policies import IntArray, Policy
from poise.pools import Labelled
from poise.profile import Profile
from poise.segmenter import Rules
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
    """
    given = list(pools)
    listed = [placed(one, rules) for one in given]
    arm, kind = one_arm(listed, policy)
    asked = texts_of(listed)
    arrays, fold, history = _arrays(listed, policy, signals, seed)
    names = _order(arrays)
    stops = policy.stop.stops(arrays.codes) - 1
    fitted = [fit_maps(arrays, one, stops, fold, seed) for one in subsets(names)]
    check_signal(fitted[0])
    able = arrays.codes.shape[1] >= 2 * FEWEST_AFTER
    capability, told = fit_capability(arrays, names, fold) if able else (None, None)
    parted = history is not None or rules.rules
    segmenter = learnt(listed, asked, rules, seed) if parted else None
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
            "segmenter": None if segmenter is None else how_found(segmenter, given),
        },
        held_out=kept_rows(arrays, fitted[0], stops, seed),
        considered=considered(arrays, fitted, stops, seed),
        note=note,
        created=dt.datetime.now(dt.UTC).date().isoformat(),
    )
    return replace(profile, id=profile.to_dict()["sha256"][:12])


# -- inside -------------------------------------------------------------------------------------


def _arrays(
    pools: Sequence[Labelled], policy: Policy, signals: Sequence[str] | None, seed: int
) -> tuple[Prefixes, IntArray, SegmentHistory | None]:
    """Everything that can be read at every prefix, the folds, and the segments' history."""
    arrays = prefixes(pools, signals, single=policy.stop.max_samples == 1)
    check_size(pools, policy)
    fold = folds(arrays.group, seed)
    history = None
    if _wants_history(arrays, signals):
        arrays, history = with_history(arrays, fold)
    if not arrays.signals:
        raise RefusedError("there is no signal to fit on: name one with --signals")
    return arrays, fold, history


def _wants_history(arrays: Prefixes, signals: Sequence[str] | None) -> bool:
    if signals is not None:
        return SegmentHistory.name in signals
    return None not in arrays.segments and len(set(arrays.segments)) > 1


def _order(arrays: Prefixes) -> tuple[str, ...]:
    """Signals by name, the votes first."""
    further = (name for name in arrays.signals if name not in COUNTS)
    return (*(name for name in COUNTS if name in arrays.signals), *further)
