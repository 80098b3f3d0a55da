"""A matrix memory as an online learner: its regret, what it recalls after passes over its pairs, what two layers add.

Measured in float64, step by step; `symbolic.online_learning` proves what is to be expected.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, one_of, positive_integer, scalar
from hope_ref.reference.activations import silu, silu_derivative
from hope_ref.reference.delta_gradient_descent import (
    OBJECTIVES,
    STEPS,
    effective_step,
    memory_step,
)


class Regret(NamedTuple):
    """The outcome of `regret`.

    Attributes:
        before: ½‖W_{t-1} k_t - v_t‖², paid on arrival, (T,).
        after: ½‖W_t k_t - v_t‖², once the step is taken, (T,).
        fixed: ½‖U k_t - v_t‖² of the memory to compare with, (T,).
        bound: ‖W_0 - U‖²/(2η): Σ after - Σ fixed is not above it if the steps are implicit.
    """

    before: Array
    after: Array
    fixed: Array
    bound: float


def regret(k: Any, v: Any, eta: Any, fixed: Any, step: str = "implicit") -> Regret:
    """Losses of W_t = W_{t-1} - η̃ (W_{t-1} k_t - v_t) k_tᵀ from W_0 = 0, beside those of one memory for all pairs.

    Args:
        k, v: pairs in rows, (T, d_k) and (T, d_v).
        eta: learning rate > 0; fixed: U, (d_v, d_k).
        step: "implicit", "explicit" or "normalized", the η̃ of `reference.delta_gradient_descent.step_taken`.
    Returns: a `Regret`.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    k, v = _pairs(k, v)
    fixed = float64("fixed", fixed, (v.shape[1], k.shape[1]))
    eta = scalar("eta", eta, low=1e-12)
    one_of("step", step, STEPS)
    w, before, after = np.zeros_like(fixed), [], []
    for key, value in zip(k, v, strict=True):
        before.append(_half_squares(w @ key - value))
        w = memory_step(w, key, value, eta, step=step)
        after.append(_half_squares(w @ key - value))
    beside = [_half_squares(row) for row in k @ fixed.T - v]
    return Regret(np.array(before), np.array(after), np.array(beside), float((fixed**2).sum() / (2 * eta)))


def recall_error(k: Any, v: Any, passes: Any, objective: str = "dot") -> Array:
    """Root mean square of W k_i - v_i after each pass over all pairs from W = 0, relative to that of the values.

    The step is 1/‖k‖²: with "dot", Delta Gradient Descent is Kaczmarz's projection. Keys that are independent are
    stored exactly in the limit, orthogonal ones by the first pass; of more pairs than directions none need be.
    "l2" erases twice: at this step it turns W k_i - v_i/2 into its opposite, and does not settle.

    Args:
        k, v: pairs in rows, (N, d_k) and (N, d_v), no key 0.
        passes: how many; objective: "dot", "l2" or "l2_without_half".
    Returns: (passes,).
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    k, v = _pairs(k, v)
    squares = (k**2).sum(1)
    if not squares.all():
        raise ValueError(f"k must have no row of zeros, got one at {int(np.argmin(squares))}")
    one_of("objective", objective, OBJECTIVES)
    w, errors = np.zeros((v.shape[1], k.shape[1])), []
    for _ in range(positive_integer("passes", passes)):
        for key, value, square in zip(k, v, squares, strict=True):
            w = memory_step(w, key, value, 1 / square, objective=objective)
        errors.append(np.linalg.norm(k @ w.T - v) / np.linalg.norm(v))
    return np.array(errors)


def capacity(width: Any, counts: Any, passes: Any, seed: Any = 0) -> Array:
    """`recall_error` after each pass for so many random unit keys of that width and random values of the same.

    Args: width d; counts, integers N >= 1, (n,); passes; seed.
    Returns: (n, passes).
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    width, passes = positive_integer("width", width), positive_integer("passes", passes)
    rows = []
    for count in counts:
        rng = np.random.default_rng((seed, positive_integer("counts", count)))
        k, v = rng.normal(size=(2, count, width))
        rows.append(recall_error(k / np.linalg.norm(k, axis=1, keepdims=True), v, passes))
    return np.array(rows)


class JointGap(NamedTuple):
    """Both steps of `joint_gap`: W_1 and W_2 after the joint implicit step, and after a step for each alone."""

    joint: tuple[Array, Array]
    apart: tuple[Array, Array]

    @property
    def size(self) -> float:
        """The distance between the two, of both weights together."""
        return float(np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(*self, strict=True))))


def joint_gap(w1: Any, w2: Any, k: Any, v: Any, eta: Any) -> JointGap:
    """One implicit step on ℓ = ½‖W_1 silu(W_2 k) - v‖², for both weights together and for each with its own input.

    Together: (W_1', W_2') = argmin ℓ + (‖W_1' - W_1‖² + ‖W_2' - W_2‖²)/(2η), the point that W' ← W - η ∇ℓ(W') keeps. Apart,
    as in [P 88]: W' = W - η/(1 + η‖φ‖²) ∇ℓ, φ = silu(W_2 k) for W_1 and k for W_2. They differ by η² to first order.

    Args:
        w1: (d_v, h); w2: (h, d_k); k: (d_k,); v: (d_v,).
        eta: learning rate >= 0, so small that the iteration contracts.
    Returns: a `JointGap`.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    w1, w2 = float64("w1", w1, ("d_v", "h")), float64("w2", w2, ("h", "d_k"))
    if w1.shape[1] != w2.shape[0]:
        raise ValueError(f"w2 must have as many rows as w1 has columns, {w1.shape[1]}, got {w2.shape[0]}")
    k, v, eta = float64("k", k, (w2.shape[1],)), float64("v", v, (w1.shape[0],)), scalar("eta", eta, low=0)

    def slopes(one: Array, two: Array) -> tuple[Array, Array]:
        """∂ℓ/∂(W_1 a), (d_v,), and ∂ℓ/∂(W_2 k), (h,)."""
        error = one @ silu(two @ k) - v
        return error, (one.T @ error) * silu_derivative(two @ k)

    error, delta = slopes(w1, w2)
    a = silu(w2 @ k)
    apart = (
        w1 - effective_step(eta, a) * np.outer(error, a),
        w2 - effective_step(eta, k) * np.outer(delta, k),
    )
    one, two = apart
    for _ in range(1000):
        error, delta = slopes(one, two)
        new = w1 - eta * np.outer(error, silu(two @ k)), w2 - eta * np.outer(delta, k)
        moved = np.abs(new[0] - one).max() + np.abs(new[1] - two).max()
        one, two = new
        if not moved > 1e-15 * (np.abs(one).max() + np.abs(two).max()):
            break
    if not moved < 1e-12 * (1 + np.abs(one).max() + np.abs(two).max()):
        raise ValueError(f"eta must be small enough for the joint step's iteration to converge, got {eta:g}")
    return JointGap((one, two), apart)


def _pairs(k: Any, v: Any) -> tuple[Array, Array]:
    k = float64("k", k, ("N", "d_k"))
    return k, float64("v", v, (k.shape[0], "d_v"))


def _half_squares(error: Array) -> float:
    return float(error @ error) / 2
