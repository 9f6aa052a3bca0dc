"""Token rows -> tensors -> logits: padding, attention masks and the two forward passes of training.

Rows are filled on the left, so that the places that matter are the last ones and only their logits
are computed; the mask and the positions leave the filling without effect. It does not know losses,
targets or metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from poise.train.rows import ResponseRow, padded

__all__ = ["IGNORED", "Item", "collate", "fill_token", "last_logits", "response_logits"]

IGNORED = -100
"""The label of a place that carries no loss."""


@dataclass(frozen=True, slots=True)
class Item:
    """One training row: the confidence question, what it should state, the response to keep.

    ``target`` in [0, 1]; ``response`` None: no generation loss on this row.
    """

    confidence: tuple[int, ...]
    target: float
    response: ResponseRow | None


def fill_token(tokenizer: Any) -> int:
    """The token to fill rows with; any will do, for the mask hides it."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def collate(items: Sequence[Item], fill: int) -> dict[str, Tensor]:
    """A batch of m items, g of which have a response.

    ``ids`` and ``mask`` (m, L), ``target`` (m,); with g > 0 also ``response_ids`` and
    ``response_mask`` (g, R), and ``labels`` (g, T): the last T places, T the longest response, with
    ``IGNORED`` before each row's own and where a row skips one.
    """
    asked = padded((item.confidence for item in items), fill)
    batch = {
        "ids": torch.tensor(asked.ids),
        "mask": torch.tensor(asked.mask),
        "target": torch.tensor([item.target for item in items], dtype=torch.float32),
    }
    said = [item.response for item in items if item.response is not None]
    if said:
        rows = padded((row.ids for row in said), fill)
        longest = max(row.response for row in said)
        batch["response_ids"] = torch.tensor(rows.ids)
        batch["response_mask"] = torch.tensor(rows.mask)
        batch["labels"] = torch.tensor([_labels(row, longest) for row in said])
    return batch


def _labels(row: ResponseRow, longest: int) -> list[int]:
    labels = [IGNORED] * (longest - row.response) + list(row.ids[-row.response :])
    if row.skipped is not None:
        labels[-row.skipped] = IGNORED
    return labels


def last_logits(
    model: Any, ids: Tensor, mask: Tensor, places: int = 1, *, mixed: bool = False
) -> Tensor:
    """Logits (m, places, V) at the last ``places`` places of rows filled on the left.

    ``mixed``: products of matrices in bfloat16, whatever the weights are kept in.
    """
    # Nothing is cached: the copy of a trained weight would be the one before the last step's.
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=mixed, cache_enabled=False):
        logits: Tensor = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=-1) - 1).clamp(min=0),
            logits_to_keep=places,
            use_cache=False,
        ).logits
    return logits[:, -places:]


def response_logits(
    model: Any, ids: Tensor, mask: Tensor, labels: Tensor, *, mixed: bool = False
) -> Tensor:
    """Logits (g, T, V), where place t predicts ``labels`` (g, T) at place t."""
    # One place more than labels: the token before a response predicts its first token.
    return last_logits(model, ids, mask, labels.shape[1] + 1, mixed=mixed)[:, :-1]
