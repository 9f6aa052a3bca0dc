"""Pools with texts to train on, and a tiny model that says Yes or No when it is asked."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tiny_model
from poise.pools import Labelled, pool_from_record, pool_record

DECODING = {"temperature": 0.8, "max_tokens": 4}


def pool(
    name: str,
    answers: Sequence[str | None],
    *,
    gold: str | None = "1",
    p_true: Sequence[float | None] | None = None,
    texts: Sequence[str] | None = None,
    **more: Any,
) -> Labelled:
    """One question's samples; ``p_true`` is stored as the signal p_true_own."""
    samples: list[dict[str, Any]] = []
    for place, answer in enumerate(answers):
        text = f"It is {answer}." if texts is None else texts[place]
        sample: dict[str, Any] = {"answer": answer, "text": text, "finish": "stop"}
        if gold is not None:
            sample["correct"] = int(answer == gold)
        if p_true is not None:
            sample["signals"] = {"p_true_own": p_true[place]}
        samples.append(sample)
    record: dict[str, Any] = {
        "dataset": "d",
        "model": "m",
        "decoding": DECODING,
        "question_id": name,
        "question": f"What is {name}?",
        "kind": "number",
        "samples": samples,
    }
    if gold is not None:
        record["gold"] = gold
    return pool_from_record({**record, **more})


def pools(n: int, samples: int = 4, *, seed: int = 0, **more: Any) -> list[Labelled]:
    """``n`` questions q0 … of random answers 1, 2 or 3, right with chance growing from 0 to 1."""
    rng = random.Random(seed)
    found = []
    for place in range(n):
        right = place / max(1, n - 1)
        drawn = ["1" if rng.random() < right else rng.choice("23") for _ in range(samples)]
        texts = [f"{rng.randrange(100)} so {answer}" for answer in drawn]
        found.append(pool(f"q{place}", drawn, texts=texts, **more))
    return found


def records(given: Sequence[Labelled]) -> list[Mapping[str, Any]]:
    return [pool_record(one) for one in given]


def willing(folder: Path, *, steps: int = 25) -> Path:
    """A tiny model in ``folder`` that gives Yes and No nearly all probability when asked."""
    import torch

    from poise.train.batches import collate, fill_token, last_logits
    from poise.train.losses import shares
    from poise.train.model import load
    from poise.train.recipe import Recipe, prepare
    from poise.types import Prompt

    loaded = load(tiny_model.save_folder(folder))
    items = prepare(loaded, pools(8), Prompt(), Recipe()).items
    batch = collate(items[:12], fill_token(loaded.tokenizer))
    taught = torch.optim.Adam(loaded.model.parameters(), lr=0.02)
    for _ in range(steps):
        logits = last_logits(loaded.model, batch["ids"], batch["mask"])[:, -1]
        share, mass = shares(logits, (loaded.yes, loaded.no))
        loss = -(mass.log() + 0.2 * share.log().mean(dim=-1)).mean()
        taught.zero_grad()
        loss.backward()
        taught.step()
    loaded.model.save_pretrained(folder)
    return folder
