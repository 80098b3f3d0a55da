"""Gradient descent as a memory that writes its own surprises. Source: [S 6-10], [P 2], [P 8-9], [P 29-31], [P 58]."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, per_token, scalar
from hope_ref.reference.activations import silu, silu_derivative


def _rows(name: str, value: Any, width: int) -> Array:
    """One row of the given width, (width,), or many, (N, width)."""
    array = float64(name, value)
    return float64(name, array, (width,) if array.ndim == 1 else ("N", width))


def gradient_descent_step(w: Any, x: Any, grad_y: Any, eta: Any) -> Array:
    """Write the gradients at the outputs to their inputs: W ← W - Σ_n η_n ∇_y L_n x_nᵀ.

    For one input this is [S 7] = [P 8]; for a batch the writes are summed [D], because the gradient of a summed
    loss is the sum of the gradients.

    Args:
        w: weight of y = W x, (d_out, d_in).
        x: one input, (d_in,), or a batch, (N, d_in).
        grad_y: the loss's gradient at the output, (d_out,) or (N, d_out).
        eta: inner learning rate >= 0, a number, or (N,) for a batch.
    Returns:
        the weight after the step, (d_out, d_in).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w = float64("w", w, ("d_out", "d_in"))
    x = _rows("x", x, w.shape[1])
    grad_y = float64("grad_y", grad_y, (*x.shape[:-1], w.shape[0]))
    if x.ndim == 1:
        return w - scalar("eta", eta, low=0) * np.outer(grad_y, x)
    eta = per_token("eta", eta, len(x), low=0)
    for n in range(len(x)):
        w = w - eta[n] * np.outer(grad_y[n], x[n])  # (d_out, d_in)
    return w


def proximal_objective(w: Any, w_start: Any, x: Any, grad_y: Any, eta: Any) -> float:
    """What one gradient step minimises exactly: ⟨W x, ∇_y L⟩ + ‖W - W_t‖² / (2 η) [S 8], [P 9].

    Args:
        w: where to evaluate it, (d_out, d_in).
        w_start: W_t, (d_out, d_in).
        x: one input, (d_in,).
        grad_y: the loss's gradient at the output W_t x, held fixed, (d_out,).
        eta: learning rate > 0.
    Returns:
        a number.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w = float64("w", w, ("d_out", "d_in"))
    w_start = float64("w_start", w_start, w.shape)
    x = float64("x", x, (w.shape[1],))
    grad_y = float64("grad_y", grad_y, (w.shape[0],))
    eta = scalar("eta", eta, low=0)
    if eta == 0:
        raise ValueError("eta must be > 0, got 0: the objective divides by it")
    return float(grad_y @ (w @ x) + np.sum((w - w_start) ** 2) / (2 * eta))


def train_linear(w: Any, inputs: Any, targets: Any, eta: Any) -> tuple[Array, Array]:
    """Train y = W x online on ½‖W x - target‖² and keep what was written: W_{t+1} = W_t + η_t v_t x_tᵀ.

    v_t = -∇_y L(W_t; x_t) = target_t - W_t x_t [S 9-10], [P 58]: linear attention whose values the memory
    computes itself, so that W_T = W_0 + Σ_t η_t v_t x_tᵀ. On this loss it is `delta_rule` with keys x and values target.

    Args:
        w: W_0, (d_out, d_in).
        inputs: one per step, (T, d_in).
        targets: one per step, (T, d_out).
        eta: learning rate >= 0, a number or (T,).
    Returns:
        the weight after the last step, (d_out, d_in), and the surprises v, (T, d_out).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w = float64("w", w, ("d_out", "d_in"))
    inputs = float64("inputs", inputs, ("T", w.shape[1]))
    targets = float64("targets", targets, (inputs.shape[0], w.shape[0]))
    eta = per_token("eta", eta, len(inputs), low=0)
    surprises = np.zeros_like(targets)  # (T, d_out)
    for t in range(len(inputs)):
        surprises[t] = (
            targets[t] - w @ inputs[t]
        )  # minus the gradient at the output, from the memory as it is now
        w = w + eta[t] * np.outer(surprises[t], inputs[t])  # (d_out, d_in)
    return w, surprises


class LayerSurprises(NamedTuple):
    """For each weight of an MLP its input and its local surprise: the weight's gradient is -surprise ⊗ input."""

    w1_surprise: Array  # (d_out,) or (N, d_out)
    w1_input: Array  # (h,) or (N, h)
    w2_surprise: Array  # (h,) or (N, h)
    w2_input: Array  # (d_in,) or (N, d_in)


def mlp(w1: Any, w2: Any, x: Any) -> Array:
    """A plain network of two layers without biases or skip: y = W1 σ(W2 x), W2 applied first [D].

    Args:
        w1: (d_out, h).
        w2: (h, d_in).
        x: one input, (d_in,), or a batch, (N, d_in).
    Returns:
        y, (d_out,) or (N, d_out).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w1, w2, x = _network(w1, w2, x)
    return silu(x @ w2.T) @ w1.T  # (N, d_out)


def mlp_surprises(w1: Any, w2: Any, x: Any, grad_y: Any) -> LayerSurprises:
    """Back-propagation by hand: what each layer of y = W1 σ(W2 x) is told to write, and at which input [P 29-31].

    W1 reads a = σ(W2 x) and is told u = -∇_y L; W2 reads x and is told (W1ᵀ u) ⊙ σ′(W2 x). Each gradient is
    ∇_W L = -u φᵀ, with φ the layer's input: every layer is a memory of its own surprises.

    Args:
        w1, w2, x: as `mlp`.
        grad_y: the loss's gradient at y, (d_out,) or (N, d_out).
    Returns:
        `LayerSurprises`.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w1, w2, x = _network(w1, w2, x)
    grad_y = float64("grad_y", grad_y, (*x.shape[:-1], w1.shape[0]))
    before = x @ w2.T  # W2 x, (N, h)
    w1_surprise = -grad_y  # (N, d_out)
    w2_surprise = (w1_surprise @ w1) * silu_derivative(before)  # (N, h)
    return LayerSurprises(w1_surprise, silu(before), w2_surprise, x)


def _network(w1: Any, w2: Any, x: Any) -> tuple[Array, Array, Array]:
    w2 = float64("w2", w2, ("h", "d_in"))
    return float64("w1", w1, ("d_out", w2.shape[0])), w2, _rows("x", x, w2.shape[1])
