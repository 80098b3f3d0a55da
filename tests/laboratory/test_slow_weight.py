"""The comparison of a over small tasks: its tasks, its training loop and how it chooses and counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hope_ref.laboratory import slow_weight
from hope_ref.reference.m3 import m3_step
from hope_ref.tasks.oscillating_loss import psi

RATES = np.array([0.003, 0.03])


def test_the_batch_is_m3_on_each_rate_and_seed() -> None:
    """The reference's step, one matrix at a time, on the bowl written out."""
    steps, every, a = 25, 4, 0.5
    got = slow_weight.final_losses(slow_weight.bowl((3, 5), steps), a, RATES, every, steps)
    for column, seed in enumerate((3, 5)):
        curved = np.diag(10 ** -np.linspace(0, 1, 8))
        shape = curved @ np.linalg.qr(np.random.default_rng((seed, 11)).normal(size=(8, 8))).Q
        target = np.random.default_rng((seed, 11)).normal(size=(8, 6))
        for row, rate in enumerate(RATES):
            w, state = np.zeros((8, 6)), None
            for i in range(steps):
                slope = shape.T @ shape @ (w - target)
                lr = rate * (1 - i / steps)
                w, state = m3_step(w, slope, state, lr=lr, slow_weight=a, slow_every=every)
            want = np.log10(((shape @ (w - target)) ** 2).sum() / ((shape @ target) ** 2).sum())
            assert got[row, column] == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("name", slow_weight.TASKS)
def test_a_task_is_learned_and_its_seeds_are_apart(name: str) -> None:
    """Losses of a seed do not depend on which others are drawn with it, and training lowers them."""
    steps = 60
    both, alone = (slow_weight.TASKS[name](seeds, steps) for seeds in ((0, 7), (7,)))
    for one, other in zip(both.start, alone.start, strict=True):
        torch.testing.assert_close(one[1:], other, rtol=0, atol=0)
    shifted = [w + 0.1 for w in both.start], [w + 0.1 for w in alone.start]
    torch.testing.assert_close(both.loss(shifted[0], 5)[1:], alone.loss(shifted[1], 5), rtol=0, atol=1e-12)
    assert (slow_weight.final_losses(both, 0.25, RATES, 10, steps).min(0) < -0.03).all()


def test_the_slope_of_the_oscillating_task_is_that_of_psi() -> None:
    task = slow_weight.oscillating((1,), 1)
    w = task.start[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(task.loss([w], 0).sum(), w)
    at, h = task.start[0][0, :, 0].numpy(), 1e-6
    for place in (0, 1):
        up, down = (at + sign * h * np.eye(2)[place] for sign in (1, -1))
        assert float(slope[0, place, 0]) == pytest.approx((psi(*up) - psi(*down)) / (2 * h), rel=1e-6)


def test_rates_are_chosen_on_other_seeds_and_differences_are_paired() -> None:
    got = slow_weight.compare(("regression",), every=5, steps=40, seeds=2, rates=RATES)
    drawn = [100, 101, 0, 1]
    finals = []
    for column, a in enumerate(slow_weight.WEIGHTS):
        losses = slow_weight.final_losses(slow_weight.regression(drawn, 40), a, RATES, 5, 40)
        best = int(np.argmin(losses[:, :2].sum(1)))
        assert got.rate[0, column] == RATES[best]
        finals.append(losses[best, 2:])
    np.testing.assert_array_equal(got.final[0], finals)
    at_one = finals[slow_weight.WEIGHTS.index(1.0)]
    for column, final in enumerate(finals):
        apart = at_one - final
        assert got.gain[0, column] == pytest.approx(apart.sum() / 2)
        assert got.spread[0, column] == pytest.approx(abs(apart[0] - apart[1]) / np.sqrt(2))


def test_a_verdict_counts_what_lies_beyond_one_standard_deviation() -> None:
    gain, spread = (
        np.array([[0.3], [0.3], [-0.3], [-0.3], [0.0]]),
        np.array([[0.2], [0.4], [0.2], [0.4], [0.0]]),
    )
    outcome = slow_weight.Comparison(tuple("abcde"), (0.5,), gain, gain[..., None], gain, spread)
    assert outcome.verdict(0.5) == (1, 1)


@pytest.mark.slow
def test_at_equal_weight_most_tasks_are_worse_than_at_a_quarter() -> None:
    """What notebook 09 says, on its quickest tasks."""
    got = slow_weight.compare(("bowl", "regression", "oscillating"))
    assert got.verdict(0.25) == (3, 0)


def test_unknown_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tasks must be one of .*'bowl'.*, got 'cup'"):
        slow_weight.compare(("cup",))
