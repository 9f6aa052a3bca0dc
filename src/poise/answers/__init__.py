"""From a reply's text to a canonical answer: one kind a file, and the same-answer relation.

::

    reading.py   Reading and AnswerKind: the contract       number.py   text.py   yesno.py
    markers.py   where in a reply the answer stands         choice.py   json.py   math.py
    clusters.py  same-answer clusters in dispatch order     equivalence.py  the maths process
    infer.py     the kind of a question that names none

To add a kind: a file with an ``AnswerKind``, its member in ``types.Kind``, its line in ``KINDS``.

It does not know: gold answers (``grading`` does) or models.
"""

from __future__ import annotations

from poise.answers.choice import Choice
from poise.answers.json import Json
from poise.answers.math import Maths
from poise.answers.number import Number
from poise.answers.reading import AnswerKind, Reading
from poise.answers.text import Text
from poise.answers.yesno import YesNo
from poise.types import Kind, Reply

__all__ = ["KINDS", "AnswerKind", "Reading", "read"]

KINDS: dict[Kind, AnswerKind] = {
    Kind.NUMBER: Number(),
    Kind.MATH: Maths(),
    Kind.CHOICE: Choice(),
    Kind.YESNO: YesNo(),
    Kind.TEXT: Text(),
    Kind.JSON: Json(),
}
"""Every answer kind by its name."""


def read(reply: Reply, kind: Kind, options: tuple[str, ...] | None = None) -> Reading:
    """The canonical answer of ``kind`` in ``reply``, or the reason why there is none.

    A reply from a stored pool (``reply.answered``) keeps the answer that was stored. ``options``
    are the texts of a choice, first option = A.
    """
    if not reply.answered:
        return KINDS[kind].read(reply, options)
    if reply.answer is None:
        return Reading(None, "stored as unreadable")
    return Reading(reply.answer, None)
