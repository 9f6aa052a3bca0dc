"""What a signal promises, and what one promises that has an array form.

It does not know any one signal.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from poise.signals.evidence import Evidence
from poise.signals.running import FloatArray, IntArray

__all__ = ["PrefixSignal", "Signal"]


class Signal(Protocol):
    """A named number read from evidence."""

    @property
    def name(self) -> str:
        """The name under which ``SIGNALS``, profiles and results know it."""

    @property
    def level(self) -> Literal["question", "sample", "pool"]:
        """What it is read from."""

    @property
    def needs(self) -> tuple[str, ...]:
        """``answers``, ``text``, ``logprobs``, ``top_logprobs``, ``segment``, or a name.

        A name is that of an asking signal, whose follow-up has to be asked (its reply is kept
        under it), or of a number that a pool file stores.
        """

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest value, which may be infinite; values never are."""

    def __call__(self, evidence: Evidence) -> float:
        """The value; pure in ``evidence``. Raises MissingEvidence with the reason."""


@runtime_checkable
class PrefixSignal(Signal, Protocol):
    """A signal of pools that has an array form, for all prefixes of many questions at once."""

    @property
    def reads(self) -> str | None:
        """The sample signal whose values ``over_prefixes`` takes; None where codes are enough."""

    def over_prefixes(self, codes: IntArray, values: FloatArray | None = None) -> FloatArray:
        """The value after each of the N samples of m questions, led by the majority (first seen).

        ``codes`` (m, N) signed integers: the cluster of each sample, numbered from 0 by first
        appearance, -1 where the answer was unreadable. ``values`` (m, N) the samples' ``reads``,
        nan where missing. Returns (m, N): column j is the signal of the first j + 1 samples, nan
        where it raises MissingEvidence. Raises UsageError for any other arrays.
        """
