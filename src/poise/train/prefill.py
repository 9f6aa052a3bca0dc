"""Equal prompts of a batch are computed once: their keys and values, copied to every row.

On a processor a group's replies to one question cost mostly its prompt. It does not know what the
replies are for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["filled_cache", "following"]


def filled_cache(model: Any, ids: Tensor, mask: Tensor) -> tuple[Any, Tensor]:
    """What the model keeps of prompts (m, P), filled on the left, and the logits behind each.

    The cache has m rows, the logits are (m, V); gradients flow through both, from all copies of a
    prompt into the one that was computed.
    """
    distinct, of = torch.unique(torch.cat([ids, mask], dim=1), dim=0, return_inverse=True)
    once, kept = distinct.chunk(2, dim=1)
    made = model(
        input_ids=once,
        attention_mask=kept,
        position_ids=_places(kept),
        logits_to_keep=1,
        use_cache=True,
    )
    cache = made.past_key_values
    cache.batch_select_indices(of)
    return cache, made.logits[of, -1]


def following(model: Any, prompt: tuple[Tensor, Tensor], said: tuple[Tensor, Tensor]) -> Tensor:
    """Logits (m, T, V), where place t predicts the reply's token t.

    ``prompt`` ids and mask (m, P), filled on the left; ``said`` ids and mask (m, T), on the right.
    """
    (ids, mask), (reply, shown) = prompt, said
    cache, first = filled_cache(model, ids, mask)
    if reply.shape[1] == 1:
        return first[:, None]
    whole = torch.cat([mask, shown[:, :-1]], dim=1)
    rest: Tensor = model(
        input_ids=reply[:, :-1],
        attention_mask=whole,
        position_ids=_places(whole)[:, mask.shape[1] :],
        past_key_values=cache,
        use_cache=True,
    ).logits
    return torch.cat([first[:, None], rest], dim=1)


def _places(mask: Tensor) -> Tensor:
    return (mask.cumsum(dim=-1) - 1).clamp(min=0)
