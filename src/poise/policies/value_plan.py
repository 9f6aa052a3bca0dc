"""Backward induction: what to do in each state of a process so that payoff less price is largest.

With ``loss`` the payoff given up by stopping instead of drawing everything, the best course from a
cell costs

    V(s) = min( loss(s),  min over k of  round_price + k price + E V(k samples on) )

(``docs/value.md`` shows why minimising loss is maximising payoff, and estimates it with less
noise). It does not know where the process was learnt.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poise.columns import FloatArray
from poise.errors import UsageError
from poise.policies.running import IntArray
from poise.policies.value_process import Process

__all__ = ["FUTILE", "SURE", "Codes", "Plan", "decoded", "encoded", "plan"]

SURE, FUTILE = 0, 255
"""Codes of a cell where sampling stops; any other code k: draw k more."""

LIKELY = 0.5
"""Stopping is futile where the expected payoff of the leader is below this."""

Codes = npt.NDArray[np.uint8]
"""One byte a cell."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``codes``: what to do in each cell, layer by layer. ``cost``: V at the start.

    The last layer stops, whatever its codes say about why.
    """

    codes: Codes
    cost: float


def plan(process: Process, price: float, round_price: float = 0.0) -> Plan:
    """The best course at ``price`` a sample and ``round_price`` a round, in units of the payoff.

    Between equal courses it stops. Where rounds cost nothing it draws one sample after another, and
    asks at once for as many as must come before any stop. At the start it always draws: an answer
    is wanted.
    """
    last = process.max_samples
    reason = [np.where(payoff < LIKELY, FUTILE, SURE) for payoff in process.payoff]
    codes = [reason[-1]]
    worth = process.loss[-1]
    away: IntArray = np.zeros(worth.shape, np.int64)
    ahead: list[FloatArray] = []
    for n in reversed(range(last)):
        ahead = _ahead(process, n, worth, ahead, deep=round_price > 0)
        courses = np.stack([round_price + (k + 1) * price + one for k, one in enumerate(ahead)])
        draw, going = courses.argmin(axis=0) + 1, courses.min(axis=0)
        stop = (process.loss[n] <= going) & (n > 0)
        away = np.where(stop, 0, 1 + process.steps[n].soonest(away))
        if round_price == 0:
            draw = away
        worth = np.where(stop, process.loss[n], going)
        codes.append(np.where(stop, reason[n], draw))
    flat = np.concatenate(codes[::-1]).astype(np.uint8)
    return Plan(flat, float(worth[0]))


def _ahead(
    process: Process, n: int, worth: FloatArray, ahead: list[FloatArray], *, deep: bool
) -> list[FloatArray]:
    """E V after 1, 2, … more samples, (c,) each; one only unless ``deep``."""
    following = [worth, *ahead] if deep else [worth]
    return [process.steps[n].expected(one) for one in following]


def encoded(codes: Codes) -> str:
    """``codes`` as a short text."""
    return base64.b85encode(zlib.compress(codes.tobytes(), 9)).decode()


def decoded(table: str, cells: int) -> Codes:
    """Inverse of ``encoded``, (cells,). Raises UsageError for any other text."""
    try:
        flat = zlib.decompress(base64.b85decode(table))
    except (ValueError, binascii.Error, zlib.error):
        raise UsageError("table: not the text of a value rule's decisions; fit it again") from None
    if len(flat) != cells:
        raise UsageError(
            f"table: decisions for {len(flat)} cells, not for the {cells} that max_samples and "
            "the edges make; fit it again"
        )
    return np.frombuffer(flat, np.uint8)
