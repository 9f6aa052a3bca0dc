"""Small worlds in which the best way to stop can be worked out by brute force."""

from __future__ import annotations

import itertools

import numpy as np

from poise.types import State

KINDS_OF_QUESTION = ((0.5, (0.8, 0.1, 0.1)), (0.5, (0.45, 0.35, 0.2)))
"""Share and answer probabilities of each kind of question; answer 0 is right."""

SIZE = 6


def numbered(labels):
    """Cluster ids by first appearance; -1 stays."""
    ids: dict[int, int] = {}
    return [-1 if label < 0 else ids.setdefault(label, len(ids)) for label in labels]


def state_of(ids, columns=None):
    clusters = tuple(None if i < 0 else int(i) for i in ids)
    size = max((i for i in clusters if i is not None), default=-1) + 1
    counts = tuple(clusters.count(i) for i in range(size))
    answers = tuple(f"answer {i}" for i in range(size))
    return State(clusters, counts, answers, columns=columns or {})


def leader(labels):
    """The label with most votes, the first seen of equals; None: no vote."""
    votes = [label for label in labels if label >= 0]
    return max(dict.fromkeys(votes), key=votes.count, default=None)


def sequences():
    """Every sequence of labels of the world, with its probability."""
    for labels in itertools.product(range(3), repeat=SIZE):
        chance = sum(
            share * np.prod([answers[label] for label in labels])
            for share, answers in KINDS_OF_QUESTION
        )
        yield labels, float(chance)


def payoff(objective, labels, n):
    """What stopping after ``n`` samples of a sequence brings."""
    chosen = leader(labels[:n])
    return float(chosen == (0 if objective == "right" else leader(labels)))


def cell(ids):
    """What the value rule sees of a sequence of clusters."""
    counts = sorted((ids.count(one) for one in set(ids) - {-1}), reverse=True)
    late = int((leader(ids) or 0) > 0)
    return (len(ids), *(*counts, 0, 0)[:2], min(len(counts), 3), late)


def best_value(objective, price):
    """The largest expected payoff less price of any rule that sees the clusters so far."""
    weight: dict[tuple[int, ...], float] = {}
    worth: dict[tuple[int, ...], float] = {}
    for labels, chance in sequences():
        ids = tuple(numbered(labels))
        for n in range(1, SIZE + 1):
            weight[ids[:n]] = weight.get(ids[:n], 0.0) + chance
            gained = chance * payoff(objective, labels, n)
            worth[ids[:n]] = worth.get(ids[:n], 0.0) + gained

    def value(history):
        """Weighed by the probability of the history."""
        longer = [one for k in range(3) if (one := (*history, k)) in weight]
        going = sum(value(one) for one in longer) - price * weight.get(history, 1.0)
        if not history:
            return going
        return worth[history] if len(history) == SIZE else max(worth[history], going)

    return value(())


def best_of_cells(objective, price, starts=12):
    """The best that climbing finds over all rules that see no more than ``cell``."""
    known = list(sequences())
    chance = np.array([chance for _, chance in known])
    seen = [[cell(numbered(labels)[:n]) for n in range(1, SIZE)] for labels, _ in known]
    cells = sorted({one for row in seen for one in row})
    where = np.array([[cells.index(one) for one in row] for row in seen])
    net = np.array(
        [[payoff(objective, x, n) - price * n for n in range(1, SIZE + 1)] for x, _ in known]
    )

    def value(stopping):
        ends = np.column_stack([stopping[where], np.ones(len(known), bool)]).argmax(axis=1)
        return chance @ net[np.arange(len(known)), ends]

    best = -np.inf
    for seed in range(starts):
        stopping = np.random.default_rng(seed).random(len(cells)) < 0.5
        height, before = value(stopping), -np.inf
        while height > before + 1e-12:
            before = height
            for place in range(len(cells)):
                stopping[place] ^= True
                if (other := value(stopping)) > height:
                    height = other
                else:
                    stopping[place] ^= True
        best = max(best, height)
    return best


def value_of(rule, objective, price):
    """Expected payoff less price of a rule, exactly."""
    known = list(sequences())
    stops = rule.stops(np.array([numbered(labels) for labels, _ in known]))
    return sum(
        chance * (payoff(objective, labels, n) - price * n)
        for (labels, chance), n in zip(known, stops, strict=True)
    )


def drawn(questions, orders, seed):
    """Codes and grades (questions, orders, SIZE): shuffled orders of each question's samples."""
    rng = np.random.default_rng(seed)
    shares, answers = zip(*KINDS_OF_QUESTION, strict=True)
    kind = rng.choice(len(shares), questions, p=shares)
    codes = np.empty((questions, orders, SIZE), np.int64)
    right = np.full((questions, orders, SIZE), -1)
    for question in range(questions):
        labels = rng.choice(3, SIZE, p=answers[kind[question]])
        for order in range(orders):
            shuffled = rng.permutation(labels)
            codes[question, order] = numbered(shuffled)
            for label, cluster in zip(shuffled, codes[question, order], strict=True):
                right[question, order, cluster] = label == 0
    return codes, right


TOLD = {True: (0.8, 0.2), False: (0.3, 0.7)}
"""Probabilities that a sample, right or wrong, is told with each of ``LEVELS``."""

LEVELS = (0.9, 0.2)

FEW = 4
"""Samples of a question where each carries a signal."""


def told_sequences():
    """Every sequence of ids and levels of the world, with its probability and the right id."""
    for labels in itertools.product(range(3), repeat=FEW):
        plain = sum(
            share * np.prod([answers[label] for label in labels])
            for share, answers in KINDS_OF_QUESTION
        )
        ids = tuple(numbered(labels))
        right = ids[labels.index(0)] if 0 in labels else None
        for which in itertools.product(range(2), repeat=FEW):
            told = np.prod([TOLD[label == 0][w] for label, w in zip(labels, which, strict=True)])
            yield ids, tuple(LEVELS[w] for w in which), float(plain * told), right


def best_with_signal(vote, price):
    """The largest expected payoff less price of any rule that sees ids and levels."""
    weight: dict[tuple, float] = {}
    worth: dict[tuple, float] = {}
    for ids, levels, chance, right in told_sequences():
        for n in range(1, FEW + 1):
            seen = tuple(zip(ids[:n], levels[:n], strict=True))
            weight[seen] = weight.get(seen, 0.0) + chance
            if seen not in worth:
                worth[seen] = 0.0
            state = state_of(ids[:n], {"p_true": levels[:n]})
            worth[seen] += chance * (vote.elect(state) == right)

    def value(history):
        nexts = [(k, level) for k in range(3) for level in LEVELS]
        longer = [one for pair in nexts if (one := (*history, pair)) in weight]
        going = sum(value(one) for one in longer) - price * weight.get(history, 1.0)
        if not history:
            return going
        return worth[history] if len(history) == FEW else max(worth[history], going)

    return value(())


def value_with_signal(rule, vote, price):
    """Expected payoff less price of a rule that answers by ``vote``, exactly."""
    known = list(told_sequences())
    rows = np.array([ids for ids, _, _, _ in known])
    values = {"p_true": np.array([levels for _, levels, _, _ in known])}
    stops = rule.stops(rows, values)
    won = vote.elect_all(rows, stops, values)
    return sum(
        chance * ((elected == right) - price * n)
        for (_, _, chance, right), elected, n in zip(known, won, stops, strict=True)
    )


def drawn_with_signal(questions, orders, seed):
    """Codes, grades and values (questions, orders, FEW): shuffled orders of each question."""
    rng = np.random.default_rng(seed)
    shares, answers = zip(*KINDS_OF_QUESTION, strict=True)
    kind = rng.choice(len(shares), questions, p=shares)
    codes = np.empty((questions, orders, FEW), np.int64)
    right, values = np.full(codes.shape, -1), np.empty(codes.shape)
    for question in range(questions):
        labels = rng.choice(3, FEW, p=answers[kind[question]])
        levels = [rng.choice(LEVELS, p=TOLD[label == 0]) for label in labels.tolist()]
        for order in range(orders):
            places = rng.permutation(FEW)
            codes[question, order] = numbered(labels[places])
            values[question, order] = np.array(levels)[places]
            for label, cluster in zip(labels[places], codes[question, order], strict=True):
                right[question, order, cluster] = label == 0
    return codes, right, values
