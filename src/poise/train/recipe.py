"""From labelled pools to rows of training: what is learned, what is held out, what is measured.

A question is in one part, whatever its samples. It does not know trainers, folders or reports.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from poise.errors import InputError, RefusedError, UsageError
from poise.pools import Labelled
from poise.train import lineage
from poise.train.batches import Item
from poise.train.early import BUDGETS
from poise.train.evaluating import LABELS
from poise.train.losses import Levels
from poise.train.model import LAYERS, Loaded
from poise.train.rows import TooLong, confidence_row, digit_tokens, response_row
from poise.train.sft import Settings
from poise.train.stating import STATED, VALUES, line_of, stated_response, stated_row, stating
from poise.train.targets import Example, Target, balanced, first, parted, targets
from poise.types import Prompt

__all__ = ["Data", "Prepared", "Recipe", "data", "levels_of", "prepare"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to learn from which share of the pools; ``settings`` say how.

    ``limit``: questions to train on, ``rows``: at most so many of their samples (None: 8 a
    question), ``balance``: evenly over the targets (None: for soft targets, for even labels would
    teach a base rate of one half). ``threshold`` (eta): rows with a target above it keep their
    response. ``held_out``: share of the questions never trained on, of which ``questions`` are
    measured; ``segments`` are held out whole. ``score``: ask the untrained model for c_i first.
    ``layers``: a name in ``model.LAYERS``.
    ``in_use``: fresh samples a held-out question for the numbers in use, 0 for none of these.
    ``answer_above``: with a stated confidence, the threshold of the report's abstention.
    """

    target: Target = "ssc"
    wording: str = "own"
    limit: int | None = None
    rows: int | None = None
    balance: bool | None = None
    threshold: float = 0.75
    held_out: float = 0.2
    questions: int = 40
    segments: tuple[str, ...] = ()
    score: bool = False
    longest: int = 1024
    rank: int = 32
    alpha: float = 16
    dropout: float = 0.05
    layers: str = "qv"
    draws: int = 4
    in_use: int = 16
    answer_above: float = 0.5
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"threshold={self.threshold}: must be in [0, 1]")
        if self.layers not in LAYERS:
            raise UsageError(f"layers {self.layers!r}: must be one of {', '.join(LAYERS)}")
        if self.in_use and self.in_use < BUDGETS[0]:
            raise UsageError(
                f"in_use={self.in_use}: draw {BUDGETS[0]} samples or more, or 0 to leave it out"
            )
        if self.settings.loss == "tokenised_brier" and self.wording not in ("digit", STATED):
            raise UsageError(
                "the tokenised Brier loss is over stated digits: --wording digit, or stated"
            )
        if not 0 <= self.answer_above < 1:
            raise UsageError(f"answer_above={self.answer_above}: must be in [0, 1)")
        if self.wording == STATED and (self.in_use or not self.settings.weight):
            raise UsageError(
                "a stated confidence is learnt with its form, by the generation loss, and not asked"
                " about samples in use: --weight above 0, and --in-use 0"
            )

    @property
    def asking(self) -> str:
        """The wording in which P(True) of a sample is asked, as its weight in a target."""
        return "own" if self.wording in ("digit", STATED) else self.wording

    @property
    def balances(self) -> bool:
        """Whether rows are drawn evenly over the targets."""
        return self.target != "labels" if self.balance is None else self.balance


@dataclass(frozen=True, slots=True)
class Data:
    """Pools to train on, to measure on by name, and training questions with one label each.

    ``thresholds``: whole pools of the training part to choose thresholds on, those that are not
    trained on first.
    """

    train: tuple[Labelled, ...]
    held_out: Mapping[str, tuple[Labelled, ...]]
    labels: tuple[Labelled, ...]
    prompt: Prompt
    thresholds: tuple[Labelled, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows to train on; ``counts`` says what became of the samples, JSON-ready."""

    items: tuple[Item, ...]
    counts: Mapping[str, Any]


def data(
    pools: Sequence[Labelled],
    others: Mapping[str, Sequence[Labelled]],
    recipe: Recipe,
    prompt: Prompt,
) -> Data:
    """Part the pools by question, and take what is measured from the part not trained on.

    ``prompt`` is the arm's; to state a confidence is asked for on top of it where the recipe wants
    one stated. ``others``: further pools to measure on, by name. Raises InputError where one of
    their questions is trained on as well, RefusedError where nothing is left to train on.
    """
    outside = [one for one in pools if one.pool.segment in recipe.segments]
    inside = [one for one in pools if one.pool.segment not in recipe.segments]
    missing = set(recipe.segments) - {one.pool.segment for one in outside}
    if missing:
        raise UsageError(f"the pools have no segment {', '.join(sorted(missing))}")
    part, held = parted(inside, recipe.held_out, recipe.settings.seed)
    train = first(part, recipe.limit)
    if not train:
        raise RefusedError("no question is left to train on; give more pools or hold less out")
    measured: dict[str, Sequence[Labelled]] = {"held_out": held, "segments": outside}
    if both := sorted(measured.keys() & others.keys()):
        raise UsageError(f"a set to measure on is called {both[0]}, as a part of the pools is")
    measured |= others
    kept = {name: tuple(first(them, recipe.questions)) for name, them in measured.items() if them}
    trained = {lineage.asked(one) for one in train} - {None}
    for name, them in kept.items():
        twice = [one.pool.question_id for one in them if lineage.asked(one) in trained]
        if twice:
            raise InputError(
                f"{name}: {len(twice)} of its questions are trained on as well, {twice[0]} first;"
                " measure on others"
            )
    # What a set shares with questions that are left over may not choose thresholds or fit maps.
    asked = {lineage.asked(one) for them in kept.values() for one in them} - {None}
    part = [one for one in part if lineage.asked(one) not in asked]
    groups = {one.pool.group for one in train}
    spare = [one for one in part if one.pool.group not in groups]
    return Data(
        tuple(train),
        kept,
        tuple(_one_label_each(part, recipe.settings.seed)),
        stating(prompt) if recipe.wording == STATED else prompt,
        tuple(first([*spare, *train], recipe.questions)),
    )


def _one_label_each(pools: Sequence[Labelled], seed: int) -> list[Labelled]:
    """One random readable, graded sample of each of ``LABELS``' largest number of questions."""
    rng = random.Random(seed)  # noqa: S311 - a seeded draw, not a secret
    order = list(pools)
    rng.shuffle(order)
    found: dict[tuple[str, str], Labelled] = {}
    for one in order:
        graded = [
            sample
            for sample, label in zip(one.pool.samples, one.correct, strict=True)
            if sample.answer is not None and label is not None and sample.text
        ]
        if graded and one.pool.question and one.pool.group not in found:
            chosen = rng.choice(graded)
            alone = replace(one.pool, samples=(replace(chosen, index=0),), arms=())
            label = (one.correct[chosen.index],)
            found[one.pool.group] = replace(one, pool=alone, correct=label, sample_extra=())
    return list(found.values())[: max(LABELS)]


def levels_of(loaded: Loaded, wording: str) -> Levels:
    """The tokens that state a confidence in this wording. Raises UsageError without such tokens."""
    if wording == STATED:
        return Levels(tuple((token,) for token in line_of(loaded.tokenizer).digits), VALUES)
    if wording == "digit":
        digits = digit_tokens(loaded.tokenizer)
        return Levels(digits, tuple(k / (len(digits) - 1) for k in range(len(digits))))
    return Levels((loaded.yes, loaded.no), (1.0, 0.0))


def prepare(loaded: Loaded, train: Sequence[Labelled], prompt: Prompt, recipe: Recipe) -> Prepared:
    """Targets, balance and token rows. Raises InputError where no sample has a target or fits."""
    made = targets(train, recipe.target, recipe.asking)
    questions = len({example.group for example in made.examples})
    wanted = recipe.rows or 8 * questions
    seed = recipe.settings.seed
    if recipe.balances:
        chosen = balanced(made.examples, wanted, seed)
    else:
        draw = random.Random(seed)  # noqa: S311 - a seeded draw, not a secret
        places = draw.sample(range(len(made.examples)), min(wanted, len(made.examples)))
        chosen = [made.examples[place] for place in sorted(places)]
    items, long = [], 0
    for example in chosen:
        try:
            items.append(_item(loaded, example, prompt, recipe))
        except TooLong:
            long += 1
    if not items:
        raise InputError(f"no row fits in {recipe.longest} tokens; allow longer ones")
    tokens = [len(item.confidence) for item in items]
    kept = [item.response for item in items if item.response is not None]
    counts = {
        "questions": questions,
        "samples": len(made.examples),
        "left_out": dict(made.left_out),
        "questions_weighted_by_p_true": made.weighted,
        "questions_counted_plainly": made.unweighted,
        "rows": len(items),
        "rows_too_long": long,
        "rows_with_response": sum(
            item.response is not None and item.target > recipe.threshold for item in items
        ),
        "balanced": recipe.balances,
        "mean_target": sum(item.target for item in items) / len(items),
        "tokens": sum(tokens) + sum(len(row.ids) for row in kept),
        "longest_row": max([*tokens, *(len(row.ids) for row in kept)]),
    }
    return Prepared(tuple(items), counts)


def _item(loaded: Loaded, example: Example, prompt: Prompt, recipe: Recipe) -> Item:
    sample, question, longest = example.sample, example.question, recipe.longest
    if not sample.text:
        raise InputError(f"question {question.id}: the pool keeps no texts; sample with texts")
    if recipe.wording == STATED:
        rest: dict[str, Any] = {"longest": longest}
        row = stated_row(loaded.tokenizer, question, sample, prompt, **rest)
        rest |= {"target": example.target, "whole": example.target > recipe.threshold}
        said = stated_response(loaded.tokenizer, question, sample, prompt, **rest)
        return Item(row, example.target, said)
    row = confidence_row(loaded.tokenizer, question, sample, recipe.wording, longest=longest)
    kept = None
    if recipe.settings.weight and example.target > recipe.threshold:
        kept = response_row(loaded.tokenizer, question, sample, prompt, longest=longest)
    return Item(row, example.target, kept)
