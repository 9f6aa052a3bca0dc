"""Which answers to label next: edge cases for certain, the rest as a stratified random sample.

1. Answers that one label serves are one task (``candidate.distinct``).
2. Up to half of the picks are **edges**, taken for certain, from three lists in turn: in each
   segment without a label its most urgent answer; where labels disagree with the calibrated
   probabilities by two standard errors, the most urgent of that segment and band; then what lies
   within 0.1 of the decision threshold, or was abstained on, nearest to the threshold first.
3. The rest is drawn at random within **strata**, segment by band of probability. Every stratum
   gets one, and further picks go where the variance of the estimated accuracy falls most:
   count x sqrt(p (1 - p)), Neyman's allocation, in whole numbers (Wright 2012).

Edges are looked for, so among the labels they are too many, and a plain mean over the labels is
biased. What each pick stands for makes it right: an edge for itself (weight 1), a random pick for
its stratum's size over the picks there. The weighted mean over the picks is unbiased for all that
was unlabelled (Horvitz and Thompson 1952). It does not know what the labels will say.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from poise.errors import UsageError
from poise.labelling.candidate import Candidate, Key, Twins, band_of, distinct
from poise.metrics.rows import whole

__all__ = ["Pick", "allocate", "choose", "review_queue"]

EDGE, STRATUM, REVIEW = "edge", "stratum", "review"

NEAR = 0.1
"""Closer than this to the decision threshold is an edge case."""

SURPRISE = 2.0
"""Standard errors between the labels of a stratum and its probabilities that call for more."""

SLACK = 0.05
"""Probabilities are taken as at least this far from 0 and 1 when spread is estimated from them."""

Stratum = tuple[str | None, int | None]


@dataclass(frozen=True, slots=True)
class Pick:
    """An answer to label; ``duplicates`` are the keys that its label serves as well.

    ``why``: edge | stratum | review, with the ``cause`` of an edge. ``weight`` >= 1: how many of
    the different tasks it stands for, itself included; its chance of being picked was 1 / weight.
    None in a review queue, which is no sample.
    """

    candidate: Candidate
    why: str
    weight: float | None
    duplicates: tuple[Key, ...] = ()
    cause: str | None = None


def choose(
    candidates: Iterable[Candidate], n: int, *, threshold: float | None = None, seed: int = 0
) -> tuple[Pick, ...]:
    """``n`` unlabelled answers to label next (all, where there are fewer), edges first.

    ``threshold`` in [0, 1]: below it questions are abstained on; None reads it off the decisions
    where there are both. Strata are merged (over bands, then over segments) where there are more
    of them than random picks. The random picks come in random order: whoever stops early has
    labelled a random part of them. Labelled candidates guide the choice and are no part of what the
    weights stand for; an unlabelled twin of one is asked for like any other. Equal candidates in
    any order and equal seeds give equal picks. Raises UsageError for n < 1 or a threshold outside
    [0, 1].
    """
    whole("n", n)
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"threshold={threshold!r}: must be from 0 to 1")
    listed = list(candidates)
    tasks = distinct(candidate for candidate in listed if not candidate.labelled)
    n = min(n, len(tasks))
    edges = dict(itertools.islice(_edges(listed, tasks, threshold), n // 2))
    picks = [
        Pick(tasks[i].speaker, EDGE, 1.0, tasks[i].others, cause) for i, cause in edges.items()
    ]
    rest = [twins for i, twins in enumerate(tasks) if i not in edges]
    return *picks, *_drawn(rest, n - len(picks), np.random.default_rng(seed))


def review_queue(candidates: Iterable[Candidate]) -> tuple[Pick, ...]:
    """Every unlabelled answer for people to look at, each once: abstained first, least sure first.

    What has no probability comes before what has one. Picks carry no weight.
    """
    tasks = distinct(candidate for candidate in candidates if not candidate.labelled)
    return tuple(Pick(twins.speaker, REVIEW, None, twins.others) for twins in tasks)


# -- edges --------------------------------------------------------------------------------------


def _edges(
    listed: Sequence[Candidate], tasks: Sequence[Twins], threshold: float | None
) -> Iterator[tuple[int, str]]:
    """Tasks by number with the cause why each is an edge, each once; tasks are urgent first."""
    known = {candidate.segment for candidate in listed if candidate.labelled}
    fresh = _first_of(tasks, lambda one: None if one.segment in known else (one.segment,))
    odd = _surprising(listed)
    again = _first_of(tasks, lambda one: place if (place := _stratum(one)) in odd else None)
    near = _near(tasks, _threshold(listed) if threshold is None else threshold)
    turns = [
        [(i, "a segment without labels") for i in fresh],
        [(i, "labels disagree with the probabilities here") for i in again],
        [(i, "abstained, or near the decision threshold") for i in near],
    ]
    seen: set[int] = set()
    for turn in itertools.zip_longest(*turns):
        for edge in turn:
            if edge is not None and edge[0] not in seen:
                seen.add(edge[0])
                yield edge


def _first_of(
    tasks: Sequence[Twins], group: Callable[[Candidate], Hashable | None]
) -> Iterator[int]:
    """The first task of each group (None: of no group), in the order of the tasks."""
    seen: set[Hashable] = set()
    for i, twins in enumerate(tasks):
        name = group(twins.speaker)
        if name is not None and name not in seen:
            seen.add(name)
            yield i


def _surprising(listed: Sequence[Candidate]) -> set[Stratum]:
    """Strata in which the labels so far are too far from what calibrated probabilities promise."""
    sums: dict[Stratum, tuple[float, float]] = {}
    for one in listed:
        if one.calibrated and one.probability is not None and one.correct is not None:
            gap, variance = sums.get(_stratum(one), (0.0, 0.0))
            p = one.probability
            sums[_stratum(one)] = gap + one.correct - p, variance + p * (1 - p)
    # Half a label of slack, because labels come in whole numbers: one wrong at .9 is no surprise.
    return {
        place
        for place, (gap, variance) in sums.items()
        if abs(gap) - 0.5 > SURPRISE * math.sqrt(variance)
    }


def _near(tasks: Sequence[Twins], threshold: float | None) -> list[int]:
    """Tasks abstained on or near the threshold, the nearest first, unknown distances last."""
    found = []
    for i, twins in enumerate(tasks):
        p = twins.speaker.probability
        away = None if p is None or threshold is None else abs(p - threshold)
        if twins.speaker.abstained or (away is not None and away <= NEAR):
            found.append((away is None, away or 0.0, i))
    return [i for _, _, i in sorted(found)]


def _threshold(listed: Sequence[Candidate]) -> float | None:
    """Where answering begins: the cut that the fewest decisions contradict; None without both."""
    rows = sorted(
        (one.probability, not one.abstained) for one in listed if one.probability is not None
    )
    if len({answered for _, answered in rows}) < 2:
        return None
    p = np.array([row[0] for row in rows])
    answered = np.array([row[1] for row in rows], np.int64)
    # Of a cut before row i, contradicted: answered below it, abstained from it on.
    wrong = np.cumsum(answered)[:-1] + (1 - answered)[::-1].cumsum()[::-1][1:]
    wrong[p[1:] == p[:-1]] = len(rows) + 1  # no cut parts equal probabilities
    if wrong.min() > len(rows):
        return float(p[0])
    best = int(np.argmin(wrong))
    return float(p[best] + p[best + 1]) / 2


# -- strata -------------------------------------------------------------------------------------


def _stratum(candidate: Candidate) -> Stratum:
    return candidate.segment, band_of(candidate)


def _drawn(tasks: Sequence[Twins], n: int, rng: np.random.Generator) -> list[Pick]:
    """``n`` tasks at random within strata, in random order."""
    if n == 0:
        return []
    strata = _strata(tasks, n)
    counts = allocate([len(s) for s in strata], [_spread(s) for s in strata], n)
    picks = []
    for members, count in zip(strata, counts, strict=True):
        for i in rng.choice(len(members), count, replace=False):
            twins = members[i]
            picks.append(Pick(twins.speaker, STRATUM, len(members) / count, twins.others))
    return [picks[i] for i in rng.permutation(len(picks))]


def _strata(tasks: Sequence[Twins], most: int) -> list[list[Twins]]:
    """The finest of four partings that has at most ``most`` strata."""
    partings: tuple[Callable[[Candidate], Hashable], ...] = (
        _stratum,
        lambda one: one.segment,
        band_of,
        lambda _: None,
    )
    strata: dict[Hashable, list[Twins]] = {}
    for parting in partings:
        strata = {}
        for twins in tasks:
            strata.setdefault(parting(twins.speaker), []).append(twins)
        if len(strata) <= most:
            break
    return list(strata.values())


def _spread(members: Sequence[Twins]) -> float:
    """Standard deviation to expect of the labels in a stratum, in (0, 0.5].

    A raw signal promises no rate, so any stratum that holds one counts as undecided.
    """
    p = [twins.speaker.probability for twins in members if twins.speaker.calibrated]
    if len(p) < len(members):
        return 0.5
    mean = min(max(math.fsum(one for one in p if one is not None) / len(p), SLACK), 1 - SLACK)
    return math.sqrt(mean * (1 - mean))


def allocate(sizes: Sequence[int], spreads: Sequence[float], n: int) -> list[int]:
    """Whole picks for each of k strata, together ``n``, with the least variance of the total.

    ``sizes`` (k,) >= 1, ``spreads`` (k,) > 0 standard deviations; k <= n <= sum of sizes. Between
    1 and its size for each stratum: the optimum of sum (size x spread)^2 / picks. Source: Wright,
    The equivalence of Neyman optimum allocation for sampling and equal proportions for
    apportioning the U.S. House of Representatives, 2012.
    """
    counts = [1] * len(sizes)

    def gain(stratum: int) -> float:
        count = counts[stratum]
        return sizes[stratum] * spreads[stratum] / math.sqrt(count * (count + 1))

    queue = [(-gain(i), i) for i, size in enumerate(sizes) if size > 1]
    heapq.heapify(queue)
    for _ in range(n - len(sizes)):
        _, stratum = heapq.heappop(queue)
        counts[stratum] += 1
        if counts[stratum] < sizes[stratum]:
            heapq.heappush(queue, (-gain(stratum), stratum))
    return counts
