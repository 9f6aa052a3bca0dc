"""Fresh short replies of a model in memory, and how many of them are right.

Greedy, or drawn with the decoding of the arm as the back-end draws; many conversations in one
batch. It does not know training; a long or metered draw is the back-end's work.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from poise.answers import read
from poise.backends import checkpoint
from poise.backends.drawing import Decoding
from poise.errors import InputError
from poise.grading import grade
from poise.pools import Labelled
from poise.rewards import READERS
from poise.train.batches import IGNORED, fill_token, response_logits
from poise.train.model import Loaded
from poise.train.rows import end_of_turn, padded, render
from poise.types import Message, Prompt, Reply, TokenLogprobs

__all__ = ["Accuracy", "accuracy", "answerable", "ends_of", "replies"]

DRAWN = ("temperature", "edt", "top_k", "top_p", "min_p")
"""The keys of a decoding that apply to a draw here."""

MAX_TOKENS = 24

PLACES = 512
"""Tokens whose log-probabilities are read at once: each needs the logits of the vocabulary."""


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
    logprobs: bool = False,
) -> list[list[Reply]]:
    """``draws`` replies to each conversation, in order; one where decoding is greedy.

    ``decoding``: ``temperature`` 0 or absent without ``edt`` is greedy; ``top_k``, ``top_p``,
    ``min_p`` and ``max_tokens`` count, other keys do not. ``logprobs``: with the log-probability of
    each token said, the model's own before temperature and truncation, read in a second pass. The
    same seed and batch give the same replies; the global random state is left as it was. Raises
    Rejected for a decoding that the back-end refuses.
    """
    tokenizer = loaded.tokenizer
    how = _drawing(decoding)
    draws = 1 if how is None else draws
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
                limit = int(decoding.get("max_tokens", MAX_TOKENS))
                asked = [rows[place] for place in part]
                made = _generate(loaded, asked, how, draws, limit, logprobs=logprobs)
                for number, place in enumerate(part):
                    found[place] = made[number * draws : (number + 1) * draws]
    finally:
        loaded.model.train(was)
    return found


def _drawing(decoding: Mapping[str, Any]) -> Decoding | None:
    """How the next token is drawn; None: greedily."""
    stated = {name: decoding[name] for name in DRAWN if name in decoding}
    drawn = Decoding.read({"temperature": 0.0, **stated} if "edt" not in stated else stated)
    return None if drawn.edt is None and drawn.temperature == 0 else drawn


class _Draw:
    """Draws as the back-end does: of all logits only the drawn token's is left."""

    def __init__(self, how: Decoding):
        self._how = how

    def __call__(self, _ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        numbers = torch.rand(len(logits), dtype=torch.float64, device=logits.device)
        drawn = self._how.draw(logits.float(), numbers)
        return torch.full_like(logits, -torch.inf).scatter(1, drawn[:, None], 0.0)


def _generate(
    loaded: Loaded,
    rows: Sequence[Sequence[int]],
    how: Decoding | None,
    draws: int,
    limit: int,
    *,
    logprobs: bool,
) -> list[Reply]:
    """``draws`` replies of at most ``limit`` tokens behind each row, row by row."""
    import transformers  # noqa: PLC0415 - heavy to load

    tokenizer = loaded.tokenizer
    fill = fill_token(tokenizer)
    filled = padded(rows, fill)
    ids = torch.tensor(filled.ids, device=loaded.device)
    ends = ends_of(tokenizer)
    config = transformers.GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=limit,
        num_return_sequences=1,
        pad_token_id=fill,
        eos_token_id=ends or None,
        do_sample=False,
    )
    drawing = [] if how is None else [_Draw(how)]
    mask = torch.tensor(filled.mask, device=loaded.device)
    with _without_habits(loaded.model):
        made = loaded.model.generate(
            input_ids=ids.repeat_interleave(draws, dim=0),
            attention_mask=mask.repeat_interleave(draws, 0),
            generation_config=config,
            logits_processor=transformers.LogitsProcessorList(drawing),
        )
    said = [_until(row, set(ends)) for row in made[:, ids.shape[1] :].tolist()]
    chosen: list[tuple[float, ...] | None] = [None] * len(said)
    if logprobs:
        before = [row for row in rows for _ in range(draws)]
        chosen = list(_chosen(loaded, before, [one for one, _ in said]))
    return [
        Reply(
            tokenizer.decode(one, skip_special_tokens=True),
            finish="stop" if ended else "length",
            tokens=len(one) + ended,
            logprobs=None if logs is None else TokenLogprobs(_pieces(tokenizer, one), logs),
        )
        for (one, ended), logs in zip(said, chosen, strict=True)
    ]


@contextlib.contextmanager
def _without_habits(model: Any) -> Iterator[None]:
    """Meanwhile nothing is generated by what the model's own folder asks for.

    Its generation settings (a repetition penalty, beams) would fill in what a call leaves open,
    and the back-end, with which the pools are drawn, does not know them.
    """
    import transformers  # noqa: PLC0415 - heavy to load

    base = model.get_base_model() if hasattr(model, "peft_config") else model
    own = base.generation_config
    base.generation_config = transformers.GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        base.generation_config = own


def ends_of(tokenizer: Any) -> list[int]:
    """The tokens that end a reply, ascending: the template's end of turn and the tokenizer's."""
    last = tokenizer.eos_token_id
    return sorted({*end_of_turn(tokenizer)[-1:], *(() if last is None else (int(last),))})


def _until(ids: Sequence[int], ends: set[int]) -> tuple[list[int], bool]:
    """What was said, without its end, and whether it had one."""
    stop = next((place for place, token in enumerate(ids) if token in ends), None)
    return list(ids[:stop]), stop is not None


def _pieces(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """Each token's part of the reply's text, which shows no special token."""
    special = set(tokenizer.all_special_ids)
    shown = iter(checkpoint.pieces(tokenizer, [one for one in ids if one not in special]))
    return tuple("" if one in special else next(shown) for one in ids)


def _chosen(
    loaded: Loaded, before: Sequence[Sequence[int]], said: Sequence[Sequence[int]]
) -> list[tuple[float, ...]]:
    """The log-probability of each token of ``said`` behind ``before``, row by row."""
    found: list[tuple[float, ...]] = [()] * len(said)
    order = sorted((place for place, ids in enumerate(said) if ids), key=lambda at: len(said[at]))
    fill = fill_token(loaded.tokenizer)
    while order:
        longest = len(said[order[-1]])
        size = max(1, PLACES // longest)
        part, order = order[-size:], order[:-size]
        filled = padded(([*before[place], *said[place]] for place in part), fill)
        labels = [[IGNORED] * (longest - len(said[place])) + list(said[place]) for place in part]
        wanted = torch.tensor(labels, device=loaded.device)
        ids, mask = (torch.tensor(each, device=loaded.device) for each in (filled.ids, filled.mask))
        logits = response_logits(loaded.model, ids, mask, wanted).float()
        logs = logits.log_softmax(dim=-1).gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
        for place, row in zip(part, logs.tolist(), strict=True):
            found[place] = tuple(row[longest - len(said[place]) :])
    return found


def answerable(pools: Sequence[Labelled]) -> list[Labelled]:
    """One pool a question, of those that have their text, a gold answer and a kind."""
    known: dict[tuple[str, str], Labelled] = {}
    for one in pools:
        if one.pool.question is not None and one.gold is not None and one.pool.kind is not None:
            known.setdefault(one.pool.group, one)
    return list(known.values())


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
    known = answerable(pools)
    talks = [prompt.messages(one.pool.question) for one in known if one.pool.question]
    made = replies(loaded, talks, decoding, draws=draws, seed=seed, batch=batch)
    right, unreadable = [], 0
    for one, said in zip(known, made, strict=True):
        grades = [_right(one, reply) for reply in said]
        unreadable += grades.count(None)
        right.append(math.fsum(each or 0 for each in grades) / len(grades))
    return Accuracy(tuple(right), len(made[0]) if made else 0, unreadable)


def _right(one: Labelled, reply: Reply) -> int | None:
    pool = one.pool
    if pool.kind is None or one.gold is None:
        raise InputError(f"question {pool.question_id} has no kind or no gold answer")
    # A stated confidence is no part of the answer, whoever asked for it.
    before = replace(reply, text=READERS["digit"](reply.text or "").answer)
    answer = read(before, pool.kind, pool.options).answer
    return grade(answer, one.gold, pool.kind, pool.options).correct
