"""Replay: the same policies over stored samples, many orders at once, with everything they spend.

::

    orders      pools -> shuffled orders as arrays            shuffling   the orders themselves
    following   one policy over all orders: ``solve``'s twin  rounds      its requests, one by one
    walking     every prefix at once, for many policies       sweeping    a policy's thresholds
    comparing   frontiers, baselines, paired differences      resampling  intervals over questions
    frontier    the numbers that come out, and their JSON     picture     accuracy against spend

Thresholds are chosen on some questions and judged on others. A replay never draws: what a policy
would have done beyond the N stored samples is not known, so its limit is N.

It does not know: backends, files, how policies decide.
"""

from __future__ import annotations

from poise.replay.comparing import NET, compare
from poise.replay.following import Followed, follow
from poise.replay.frontier import Comparison, Frontier, Point, Replay
from poise.replay.orders import Orders, orders
from poise.replay.picture import png
from poise.replay.sweeping import GRIDS, Sweep, sweep
from poise.replay.walking import Walk, walk

__all__ = [
    "GRIDS",
    "NET",
    "Comparison",
    "Followed",
    "Frontier",
    "Orders",
    "Point",
    "Replay",
    "Sweep",
    "Walk",
    "compare",
    "follow",
    "orders",
    "png",
    "sweep",
    "walk",
]
