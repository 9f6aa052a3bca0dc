"""The card: what is known about a set of probabilities, for people. Numbers first, then pictures.

================  ================================================================================
``evaluation``    the rows: right or wrong, stated probability, raw signal, question, segment
``decision``      what was decided when the probabilities were made, as it was stated
``columns``       stated probability, raw signal and baselines measured, and compared in pairs
``curves``        reliability with its band, density, risk-coverage, as numbers
``gaps``          stated minus right: interval, p-value, and Holm's rule over many
``parts``         gaps over all rows, by bin, by segment
``findings``      warnings, notes, limits and the verdict in words
``card``          all of it at once; versioned JSON
``pictures``      PNG and SVG, readable without colour
``page``          one HTML file that needs nothing else
``writing``       a card to .html, .png or .json
``break_even``    after how many questions training pays for itself; apart from the card
================  ================================================================================

It does not know pools, profiles or models: who has them makes an ``Evaluation``.
"""

from __future__ import annotations

from poise.report.break_even import BreakEven, Prices, break_even, of_training
from poise.report.card import Card, make_card
from poise.report.decision import Decision
from poise.report.evaluation import Evaluation
from poise.report.findings import Finding
from poise.report.writing import write_card

__all__ = [
    "BreakEven",
    "Card",
    "Decision",
    "Evaluation",
    "Finding",
    "Prices",
    "break_even",
    "make_card",
    "of_training",
    "write_card",
]
