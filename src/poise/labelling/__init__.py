"""Which stored answers a person should label next, out as a sheet and back into the pools.

================  ================================================================================
``candidate``     a stored answer as labelling sees it; which ones a single label serves
``choosing``      picks: edge cases with certainty, the rest a stratified random sample
``coverage``      how far the labels reach, segment by segment
``sheet``         picks -> CSV -> labels
``applying``      labels -> labelled pools
================  ================================================================================

It does not know: who labels, where pools are kept, or how a probability was made.
"""

from __future__ import annotations

from poise.labelling.applying import LabelCount, apply, last_label
from poise.labelling.candidate import Candidate, Key
from poise.labelling.choosing import Pick, choose, review_queue
from poise.labelling.coverage import Coverage, coverage
from poise.labelling.sheet import COLUMNS, Label, Labels, read_csv, write_csv

__all__ = [
    "COLUMNS",
    "Candidate",
    "Coverage",
    "Key",
    "Label",
    "LabelCount",
    "Labels",
    "Pick",
    "apply",
    "choose",
    "coverage",
    "last_label",
    "read_csv",
    "review_queue",
    "write_csv",
]
