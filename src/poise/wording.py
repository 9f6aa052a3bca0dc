"""Segments told by wording: naive Bayes that keeps silent where it is not sure.

Learned from questions whose segments are known. It does not know rules, outcomes or samples, and is
no domain test: a question from elsewhere may look like a segment.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import softmax, xlogy

from poise.errors import InputError, RefusedError, UsageError

__all__ = ["Classifier", "HeldOut"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FOLDS = 5
FEWEST = 5
"""Distinct texts a segment needs before it can be learned: one a fold."""

FEWEST_NAMED = 20
"""Held-out questions that have to be named before their accuracy sets a threshold."""

GRAMS = (3, 4, 5)
SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How well questions were named that had no part in the fit, nor in its threshold.

    ``questions`` distinct texts; ``named`` the share that got a segment; ``accuracy`` the share of
    those that got the right one, None where none was named.
    """

    questions: int
    named: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Classifier:
    """Multinomial naive Bayes over words and character 3- to 5-grams, each counted once a text.

    Case and white space are folded and every digit is alike, so that a number counts by its length.
    ``segments`` (S,) names; ``questions`` (S,) texts of each; ``counts`` (S,) by feature: texts of
    each segment that have it. The log-likelihood is divided by ``temperature`` (features overlap,
    so that the bare posterior is near 0 or 1); with a posterior below ``threshold`` no segment is
    named. Raises UsageError where the numbers do not fit together.
    """

    segments: tuple[str, ...]
    questions: tuple[int, ...]
    counts: Mapping[str, tuple[int, ...]] = field(hash=False)
    temperature: float
    threshold: float
    held_out: HeldOut
    _rows: Mapping[str, FloatArray] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        width = len(self.segments)
        counted = all(len(row) == width and min(row) >= 0 for row in self.counts.values())
        if width < 2 or len(self.questions) != width or min(self.questions) < 1 or not counted:
            raise UsageError(
                f"{width} segments (2 or more), {len(self.questions)} numbers of questions (above "
                "0) and counts (of at least 0) by feature have to be alike in number"
            )
        if not (0 < self.temperature < math.inf and 0 <= self.threshold <= 1):
            raise UsageError(
                f"temperature={self.temperature}, threshold={self.threshold}: must be above 0 and "
                "in [0, 1]"
            )
        object.__setattr__(self, "_rows", _log_likelihoods(self.counts, width))

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        segments: Sequence[str],
        *,
        accuracy: float = 0.95,
        features: int = 2000,
        seed: int = 0,
    ) -> Self:
        """From the texts of questions and their segments, (m,) each.

        Segments with fewer than ``FEWEST`` distinct texts are left out. The threshold names as many
        questions as it can with ``accuracy`` among those named, judged on questions that the
        classifier had not seen (5 folds, equal texts in one); ``held_out`` then tells what such a
        threshold does to questions that did not set it either. Of the features those ``features``
        are kept that tell most about the segment. Raises UsageError for arguments that make no
        sense; RefusedError with fewer than two segments to tell apart, and where no threshold
        reaches ``accuracy``.
        """
        if len(texts) != len(segments) or not 0 < accuracy <= 1 or features < 1:
            raise UsageError(
                f"{len(texts)} texts, {len(segments)} segments, accuracy={accuracy}, "
                f"features={features}: give a segment a text, accuracy in (0, 1], features >= 1"
            )
        pairs = sorted(set(zip(texts, segments, strict=True)))
        many = Counter(segment for _, segment in pairs)
        names = tuple(sorted(name for name, count in many.items() if count >= FEWEST))
        if len(names) < 2:
            raise RefusedError(
                f"{len(names)} segments have {FEWEST} or more questions; a classifier needs two"
            )
        number = {name: place for place, name in enumerate(names)}
        kept = [(text, number[segment]) for text, segment in pairs if segment in number]
        found = [_features(text) for text, _ in kept]
        truth = np.array([segment for _, segment in kept])
        fold = _folds([text for text, _ in kept], seed)
        size = np.bincount(truth, minlength=len(names))
        unseen = _Unseen(_cross_scores(found, truth, fold, len(names), features), truth, size)
        temperature, threshold = unseen.tuned(accuracy)
        return cls(
            names,
            tuple(size.tolist()),
            _counts(found, truth, len(names), features),
            temperature,
            threshold,
            unseen.checked(fold, accuracy),
        )

    def segment(self, text: str) -> str | None:
        """The likeliest segment; None where it is not likely enough, or no feature is known."""
        known = sorted(_features(text) & self._rows.keys())
        if not known:
            return None
        score = np.sum([self._rows[feature] for feature in known], axis=0)
        chances = _posterior(score, np.array(self.questions), self.temperature)
        best = int(np.argmax(chances))
        return self.segments[best] if chances[best] >= self.threshold else None

    def state(self) -> dict[str, Any]:
        """JSON-ready; of the counts those above 0, by the segment's place."""
        return {
            "segments": list(self.segments),
            "questions": list(self.questions),
            "counts": {
                feature: {str(place): n for place, n in enumerate(row) if n}
                for feature, row in sorted(self.counts.items())
            },
            "temperature": self.temperature,
            "threshold": self.threshold,
            "held_out": asdict(self.held_out),
        }

    @classmethod
    def from_state(cls, state: Any) -> Self:
        """Inverse of ``state``. Raises InputError for anything else."""
        keys = ("segments", "questions", "counts", "temperature", "threshold", "held_out")
        names, questions, counts, temperature, threshold, held_out = _object(state, keys)
        lists = isinstance(names, list) and isinstance(questions, list)
        if not (lists and isinstance(counts, Mapping) and all(isinstance(n, str) for n in names)):
            raise InputError("segment classifier: no names, numbers of questions or counts")
        told, named, accuracy = _object(held_out, ("questions", "named", "accuracy"))
        try:
            return cls(
                tuple(names),
                tuple(_count(value) for value in questions),
                {feature: _row(row, len(names)) for feature, row in counts.items()},
                _number(temperature),
                _number(threshold),
                HeldOut(
                    _count(told), _number(named), None if accuracy is None else _number(accuracy)
                ),
            )
        except UsageError as error:
            raise InputError(f"segment classifier: {error}") from None


@dataclass(frozen=True, slots=True)
class _Unseen:
    """Log-likelihoods (m, S) of texts, from classifiers that had not seen them; the truth (m,)."""

    scores: FloatArray
    truth: IntArray
    size: IntArray

    def tuned(self, accuracy: float) -> tuple[float, float]:
        """The temperature that makes the posterior likeliest, and the threshold."""
        rows = np.arange(len(self.truth))

        def loss(log_temperature: float) -> float:
            chances = _posterior(self.scores, self.size, math.exp(log_temperature))
            return -float(np.log(np.maximum(chances[rows, self.truth], 1e-300)).mean())

        best = minimize_scalar(loss, bounds=(0.0, math.log(1000.0)), method="bounded")
        temperature = math.exp(float(best.x))
        chances = _posterior(self.scores, self.size, temperature)
        sure, right = chances.max(axis=1), chances.argmax(axis=1) == self.truth
        order = np.argsort(-sure, kind="stable")
        sure, share = sure[order], np.cumsum(right[order]) / np.arange(1, len(order) + 1)
        # A threshold takes all texts that are equally sure, so it falls between two that are not.
        edge = np.append(sure[:-1] > sure[1:], True) & (rows >= FEWEST_NAMED - 1)
        good = np.flatnonzero(edge & (share >= accuracy))
        if not len(good):
            reached = f"{share[edge].max():.2f}" if edge.any() else "too few questions to say"
            raise RefusedError(
                f"no threshold names {FEWEST_NAMED} or more held-out questions with an accuracy of "
                f"{accuracy}; the best: {reached}"
            )
        return temperature, float(sure[good[-1]])

    def checked(self, fold: IntArray, accuracy: float) -> HeldOut:
        """Each fold named with the temperature and threshold that the others set."""
        named = right = 0
        for number in range(FOLDS):
            test = fold == number
            others = _Unseen(self.scores[~test], self.truth[~test], self.size)
            try:
                temperature, threshold = others.tuned(accuracy)
            except RefusedError:
                continue
            chances = _posterior(self.scores[test], self.size, temperature)
            spoken = chances.max(axis=1) >= threshold
            named += int(spoken.sum())
            right += int((chances.argmax(axis=1) == self.truth[test])[spoken].sum())
        total = len(self.truth)
        return HeldOut(total, named / total, right / named if named else None)


def _features(text: str) -> frozenset[str]:
    plain = " ".join(re.sub(r"\d", "0", text.casefold()).split())
    padded = f"^{plain}$"
    grams = {
        padded[start : start + size]
        for size in GRAMS
        for start in range(max(0, len(padded) - size + 1))
    }
    return frozenset(grams | {f"<{word}>" for word in re.findall(r"\w+|[^\w\s]", plain)})


def _folds(texts: Sequence[str], seed: int) -> IntArray:
    """(m,) a fold for each text, equal texts in one."""
    distinct = sorted(set(texts))
    random.Random(seed).shuffle(distinct)  # noqa: S311
    dealt = {text: place % FOLDS for place, text in enumerate(distinct)}
    return np.array([dealt[text] for text in texts])


def _cross_scores(
    found: Sequence[frozenset[str]], truth: IntArray, fold: IntArray, width: int, features: int
) -> FloatArray:
    """(m, S) the log-likelihood of each text, learned from the other folds."""
    scores = np.zeros((len(found), width))
    for number in range(FOLDS):
        rest = [own for own, its in zip(found, fold, strict=True) if its != number]
        rows = _log_likelihoods(_counts(rest, truth[fold != number], width, features), width)
        for place, own in enumerate(found):
            if fold[place] == number:
                scores[place] = sum(rows[feature] for feature in sorted(own & rows.keys()))
    return scores


def _counts(
    found: Sequence[frozenset[str]], truth: IntArray, width: int, features: int
) -> dict[str, tuple[int, ...]]:
    """Texts of each segment with a feature, (S,) for the features that tell most."""
    counts: dict[str, list[int]] = {}
    for own, segment in zip(found, truth.tolist(), strict=True):
        for feature in own:
            counts.setdefault(feature, [0] * width)[segment] += 1
    names = sorted(counts)
    told = _information(np.array([counts[name] for name in names]), np.bincount(truth))
    best = np.argsort(-told, kind="stable")[:features]
    return {names[place]: tuple(counts[names[place]]) for place in sorted(best.tolist())}


def _information(counts: IntArray, size: IntArray) -> FloatArray:
    """Mutual information in nats between having a feature and the segment, (V,)."""
    total = size.sum()
    told = np.zeros(len(counts))
    for cells in (counts, size - counts):
        expected = cells.sum(axis=1, keepdims=True) * size / total
        told += (xlogy(cells, cells) - xlogy(cells, expected)).sum(axis=1) / total
    return told


def _log_likelihoods(counts: Mapping[str, tuple[int, ...]], width: int) -> dict[str, FloatArray]:
    """Log P(feature | segment), (S,) by feature."""
    table = np.array(list(counts.values()), np.float64).reshape(-1, width) + SMOOTHING
    return dict(zip(counts, np.log(table / table.sum(axis=0)), strict=True))


def _posterior(scores: FloatArray, size: IntArray, temperature: float) -> FloatArray:
    """P(segment | text), (…, S): the prior is each segment's share of the questions."""
    chances: FloatArray = softmax(scores / temperature + np.log(size / size.sum()), axis=-1)
    return chances


def _object(value: Any, keys: tuple[str, ...]) -> list[Any]:
    """The values of an object that has exactly these keys, in their order."""
    if not isinstance(value, Mapping) or set(value) != set(keys):
        raise InputError(f"segmenter: {str(value)[:40]!r} is not an object of {', '.join(keys)}")
    return [value[key] for key in keys]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"segment classifier: {str(value)[:40]!r} is not a finite number")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise InputError(f"segment classifier: {str(value)[:40]!r} is not a count")
    return value


def _row(value: Any, width: int) -> tuple[int, ...]:
    if not isinstance(value, Mapping):
        raise InputError(f"segment classifier: {str(value)[:40]!r} is not an object of counts")
    row = [0] * width
    for place, n in value.items():
        if not str(place).isdecimal() or not int(place) < width:
            raise InputError(f"segment classifier: {place!r} is not the place of a segment")
        row[int(place)] = _count(n)
    return tuple(row)
