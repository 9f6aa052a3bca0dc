"""Losses are their formulas, and P(True) in training is P(True) in use."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.signals.evidence import Evidence
from poise.signals.p_true import PTrue
from poise.train.batches import IGNORED
from poise.train.losses import BETA, LOSSES, generation, log, mse, shares, smooth, tokenised_brier
from poise.train.model import sides
from poise.types import FollowUp, Sample, TokenLogprobs
from tiny_model import tokenizer as tiny_tokenizer

TOKENIZER = tiny_tokenizer()
YES, NO = sides(TOKENIZER, None)  # type: ignore[arg-type]
UNIT = st.floats(0, 1, width=32)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_p_true_in_training_is_what_the_signal_reads_from_the_same_logits(seed: int) -> None:
    """The published code trained one token's probability and evaluated the sum of many."""
    logits = torch.randn(len(TOKENIZER), generator=torch.Generator().manual_seed(seed)) * 2
    # A model that answers: the signal reads nothing from one that says neither.
    logits[list(YES + NO)] += 6
    share, mass = shares(logits[None], (YES, NO))
    logprobs = logits.log_softmax(-1).tolist()
    texts = TOKENIZER.batch_decode([[n] for n in range(len(TOKENIZER))])
    listed = sorted(zip(texts, logprobs, strict=True), key=lambda pair: -pair[1])
    reply = TokenLogprobs((listed[0][0],), (listed[0][1],), (tuple(listed),))
    sample = Sample(0, "x", "1", followups={"p_true_own": FollowUp(listed[0][0], reply)})
    assert PTrue("own")(Evidence.single(sample)) == pytest.approx(float(share[0, 0]), abs=1e-5)
    both = sum(math.exp(logprobs[n]) for n in YES + NO)
    assert float(mass[0]) == pytest.approx(both, rel=1e-4)


def test_several_spellings_count_on_each_side() -> None:
    assert len(YES) > 2
    assert len(NO) > 2


@given(UNIT, UNIT)
def test_smooth_is_a_square_near_the_target_and_a_line_far_from_it(p: float, y: float) -> None:
    share, level = torch.tensor([[p, 1 - p]]), torch.tensor([1.0, 0.0])
    gap = abs(p - y)
    wanted = gap * gap / (2 * BETA) if gap < BETA else gap - BETA / 2
    target = torch.tensor([y])
    assert float(smooth(share, level, target)) == pytest.approx(wanted, abs=1e-6)
    assert float(mse(share, level, target)) == pytest.approx(gap * gap, abs=1e-6)


@given(st.floats(0.02, 0.98))
def test_of_labels_log_and_square_are_proper_and_smooth_is_not(chance: float) -> None:
    """Where a constant confidence has its least expected loss on labels right with this chance."""
    tried = torch.linspace(0, 1, 2001, dtype=torch.float64)
    share, level = torch.stack([tried, 1 - tried], dim=-1), torch.tensor([1.0, 0.0]).double()

    def least(loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
        right, wrong = (loss(share, level, torch.full((2001,), y).double()) for y in (1.0, 0.0))
        return float(tried[int((chance * right + (1 - chance) * wrong).argmin())])

    assert least(mse) == pytest.approx(chance, abs=1e-3)
    assert least(log) == pytest.approx(chance, abs=1e-3)
    rare = min(chance, 1 - chance)
    if rare < 0.48:  # at one half it is flat in between
        taught = BETA * rare / (1 - rare)
        assert least(smooth) == pytest.approx(taught if chance < 0.5 else 1 - taught, abs=1e-3)
        assert abs(least(smooth) - chance) > 0.01


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_only_the_log_loss_leaves_a_certainty_that_is_wrong(name: str, target: float) -> None:
    """The gradient by the logit of a P(True) that is all but certain of the other side."""
    logit = torch.tensor([12.0 if target == 0 else -12.0], requires_grad=True)
    share = torch.softmax(torch.stack([logit, torch.zeros(1)], dim=-1), dim=-1)
    LOSSES[name](share, torch.tensor([1.0, 0.0]), torch.tensor([target])).sum().backward()
    assert logit.grad is not None
    steep = abs(float(logit.grad))
    assert (steep > 0.999) if name == "log" else (steep < 1e-4)


@given(UNIT, st.floats(-200, 200))
def test_the_log_loss_is_finite_and_has_finite_gradients(y: float, of: float) -> None:
    logit = torch.tensor([of], requires_grad=True)
    share = torch.softmax(torch.stack([logit, torch.zeros(1)], dim=-1), dim=-1)
    found = log(share, torch.tensor([1.0, 0.0]), torch.tensor([y]))
    found.sum().backward()
    assert bool(torch.isfinite(found).all())
    assert logit.grad is not None
    assert bool(torch.isfinite(logit.grad).all())


@given(st.lists(st.floats(0.0625, 1, width=32), min_size=10, max_size=10), UNIT)
def test_the_tokenised_brier_loss_is_its_formula(weights: list[float], y: float) -> None:
    s = [w / sum(weights) for w in weights]
    levels = [k / 9 for k in range(10)]
    found = tokenised_brier(torch.tensor([s]), torch.tensor(levels), torch.tensor([y]))
    wanted = sum(p * (level - y) ** 2 for p, level in zip(s, levels, strict=True))
    assert float(found) == pytest.approx(wanted, abs=1e-5)


@given(st.floats(0.02, 0.98))
def test_the_tokenised_brier_loss_is_least_at_the_level_nearest_the_truth(chance: float) -> None:
    levels = torch.tensor([k / 9 for k in range(10)])
    right, wrong = (
        tokenised_brier(torch.eye(10), levels, torch.full((10,), y)) for y in (1.0, 0.0)
    )
    expected = chance * right + (1 - chance) * wrong
    assert float(expected.min()) == pytest.approx(
        float(expected[int((levels - chance).abs().argmin())]), abs=1e-6
    )


def test_the_tokenised_brier_loss_ends_on_one_digit_and_the_others_keep_their_spread() -> None:
    """Without a way to tell rows apart, what each loss makes of a constant, and what is left of it.

    The tokenised one is linear in the shares, so its constant is one digit with all of the
    probability, where no gradient is left to leave it by.
    """
    level, target = torch.arange(10) / 9, torch.tensor([0.2, 0.9])
    left = {}
    for name, loss in LOSSES.items():
        logits = torch.zeros(10, requires_grad=True)
        descent = torch.optim.Adam([logits], lr=0.1)
        for _ in range(1000):
            descent.zero_grad()
            loss(torch.softmax(logits, -1).expand(2, -1), level, target).mean().backward()
            descent.step()
        share = torch.softmax(logits.detach(), -1)
        assert float(share @ level) == pytest.approx(0.55, abs=0.06)
        # What would tell these two rows apart: the gradient of each by its own logits.
        own = logits.detach().expand(2, -1).clone().requires_grad_()
        loss(torch.softmax(own, -1), level, target).sum().backward()
        left[name] = float(share.max()), float(own.grad.abs().max())  # type: ignore[union-attr]
    assert left["tokenised_brier"][0] > 0.999
    assert left["tokenised_brier"][1] < 1e-3
    for name in ("smooth", "mse"):
        assert left[name][0] < 0.6
        assert left[name][1] > 0.02


def test_the_generation_loss_is_the_mean_over_a_rows_own_tokens() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[IGNORED, IGNORED, 4], [1, 2, 3]])
    logs = logits.log_softmax(-1)
    wanted = [-logs[0, 2, 4], -(logs[1, 0, 1] + logs[1, 1, 2] + logs[1, 2, 3]) / 3]
    assert generation(logits, labels).tolist() == pytest.approx([float(w) for w in wanted])


def test_what_is_no_response_has_no_gradient() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
    generation(logits, torch.tensor([[IGNORED, IGNORED, 4], [IGNORED, 2, 3]])).sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).any(-1).tolist() == [[False, False, True], [False, True, True]]


def test_shares_sum_to_one_and_survive_extreme_logits() -> None:
    logits = torch.full((1, len(TOKENIZER)), 1e4)
    logits[0, YES[0]] = -1e4
    logits[0, list(NO)] = -2e4
    share, mass = shares(logits, (YES, NO))
    assert float(share.sum()) == pytest.approx(1)
    assert 0 <= float(mass) <= 1
