"""Random numbers and single steps for simulations that printed formulas are held against: written out, in closed words."""

from __future__ import annotations

from typing import Any

import numpy as np

Rng = np.random.Generator


def column(rng: Rng, size: int) -> Any:
    return rng.normal(size=(size, 1))


def rate(rng: Rng) -> float:
    return float(rng.uniform(0.2, 0.9))


def rates(rng: Rng, length: int) -> dict[int, float]:
    """One per token, counted from 1."""
    return {t: rate(rng) for t in range(1, length + 1)}


def columns(rng: Rng, length: int, size: int) -> dict[int, Any]:
    return {t: column(rng, size) for t in range(1, length + 1)}


def squares(*arrays: Any) -> float:
    return float(sum((array**2).sum() for array in arrays))


def silu(z: Any) -> Any:
    return z / (1 + np.exp(-z))


def silu_slope(z: Any) -> Any:
    gate = 1 / (1 + np.exp(-z))
    return gate + z * gate * (1 - gate)


def nearest(x: Any, u: Any, start: Any, pull: float, weight: float = 1.0) -> Any:
    """argmin_W (weight/2) ‖W x - u‖² + (pull/2) ‖W - start‖² by least squares on the stacked rows; x and u in columns."""
    rows = np.vstack([np.sqrt(weight) * x.T, np.sqrt(pull) * np.eye(len(x))])
    return np.linalg.lstsq(rows, np.vstack([np.sqrt(weight) * u.T, np.sqrt(pull) * start.T]), rcond=None)[0].T


def gradients_to_hold(beta: float, share: float) -> int:
    """Of a long run of a running mean on gradients of 1, how many of the newest hold this share of its weight."""
    weights = []
    for _ in range(400):
        weights = [1 - beta, *(beta * w for w in weights)]
    held, count = 0.0, 0
    while held < share * sum(weights):
        held += weights[count]
        count += 1
    return count


def pair(rng: Rng) -> dict[str, Any]:
    """A memory that is wider than high, a key, a value, and rates."""
    return {
        "M": rng.normal(size=(2, 3)), "k": column(rng, 3), "v": column(rng, 2), "η": rate(rng), "α": rate(rng)
    }  # fmt: skip


def dgd_step(memory: Any, k: Any, value: Any, eta: float, alpha: float = 1.0) -> Any:
    """Delta Gradient Descent on a memory: decay, erase what the old memory answers, write."""
    return alpha * memory - eta * (memory @ k) * k.T + eta * value * k.T


def gated_step(memory: Any, k: Any, v: Any, eta: float, alpha: float = 1.0) -> Any:
    """The gated delta rule: decay first, then erase what the decayed memory answers, and write."""
    faded = alpha * memory
    return faded + eta * (v - faded @ k) * k.T
