"""Calibrators: from a signal's score to a probability that keeps its word.

=====================  ==========================================  ==========================
name                   P(right) is                                 settings (defaults)
=====================  ==========================================  ==========================
``constant``           the base rate, whatever the score
``identity``           the score itself
``temperature``        sigmoid(logit / T)                          scale, eps .001
``platt``              sigmoid(b + a logit), several columns too   scale, eps .001, ridge .01
``quadratic``          sigmoid(b + w1 z + w2 z^2)                  scale, eps .001, ridge .01
``isotonic``           rising, shrunk off 0 and 1                  scale, strength 1
``levels``             each level's own rate, shrunk               scale
``mixture``            the weighted mean of several of these       scale, eps .001
``auto``               that, weighed on unseen groups, or raw      scale, eps, folds 5, seed 0
``class_temperature``  softmax(logits / T), several classes
=====================  ==========================================  ==========================

Setting ``scale`` says what the scores are, "probability" (in [0, 1], the default) or "real"; it is
never guessed. Which one: up to about 2,000 labels ``quadratic`` or ``platt``, above that
``isotonic``, for stated confidences ``levels``; ``auto`` mixes them. All but ``class_temperature``
are binary. To add one: one file with a ``Calibrator``, one entry in ``CALIBRATORS``; the contract
test then holds it to the promises of ``Calibrates``. It does not know: which signal a score came
from, what the probability is about, or on which samples it was fitted (profiles keep that).
"""

from __future__ import annotations

from typing import Any, Protocol, Self

from poise.calibrators.auto import Auto, Considered
from poise.calibrators.calibrator import Calibrator, read_state
from poise.calibrators.class_temperature import ClassTemperature
from poise.calibrators.constant import Constant
from poise.calibrators.identity import Identity
from poise.calibrators.isotonic import Isotonic
from poise.calibrators.levels import Levels
from poise.calibrators.mixture import Mixture
from poise.calibrators.platt import Platt
from poise.calibrators.quadratic import Quadratic
from poise.calibrators.rows import FloatArray, Scale
from poise.calibrators.temperature import Temperature

__all__ = [
    "CALIBRATORS",
    "Auto",
    "Calibrates",
    "Calibrator",
    "ClassTemperature",
    "Considered",
    "Constant",
    "FloatArray",
    "Identity",
    "Isotonic",
    "Levels",
    "Mixture",
    "Platt",
    "Quadratic",
    "Scale",
    "Temperature",
    "from_state",
    "to_state",
]


class Calibrates(Protocol):
    """A map from scores to P(right), by scikit-learn's rules.

    The constructor keeps its settings and does nothing else; what ``fit`` learns ends in ``_``;
    ``sklearn.base.clone`` gives an unfitted copy.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Learns from ``X`` (m, d) or (m,) scores, ``y`` (m,) shares of right answers in [0, 1].

        ``sample_weight`` (m,) >= 0: trials behind each share. Weight k is k equal rows, weight 0 is
        no row, and a share is as many rows of 1 and 0. Raises UsageError, naming the argument and
        how many rows are at fault, for values outside the declared scale, NaN, negative weights,
        lengths that differ and fewer than 3 rows; RefusedError where the data cannot carry the fit.
        """

    def predict_proba(self, X: Any) -> FloatArray:  # noqa: N803
        """P(wrong), P(right), (m, 2), each in [0, 1], each row summing to 1. Raises UsageError."""


CALIBRATORS: dict[str, type[Calibrator]] = {
    kind.name: kind
    for kind in (
        *(Constant, Identity, Temperature, Platt, Quadratic, Isotonic, Levels),
        *(Mixture, Auto, ClassTemperature),
    )
}
"""Calibrators by the name under which profiles, commands and configuration know them."""


def to_state(calibrator: Calibrator) -> dict[str, Any]:
    """A fitted calibrator as JSON-ready numbers.

    ``{"calibrator": name, "schema": 1, "settings": {…}, "params": {…}, "n": rows}``. Raises
    UsageError where it is not fitted.
    """
    return calibrator.state()


def from_state(state: Any) -> Calibrator:
    """The calibrator ``to_state`` described, predicting to the last bit as it did.

    ``state`` may come from a file: raises InputError for an unknown name, a newer schema, missing
    or unknown keys, and numbers that are not finite, out of range or too many or few.
    """
    return read_state(state, CALIBRATORS)
