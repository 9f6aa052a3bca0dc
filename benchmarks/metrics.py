"""Metrics with bootstrap intervals on a million rows, beside scikit-learn, relplot and netcal.

    python benchmarks/metrics.py [--rows 1000000] [--replicates 200] [--theirs 3] [--seed 0]

The work: Brier, log loss, ECE (10 bins) and AUROC of binary labels, each with the percentile
interval of ``--replicates`` bootstrap resamples of the rows. Poise resamples counts and shares
them between the metrics. The others have no such function; they are given what their users write:
draw row numbers, index, call. Brier, log loss and AUROC are scikit-learn's. ECE is netcal's where
netcal can be imported, else relplot's ``binnedECE``, which is the faster of the two and so no
advantage to Poise. ``--theirs`` replicates are timed and the time of all is **extrapolated** from
them (each replicate does the same work). relplot's ``smECE`` is timed without a bootstrap.

First they must agree: every metric's value to 1e-9, and smECE to 1e-3. netcal and relplot put a
probability of exactly 1 in a bin of its own or in none; there is none in these data.

Exit status: 1 below ten times as fast, else 0. Disagreement is an AssertionError.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable

import numpy as np
import relplot
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from poise import metrics
from poise.metrics.bootstrap import resample
from poise.metrics.rows import by_confidence, read
from poise.metrics.statistic import METRICS

Column = NDArray[np.float64]
ASKED = ("brier", "log_loss", "ece", "auroc")
BINS = 10
LEAST_RATIO = 10


def netcal_ece() -> Callable[[Column, Column], float] | None:
    """ECE of netcal, where it is installed."""
    if importlib.util.find_spec("netcal") is None:
        return None
    from netcal.metrics import ECE  # noqa: PLC0415 - installed on few machines

    return lambda y, p: float(ECE(BINS).measure(p, y))


def opponents() -> tuple[str, dict[str, Callable[[Column, Column], float]]]:
    """Who computes ECE, and each metric as (labels, probabilities) -> value."""
    netcal = netcal_ece()
    ece = netcal or (lambda y, p: float(relplot.metrics.binnedECE(p, y, nbins=BINS)))
    return "netcal" if netcal else "relplot.binnedECE", {
        "brier": brier_score_loss,
        "log_loss": sklearn_log_loss,
        "ece": ece,
        "auroc": roc_auc_score,
    }


def ours(y: Column, p: Column, replicates: int, seed: int) -> dict[str, metrics.Estimate]:
    """All metrics with intervals over the same resamples."""
    rows = by_confidence(read(y, p))
    statistics = {name: METRICS[name](rows) for name in ASKED}
    return resample(statistics, rows, replicates=replicates, seed=seed)


def theirs(
    y: Column, p: Column, replicates: int, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds a replicate by metric (``draw``: draw rows and index), and values on all rows."""
    _, by_name = opponents()
    rng = np.random.default_rng(seed)
    seconds = dict.fromkeys(("draw", *by_name), 0.0)
    values = {name: float(metric(y, p)) for name, metric in by_name.items()}
    for _ in range(replicates):
        begun = time.perf_counter()
        drawn = rng.integers(0, y.size, y.size)
        y_drawn, p_drawn = y[drawn], p[drawn]
        seconds["draw"] += time.perf_counter() - begun
        for name, metric in by_name.items():
            begun = time.perf_counter()
            metric(y_drawn, p_drawn)
            seconds[name] += time.perf_counter() - begun
    return {name: total / replicates for name, total in seconds.items()}, values


def timed(work: Callable[[], float]) -> tuple[float, float]:
    """Seconds and result of one call."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def main() -> int:
    """Compare, time, print the table and one line of JSON; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--theirs", type=int, default=3, help="replicates timed of the others")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rng = np.random.default_rng(options.seed)
    p = rng.beta(2, 1, options.rows)
    y = (rng.random(options.rows) < p**1.2).astype(np.float64)

    begun = time.perf_counter()
    found = ours(y, p, options.replicates, options.seed)
    seconds = time.perf_counter() - begun
    each, values = theirs(y, p, options.theirs, options.seed)
    for name in ASKED:
        assert math.isclose(found[name].value or 0, values[name], rel_tol=1e-9), name
    extrapolated = sum(each.values()) * options.replicates
    ratio = extrapolated / seconds
    own_smooth, smooth = timed(lambda: metrics.smooth_ece(y, p))
    their_smooth, oracle = timed(lambda: float(relplot.smECE(p, y)))
    assert math.isclose(smooth, oracle, abs_tol=1e-3), "smECE"

    print(f"{options.rows:,} rows, {options.replicates} replicates of {', '.join(ASKED)}")
    print(f"  poise                {seconds:>9.1f} s")
    print(f"  the others           {extrapolated:>9.1f} s   extrapolated from {options.theirs}")
    for name, one in each.items():
        print(f"    {name:<19}{one * options.replicates:>9.1f} s")
    print(f"  ratio                {ratio:>9.1f}")
    print(f"smooth ECE once: poise {own_smooth:.3f} s, relplot {their_smooth:.3f} s")
    report = {
        "benchmark": "metrics",
        "rows": options.rows,
        "replicates": options.replicates,
        "replicates_timed_of_others": options.theirs,
        "ece_by": opponents()[0],
        "seed": options.seed,
        "seconds": {"poise": seconds, "others_extrapolated": extrapolated},
        "others_seconds_a_replicate": each,
        "smooth_seconds": {"poise": own_smooth, "relplot": their_smooth},
        "ratio": ratio,
        "met": ratio >= LEAST_RATIO,
    }
    print(json.dumps(report))
    return 0 if report["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
