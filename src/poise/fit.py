"""From labelled pools to a profile: state map, then policy, then final map, each on its own terms.

1. **State map**, on all prefixes of the pools, cross-fitted: each question's probabilities come
   from maps that have not seen it.
2. **Policy**: given by the caller; its stops on the pools are computed, nothing is tuned here.
3. **Final map**, on the cross-fitted probabilities at those stops, chosen by nested
   cross-validation among the calibrators, behind the guards of ``auto``.

What was considered is kept with held-out numbers, baselines beside it. It refuses where there is
too little data, one class only, or pools that are no draws of one arm and kind. It does not know
how pools were drawn, and reads no file.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from poise.answers.clusters import Clusters
from poise.calibrators import Auto, Calibrator, from_state, to_state
from poise.domain import QuestionTest
from poise.errors import InputError, RefusedError
from poise.metrics import summary
from poise.policies import IntArray, Policy
from poise.pools import Labelled, canonical
from poise.profile import Profile
from poise.signals import SIGNALS, Evidence, PrefixSignal, compute
from poise.state_map import COUNTS, LOGPROB, StateMap
from poise.types import Kind
from poise.votes import Majority

__all__ = ["FEWEST_QUESTIONS", "Prefixes", "fit", "prefixes"]

FEWEST_QUESTIONS = 100
"""Fewer say too little: at 100 the noise floor of a ten-bin ECE is already a tenth."""

FOLDS = 5
REPLICATES = 50
REPORTED = (
    *("rows", "base_rate", "brier", "base_brier", "log_loss", "base_log_loss", "bins", "ece"),
    *("ece_debiased", "ece_floor", "ece_detectable", "smooth_ece", "auroc", "aurc", "level"),
)
"""What of ``metrics.summary`` a profile keeps about itself."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Pools of one arm as arrays, m questions by N samples.

    ``codes`` (m, N): answer clusters, -1 unreadable. ``signals``: (m, N) at every prefix length,
    nan where missing. ``right`` (m, N): whether the leader after that many samples is right, 0
    where there is none. ``group`` (m,): the question's number, for splits.
    """

    codes: IntArray
    signals: dict[str, FloatArray]
    right: npt.NDArray[np.int64]
    group: npt.NDArray[np.int64]

    @property
    def ready(self) -> npt.NDArray[np.bool_]:
        """(m, N): prefixes at which every signal is there."""
        present: npt.NDArray[np.bool_] = np.all(
            np.isfinite(np.stack(list(self.signals.values()))), axis=0
        )
        present[:, 0] = False  # one sample can only agree with itself
        return present


def prefixes(pools: Sequence[Labelled]) -> Prefixes:
    """Arrays of fully graded pools with equally many samples.

    The log-probability signal is there if nearly every sample has one. Raises
    InputError for pools that differ in size, RefusedError where a sample has no grade.
    """
    size = len(pools[0].pool.samples)
    for one in pools:
        if len(one.pool.samples) != size:
            raise InputError(
                f"question {one.pool.question_id!r} has {len(one.pool.samples)} samples and others"
                f" {size}; fit pools of one size"
            )
        if None in one.correct:
            raise RefusedError(f"question {one.pool.question_id!r} has samples without a grade")
    codes = np.array([_codes(one) for one in pools], np.int64)
    signals = {name: _over(name, codes, None) for name in COUNTS}
    logprobs = _logprobs(pools)
    if logprobs is not None:
        signals[LOGPROB] = _over(LOGPROB, codes, logprobs)
    numbers: dict[tuple[str, str], int] = {}
    group = [numbers.setdefault(one.pool.group, len(numbers)) for one in pools]
    return Prefixes(codes, signals, _right(codes, pools), np.array(group, np.int64))


def fit(
    pools: Iterable[Labelled],
    policy: Policy,
    *,
    seed: int = 0,
    note: str = "",
    others: Iterable[tuple[str, Sequence[str]]] = (),
) -> Profile:
    """A profile for ``policy`` from labelled pools of one arm and kind, at least 100 questions.

    ``others``: named lists of questions of other tasks, to say how many the domain test turns away.
    Raises RefusedError where the data cannot carry a profile, InputError where the pools do not
    belong together.
    """
    listed = list(pools)
    arm, kind = _one_arm(listed)
    texts = _texts(listed)
    arrays = prefixes(listed)
    _check_size(arrays, policy)
    state_map = _state_map(arrays, np.ones(len(arrays.codes)))
    held_out = _cross_fitted(arrays, seed)
    stops = policy.stop.stops(arrays.codes) - 1
    every = np.arange(len(stops))
    usable = arrays.ready[every, stops]
    chance, right = held_out[every, stops][usable], arrays.right[every, stops][usable]
    group = arrays.group[usable]
    final = Auto(scale="probability", seed=seed).fit(chance, right, groups=group)
    share = Auto(scale="probability", candidates=("platt",), seed=seed)
    share.fit(arrays.signals["agreement"][every, stops][usable], right, groups=group)
    domain = QuestionTest.fit(texts, seed)
    profile = Profile(
        id="",
        version=1,
        arm=arm,
        kind=kind,
        datasets=tuple(sorted({one.pool.dataset for one in listed})),
        policy=policy,
        state_map=state_map,
        final_map=final.calibrator_,
        replicates=_replicates(arrays, final.calibrator_, chance, right, usable, seed),
        domain=domain,
        detection={name: round(domain.detected(other), 4) for name, other in others},
        data={
            "fingerprint": _fingerprint(listed),
            "questions": len(np.unique(arrays.group)),
            "samples": int(arrays.codes.size),
            "without_probability": int((~usable).sum()),
            "mean_samples_at_stop": round(float((stops + 1).mean()), 4),
            "folds": FOLDS,
            "seed": seed,
            "held_out": _report(final.calibrator_, chance, right, group, seed),
        },
        considered=_considered(final, share),
        note=note,
        created=dt.datetime.now(dt.UTC).date().isoformat(),
    )
    return replace(profile, id=profile.to_dict()["sha256"][:12])


# -- inside -------------------------------------------------------------------------------------


def _check_size(arrays: Prefixes, policy: Policy) -> None:
    """Raise RefusedError where the pools are shorter than the policy, or too few."""
    drawn, wanted = arrays.codes.shape[1], policy.stop.max_samples
    if drawn < wanted:
        raise RefusedError(
            f"the pools hold {drawn} samples and the policy draws up to {wanted}: nothing is known"
            f" beyond; fit with --max-samples {drawn}, or draw more"
        )
    if len(np.unique(arrays.group)) < FEWEST_QUESTIONS:
        raise RefusedError(
            f"{len(np.unique(arrays.group))} questions; a profile takes at least {FEWEST_QUESTIONS}"
        )


def _codes(one: Labelled) -> list[int]:
    clusters = Clusters(one.pool.kind)  # as when serving, or the votes would be others
    return [
        -1 if (cluster := clusters.add(sample.answer)) is None else cluster
        for sample in one.pool.samples
    ]


def _over(name: str, codes: IntArray, values: FloatArray | None) -> FloatArray:
    signal = SIGNALS[name]
    assert isinstance(signal, PrefixSignal)
    return signal.over_prefixes(codes, values)


def _logprobs(pools: Sequence[Labelled]) -> FloatArray | None:
    """(m, N) mean log-probability of every sample, nan where it has none.

    None where more than one sample in twenty has none: then the signal is left out.
    """
    of = LOGPROB.removeprefix("leader_")
    rows = [
        [compute([of], Evidence.single(sample))[0][of] for sample in one.pool.samples]
        for one in pools
    ]
    values = np.array(rows, np.float64)
    return values if np.isnan(values).mean() <= 0.05 else None


def _right(codes: IntArray, pools: Sequence[Labelled]) -> npt.NDArray[np.int64]:
    """Whether the leader is right after each sample; a cluster is as right as its first member."""
    m, n = codes.shape
    grades = np.array([[int(c or 0) for c in one.correct] for one in pools], np.int64)
    of_cluster = np.zeros((m, max(1, int(codes.max()) + 1)), np.int64)
    rows = np.arange(m)
    for column in range(n - 1, -1, -1):  # backwards, so that the first member has the last word
        read = codes[:, column] >= 0
        of_cluster[rows[read], codes[read, column]] = grades[read, column]
    right = np.zeros((m, n), np.int64)
    for column in range(n):
        leader = Majority().elect_all(codes, np.full(m, column + 1))
        right[:, column] = np.where(leader >= 0, of_cluster[rows, np.maximum(leader, 0)], 0)
    return right


def _state_map(arrays: Prefixes, times: FloatArray) -> StateMap:
    """Fit on all prefixes, question i weighing ``times[i]`` in all."""
    ready = arrays.ready & (times > 0)[:, None]
    n = np.broadcast_to(np.arange(1, arrays.codes.shape[1] + 1), arrays.codes.shape)
    weight = times[:, None] * ready / np.maximum(ready.sum(axis=1, keepdims=True), 1)
    signals = {name: values[ready] for name, values in arrays.signals.items()}
    return StateMap.fit(n[ready], signals, arrays.right[ready], weight[ready])


def _cross_fitted(arrays: Prefixes, seed: int) -> FloatArray:
    """(m, N) probabilities from maps that have not seen the question; nan where not ready."""
    groups = np.unique(arrays.group)
    fold_of = np.random.default_rng(seed).permutation(len(groups)) % FOLDS
    fold = fold_of[np.searchsorted(groups, arrays.group)]
    chance = np.full(arrays.codes.shape, np.nan)
    n = np.broadcast_to(np.arange(1, arrays.codes.shape[1] + 1), arrays.codes.shape)
    for number in range(FOLDS):
        fitted = _state_map(arrays, (fold != number).astype(np.float64))
        test = arrays.ready & (fold == number)[:, None]
        signals = {name: values[test] for name, values in arrays.signals.items()}
        chance[test] = fitted.probability(n[test], signals)
    return chance


def _replicates(
    arrays: Prefixes,
    final: Calibrator,
    chance: FloatArray,
    right: IntArray,
    usable: npt.NDArray[np.bool_],
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
        made.append((_state_map(arrays, times), fresh))
    return tuple(made)


def _report(
    final: Calibrator, chance: FloatArray, right: IntArray, group: IntArray, seed: int
) -> dict[str, Any]:
    """What is reported, cross-fitted: each question's maps were fitted without it.

    Nearly: the choice among final maps is kept, and the state maps of other folds saw its fold.
    """
    groups, member = np.unique(group, return_inverse=True)
    fold = (np.random.default_rng(seed + 1).permutation(len(groups)) % FOLDS)[member]
    stated = np.empty(len(chance))
    for number in range(FOLDS):
        test = fold == number
        fresh = from_state(to_state(final)).fit(chance[~test], right[~test])
        stated[test] = fresh.predict_proba(chance[test])[:, 1]
    found = summary(right, stated, group, seed=seed).to_dict()
    kept: dict[str, Any] = json.loads(json.dumps({name: found[name] for name in REPORTED}))
    return kept  # as it will be read back from the file


def _considered(final: Auto, share: Auto) -> tuple[dict[str, Any], ...]:
    rows = [{"what": f"state map + {one.name}", **asdict(one)} for one in final.considered_]
    rows += [
        {"what": f"agreement + {one.name}", **asdict(one)}
        for one in share.considered_
        if one.name != "constant"
    ]
    rows.append({"what": f"chosen: {final.chosen_}, choice included", **asdict(final.held_out_)})
    return tuple(rows)


def _one_arm(pools: Sequence[Labelled]) -> tuple[dict[str, Any], Kind]:
    if not pools:
        raise RefusedError("there are no pools to fit on")
    first = pools[0].pool
    for one in pools:
        pool = one.pool
        if pool.arms or _arm_key(one) != _arm_key(pools[0]) or pool.kind is not first.kind:
            raise InputError(
                f"question {pool.question_id!r} is of another arm or kind than"
                f" {first.question_id!r}; a profile speaks for one"
            )
    if first.kind is None:
        raise InputError("the pools do not state the kind of their answers")
    arm = {
        "engine": first.engine,
        "model": first.model,
        "decoding": None if first.decoding is None else dict(first.decoding),
        "prompt_hash": first.prompt_hash,
    }
    decoding = first.decoding or {}
    if decoding.get("temperature") == 0 or decoding.get("top_k") == 1 or "seed" in decoding:
        raise RefusedError("the pools repeat one draw (temperature 0, top_k 1 or a fixed seed)")
    if None in arm.values():
        unknown = ", ".join(name for name, value in arm.items() if value is None)
        raise InputError(f"the pools do not state {unknown}; an unknown arm matches none")
    return arm, first.kind


def _arm_key(one: Labelled) -> tuple[str | None, ...]:
    pool = one.pool
    decoding = "" if pool.decoding is None else canonical(pool.decoding)
    return pool.engine, pool.model, decoding, pool.prompt_hash


def _texts(pools: Sequence[Labelled]) -> list[str]:
    texts = [one.pool.question.text for one in pools if one.pool.question is not None]
    if len(texts) < len(pools):
        raise InputError("some pools leave their question out; the domain cannot be learnt")
    return texts


def _fingerprint(pools: Sequence[Labelled]) -> str:
    """SHA-256 over questions, answers and grades, in order."""
    digest = hashlib.sha256()
    for one in pools:
        answers = [sample.answer for sample in one.pool.samples]
        digest.update(repr((one.pool.key, answers, one.correct)).encode())
    return digest.hexdigest()
