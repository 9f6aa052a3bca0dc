"""The order of training rows."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.train.order import Spanning, spanning

TARGETS = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@given(TARGETS, st.integers(1, 9), st.text(max_size=3))
def test_every_row_comes_once(targets: list[float], batch: int, seed: str) -> None:
    assert sorted(spanning(targets, batch, seed)) == list(range(len(targets)))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))
def test_every_full_batch_has_a_row_of_each_slice(batch: int, batches: int, seed: int) -> None:
    rng = random.Random(seed)
    targets = [rng.random() for _ in range(batch * batches)]
    rank = {
        place: r for r, place in enumerate(sorted(range(len(targets)), key=targets.__getitem__))
    }
    order = spanning(targets, batch, str(seed))
    for start in range(0, len(order), batch):
        assert [rank[place] // batches for place in order[start : start + batch]] == list(
            range(batch)
        )


@pytest.mark.parametrize(("rows", "batch"), [(34, 16), (40, 16), (1590, 16), (11, 16)])
def test_rows_that_fill_no_batch_are_no_particular_ones(rows: int, batch: int) -> None:
    """All batches, the short one too, come near the mean; full ones have a row of each slice."""
    targets = [place / (rows - 1) for place in range(rows)]
    short = []
    for seed in range(200):
        order = spanning(targets, batch, str(seed))
        short.append(math.fsum(targets[p] for p in order[-(rows % batch) :]) / (rows % batch))
        for start in range(0, rows - rows % batch, batch):
            part = [targets[p] for p in order[start : start + batch]]
            assert abs(math.fsum(part) / batch - 0.5) < 0.1
    assert abs(math.fsum(short) / len(short) - 0.5) < 0.05


def test_means_of_batches_vary_far_less_than_at_random() -> None:
    rng = random.Random(3)
    targets = [float(rng.random() < 0.3) for _ in range(800)]

    def spread(order: list[int]) -> float:
        means = [math.fsum(targets[p] for p in order[at : at + 8]) / 8 for at in range(0, 800, 8)]
        return math.sqrt(math.fsum((mean - 0.3) ** 2 for mean in means) / len(means))

    shuffled = list(range(800))
    rng.shuffle(shuffled)
    assert spread(spanning(targets, 8, "0")) < 0.5 * spread(shuffled)


def test_epochs_differ_and_come_back() -> None:
    sampler = Spanning([0.1 * place for place in range(10)], 4, 7)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert first != second
    assert list(sampler) == first
    assert len(sampler) == 10
