"""What the rows of a batch share is computed once: its keys and values, copied to every row.

On a processor a group's replies to one question cost mostly its prompt, and asking about them half
of it. It does not know what the rows are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poise.train.rows import padded

__all__ = ["behind", "filled_cache", "following"]


def behind(model: Any, rows: Sequence[tuple[int, ...]], fill: int, device: torch.device) -> Tensor:
    """Logits (m, V) behind the last token of each of m rows, at least one token each.

    The tokens with which all rows start are computed once; ``fill``: any token, for it is hidden.
    """
    # One token of every row stays, for its logits.
    pairs = zip(min(rows), max(rows), strict=False)  # no row is further from another than these
    alike = next((at for at, (one, other) in enumerate(pairs) if one != other), len(min(rows)))
    shared = min(alike, min(map(len, rows)) - 1)
    rest = padded((row[shared:] for row in rows), fill)
    ids, shown = (torch.tensor(part, device=device) for part in (rest.ids, rest.mask))
    cache = None
    if shared:
        start = torch.tensor([rows[0][:shared]], device=device).expand(len(rows), -1)
        cache, _ = filled_cache(model, start, torch.ones_like(start))
    whole = torch.cat([shown.new_ones(len(rows), shared), shown], dim=1)
    logits: Tensor = model(
        input_ids=ids,
        attention_mask=whole,
        position_ids=_places(whole)[:, shared:],
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=1,
    ).logits
    return logits[:, -1]


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
