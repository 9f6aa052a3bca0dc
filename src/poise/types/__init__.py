"""The nouns that flow through Poise, as frozen values.

``questions``  ``Kind`` · ``Message`` · ``Question`` · ``Prompt``
``calls``      ``Request`` · ``TokenLogprobs`` · ``Reply`` · ``Batch`` · ``Capabilities`` · ``Arm``;
               what a back-end must offer: ``Backend``, ``Meter``, and may: ``Relay``
``samples``    ``Sample`` · ``FollowUp`` · ``State`` · ``Draw``, ``Stop`` (what a stop rule decides)
``result``     ``Result``

``Usage``, ``Spend``, ``Price`` and ``Limits`` come from ``spend``. No noun here carries a label:
gold answers and outcomes live in arrays of their own (``grading``, ``pools.Labelled``), so that
nothing on the serving path can see them.
"""

from __future__ import annotations

from poise.spend import Limits, Price, Spend, Usage
from poise.types.calls import (
    Arm,
    Backend,
    Batch,
    Capabilities,
    Meter,
    Relay,
    Reply,
    Request,
    TokenLogprobs,
)
from poise.types.questions import Kind, Message, Prompt, Question
from poise.types.result import Result
from poise.types.samples import Draw, FollowUp, Sample, State, Stop, StopReason

__all__ = [
    "Arm",
    "Backend",
    "Batch",
    "Capabilities",
    "Draw",
    "FollowUp",
    "Kind",
    "Limits",
    "Message",
    "Meter",
    "Price",
    "Prompt",
    "Question",
    "Relay",
    "Reply",
    "Request",
    "Result",
    "Sample",
    "Spend",
    "State",
    "Stop",
    "StopReason",
    "TokenLogprobs",
    "Usage",
]
