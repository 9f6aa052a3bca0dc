"""The opponents of ``value.py``: stop rules of published packages, decided by the packages.

| opponent | what is called | thresholds |
|---|---|---|
| AC beta | AdaptiveConsistency 1.0.0, ``BetaStoppingCriteria.should_stop`` | all or 80 |
| AC entropy, majority | the same of its other criteria | 80, 81 |
| scorio beta | scorio 0.2.3, ``adaptive_consistency_stop`` | all or 80 |
| scorio dirichlet, crp | ``adaptive_consistency_dirichlet_stop``, ``..._crp_stop`` | up to 160 |
| scorio esc | ``esc_stop``, one window after the other, of every width | N |
| scorio cges | ``cges_stop`` and ``cges_vote`` (where there are log-probabilities) | 80 |
| its-hub beta | its-hub 1.2.0, ``BetaSelfConsistency`` | all or 80 |
| its-hub doubling | ``AdaptiveSelfConsistency`` | all |

All but CGES read nothing but how many votes each answer has. So a package is asked once for every
state, meaning the sorted vote counts, with the first prefix that has them, and what it says is
kept: its number (a probability, a share, an entropy), and it stops at a threshold where the number
reaches it, which is the last line of each of these functions. ``crp`` breaks ties by who was seen
first, so its states tell the answers before the leader from those after. It is a simulation up to
all N samples, run 10,000 times (default: 100,000; its standard error is below .005). ESC is asked
once for every state of a window. its-hub's doubling rule is run whole, once for every course of the
counts at 2, 4, 8, ... samples. CGES has no states: Poise's own rule picks its threshold, and on the
second half scorio decides at every sample.

Checked for every threshold that was picked, on the second half: the package's own verdict on the
states nearest the threshold; every stop against Poise's rule of that name, if it has one, which
may part only where the number is within 1e-5 of the threshold (AdaptiveConsistency integrates
numerically; Poise's Dirichlet sees five answers, so only questions with no more are compared);
and its-hub's beta against whole runs through its public interface, one order of each question.

its-hub (Apache-2.0; ``pip install its-hub==1.2.0`` wants numpy and typing-extensions only) drives
the model itself, so it is given one that hands out the stored answers, and an orchestrator that
lets one call through at a time: all requests at once, as it likes to, would draw more. What it
counts are the replies it has. It takes an unreadable reply, here the empty text, for an answer like
any other, and asks for two at least; both are left as they are. Ties it breaks by lot; here every
rule but CGES answers with the first of the answers that lead.

Not opponents, and why: AdaptiveConsistency's Dirichlet (its random points fail with NumPy 2, after
which it never stops; its quadrature takes seconds a state at 10 % accuracy: scorio's is exact) and
random criterion (a coin); scorio's DeepConf (wants the token alternatives of each trace) and
``sinf`` (orders models); its-hub's SelfConsistency (is ``fixed``), best-of-n, beam and particle
search (a fixed budget, and a judge).

It does not know questions, grades or halves.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from operator import attrgetter

import numpy as np
from adaptive_consistency import (
    BetaStoppingCriteria,
    EntropyStoppingCriteria,
    MajorityStoppingCriteria,
)
from its_hub import (
    AbstractLanguageModel,
    AbstractOrchestrator,
    AdaptiveSelfConsistency,
    BetaSelfConsistency,
    SelfConsistency,
)
from scipy.special import expit
from scipy.stats import binom
from scorio.aggregate import (
    adaptive_consistency_crp_stop,
    adaptive_consistency_dirichlet_stop,
    adaptive_consistency_stop,
    cges_stop,
    cges_vote,
    esc_stop,
)
from value_looks import Answers, Looks, Seen, states, texts

from poise.columns import log_odds
from poise.policies import Beta, Cges, Dirichlet, Entropy, IntArray, Ratio, StopRule, Window

Number = Callable[[Answers], float]
Verdict = Callable[[Answers, float], bool]
LEVELS = 80
CLOSE = 1e-5
NEVER = float("-inf")


# -- rules ----------------------------------------------------------------------------------------


class Opponent:
    """A rule of a package at all its thresholds."""

    name: str
    thresholds: Sequence[float]

    def stops(self, looks: Looks, threshold: float) -> IntArray:
        """(m,) after how many samples."""
        raise NotImplementedError

    def leader(self, looks: Looks) -> IntArray:
        """(m, N) its answer after each sample."""
        return looks.leader

    def checked(self, looks: Looks, threshold: float, stops: IntArray) -> tuple[int, int]:  # noqa: ARG002
        """How many stops were compared, and how many part; AssertionError where none may."""
        return 0, 0


@dataclass
class Numbered(Opponent):
    """Stops where a state's number reaches the threshold (``falls``: from above)."""

    name: str
    thresholds: Sequence[float]
    number: Number
    verdict: Verdict | None = None
    twin: Callable[[float], StopRule] | None = None
    most_answers: int | None = None
    falls: bool = False
    seen: Callable[[Looks], Seen] = attrgetter("voted")
    known: dict[int, tuple[float, Answers]] = field(default_factory=dict)

    def _numbers(self, seen: Seen) -> np.ndarray:
        for name, prefix in zip(seen.names, seen.prefixes, strict=True):
            if name not in self.known:
                number = self.number(prefix)
                signed = -number if self.falls and number > NEVER else number
                self.known[name] = signed, prefix
        return np.array([self.known[name][0] for name in seen.names])

    def _level(self, threshold: float) -> float:
        return -threshold if self.falls else threshold

    def stops(self, looks: Looks, threshold: float) -> IntArray:
        """The first look at which the number is there."""
        if self.name not in looks.kept:
            seen = self.seen(looks)
            looks.kept[self.name] = np.maximum.accumulate(self._numbers(seen)[seen.where], axis=1)
        short = (looks.kept[self.name] < self._level(threshold)).sum(axis=1)
        return np.minimum(short + 1, looks.rows.shape[1])

    def checked(self, looks: Looks, threshold: float, stops: IntArray) -> tuple[int, int]:
        """Verdicts near the threshold, and Poise's stops."""
        seen, level = self.seen(looks), self._level(threshold)
        numbers = self._numbers(seen)
        for state in np.argsort(abs(numbers - level))[:3]:
            prefix = self.known[seen.names[state]][1]
            reached = numbers[state] >= level
            assert self.verdict(prefix, threshold) == reached, (self.name, prefix, threshold)
        if self.twin is None:
            return 0, 0
        alike = np.ones(len(stops), bool)
        if self.most_answers is not None:
            alike = looks.rows.max(axis=1) < self.most_answers
        own = self.twin(threshold).stops(looks.rows)
        parted = np.flatnonzero((own != stops) & alike)
        there = numbers[seen.where[parted, np.minimum(own, stops)[parted] - 1]]
        assert (abs(there - level) <= CLOSE).all(), (self.name, threshold)
        return int(alike.sum()), len(parted)


@dataclass
class Windows(Opponent):
    """ESC: the first of the windows, one after the other, that agrees. Thresholds are widths."""

    name: str
    thresholds: Sequence[float]
    known: dict[int, bool] = field(default_factory=dict)

    def stops(self, looks: Looks, threshold: float) -> IntArray:
        """Asks once for every state of a window."""
        width, (size, columns) = int(threshold), looks.rows.shape
        count = columns // width
        windows = looks.rows[:, : count * width].reshape(size * count, width)
        names, first, where = np.unique(
            states(windows, unread=True)[:, -1], return_index=True, return_inverse=True
        )
        for name, index in zip(names.tolist(), first.tolist(), strict=True):
            if name not in self.known:
                self.known[name] = bool(esc_stop(texts(windows[index])))
        agreed = np.array([self.known[name] for name in names.tolist()])[where.reshape(size, count)]
        return np.where(agreed.any(axis=1), (agreed.argmax(axis=1) + 1) * width, columns)

    def checked(self, looks: Looks, threshold: float, stops: IntArray) -> tuple[int, int]:
        """Poise's stops."""
        own = Window(int(threshold), looks.rows.shape[1]).stops(looks.rows)
        assert (own == stops).all(), (self.name, threshold)
        return len(own), 0


@dataclass
class Confident(Opponent):
    """CGES with exp(mean log-probability) as confidence, answering by its own vote."""

    name: str
    thresholds: Sequence[float]

    def stops(self, looks: Looks, threshold: float) -> IntArray:
        """Poise's, which ``checked`` holds against scorio's."""
        rule = Cges(threshold, "logprob", other=False, max_samples=looks.rows.shape[1])
        return rule.stops(looks.rows, {"logprob": looks.values})

    def leader(self, looks: Looks) -> IntArray:
        """The answer with most evidence, log-odds and one log(answers seen) a vote."""
        if self.name not in looks.kept:
            evidence = log_odds("logprob", looks.values)
            mine = looks.rows[:, :, None] == np.arange(looks.rows.max() + 1)
            votes = mine.cumsum(axis=1)
            seen = (votes > 0).sum(axis=2, keepdims=True)
            odds = np.where(mine, evidence[:, :, None], 0).cumsum(axis=1)
            odds += votes * np.log(np.maximum(seen, 1))
            best = np.where(votes > 0, odds, NEVER).argmax(axis=2)
            looks.kept[self.name] = np.where(seen[:, :, 0] > 0, best, -1)
        return looks.kept[self.name]

    def checked(self, looks: Looks, threshold: float, stops: IntArray) -> tuple[int, int]:
        """By scorio, which decides at every sample, and answers."""
        answered = self.leader(looks)[np.arange(len(stops)), stops - 1].tolist()
        confidence = expit(log_odds("logprob", looks.values))
        parted = 0
        for row, shares, stop, code in zip(
            looks.rows, confidence.tolist(), stops.tolist(), answered, strict=True
        ):
            drawn = texts(row)
            for n in range(1, len(drawn) + 1):
                ended, p = cges_stop(drawn[:n], shares[:n], threshold=threshold, return_prob=True)
                if ended:
                    break
            if n != stop:
                assert abs(p - threshold) <= CLOSE, (self.name, drawn, threshold)
                parted += 1
                continue
            said = cges_vote(drawn[:n], shares[:n])
            assert said == (None if code < 0 else str(code)), (self.name, drawn[:n], shares[:n])
        return len(stops), parted


# -- its-hub --------------------------------------------------------------------------------------


class Stored(AbstractLanguageModel):
    """Replies with stored answers, in their order."""

    def __init__(self, answers: Iterable[str | None]) -> None:
        self._left = iter(answers)

    async def agenerate_single(self, messages, stop=None, **kwargs):  # noqa: ARG002
        """The next one, after its-hub has had time to look at the one before, and to cancel."""
        for _ in range(4):
            await asyncio.sleep(0)
        return {"role": "assistant", "content": next(self._left) or ""}

    async def agenerate(self, messages, stop=None, **kwargs):
        """One after the other."""
        return [await self.agenerate_single(one, stop, **kwargs) for one in messages]


class OneAtATime(AbstractOrchestrator):
    """Lets one call through at a time, in the order in which they came."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def agenerate(self, lm, messages_lst, stop=None, **kwargs):
        """Waits for its turn."""
        async with self._turn:
            return await lm.agenerate(messages_lst, stop, **kwargs)


def whole_runs(make: Callable[..., SelfConsistency], rows: IntArray) -> IntArray:
    """(m,) how many replies its-hub had when it ended, at the budget of all N."""

    async def used() -> list[int]:
        results = [
            await make(orchestrator=OneAtATime()).ainfer(Stored(texts(row)), "", len(row), False)  # noqa: FBT003
            for row in rows
        ]
        return [len(result.responses) for result in results]

    return np.array(asyncio.run(used()), np.int64)


@dataclass
class Cancelling(Numbered):
    """its-hub's Beta rule, which asks for all at once and cancels the rest."""

    def checked(self, looks: Looks, threshold: float, stops: IntArray) -> tuple[int, int]:
        """Whole runs, one order of each question."""
        rule = partial(BetaSelfConsistency, threshold)
        runs = whole_runs(rule, looks.rows[:: looks.orders])
        assert (runs == stops[:: looks.orders]).all(), (self.name, threshold)
        return len(runs), 0


@dataclass
class Doubling(Opponent):
    """its-hub's rule that looks after 2, 4, 8, ... replies."""

    name: str
    thresholds: Sequence[float]
    known: dict[tuple[float, bytes], int] = field(default_factory=dict)

    def stops(self, looks: Looks, threshold: float) -> IntArray:
        """Whole runs, one for every course of the counts."""
        columns = looks.rows.shape[1]
        ends = [2**k - 1 for k in range(1, columns.bit_length()) if 2**k < columns]
        courses, first, where = np.unique(
            looks.all.where[:, ends], axis=0, return_index=True, return_inverse=True
        )
        named = np.array(looks.all.names)[courses]
        keys = [(threshold, bytes([columns]) + course.tobytes()) for course in named]
        new = [place for place, key in enumerate(keys) if key not in self.known]
        rule = partial(AdaptiveSelfConsistency, threshold)
        runs = whole_runs(rule, looks.rows[first[new]])
        self.known.update(zip([keys[place] for place in new], runs.tolist(), strict=True))
        return np.array([self.known[key] for key in keys])[where.reshape(-1)]


def leading(answers: Answers) -> float:
    """its-hub's posterior, on replies as its default projection sees them."""
    if len(answers) < 2:
        return NEVER
    top = [votes for _, votes in Counter(a or "" for a in answers).most_common(2)]
    return BetaSelfConsistency.beta_stopping_probability(*[*top, 0][:2])


# -- all of them ----------------------------------------------------------------------------------


def readable(answers: Answers) -> Answers:
    """AdaptiveConsistency would count None as an answer."""
    return [answer for answer in answers if answer is not None]


def criterion(kind: type) -> tuple[Number, Verdict]:
    """Number and verdict of one of AdaptiveConsistency, which is not asked without answers."""

    def number(answers: Answers) -> float:
        drawn = readable(answers)
        found = kind(0.5).should_stop(drawn)["prob"] if drawn else -1
        return NEVER if found == -1 else float(found)  # -1 is how it says that it has none

    def verdict(answers: Answers, threshold: float) -> bool:
        drawn = readable(answers)
        return bool(drawn) and bool(kind(threshold).should_stop(drawn)["stop"])

    return number, verdict


def scorio(rule: Callable, **options: int) -> tuple[Number, Verdict]:
    """Number and verdict of one of scorio."""
    return (
        lambda answers: float(rule(answers, return_prob=True, **options)[1]),
        lambda answers, threshold: bool(rule(answers, threshold=threshold, **options)),
    )


@lru_cache
def opponents(size: int, *, confidence: bool) -> tuple[Opponent, ...]:
    """Every opponent on a pool with ``size`` samples a question; with log-probabilities, CGES too.

    Thresholds of Beta's posterior lie between the values that it can have, so that no rounding
    decides. The same objects each time: what they have asked the packages, they know.
    """
    votes = [(a, b) for a in range(1, size + 1) for b in range(min(a, size - a) + 1)]
    tails = np.unique(np.round([1 - binom.cdf(b, a + b + 1, 0.5) for a, b in votes], 12))
    between = (tails[1:] + tails[:-1]) / 2
    levels = between[np.unique(np.linspace(0, len(between) - 1, LEVELS).astype(int))].tolist()
    shares = np.linspace(0, 1, LEVELS + 1).tolist()
    last = 1 << (size - 1).bit_length() - 1
    beta, many = scorio(adaptive_consistency_stop), scorio(adaptive_consistency_dirichlet_stop)
    crp = scorio(adaptive_consistency_crp_stop, horizon=size, n_simulations=100)
    fine = sorted({*levels, *np.linspace(0.5, 1, LEVELS, endpoint=False).tolist()})
    found: list[Opponent] = [
        Numbered("AC beta", levels, *criterion(BetaStoppingCriteria), lambda t: Beta(t, size)),
        Numbered(
            "AC entropy",
            shares[:-1],
            *criterion(EntropyStoppingCriteria),
            lambda t: Entropy(t, size),
            falls=True,
        ),
        Numbered(
            "AC majority", shares, *criterion(MajorityStoppingCriteria), lambda t: Ratio(t, size)
        ),
        Numbered("scorio beta", levels, *beta, lambda t: Beta(t, size)),
        Numbered("scorio dirichlet", fine, *many, lambda t: Dirichlet(t, size), most_answers=5),
        Numbered("scorio crp", fine, *crp, seen=attrgetter("led")),
        Windows("scorio esc", range(1, size + 1)),
        Cancelling("its-hub beta", levels, leading, seen=attrgetter("all")),
        Doubling("its-hub doubling", [k / last for k in range(last // 2 + 1, last + 1)]),
    ]
    if confidence:
        found.append(Confident("scorio cges", (1 - np.geomspace(0.5, 1e-7, LEVELS)).tolist()))
    return tuple(found)
