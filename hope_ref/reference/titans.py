r"""Titans: gradient descent with momentum and decay on ½‖M(k) - v‖², token by token. Source: [S 22-24], [S 28], [Titans].

    B_t = μ_t B_{t-1} - η_t ∇ℓ(M; k_t, v_t),    M_t = α_t M_{t-1} + B_t,    y_t = M_t(q_t)

The names are HOPE's: Titans prints 1 - α for our retention α, η for our momentum decay μ, θ for our learning rate
η, S for our B, and no ½ (so η = 2 θ). The gradient is taken at M_{t-1}, or in chunks at M_{b(t)}.

A memory is a tuple of weights: ``(memory,)`` is the matrix M(z) = M z, ``(w1, w2)`` the perceptron with a skip,
M(z) = z + W1 σ(W2 z) [S 28]. One η, α, μ moves all weights of a memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, per_token, positive_integer
from hope_ref.reference.activations import silu, silu_derivative
from hope_ref.reference.chunks import boundary, count

Weights = tuple[Array, ...]  # (memory,) or (w1, w2)


class TitansState(NamedTuple):
    """All that a memory carries from one call to the next; `start` makes the first one."""

    weights: Weights  # M_{t-1}
    momentum: Weights  # B_{t-1}, in the same shapes
    boundary: Weights  # M_{b}, where the open chunk takes its gradients
    position: int  # tokens seen


def _weights(name: str, weights: Any) -> Weights:
    """One matrix (d_v, d_k), or W1 (d, h) and W2 (h, d)."""
    if not isinstance(weights, tuple) or len(weights) not in (1, 2):
        got = f"{len(weights)} of them" if isinstance(weights, tuple) else type(weights).__name__
        raise ValueError(f"{name} must be a tuple (memory,) or (w1, w2), got {got}")
    if len(weights) == 1:
        return (float64(f"{name}[0]", weights[0], ("d_v", "d_k")),)
    w1 = float64(f"{name}[0]", weights[0], ("d", "h"))
    return w1, float64(f"{name}[1]", weights[1], w1.shape[::-1])


def _widths(weights: Weights) -> tuple[int, int]:
    """(d_v, d_k): what the memory answers with, and what it is asked with."""
    return len(weights[0]), weights[-1].shape[1]


def start(*weights: Any) -> TitansState:
    """The state before the first token: ``start(memory)`` or ``start(w1, w2)``, with B_0 = 0.

    Args: memory, (d_v, d_k); or w1, (d, h), and w2, (h, d). Returns: `TitansState`.
    Raises: ValueError naming the argument, what it got and what it wants.
    """
    checked = _weights("weights", weights)
    return TitansState(checked, tuple(np.zeros_like(w) for w in checked), checked, 0)


def _read(weights: Weights, z: Array) -> Array:
    if len(weights) == 1:
        return weights[0] @ z
    w1, w2 = weights
    return z + w1 @ silu(w2 @ z)


def _gradients(weights: Weights, k: Array, v: Array) -> Weights:
    error = _read(weights, k) - v  # e = ∂ℓ/∂M(k), (d_v,)
    if len(weights) == 1:
        return (np.outer(error, k),)
    w1, w2 = weights
    before = w2 @ k  # (h,)
    slope = (w1.T @ error) * silu_derivative(before)  # ∂ℓ/∂(W2 k), (h,): the skip carries nothing to a weight
    return np.outer(error, silu(before)), np.outer(slope, k)


def memory_read(weights: Any, z: Any) -> Array:
    """M(z): M z for a matrix, z + W1 σ(W2 z) for a perceptron [S 28].

    Args: weights, (memory,) or (w1, w2); z, (d_k,). Returns: (d_v,).
    Raises: ValueError naming the argument, what it got and what it wants.
    """
    weights = _weights("weights", weights)
    return _read(weights, float64("z", z, (_widths(weights)[1],)))


def memory_gradients(weights: Any, k: Any, v: Any) -> Weights:
    """∇ of ½‖M(k) - v‖² by hand, with e = M(k) - v: e kᵀ; or e σ(W2 k)ᵀ and ((W1ᵀ e) ⊙ σ′(W2 k)) kᵀ [D].

    Args: weights, (memory,) or (w1, w2); k, (d_k,); v, (d_v,). Returns: one gradient per weight, in its shape.
    Raises: ValueError naming the argument, what it got and what it wants.
    """
    weights = _weights("weights", weights)
    d_v, d_k = _widths(weights)
    return _gradients(weights, float64("k", k, (d_k,)), float64("v", v, (d_v,)))


def _state(state: Any) -> TitansState:
    """Validate a state: three sets of weights in the same shapes, and a position."""
    if not isinstance(state, TitansState):
        raise ValueError(f"state must be a TitansState (see start), got {type(state).__name__}")
    weights, momentum, frozen = (_weights(f"state.{n}", getattr(state, n)) for n in TitansState._fields[:3])
    shapes = tuple(w.shape for w in weights)
    for name, others in (("momentum", momentum), ("boundary", frozen)):
        got = tuple(w.shape for w in others)
        if got != shapes:
            raise ValueError(f"state.{name} must have shapes {shapes}, got {got}")
    return TitansState(weights, momentum, frozen, count("state.position", state.position))


def titans(
    q: Any, k: Any, v: Any, eta: Any, alpha: Any, mu: Any, state: TitansState, chunk_size: int = 1
) -> tuple[Array, TitansState]:
    """B_t = μ_t B_{t-1} - η_t ∇½‖M(k_t) - v_t‖², M_t = α_t M_{t-1} + B_t, y_t = M_t(q_t) [Titans], [S 23-24].

    The gradient is taken at M_{b(t)}, b(t) = C ⌊t/C⌋, with t counted over all calls: at M_{t-1} for C = 1. Weights and
    momentum move every token. Any split of a sequence into calls gives the same outputs and the same final state.

    Keys and queries are taken as they come, because the equations hold at every length; the sources make them unit
    before they reach a memory.

    Args:
        q, k: queries and keys, (T, d_k).
        v: values, (T, d_v); an (w1, w2) memory has d_v = d_k.
        eta: inner learning rate >= 0, a number or (T,).
        alpha: retention in [0, 1], a number or (T,): 1 keeps, 0 erases.
        mu: momentum decay in [0, 1], a number or (T,).
        state: from `start` or from the last call.
        chunk_size: C, an integer >= 1, the same in every call.
    Returns:
        outputs y, (T, d_v), and the state after the last token.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    weights, momentum, frozen, position = _state(state)
    d_v, d_k = _widths(weights)
    k = float64("k", k, ("T", d_k))
    q, v = float64("q", q, k.shape), float64("v", v, (len(k), d_v))
    eta = per_token("eta", eta, len(k), low=0)
    alpha, mu = (per_token(n, g, len(k), low=0, high=1) for n, g in (("alpha", alpha), ("mu", mu)))
    chunk_size = positive_integer("chunk_size", chunk_size)
    y = np.zeros_like(v)  # (T, d_v)
    for t in range(len(k)):
        if position == boundary(position, chunk_size):
            frozen = weights  # M_{b(t)}, kept before anything reads it
        slopes = _gradients(frozen, k[t], v[t])
        momentum = tuple(mu[t] * b - eta[t] * g for b, g in zip(momentum, slopes, strict=True))
        weights = tuple(alpha[t] * w + b for w, b in zip(weights, momentum, strict=True))
        position += 1
        y[t] = _read(weights, q[t])
    return y, TitansState(weights, momentum, frozen, position)
