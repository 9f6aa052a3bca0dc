"""Thresholds with a certificate: the cheapest policy that keeps to a target, or a refusal.

::

    target       what is held down, as people write it     pvalues     how surprising losses are
    tried        what a policy did, against a target       sequence    learn then test
    candidates   policies, tried on replayed orders        certificate what is put on record
    tuning       all of it in order, from pools            refusal     why not, and what could be

A certificate says: with confidence 1 - delta over the draw of the certification questions, what the
target names is at most so much in the mean over further questions of the same stream.
"""

from __future__ import annotations

from poise.tune.certificate import Certificate
from poise.tune.sequence import Step, certify
from poise.tune.target import Target, parse_target
from poise.tune.tried import Tried
from poise.tune.tuning import Tuned, fitted, tune, tune_exit

__all__ = [
    "Certificate",
    "Step",
    "Target",
    "Tried",
    "Tuned",
    "certify",
    "fitted",
    "parse_target",
    "tune",
    "tune_exit",
]
