"""From labelled pools to a profile: state map, then policy, then final map, each on its own terms.

``pools``     what pools must have in common to be fitted on, and what is noted about them
``prefixes``  pools -> arrays: every prefix, its signals, whether its leader is right
``maps``      arrays -> maps and what they state of questions they have not seen
``policy``    where a policy stops on the pools; learns a ``value`` rule on the way
``value``     what one more sample is worth, learnt from pools
``capability`` arrays -> the Beta posterior of mu
``segments``  where questions belong, and what will find it
``records``   held-out numbers and rows, what was considered
``profile``   all of it in order, and the profile

It reads no file and does not know how pools were drawn.
"""

from __future__ import annotations

from poise.fit.pools import FEWEST_QUESTIONS
from poise.fit.prefixes import Prefixes, prefixes
from poise.fit.profile import fit
from poise.fit.value import Learnt, learn

__all__ = ["FEWEST_QUESTIONS", "Learnt", "Prefixes", "fit", "learn", "prefixes"]
