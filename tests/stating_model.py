"""A tiny model that answers 1, 2 or 3 and states a confidence behind it, any digit alike."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import tiny_model
import training_pools
from poise.types import Prompt

WORDS = (*tiny_model.WORDS, "Confidence", "ĠIt", "End", "Ġwith")


def save(folder: Path, *, steps: int = 60, seed: int = 0) -> Path:
    """Write the model as a folder: it ends nearly every reply in the form."""
    import torch

    from poise.train.batches import IGNORED, fill_token, response_logits
    from poise.train.model import load
    from poise.train.rows import end_of_turn, padded, render
    from poise.train.stating import line_of, stating

    loaded = load(tiny_model.save_folder(folder, words=WORDS), device="cpu")
    tokenizer: Any = loaded.tokenizer
    prompt, line, rng = stating(Prompt()), line_of(tokenizer), random.Random(seed)
    asked = [
        tokenizer(render(tokenizer, prompt.messages(one.pool.question)))["input_ids"]
        for one in training_pools.pools(16)
        if one.pool.question is not None
    ]
    taught = torch.optim.Adam(loaded.model.parameters(), lr=0.01)
    for _ in range(steps):
        said = [
            [
                *tokenizer(rng.choice("123"))["input_ids"],
                *line.states(rng.random()),
                *end_of_turn(tokenizer),
            ]
            for _ in asked
        ]
        filled = padded([[*a, *b] for a, b in zip(asked, said, strict=True)], fill_token(tokenizer))
        labels = torch.tensor(said)
        logits = response_logits(
            loaded.model, torch.tensor(filled.ids), torch.tensor(filled.mask), labels
        )
        loss = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORED
        )
        taught.zero_grad()
        loss.backward()
        taught.step()
    loaded.model.save_pretrained(folder)
    return folder
