"""How much should M3's slow momentum count? The weight a in O_1 + a O_2, compared on seven small tasks.

`compare` gives every a the same learning rates, chooses the best of them on one set of seeds and measures it on
another. All rates and seeds of a task run in one batch, in float64; the rate falls linearly to 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hope_ref.common.validation import Array, one_of, positive_integer
from hope_ref.parallel import m3
from hope_ref.tasks import continual, oscillating_loss

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)  # a
RATES = np.logspace(-3.5, -0.5, 7)
ROWS, COLUMNS, BATCH, NOISE = 8, 6, 16, 0.3
BLOCK = 50  # steps of one task before its turn ends
SYMBOLS = 12

Weights = list[Tensor]  # each (rates, seeds, rows, columns)


class Task(NamedTuple):
    """What is learned: the weights at the start, each (seeds, rows, columns); the loss of a step and that at the end, (..., seeds)."""

    start: Weights
    loss: Callable[[Weights, int], Tensor]
    final: Callable[[Weights], Tensor]


class Comparison(NamedTuple):
    """The outcome of `compare`.

    Attributes:
        tasks: names, in order; weights: the values of a, in order.
        rate: the learning rate chosen, (tasks, weights).
        final: log10 of the final loss over that before the first step, (tasks, weights, seeds).
        gain: mean over the seeds of log10 by which a's final loss lies below that of a = 1, (tasks, weights).
        spread: its standard deviation over the seeds, (tasks, weights).
    """

    tasks: tuple[str, ...]
    weights: tuple[float, ...]
    rate: Array
    final: Array
    gain: Array
    spread: Array

    def verdict(self, weight: float) -> tuple[int, int]:
        """On how many tasks this a is better than a = 1, and worse, by more than one standard deviation."""
        column = self.weights.index(weight)
        gain, spread = self.gain[:, column], self.spread[:, column]
        return int((gain > spread).sum()), int((-gain > spread).sum())


def _draws(seeds: Sequence[int], draw: Callable[[np.random.Generator], Array]) -> Tensor:
    return torch.from_numpy(np.stack([draw(np.random.default_rng((seed, 11))) for seed in seeds]))


def _squares(x: Tensor) -> Tensor:
    return x.square().sum((-1, -2))


def bowl(seeds: Sequence[int], steps: int, noise: float = 0.0) -> Task:
    """½‖A (W - T)‖² with curvatures from 1 down to 1/100, along random directions; noise of that size on the gradient."""
    curved = np.diag(np.logspace(0, -1, ROWS))
    a = _draws(seeds, lambda rng: curved @ np.linalg.qr(rng.normal(size=(ROWS, ROWS))).Q)
    target = _draws(seeds, lambda rng: rng.normal(size=(ROWS, COLUMNS)))
    pushes = noise * _draws(seeds, lambda rng: rng.normal(size=(steps, ROWS, COLUMNS)))

    def final(w: Weights) -> Tensor:
        return _squares(a @ (w[0] - target)) / 2

    return Task(
        [torch.zeros_like(target)], lambda w, i: final(w) + (pushes[:, i] * w[0]).sum((-1, -2)), final
    )


def noisy_bowl(seeds: Sequence[int], steps: int) -> Task:
    """`bowl`, each entry of each gradient with noise of 0.3."""
    return bowl(seeds, steps, NOISE)


def regression(seeds: Sequence[int], steps: int) -> Task:
    """½‖W x - T x‖² on 16 fresh inputs a step, whose j-th entry has the size 1/j."""
    x = _draws(seeds, lambda rng: rng.normal(size=(steps * BATCH, COLUMNS)) / np.arange(1, COLUMNS + 1))
    target = _draws(seeds, lambda rng: rng.normal(size=(ROWS, COLUMNS)))
    y = x @ target.mT + NOISE * _draws(seeds, lambda rng: rng.normal(size=(steps * BATCH, ROWS)))
    sizes = 1 / torch.arange(1, COLUMNS + 1, dtype=torch.float64)

    def loss(w: Weights, i: int) -> Tensor:
        now = slice(i * BATCH, (i + 1) * BATCH)
        return _squares(x[:, now] @ w[0].mT - y[:, now]) / (2 * BATCH)

    return Task([torch.zeros_like(target)], loss, lambda w: _squares((w[0] - target) * sizes) / 2)


def orthogonal_tasks(seeds: Sequence[int], steps: int) -> Task:
    """Two regressions on inputs without a common direction, 50 steps each in turn; the final loss is that of both."""
    x = _draws(seeds, lambda rng: rng.normal(size=(steps * BATCH, COLUMNS)))
    target = _draws(seeds, lambda rng: rng.normal(size=(ROWS, COLUMNS)))
    half = (torch.arange(COLUMNS) < COLUMNS // 2).double()

    def loss(w: Weights, i: int) -> Tensor:
        now = x[:, i * BATCH : (i + 1) * BATCH] * (1 - half if (i // BLOCK) % 2 else half)
        return _squares(now @ (w[0] - target).mT) / (2 * BATCH)

    return Task([torch.zeros_like(target)], loss, lambda w: _squares(w[0] - target) / 2)


def network(seeds: Sequence[int], steps: int) -> Task:
    """W_2 tanh(W_1 x) learns another network of its shape, 16 fresh inputs a step, from small weights."""
    x = _draws(seeds, lambda rng: rng.normal(size=(steps * BATCH + 256, COLUMNS)))
    shapes = ((ROWS, COLUMNS), (COLUMNS, ROWS))

    def drawn(shape: tuple[int, int], number: int) -> Tensor:
        return _draws(seeds, lambda rng: rng.normal(size=(4, *shape))[number] / np.sqrt(shape[1]))

    teacher, start = ([drawn(shapes[0], first), drawn(shapes[1], first + 1)] for first in (0, 2))

    def answer(w: Weights, inputs: Tensor) -> Tensor:
        return torch.tanh(inputs @ w[0].mT) @ w[1].mT

    y = answer(teacher, x)

    def loss(w: Weights, i: int) -> Tensor:
        now = slice(i * BATCH, (i + 1) * BATCH)
        return _squares(answer(w, x[:, now]) - y[:, now]) / (2 * BATCH)

    return Task(start, loss, lambda w: _squares(answer(w, x[:, -256:]) - y[:, -256:]) / 512)


def text(seeds: Sequence[int], steps: int) -> Task:
    """The next symbol of a Markov language from the last one: cross-entropy of softmax(W e_a), above that of the language."""
    chances = torch.from_numpy(np.stack([continual.markov(SYMBOLS, 4, (seed, 13)) for seed in seeds]))
    streams = torch.from_numpy(
        np.stack(
            [
                continual.sample(p.numpy(), steps + 1, (seed, 17), BATCH)
                for seed, p in zip(seeds, chances, strict=True)
            ]
        )
    )  # (seeds, BATCH, steps + 1)
    lanes = torch.arange(len(seeds))[:, None]

    def loss(w: Weights, i: int) -> Tensor:
        logs = torch.log_softmax(w[0], -1)  # row: the last symbol
        return -logs[..., lanes, streams[:, :, i], streams[:, :, i + 1]].mean(-1)

    def final(w: Weights) -> Tensor:
        apart = torch.xlogy(chances, chances) - chances * torch.log_softmax(w[0], -1)
        return apart.sum(-1).mean(-1)

    return Task([torch.zeros_like(chances)], loss, final)


def oscillating(seeds: Sequence[int], steps: int) -> Task:
    """ψ of `tasks.oscillating_loss` [P 53], its two numbers as a column, from starts around the paper's."""
    start = _draws(
        seeds, lambda rng: np.array(oscillating_loss.START)[:, None] + 0.1 * rng.normal(size=(2, 1))
    )

    def numbers(w: Weights) -> tuple[Array, Array]:
        return w[0][..., 0, 0].detach().numpy(), w[0][..., 1, 0].detach().numpy()

    def loss(w: Weights, i: int) -> Tensor:
        """⟨w, ∇ψ⟩: its slope is that of ψ."""
        return (w[0][..., 0] * torch.from_numpy(oscillating_loss.psi_gradient(*numbers(w)))).sum(-1)

    return Task([start], loss, lambda w: torch.from_numpy(oscillating_loss.psi(*numbers(w))))


TASKS = {
    "bowl": bowl,
    "noisy bowl": noisy_bowl,
    "regression": regression,
    "orthogonal tasks": orthogonal_tasks,
    "network": network,
    "text": text,
    "oscillating": oscillating,
}


def final_losses(task: Task, slow_weight: float, rates: Array, every: int, steps: int) -> Array:
    """log10 of the final loss over that of the start, (rates, seeds); infinite where it overflows."""
    rate = torch.from_numpy(rates)[:, None, None, None]
    weights = [w.expand(len(rates), *w.shape) for w in task.start]
    before = task.final(weights)
    options = m3.M3Options(lr=1.0, slow_weight=slow_weight, slow_every=every)
    states = [m3.initial_state(w) for w in weights]
    for i in range(steps):
        weights = [w.detach().requires_grad_() for w in weights]
        slopes = torch.autograd.grad(task.loss(weights, i).sum(), weights)
        for layer, slope in enumerate(slopes):
            change, states[layer] = m3.update(slope, states[layer], options)
            weights[layer] = weights[layer].detach() - rate * (1 - i / steps) * change
    return np.nan_to_num(
        torch.log10(task.final(weights) / before).detach().numpy(), nan=np.inf, posinf=np.inf
    )


def compare(
    tasks: Sequence[str] = tuple(TASKS),
    every: Any = 10,
    steps: Any = 300,
    seeds: Any = 3,
    rates: Array = RATES,
) -> Comparison:
    """Final losses of M3 for a = 0, ¼, ½, 1, 2, each at the best of ``rates``, chosen on other seeds.

    Args:
        tasks: names from `TASKS`; every: f, steps between two moves of the slow momentum; steps: of training;
        seeds: how many are measured, as many others choose the rate; rates: learning rates, (R,).
    Returns: a `Comparison`.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    for name in tasks:
        one_of("tasks", name, tuple(TASKS))
    every, steps = positive_integer("every", every), positive_integer("steps", steps)
    seeds = positive_integer("seeds", seeds)
    drawn = [*range(100, 100 + seeds), *range(seeds)]
    final, rate = np.empty((len(tasks), len(WEIGHTS), seeds)), np.empty((len(tasks), len(WEIGHTS)))
    for row, name in enumerate(tasks):
        task = TASKS[name](drawn, steps)
        for column, slow_weight in enumerate(WEIGHTS):
            losses = final_losses(task, slow_weight, rates, every, steps)
            best = losses[:, :seeds].mean(1).argmin()
            rate[row, column], final[row, column] = rates[best], losses[best, seeds:]
    ahead = final[:, [WEIGHTS.index(1.0)]] - final  # (tasks, weights, seeds)
    return Comparison(tuple(tasks), WEIGHTS, rate, final, ahead.mean(-1), ahead.std(-1, ddof=1))
