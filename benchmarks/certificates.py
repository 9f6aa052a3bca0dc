"""How often certificates are wrong, on real pools whose true risks are known.

    python benchmarks/certificates.py [POOLS] [--draws 1000] [--only TEXT]

``POOLS`` (default: the environment variable ``POISE_POOLS``) is a folder with the public pools; the
project's own ``arithmetic_fit`` is added. Each pool with eight random orders a question is taken as
the whole population, so the true risk of every policy is a mean. A draw takes 100 tuning questions
and ``n`` certification questions from it with replacement, certifies, and is a violation where the
certified policy's true risk exceeds the target. Violations may come up to delta = .1 and three
Monte-Carlo standard errors.

Targets tempt: each lies a hair below the true risk of a policy of the family, at the given quantile
of the policies' risks, so that certifying one policy too far is a violation. ``loss``, ``net`` and
``spend`` sweep the threshold of ``beta``; ``risk`` sweeps a bar on the leader's vote share at the
stop of ``beta``. *Samples*: those drawn under the certified policies, as a share of all.

Negative controls, on forty rules that err on unrelated questions, all of them a little too often:
tuning and certifying on the same questions, and looking every 25 questions until something
certifies. Both must exceed what is allowed; the honest split of the same rules must not.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from poise.policies import Abstain, Policy
from poise.pools import Labelled, read_pools
from poise.replay import Orders, follow, orders, sweep
from poise.tune import Target, Tried, certify
from poise.tune.candidates import BARS, tried
from poise.tune.tried import estimate

OWN = Path(__file__).with_name("pools") / "arithmetic_fit.jsonl.gz"
POOLS = {
    "math_qwen15b": "gsm8k",
    "aqua_pot_codex_k30": "",
    "date_gpt35": "",
    "gpqa_diamond": "",
}
"""Public pools, and what the name of the data set has to contain."""

ORDERS, DELTA, TUNING = 8, 0.1, 100
LEAST = 5e-3
"""Risks below it take more questions than are drawn here."""

CASES = (
    ("loss", 0.3, 500),
    ("loss", 0.7, 1000),
    ("net", 0.7, 1000),
    ("risk", 0.3, 300),
    ("risk", 0.6, 800),
    ("spend", 0.5, 200),
)
"""Kind of target, quantile of the policies' risks, certification questions."""


def populations(folder: Path | None, only: str) -> Iterator[tuple[str, Orders]]:
    """Each pool of one arm, in random orders."""
    if only in OWN.name:
        yield "arithmetic_fit", orders(list(read_pools(OWN)), ORDERS, 0)
    for name, part in POOLS.items() if folder is not None else ():
        assert folder is not None
        if only in name:
            yield name, _one_arm(folder / f"{name}.jsonl.gz", part)


def _one_arm(path: Path, part: str) -> Orders:
    """The arm with most questions of the data set, cut to the samples that nine in ten have."""
    arms: dict[tuple[str, ...], list[Labelled]] = {}
    for one in read_pools(path):
        if part in one.pool.dataset.lower() and not one.pool.arms:
            arms.setdefault(one.pool.key[:4], []).append(one)
    pools = max(arms.values(), key=len)
    size = int(np.quantile([len(one.pool.samples) for one in pools], 0.1, method="lower"))
    kept = [one for one in pools if len(one.pool.samples) >= size]
    made = orders(kept, ORDERS, 0, max_samples=size)
    return made.take(made.graded)


def families(held: Orders) -> dict[str, tuple[Tried, ...]]:
    """The policies tried for each kind of target."""
    beta = sweep("beta", held.shape[2]).policies
    stop = next(one.stop for one in beta if getattr(one.stop, "threshold", 0) == 0.95)
    found = follow(held, Policy(stop))
    within = np.arange(held.shape[2]) < found.n[..., None]
    share = ((held.codes == found.leader[..., None]) & within).sum(2) / found.n
    bars = [Policy(stop, Abstain(bar)) for bar in BARS]
    stopping = tried(held, beta)
    return {
        **dict.fromkeys(("loss", "net", "spend"), stopping),
        "risk": tried(held, bars, probability=share),
    }


def tempting(population: Sequence[Tried], kind: str, quantile: float) -> Target | None:
    """A target that one policy just misses; None where all policies do equally well."""
    loosest = Target(kind, 1.0 if kind == "spend" else 0.5)
    risks = sorted({r for one in population if (r := estimate(loosest, one)) is not None})
    above = [risk for risk in risks if risk > (1.05 if kind == "spend" else LEAST)]
    if not above:
        return None
    return Target(kind, above[int(quantile * (len(above) - 1))] * 0.999)


def draw(population: Sequence[Tried], n: int, rng: np.random.Generator) -> list[Tried]:
    """Questions with replacement, each with its orders in random order, the same for all."""
    q, o = population[0].right.shape
    at = rng.integers(0, q, n)[:, None], rng.permuted(np.tile(np.arange(o), (n, 1)), axis=1)
    return [
        Tried(p.policy, p.right[at], p.answered[at], p.samples[at], p.majority[at], p.max_samples)
        for p in population
    ]


def certified(target: Target, tuning: Sequence[Tried], held: Sequence[Tried]) -> str | None:
    """The policy that a draw certifies."""
    tested = certify(target, tuning, held, delta=DELTA)
    return next((one.policy for one in reversed(tested) if one.certified), None)


def coverage(population: Sequence[Tried], target: Target, n: int, draws: int) -> tuple[float, ...]:
    """Shares of draws that certify and that violate, and the mean share of samples drawn."""
    rng = np.random.default_rng(n)
    true = {one.policy: estimate(target, one) for one in population}
    spent = {one.policy: float(one.samples.mean()) / one.max_samples for one in population}
    made = [
        certified(target, draw(population, TUNING, rng), draw(population, n, rng))
        for _ in range(draws)
    ]
    passed = [one for one in made if one is not None]
    wrong = sum((true[one] or 0.0) > target.at_most for one in passed)
    return (
        len(passed) / draws,
        wrong / draws,
        float(np.mean([spent[one] for one in passed])) if passed else math.nan,
    )


def controls(draws: int) -> Iterator[tuple[str, float]]:
    """Violations of the honest split and of the two ways to cheat."""
    rng = np.random.default_rng(8)
    ones = np.ones((2000, 1), bool)
    rules = [
        Tried(
            f"rule {i}",
            (rng.permutation(2000) >= 108)[:, None],
            ones,
            np.full((2000, 1), 40 - i),
            ones,
            40,
        )
        for i in range(40)
    ]
    target = Target("loss", 0.05)
    honest = same = looked = 0
    for _ in range(draws):
        tuning, held = draw(rules, 250, rng), draw(rules, 250, rng)
        honest += certified(target, tuning, held) is not None
        same += certified(target, held, held) is not None
        (more,) = draw(rules[:1], 1500, rng)
        looks = (more.take(np.arange(n)) for n in range(25, 1501, 25))
        looked += any(certified(target, tuning[:1], [one]) is not None for one in looks)
    yield "honest split", honest / draws
    yield "tuned and certified on the same questions", same / draws
    yield "looked at every 25 questions until it certifies", looked / draws


def main() -> None:
    """Print the table and the controls; a line that breaks what is promised says so."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pools", nargs="?", default=os.environ.get("POISE_POOLS"))
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    allowed = DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / given.draws)
    print(f"violations allowed: {allowed:.3f} ({given.draws} draws)")
    print(f"{'pool':22} {'target':16} {'n':>4} {'certified':>9} {'violations':>10} {'samples':>8}")
    for name, held in populations(Path(given.pools) if given.pools else None, given.only):
        tried_for = families(held)
        for kind, quantile, n in CASES:
            target = tempting(tried_for[kind], kind, quantile)
            if target is None:
                print(f"{name:22} {kind:16} no policy errs")
                continue
            passed, wrong, spent = coverage(tried_for[kind], target, n, given.draws)
            said = "  ABOVE" if wrong > allowed else ""
            print(
                f"{name:22} {target!s:16.16} {n:4} {passed:9.3f} {wrong:10.3f} {spent:8.3f}{said}"
            )
    for name, wrong in controls(given.draws):
        right = wrong <= allowed if name == "honest split" else wrong > allowed
        print(f"{name:50} {wrong:.3f}{'' if right else '  NOT AS IT SHOULD BE'}")


if __name__ == "__main__":
    main()
