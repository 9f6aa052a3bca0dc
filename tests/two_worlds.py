"""Simulated questions whose truth is known, as pools; shared by the tests of fitting."""

from __future__ import annotations

import numpy as np

from poise.pools import Labelled, Pool
from poise.types import Kind, Sample, TokenLogprobs

ARM = {
    "engine": "simulated",
    "model": "urn",
    "decoding": {"temperature": 1},
    "prompt_hash": "0",
}


def draw(m: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(m, n) answers, 0 right and 1..5 wrong, and (m, n) log-probabilities that know a little.

    Each question has its own chance of being right, and its own favourite wrong answer: so some
    questions are agreed on and wrong.
    """
    rng = np.random.default_rng(seed)
    chance = rng.beta(0.7, 0.9, m)[:, None]
    stubborn = rng.beta(0.8, 0.8, m)[:, None]
    right = rng.random((m, n)) < chance
    favourite = rng.random((m, n)) < stubborn
    wrong = np.where(favourite, 1, rng.integers(2, 6, (m, n)))
    answers = np.where(right, 0, wrong)
    logprobs = -np.abs(rng.normal(0.5, 0.3, (m, n))) - 0.1 * ~right
    return answers, logprobs


def pools(m: int, n: int, seed: int, *, logprobs: bool = True) -> list[Labelled]:
    """The same as labelled pools."""
    answers, sure = draw(m, n, seed)
    made = []
    for q in range(m):
        samples = tuple(
            Sample(
                index=i,
                text=str(answers[q, i]),
                answer=str(answers[q, i]),
                logprobs=TokenLogprobs(("x",), (float(sure[q, i]),)) if logprobs else None,
            )
            for i in range(n)
        )
        pool = Pool(
            dataset="urn",
            question_id=f"{seed}-{q}",
            samples=samples,
            messages=({"role": "user", "content": f"What is in urn {q}?"},),
            kind=Kind.NUMBER,
            **ARM,  # type: ignore[arg-type]
        )
        made.append(Labelled(pool, "0", tuple(int(a == 0) for a in answers[q])))
    return made


def clusters(answers: np.ndarray) -> np.ndarray:
    """Cluster ids by first appearance."""
    codes = np.zeros(answers.shape, np.int64)
    for q, row in enumerate(answers):
        seen: dict[int, int] = {}
        codes[q] = [seen.setdefault(int(a), len(seen)) for a in row]
    return codes
