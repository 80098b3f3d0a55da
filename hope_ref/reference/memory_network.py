"""One memory of the self-modifying Titans: what it answers, what it is to write, and the write. Source: [S 28-29], [P 88-93].

A memory is a tuple of weights: (W1, W2) of M(z) = z + W1 σ(W2 z), or (W,) of M(z) = z + W z. These functions check
nothing and let inf and NaN pass, so that an overflow is seen where it happens; `self_modifying_titans` is the door.
"""

from __future__ import annotations

import numpy as np

from hope_ref.config import HopeConfig
from hope_ref.reference.activations import silu, silu_derivative
from hope_ref.validation import Array

EPSILON = 1e-6  # inside the root of `unit`, and beside ‖φ‖² in the normalised step
Weights = tuple[Array, ...]


def softplus(z: Array) -> Array:
    """log(1 + exp(z))."""
    return np.logaddexp(0.0, z)


def unit(z: Array) -> Array:
    """z / √(‖z‖² + 1e-6): length one, and no division by zero [D]."""
    return z / np.sqrt(z @ z + EPSILON)


def answer(weights: Weights, z: Array, skip: bool = True) -> Array:
    """M(z) = z + W1 σ(W2 z) [P 89], or z + W z; without the leading z if not ``skip``."""
    if len(weights) == 1:
        (w,) = weights
        branch = w @ z  # (d,)
    else:
        w1, w2 = weights
        branch = w1 @ silu(w2 @ z)  # (d,)
    return z + branch if skip else branch


def associations(weights: Weights, k: Array, target: Array, config: HopeConfig) -> list[tuple[Array, Array]]:
    """Per weight matrix its input φ and wanted output u: minus the inner loss's gradient is u φᵀ, the target held fixed.

    e = -v̂ for the loss -⟨M(k), v̂⟩ ("dot"), M(k) - v̂ for ½‖M(k) - v̂‖² ("l2");
    W1: φ = σ(W2 k), u = -e;  W2: φ = k, u = -(W1ᵀ e) ⊙ σ′(W2 k);  W of a linear memory: φ = k, u = -e.
    u comes out bounded, see `bounded`.
    """
    error = -target if config.objective == "dot" else answer(weights, k) - target  # (d,)
    if len(weights) == 1:
        pairs = [(k, -error)]
    else:
        w1, w2 = weights
        hidden = w2 @ k  # (h,)
        pairs = [(silu(hidden), -error), (k, -(w1.T @ error) * silu_derivative(hidden))]
    return [(phi, bounded(u, config.surprise_bound)) for phi, u in pairs]


def bounded(u: Array, bound: float) -> Array:
    """u · c / √(c² + ‖u‖²): the same direction, shorter than c; c = 0 leaves u as it is [D]."""
    return u * bound / np.sqrt(bound**2 + u @ u) if bound > 0 else u


def step_size(eta: float, phi: Array, step: str) -> float:
    """η̃: η/(1 + η‖φ‖²) ("implicit" [P 57]), η/(‖φ‖² + 1e-6) ("normalized"), η ("explicit", as printed)."""
    if step == "implicit":
        return float(eta / (1.0 + eta * (phi @ phi)))
    return float(eta / (phi @ phi + EPSILON)) if step == "normalized" else eta


def write(
    weight: Array,
    initial: Array,
    momentum: Array | None,
    phi: Array,
    u: Array,
    eta: float,
    alpha: float,
    config: HopeConfig,
) -> tuple[Array, Array | None]:
    """W_t = α W_{t-1} + (1 - α) R - η̃ ((W_{t-1} - E) φ - u) φᵀ [P 88, D]; returns W_t and B_t.

    R is the initial weight or 0, what forgetting returns to; E is 0 or the initial weight, what the erase term
    measures from. With inner momentum B_t = μ B_{t-1} + η̃ u φᵀ stands in the place of η̃ u φᵀ.
    """
    eta_step = step_size(eta, phi, config.step)
    kept = alpha * weight + ((1.0 - alpha) * initial if config.retention_target == "initial" else 0.0)
    written = eta_step * np.outer(u, phi)
    if momentum is not None:
        written = momentum = config.inner_momentum * momentum + written
    if config.erase == "none":
        return kept + written, momentum
    old = (weight - initial if config.erase == "deviation" else weight) @ phi
    return kept - eta_step * np.outer(old, phi) + written, momentum
