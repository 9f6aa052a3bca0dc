"""A probe: the chance that one sample is right, from the hidden state of the question alone.

Logistic regression on the z-scored state of the prompt's last token, towards mu, each question's
share of right samples. Layer and ridge are chosen on questions that did not fit it, and its numbers
come from others again. What it says of a question is kept in the pool as the question's signal
``probe``, where ``stored_question:probe`` reads it. It does not know how states are had.

Source: capability as a target, Yang et al. 2026 (arXiv 2602.13540).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from poise.backends import Transformers
from poise.calibrators.logistic import fit_logistic
from poise.errors import InputError, RefusedError, UsageError
from poise.files import whole
from poise.metrics import mse_to_mu, spearman
from poise.pools import Labelled, split
from poise.shapes import listed, number, record, text
from poise.shapes import whole as counted
from poise.types import Prompt

__all__ = ["FEWEST", "SIGNAL", "Graded", "Probe", "applied", "fit", "graded", "load", "states"]

FloatArray = npt.NDArray[np.float64]
States = npt.NDArray[np.float32]

SIGNAL = "probe"
"""The name of what it says, in a pool's signals."""

FEWEST = 60
"""Questions below which none is left to choose on and to measure on."""

PARTS = {"fit": 0.6, "choose": 0.2, "measure": 0.2}
RIDGES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
NO_SPREAD = 1e-12


@dataclass(frozen=True, slots=True)
class Probe:
    """A fitted probe.

    ``model`` and ``sha256`` of the weights whose states it reads, ``prompt_hash`` of what stands
    before each question, ``layer`` (0 is the embedding). ``mean``, ``scale``, ``coef`` (d,) and
    ``intercept``. ``questions``: fingerprints of those it was fitted or chosen on. ``report``: how
    it was chosen, and its numbers on questions that had no part in it.
    """

    model: str
    sha256: str
    prompt_hash: str
    layer: int
    mean: FloatArray
    scale: FloatArray
    coef: FloatArray
    intercept: float
    questions: frozenset[str]
    report: Mapping[str, Any]

    def predict(self, found: npt.ArrayLike) -> FloatArray:
        """States (m, d) of its layer -> capability (m,) in (0, 1)."""
        line = (self.mean, self.scale, self.coef, self.intercept)
        return _chances(line, np.asarray(found, np.float64))

    def knows(self, one: Labelled) -> bool:
        """Whether it was fitted or chosen on this question, so that it says too much of it."""
        return _fingerprint(one) in self.questions

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; arrays as base64 of little-endian float32."""
        arrays = {"mean": self.mean, "scale": self.scale, "coef": self.coef}
        return {
            "schema": 1,
            "model": self.model,
            "sha256": self.sha256,
            "prompt_hash": self.prompt_hash,
            "layer": self.layer,
            "intercept": self.intercept,
            **{name: _packed(values) for name, values in arrays.items()},
            "questions": sorted(self.questions),
            "report": dict(self.report),
        }

    def save(self, path: str | Path) -> None:
        """Write it as JSON. Raises UsageError where it cannot be written."""
        with whole(path) as stream:
            stream.write(json.dumps(self.to_dict(), ensure_ascii=False).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Graded:
    """Questions with what they are fitted to: ``mu`` (m,), the share right of ``n`` (m,) grades.

    ``left_out``: pools without a graded sample or without the question's text.
    """

    pools: tuple[Labelled, ...]
    mu: FloatArray
    n: FloatArray
    left_out: int


def graded(pools: Sequence[Labelled]) -> Graded:
    """The pools that a probe can be fitted to.

    Raises RefusedError with fewer than ``FEWEST``; InputError where a question is there twice.
    """
    kept: list[tuple[Labelled, int, int]] = []
    for one in pools:
        known = [grade for grade in one.correct if grade is not None]
        if known and one.pool.question is not None:
            kept.append((one, sum(known), len(known)))
    if len({one.pool.group for one, _, _ in kept}) < len(kept):
        raise InputError("a question has several pools, and a probe speaks of one arm: choose one")
    if len(kept) < FEWEST:
        raise RefusedError(
            f"{len(kept)} of {len(pools)} pools have graded samples and their question's text; a"
            f" probe takes at least {FEWEST} questions"
        )
    right, n = (np.array([row[place] for row in kept], np.float64) for place in (1, 2))
    return Graded(tuple(row[0] for row in kept), right / n, n, len(pools) - len(kept))


async def states(
    backend: Transformers,
    pools: Sequence[Labelled],
    prompt: Prompt,
    layers: Sequence[int] | None = None,
    told: Callable[[int], None] | None = None,
) -> States:
    """Hidden states of the questions, (m, layers, d); every pool has its question's text.

    ``told`` hears how many are done. Raises BackendError.
    """
    rows = []
    for place, one in enumerate(pools):
        assert one.pool.question is not None, "graded() and applied() leave such pools out"
        rows.append(await backend.hidden(prompt.messages(one.pool.question), layers))
        if told is not None:
            told(place + 1)
    return np.stack(rows)


def fit(
    given: Graded,
    found: States,
    *,
    model: str,
    sha256: str,
    prompt_hash: str,
    layers: Sequence[int] | None = None,
    seed: int = 0,
) -> Probe:
    """The probe of the layer and ridge that predict best.

    ``found`` (m, layers, d); ``layers`` their numbers, None: 0 on. Questions are parted by id:
    three fifths fit, a fifth chooses, a fifth measures; the chosen one is fitted again on the first
    two parts. Raises RefusedError where nothing is to be learnt (all right, or all wrong).
    """
    names = list(range(found.shape[1])) if layers is None else list(layers)
    if found.shape[:2] != (len(given.mu), len(names)):
        raise UsageError(f"states {found.shape} for {len(given.mu)} pools, {len(names)} layers")
    parts = _parts(given, seed)
    first, choose, measure = (parts[name] for name in PARTS)
    both = np.sort(np.concatenate([first, choose]))
    for part in (first, choose, both):
        if not 0 < given.mu[part].mean() < 1:
            raise RefusedError("all samples of a part are right, or all wrong: nothing to learn")
    tried: list[tuple[float, int, float]] = []
    for place in range(len(names)):
        for ridge in RIDGES:
            candidate = _line(found[first, place], given.mu[first], given.n[first], ridge)
            chances = _chances(candidate, found[choose, place])
            tried.append((_log_loss(chances, given.mu[choose], given.n[choose]), place, ridge))
    loss, place, ridge = min(tried)
    line = _line(found[both, place], given.mu[both], given.n[both], ridge)
    report = {
        "questions": {name: len(part) for name, part in parts.items()},
        "left_out": given.left_out,
        "layers": names,
        "layer": names[place],
        "ridge": ridge,
        "log_loss_chosen": loss,
        "best_by_layer": [
            {"layer": name, "log_loss": min(t[0] for t in tried if t[1] == number)}
            for number, name in enumerate(names)
        ],
        "held_out": _measured(
            _chances(line, found[measure, place]),
            given.mu[measure],
            given.n[measure],
            float(np.average(given.mu[both], weights=given.n[both])),
        ),
    }
    seen = frozenset(_fingerprint(given.pools[index]) for index in both)
    return Probe(model, sha256, prompt_hash, names[place], *line, seen, report)


def applied(probe: Probe, pools: Sequence[Labelled], found: States) -> list[Labelled]:
    """The pools with what the probe says of each question under ``SIGNAL``.

    ``found`` (m, d), the states of its layer. None stands where the probe was fitted on the
    question: there it would say more than it knows.
    """
    values = [
        None if probe.knows(one) else float(value)
        for one, value in zip(pools, probe.predict(found), strict=True)
    ]
    return [
        replace(one, pool=replace(one.pool, signals={**one.pool.signals, SIGNAL: value}))
        for one, value in zip(pools, values, strict=True)
    ]


def load(path: str | Path) -> Probe:
    """The probe of a file. Raises InputError for anything else."""
    try:
        stated = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"not readable as JSON ({error})", path) from None
    try:
        _SHAPE("probe", stated)
        mean, scale, coef = (_unpacked(stated[name]) for name in ("mean", "scale", "coef"))
    except (InputError, ValueError) as error:
        raise InputError(f"no probe: {error}", path) from None
    if stated["schema"] != 1:
        raise InputError(f"a probe of schema {stated['schema']}; this Poise reads 1", path)
    if not mean.size == scale.size == coef.size > 0 or not (scale > 0).all():
        raise InputError("no probe: its arrays do not fit together", path)
    return Probe(
        stated["model"],
        stated["sha256"],
        stated["prompt_hash"],
        stated["layer"],
        mean,
        scale,
        coef,
        stated["intercept"],
        frozenset(stated["questions"]),
        stated["report"],
    )


# -- inside ---------------------------------------------------------------------------------------

Line = tuple[FloatArray, FloatArray, FloatArray, float]
"""Mean, scale, coefficients and intercept."""

_SHAPE = record(
    {
        "schema": counted,
        **dict.fromkeys(("model", "sha256", "prompt_hash", "mean", "scale", "coef"), text),
        "layer": counted,
        "intercept": number,
        "questions": listed(text),
        "report": record({}),
    }
)


def _fingerprint(one: Labelled) -> str:
    named = json.dumps(one.pool.group, ensure_ascii=False)
    return hashlib.blake2b(named.encode(), digest_size=8).hexdigest()


def _parts(given: Graded, seed: int) -> dict[str, npt.NDArray[np.int64]]:
    groups = [one.pool.group for one in given.pools]
    named = {name: set(members) for name, members in split(groups, PARTS, seed).items()}
    return {
        name: np.array([i for i, group in enumerate(groups) if group in members], np.int64)
        for name, members in named.items()
    }


def _line(rows: States, mu: FloatArray, n: FloatArray, ridge: float) -> Line:
    plain = rows.astype(np.float64)
    mean, scale = plain.mean(axis=0), plain.std(axis=0)
    scale = np.where(scale > NO_SPREAD * np.maximum(1, np.abs(mean)), scale, 1.0)
    # A question counts by its grades, and all of them as much as there are questions.
    beta = fit_logistic((plain - mean) / scale, mu, n / n.mean(), ridge, np.zeros(mean.size))
    return mean, scale, beta[1:], float(beta[0])


def _chances(line: Line, rows: npt.NDArray[np.floating[Any]]) -> FloatArray:
    mean, scale, coef, intercept = line
    chances: FloatArray = expit((rows.astype(np.float64) - mean) / scale @ coef + intercept)
    return chances


def _log_loss(chances: FloatArray, mu: FloatArray, n: FloatArray) -> float:
    safe = np.clip(chances, 1e-12, 1 - 1e-12)
    each = -(mu * np.log(safe) + (1 - mu) * np.log1p(-safe))
    return float(np.average(each, weights=n))


def _measured(chances: FloatArray, mu: FloatArray, n: FloatArray, base: float) -> dict[str, Any]:
    """Squared error to mu with its sampling error taken off, and log loss, beside a constant."""
    right = np.rint(mu * n)
    constant = np.full(len(mu), base)
    return {
        "questions": len(mu),
        "mse": mse_to_mu(chances, right, n).value,
        "base_mse": mse_to_mu(constant, right, n).value,
        "log_loss": _log_loss(chances, mu, n),
        "base_log_loss": _log_loss(constant, mu, n),
        "spearman": spearman(mu, chances).value,
    }


def _packed(values: FloatArray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _unpacked(text_: str) -> FloatArray:
    values = np.frombuffer(base64.b64decode(text_, validate=True), "<f4").astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("an array holds what is not finite")
    return values
