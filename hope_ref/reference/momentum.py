"""Momentum as a memory of gradients: heavy ball, running mean, delta momentum, Adam. Source: [S 11-13], [P 10-13, 33-37, 43-53].

Gradients come in as arrays, weights and states go out: no closure, no hidden buffer. One call is one step.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, one_of, scalar

WRITES = ("explicit", "implicit")


def below_one(name: str, value: Any) -> float:
    """Return ``value`` as a float in [0, 1): a decay that remembers for ever would never hold a share."""
    number = scalar(name, value, low=0)
    if number >= 1:
        raise ValueError(f"{name} must be < 1, got {number:g}")
    return number


def momentum_step(w: Any, m: Any, gradient: Any, eta: Any, mu: Any) -> tuple[Array, Array]:
    """Fade the memory, add minus the gradient, move by the memory: m' = μ m - η g, W' = W + m'.

    [S 11-12] = [P 33]: one gradient step of size η on ⟨m, g⟩ + ((1 - μ)/2η) ‖m‖². At μ = 0 it is gradient descent.

    Args:
        w, m, gradient: weights, momentum and the loss gradient at w, arrays of one shape.
        eta: learning rate >= 0.
        mu: momentum decay in [0, 1]; 1 forgets nothing.
    Returns:
        the new weights and the new momentum, both in the shape of w.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w = float64("w", w)
    m, gradient = float64("m", m, w.shape), float64("gradient", gradient, w.shape)
    eta, mu = scalar("eta", eta, low=0), scalar("mu", mu, low=0, high=1)
    m = mu * m - eta * gradient
    return w + m, m


def ema_step(m: Any, gradient: Any, beta: Any) -> Array:
    """The exponential moving average: m' = β m + (1 - β) g = argmin β‖m' - m‖² + (1 - β)‖m' - g‖². [S 36], [D].

    Args: m, gradient of one shape; beta, the decay, in [0, 1].
    Returns: the new average, in the shape of m.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    m = float64("m", m)
    gradient, beta = float64("gradient", gradient, m.shape), scalar("beta", beta, low=0, high=1)
    return beta * m + (1 - beta) * gradient


def gradients_to_hold(beta: Any, share: Any) -> int:
    """How many of the newest gradients hold that share of an average's weight: the least n with 1 - βⁿ >= share.

    The newest gradient weighs 1 - β, the one before (1 - β) β, and so on; n of them weigh 1 - βⁿ. At β = 0.9 it
    takes 7 for one half and 44 for 99 %; [P 4.3] prints 6 and 43. A tie counts as reached: 0.9 and 0.19 are both
    rounded in a computer, so n is solved for and allowed to be off by what those two roundings can move it.

    Args: beta, the decay, in [0, 1); share in (0, 1).
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    beta, share = below_one("beta", beta), below_one("share", share)
    if share == 0:
        raise ValueError("share must be > 0, got 0")
    if beta == 0:
        return 1  # the newest gradient is all there is
    n = math.log1p(-share) / math.log(beta)  # βⁿ = 1 - share
    rounding = (share / (1 - share) + n) / -math.log(beta) + n  # |∂n/∂share| share + |∂n/∂β| β + n
    return max(1, math.ceil(n - 2 * np.finfo(float).eps * rounding))


def delta_momentum_step(
    w: Any, m: Any, gradient: Any, eta: Any, mu: Any, target: Any = 1.0, write: str = "explicit"
) -> tuple[Array, Array]:
    """Correct the memory's answer to the gradient: m' = m (μ I - η̃ gᵀg) - η P g, W' = W + m', η̃ = η/(1 + η‖g‖²).

    [P 48-49], corrected: the delta rule on ½‖m gᵀ + P‖², keyed by the gradient itself. Every factor of the erasing
    matrix lies in (μ - 1, μ], so it never diverges along g, whatever η. With ``write="implicit"`` the write is
    -η̃ P g too: for one row and μ = 1 exactly argmin ½‖m' gᵀ + P‖² + (1/2η)‖m' - m‖². Under one repeated g (μ = 1)
    that form settles at m gᵀ = -P, the explicit write at -P (1 + η‖g‖²).

    Args:
        w, m, gradient: one shape, (columns,) for a parameter vector, which counts as one row, or (rows, columns).
        eta: learning rate >= 0.
        mu: momentum decay in [0, 1].
        target: P, a number (that many times I) or (rows, rows); 1 for a vector.
        write: "explicit" or "implicit". ‖g‖ is the Frobenius norm [D], so with several rows "implicit" is bounded
            in the same way but no longer the exact minimiser.
    Returns:
        the new weights and the new momentum, both in the shape of w.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w = float64("w", w)
    if w.ndim not in (1, 2):
        raise ValueError(f"w must have shape (columns,) or (rows, columns), got {w.shape}")
    m, gradient = float64("m", m, w.shape), float64("gradient", gradient, w.shape)
    eta, mu = scalar("eta", eta, low=0), scalar("mu", mu, low=0, high=1)
    one_of("write", write, WRITES)
    g, old = np.atleast_2d(gradient), np.atleast_2d(m)  # (rows, columns)
    p = float64("target", target)
    p = p * np.eye(len(g)) if p.ndim == 0 else float64("target", target, (len(g), len(g)))  # (rows, rows)
    eta_step = eta / (1 + eta * np.sum(g**2))
    erased = mu * old - eta_step * (old @ g.T) @ g  # m (μ I - η̃ gᵀg)
    new = erased - (eta if write == "explicit" else eta_step) * p @ g
    new = new.reshape(w.shape)
    return w + new, new


class AdamState(NamedTuple):
    """What Adam remembers: two running averages and how many gradients are in them."""

    m: Array  # average of the gradients
    second_moment: Array  # average of their squares
    steps: int


def adam_step(
    w: Any,
    gradient: Any,
    state: AdamState | None = None,
    eta: Any = 1e-3,
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    epsilon: Any = 1e-8,
) -> tuple[Array, AdamState]:
    """W' = W - η m̂/(√V̂ + ε), with m̂ and V̂ the averages of g and g² divided by the weight they have seen, 1 - βᵗ.

    Args:
        w, gradient: weights and the loss gradient at w, arrays of one shape.
        state: what the last call returned; None starts from nothing.
        eta, epsilon: learning rate and offset, >= 0.
        beta1, beta2: decays of the two averages, in [0, 1).
    Returns:
        the new weights and the new state.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w = float64("w", w)
    gradient = float64("gradient", gradient, w.shape)
    m, second_moment, steps = AdamState(np.zeros_like(w), np.zeros_like(w), 0) if state is None else state
    m = float64("state.m", m, w.shape)
    second_moment = float64("state.second_moment", second_moment, w.shape)
    eta, epsilon = scalar("eta", eta, low=0), scalar("epsilon", epsilon, low=0)
    beta1, beta2 = below_one("beta1", beta1), below_one("beta2", beta2)
    steps = steps + 1
    m = beta1 * m + (1 - beta1) * gradient
    second_moment = beta2 * second_moment + (1 - beta2) * gradient**2
    m_hat, v_hat = m / (1 - beta1**steps), second_moment / (1 - beta2**steps)  # bias corrected
    scale = np.sqrt(v_hat) + epsilon
    if (scale == 0).any():
        raise ValueError(f"epsilon must be > 0 where every gradient so far was 0, got {epsilon:g}")
    return w - eta * m_hat / scale, AdamState(m, second_moment, steps)


def adam_regression(gradients: Any, weights: Any, target: Any, lam: Any = 0.0) -> Array:
    """The elementwise regression of [P 101]: argmin_m Σ_i w_i ‖m ⊙ g_i - P‖² + λ‖m‖² = P ⊙ Σ w g / (Σ w g² + λ).

    Args:
        gradients: (n, ...), the first axis counts them.
        weights: w_i >= 0, (n,).
        target: P, of the shape of one gradient.
        lam: ridge >= 0.
    Returns:
        m, of the shape of one gradient.
    Raises:
        ValueError: naming the argument, what it got and what it wants; also where no unique minimiser exists.
    """
    gradients = float64("gradients", gradients)
    if gradients.ndim == 0 or len(gradients) == 0:
        raise ValueError(f"gradients must have shape (n, ...) with n >= 1, got {gradients.shape}")
    weights = float64("weights", weights, gradients.shape[:1])
    if weights.min() < 0:
        raise ValueError(f"weights must be >= 0, got min {weights.min():g}")
    target, lam = float64("target", target, gradients.shape[1:]), scalar("lam", lam, low=0)
    squares = np.tensordot(weights, gradients**2, 1) + lam  # Σ w g² + λ
    if (squares == 0).any():
        raise ValueError(f"lam must be > 0 where every weighted gradient is 0, got {lam:g}")
    return target * np.tensordot(weights, gradients, 1) / squares
