"""What a profile's file holds, checked before anything is made of it.

Maps, tests and segmenters check their own state; here are the fields around them. It does not know
what the values mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poise.errors import InputError
from poise.shapes import anything, each, listed, number, optional, record, share, text, whole

__all__ = ["check_content"]

CONSIDERED = record(
    {"what": text},
    may={"reason": optional(text)}
    | {
        f"{name}{of}": optional(number)
        for name in ("log_loss", "brier", "gain")
        for of in ("", "_se")
    },
)
RULE = record({"name": text, "params": each(anything)})
HELD_OUT = record(
    {
        "right": listed(share, least=1),
        "stated": listed(share),
        "question": listed(whole),
        "segment": optional(listed(optional(text))),
        "raw": optional(record({"name": text, "values": listed(number)})),
        "baselines": each(listed(share)),
    }
)
CONTENT = record(
    {
        **dict.fromkeys(("id", "note", "created"), text),
        "version": whole,
        "parent": optional(text),
        "arm": each(anything),
        "domain": record(
            {
                "kind": text,
                "datasets": listed(text),
                "test": anything,
                "detection": each(share),
            }
        ),
        "signals": listed(record({"name": text}), least=1),
        "maps": listed(anything, least=1),
        "policy": record(
            {"stop": RULE, "exit": RULE},
        ),
        **dict.fromkeys(("capability", "segments"), anything),
        "certificate": optional(each(anything)),
        "data": record(
            {"fingerprint": text, "questions": whole, "samples": whole},
            may={"without_probability": whole},
        ),
        "held_out": each(anything),
        "considered": listed(CONSIDERED),
    }
)


def check_content(body: Mapping[str, Any]) -> None:
    """Raise InputError for a field that is missing or of another type than it was written with."""
    CONTENT("the profile", body)
    kept = body["held_out"]
    if not kept:  # no rows were kept
        return
    HELD_OUT("held_out", kept)
    columns = {"stated": kept["stated"], "question": kept["question"], **kept["baselines"]}
    if kept["segment"] is not None:
        columns["segment"] = kept["segment"]
    if kept["raw"] is not None:
        columns["raw"] = kept["raw"]["values"]
    rows = len(kept["right"])
    for name, values in columns.items():
        if len(values) != rows:
            raise InputError(f"held_out.{name} has {len(values)} rows, and right has {rows}")
