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
    return (len(ids), *(*counts, 0, 0)[:2], min(len(counts), 3))


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
