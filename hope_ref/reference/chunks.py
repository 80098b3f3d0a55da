r"""Chunks: what is generated at a chunk's boundary, and the recurrence that still moves every token. Source: [P 8.2], [D].

The state S (d_out, d_in) of every rank-one rule here moves token by token,

    S_t = α_t S_{t-1} + w_t φ_tᵀ        w_t = η_t (u_t - S_{t-1} φ_t)          erase="before_decay"
                                        w_t = η_t (u_t - α_t S_{t-1} φ_t)      erase="after_decay" (gated delta rule)
                                        w_t = η_t u_t                          erase="none" (linear attention)

`recurrence` is that loop; `chunk_recurrence` is the same numbers from one triangular solve per chunk, so there the
chunk size is a matter of speed. `frozen_gradients` takes its gradients at the boundary: there it is part of the model.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, one_of, per_token, positive_integer
from hope_ref.reference.delta_gradient_descent import OBJECTIVES, RULES, wanted_output
from hope_ref.reference.linear_attention import sequence

ERASE = ("before_decay", "after_decay", "none")


def count(name: str, value: Any) -> int:
    """Return ``value`` as an int >= 0, or raise a ValueError that names it."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 0:
        raise ValueError(f"{name} must be an integer >= 0, got {value!r}")
    return int(value.__index__())


def boundary(t: Any, chunk_size: Any) -> int:
    """Token t reads the state at its chunk's start, b(t) = C ⌊t/C⌋: the state after tokens 0 … b(t) - 1 [P 90, corrected].

    t counts from 0. Printed is C ⌈t/C⌉, the end of the chunk, which has seen the token itself and later ones.

    Args: t, an integer >= 0; chunk_size, C, an integer >= 1. Returns: b(t) <= t. Raises: ValueError otherwise.
    """
    t, chunk_size = count("t", t), positive_integer("chunk_size", chunk_size)
    return chunk_size * (t // chunk_size)


# --- the token loop -----------------------------------------------------------------------------------------------


class _Inputs(NamedTuple):
    """What both forms of the recurrence take, validated; the rows are the chunk's or the sequence's tokens."""

    q: Array  # (T, d_in)
    phi: Array  # (T, d_in)
    u: Array  # (T, d_out)
    eta: Array  # (T,)
    alpha: Array  # (T,)

    def rows(self, tokens: slice) -> _Inputs:
        return _Inputs(*(array[tokens] for array in self))


def _inputs(q: Any, phi: Any, u: Any, eta: Any, alpha: Any, erase: str) -> _Inputs:
    phi = float64("phi", phi, ("T", "d_in"))
    u = float64("u", u, (phi.shape[0], "d_out"))
    q = float64("q", q, phi.shape)
    one_of("erase", erase, ERASE)
    eta = per_token("eta", eta, len(phi), low=0)
    return _Inputs(q, phi, u, eta, per_token("alpha", alpha, len(phi), low=0, high=1))


def _matrix(name: str, value: Any, inputs: _Inputs) -> Array:
    """A (d_out, d_in) argument; None means zeros."""
    shape = (inputs.u.shape[1], inputs.phi.shape[1])
    return np.zeros(shape) if value is None else float64(name, value, shape)


def _answer(state: Array, alpha: float, phi: Array, erase: str) -> Array:
    """What the memory answers to φ_t before the write: the part that the write erases."""
    if erase == "none":
        return np.zeros(len(state))
    return (alpha * state if erase == "after_decay" else state) @ phi


def recurrence(
    q: Any, phi: Any, u: Any, eta: Any, alpha: Any, state: Any = None, erase: str = "before_decay"
) -> tuple[Array, Array]:
    """Decay, erase and write along φ_t, then read: S_t = α_t S_{t-1} + η_t (u_t - S_{t-1} φ_t) φ_tᵀ, y_t = S_t q_t [D].

    With u = v and φ = k: "none" at η = 1 is `linear_attention`, "after_decay" is `gated_delta_rule`, "before_decay" is
    Delta Gradient Descent on the dot product [P 92] and, at α = 1, `delta_rule`.

    Args:
        q, phi: queries and inputs, (T, d_in).
        u: wanted outputs, (T, d_out).
        eta: inner learning rate >= 0, a number or (T,).
        alpha: retention in [0, 1], a number or (T,).
        state: S_0, (d_out, d_in); None starts empty.
        erase: "before_decay", "after_decay" or "none", see the head of this file.
    Returns:
        outputs y, (T, d_out), and the final state, (d_out, d_in).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    inputs = _inputs(q, phi, u, eta, alpha, erase)
    q, phi, u, eta, alpha = inputs
    state = _matrix("state", state, inputs)
    y = np.zeros_like(u)  # (T, d_out)
    for t in range(len(phi)):
        write = eta[t] * (u[t] - _answer(state, alpha[t], phi[t], erase))  # w_t, (d_out,)
        state = alpha[t] * state + np.outer(write, phi[t])  # (d_out, d_in)
        y[t] = state @ q[t]
    return y, state


def momentum_recurrence(
    q: Any,
    phi: Any,
    u: Any,
    eta: Any,
    alpha: Any,
    mu: Any,
    state: Any = None,
    momentum: Any = None,
    shift: Any = None,
    erase: str = "before_decay",
) -> tuple[Array, Array, Array]:
    """Write through a momentum: B_t = μ_t B_{t-1} + η_t u_t φ_tᵀ, S_t = α_t S_{t-1} - η_t p_t φ_tᵀ + B_t, y_t = S_t q_t [D].

    p_t = (S_{t-1} + shift) φ_t is what is erased: at once, and never through B. With μ = 0 and no shift this is
    `recurrence`; "none" (p_t = 0) is the matrix memory of Titans, with u = v - M k given.

    Args:
        q, phi, u, eta, alpha, state, erase: as `recurrence`.
        mu: momentum decay in [0, 1], a number or (T,).
        momentum: B_0, (d_out, d_in); None starts empty.
        shift: R - E, where retention returns to R and erasing measures from E, for S = W - R; None is 0.
    Returns:
        outputs y, (T, d_out), the final state and the final momentum, both (d_out, d_in).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    inputs = _inputs(q, phi, u, eta, alpha, erase)
    q, phi, u, eta, alpha = inputs
    mu = per_token("mu", mu, len(phi), low=0, high=1)
    state, momentum = _matrix("state", state, inputs), _matrix("momentum", momentum, inputs)
    shift = _matrix("shift", shift, inputs)
    y = np.zeros_like(u)  # (T, d_out)
    for t in range(len(phi)):
        momentum = mu[t] * momentum + eta[t] * np.outer(u[t], phi[t])  # (d_out, d_in)
        answer = _answer(state, alpha[t], phi[t], erase)  # (d_out,)
        if erase != "none":
            answer = answer + shift @ phi[t]  # p_t
        state = alpha[t] * state - eta[t] * np.outer(answer, phi[t]) + momentum
        y[t] = state @ q[t]
    return y, state, momentum


# --- the same numbers, a chunk at a time --------------------------------------------------------------------------


class Decays(NamedTuple):
    """The decays within one chunk; entry t counts the tokens of the chunk from 0."""

    gamma: Array  # γ_t = Π_{s≤t} α_s, (C,)
    gamma_before: Array  # γ_{t-1}, 1 at t = 0, (C,)
    ratio: Array  # D_{t,s} = γ_t / γ_s for s <= t, else 0, (C, C)
    ratio_before: Array  # D_{t-1,s} for s < t, else 0, (C, C)


def decays(alpha: Any) -> Decays:
    """All products of retentions within a chunk, column by column: D_{t,s} = α_{s+1} … α_t [D].

    Nothing is divided, so α = 0 is exact, and γ may fall to 0 in float64 where γ_t / γ_s would be 0/0. Every factor is
    at most 1.

    Args: alpha in [0, 1], (C,). Returns: `Decays`. Raises: ValueError naming alpha, what it got and what it wants.
    """
    alpha = float64("alpha", alpha, ("C",))
    alpha = per_token("alpha", alpha, len(alpha), low=0, high=1)
    after = np.tri(len(alpha), k=-1, dtype=bool)  # s < t: token t comes after the write made at s
    factors: Array = np.where(after, alpha[:, None], 1.0)  # (C, C)
    ratio = np.tril(np.cumprod(factors, axis=0))  # (C, C)
    ratio_before = np.zeros_like(ratio)
    ratio_before[1:] = np.tril(ratio[:-1])  # D_{t-1,s}: one row down
    gamma = np.cumprod(alpha)  # (C,)
    return Decays(gamma, np.concatenate([np.ones(1), gamma])[: len(alpha)], ratio, ratio_before)


def _erased_decays(decay: Decays, erase: str) -> tuple[Array, Array]:
    """(what is left of S_0, of each earlier write) in the memory whose answer token t erases; "none" erases nothing."""
    if erase == "after_decay":
        return decay.gamma, np.tril(decay.ratio, -1)
    erases = 0.0 if erase == "none" else 1.0
    return erases * decay.gamma_before, erases * decay.ratio_before


def writes(phi: Array, u: Array, eta: Array, decay: Decays, state: Array, erase: str) -> Array:
    """All writes of a chunk by one solve: w_t + η_t Σ_{s<t} D_{t-1,s} (φ_tᵀφ_s) w_s = η_t (u_t - γ_{t-1} S_0 φ_t) [D].

    The system is unit lower-triangular, so it always has one solution. "after_decay" has D_{t,s} and γ_t in their
    places, "none" has 0: w_t = η_t u_t.

    Args: phi (C, d_in); u (C, d_out); eta (C,); the chunk's `Decays`; S_0 (d_out, d_in). Returns: w, (C, d_out).
    """
    gamma, ratio = _erased_decays(decay, erase)
    gram = phi @ phi.T  # φ_tᵀ φ_s, (C, C)
    system = np.eye(len(phi)) + eta[:, None] * ratio * gram
    target = eta[:, None] * (u - gamma[:, None] * (phi @ state.T))  # (C, d_out)
    return np.linalg.solve(system, target).astype(np.float64)


def chunk_recurrence(
    q: Any,
    phi: Any,
    u: Any,
    eta: Any,
    alpha: Any,
    state: Any = None,
    chunk_size: int = 16,
    erase: str = "before_decay",
) -> tuple[Array, Array]:
    """The numbers of `recurrence`, C tokens at a time: S_t q_t = γ_t S_0 q_t + Σ_{s≤t} D_{t,s} (φ_sᵀ q_t) w_s [D].

    The chunk's last state is S_C = γ_C S_0 + Σ_s D_{C,s} w_s φ_sᵀ. Exact for every chunk size.

    Args, Returns, Raises: as `recurrence`; chunk_size is an integer >= 1, and the last chunk may be shorter.
    """
    inputs = _inputs(q, phi, u, eta, alpha, erase)
    state, chunk_size = _matrix("state", state, inputs), positive_integer("chunk_size", chunk_size)
    y = np.zeros_like(inputs.u)  # (T, d_out)
    for start in range(0, len(y), chunk_size):
        tokens = slice(start, start + chunk_size)
        q_c, phi_c, u_c, eta_c, alpha_c = inputs.rows(tokens)
        decay = decays(alpha_c)
        write = writes(phi_c, u_c, eta_c, decay, state, erase)  # (C, d_out)
        scores = decay.ratio * (q_c @ phi_c.T)  # D_{t,s} (φ_sᵀ q_t), (C, C)
        y[tokens] = decay.gamma[:, None] * (q_c @ state.T) + scores @ write
        state = decay.gamma[-1] * state + (decay.ratio[-1, :, None] * write).T @ phi_c
    return y, state


def chunk_momentum_recurrence(
    q: Any,
    phi: Any,
    u: Any,
    eta: Any,
    alpha: Any,
    mu: Any,
    state: Any = None,
    momentum: Any = None,
    shift: Any = None,
    chunk_size: int = 16,
    erase: str = "before_decay",
) -> tuple[Array, Array, Array]:
    """The numbers of `momentum_recurrence`: S_t = γ_t S_0 + b_t B_0 + Σ_{s≤t} η_s (c_{t,s} u_s - D_{t,s} p_s) φ_sᵀ [D].

    c_{t,s} = Σ_{r=s..t} D_{t,r} μ_{s+1} … μ_r and b_t = Σ_{r≤t} D_{t,r} μ_1 … μ_r say how much of a write, and of B_0, has
    reached S_t: products of two triangular matrices of decays. What is erased comes from one triangular solve,

        p_t + Σ_{s<t} D_{t-1,s} η_s (φ_sᵀφ_t) p_s = γ_{t-1} S_0 φ_t + shift φ_t + b_{t-1} B_0 φ_t
                                                   + Σ_{s<t} c_{t-1,s} η_s (φ_sᵀφ_t) u_s.

    Args, Returns, Raises: as `momentum_recurrence`; chunk_size is an integer >= 1, and the last chunk may be shorter.
    """
    inputs = _inputs(q, phi, u, eta, alpha, erase)
    mu = per_token("mu", mu, len(inputs.phi), low=0, high=1)
    state, momentum = _matrix("state", state, inputs), _matrix("momentum", momentum, inputs)
    shift, chunk_size = _matrix("shift", shift, inputs), positive_integer("chunk_size", chunk_size)
    y = np.zeros_like(inputs.u)  # (T, d_out)
    for start in range(0, len(y), chunk_size):
        tokens = slice(start, start + chunk_size)
        q_c, phi_c, u_c, eta_c, alpha_c = inputs.rows(tokens)
        decay, fade = decays(alpha_c), decays(mu[tokens])
        gamma, ratio = _erased_decays(decay, erase)
        gram = eta_c * (phi_c @ phi_c.T)  # η_s (φ_tᵀ φ_s), (C, C)
        reach, ratio_u = decay.ratio @ fade.gamma, decay.ratio @ fade.ratio  # b_t, (C,); c_{t,s}, (C, C)
        target = gamma[:, None] * (phi_c @ state.T) + (ratio @ fade.gamma)[:, None] * (phi_c @ momentum.T)
        target = target + ((ratio @ fade.ratio) * gram) @ u_c  # (C, d_out)
        if erase != "none":
            target = target + phi_c @ shift.T
        p = np.linalg.solve(np.eye(len(phi_c)) + ratio * gram, target)  # (C, d_out)
        scores = eta_c * (q_c @ phi_c.T)  # η_s (φ_sᵀ q_t), (C, C)
        y[tokens] = decay.gamma[:, None] * (q_c @ state.T) + reach[:, None] * (q_c @ momentum.T)
        y[tokens] += (ratio_u * scores) @ u_c - (decay.ratio * scores) @ p
        moved = eta_c[:, None] * (ratio_u[-1, :, None] * u_c - decay.ratio[-1, :, None] * p)  # (C, d_out)
        state = decay.gamma[-1] * state + reach[-1] * momentum + moved.T @ phi_c
        momentum = fade.gamma[-1] * momentum + ((eta_c * fade.ratio[-1])[:, None] * u_c).T @ phi_c
    return y, state, momentum


# --- gradients frozen at the boundary -----------------------------------------------------------------------------


def frozen_gradients(
    q: Any,
    k: Any,
    v: Any,
    eta: Any,
    alpha: Any = 1.0,
    memory: Any = None,
    chunk_size: int = 1,
    objective: str = "l2",
    rule: str = "gradient_descent",
) -> tuple[Array, Array]:
    """Measure the gradient at the boundary, move every token: M_t = α_t M_{t-1} - η_t ∇L(M_{b(t)}; k_t, v_t), y_t = M_t q_t.

    [P 90] for a matrix memory, with given keys, values, η and α; b is `boundary`. The gradient of "dot", -v kᵀ, does
    not depend on the memory: every chunk size gives the same numbers. Those of "l2" do, so C is part of the model; at
    C = 1 and α = 1 it is `delta_rule`. ``rule="delta_gradient_descent"`` also erases, M_{t-1} (α_t I - η_t k_t k_tᵀ), with
    the memory as it moves [P 92-93].

    Args:
        q, k, v: as `delta_rule`: (T, d_k), (T, d_k), (T, d_v).
        eta: inner learning rate >= 0, a number or (T,).
        alpha: retention in [0, 1], a number or (T,).
        memory: M_0, (d_v, d_k), at a boundary; None starts empty.
        chunk_size: C, an integer >= 1.
        objective: "dot", "l2" (½‖M k - v‖²) or "l2_without_half".
        rule: "gradient_descent" or "delta_gradient_descent".
    Returns:
        outputs y, (T, d_v), and the final memory, (d_v, d_k).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    q, k, v, memory = sequence(q, k, v, memory)
    eta, alpha = per_token("eta", eta, len(k), low=0), per_token("alpha", alpha, len(k), low=0, high=1)
    chunk_size = positive_integer("chunk_size", chunk_size)
    one_of("objective", objective, OBJECTIVES)
    one_of("rule", rule, RULES)
    y, frozen = np.zeros_like(v), memory
    for t in range(len(k)):
        if t == boundary(t, chunk_size):
            frozen = memory  # M_{b(t)}
        u = wanted_output(frozen @ k[t], v[t], objective)  # (d_v,): -∇L = u kᵀ
        erased = memory @ k[t] if rule == "delta_gradient_descent" else 0.0
        memory = alpha[t] * memory + eta[t] * np.outer(u - erased, k[t])  # (d_v, d_k)
        y[t] = memory @ q[t]
    return y, memory
