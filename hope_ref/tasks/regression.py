"""Linear regression in context, with a change of mind: y_t = w·x_t + noise, and at some token w is another.

Source: [D], the standard task of in-context learning with one switch. x_t ~ N(0, I), w ~ N(0, I) before the change and
again, independently, after it, noise ~ N(0, σ²). A model sees (x₁, y₁), …, (x_{t-1}, y_{t-1}), x_t and predicts y_t.

Levels, as squared error: d + σ² for who always says 0 (the chance level); σ² for who knows w. Between them the best
that a learner can do, which is to forget everything at the change: `bayes_errors(…, restart=True)`; and what never
forgetting costs: `restart=False`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, positive_integer, scalar
from hope_ref.tasks.common import Integers, Seed, generator, integer, integers

LEAST_NOISE = 1e-6  # of the Bayes levels: without any, the first few normal equations are singular


class Batch(NamedTuple):
    """x (B, T, d), y (B, T), weights (B, 2, d) before and after, change (B,): the first token of the second weight."""

    x: Array
    y: Array
    weights: Array
    change: Integers


def draw(batch: Any, length: Any, width: Any, noise: Any, seed: Seed, change: Any = None) -> Batch:
    """Sequences of T examples with one change each.

    Args:
        batch: B.
        length: T >= 2.
        width: d, the width of x.
        noise: σ >= 0, its standard deviation.
        seed: an integer, or several, such as (seed, step).
        change: the first token with the second weight, from 1 to T (T: no change); None draws it uniformly from
            the middle half, ⌈T/4⌉..⌊3T/4⌋, anew for each sequence.
    Returns:
        Batch(x, y, weights, change).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    batch, length = positive_integer("batch", batch), integer("length", length, 2)
    width, sigma = positive_integer("width", width), scalar("noise", noise, low=0)
    rng = generator(seed)
    if change is None:
        at = rng.integers(-(-length // 4), 3 * length // 4 + 1, size=batch)
    else:
        at = np.full(batch, integer("change", change, 1, length))
    weights = rng.standard_normal((batch, 2, width))
    x = rng.standard_normal((batch, length, width))
    second = (np.arange(length) >= at[:, None]).astype(int)  # (B, T)
    chosen = np.take_along_axis(weights, second[..., None], axis=1)  # (B, T, d)
    y = (chosen * x).sum(axis=-1) + sigma * rng.standard_normal((batch, length))
    return Batch(x, y, weights, at)


def bayes_errors(batch: Batch, noise: Any, restart: bool = True) -> Array:
    """Squared errors of the posterior mean of w: ridge regression on the past, ŵ = (XᵀX + σ² I)⁻¹ Xᵀ y.

    As w ~ N(0, I) and the noise has variance σ², no predictor that sees the same examples has a smaller expected
    error. With `restart` the past begins at the change: the optimum of who is told when it happens, and so a bound
    for who must find out. Without, the past is everything: the price of never forgetting.

    Args:
        batch: of `draw`.
        noise: σ >= 0; below 1e-6 the ridge is that of 1e-6, so that the first equations can be solved.
        restart: whether the past begins again at the change.
    Returns:
        (y_t - ŵ·x_t)², (B, T).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    x = float64("batch.x", batch.x, ("B", "T", "d"))
    y = float64("batch.y", batch.y, x.shape[:2])
    change = integers("batch.change", batch.change, x.shape[:1], low=0)
    ridge = max(scalar("noise", noise, low=0), LEAST_NOISE) ** 2
    errors = np.empty_like(y)
    start = np.broadcast_to(ridge * np.eye(x.shape[2]), (len(x), x.shape[2], x.shape[2]))
    gram, moment = start.copy(), np.zeros_like(x[:, 0])  # (B, d, d), (B, d)
    for t in range(y.shape[1]):
        if restart:
            gram[change == t], moment[change == t] = start[0], 0
        guess = np.linalg.solve(gram, moment[..., None])[..., 0]  # (B, d)
        errors[:, t] = (y[:, t] - (guess * x[:, t]).sum(axis=-1)) ** 2
        gram += x[:, t, :, None] * x[:, t, None, :]
        moment += y[:, t, None] * x[:, t]
    return errors


def levels(width: Any, noise: Any) -> tuple[float, float]:
    """(d + σ², σ²): the expected squared error of saying 0, and of knowing w."""
    sigma = scalar("noise", noise, low=0)
    return positive_integer("width", width) + sigma**2, sigma**2
