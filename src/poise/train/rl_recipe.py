"""What is reinforced, on which questions and from which model; what is measured, how it is drawn.

It does not know trainers' loops, folders of runs or reports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from poise.backends.checkpoint import find_adapter
from poise.errors import InputError, UsageError
from poise.pools import Labelled
from poise.train import lineage, rl, sft
from poise.train.episodes import rows_of
from poise.train.model import Loaded, open_adapter, with_adapter
from poise.train.recipe import Data
from poise.train.recipe import Recipe as Parting
from poise.train.recipe import data as parted
from poise.train.replies import answerable
from poise.train.rows import render
from poise.train.stating import STATED, line_of, longer
from poise.types import Prompt

__all__ = [
    "Recipe",
    "data",
    "decoding_of",
    "episodes",
    "prompt_tokens",
    "row_tokens",
    "settings_of",
    "started",
]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to reinforce from which share of the pools; ``settings`` say how.

    ``adapter``: the folder of the adapter to start from, or of the run that wrote it; None: a new
    one. ``reply_tokens``: most tokens of a reply before its statement, None: as the pools were
    drawn. ``limit``, ``held_out``, ``questions``, ``segments`` as in ``recipe.Recipe``. ``draws``:
    fresh replies to each question that is measured; ``answer_above``: the threshold of the report's
    abstention, in [0, 1).
    """

    adapter: Path | None = None
    reply_tokens: int | None = None
    limit: int | None = None
    held_out: float = 0.2
    questions: int = 40
    segments: tuple[str, ...] = ()
    draws: int = 4
    answer_above: float = 0.5
    rank: int = 32
    alpha: float = 16
    settings: rl.Settings = field(default_factory=rl.Settings)

    def __post_init__(self) -> None:
        if self.draws < 1 or (self.reply_tokens is not None and self.reply_tokens < 1):
            raise UsageError(
                f"draws={self.draws}, reply_tokens={self.reply_tokens}: must be at least 1"
            )

    @property
    def start(self) -> Path | None:
        """The folder that holds the adapter's own files."""
        if self.adapter is None:
            return None
        inner = self.adapter / "adapter"
        return inner if inner.is_dir() else self.adapter


def data(
    pools: Sequence[Labelled],
    others: Mapping[str, Sequence[Labelled]],
    recipe: Recipe,
    prompt: Prompt,
) -> Data:
    """Part the pools by question, as for any training; ``prompt`` is the arm's.

    Raises InputError for questions to train on without gold, kind or text, for gold answers that
    cannot be read, for sets of which none can be graded, for measured questions that the adapter
    has seen, and where there is no adapter; UsageError for pools that do not say how long a reply
    may be, where the recipe does not either; else as ``recipe.data``.
    """
    if recipe.start is not None:
        find_adapter(recipe.start)
    parting = Parting(
        wording=STATED,
        limit=recipe.limit,
        held_out=recipe.held_out,
        questions=recipe.questions,
        segments=recipe.segments,
        in_use=0,
        answer_above=recipe.answer_above,
        settings=sft.Settings(seed=recipe.settings.seed),
    )
    made = parted(pools, others, parting, prompt)
    rows_of(made.train, made.prompt, 0, 0)  # says what is wrong with a question
    seen = None if recipe.start is None else lineage.seen(recipe.start)
    for name, them in made.held_out.items():
        if not answerable(them):
            raise InputError(f"{name}: no question has text, gold answer and kind to measure on")
        rows_of(answerable(them), made.prompt, 0, 0)
        _reply_tokens(them, recipe)
        twice = [one.pool.question_id for one in them if lineage.asked(one) in (seen or ())]
        if twice:
            raise InputError(
                f"{name}: the adapter was trained on {len(twice)} of its questions, {twice[0]}"
                " first; use the --seed and --held-out that it was trained with"
            )
    _reply_tokens(made.train, recipe)
    return made


def started(loaded: Loaded, recipe: Recipe) -> Loaded:
    """The model with the adapter that it starts from, trainable."""
    if recipe.start is not None:
        return open_adapter(loaded, recipe.start, trainable=True)
    seed = recipe.settings.seed
    return with_adapter(loaded, rank=recipe.rank, alpha=recipe.alpha, dropout=0.0, seed=seed)


def _reply_tokens(pools: Sequence[Labelled], recipe: Recipe) -> int:
    if recipe.reply_tokens is not None:
        return recipe.reply_tokens
    found = [(one.pool.decoding or {}).get("max_tokens") for one in pools]
    if not all(found):
        raise UsageError("the pools do not say how long a reply may be: --reply-tokens N")
    return max(int(tokens) for tokens in found if tokens)


def settings_of(loaded: Loaded, given: Data, recipe: Recipe) -> rl.Settings:
    """The settings with a reply's length as this tokenizer counts the statement."""
    tokens = {"max_tokens": _reply_tokens(given.train, recipe)}
    longest = longer(tokens, line_of(loaded.tokenizer))["max_tokens"]
    return replace(recipe.settings, tokens=longest)


def decoding_of(loaded: Loaded, pools: Sequence[Labelled], recipe: Recipe) -> dict[str, Any]:
    """As the pools were drawn, with room for the statement."""
    tokens = {"max_tokens": _reply_tokens(pools, recipe)}
    return longer({**(pools[0].pool.decoding or {}), **tokens}, line_of(loaded.tokenizer))


def row_tokens(loaded: Loaded, settings: rl.Settings, prompt: int) -> int:
    """Tokens that a reply's loss is computed on, its share of a prompt of ``prompt`` included."""
    if loaded.device.type != "cpu":
        return prompt + settings.tokens
    # Equal prompts are computed once; a batch has at most this many different ones.
    asked = min(settings.questions, settings.per_batch) * prompt
    return settings.tokens + math.ceil(asked / settings.per_batch)


def prompt_tokens(loaded: Loaded, given: Data) -> int:
    """Tokens of the longest prompt that is trained on."""
    texts = [
        render(loaded.tokenizer, given.prompt.messages(one.pool.question))
        for one in given.train
        if one.pool.question is not None
    ]
    return max(map(len, loaded.tokenizer(texts, add_special_tokens=False)["input_ids"]))


def episodes(
    given: Data, recipe: Recipe, reference: Sequence[Sequence[Any]] | None
) -> list[dict[str, Any]]:
    """Every question that training asks, in order; ``reference`` as ``before`` keeps it."""
    known = None if reference is None else {(a, b): share for a, b, share in reference}
    settings = recipe.settings
    asked = settings.steps * settings.questions
    return rows_of(given.train, given.prompt, asked, settings.seed, known)
