"""Fresh short replies of a model in memory, and how many of them are right.

Greedy, or drawn with the decoding of the arm; many conversations in one batch. It does not know
training; a long or metered draw is the back-end's work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from poise.answers import read
from poise.errors import InputError
from poise.grading import grade
from poise.pools import Labelled
from poise.train.batches import fill_token
from poise.train.model import Loaded
from poise.train.rows import end_of_turn, padded, render
from poise.types import Message, Prompt, Reply

__all__ = ["Accuracy", "accuracy", "replies"]

DRAWN = ("temperature", "top_k", "top_p", "min_p")
"""The keys of a decoding that apply to a draw here."""

MAX_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of fresh replies to graded questions: ``right`` (q,) each question's share of right draws.

    An unreadable reply is not right; ``unreadable`` counts them, ``draws`` a question.
    """

    right: tuple[float, ...]
    draws: int
    unreadable: int

    @property
    def mean(self) -> float | None:
        """The accuracy, None without questions."""
        return math.fsum(self.right) / len(self.right) if self.right else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the standard error between questions."""
        n, mean = len(self.right), self.mean
        spread = None
        if mean is not None and n > 1:
            spread = math.sqrt(math.fsum((r - mean) ** 2 for r in self.right) / (n - 1) / n)
        return {
            "questions": n,
            "draws": self.draws,
            "unreadable": self.unreadable,
            "accuracy": mean,
            "standard_error": spread,
        }


def replies(
    loaded: Loaded,
    conversations: Sequence[Sequence[Message]],
    decoding: Mapping[str, Any],
    *,
    draws: int = 1,
    seed: int = 0,
    batch: int = 16,
) -> list[list[Reply]]:
    """``draws`` replies to each conversation, in order; one where decoding is greedy.

    ``decoding``: ``temperature`` 0 or absent is greedy; ``top_k``, ``top_p``, ``min_p`` and
    ``max_tokens`` count, other keys do not. The same seed and batch give the same replies; the
    global random state is left as it was.
    """
    tokenizer = loaded.tokenizer
    draws = draws if decoding.get("temperature") else 1
    rows = [
        tokenizer(render(tokenizer, talk), add_special_tokens=False)["input_ids"]
        for talk in conversations
    ]
    order = sorted(range(len(rows)), key=lambda place: (len(rows[place]), place))
    found: list[list[Reply]] = [[] for _ in rows]
    was = loaded.model.training
    loaded.model.eval()
    try:
        devices = [loaded.device] if loaded.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.inference_mode():
            torch.manual_seed(seed)
            for start in range(0, len(order), batch):
                part = order[start : start + batch]
                made = _generate(loaded, [rows[place] for place in part], decoding, draws)
                for number, place in enumerate(part):
                    found[place] = made[number * draws : (number + 1) * draws]
    finally:
        loaded.model.train(was)
    return found


def _generate(
    loaded: Loaded, rows: Sequence[Sequence[int]], decoding: Mapping[str, Any], draws: int
) -> list[Reply]:
    from transformers import GenerationConfig  # noqa: PLC0415 - heavy to load

    tokenizer = loaded.tokenizer
    fill = fill_token(tokenizer)
    filled = padded(rows, fill)
    ids = torch.tensor(filled.ids, device=loaded.device)
    drawn: dict[str, Any] = {"do_sample": False}
    if decoding.get("temperature"):
        drawn = {"do_sample": True, "top_k": 0} | {k: decoding[k] for k in DRAWN if k in decoding}
    ends = sorted({*end_of_turn(tokenizer)[-1:], *_ids(tokenizer.eos_token_id)})
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=int(decoding.get("max_tokens", MAX_TOKENS)),
        num_return_sequences=draws,
        pad_token_id=fill,
        eos_token_id=ends or None,
        **drawn,
    )
    made = loaded.model.generate(
        input_ids=ids,
        attention_mask=torch.tensor(filled.mask, device=loaded.device),
        generation_config=config,
    )
    return [_reply(tokenizer, row, set(ends)) for row in made[:, ids.shape[1] :].tolist()]


def _ids(token: int | None) -> tuple[int, ...]:
    return () if token is None else (int(token),)


def _reply(tokenizer: Any, ids: Sequence[int], ends: set[int]) -> Reply:
    stop = next((place for place, token in enumerate(ids) if token in ends), None)
    text = tokenizer.decode(ids[:stop], skip_special_tokens=True)
    return Reply(text, finish="length" if stop is None else "stop")


def accuracy(
    loaded: Loaded,
    pools: Sequence[Labelled],
    prompt: Prompt,
    decoding: Mapping[str, Any],
    *,
    draws: int = 1,
    seed: int = 0,
    batch: int = 16,
) -> Accuracy:
    """How often fresh replies to the pools' questions are right, one pool a question.

    Pools without text, gold answer or kind are left out. Raises InputError for gold answers that
    cannot be read.
    """
    known: dict[tuple[str, str], Labelled] = {}
    for one in pools:
        if one.pool.question is not None and one.gold is not None and one.pool.kind is not None:
            known.setdefault(one.pool.group, one)
    talks = [prompt.messages(one.pool.question) for one in known.values() if one.pool.question]
    made = replies(loaded, talks, decoding, draws=draws, seed=seed, batch=batch)
    right, unreadable = [], 0
    for one, said in zip(known.values(), made, strict=True):
        grades = [_right(one, reply) for reply in said]
        unreadable += grades.count(None)
        right.append(math.fsum(each or 0 for each in grades) / len(grades))
    return Accuracy(tuple(right), len(made[0]) if made else 0, unreadable)


def _right(one: Labelled, reply: Reply) -> int | None:
    pool = one.pool
    if pool.kind is None or one.gold is None:
        raise InputError(f"question {pool.question_id} has no kind or no gold answer")
    answer = read(reply, pool.kind, pool.options).answer
    return grade(answer, one.gold, pool.kind, pool.options).correct
